//! The fourth door: units for a request, all or none, exactly as many as there are.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{another_key, customer_of, gateway, route, upstream_at, usage, used};
use crate::support::{Answer, Customer, Response, StubUpstream, Tally, TestGateway, load, until};

const CALLS: &str = "charge = { api_calls = 1 }";

#[test]
fn a_hundred_connections_get_exactly_the_limit() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "10000"]);
    let request = customer.request();
    let tally = load(gateway.proxy(), 100, 11_000, |_| request.clone());
    assert_eq!((tally.of(200), tally.of(429), tally.unanswered), (10_000, 1_000, 0));
    assert_eq!(upstream.count(), 10_000);
    assert_eq!(used(&gateway, &customer, "api_calls"), 10_000);
    assert_eq!(gateway.metric("tollgate_denied_requests_total", "api_calls"), 1_000.0);
}

#[test]
fn a_crowd_that_pays_several_quotas_gets_exactly_the_smallest() {
    let charges = "charge = { alerts = 1, devices = 1, api_calls = 1 }";
    for limits in [[300, 300, 300], [500, 300, 400], [300, 500, 301]] {
        let (upstream, gateway, customer) = customer_of(&route("all", "/", charges));
        let resources = ["alerts", "devices", "api_calls"];
        for (resource, limit) in resources.iter().zip(limits) {
            set_limit(&gateway, &customer, resource, &["--limit", &limit.to_string()]);
        }
        let tally = crowd(&gateway, &customer, 1_000);
        assert_eq!((tally.of(200), tally.of(429)), (300, 700), "{limits:?}");
        assert_eq!(upstream.count(), 300);
        assert_eq!(resources.map(|resource| used(&gateway, &customer, resource)), [300; 3], "{limits:?}");
    }
}

#[test]
fn units_that_come_back_in_a_crowd_are_all_there_to_be_used() {
    let (upstream, gateway, customer) =
        customer_of(&route("all", "/", &format!("{CALLS}\non = \"success\"")));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "200"]);
    let turns = AtomicUsize::new(0);
    upstream.answer(move |_| match turns.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => Answer::ok(""),
        1 => Answer::status(500, ""),
        _ => Answer::Close(Vec::new()),
    });
    let crowded = crowd(&gateway, &customer, 1_000);
    upstream.answer(|_| Answer::ok(""));
    let alone = (0..).take_while(|_| get(&gateway, &customer).status == 200).count();
    assert_eq!(crowded.of(200) + alone, 200, "{crowded:?}");
    check_used(&gateway, &customer, "api_calls", 200, "those that were answered");
}

#[test]
fn one_tenants_use_is_not_anothers() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    let other = gateway.customer("Other", "free");
    set_limit(&gateway, &customer, "api_calls", &["--limit", "1"]);
    check_spent(&upstream, &gateway, &customer, 1, "api_calls-month");
    assert_eq!(get(&gateway, &other).header("x-ratelimit-remaining"), Some("999"));
    assert_eq!((used(&gateway, &customer, "api_calls"), used(&gateway, &other, "api_calls")), (1, 1));
}

#[test]
fn a_denied_request_moves_no_counter() {
    // In the order of their names' length: the first can pay, the second is spent, the third can pay.
    let (upstream, gateway, customer) =
        customer_of(&route("all", "/", "charge = { alerts = 1, devices = 2, api_calls = 3 }"));
    set_limit(&gateway, &customer, "devices", &["--limit", "7"]);
    check_spent(&upstream, &gateway, &customer, 3, "devices-forever");
    assert_eq!(used(&gateway, &customer, "devices"), 6, "one is left, and two were asked for");
}

#[test]
fn a_key_and_its_tenant_pay_both_or_neither() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    let other = another_key(&gateway, &customer, &[]);
    let own = ["--key", &customer.key_id, "--period", "month"];
    set_limit(&gateway, &customer, "api_calls", &[&["--limit", "2"], &own[..]].concat());
    set_limit(&gateway, &customer, "api_calls", &["--limit", "5"]);
    check_spent(&upstream, &gateway, &customer, 2, "key-api_calls-month");
    check_spent(&upstream, &gateway, &other, 3, "api_calls-month");
    let used: Vec<_> =
        usage(&gateway, &customer).into_iter().filter(|(name, ..)| name == "api_calls").collect();
    let of = |key: Option<&str>| used.iter().find(|(_, _, own, _)| own.as_deref() == key).unwrap().3;
    assert_eq!((of(None), of(Some(&customer.key_id))), (5, 2));
}

