//! The fifth door: which requests are tried again, how often, and that it costs nobody anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::upstream::{ask, closed_port, gateway_at, get};
use super::{route, upstream_at, used};
use crate::support::{Answer, Http2Client, StubUpstream, TestGateway, until};

#[test]
fn a_request_that_breaks_before_its_answer_is_made_good_elsewhere_and_charged_once() {
    let [bad, good] = [StubUpstream::answering(|_| Answer::Close(Vec::new())), StubUpstream::start()];
    let upstreams = upstream_at(
        &[bad.address(), good.address()],
        "health = { eject_after = 0 }\nretry = { budget_percent = 100 }",
    );
    let gateway = TestGateway::start_with(&(upstreams + &route("all", "/", "charge = { api_calls = 1 }")));
    let customer = gateway.customer("Acme", "free");
    let mut client = gateway.client();
    let mut new = Http2Client::connect(gateway.proxy());
    for _ in 0..10 {
        assert_eq!(client.get("/", &customer.key).status, 200);
        assert_eq!(new.get("/", &[&format!("x-api-key: {}", customer.key)]).status, 200);
    }
    assert_eq!(good.count(), 20);
    assert!((5..=15).contains(&bad.count()), "{} were tried there first", bad.count());
    assert_eq!(used(&gateway, &customer, "api_calls"), 20);
    let requests = |row: &Value| row["requests"].as_u64().expect("a number");
    until("one record each", || {
        (gateway.usage_rows(&customer).iter().map(requests).sum::<u64>() == 20).then_some(())
    });
    assert_eq!(gateway.metric("tollgate_upstream_retries_total", "upstream=\"stub\""), bad.count() as f64);
}

#[test]
fn what_may_not_arrive_twice_is_sent_once() {
    let bad = [StubUpstream::start(), StubUpstream::start()];
    bad.iter().for_each(|stub| stub.answer(|_| Answer::Close(Vec::new())));
    let gateway = gateway_at(&addresses(&bad), "retry = { attempts = 3 }");
    for method in ["POST", "PATCH", "PURGE"] {
        let before = count(&bad);
        assert_eq!(ask(&mut gateway.client(), method, "/").status, 502, "{method}");
        assert_eq!(count(&bad) - before, 1, "{method}");
    }
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let bad = [StubUpstream::start(), StubUpstream::start()];
    for stub in &bad {
        stub.answer(|_| Answer::Reset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()));
    }
    let gateway = gateway_at(&addresses(&bad), "retry = { attempts = 3 }");
    let mut client = gateway.client();
    assert!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").try_response("GET").is_err());
    assert_eq!(count(&bad), 1);
}

#[test]
fn a_body_that_was_kept_is_sent_again_byte_for_byte() {
    for framing in ["content-length: 60000\r\n", "transfer-encoding: chunked\r\n"] {
        let [bad, good] = [StubUpstream::answering(|_| Answer::Close(Vec::new())), StubUpstream::start()];
        good.answer(Answer::echo);
        let gateway = gateway_at(
            &[bad.address(), good.address()],
            "retry = { budget_percent = 100 }\nhealth = { eject_after = 0 }",
        );
        let body: Vec<u8> = (0..60_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let mut client = gateway.client();
        for _ in 0..6 {
            client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\n{framing}\r\n"));
            match framing.starts_with("content") {
                true => body.chunks(7_000).for_each(|piece| _ = client.send(piece)),
                false => {
                    for piece in body.chunks(7_000) {
                        client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                    }
                    client.send("0\r\n\r\n");
                }
            }
            let response = client.response();
            assert!(
                response.status == 200 && response.message.body == body,
                "{framing}: {}",
                response.status
            );
        }
        assert!(bad.count() > 0, "{framing}");
    }
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_sent_once() {
    let bad = [StubUpstream::start(), StubUpstream::start()];
    bad.iter().for_each(|stub| stub.answer(|_| Answer::Close(Vec::new())));
    let gateway = gateway_at(&addresses(&bad), "retry = { body_bytes = 1000 }");
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").send(vec![b'x'; 100_000]);
    assert_eq!(client.response().status, 502);
    assert_eq!(count(&bad), 1);
}

#[test]
fn retries_are_a_tenth_of_requests_and_not_a_storm() {
    let bad = StubUpstream::answering(|_| Answer::Close(Vec::new()));
    let gateway = gateway_at(&[bad.address()], "retry = { attempts = 3 }");
    let mut client = gateway.client();
    (0..100).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 502));
    let retries = bad.count() - 100;
    assert!((1..=13).contains(&retries), "{retries} retries of 100 requests");
    assert_eq!(gateway.metric("tollgate_upstream_retries_total", ""), retries as f64);
    assert!(gateway.metric("tollgate_upstream_retries_denied_total", "") > 50.0);
}

