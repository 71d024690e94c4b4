//! Connections that become tunnels, and answers before the answer.

use std::time::{Duration, Instant};

use super::{another_key, customer_of, open_gateway, route, upstream_at, usage_row, used};
use crate::support::{Answer, Customer, RawClient, StubUpstream, TestGateway, until};

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

// === tunnels ===

#[test]
fn an_upgrade_is_a_tunnel_from_101_until_both_sides_have_ended_and_is_charged_and_recorded_once() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    upstream.answer(|_| Answer::Tunnel([SWITCHING, b"welcome"].concat()));
    let mut client = ask(&gateway, "/", "websocket", Some(&customer));
    // Too early, and meant for the tunnel all the same.
    client.send("early");
    let response = client.response();
    assert_eq!(response.status, 101);
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "x")]
    {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let seen = upstream.last();
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(seen.header("x-tenant-id"), Some(customer.tenant_id.as_str()));
    assert_eq!(seen.header("x-api-key"), None);
    assert_eq!(client.bytes(12), b"welcomeearly");
    let large = vec![7; 300_000];
    for message in [&b"GET / HTTP/1.1\r\n\r\n"[..], &large, b"!"] {
        client.send(message);
        assert_eq!(client.bytes(message.len()), message);
    }
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
    client.send("last").finish();
    assert_eq!(client.bytes(4), b"last");
    assert!(client.is_closed());
    let (sent, echoed) = (5 + 18 + 300_000 + 1 + 4, 7 + 5 + 18 + 300_000 + 1 + 4);
    assert_eq!(usage_row(&gateway, &customer), ("answered".to_owned(), sent, echoed));
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
}

#[test]
fn an_upgrade_that_the_upstream_does_not_take_is_an_ordinary_request() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut client = ask(&gateway, "/", "websocket", None);
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.get("/", "").text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upgrade_that_could_smuggle_is_not_passed_on() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    for lines in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nupgrade: other\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n",
        "upgrade: websocket\r\n",
    ] {
        let body = match lines {
            chunked if chunked.contains("chunked") => "1\r\nx\r\n0\r\n\r\n",
            sized if sized.contains("content-length") => "x",
            _ => "",
        };
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}"));
        assert_eq!(client.response().status, 200, "{lines}");
        let seen = upstream.last();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.header(name), None, "{lines}");
        }
    }
}

#[test]
fn a_tunnel_that_nobody_uses_is_closed() {
    let upstream = StubUpstream::answering(|_| Answer::Tunnel(SWITCHING.to_vec()));
    let config = upstream_at(&[upstream.address()], "timeouts = { idle = \"300ms\" }")
        + &route("all", "/", "public = true\ntimeout = \"100ms\"");
    let gateway = TestGateway::start_with(&config);
    let mut client = ask(&gateway, "/", "chat/2", None);
    assert_eq!(client.response().status, 101);
    for _ in 0..20 {
        client.send("still here");
        assert_eq!(client.bytes(10), b"still here");
    }
    assert!(client.is_closed());
    until("the upstream's side is closed too", || (upstream.open() == 0).then_some(()));
}

#[test]
fn a_tunnel_ends_when_either_side_breaks() {
    let upstream = StubUpstream::answering(|_| Answer::Reset(SWITCHING.to_vec()));
    let gateway = open_gateway(&upstream, "");
    assert!(ask(&gateway, "/", "websocket", None).response().status == 101);
    upstream.answer(|_| Answer::Tunnel(SWITCHING.to_vec()));
    let mut client = ask(&gateway, "/", "websocket", None);
    assert_eq!(client.response().status, 101);
    drop(client);
    until("both upstream connections are closed", || (upstream.open() == 0).then_some(()));
    until("and ours", || (gateway.metric("tollgate_connections", "") == 0.0).then_some(()));
}