#[test]
fn soft_and_monitored_quotas_let_pass_and_count_on() {
    let (upstream, gateway, customer) =
        customer_of(&route("all", "/", "charge = { alerts = 1, api_calls = 2 }"));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "5", "--enforcement", "soft"]);
    set_limit(&gateway, &customer, "alerts", &["--limit", "2", "--enforcement", "monitor"]);
    for _ in 0..6 {
        assert_eq!(get(&gateway, &customer).status, 200);
    }
    assert_eq!(upstream.count(), 6);
    assert_eq!((used(&gateway, &customer, "api_calls"), used(&gateway, &customer, "alerts")), (12, 6));
    assert_eq!(get(&gateway, &customer).header("x-ratelimit-remaining"), Some("0"));
}

#[test]
fn a_limit_is_raised_and_lowered_while_it_runs_and_use_is_never_reset() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    for (limit, passing) in [("3", 3), ("5", 2), ("4", 0), ("0", 0), ("5", 0), ("6", 1), ("30", 24)] {
        set_limit(&gateway, &customer, "api_calls", &["--limit", limit]);
        let before = upstream.count();
        until("the limit is known", || {
            let answer = get(&gateway, &customer);
            (answer.header("x-ratelimit-limit") == Some(limit)).then_some(())
        });
        (0..).find(|_| get(&gateway, &customer).status == 429);
        assert_eq!(upstream.count() - before, passing, "limit {limit}");
    }
    set_limit(&gateway, &customer, "api_calls", &["--limit", "unlimited"]);
    until("there is no limit", || (get(&gateway, &customer).status == 200).then_some(()));
    assert_eq!(used(&gateway, &customer, "api_calls"), 31);
}

#[test]
fn a_denial_says_which_quota_how_much_and_when_there_is_more() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "1"]);
    assert_eq!(get(&gateway, &customer).status, 200);
    let denied = get(&gateway, &customer);
    assert_eq!((denied.status, denied.header("content-type")), (429, Some("application/problem+json")));
    let body = denied.json();
    for (field, value) in [
        ("type", "https://iana.org/assignments/http-problem-types#quota-exceeded".into()),
        ("title", "Quota exceeded".into()),
        ("status", 429.into()),
        ("violated-policies", vec!["api_calls-month"].into()),
        ("resource", "api_calls".into()),
        ("limit", 1.into()),
        ("used", 1.into()),
        ("request_id", denied.header("x-request-id").into()),
    ] {
        let value: serde_json::Value = value;
        assert_eq!(body[field], value, "{field}");
    }
    let resets_at: jiff::Timestamp = body["resets_at"].as_str().unwrap().parse().unwrap();
    let wait = seconds(&denied) - (resets_at.as_second() - jiff::Timestamp::now().as_second());
    assert!((0..=1).contains(&wait), "whole seconds, rounded up: {wait}");
    assert_eq!(denied.header("x-should-retry"), Some("false"), "nobody shall sleep for a month");
}

#[test]
fn a_denial_says_where_more_can_be_bought_if_callers_are_to_know() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "0"]);
    let told = || get(&gateway, &customer).json()["upgrade_url"].clone();
    let set = |setting: &str, value: &str| {
        gateway.json(&["settings", "set", &customer.slug, setting, value]);
    };
    set("upgrade_url", "https://shop.example/{tenant}/more");
    let other = gateway.customer_with_limit("Other", 0);
    until("the limit is known", || (get(&gateway, &other).status == 429).then_some(()));
    assert_eq!(told(), serde_json::Value::Null, "its own users need not know what it pays for");
    set("upgrade_prompts", "true");
    let url = format!("https://shop.example/{}/more", customer.slug);
    until("callers are told", || (told() == url.as_str()).then_some(()));
    // A key's own limit grows with no tier.
    set_limit(&gateway, &customer, "api_calls", &["--limit", "5"]);
    set_limit(&gateway, &customer, "api_calls", &["--limit", "0", "--key", &customer.key_id]);
    until("it is the key's limit", || told().is_null().then_some(()));
    assert_eq!(get(&gateway, &customer).status, 429);
}

#[test]
fn a_denial_by_a_gauge_knows_no_time_and_one_by_a_minute_is_worth_a_retry() {
    let (_upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { devices = 1 }"));
    set_limit(&gateway, &customer, "devices", &["--limit", "0"]);
    let denied = get(&gateway, &customer);
    assert_eq!((denied.status, denied.header("retry-after")), (429, None));
    assert!(denied.json()["resets_at"].is_null());
    assert_eq!(denied.header("x-should-retry"), None);

    let (_upstream, gateway, customer) = customer_of(&route("all", "/", CALLS));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "1", "--period", "minute"]);
    // A minute may begin between two requests.
    let denied =
        until("a denial", || Some(get(&gateway, &customer)).filter(|response| response.status == 429));
    assert!((1..=60).contains(&seconds(&denied)));
    assert_eq!(denied.header("x-should-retry"), None);
    assert_eq!(denied.json()["violated-policies"][0], "api_calls-minute");
}

