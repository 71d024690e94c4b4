//! A request with a key is counted, forwarded with the tenant's headers, and refused at the limit.

use crate::support::{StubUpstream, TestGateway, load};

#[test]
fn a_request_with_a_key_reaches_the_upstream_as_its_tenants() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer("Acme", "pro");
    let response = gateway.client().get("/orders?page=2", &customer.key);
    assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    let seen = upstream.last();
    assert_eq!((seen.method(), seen.target()), ("GET", "/orders?page=2"));
    assert_eq!(seen.header("x-tenant-id"), Some(customer.tenant_id.as_str()));
    assert_eq!(seen.header("x-tenant-key-id"), Some(customer.key_id.as_str()));
}

#[test]
fn a_request_without_a_key_never_reaches_the_upstream() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let response = gateway.client().request(&["GET / HTTP/1.1", "host: api.test"], b"");
    assert_eq!(response.status, 401);
    assert!(response.header("www-authenticate").is_some(), "{:?}", response.message);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_hundred_connections_against_a_limit_get_exactly_the_limit() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 1_000);
    let request = format!("GET / HTTP/1.1\r\nhost: api.test\r\nx-api-key: {}\r\n\r\n", customer.key);
    let tally = load(gateway.proxy(), 100, 1_500, |_| request.clone().into_bytes());
    assert_eq!((tally.of(200), tally.of(429), tally.unanswered), (1_000, 500, 0), "{tally:?}");
    assert_eq!(upstream.count(), 1_000);
}

#[test]
fn what_was_used_survives_kill_9() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    for _ in 0..7 {
        assert_eq!(gateway.client().get("/", &customer.key).status, 200);
    }
    gateway.kill9();
    gateway.restart();
    let statuses: Vec<u16> = (0..5).map(|_| gateway.client().get("/", &customer.key).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(upstream.count(), 10);
}

#[test]
fn sigterm_ends_with_status_0() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let status = gateway.terminate();
    assert!(status.success(), "{status}\n{}", gateway.log());
}
