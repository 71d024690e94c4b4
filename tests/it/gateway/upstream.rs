//! The fifth door: the services behind the gateway, when they fail and when there are several.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{customer_of, open_gateway, route, upstream_at, used};
use crate::support::{Answer, RawClient, Response, StubUpstream, TestGateway, until};

// === failures ===

#[test]
fn an_upstream_that_can_not_be_reached_is_502_and_worth_a_retry() {
    let gateway = gateway_at(&[closed_port()], "");
    let response = get(&gateway, "/");
    assert_eq!((response.status, response.header("retry-after")), (502, Some("1")));
    assert_eq!(response.json()["type"], "/problems/upstream-unreachable");
    assert_eq!(response.header("connection"), None);
    let response = gateway.client().request(&["POST / HTTP/1.1", "host: a"], b"body");
    assert_eq!(response.status, 502);
}

#[test]
fn an_outage_fills_no_log() {
    let gateway = gateway_at(&[closed_port()], "");
    let mut client = gateway.client();
    for _ in 0..50 {
        assert_eq!(client.request(&["GET / HTTP/1.1", "host: a"], b"").status, 502);
    }
    let lines = gateway.log().matches("can't be reached").count();
    assert!((1..10).contains(&lines), "{lines} lines for 50 requests");
    assert_eq!(gateway.metric("tollgate_upstream_connect_failures_total", ""), 50.0);
}

#[test]
fn an_upstream_that_takes_too_long_is_504() {
    let upstream = StubUpstream::answering(|_| Answer::Hang);
    let upstream_section = upstream_at(&[upstream.address()], "timeouts = { first_byte = \"200ms\" }");
    let by_route = upstream_at(&[upstream.address()], "").replace("\"stub\"", "\"patient\"");
    let routes = [
        route("upstream", "/upstream", "public = true"),
        route("route", "/route", "public = true\ntimeout = \"200ms\"").replace("\"stub\"", "\"patient\""),
    ];
    let gateway = TestGateway::start_with(&[upstream_section, by_route, routes.concat()].concat());
    for path in ["/upstream", "/route"] {
        let mut client = gateway.client();
        let response = client.request(&[&format!("GET {path} HTTP/1.1"), "host: a"], b"");
        assert_eq!(response.status, 504, "{path}");
        assert_eq!(response.json()["type"], "/problems/upstream-timeout");
        // The client's connection is as good as before.
        assert_eq!(client.request(&[&format!("GET {path} HTTP/1.1"), "host: a"], b"").status, 504);
        assert_eq!(
            gateway.client().request(&[&format!("POST {path} HTTP/1.1"), "host: a"], b"x").status,
            504
        );
    }
    assert_eq!(upstream.count(), 6, "none was tried again");
}

#[test]
fn an_upstream_that_takes_no_connection_is_504() {
    let full = FullBacklog::new();
    let gateway = gateway_at(&[full.address], "timeouts = { connect = \"200ms\" }");
    let response = get(&gateway, "/");
    assert_eq!(
        (response.status, response.json()["type"].as_str()),
        (504, Some("/problems/upstream-timeout"))
    );
    let good = StubUpstream::start();
    let gateway = gateway_at(&[full.address, good.address()], "timeouts = { connect = \"200ms\" }");
    (0..4).for_each(|_| assert_eq!(get(&gateway, "/").status, 200));
}

#[test]
fn an_answer_that_pauses_too_long_is_cut_off() {
    let upstream = StubUpstream::answering(|_| {
        Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()).then(Answer::Hang)
    });
    let gateway = gateway_at(&[upstream.address()], "timeouts = { idle = \"200ms\" }");
    let mut client = gateway.client();
    assert!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").try_response("GET").is_err());
}

