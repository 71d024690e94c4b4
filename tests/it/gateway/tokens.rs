//! The second door, for callers whom an issuer of tokens vouches for.

use serde_json::{Value, json};

use super::{alike, customer_of, route, used};
use crate::support::{Answer, Customer, Response, StubIssuer, StubUpstream, TestGateway, until};

const CHARGED: &str = "charge = { api_calls = 1 }";

#[test]
fn a_token_of_a_trusted_issuer_is_its_tenants_caller() {
    let issuer = StubIssuer::start();
    let (upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", CHARGED));
    for (number, tenant) in [&customer.tenant_id, &customer.slug].into_iter().enumerate() {
        let claims = json!({ "sub": "auth0|ä %", "scope": "orders:read orders:write" });
        let token = issuer.token(tenant, &claims);
        let before = used(&gateway, &customer, "api_calls");
        assert_eq!(with(&gateway, &token).status, 200, "{tenant}");
        // The second time it is remembered.
        assert_eq!(with(&gateway, &token).status, 200, "{tenant}");
        let seen = upstream.last();
        let lines = ["id", "tier", "subject", "scopes", "key-id"]
            .map(|line| seen.header(&format!("x-tenant-{line}")));
        let expected = [
            Some(&*customer.tenant_id),
            Some("free"),
            Some("auth0|%C3%A4 %25"),
            Some("orders:read orders:write"),
            None,
        ];
        assert_eq!(lines, expected);
        assert_eq!(seen.header("authorization"), None, "the token is kept from the upstream");
        assert_eq!(used(&gateway, &customer, "api_calls") - before, 2);
        let expected_rows = 2 * (number + 1);
        until("the usage is recorded without a key", || {
            let rows = gateway.usage_rows(&customer);
            let requests: u64 = rows.iter().filter_map(|row| row["requests"].as_u64()).sum();
            assert!(rows.iter().all(|row| row["key_id"].is_null()), "{rows:?}");
            (requests == expected_rows as u64).then_some(())
        });
    }
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn a_token_is_passed_on_and_says_the_tier_where_the_issuer_is_set_up_so() {
    let issuer = StubIssuer::start();
    let more = "forward = true\ntier_claim = \"/plan/name\"\ntenant_claim = \"/org/0\"\nsubject_claim = \"uid\"\n\
                scope_claim = \"scp\"";
    let (upstream, gateway, customer) = behind(&issuer, more, &route("all", "/", ""));
    let claims = json!({
        "tenant_id": null, "org": [customer.slug], "plan": { "name": "gold" }, "uid": "7", "scp": ["a", "b"],
    });
    let token = issuer.token("", &claims);
    for _ in 0..2 {
        assert_eq!(with(&gateway, &token).status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {token}")));
        assert_eq!(seen.headers_named("x-tenant-tier").collect::<Vec<_>>(), ["gold"]);
        let lines = ["subject", "scopes"].map(|line| seen.header(&format!("x-tenant-{line}")));
        assert_eq!(lines, [Some("7"), Some("a b")]);
    }
}

#[test]
fn whoever_brings_a_bad_token_learns_nothing_about_why() {
    let issuer = StubIssuer::start();
    let stranger = StubIssuer::start();
    let (upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", CHARGED));
    let of = |claims: Value| issuer.token(&customer.slug, &claims);
    let now = jiff::Timestamp::now().as_second();
    let good = of(json!({}));
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    let claims = issuer.claims(&customer.slug, &json!({}));
    let header = |change: Value| {
        let mut header = json!({ "alg": "EdDSA", "kid": "key-1" });
        header.as_object_mut().expect("members").extend(change.as_object().expect("members").clone());
        issuer.signed(&header, &claims)
    };
    let anonymous = alike(&send(&gateway, &[]));
    let bad = [
        ("identity_unknown", issuer.token("nobody", &json!({}))),
        ("token_expired", of(json!({ "exp": now - 61 }))),
        ("token_early", of(json!({ "nbf": now + 120 }))),
        ("token_audience", of(json!({ "aud": "billing" }))),
        ("token_issuer", of(json!({ "iss": "https://evil.example" }))),
        ("token_issuer", stranger.token(&customer.slug, &json!({}))),
        ("token_claim", of(json!({ "tenant_id": "No Slug" }))),
        ("token_claim", of(json!({ "exp": null }))),
        ("token_signature", stranger.token(&customer.slug, &json!({ "iss": issuer.url() }))),
        ("token_signature", format!("{signed}.{}", "A".repeat(86))),
        ("token_key", header(json!({ "kid": "nobody's" }))),
        ("token_critical", header(json!({ "crit": ["exp"] }))),
        ("token_type", header(json!({ "typ": "logout+jwt" }))),
        ("token_algorithm", header(json!({ "alg": "none" }))),
        ("token_key", header(json!({ "alg": "ES256" }))),
        ("token_malformed", format!("{good}=")),
        ("token_malformed", "a.b.c".to_owned()),
        ("token_malformed", "..".to_owned()),
        ("token_too_long", of(json!({ "x": "x".repeat(7000) }))),
        ("identity_missing", "opaque".to_owned()),
    ];
    for (reason, token) in bad {
        let before = refused_for(&gateway, reason);
        let refused = with(&gateway, &token);
        assert_eq!(alike(&refused), anonymous, "{reason} {token}");
        assert!(refused_for(&gateway, reason) > before, "{reason} {token}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(used(&gateway, &customer, "api_calls"), 0);
    assert_eq!(with(&gateway, &good).status, 200);
}

#[test]
fn two_identities_in_one_request_are_refused_even_if_both_are_the_same_tenants() {
    let issuer = StubIssuer::start();
    let (upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", ""));
    let [one, other] = ["a", "b"].map(|sub| issuer.token(&customer.slug, &json!({ "sub": sub })));
    for lines in [
        [format!("authorization: Bearer {one}"), format!("x-api-key: {}", customer.key)],
        [format!("authorization: Bearer {one}"), format!("authorization: Bearer {other}")],
        [format!("authorization: Bearer {one}"), format!("authorization: Bearer {}", customer.key)],
    ] {
        assert_eq!(send(&gateway, &lines).status, 401, "{lines:?}");
    }
    assert_eq!(refused_for(&gateway, "identity_ambiguous"), 3.0);
    assert_eq!(upstream.count(), 0);
    let twice = [format!("authorization: Bearer {one}"), format!("authorization: bearer  {one}")];
    assert_eq!(send(&gateway, &twice).status, 200);
}

#[test]
fn a_route_looks_for_the_identities_that_it_names_and_leaves_the_rest_to_the_upstream() {
    let issuer = StubIssuer::start();
    let routes = [
        route("keys", "/keys", "identity = [\"api_key\"]"),
        route("tokens", "/tokens", "identity = [\"jwt\"]"),
    ];
    let (upstream, gateway, customer) = behind(&issuer, "", &routes.concat());
    let token = format!("authorization: Bearer {}", issuer.token(&customer.slug, &json!({})));
    let key = format!("x-api-key: {}", customer.key);
    for (path, lines, status) in [
        ("/keys", vec![&key], 200),
        ("/keys", vec![&token], 401),
        ("/keys", vec![&key, &token], 200),
        ("/tokens", vec![&token], 200),
        ("/tokens", vec![&key], 401),
        ("/tokens", vec![&key, &token], 200),
    ] {
        assert_eq!(send_to(&gateway, path, &lines).status, status, "{path} {lines:?}");
        if status == 200 {
            let seen = upstream.last();
            let has_token = path == "/keys" && lines.len() == 2;
            assert_eq!(seen.header("authorization").is_some(), has_token, "{path}");
            assert!(!String::from_utf8_lossy(&seen.raw).contains("tg_"), "{path}: {:?}", seen.headers);
        }
    }
}

#[test]
fn a_tokens_scopes_and_its_tenants_status_are_checked_before_a_unit_is_taken() {
    let issuer = StubIssuer::start();
    let scoped = format!("scopes = [\"orders:read\", \"orders:write\"]\n{CHARGED}");
    let (upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", &scoped));
    let of = |scope: &str| issuer.token(&customer.slug, &json!({ "scope": scope }));
    for scope in ["", "orders:read", "orders:read orders", "orders:read,orders:write"] {
        assert_eq!(with(&gateway, &of(scope)).status, 403, "{scope}");
    }
    let good = of("orders:write other orders:read");
    assert_eq!(with(&gateway, &good).status, 200);
    gateway.json(&["tenant", "status", &customer.slug, "suspended", "--reason", "unpaid"]);
    let refused = until("the suspension is obeyed", || {
        Some(with(&gateway, &good)).filter(|response| response.status == 403)
    });
    assert_eq!(refused.json()["type"], "/problems/tenant-suspended");
    assert_eq!(upstream.count() as u64, used(&gateway, &customer, "api_calls"));
}

#[test]
fn a_grpc_call_is_refused_in_its_own_words() {
    let issuer = StubIssuer::start();
    let routes = [route("all", "/", CHARGED), route("scoped", "/scoped", "scopes = [\"x\"]")];
    let (_upstream, gateway, customer) = behind(&issuer, "", &routes.concat());
    gateway.json(&["quota", "set", &customer.tenant_id, "api_calls", "--limit", "0"]);
    let token = format!("authorization: Bearer {}", issuer.token(&customer.slug, &json!({})));
    for (path, lines, status) in [
        ("/", vec![], "16"),
        ("/", vec!["authorization: Bearer a.b.c"], "16"),
        ("/", vec![&*token], "8"),
        ("/scoped", vec![&*token], "7"),
    ] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let kind = format!("content-type: {kind}");
            let start = format!("POST {path} HTTP/1.1");
            let head = [&*start, "host: a", "te: trailers", "connection: te", &*kind, "content-length: 0"]
                .into_iter()
                .chain(lines.iter().copied());
            let refused = gateway.client().request(&head.collect::<Vec<_>>(), b"");
            assert_eq!(
                (refused.status, refused.header("grpc-status")),
                (200, Some(status)),
                "{path} {lines:?}"
            );
            assert_eq!(refused.header("content-type"), Some("application/grpc"));
            assert!(refused.header("grpc-message").is_some_and(|message| !message.is_empty()));
            assert!(refused.message.body.is_empty());
        }
    }
    assert!(gateway.metric("tollgate_refusals_total", "status=\"401\"") >= 4.0);
}

// === keys of issuers ===

#[test]
fn a_new_key_is_asked_for_once_and_a_withdrawn_one_ends_at_once() {
    let issuer = StubIssuer::start();
    let (_upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", ""));
    let old = issuer.token(&customer.slug, &json!({}));
    assert_eq!(with(&gateway, &old).status, 200);
    issuer.rotate();
    // Many at once: one question.
    let tokens: Vec<String> =
        (0..8).map(|user| issuer.token(&customer.slug, &json!({ "sub": format!("user-{user}") }))).collect();
    std::thread::scope(|scope| {
        let sent: Vec<_> = tokens.iter().map(|token| scope.spawn(|| with(&gateway, token).status)).collect();
        assert!(sent.into_iter().all(|sent| sent.join().expect("an answer") == 200));
    });
    assert_eq!(issuer.asked(), 2);
    // The old key is no longer published, and what it signed was remembered.
    assert_eq!(with(&gateway, &old).status, 401);
    // Keys that nobody has are not worth another question so soon.
    for number in 0..20 {
        let header = json!({ "alg": "EdDSA", "kid": format!("nobody's-{number}") });
        let token = issuer.signed(&header, &issuer.claims(&customer.slug, &json!({})));
        assert_eq!(with(&gateway, &token).status, 401);
    }
    assert_eq!(issuer.asked(), 2);
}

#[test]
fn while_an_issuer_is_down_its_last_keys_go_on_working() {
    let issuer = StubIssuer::start();
    let (_upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", ""));
    let of = |sub: &str| issuer.token(&customer.slug, &json!({ "sub": sub }));
    assert_eq!(with(&gateway, &of("before")).status, 200);
    let of_the_last_key = of("another");
    issuer.answer(Some(Answer::status(503, "")));
    issuer.rotate();
    // This one needs the new key, which can't be had.
    assert_eq!(with(&gateway, &of("rotated")).status, 401);
    until("the failure is counted", || (readings(&gateway, "failed") > 0.0).then_some(()));
    assert_eq!(with(&gateway, &of("rotated")).status, 401);
    assert_eq!(with(&gateway, &of_the_last_key).status, 200);
    issuer.answer(None);
    until("the new key is read", || (with(&gateway, &of("back")).status == 200).then_some(()));
}

#[test]
fn without_any_key_a_token_is_not_the_callers_fault_and_api_keys_work() {
    for answer in [
        Answer::status(404, ""),
        Answer::status(302, "").with("location", "http://127.0.0.1:1/"),
        Answer::ok("<html>"),
        Answer::ok("{\"keys\":[]}"),
        Answer::ok(vec![b' '; (1 << 20) + 1]),
        Answer::Close(Vec::new()),
    ] {
        let issuer = StubIssuer::start();
        issuer.answer(Some(answer.clone()));
        let (_upstream, gateway, customer) = behind(&issuer, "", &route("all", "/", ""));
        let refused = with(&gateway, &issuer.token(&customer.slug, &json!({})));
        assert_eq!(refused.status, 503, "{answer:?}");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused_for(&gateway, "short_of_issuer"), 1.0);
        assert_eq!(gateway.client().get("/", &customer.key).status, 200);
    }
}

#[test]
fn keys_come_from_a_url_or_a_file_and_a_changed_file_is_read() {
    let issuer = StubIssuer::start();
    let by_url = format!("jwks = \"{}/keys\"", issuer.url());
    let (_upstream, gateway, customer) = behind(&issuer, &by_url, &route("all", "/", ""));
    assert_eq!(with(&gateway, &issuer.token(&customer.slug, &json!({}))).status, 200);

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.json");
    std::fs::write(&file, issuer.keys().to_string()).expect("the file is written");
    let by_file = format!("jwks = \"file:{}\"", file.display());
    let (_upstream, gateway, customer) = behind(&issuer, &by_file, &route("all", "/", ""));
    assert_eq!(with(&gateway, &issuer.token(&customer.slug, &json!({}))).status, 200);
    issuer.rotate();
    std::fs::write(&file, issuer.keys().to_string()).expect("the file is written");
    assert_eq!(with(&gateway, &issuer.token(&customer.slug, &json!({}))).status, 200);
}

// === instruments ===

/// A gateway that trusts the issuer, with a customer of it.
#[track_caller]
fn behind(issuer: &StubIssuer, more: &str, routes: &str) -> (StubUpstream, TestGateway, Customer) {
    customer_of(&format!("{}{routes}", issuer.config(more)))
}

#[track_caller]
fn with(gateway: &TestGateway, token: &str) -> Response {
    send(gateway, &[format!("authorization: Bearer {token}")])
}

#[track_caller]
fn send(gateway: &TestGateway, lines: &[String]) -> Response {
    send_to(gateway, "/", &lines.iter().collect::<Vec<_>>())
}

#[track_caller]
fn send_to(gateway: &TestGateway, path: &str, lines: &[&String]) -> Response {
    let start = format!("GET {path} HTTP/1.1");
    let head = [&*start, "host: a"].into_iter().chain(lines.iter().map(|line| line.as_str()));
    gateway.client().request(&head.collect::<Vec<_>>(), b"")
}

fn refused_for(gateway: &TestGateway, reason: &str) -> f64 {
    gateway.metric("tollgate_refusals_total", &format!("\"{reason}\""))
}

fn readings(gateway: &TestGateway, outcome: &str) -> f64 {
    gateway.metric("tollgate_issuer_key_readings_total", &format!("\"{outcome}\""))
}
