//! The second door: whose request it is, and what that key may do.

use std::time::{Duration, Instant};

use super::{alike, another_key, customer_of, gateway, route, used};
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

#[test]
fn a_key_of_another_system_goes_on_working_where_that_is_set_up() {
    let imported = "[identity.api_key]\nheaders = [\"x-api-key\", \"x-old-key\"]\nimported = true\n";
    let (upstream, gateway, customer) = customer_of(&format!("{imported}{}", route("all", "/", "")));
    let old = "sk_old_0123456789";
    // SHA-256 of `old`.
    let sha256 = "6f810bd153a0c8cd709c8bb2301a3f7db79859b8d444eecc7cb39a713715a653";
    let made = gateway.json(&["key", "create", &customer.tenant_id, "--name", "old", "--sha256", sha256]);
    for line in [format!("x-old-key: {old}"), format!("authorization: Bearer {old}")] {
        assert_eq!(send(&gateway, std::slice::from_ref(&line)).status, 200, "{line}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-tenant-key-id"), made["key_id"].as_str());
        assert!(!String::from_utf8_lossy(&seen.raw).contains(old), "{:?}", seen.headers);
    }
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    for unknown in ["sk_old_0123456788", sha256, "short", "tg_live_0123456789"] {
        assert_eq!(with_key(&gateway, unknown).status, 401, "{unknown}");
    }
}

#[test]
fn a_rotated_and_a_disabled_key_end_when_they_should() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let new = gateway.json(&["key", "rotate", &customer.key_id]);
    let new_key = new["key"].as_str().expect("a key");
    for key in [new_key, &customer.key] {
        assert_eq!(with_key(&gateway, key).status, 200);
    }
    let last = gateway.json(&["key", "rotate", &customer.key_id, "--grace-seconds", "0"]);
    until("the old key has ended", || (with_key(&gateway, &customer.key).status == 401).then_some(()));
    assert_eq!(with_key(&gateway, new_key).status, 200);
    let last_id = last["key_id"].as_str().expect("an id");
    for (command, status) in [("disable", 401), ("enable", 200)] {
        gateway.json(&["key", command, last_id]);
        let last_key = last["key"].as_str().expect("a key");
        until(command, || (with_key(&gateway, last_key).status == status).then_some(()));
    }
}

#[test]
fn a_key_that_was_used_says_when() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    let last_used = || {
        let listed = gateway.json(&["key", "list", &customer.tenant_id]);
        listed["items"][0]["last_used_at"].as_str().map(str::to_owned)
    };
    assert_eq!(last_used(), None);
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    until("the use is written down", last_used);
}

#[test]
fn whoever_tries_many_keys_waits_and_known_keys_from_there_do_not() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    let mut client = gateway.client();
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let text = tollgate::secret::hash::KeyText::generate(tollgate::secret::hash::KeyKind::Live);
        let text = text.expect("random numbers");
        statuses.push(client.get("/", text.as_str()).status);
    }
    assert!(statuses[..100].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert_eq!(with_key(&gateway, &customer.key).status, 200);
    assert_eq!(upstream.count(), 2);
    assert!(gateway.metric("tollgate_refusals_total", "\"identity_throttled\"") > 0.0);
}
