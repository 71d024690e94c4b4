//! Header lines, both ways: nobody poses as a tenant, and everybody learns what is left.

use super::{another_key, customer_of, gateway, route};
use crate::support::{Answer, Customer, Recorded, Response, StubUpstream, TestGateway};

/// A gauge, whose lines have no time in them; the free tier has 10.
const DEVICES: &str = "charge = { devices = 1 }";

// === to the upstream ===

#[test]
fn no_disguise_of_a_tenant_header_reaches_the_upstream() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    for lines in [
        &["x-tenant-id: forged"][..],
        &["X-TENANT-ID: forged"],
        &["X-Tenant_Id: forged"],
        &["x_tenant_id: forged"],
        &["x-tenant-id: forged", "x-tenant-id: forged"],
        &[
            "x-tenant-tier: forged",
            "x-tenant-key-id: forged",
            "x-tenant-subject: forged",
            "x-tenant-scopes: forged",
        ],
        &["x-tenant-anything: forged", "X_TENANT_: forged", "x-tenant-: forged"],
        &["connection: x-tenant-id", "x-tenant-id: forged"],
        &["connection: x-tenant-id, x-tenant-tier, x-tenant-key-id, x-request-id, x-forwarded-for, host"],
        &["connection: close, content-length", "x-request-id: forged", "X_Request_Id: forged"],
    ] {
        let seen = forwarded(&upstream, &gateway, &customer, lines);
        assert!(!text(&seen).contains("forged"), "{lines:?}: {:?}", seen.headers);
        for (name, value) in [
            ("x-tenant-id", &*customer.tenant_id),
            ("x-tenant-tier", "free"),
            ("x-tenant-key-id", &customer.key_id),
            ("x-forwarded-for", "127.0.0.1"),
            ("host", "api.test"),
        ] {
            assert_eq!(seen.headers_named(name).collect::<Vec<_>>(), [value], "{lines:?}: {name}");
        }
        assert_eq!(seen.headers_named("x-request-id").count(), 1, "{lines:?}");
    }
}

#[test]
fn no_disguise_of_a_framing_header_reaches_the_upstream() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    for line in [
        "content_length: 7",
        "Content_Length: 7",
        "transfer_encoding: chunked",
        "Transfer_Encoding: chunked",
        "keep_alive: 7",
        "proxy_connection: 7",
    ] {
        let seen = forwarded(&upstream, &gateway, &customer, &[line]);
        let name = line.split(':').next().unwrap();
        assert_eq!(seen.header(name), None, "{line}");
    }
}

#[test]
fn lines_of_one_connection_stay_there_and_all_others_pass_as_they_are() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let seen = forwarded(
        &upstream,
        &gateway,
        &customer,
        &[
            "Connection: keep-alive, X-Private",
            "connection: te , x-other",
            "Keep-Alive: timeout=5",
            "x-private: secret",
            "X-OTHER: secret",
            "TE: trailers",
            "Trailer: x",
            "Upgrade: websocket",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic secret",
            "Accept: a",
            "X-Odd:  two  words ",
            "accept: b",
            "cookie: c=\"d\"",
            "x-bytes: \u{e9}\u{20ac}",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ],
    );
    let names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    let ours = [
        "x-forwarded-for",
        "forwarded",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-tenant-id",
        "x-tenant-key-id",
        "x-tenant-tier",
        "x-request-id",
    ];
    let theirs = ["host", "Accept", "X-Odd", "accept", "cookie", "x-bytes", "traceparent"];
    // The client takes trailers, and so do we on our own connection.
    let own = ["te", "connection"];
    assert_eq!(names, [&theirs[..], &own, &ours].concat());
    assert_eq!((seen.header("te"), seen.header("connection")), (Some("trailers"), Some("te")));
    assert_eq!(seen.headers_named("accept").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((seen.header("x-odd"), seen.header("x-bytes")), (Some("two  words"), Some("\u{e9}\u{20ac}")));
}

#[test]
fn what_a_stranger_says_of_who_it_forwards_for_is_replaced() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", ""));
    let seen = forwarded(
        &upstream,
        &gateway,
        &customer,
        &[
            "X-Forwarded-For: stranger.6.6",
            "x_forwarded_for: stranger.6.6",
            "x-forwarded-proto: stranger",
            "x-forwarded-host: stranger",
            "X-Forwarded_Port: stranger",
            "forwarded: for=stranger.6.6",
            "x-real-ip: stranger.6.6",
            "X_Real_IP: stranger.6.6",
        ],
    );
    assert!(!text(&seen).contains("stranger"), "{:?}", seen.headers);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.test"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=http;host=\"api.test\""));
}

