//! The second door: whose request it is, and what that key may do.

use std::time::{Duration, Instant};

use super::{another_key, customer_of, gateway, route, used};
use crate::support::{Customer, Response, StubUpstream, TestGateway, until};

/// Promised: a revoked key or a suspended tenant is refused within this time.
const OBEYED_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn a_key_is_known_by_its_header_or_as_a_bearer_token_and_never_reaches_the_upstream() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let key = &customer.key;
    for lines in [
        vec![format!("x-api-key: {key}")],
        vec![format!("X-API-Key:{key}  ")],
        vec![format!("authorization: Bearer {key}")],
        vec![format!("Authorization: bearer   {key}")],
        vec![format!("x-api-key: {key}"), format!("authorization: Bearer {key}")],
        vec![format!("x-api-key: {key}"), format!("x-api-key: {key}")],
    ] {
        assert_eq!(send(&gateway, &lines).status, 200, "{lines:?}");
        let seen = upstream.last();
        assert!(!String::from_utf8_lossy(&seen.raw).contains("tg_"), "{lines:?}: {:?}", seen.headers);
        assert_eq!(seen.header("x-tenant-id"), Some(&*customer.tenant_id));
        assert_eq!(seen.header("x-tenant-key-id"), Some(&*customer.key_id));
        assert_eq!(seen.header("x-tenant-tier"), Some("free"));
    }
    // Another authorization is the upstream's business.
    let basic = "authorization: Basic dTpw".to_owned();
    assert_eq!(send(&gateway, &[format!("x-api-key: {key}"), basic]).status, 200);
    assert_eq!(upstream.last().header("authorization"), Some("Basic dTpw"));
}

#[test]
fn two_different_keys_are_refused_even_if_both_are_good() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let other = gateway.customer("Other", "free");
    for lines in [
        [format!("x-api-key: {}", customer.key), format!("x-api-key: {}", other.key)],
        [format!("x-api-key: {}", customer.key), format!("authorization: Bearer {}", other.key)],
        [format!("x-api-key: {}", customer.key), "x-api-key: ".to_owned()],
    ] {
        assert_eq!(send(&gateway, &lines).status, 401, "{lines:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn whoever_is_not_recognized_learns_nothing_about_why() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let revoked = another_key(&gateway, &customer, &[]);
    gateway.json(&["key", "revoke", &revoked.key_id]);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let expired = another_key(&gateway, &customer, &["--expires", &soon.to_string()]);
    let (expired, revoked) = (&*expired.key, &*revoked.key);
    until("the key has expired", || (with_key(&gateway, expired).status == 401).then_some(()));
    until("the key is revoked", || (with_key(&gateway, revoked).status == 401).then_some(()));
    let served = upstream.count();

    // The right form with the right checksum, and nobody's: a key of another gateway.
    let foreign = TestGateway::start(&upstream).customer("Foreign", "free");
    let wrong_checksum = format!("{}{}", &customer.key[..customer.key.len() - 1], '_');
    let anonymous = alike(&send(&gateway, &[]));
    assert!(anonymous.contains("www-authenticate: Bearer realm=\"api\"\r\n"), "{anonymous}");
    for presented in ["", "x", "tg_live_", &wrong_checksum, &foreign.key, expired, revoked] {
        let refused = with_key(&gateway, presented);
        assert_eq!(refused.status, 401, "{presented}");
        assert_eq!(alike(&refused), anonymous, "{presented}");
    }
    for authorization in ["Bearer", "Bearer ", "Bearer x", "Basic dTpw", "Bearer tg_live_x"] {
        let refused = send(&gateway, &[format!("authorization: {authorization}")]);
        assert_eq!(alike(&refused), anonymous, "{authorization}");
    }
    assert_eq!(upstream.count(), served);
    for reason in ["missing", "malformed", "unknown", "unusable"] {
        let counted = gateway.metric("tollgate_refusals_total", &format!("\"identity_{reason}\""));
        assert!(
            counted > 0.0,
            "the operator is told of identity_{reason}:\n{}",
            gateway.admin_text("/metrics")
        );
    }
}

#[test]
fn a_key_is_good_for_its_routes_scopes_and_networks_only() {
    let scoped = "scopes = [\"orders:read\", \"orders:write\"]\ncharge = { api_calls = 1 }";
    let routes = [route("all", "/", "charge = { api_calls = 1 }"), route("orders", "/orders", scoped)];
    let (upstream, gateway, customer) = customer_of(&routes.concat());
    for (options, path, status) in [
        (&["--route", "orders"][..], "/", 403),
        (&["--route", "all"], "/", 200),
        (&["--route", "all", "--route", "orders"], "/", 200),
        (&[], "/orders", 403),
        (&["--scope", "orders:read"], "/orders", 403),
        (&["--scope", "orders:read", "--scope", "orders:write"], "/orders", 200),
        (&["--network", "10.0.0.0/8"], "/", 403),
        (&["--network", "10.0.0.0/8", "--network", "127.0.0.0/8"], "/", 200),
    ] {
        let customer = another_key(&gateway, &customer, options);
        let (seen, before) = (upstream.count(), used(&gateway, &customer, "api_calls"));
        let response = gateway.client().get(path, &customer.key);
        assert_eq!(response.status, status, "{options:?} {path}");
        let passed = u64::from(status == 200);
        assert_eq!(upstream.count() as u64 - seen as u64, passed, "{options:?}");
        assert_eq!(used(&gateway, &customer, "api_calls") - before, passed, "{options:?}");
        if status == 403 {
            assert_eq!(response.json()["type"], "/problems/forbidden");
        }
    }
    let scopes =
        upstream.recorded().iter().find_map(|request| request.header("x-tenant-scopes").map(str::to_owned));
    assert_eq!(scopes.as_deref(), Some("orders:read orders:write"));
}

#[test]
fn a_suspended_tenant_gets_403_within_a_second_and_no_unit_is_taken() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    gateway.json(&["tenant", "status", &customer.slug, "suspended", "--reason", "unpaid"]);
    let refused = obeyed(&gateway, &customer, 403);
    assert_eq!(refused.json()["type"], "/problems/tenant-suspended");
    let (seen, before) = (upstream.count(), used(&gateway, &customer, "api_calls"));
    assert_eq!(with_key(&gateway, &customer.key).status, 403);
    assert_eq!((upstream.count(), used(&gateway, &customer, "api_calls")), (seen, before));
    assert_eq!(seen as u64, before);

    gateway.json(&["tenant", "status", &customer.slug, "active"]);
    obeyed(&gateway, &customer, 200);
}

