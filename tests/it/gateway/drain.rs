//! The end: what runs is finished, nothing new is begun, and nothing is lost.

use rustix::process::Signal;

use super::{customer_of, open_gateway, route, used};
use crate::support::{Answer, Gate, RawClient, StubUpstream, TestGateway, until};

#[test]
fn a_drain_finishes_what_runs_refuses_what_is_new_and_keeps_the_books() {
    let (upstream, mut gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    let gate = Gate::default();
    let answer = Answer::ok("late").when(&gate);
    upstream.answer(move |_| answer.clone());
    let mut idle = gateway.client();
    let mut silent = gateway.client();
    assert_eq!(idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().status, 401);
    let mut running = gateway.client();
    running.send(customer.request());
    until("the request is at the upstream", || (upstream.count() == 1).then_some(()));

    gateway.signal(Signal::TERM);
    refuses_connections(&gateway);
    assert!(gateway.admin_text("/readyz").contains("shutting down"));
    assert!(idle.is_closed() && silent.is_closed());
    gate.open();
    let response = running.response();
    assert_eq!((response.text(), response.header("connection")), ("late".to_owned(), Some("close")));
    assert!(running.is_closed());
    assert!(gateway.ended().success());

    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
}

#[test]
fn a_drain_finishes_a_stream_and_a_body_that_have_begun() {
    let gate = Gate::default();
    let upstream = StubUpstream::start();
    let rest = Answer::Raw(b"-end".to_vec()).when(&gate);
    upstream.answer(move |request| match request.method() {
        "GET" => {
            Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegin".to_vec()).then(rest.clone())
        }
        _ => Answer::echo(request),
    });
    let mut gateway = open_gateway(&upstream, "");
    let mut download = gateway.client();
    download.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut upload = gateway.client();
    upload.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo");
    until("both are on their way", || (upstream.connections() == 2 && upstream.count() == 1).then_some(()));

    gateway.signal(Signal::TERM);
    refuses_connections(&gateway);
    assert_eq!(upload.send("dy").response().text(), "body");
    gate.open();
    assert_eq!(download.response().text(), "begin-end");
    assert!(gateway.ended().success());
}

#[test]
fn a_gateway_without_requests_ends_at_once() {
    let upstream = StubUpstream::start();
    let mut gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().status, 200);
    assert!(gateway.terminate().success());
    assert!(client.is_closed());
}

#[test]
fn a_second_signal_ends_at_once_and_what_was_sent_is_counted() {
    let (upstream, mut gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    upstream.answer(|_| Answer::Hang);
    let mut client = gateway.client();
    client.send(customer.request());
    until("the request is at the upstream", || (upstream.count() == 1).then_some(()));
    gateway.signal(Signal::TERM);
    refuses_connections(&gateway);
    gateway.signal(Signal::INT);
    gateway.ended();
    assert!(client.try_response("GET").is_err());
    assert!(gateway.log().contains("a second signal"));

    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
}

#[track_caller]
fn refuses_connections(gateway: &TestGateway) {
    until("new connections are refused", || RawClient::try_connect(gateway.proxy()).is_err().then_some(()));
}