#[test]
fn units_come_back_as_the_route_says() {
    let upstream = StubUpstream::answering(|request| match request.target().rsplit('/').next() {
        Some("500") => Answer::status(500, "no"),
        Some("404") => Answer::status(404, "no"),
        Some("hang") => Answer::Hang,
        Some("close") => Answer::Close(Vec::new()),
        Some("garbage") => Answer::Raw(b"garbage\r\n\r\n".to_vec()),
        Some("cut") => Answer::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut".to_vec()),
        _ => Answer::ok(""),
    });
    let quick = upstream_at(&[upstream.address()], "timeouts = { first_byte = \"500ms\" }");
    let nobody = upstream_at(&[closed_port()], "").replace("\"stub\"", "\"nobody\"");
    let refund = format!("{CALLS}\non = \"success\"");
    let routes = [
        route("admit", "/admit", CALLS),
        route("success", "/success", &refund),
        route("admit-nobody", "/admit/nobody", CALLS).replace("\"stub\"", "\"nobody\""),
        route("success-nobody", "/success/nobody", &refund).replace("\"stub\"", "\"nobody\""),
    ];
    let gateway = TestGateway::start_with(&[quick, nobody, routes.concat()].concat());
    let customer = gateway.customer("Acme", "free");
    let mut expected = 0;
    for (path, status, admit, success) in [
        ("ok", 200, 1, 1),
        ("404", 404, 1, 1),
        ("500", 500, 1, 0),
        ("hang", 504, 1, 0),
        ("close", 502, 1, 0),
        ("garbage", 502, 1, 0),
        ("cut", 0, 1, 0),
        // Nothing reached the upstream, so nothing was used.
        ("nobody", 502, 0, 0),
    ] {
        for (on, units) in [("admit", admit), ("success", success)] {
            let mut client = gateway.client();
            client
                .send(format!("GET /{on}/{path} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", customer.key));
            assert_eq!(
                client.try_response("GET").map_or(0, |response| response.status),
                status,
                "{on} {path}"
            );
            expected += units;
            check_used(&gateway, &customer, "api_calls", expected, &format!("{on} {path}"));
        }
    }
}

#[test]
fn bytes_are_charged_as_they_went_through() {
    let upstream = StubUpstream::answering(|request| Answer::ok(vec![b'x'; request.body.len() * 2]));
    let routes = [
        route("up", "/up", "charge = { storage = \"request_bytes\" }"),
        route("down", "/down", "charge = { storage = \"response_bytes\" }"),
    ];
    let gateway = gateway(&upstream, &routes.concat());
    let customer = gateway.customer("Acme", "free");
    let sized = |length: usize| format!("content-length: {length}\r\n\r\n{}", "x".repeat(length));
    let chunked = |length: usize| {
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length))
    };
    let mut expected = 0;
    for (path, request, units) in [
        ("/up", sized(1_000), 1_000),
        ("/up", chunked(2_000), 2_000),
        ("/up", "\r\n".to_owned(), 0),
        ("/down", sized(3_000), 6_000),
        ("/down", chunked(50_000), 100_000),
        ("/down", "\r\n".to_owned(), 0),
    ] {
        let response = post(&gateway, &customer, path, &request);
        assert_eq!(response.status, 200);
        expected += units;
        check_used(&gateway, &customer, "storage", expected, path);
    }
    // A declared size that can't be paid is denied before a byte is sent; one that is not known is paid at its end.
    let limit = (expected + 10).to_string();
    set_limit(&gateway, &customer, "storage", &["--limit", &limit]);
    until("the limit is known", || {
        let free = post(&gateway, &customer, "/up", "\r\n");
        (free.header("x-ratelimit-limit") == Some(&limit)).then_some(())
    });
    let seen = upstream.count();
    let denied = post(&gateway, &customer, "/up", &sized(11));
    assert_eq!((denied.status, &denied.json()["used"]), (429, &expected.into()));
    assert_eq!(upstream.count(), seen);
    assert_eq!(post(&gateway, &customer, "/up", &chunked(25)).status, 200);
    check_used(&gateway, &customer, "storage", expected + 25, "what is used is used");
    assert_eq!(post(&gateway, &customer, "/up", &sized(1)).status, 429);
}