#[test]
fn a_revoked_key_is_refused_within_a_second_and_the_tenants_other_key_is_not() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let other = another_key(&gateway, &customer, &[]);
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    gateway.json(&["key", "revoke", &customer.key_id]);
    obeyed(&gateway, &customer, 401);
    assert_eq!(with_key(&gateway, &other.key).status, 200);
}

#[test]
fn a_key_that_was_refused_as_unknown_works_once_it_is_made() {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, &route("all", "/", ""));
    assert_eq!(with_key(&gateway, "tg_live_x").status, 401);
    let customer = gateway.customer("Acme", "free");
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
}

// === instruments ===

#[track_caller]
fn with_key(gateway: &TestGateway, key: &str) -> Response {
    gateway.client().get("/", key)
}

#[track_caller]
fn send(gateway: &TestGateway, lines: &[String]) -> Response {
    let head = ["GET / HTTP/1.1", "host: a"].into_iter().chain(lines.iter().map(String::as_str));
    gateway.client().request(&head.collect::<Vec<_>>(), b"")
}

/// The first answer with that status, which must come in time.
#[track_caller]
fn obeyed(gateway: &TestGateway, customer: &Customer, status: u16) -> Response {
    let since = Instant::now();
    let answer = until("the change is obeyed", || {
        Some(with_key(gateway, &customer.key)).filter(|response| response.status == status)
    });
    assert!(since.elapsed() < OBEYED_WITHIN, "{:?}", since.elapsed());
    answer
}

/// An answer without what differs between any two answers: its time and its request's id.
fn alike(response: &Response) -> String {
    let raw = String::from_utf8_lossy(&response.message.raw).into_owned();
    let raw = raw.replace(response.header("x-request-id").expect("an id"), "ID");
    raw.replace(response.header("date").expect("a date"), "DATE")
}