#[test]
fn an_answer_that_is_no_http_is_502_and_nothing_of_it_reaches_the_client() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let long = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 70 << 10], b"\r\n\r\n".to_vec()].concat();
    for answer in [
        &b""[..],
        b"SECRET\r\n\r\n",
        b"HTTP/1.1 200 SECRET\r\n",
        b"HTTP/2.0 200 SECRET\r\n\r\n",
        b"HTTP/1.1 2000 SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: SECRET\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-length: 7\r\n\r\nSECRET",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nSECRET",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n6\r\nSECRET\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n6\r\nSECRET\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: SECRET\r\nconnection: upgrade\r\n\r\n",
        &long,
    ] {
        let shown = answer[..answer.len().min(60)].escape_ascii();
        let bytes = answer.to_vec();
        upstream.answer(move |_| Answer::Close(bytes.clone()));
        let mut client = gateway.client();
        let response = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response();
        assert_eq!(response.status, 502, "{shown}");
        assert_eq!(response.json()["type"], "/problems/upstream-broke", "{shown}");
        assert!(!String::from_utf8_lossy(&response.message.raw).contains("SECRET"), "{shown}");
        upstream.answer(|_| Answer::ok("next"));
        assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().text(), "next", "{shown}");
    }
}

#[test]
fn an_answer_nobody_asked_for_is_nobodys_answer() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let smuggled =
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for method in ["GET", "HEAD"] {
        upstream.answer(|_| Answer::Raw(smuggled.to_vec()));
        let mut client = gateway.client();
        let response = client.request(&[&format!("{method} / HTTP/1.1"), "host: a"], b"");
        assert_eq!(response.text(), if method == "GET" { "ok" } else { "" });
        upstream.answer(|_| Answer::ok("mine"));
        for _ in 0..3 {
            assert_eq!(ask(&mut client, "GET", "/").text(), "mine");
        }
    }
}

// === pooled connections ===

#[test]
fn a_connection_that_was_closed_meanwhile_is_exchanged_for_what_may_be_repeated() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    let key = format!("x-api-key: {}", customer.key);
    for (method, body, status, arrivals) in [
        ("GET", "", 200, 2),
        ("HEAD", "", 200, 2),
        ("DELETE", "", 200, 2),
        ("POST", "", 502, 1),
        ("PATCH", "", 502, 1),
        // The body is at hand.
        ("PUT", "body", 200, 2),
    ] {
        let mut client = gateway.client();
        upstream.answer(|_| Answer::ok(""));
        let head = [&format!("{method} / HTTP/1.1"), "host: a", &key];
        assert_eq!(client.request(&["GET / HTTP/1.1", "host: a", &key], b"").status, 200);
        let (before, units) = (upstream.count(), used(&gateway, &customer, "api_calls"));
        close_once(&upstream);
        assert_eq!(client.request(&head, body.as_bytes()).status, status, "{method}");
        assert_eq!(upstream.count() - before, arrivals, "{method}");
        until("it is charged once, however often it arrived", || {
            (used(&gateway, &customer, "api_calls") == units + 1).then_some(())
        });
    }
}

#[test]
fn a_new_connection_that_breaks_is_not_tried_again_without_retries() {
    let upstream = StubUpstream::answering(|_| Answer::Close(Vec::new()));
    let gateway = gateway_at(&[upstream.address()], "retry = { attempts = 0 }");
    assert_eq!(get(&gateway, "/").status, 502);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_upstream_that_closes_after_each_answer_is_served_all_the_same() {
    let upstream = StubUpstream::answering(|_| {
        Answer::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "GET", "/").text(), "ok");
    }
    upstream.answer(|_| {
        Answer::Close(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec())
    });
    assert_eq!(ask(&mut client, "GET", "/").text(), "ok");
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "POST", "/").text(), "ok", "it said so, so nothing was sent there");
    }
}

