//! The fifth door: how much is sent to an upstream at a time, and when nothing is.

use super::upstream::{ask, closed_port, gateway_at, get};
use super::{route, upstream_at, used};
use crate::support::{Answer, Gate, Http2Client, RawClient, StubUpstream, TestGateway, until};

#[test]
fn more_requests_at_a_time_than_allowed_are_503_and_every_end_makes_room() {
    let gate = Gate::default();
    let upstream = held(&gate);
    let gateway = gateway_at(&[upstream.address()], "pool = { requests_max = 2 }");
    let mut waiting = [begun(&gateway, "/held", ""), begun(&gateway, "/held", "")];
    until("both are under way", || (upstream.count() == 2).then_some(()));
    until("the metric tells", || {
        (gateway.metric("tollgate_upstream_requests_under_way", "") == 2.0).then_some(())
    });
    for _ in 0..3 {
        let response = get(&gateway, "/");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(response.json()["type"], "/problems/upstream-unavailable");
    }
    assert_eq!(gateway.metric("tollgate_refusals_total", "reason=\"upstream_busy\""), 3.0);
    assert_eq!(upstream.count(), 2);
    gate.open();
    waiting.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));

    // However a request ends, its place is free again: answered, broken, refused, the client gone.
    upstream.answer(|request| match request.target() {
        "/broken" => Answer::Close(Vec::new()),
        "/hung" => Answer::Hang,
        _ => Answer::ok("ok"),
    });
    for path in ["/", "/broken", "/"].repeat(3) {
        assert!(matches!(get(&gateway, path).status, 200 | 502));
    }
    for _ in 0..3 {
        let before = upstream.count();
        let mut gone = Http2Client::connect(gateway.proxy());
        gone.cancel("/hung", &[], || until("it is there", || (upstream.count() > before).then_some(())));
        drop(gone);
        until("its place is free", || {
            (gateway.metric("tollgate_upstream_requests_under_way", "") == 0.0).then_some(())
        });
    }
    assert_eq!([get(&gateway, "/").status, get(&gateway, "/").status], [200, 200]);
}

#[test]
fn one_tenant_can_not_take_all_and_what_it_may_not_send_costs_it_nothing() {
    let gate = Gate::default();
    let upstream = held(&gate);
    let upstreams = upstream_at(&[upstream.address()], "pool = { requests_per_tenant_max = 2 }");
    let routes =
        [route("open", "/open", "public = true"), route("all", "/", "charge = { api_calls = 1 }")].concat();
    let gateway = TestGateway::start_with(&(upstreams + &routes));
    let [greedy, other] = ["Greedy", "Other"].map(|name| gateway.customer(name, "free"));
    let mut waiting = [begun(&gateway, "/held", &greedy.key), begun(&gateway, "/held", &greedy.key)];
    until("both are under way", || (upstream.count() == 2).then_some(()));
    let response = gateway.client().get("/", &greedy.key);
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
    assert_eq!(response.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(gateway.metric("tollgate_refusals_total", "reason=\"tenant_busy\""), 1.0);
    assert_eq!(gateway.client().get("/", &other.key).status, 200);
    assert_eq!(get(&gateway, "/open").status, 200);
    gate.open();
    waiting.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    until("its places are free", || (gateway.client().get("/", &greedy.key).status == 200).then_some(()));
    let refused = gateway.metric("tollgate_refusals_total", "reason=\"tenant_busy\"");
    assert!(refused >= 1.0);
    until("two that were held and one more are charged", || {
        (used(&gateway, &greedy, "api_calls") == 3).then_some(())
    });
}

#[test]
fn an_upstream_that_fails_too_often_is_spared_until_one_request_comes_through() {
    let upstream = StubUpstream::answering(|_| Answer::status(503, ""));
    let more = "breaker = { failures_percent = 50, requests_min = 5, open_for = \"2s\" }\nhealth = { eject_after = 0 }";
    let gateway = gateway_at(&[upstream.address()], more);
    let mut client = gateway.client();
    let open = until("it opens", || {
        let response = ask(&mut client, "GET", "/");
        (response.problem() == Some("/problems/upstream-unavailable".into())).then_some(response)
    });
    let wait: u64 = open.header("retry-after").unwrap().parse().unwrap();
    assert!(open.status == 503 && (1..=2).contains(&wait), "{wait}");
    assert_eq!(gateway.metric("tollgate_upstream_breaker_openings_total", "upstream=\"stub\""), 1.0);
    until("readiness tells", || {
        (gateway.metric("tollgate_upstream_breaker_open", "") == 1.0).then_some(())?;
        gateway.admin_text("/readyz").contains("upstream `stub`: its breaker is open").then_some(())
    });
    let before = upstream.count();
    until("one probes, in vain", || {
        assert_eq!(ask(&mut client, "GET", "/").status, 503);
        (upstream.count() > before).then_some(())
    });
    (0..3).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 503));
    assert_eq!(upstream.count(), before + 1);
    upstream.answer(|_| Answer::ok("ok"));
    until("the next one closes it", || (ask(&mut client, "GET", "/").status == 200).then_some(()));
    (0..20).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
}

#[test]
fn without_a_breaker_an_outage_stays_what_it_is() {
    let gateway = gateway_at(&[closed_port()], "");
    let mut client = gateway.client();
    (0..60).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 502));
}

/// Answers `/held` once the gate is open, and everything else at once.
fn held(gate: &Gate) -> StubUpstream {
    let gate = gate.clone();
    StubUpstream::answering(move |request| match request.target() {
        "/held" => Answer::When(gate.clone(), Box::new(Answer::ok("held"))),
        _ => Answer::ok("ok"),
    })
}

fn begun(gateway: &TestGateway, path: &str, key: &str) -> RawClient {
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n"));
    client
}