#[test]
fn what_a_trusted_proxy_says_of_who_it_forwards_for_is_passed_on_and_believed() {
    let trust = "[listen.trust]\nproxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n".to_owned();
    let (upstream, gateway, customer) = customer_of(&(trust + &route("all", "/", "")));
    let seen = forwarded(
        &upstream,
        &gateway,
        &customer,
        &[
            "x-forwarded-for: 9.9.9.9",
            "X-Forwarded-For: 192.0.2.7, 10.1.1.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: shop.test",
            "forwarded: for=192.0.2.7",
        ],
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 192.0.2.7, 10.1.1.1, 127.0.0.1"));
    assert_eq!(seen.headers_named("x-forwarded-proto").collect::<Vec<_>>(), ["https"]);
    assert_eq!(seen.headers_named("x-forwarded-host").collect::<Vec<_>>(), ["shop.test"]);
    let forwarded: Vec<&str> = seen.headers_named("forwarded").collect();
    assert_eq!(forwarded, ["for=192.0.2.7, for=127.0.0.1;proto=http;host=\"api.test\""]);

    // The client is the last address that no trusted proxy has: what it says of itself before that is nothing.
    let fenced = another_key(&gateway, &customer, &["--network", "192.0.2.0/24"]);
    for (chain, status) in [
        ("192.0.2.7", 200),
        ("9.9.9.9, 192.0.2.7, 10.1.1.1", 200),
        ("192.0.2.7, 9.9.9.9", 403),
        ("192.0.2.7, unknown", 403),
        ("10.1.1.1", 403),
        ("", 403),
    ] {
        let response = send(&gateway, &fenced, &[&format!("x-forwarded-for: {chain}")]);
        assert_eq!(response.status, status, "{chain}");
    }
    for (lines, status) in [
        (&["forwarded: for=192.0.2.7"][..], 200),
        (&["forwarded: for=9.9.9.9, for=192.0.2.7;proto=https, for=\"10.1.1.1:80\""], 200),
        (&["forwarded: for=192.0.2.7", "forwarded: for=10.1.1.1"], 200),
        (&["forwarded: for=192.0.2.7, for=9.9.9.9"], 403),
        (&["forwarded: for=192.0.2.7, for=unknown"], 403),
        (&["forwarded: for=192.0.2.7, for=10.1.1.1;for=10.1.1.2"], 403),
        // Proxies that write the one often let their clients' other pass.
        (&["forwarded: for=192.0.2.7", "x-forwarded-for: 9.9.9.9"], 403),
    ] {
        assert_eq!(send(&gateway, &fenced, lines).status, status, "{lines:?}");
    }
}

#[test]
fn the_tenants_prefix_can_be_another_one() {
    let sections = "[headers]\ntenant_prefix = \"x-acct-\"\n".to_owned();
    let (upstream, gateway, customer) = customer_of(&(sections + &route("all", "/", "")));
    let seen = forwarded(&upstream, &gateway, &customer, &["X_Acct_Id: forged", "x-tenant-id: mine"]);
    assert_eq!(seen.headers_named("x-acct-id").collect::<Vec<_>>(), [&*customer.tenant_id]);
    assert_eq!(seen.header("x-tenant-id"), Some("mine"));
    assert!(!text(&seen).contains("forged"));
}

// === to the client ===

#[test]
fn an_answer_keeps_its_lines_but_those_of_the_upstreams_connection() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", DEVICES));
    upstream.answer(|_| {
        Answer::ok("body")
            .with("connection", "keep-alive, x-private")
            .with("keep-alive", "timeout=5")
            .with("x-private", "secret")
            .with("proxy-authenticate", "Basic")
            .with("x-request-id", "upstream's own")
            .with("Set-Cookie", "a=1")
            .with("set-cookie", "b=2")
            .with("server", "stub")
    });
    let response = send(&gateway, &customer, &["x-request-id: client's own"]);
    let names: Vec<&str> = response.message.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Set-Cookie",
            "set-cookie",
            "server",
            "x-request-id",
            "content-length",
            "ratelimit-policy",
            "ratelimit",
            "x-ratelimit-limit",
            "x-ratelimit-remaining"
        ]
    );
    let id = upstream.last().header("x-request-id").map(str::to_owned);
    assert_eq!(response.header("x-request-id"), id.as_deref(), "both sides know the same id");
    assert_eq!(id.map(|id| id.len()), Some(36));
}

#[test]
fn clients_are_told_what_is_left_in_both_dialects() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", DEVICES));
    for left in (0..10).rev() {
        let response = send(&gateway, &customer, &[]);
        assert_eq!(
            limits(&response),
            [
                "ratelimit-policy: \"devices-forever\";q=10".to_owned(),
                format!("ratelimit: \"devices-forever\";r={left}"),
                "x-ratelimit-limit: 10".to_owned(),
                format!("x-ratelimit-remaining: {left}"),
            ]
        );
    }
    // A denial takes nothing and tells the same.
    for _ in 0..2 {
        let denied = send(&gateway, &customer, &[]);
        assert_eq!(denied.status, 429);
        assert_eq!(
            limits(&denied),
            [
                "ratelimit-policy: \"devices-forever\";q=10",
                "ratelimit: \"devices-forever\";r=0",
                "x-ratelimit-limit: 10",
                "x-ratelimit-remaining: 0",
            ]
        );
    }
}