#[test]
fn the_upstream_says_what_was_used_up_to_a_maximum_that_must_be_there() {
    let charge = "charge = { api_calls = { header = \"X-Usage-Units\", max = 40 } }";
    let (upstream, gateway, customer) = customer_of(&route("all", "/", charge));
    let mut expected = 0;
    for (said, units) in [
        (Some("7"), 7),
        (Some("0"), 0),
        (Some("40"), 40),
        (Some("4000"), 40),
        (Some("-1"), 40),
        (Some("x"), 40),
        (None, 40),
    ] {
        upstream
            .answer(move |_| said.map_or(Answer::ok(""), |said| Answer::ok("").with("x-usage-units", said)));
        assert_eq!(get(&gateway, &customer).status, 200);
        expected += units;
        check_used(&gateway, &customer, "api_calls", expected, said.unwrap_or("nothing"));
    }
    set_limit(&gateway, &customer, "api_calls", &["--limit", &(expected + 45).to_string()]);
    upstream.answer(|_| Answer::ok("").with("x-usage-units", "5"));
    for status in [200, 200, 429, 429] {
        let answer = get(&gateway, &customer).status;
        assert_eq!(answer, status);
    }
    check_used(&gateway, &customer, "api_calls", expected + 10, "35 are left, and 40 could be used");
}

#[test]
fn a_rate_holds_back_one_key_or_the_whole_tenant_and_takes_no_unit() {
    let rate = |per: &str| {
        let rate = format!("rate = {{ per = \"{per}\", requests = 1, window = \"1h\", burst = 2 }}");
        route(per, &format!("/{per}"), &format!("{CALLS}\n{rate}"))
    };
    let (upstream, gateway, customer) = customer_of(&[rate("key"), rate("tenant")].concat());
    let other = another_key(&gateway, &customer, &[]);
    let ask = |path: &str, customer: &Customer| gateway.client().get(path, &customer.key);
    for (path, own, statuses) in [
        ("/key", &customer, [200, 200, 429]),
        ("/key", &other, [200, 200, 429]),
        ("/tenant", &customer, [200, 200, 429]),
        ("/tenant", &other, [429, 429, 429]),
    ] {
        let answers = [0; 3].map(|_| ask(path, own));
        assert_eq!(answers.each_ref().map(|answer| answer.status), statuses, "{path}");
        assert!((3_590..=3_600).contains(&seconds(&answers[2])), "{path}");
        assert_eq!(answers[2].json()["title"], "Too many requests");
    }
    assert_eq!((upstream.count(), used(&gateway, &customer, "api_calls")), (6, 6));
}

#[test]
fn what_was_used_is_known_after_a_kill() {
    let (upstream, mut gateway, customer) = customer_of(&route("all", "/", CALLS));
    set_limit(&gateway, &customer, "api_calls", &["--limit", "5"]);
    (0..3).for_each(|_| assert_eq!(get(&gateway, &customer).status, 200));
    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 3);
    check_spent(&upstream, &gateway, &customer, 2, "api_calls-month");
}

// === checks and instruments ===

/// So many requests pass; those after them are denied by `policy`, and nothing that is counted moves.
#[track_caller]
fn check_spent(
    upstream: &StubUpstream,
    gateway: &TestGateway,
    customer: &Customer,
    passing: usize,
    policy: &str,
) {
    let begin = upstream.count();
    (0..passing).for_each(|_| assert_eq!(get(gateway, customer).status, 200));
    let before = usage(gateway, customer);
    for _ in 0..5 {
        let denied = get(gateway, customer);
        assert_eq!(denied.status, 429);
        assert_eq!(denied.json()["violated-policies"], serde_json::json!([policy]));
    }
    assert_eq!(usage(gateway, customer), before);
    assert_eq!(upstream.count(), begin + passing);
}

/// The books are closed after the answer's last byte has left, which the client may have seen already.
#[track_caller]
fn check_used(gateway: &TestGateway, customer: &Customer, resource: &str, expected: u64, what: &str) {
    until(&format!("{expected} units of {resource} are used: {what}"), || {
        (used(gateway, customer, resource) == expected).then_some(())
    });
}

#[track_caller]
fn set_limit(gateway: &TestGateway, customer: &Customer, resource: &str, options: &[&str]) {
    gateway.json(&[&["quota", "set", &customer.tenant_id, resource], options].concat());
}

/// So many requests over fifty connections.
fn crowd(gateway: &TestGateway, customer: &Customer, requests: usize) -> Tally {
    let request = customer.request();
    load(gateway.proxy(), 50, requests, |_| request.clone())
}

#[track_caller]
fn get(gateway: &TestGateway, customer: &Customer) -> Response {
    gateway.client().get("/", &customer.key)
}

/// `rest` begins with the head's last lines.
#[track_caller]
fn post(gateway: &TestGateway, customer: &Customer, path: &str, rest: &str) -> Response {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n", customer.key);
    gateway.client().send(head + rest).response()
}

#[track_caller]
fn seconds(response: &Response) -> i64 {
    response.header("retry-after").expect("retry-after").parse().expect("whole seconds")
}

/// Where nobody listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