#[test]
fn connections_are_used_again_and_pooled_no_longer_than_they_may_be() {
    let upstream = StubUpstream::start();
    let gateway = gateway_at(&[upstream.address()], "pool = { idle_timeout = \"500ms\" }");
    let mut client = gateway.client();
    (0..10).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
    assert_eq!(upstream.connections(), 1);
    until("the idle connection is given up", || upstream.open().eq(&0).then_some(()));
    assert_eq!(ask(&mut client, "GET", "/").status, 200);
    assert_eq!(upstream.connections(), 2);

    let gateway = gateway_at(&[upstream.address()], "pool = { idle_max = 0 }");
    let before = upstream.connections();
    (0..10).for_each(|_| assert_eq!(get(&gateway, "/").status, 200));
    assert_eq!(upstream.connections() - before, 10);
}

// === several endpoints ===

#[test]
fn endpoints_take_turns() {
    let upstreams = [StubUpstream::start(), StubUpstream::start(), StubUpstream::start()];
    let gateway = gateway_at(&upstreams.each_ref().map(StubUpstream::address), "");
    let mut client = gateway.client();
    (0..30).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
    assert_eq!(upstreams.each_ref().map(StubUpstream::count), [10, 10, 10]);
    assert_eq!(upstreams.each_ref().map(StubUpstream::connections), [1, 1, 1]);
}

#[test]
fn an_endpoint_that_is_dead_costs_no_request() {
    let upstreams = [StubUpstream::start(), StubUpstream::start()];
    let [first, second] = upstreams.each_ref().map(StubUpstream::address);
    let gateway = gateway_at(&[first, closed_port(), second], "");
    let mut client = gateway.client();
    for _ in 0..15 {
        assert_eq!(ask(&mut client, "GET", "/").status, 200);
        assert_eq!(client.request(&["POST / HTTP/1.1", "host: a"], b"body").status, 200);
    }
    let counts = upstreams.each_ref().map(StubUpstream::count);
    assert_eq!(counts.iter().sum::<usize>(), 30);
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
    let tries = gateway.metric("tollgate_upstream_connect_failures_total", "");
    assert!((1.0..5.0).contains(&tries), "a dead endpoint rests; it was tried {tries} times");
}

#[test]
fn an_endpoint_that_comes_back_is_used_again() {
    let upstream = StubUpstream::start();
    let reserved = closed_port();
    let gateway = gateway_at(&[reserved, upstream.address()], "timeouts = { connect = \"100ms\" }");
    let mut client = gateway.client();
    (0..4).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
    let listener = TcpListener::bind(reserved).unwrap();
    listener.set_nonblocking(true).unwrap();
    until("it is tried again", || {
        // Whoever gets there waits for an answer that the listener never gives.
        let _ = client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        listener.accept().ok()
    });
}

// === instruments ===

#[track_caller]
pub(super) fn gateway_at(addresses: &[SocketAddr], more: &str) -> TestGateway {
    TestGateway::start_with(&(upstream_at(addresses, more) + &route("all", "/", "public = true")))
}

#[track_caller]
pub(super) fn get(gateway: &TestGateway, path: &str) -> Response {
    ask(&mut gateway.client(), "GET", path)
}

#[track_caller]
pub(super) fn ask(client: &mut RawClient, method: &str, path: &str) -> Response {
    client.request(&[&format!("{method} {path} HTTP/1.1"), "host: a"], b"")
}

/// The next request finds its connection closed; those after it are answered.
fn close_once(upstream: &StubUpstream) {
    let seen = AtomicUsize::new(0);
    upstream.answer(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Close(Vec::new()),
        _ => Answer::ok(""),
    });
}

/// A listener whose backlog is full: whoever connects hears nothing.
struct FullBacklog {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullBacklog {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket());
        let address = address.expect("a bound socket has an address");
        let mut waiting = Vec::new();
        loop {
            let client = socket();
            let connected = client.connect_timeout(&address.into(), Duration::from_millis(300));
            waiting.push(client);
            if connected.is_err() {
                return FullBacklog { address, _listener: listener, _waiting: waiting };
            }
        }
    }
}

/// Where nobody listens.
pub(super) fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
