//! Gateways that share an authority: one limit between them, to the unit, whatever happens to them or to it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::redis::RedisServer;
use crate::support::{Customer, Fleet, RawClient, StubUpstream, Tally, TestGateway, load, until};

/// What clients were told, whichever gateway they asked.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    denied: AtomicU64,
    /// For a while: 503.
    short: AtomicU64,
}

fn url(redis: &RedisServer) -> String {
    format!("redis://127.0.0.1:{}", redis.port())
}

/// So many requests over fifty connections.
fn crowd(gateway: &TestGateway, customer: &Customer, requests: usize) -> Tally {
    let request = request(customer);
    load(gateway.proxy(), 50, requests, |_| request.clone())
}

fn request(customer: &Customer) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", customer.key).into_bytes()
}

/// Keeps requests coming to all gateways while `meanwhile` runs; clients whose gateway dies find it again.
fn under_load(
    addresses: &[std::net::SocketAddr],
    customer: &Customer,
    told: &Told,
    meanwhile: impl FnOnce(),
) {
    let stop = AtomicBool::new(false);
    let request = request(customer);
    std::thread::scope(|scope| {
        for address in addresses.iter().flat_map(|address| [address; 4]) {
            scope.spawn(|| {
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let Some(mut connection) =
                        client.take().or_else(|| RawClient::try_connect(*address).ok())
                    else {
                        std::thread::yield_now();
                        continue;
                    };
                    let answered =
                        connection.try_send(&request).and_then(|()| connection.try_response("GET"));
                    let Ok(response) = answered else { continue };
                    let counter = match response.status {
                        200 => &told.passed,
                        429 => &told.denied,
                        503 => &told.short,
                        other => panic!("status {other}"),
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    client = Some(connection);
                }
            });
        }
        meanwhile();
        stop.store(true, Ordering::Relaxed);
    });
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
