//! Gateways that share an authority: one limit between them, to the unit, whatever happens to them or to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::set_up_and_migrated;
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::{
    Customer, Fleet, Relay, StubUpstream, Tally, TestGateway, load, load_while, pass, until,
};

/// To each gateway, where requests keep coming.
const CONNECTIONS: usize = 4;

/// What clients were told, whichever gateway they asked.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    denied: AtomicU64,
    /// For a while: 503.
    short: AtomicU64,
}

impl Told {
    fn count(&self, status: u16) {
        let counter = match status {
            200 => &self.passed,
            429 => &self.denied,
            503 => &self.short,
            other => panic!("status {other}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn url(redis: &RedisServer) -> String {
    format!("redis://127.0.0.1:{}", redis.port())
}

/// So many requests over fifty connections.
fn crowd(gateway: &TestGateway, customer: &Customer, requests: usize) -> Tally {
    let request = customer.request();
    load(gateway.proxy(), 50, requests, |_| request.clone())
}

/// Keeps requests coming to all gateways while `meanwhile` runs; clients whose gateway dies find it again.
fn under_load(
    addresses: &[std::net::SocketAddr],
    customer: &Customer,
    told: &Told,
    meanwhile: impl FnOnce(),
) {
    load_while(addresses, CONNECTIONS, &customer.request(), |status| told.count(status), meanwhile);
}

#[test]
fn a_small_limit_is_exact_for_three_gateways_at_once() {
    let redis = RedisServer::start();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on(&url(&redis));
    let gateways = fleet.gateways(3, &upstream);
    for round in 0..5 {
        let customer = gateways[0].customer_with_limit(&format!("Acme {round}"), 5);
        let before = upstream.count();
        let tallies: Vec<Tally> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                gateways.iter().map(|gateway| scope.spawn(|| crowd(gateway, &customer, 10))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let of = |status| tallies.iter().map(|tally| tally.of(status)).sum::<usize>();
        assert_eq!((of(200), of(429)), (5, 25), "round {round}: {tallies:?}");
        assert_eq!(upstream.count() - before, 5);
    }
}

#[test]
fn uneven_traffic_gets_the_limit_to_the_unit_and_hardly_asks() {
    const LIMIT: usize = 20_000;
    let redis = RedisServer::start();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on(&url(&redis));
    let gateways = fleet.gateways(4, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT as u64);
    let shares = [LIMIT, LIMIT / 40, LIMIT / 40, LIMIT / 40];
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let customer = &customer;
        let crowds = gateways.iter().zip(shares);
        let threads: Vec<_> = crowds
            .map(|(gateway, requests)| scope.spawn(move || crowd(gateway, customer, requests)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let of = |status| tallies.iter().map(|tally| tally.of(status)).sum::<usize>();
    assert_eq!((of(200), upstream.count()), (LIMIT, LIMIT), "{tallies:?}");
    assert_eq!(of(429), shares.iter().sum::<usize>() - LIMIT, "{tallies:?}");
    let asked: f64 =
        gateways.iter().map(|gateway| gateway.metric("tollgate_authority_renewals_total", "")).sum();
    println!("{asked} questions for {} requests", shares.iter().sum::<usize>());
    assert!(asked < LIMIT as f64 / 100.0, "{asked} questions to the authority");
}

#[test]
fn a_key_its_tenant_and_the_reseller_above_are_exact_at_every_level() {
    let redis = RedisServer::start();
    let fleet = Fleet::on(&url(&redis));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(2, &upstream);
    let reseller = gateways[0].customer("Reseller", "msp");
    let limit = |tenant: &str, units: &str, more: &[&str]| {
        gateways[0].json(&[&["quota", "set", tenant, "api_calls", "--limit", units], more].concat());
    };
    limit(&reseller.tenant_id, "300", &[]);
    let child = |name: &str| {
        let parent = ["tenant", "create", name, "--tier", "free", "--parent", &reseller.slug];
        let tenant = gateways[0].json(&parent)["tenant_id"].as_str().expect("an id").to_owned();
        limit(&tenant, "200", &[]);
        tenant
    };
    let (one, other) = (child("One"), child("Other"));
    let key = |tenant: &str| {
        let key = gateways[0].json(&["key", "create", tenant, "--name", "test"]);
        let text = |name: &str| key[name].as_str().expect("text").to_owned();
        Customer {
            tenant_id: tenant.to_owned(),
            slug: String::new(),
            key_id: text("key_id"),
            key: text("key"),
        }
    };
    let (small, large, sibling) = (key(&one), key(&one), key(&other));
    limit(&one, "50", &["--key", &small.key_id]);
    let spend = |customer: &Customer| {
        let passed: Vec<usize> = std::thread::scope(|scope| {
            let crowds = gateways.iter().map(|gateway| scope.spawn(|| crowd(gateway, customer, 150).of(200)));
            crowds.collect::<Vec<_>>().into_iter().map(|crowd| crowd.join().expect("a crowd")).collect()
        });
        passed.iter().sum::<usize>()
    };
    assert_eq!(spend(&small), 50, "the key's own limit");
    assert_eq!(spend(&large), 150, "what its tenant has left");
    assert_eq!(spend(&sibling), 100, "what the reseller has left");
    assert_eq!(spend(&reseller), 0, "the reseller itself");
    assert_eq!(upstream.count(), 300);
    let denied = gateways[0].client().get("/", &sibling.key);
    let problem = denied.json();
    assert_eq!(problem["violated-policies"][0], "pool-api_calls-month", "{problem}");
    assert_eq!(problem["limit"], serde_json::Value::Null, "what others have is not told: {problem}");
    assert!(!denied.text().contains("300"), "{}", denied.text());
    // A tenant whose reseller is suspended is not served either.
    gateways[0].json(&["tenant", "status", &reseller.slug, "suspended", "--reason", "unpaid"]);
    for gateway in &gateways {
        until("the suspension", || (gateway.client().get("/", &sibling.key).status == 403).then_some(()));
    }
}

#[test]
fn killed_gateways_and_an_emptied_authority_cost_no_unit_and_add_none() {
    const LIMIT: u64 = 8_000;
    let redis = RedisServer::start();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on(&url(&redis));
    let mut gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    let told = Told::default();
    let passed = || told.passed.load(Ordering::Relaxed);
    for round in 0..6 {
        let enough = passed() + LIMIT / 10;
        let addresses: Vec<_> = gateways.iter().map(TestGateway::proxy).collect();
        under_load(&addresses, &customer, &told, || {
            until("requests to pass", || (passed() >= enough).then_some(()));
            if round == 2 {
                redis.flush();
                until("requests to pass again", || (passed() >= enough + LIMIT / 20).then_some(()));
            } else {
                gateways[round % 3].kill9();
            }
        });
        gateways[round % 3].restart();
    }
    let addresses: Vec<_> = gateways.iter().map(TestGateway::proxy).collect();
    under_load(&addresses, &customer, &told, || {
        until("the limit", || (upstream.count() as u64 >= LIMIT).then_some(()));
        let denied = told.denied.load(Ordering::Relaxed);
        until("denials", || (told.denied.load(Ordering::Relaxed) > denied + 100).then_some(()));
    });
    let seen = upstream.count() as u64;
    println!("limit {LIMIT}, seen {seen}, short {}", told.short.load(Ordering::Relaxed));
    assert!(seen <= LIMIT && LIMIT - seen <= 6, "the upstream saw {seen} of {LIMIT}");
    for gateway in &gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}

/// Spends the limit from all gateways, while `meanwhile` happens after a third of it; answers what came of it.
#[track_caller]
fn spend_all(
    gateways: &[TestGateway],
    upstream: &StubUpstream,
    customer: &Customer,
    limit: u64,
    meanwhile: impl FnOnce(),
) -> Told {
    let told = Told::default();
    let addresses: Vec<_> = gateways.iter().map(TestGateway::proxy).collect();
    under_load(&addresses, customer, &told, || {
        until("a third", || (upstream.count() as u64 >= limit / 3).then_some(()));
        meanwhile();
        until("the limit", || (upstream.count() as u64 >= limit).then_some(()));
        let denied = told.denied.load(Ordering::Relaxed);
        until("denials", || (told.denied.load(Ordering::Relaxed) > denied + 100).then_some(()));
    });
    told
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
fn check_spent(gateways: &[TestGateway], upstream: &StubUpstream, told: &Told, limit: u64) {
    let (seen, passed) = (upstream.count() as u64, told.passed.load(Ordering::Relaxed));
    println!(
        "limit {limit}: seen {seen}, passed {passed}, for a while short {}",
        told.short.load(Ordering::Relaxed)
    );
    assert_eq!((seen, passed), (limit, limit));
    for gateway in gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}

#[test]
fn a_cluster_whose_slots_move_under_load_grants_to_the_unit() {
    const LIMIT: u64 = 6_000;
    let cluster = RedisCluster::start();
    let nodes: Vec<String> =
        cluster.masters().iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let fleet = Fleet::on(&format!("redis-cluster://{}", nodes.join(",")));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    let told = spend_all(&gateways, &upstream, &customer, LIMIT, || {
        for book in 0..64 {
            let key = format!("tg:{{{book}}}:book");
            let (from, to) = cluster.master_of(&key);
            let slot = cluster.begin_move(&key, from, to);
            cluster.move_keys(&slot, from, to);
            cluster.end_move(&slot, from, to);
        }
    });
    check_spent(&gateways, &upstream, &told, LIMIT);
    // The first ones, and none for a book that moved.
    for gateway in &gateways {
        assert_eq!(gateway.metric("tollgate_authority_lives_total", ""), 64.0);
    }
}

#[test]
fn a_replica_that_missed_writes_takes_over_and_no_unit_is_granted_twice() {
    const LIMIT: u64 = 6_000;
    let mut master = RedisServer::start();
    let replica = RedisServer::start_replica_of(&master);
    let relay = Relay::to(master.port());
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", relay.port()));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    let told = spend_all(&gateways, &upstream, &customer, LIMIT, || {
        replica.cli(&["REPLICAOF", "NO", "ONE"]);
        let missed = upstream.count() as u64 + LIMIT / 5;
        until("writes that the replica misses", || (upstream.count() as u64 >= missed).then_some(()));
        master.kill();
        relay.lead_to(replica.port());
    });
    check_spent(&gateways, &upstream, &told, LIMIT);
}

#[test]
fn a_restarted_and_a_paused_authority_cost_time_and_no_unit() {
    const LIMIT: u64 = 6_000;
    let mut redis = RedisServer::start();
    let fleet = Fleet::on(&url(&redis));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    let told = spend_all(&gateways, &upstream, &customer, LIMIT, || {
        redis.pause();
        pass(Duration::from_secs(1));
        redis.resume();
        redis.restart();
    });
    check_spent(&gateways, &upstream, &told, LIMIT);
}

#[test]
fn a_slow_authority_does_not_slow_down_what_the_till_can_pay() {
    const REQUESTS: usize = 4_000;
    let redis = RedisServer::start();
    let relay = Relay::to(redis.port());
    let fleet = Fleet::with(&format!("redis://127.0.0.1:{}", relay.port()), "timeout = \"5s\"");
    let upstream = StubUpstream::start();
    let gateway = fleet.gateway(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10_000_000);
    // The first ones teach the till its pace.
    assert_eq!(crowd(&gateway, &customer, 2 * REQUESTS).of(200), 2 * REQUESTS);
    let fast = latencies(&gateway, &customer, REQUESTS);
    relay.delay(Duration::from_millis(200));
    assert_eq!(crowd(&gateway, &customer, REQUESTS).of(200), REQUESTS);
    let waits = gateway.metric("tollgate_authority_waits_total", "");
    let slow = latencies(&gateway, &customer, REQUESTS);
    let waited = gateway.metric("tollgate_authority_waits_total", "") - waits;
    println!("p50 and p99 without delay {fast:?}, with 200 ms {slow:?}; {waited} requests waited");
    // A busy machine may make a renewal late.
    assert!(waited < REQUESTS as f64 / 100.0, "{waited} requests waited");
    assert!(slow.1 < Duration::from_millis(50), "{slow:?}");
}

/// The median and the 99th percentile of requests one after the other.
fn latencies(gateway: &TestGateway, customer: &Customer, requests: usize) -> (Duration, Duration) {
    let request = customer.request();
    let mut client = gateway.client();
    let mut took: Vec<Duration> = (0..requests)
        .map(|_| {
            let began = Instant::now();
            client.try_send(&request).expect("a connection");
            assert_eq!(client.try_response("GET").expect("an answer").status, 200);
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    (took[requests / 2], took[requests * 99 / 100])
}

#[test]
fn each_quota_says_what_happens_when_the_authority_is_away() {
    for (policy, passed) in [("till", 0), ("open", 50), ("closed", 0), ("share", 250)] {
        let mut redis = RedisServer::start();
        // What the quota says goes before what the configuration says.
        let settings = "on_loss = \"till\"\nopen_percent = 5\nfleet_size = 4";
        let fleet = Fleet::with(&url(&redis), settings);
        let upstream = StubUpstream::start();
        let gateway = fleet.gateway(&upstream);
        let customer = gateway.customer("Acme", "free");
        let quota =
            ["quota", "set", &customer.tenant_id, "api_calls", "--limit", "1000", "--on-loss", policy];
        gateway.json(&quota);
        redis.kill();
        let tally = crowd(&gateway, &customer, 400);
        assert_eq!((tally.of(200), tally.of(503)), (passed, 400 - passed), "{policy}: {tally:?}");
        assert_eq!(gateway.metric("tollgate_over_admitted_units_total", ""), passed as f64, "{policy}");
        redis.restart();
        until("the authority to be back", || {
            (gateway.metric("tollgate_authority_learning", "") == 0.0
                && gateway.client().get("/", &customer.key).status == 200)
                .then_some(())
        });
        let rest = crowd(&gateway, &customer, 1_500).of(200);
        assert_eq!(upstream.count(), 1_000, "{policy}: what was admitted without a grant is a debt; {rest}");
    }
}

#[test]
fn what_the_till_holds_is_spent_while_the_authority_is_away() {
    let mut redis = RedisServer::start();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on(&url(&redis));
    let gateway = fleet.gateway(&upstream);
    let customer = gateway.customer_with_limit("Acme", 100_000);
    assert_eq!(crowd(&gateway, &customer, 100).of(200), 100);
    redis.kill();
    let tally = crowd(&gateway, &customer, 2_000);
    assert!(tally.of(200) >= 100, "{tally:?}");
    assert_eq!(tally.of(200) + tally.of(503), 2_000, "never 429: {tally:?}");
    redis.restart();
    until("the authority to be back", || (crowd(&gateway, &customer, 10).of(200) == 10).then_some(()));
}

#[test]
fn a_fleet_on_postgres_alone_is_exact() {
    const LIMIT: u64 = 5_000;
    let (_postgres, store) = set_up_and_migrated();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on("store").storing_in(&store);
    let mut gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    let told = Told::default();
    let proxies = |gateways: &[TestGateway]| {
        // Most of it comes to the first one.
        [0, 0, 0, 1, 2].map(|at: usize| gateways[at].proxy())
    };
    let addresses = proxies(&gateways);
    under_load(&addresses, &customer, &told, || {
        until("a third", || (upstream.count() as u64 >= LIMIT / 3).then_some(()));
        gateways[1].kill9();
        until("a half", || (upstream.count() as u64 >= LIMIT / 2).then_some(()));
    });
    gateways[1].restart();
    let addresses = proxies(&gateways);
    under_load(&addresses, &customer, &told, || {
        let denied = told.denied.load(Ordering::Relaxed);
        until("denials", || (told.denied.load(Ordering::Relaxed) > denied + 500).then_some(()));
    });
    let seen = upstream.count() as u64;
    println!("limit {LIMIT}, seen {seen}, short {}", told.short.load(Ordering::Relaxed));
    // One that was being sent when the gateway was killed may be counted without having arrived.
    assert!(seen <= LIMIT && LIMIT - seen <= 1, "the upstream saw {seen} of {LIMIT}");
    for gateway in &gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}

#[test]
fn a_fleet_that_moves_from_one_authority_to_another_keeps_what_was_used() {
    const LIMIT: usize = 4_000;
    let redis = RedisServer::start();
    let (_postgres, store) = set_up_and_migrated();
    let upstream = StubUpstream::start();
    let mut fleet = Fleet::on("embedded").storing_in(&store);
    let mut gateways = fleet.gateways(1, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT as u64);
    let spend = |gateways: &[TestGateway], requests: usize| {
        gateways.iter().map(|gateway| crowd(gateway, &customer, requests).of(200)).sum::<usize>()
    };
    assert_eq!(spend(&gateways, 500), 500);
    fleet.move_to(&url(&redis), &mut gateways, &upstream);
    gateways.extend(fleet.gateways(2, &upstream));
    assert_eq!(spend(&gateways, 300), 900);
    fleet.move_to("store", &mut gateways, &upstream);
    assert_eq!(spend(&gateways, 300), 900);
    // It would go on with what it knew before.
    redis.flush();
    fleet.move_to(&url(&redis), &mut gateways, &upstream);
    let rest = spend(&gateways, LIMIT);
    assert_eq!((rest, upstream.count()), (LIMIT - 500 - 900 - 900, LIMIT));
}