#[test]
fn answers_that_are_listed_are_asked_for_elsewhere_and_passed_on_where_there_is_no_other() {
    let [bad, good] = [StubUpstream::answering(|_| Answer::status(503, "bad")), StubUpstream::start()];
    let more = "retry = { statuses = [503], budget_percent = 100 }\nhealth = { eject_after = 0 }";
    let gateway = gateway_at(&[bad.address(), good.address()], more);
    let mut client = gateway.client();
    (0..10).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").text(), "ok"));
    let before = bad.count();
    assert!(before > 0);
    let posts: Vec<_> = (0..10).map(|_| ask(&mut client, "POST", "/").status).collect();
    assert_eq!(posts.iter().filter(|status| **status == 503).count(), bad.count() - before, "{posts:?}");

    let gateway = gateway_at(&[bad.address()], more);
    let before = bad.count();
    let response = get(&gateway, "/");
    assert_eq!((response.status, response.text()), (503, "bad".into()));
    assert_eq!(bad.count() - before, 2);
}

#[test]
fn a_try_that_is_late_is_made_good_elsewhere_and_the_last_one_has_all_the_time() {
    let [hung, good] = [StubUpstream::answering(|_| Answer::Hang), StubUpstream::start()];
    let more = "retry = { try_timeout = \"100ms\", budget_percent = 100 }\ntimeouts = { first_byte = \"1s\" }\nhealth = { eject_after = 0 }";
    let gateway = gateway_at(&[hung.address(), good.address()], more);
    let mut client = gateway.client();
    (0..6).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
    assert!(hung.count() > 0);

    let slow = StubUpstream::answering(|_| Answer::ok("late").after(Duration::from_millis(500)));
    let gateway = gateway_at(&[slow.address()], more);
    assert_eq!(get(&gateway, "/").text(), "late");
    assert_eq!(slow.count(), 2, "the second try was the last one, and nobody cut it short");

    let gateway = gateway_at(&[hung.address()], more);
    let (before, began) = (hung.count(), Instant::now());
    assert_eq!(get(&gateway, "/").status, 504);
    assert_eq!(hung.count() - before, 2);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn all_tries_together_have_the_routes_time() {
    let hung = [StubUpstream::start(), StubUpstream::start()];
    hung.iter().for_each(|stub| stub.answer(|_| Answer::Hang));
    let more = "retry = { try_timeout = \"200ms\", attempts = 10, budget_percent = 100 }";
    let upstreams = upstream_at(&addresses(&hung), more);
    let gateway =
        TestGateway::start_with(&(upstreams + &route("all", "/", "public = true\ntimeout = \"500ms\"")));
    assert_eq!(get(&gateway, "/").status, 504);
    assert!((1..=3).contains(&count(&hung)), "{}", count(&hung));
}

#[test]
fn an_endpoint_that_can_not_be_reached_costs_no_retry() {
    let good = StubUpstream::start();
    let gateway = gateway_at(&[closed_port(), good.address()], "retry = { attempts = 0 }");
    let mut client = gateway.client();
    for method in ["GET", "POST"] {
        (0..10).for_each(|_| assert_eq!(ask(&mut client, method, "/").status, 200));
    }
    assert_eq!(gateway.metric("tollgate_upstream_retries_total", ""), 0.0);
}

fn addresses(stubs: &[StubUpstream]) -> Vec<SocketAddr> {
    stubs.iter().map(StubUpstream::address).collect()
}

fn count(stubs: &[StubUpstream]) -> usize {
    stubs.iter().map(StubUpstream::count).sum()
}