#[test]
fn a_drain_sends_web_sockets_elsewhere_at_the_end_of_a_frame_and_records_them() {
    let (upstream, mut gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    upstream.answer(|_| Answer::Tunnel(SWITCHING.to_vec()));
    let [mut idle, mut amid] = [(); 2].map(|()| ask(&gateway, "/", "websocket", Some(&customer)));
    // A server's frame of five bytes, of which two are still to come.
    let (begin, end) = (&b"\x81\x05hel"[..], &b"lo"[..]);
    assert_eq!([idle.response().status, amid.send(begin).response().status], [101, 101]);
    assert_eq!(amid.bytes(5), begin);

    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(idle.bytes(4), b"\x88\x02\x03\xe9");
    amid.send(end);
    assert_eq!(amid.bytes(6), b"lo\x88\x02\x03\xe9");
    assert!(idle.is_closed() && amid.is_closed());
    assert!(gateway.ended().success());
    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 2);
    let answered = || {
        let rows = gateway.usage_rows(&customer);
        let answered = rows.iter().filter(|row| row["outcome"] == "answered");
        answered.filter_map(|row| row["requests"].as_u64()).sum::<u64>()
    };
    until("both are in the log", || (answered() == 2).then_some(()));
}

#[test]
fn whose_tenant_is_suspended_or_whose_key_is_revoked_goes_on_for_the_grace_and_no_longer() {
    let (upstream, gateway, customer) = customer_of(
        &("[identity]\nsuspend_grace = \"1s\"\n".to_owned()
            + &route("all", "/", "charge = { api_calls = 1 }")),
    );
    let other = gateway.customer("Other", "free");
    upstream.answer(|request| match request.start.split(' ').nth(1) {
        Some("/socket") => Answer::Tunnel(SWITCHING.to_vec()),
        Some("/stream") => {
            let begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n".to_vec();
            Answer::Raw(begin).then(Answer::Hang)
        }
        _ => Answer::Hang,
    });
    let begin = |path: &str, key: &str| {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n"));
        client
    };
    for revoke in [true, false] {
        let mine = another_key(&gateway, &customer, &[]);
        let mut socket = ask(&gateway, "/socket", "websocket", Some(&mine));
        let mut stays = ask(&gateway, "/socket", "websocket", Some(&other));
        assert_eq!([socket.response().status, stays.response().status], [101, 101]);
        let (mut answer, mut silence) = (begin("/stream", &mine.key), begin("/silence", &mine.key));
        until("all are at the upstream", || (upstream.open() >= 4).then_some(()));
        let since = Instant::now();
        if revoke {
            gateway.json(&["key", "revoke", &mine.key_id]);
        } else {
            let reason = ["--reason", "unpaid"];
            gateway.json(&[&["tenant", "status", &customer.slug, "suspended"][..], &reason].concat());
        }
        assert_eq!(silence.response().status, if revoke { 401 } else { 403 });
        assert!(since.elapsed() >= Duration::from_secs(1), "the grace: {:?}", since.elapsed());
        assert_eq!(socket.bytes(4), b"\x88\x02\x03\xf0");
        assert!(socket.is_closed());
        assert!(answer.try_response("GET").is_err(), "an answer that is cut off is no whole one");
        stays.send(b"\x81\x05hello");
        assert_eq!(stays.bytes(7), b"\x81\x05hello");
    }
}

// === answers before the answer ===

#[test]
fn interim_answers_reach_the_client_as_they_come_but_not_one_that_does_not_know_them() {
    let upstream = StubUpstream::answering(|_| {
        let hints =
            b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n".to_vec();
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        Answer::Raw(hints).then(Answer::Raw(go_on)).then(Answer::ok("ok"))
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let expected = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 ";
    assert_eq!(client.bytes(expected.len()), expected);
    let mut old = gateway.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.bytes(13), b"HTTP/1.1 200 ");
}

#[test]
fn an_upstream_that_never_comes_to_its_answer_is_given_up() {
    let upstream = StubUpstream::answering(|_| {
        Answer::Raw(b"HTTP/1.1 102 Processing\r\n\r\n".repeat(33)).then(Answer::Hang)
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().status, 502);
}

// === instruments ===

fn ask(gateway: &TestGateway, path: &str, protocol: &str, customer: Option<&Customer>) -> RawClient {
    let key = customer.map_or(String::new(), |customer| format!("x-api-key: {}\r\n", customer.key));
    let mut client = gateway.client();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\n{key}connection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\r\n"
    ));
    client
}
