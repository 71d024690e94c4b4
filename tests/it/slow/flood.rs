//! Keys that nobody has, as fast as a client can send them.

use std::time::{Duration, Instant};

use crate::support::{StubUpstream, TestGateway};

/// How long.
const FLOOD: Duration = Duration::from_secs(5);

/// Requests that are sent before their answers are read.
const BATCH: usize = 200;

/// What a gateway may grow by: caches of a fixed size that fill up.
const GROWTH_MAX: u64 = 24 << 20;

#[test]
fn a_flood_of_junk_keys_costs_neither_look_ups_nor_memory_and_healthy_tenants_are_served() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer("Acme", "enterprise");
    let mut client = gateway.client();
    assert_eq!(client.get("/", &customer.key).status, 200);
    let looked_up = || gateway.metric("tollgate_directory_lookups_total", "");
    let (lookups, resident) = (looked_up(), gateway.resident_bytes());
    let junk = (0..BATCH).map(junk).collect::<String>().into_bytes();
    let (refused, served) = std::thread::scope(|scope| {
        let flooding = [(); 2].map(|()| scope.spawn(|| flood(&gateway, &junk)));
        let until = Instant::now() + FLOOD;
        let mut served = 0;
        while Instant::now() < until {
            assert_eq!(client.get("/", &customer.key).status, 200);
            served += 1;
        }
        (flooding.map(|flood| flood.join().expect("it does not panic")).into_iter().sum::<usize>(), served)
    });
    println!("{refused} junk keys in {FLOOD:?}, and {served} good ones");
    assert!(refused > 1000 && served > 100, "{refused}, {served}");
    assert_eq!(looked_up(), lookups, "no key with a wrong checksum is looked up");
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
}

/// A request with a key of the right form and a wrong checksum.
fn junk(number: usize) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: tg_live_{number:010}_{number:032}000000\r\n\r\n")
}

/// Sends the batch over and over, and counts what was refused.
fn flood(gateway: &TestGateway, batch: &[u8]) -> usize {
    let until = Instant::now() + FLOOD;
    let mut refused = 0;
    let mut client = gateway.client();
    while Instant::now() < until {
        client.send(batch);
        for _ in 0..BATCH {
            assert_eq!(client.response().status, 401);
            refused += 1;
        }
    }
    refused
}