#[test]
fn every_quota_that_pays_is_told_and_the_legacy_lines_are_of_the_tightest() {
    let (_upstream, gateway, customer) =
        customer_of(&route("all", "/", "charge = { api_calls = 2, devices = 1 }"));
    let own = ["--limit", "7", "--period", "day", "--key", &customer.key_id];
    gateway.json(&[&["quota", "set", &customer.slug, "api_calls"], &own[..]].concat());
    let response = send(&gateway, &customer, &[]);
    let policies = response.header("ratelimit-policy").unwrap().to_owned();
    let days = policies
        .strip_prefix("\"devices-forever\";q=10, \"api_calls-month\";q=1000;w=")
        .and_then(|rest| rest.strip_suffix(", \"key-api_calls-day\";q=7;w=86400"))
        .map(|seconds| seconds.parse::<u64>().unwrap() / 86_400);
    assert!(days.is_some_and(|days| (28..=31).contains(&days)), "{policies}");
    let limit = response.header("ratelimit").unwrap();
    let parts: Vec<&str> = limit.split(", ").map(|part| part.split(";t=").next().unwrap()).collect();
    assert_eq!(parts, ["\"devices-forever\";r=9", "\"api_calls-month\";r=998", "\"key-api_calls-day\";r=5"]);
    let until_midnight = limit.rsplit(";t=").next().unwrap().parse::<u64>().unwrap();
    assert!(until_midnight <= 86_400, "{limit}");
    assert_eq!(response.header("x-ratelimit-limit"), Some("7"));
    let reset = response.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap();
    assert_eq!(reset % 86_400, 0, "midnight in UTC");
}

#[test]
fn the_upstreams_own_limits_stay_beside_ours_in_draft_10_and_are_replaced_in_legacy() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", DEVICES));
    upstream.answer(|_| {
        Answer::ok("")
            .with("ratelimit-policy", "\"own\";q=5")
            .with("RateLimit", "\"own\";r=4")
            .with("X-RateLimit-Limit", "5")
            .with("X-RateLimit-Remaining", "4")
            .with("X-RateLimit-Reset", "3")
    });
    assert_eq!(
        limits(&send(&gateway, &customer, &[])),
        [
            "ratelimit-policy: \"own\";q=5",
            "RateLimit: \"own\";r=4",
            "ratelimit-policy: \"devices-forever\";q=10",
            "ratelimit: \"devices-forever\";r=9",
            "x-ratelimit-limit: 10",
            "x-ratelimit-remaining: 9",
        ]
    );
}

#[test]
fn dialects_are_a_setting() {
    for (dialects, lines) in [
        ("", &[][..]),
        ("\"legacy\"", &["x-ratelimit-limit: 10", "x-ratelimit-remaining: 9"]),
        (
            "\"draft-10\"",
            &["ratelimit-policy: \"devices-forever\";q=10", "ratelimit: \"devices-forever\";r=9"],
        ),
    ] {
        let sections = format!("[headers]\ndialects = [{dialects}]\n");
        let (_upstream, gateway, customer) = customer_of(&(sections + &route("all", "/", DEVICES)));
        assert_eq!(limits(&send(&gateway, &customer, &[])), lines);
    }
}

#[test]
fn unlimited_quotas_are_not_told() {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, &route("all", "/", DEVICES));
    let customer = gateway.customer("Acme", "free");
    gateway.json(&["quota", "set", &customer.slug, "devices", "--limit", "unlimited"]);
    let response = send(&gateway, &customer, &[]);
    assert_eq!((response.status, limits(&response).len()), (200, 0));
}

// === instruments ===

#[track_caller]
fn send(gateway: &TestGateway, customer: &Customer, lines: &[&str]) -> Response {
    let key = format!("x-api-key: {}", customer.key);
    gateway.client().request(&[&["GET / HTTP/1.1", "host: api.test", &key], lines].concat(), b"")
}

/// What the upstream sees of a request with these lines.
#[track_caller]
fn forwarded(
    upstream: &StubUpstream,
    gateway: &TestGateway,
    customer: &Customer,
    lines: &[&str],
) -> Recorded {
    assert_eq!(send(gateway, customer, lines).status, 200, "{lines:?}");
    upstream.last()
}

fn text(seen: &Recorded) -> String {
    String::from_utf8_lossy(&seen.raw).into_owned()
}

/// The lines that tell of limits, as they came.
fn limits(response: &Response) -> Vec<String> {
    let told =
        response.message.headers.iter().filter(|(name, _)| name.to_ascii_lowercase().contains("ratelimit"));
    told.map(|(name, value)| format!("{name}: {value}")).collect()
}
