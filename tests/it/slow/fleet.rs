//! A fleet at the size that its promise is made for: four gateways, a limit of a hundred thousand, more offered than that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::set_up_and_migrated;
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::{Fleet, StubUpstream, Tally, TestGateway, load, load_while, pass, until};

const LIMIT: usize = 100_000;

/// What is offered to each of the gateways: 120,000 in all, 95 % of it to the first.
const OFFERED: [usize; 4] = [114_000, 2_000, 2_000, 2_000];

/// How long gateways are killed. `FLEET_STORM_SECONDS` says otherwise.
const STORM_SECONDS: u64 = 20;
const KILLED_EVERY: Duration = Duration::from_secs(2);

#[test]
fn a_hundred_thousand_are_granted_to_the_unit_by_redis() {
    let redis = RedisServer::start();
    let gateways_on = format!("redis://127.0.0.1:{}", redis.port());
    check_limit(&Fleet::on(&gateways_on), || {});
}

#[test]
fn a_hundred_thousand_are_granted_to_the_unit_by_a_cluster_whose_slots_move() {
    let cluster = RedisCluster::start();
    let nodes: Vec<String> =
        cluster.masters().iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let mut book = 0;
    check_limit(&Fleet::on(&format!("redis-cluster://{}", nodes.join(","))), || {
        let key = format!("tg:{{{book}}}:book");
        let (from, to) = cluster.master_of(&key);
        let slot = cluster.begin_move(&key, from, to);
        cluster.move_keys(&slot, from, to);
        cluster.end_move(&slot, from, to);
        book = (book + 1) % 64;
    });
}

#[test]
fn a_hundred_thousand_are_granted_to_the_unit_by_postgres_alone() {
    let (_postgres, store) = set_up_and_migrated();
    check_limit(&Fleet::on("store").storing_in(&store), || {});
}

/// Offers more than the limit, while `meanwhile` happens over and over.
#[track_caller]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
fn check_limit(fleet: &Fleet, mut meanwhile: impl FnMut()) {
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(OFFERED.len(), &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT as u64);
    let began = Instant::now();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let crowds = gateways.iter().zip(OFFERED);
        let threads: Vec<_> = crowds
            .map(|(gateway, requests)| {
                let request = customer.request();
                scope.spawn(move || load(gateway.proxy(), 12, requests, |_| request.clone()))
            })
            .collect();
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            meanwhile();
            pass(Duration::from_millis(10));
        }
        threads.into_iter().map(|thread| thread.join().expect("a crowd")).collect()
    });
    let of = |status| tallies.iter().map(|tally| tally.of(status)).sum::<usize>();
    let metric = |name: &str| gateways.iter().map(|gateway| gateway.metric(name, "")).sum::<f64>();
    let (offered, asked) = (OFFERED.iter().sum::<usize>(), metric("tollgate_authority_renewals_total"));
    println!(
        "{offered} offered in {:?}: upstream saw {}, {} denied, {} short for a while; {asked} questions",
        began.elapsed(),
        upstream.count(),
        of(429),
        of(503)
    );
    assert_eq!((of(200), upstream.count()), (LIMIT, LIMIT), "{tallies:?}");
    assert_eq!(of(429) + of(503), offered - LIMIT, "{tallies:?}");
    assert!(asked < offered as f64 / 100.0, "{asked} questions to the authority");
    for gateway in &gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}

/// As long as the storm lasts there is something left; afterwards exactly the rest passes.
#[test]
fn a_gateway_killed_every_two_seconds_adds_no_unit_and_loses_none() {
    let seconds =
        std::env::var("FLEET_STORM_SECONDS").map_or(STORM_SECONDS, |text| text.parse().expect("a number"));
    let redis = RedisServer::start();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", redis.port()));
    let mut gateways = fleet.gateways(4, &upstream);
    // At most 16 connections that each ask a hundred times a second.
    let limit = seconds * 2_000;
    let customer = gateways[0].customer_with_limit("Acme", limit);
    let (denied, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = |status| {
        assert!([200, 429, 503].contains(&status), "{status}");
        denied.fetch_add(u64::from(status == 429), Ordering::Relaxed);
        if !is_over.load(Ordering::Relaxed) {
            pass(Duration::from_millis(10));
        }
    };
    let mut kills = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let mut random = [0];
        getrandom::fill(&mut random).expect("random bytes");
        let victim = usize::from(random[0]) % gateways.len();
        let addresses: Vec<_> = gateways.iter().map(TestGateway::proxy).collect();
        load_while(&addresses, 4, &customer.request(), count, || {
            pass(KILLED_EVERY);
            gateways[victim].kill9();
        });
        gateways[victim].restart();
        kills += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    assert!((upstream.count() as u64) < limit, "the storm outlasts the limit");
    let addresses: Vec<_> = gateways.iter().map(TestGateway::proxy).collect();
    load_while(&addresses, 4, &customer.request(), count, || {
        let deadline = Instant::now() + Duration::from_secs(30 + limit / 500);
        while (upstream.count() as u64) < limit - kills && Instant::now() < deadline {
            pass(Duration::from_millis(50));
        }
        let before = denied.load(Ordering::Relaxed);
        until("denials", || (denied.load(Ordering::Relaxed) > before + 200).then_some(()));
    });
    let seen = upstream.count() as u64;
    println!("{kills} kills in {seconds} s; limit {limit}, the upstream saw {seen}");
    assert!(seen <= limit && limit - seen <= kills, "the upstream saw {seen} of {limit}");
    for gateway in &gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}
