//! The fifth door: endpoints that fail get no requests until they are well again.

use super::upstream::{ask, gateway_at, get};
use super::{open_gateway, route, upstream_at};
use crate::support::{Answer, Recorded, Response, StubUpstream, TestAuthority, TestGateway, TlsFront, until};

#[test]
fn an_endpoint_that_fails_in_a_row_is_ejected_and_used_again_when_it_is_well() {
    let [bad, good] = [StubUpstream::answering(|_| Answer::Close(Vec::new())), StubUpstream::start()];
    let more = "health = { eject_after = 3, eject_for = \"1s\" }";
    let gateway = gateway_at(&[bad.address(), good.address()], more);
    let mut client = gateway.client();
    let statuses: Vec<_> = (0..40).map(|_| post(&mut client).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
    assert_eq!(bad.count(), 3);
    let own = format!("endpoint=\"{}\"", bad.address());
    assert_eq!(gateway.metric("tollgate_upstream_ejections_total", &own), 1.0);
    assert_eq!(gateway.metric("tollgate_upstream_failures_total", &own), 3.0);
    until("metrics and readiness tell", || {
        (gateway.metric("tollgate_upstream_endpoint_healthy", &own) == 0.0).then_some(())?;
        let said = format!("upstream `stub`: 1 of 2 endpoints are out: {} ejected", bad.address());
        gateway.admin_text("/readyz").contains(&said).then_some(())
    });
    bad.answer(|_| Answer::ok("ok"));
    until("it is used again", || {
        assert_eq!(post(&mut client).status, 200);
        (bad.count() > 3).then_some(())
    });
    until("readiness tells", || (!gateway.admin_text("/readyz").contains("ejected")).then_some(()));
}

#[test]
fn answers_that_say_the_endpoint_can_not_serve_eject_it_and_others_do_not() {
    for (status, is_ejected) in [(503, true), (502, true), (504, true), (500, false), (404, false)] {
        let [bad, good] =
            [StubUpstream::answering(move |_| Answer::status(status, "")), StubUpstream::start()];
        let gateway =
            gateway_at(&[bad.address(), good.address()], "health = { eject_after = 2, eject_for = \"1h\" }");
        let mut client = gateway.client();
        (0..20).for_each(|_| drop(post(&mut client)));
        assert_eq!(bad.count() == 2, is_ejected, "{status}: {} requests", bad.count());
    }
}

#[test]
fn the_last_endpoint_is_not_ejected_unless_that_is_allowed() {
    let upstream = StubUpstream::answering(|_| Answer::Close(Vec::new()));
    let gateway = gateway_at(&[upstream.address()], "health = { eject_after = 1 }");
    let mut client = gateway.client();
    (0..5).for_each(|_| assert_eq!(post(&mut client).status, 502));

    let gateway = gateway_at(&[upstream.address()], "health = { eject_after = 1, eject_percent_max = 100 }");
    let mut client = gateway.client();
    assert_eq!(post(&mut client).status, 502);
    let before = upstream.count();
    for _ in 0..3 {
        must_be_unavailable(&post(&mut client));
    }
    assert_eq!(upstream.count(), before);
    assert_eq!(gateway.metric("tollgate_refusals_total", "reason=\"upstream_unhealthy\""), 3.0);
}

#[test]
fn an_endpoint_whose_checks_fail_gets_no_requests_until_they_pass() {
    let upstream = StubUpstream::start();
    let checks = "health = { path = \"/up\", host = \"checked.test\", interval = \"100ms\", healthy_after = 2, unhealthy_after = 2 }";
    let gateway = gateway_at(&[upstream.address()], checks);
    until("it is asked", || checked(&upstream).pop());
    let asked = &checked(&upstream)[0];
    assert_eq!((asked.method(), asked.header("host")), ("GET", Some("checked.test")));
    assert_eq!(get(&gateway, "/").status, 200);

    upstream.answer(|request| if is_check(request) { Answer::status(500, "") } else { Answer::ok("ok") });
    until("it is found unhealthy", || (get(&gateway, "/").status == 503).then_some(()));
    must_be_unavailable(&get(&gateway, "/"));
    let own = format!("endpoint=\"{}\"", upstream.address());
    until("metrics and readiness tell", || {
        (gateway.metric("tollgate_upstream_endpoint_healthy", &own) == 0.0).then_some(())?;
        gateway.admin_text("/readyz").contains(&format!("{} unhealthy", upstream.address())).then_some(())
    });
    assert!(gateway.metric("tollgate_upstream_health_checks_total", "result=\"failed\"") >= 2.0);

    upstream.answer(|_| Answer::ok("ok"));
    until("it is found healthy again", || (get(&gateway, "/").status == 200).then_some(()));
    upstream.answer(|request| if is_check(request) { Answer::Hang } else { Answer::ok("ok") });
    gateway.configure(
        &(upstream_at(&[upstream.address()], &checks.replace("host", "timeout = \"100ms\", host"))
            + &route("all", "/", "public = true")),
    );
    gateway.hang_up();
    until("checks that hang are failed ones", || (get(&gateway, "/").status == 503).then_some(()));
    // Without checks nobody would find it healthy again.
    gateway.configure(&(upstream_at(&[upstream.address()], "") + &route("all", "/", "public = true")));
    gateway.hang_up();
    until("nobody asks any more", || (get(&gateway, "/").status == 200).then_some(()));
}

#[test]
fn what_a_good_answer_to_a_check_is_can_be_said() {
    let upstream =
        StubUpstream::answering(
            |request| {
                if is_check(request) { Answer::status(401, "") } else { Answer::ok("ok") }
            },
        );
    let checks = "health = { path = \"/up\", statuses = [401], interval = \"50ms\", unhealthy_after = 1 }";
    let gateway = gateway_at(&[upstream.address()], checks);
    until("it passes", || {
        (gateway.metric("tollgate_upstream_health_checks_total", "result=\"passed\"") > 2.0).then_some(())
    });
    assert_eq!(get(&gateway, "/").status, 200);
}

#[test]
fn checks_are_spoken_as_requests_are_http_2_and_tls_included() {
    let stub = StubUpstream::start();
    let behind = open_gateway(&stub, "");
    let authority = TestAuthority::new("them");
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(files.path(), "ca.pem");
    let issued = authority.issue(&["localhost"]);
    let front = TlsFront::before(behind.proxy(), &issued, &["h2", "http/1.1"], None);
    for (url, tls) in [
        (format!("h2c://{}", behind.proxy()), String::new()),
        (format!("https://localhost:{}", front.port()), format!("tls = {{ ca = {ca:?} }}")),
    ] {
        stub.answer(|_| Answer::ok("ok"));
        let health =
            "health = { path = \"/up\", interval = \"50ms\", unhealthy_after = 2, healthy_after = 1 }";
        let upstream = format!("[[upstream]]\nname = \"stub\"\nurls = [\"{url}\"]\n{health}\n{tls}\n");
        let gateway = TestGateway::start_with(&(upstream + &route("all", "/", "public = true")));
        let passed = || gateway.metric("tollgate_upstream_health_checks_total", "result=\"passed\"");
        until("checks pass", || (passed() > 2.0).then_some(()));
        assert_eq!(get(&gateway, "/").status, 200, "{url}");
        stub.answer(|request| if is_check(request) { Answer::status(503, "") } else { Answer::ok("ok") });
        until("checks fail", || (get(&gateway, "/").status == 503).then_some(()));
    }
}

#[track_caller]
fn must_be_unavailable(response: &Response) {
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(response.json()["type"], "/problems/upstream-unavailable");
    assert!(response.json()["request_id"].is_string());
}

fn post(client: &mut crate::support::RawClient) -> Response {
    ask(client, "POST", "/")
}

fn is_check(request: &Recorded) -> bool {
    request.target() == "/up"
}

fn checked(upstream: &StubUpstream) -> Vec<Recorded> {
    upstream.recorded().into_iter().filter(is_check).collect()
}
