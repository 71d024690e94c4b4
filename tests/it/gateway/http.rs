//! What is HTTP and what is not, through the real socket: nobody disagrees with us about where a request ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{open_gateway, route, upstream_at};
use crate::support::{Answer, Gate, PATIENCE, Recorded, StubUpstream, TestGateway, until};

/// A request that would be served, if anybody took the bytes before it for a request's end.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// More than the sockets between client and upstream hold together.
const UNBUFFERABLE_BYTES: usize = 64 << 20;

// === heads ===

#[test]
fn a_head_that_could_be_read_two_ways_is_refused_and_nothing_of_it_reaches_the_upstream() {
    check_refused(&[
        ("GET / HTTP/1.1\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:port\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX(): 1\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\n", 400),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /\r\nHost: a\r\n", 400),
        ("GET / HTTP/0.9\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n", 400),
        ("GET / ICY/1.1\r\nHost: a\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n", 505),
        ("GET / HTTP/3.0\r\nHost: a\r\n", 505),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7c}\r\n", 400),
    ]);
}

#[test]
fn a_target_that_is_no_path_of_this_host_is_refused() {
    check_refused(&[
        ("GET * HTTP/1.1\r\nHost: a\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET ?q HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /ü HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n", 501),
    ]);
}

#[test]
fn a_length_that_could_be_read_two_ways_is_refused_and_nothing_of_it_reaches_the_upstream() {
    check_refused(&[
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 200-ok\r\n", 417),
    ]);
}

#[test]
fn a_head_beyond_the_limits_is_refused() {
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(9 << 10));
    let endless_target = format!("GET /{}", "x".repeat(40 << 10));
    let lines = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(100));
    let too_many_to_parse = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(1000));
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "y".repeat(40 << 10));
    let method = format!("{} / HTTP/1.1\r\nHost: a\r\n", "M".repeat(100));
    check_refused(&[
        (&target, 414),
        (&endless_target, 414),
        (&lines, 431),
        (&too_many_to_parse, 431),
        (&bytes, 431),
        (&method, 400),
    ]);
}

#[test]
fn the_limits_of_heads_are_settings() {
    let limits = "header_bytes = 2000\nheaders = 8\ntarget_bytes = 64";
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(64));
    let lines = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(8));
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "y".repeat(2000));
    check_refused_within(limits, &[(&target, 414), (&lines, 431), (&bytes, 431)]);

    // A head that does not end is refused as soon as it is too long.
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, limits);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..20 {
        client.send(format!("X: {}", "y".repeat(100)));
    }
    assert_eq!(client.response().status, 431);
}

#[test]
fn a_head_at_the_limits_is_served() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let target = format!("/{}", "x".repeat((8 << 10) - 1));
    let line = format!("x-long: {}", "y".repeat(20 << 10));
    let lines = vec!["x: y"; 98];
    let heads = [&["GET / HTTP/1.1", "host: a"], &lines[..]].concat();
    let mut client = gateway.client();
    assert_eq!(client.request(&[&format!("GET {target} HTTP/1.1"), "host: a", &line], b"").status, 200);
    assert_eq!(upstream.last().target(), target);
    assert_eq!(client.request(&heads, b"").status, 200);
    assert_eq!(upstream.last().headers_named("x").count(), 98);
}

#[test]
fn a_head_is_understood_however_it_is_cut() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    for byte in "GET /cut HTTP/1.1\r\nHost: a\r\nX-Odd:  b \r\n\r\n".bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().status, 200);
    assert_eq!((upstream.last().target(), upstream.last().header("x-odd")), ("/cut", Some("b")));
}

#[test]
fn an_empty_line_before_a_request_and_a_whole_url_in_it_are_understood() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    client.send("\r\nGET http://A.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.send("\r\nGET /z HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen: Vec<String> = upstream.recorded().iter().map(|request| request.start.clone()).collect();
    assert_eq!(seen, ["GET /x?y HTTP/1.1", "GET /z HTTP/1.1"]);
}

// === connections ===

#[test]
fn pipelined_requests_are_answered_in_their_order_over_one_upstream_connection() {
    let upstream = StubUpstream::answering(|request| Answer::ok(request.target().to_owned()));
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    let requests: String = (0..50).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for index in 0..50 {
        assert_eq!(client.response().text(), format!("/{index}"));
    }
    assert_eq!((upstream.count(), upstream.connections()), (50, 1));
}

#[test]
fn a_connection_stays_open_as_its_version_and_its_options_say() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    for (head, connection) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, keep-alive\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X, CLOSE\r\n\r\n", Some("close")),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
        // A refusal keeps and ends connections in the same way.
        ("GET /keyed HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET /keyed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET /keyed HTTP/1.0\r\nHost: a\r\n\r\n", Some("close")),
        ("GET /keyed HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
    ] {
        let mut client = gateway.client();
        assert_eq!(client.send(head).response().header("connection"), connection, "{head}");
        match connection {
            Some("close") => assert!(client.is_closed(), "{head}"),
            _ => assert_eq!(client.send(head).response().header("connection"), connection, "again: {head}"),
        }
    }
}

#[test]
fn a_slow_head_is_answered_408_and_an_idle_connection_is_closed_without_a_word() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "header_timeout = \"200ms\"\nidle_timeout = \"500ms\"");
    let mut slow = gateway.client();
    let response = slow.send("GET / HTTP/1.1\r\nHost:").response();
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    assert!(slow.is_closed());

    let mut idle = gateway.client();
    assert_eq!(idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status, 200);
    assert!(idle.is_closed());
    let mut idle = gateway.client();
    assert_eq!(idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n").response().status, 200);
    assert!(idle.is_closed(), "an empty line begins no request");
    let mut silent = gateway.client();
    let end = silent.try_response("GET");
    assert!(end.is_err(), "{end:?}");
    assert_eq!(upstream.count(), 2);
}

// === answers ===

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let upstream = StubUpstream::answering(|request| {
        match request.target() {
        "/head" => Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx-a: b\r\n\r\n".to_vec()),
        "/head-chunked" => Answer::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        "/204" => Answer::status(204, ""),
        "/304" => Answer::Raw(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n".to_vec()),
        "/hints" => Answer::Raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                .to_vec(),
        ),
        _ => Answer::ok(""),
    }
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    for (method, target, status, length, body) in [
        ("HEAD", "/head", 200, Some("9"), ""),
        ("HEAD", "/head-chunked", 200, None, ""),
        ("GET", "/204", 204, None, ""),
        ("GET", "/304", 304, Some("9"), ""),
        ("GET", "/hints", 200, Some("2"), "ok"),
        ("GET", "/empty", 200, Some("0"), ""),
        ("HEAD", "/keyed", 401, None, ""),
    ] {
        let response = client.request(&[&format!("{method} {target} HTTP/1.1"), "host: a"], b"");
        assert_eq!((response.status, response.text()), (status, body.to_owned()), "{target}");
        if target != "/keyed" {
            assert_eq!(response.header("content-length"), length, "{target}");
        }
    }
    assert_eq!(upstream.connections(), 1, "each answer left the upstream's connection in step too");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_passed_on_whole_and_ends_ours() {
    let upstream =
        StubUpstream::answering(|_| Answer::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()));
    let gateway = open_gateway(&upstream, "");
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = gateway.client();
        let response = client.request(&[&format!("GET / {version}"), "host: a"], b"");
        assert_eq!(
            (response.text(), response.header("connection")),
            ("until the end".to_owned(), Some("close"))
        );
        assert_eq!(response.header("content-length").or(response.header("transfer-encoding")), None);
    }
}

#[test]
fn a_truncated_answer_stays_truncated_and_its_connections_are_not_used_again() {
    type Cut = fn(Vec<u8>) -> Answer;
    let heads = [
        ("HTTP/1.1", &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..]),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf"),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
        ("HTTP/1.0", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    ];
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    for (version, head) in heads {
        for cut in [Answer::Close as Cut, Answer::Reset] {
            upstream.answer(move |_| cut(head.to_vec()));
            check_truncated(&gateway, version, head);
        }
    }
    // Bare until its end: only a reset tells that this was not the end.
    let bare = &b"HTTP/1.1 200 OK\r\n\r\nhalf"[..];
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        upstream.answer(|_| Answer::Reset(bare.to_vec()));
        check_truncated(&gateway, version, bare);
    }
}

#[test]
fn a_chunked_answer_reaches_a_client_of_http_1_0_without_its_chunks() {
    let upstream = StubUpstream::answering(|_| Answer::chunked(["ab", "c"]));
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    let response = client.request(&["GET / HTTP/1.0", "host: a", "connection: keep-alive"], b"");
    assert_eq!((response.text(), response.header("transfer-encoding")), ("abc".to_owned(), None));
    assert_eq!(response.header("connection"), Some("close"));
}

// === bodies ===

#[test]
fn bodies_are_framed_anew_both_ways_and_lose_extensions_and_trailers() {
    let upstream = StubUpstream::answering(|request| Answer::Chunked {
        status: 200,
        chunks: vec![b"<".to_vec(), request.body.clone(), b">".to_vec()],
        trailers: vec![("x-tenant-id".to_owned(), "forged".to_owned())],
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTrailer: x-tenant-id\r\n\r\n\
         002;x=y\r\nab\r\n1\r\nc\r\n0\r\nx-tenant-id: forged\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.text(), response.message.trailers.len()), ("<abc>".to_owned(), 0));
    let seen = upstream.last();
    assert_eq!((seen.text(), seen.trailers.len(), seen.header("trailer")), ("abc".to_owned(), 0, None));
    assert!(!String::from_utf8_lossy(&seen.raw).contains("x=y"));

    let response = client.request(&["PUT / HTTP/1.1", "host: a"], b"sized");
    assert_eq!(
        (response.text(), upstream.last().header("content-length")),
        ("<sized>".to_owned(), Some("5"))
    );
    client.request(&["POST / HTTP/1.1", "host: a"], b"");
    assert_eq!(upstream.last().header("content-length"), Some("0"));
    client.request(&["GET / HTTP/1.1", "host: a"], b"");
    assert_eq!(upstream.last().header("content-length"), None);
}

#[test]
fn what_follows_the_last_chunk_is_the_next_request() {
    let upstream = StubUpstream::answering(|request| Answer::ok(request.target().to_owned()));
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    let chunked = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let sized = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb";
    client.send([chunked, sized, SMUGGLED].concat());
    let answers: Vec<String> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(answers, ["/1", "/2", "/smuggled"]);
    let bodies: Vec<String> = upstream.recorded().iter().map(Recorded::text).collect();
    assert_eq!(bodies, ["a", "b", ""]);
}

#[test]
fn a_malformed_chunk_ends_both_connections_and_completes_no_request() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "x\r\n",
        "-1\r\n",
        "0x1\r\na\r\n",
        " 1\r\na\r\n",
        "1\na\r\n",
        "1\r\nab\r\n",
        "1\r\na\n0\r\n\r\n",
        "10000000000000000\r\n",
        "\r\n",
        "1;\n\r\na\r\n",
        "0\r\n x\n\r\n",
        "0\r\n\rx",
    ] {
        for before in ["", "1\r\na\r\n"] {
            let mut client = gateway.client();
            client.send(format!("{head}{before}{chunks}{SMUGGLED}"));
            let response = client.response();
            assert_eq!((response.status, response.header("connection")), (400, Some("close")), "{chunks:?}");
            assert!(client.is_closed(), "{chunks:?}");
        }
        // Behind a chunk that is on its way already.
        let before = upstream.connections();
        let mut client = gateway.client();
        client.send(format!("{head}1\r\na\r\n"));
        until("the first chunk is on its way", || (upstream.connections() > before).then_some(()));
        assert_eq!(client.send(format!("{chunks}{SMUGGLED}")).response().status, 400, "{chunks:?}");
        assert!(client.is_closed(), "{chunks:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_body_beyond_the_limit_is_refused_at_once_when_declared_and_as_soon_as_it_is_counted() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "body_bytes = 1000");
    let check = |body: &[u8]| {
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\n").send(body);
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (413, Some("close")));
        assert!(client.is_closed());
    };
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    check(b"Content-Length: 1001\r\n\r\n");
    check(b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
    check(format!("Transfer-Encoding: chunked\r\n\r\n{}", chunk(1001)).as_bytes());
    check(format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(1001)).as_bytes());
    check(format!("Transfer-Encoding: chunked\r\n\r\n{}", chunk(100).repeat(11)).as_bytes());
    check(format!("Transfer-Encoding: chunked\r\n\r\n{}", chunk(100_000)).as_bytes());
    assert_eq!(upstream.count(), 0);

    let mut client = gateway.client();
    assert_eq!(client.request(&["POST / HTTP/1.1", "host: a"], &[b'x'; 1000]).status, 200);
    let whole = format!("{}0\r\n\r\n", chunk(100).repeat(10));
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{whole}"));
    assert_eq!((client.response().status, upstream.last().body.len()), (200, 1000));
}

#[test]
fn a_limit_of_zero_lets_bodies_of_any_size_pass() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "body_bytes = 0");
    assert_eq!(gateway.client().request(&["POST / HTTP/1.1", "host: a"], b"body").status, 200);
    assert_eq!(upstream.last().text(), "body");
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_or_why_not() {
    let upstream = StubUpstream::answering(Answer::echo);
    let gateway = open_gateway(&upstream, "");
    let head = |target: &str, more: &str| format!("POST {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n\r\n");

    let mut client = Interim::connect(&gateway);
    client.send(&head("/", "Content-Length: 4\r\nExpect: 100-Continue"));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    assert_eq!((upstream.last().text(), upstream.last().header("expect")), ("body".to_owned(), None));

    // Whether the refused body follows is open, so the connection ends.
    let mut client = gateway.client();
    client.send(head("/keyed", "Content-Length: 4\r\nExpect: 100-continue"));
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (401, Some("close")));
    assert!(client.is_closed());

    // Nobody waits: there is no body, it is there already, or HTTP/1.0 knows no such thing.
    for request in [
        head("/", "Expect: 100-continue"),
        head("/", "Content-Length: 4\r\nExpect: 100-continue") + "body",
        head("/", "Content-Length: 4\r\nExpect: 100-continue").replace("1.1", "1.0") + "body",
    ] {
        let mut client = Interim::connect(&gateway);
        client.send(&request);
        assert!(client.head().starts_with("HTTP/1.1 200"), "{request}");
    }
}

#[test]
fn a_refused_request_keeps_the_connection_if_its_body_is_small_and_ends_it_otherwise() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut client = gateway.client();
    let response = client.request(&["POST /keyed HTTP/1.1", "host: a"], &vec![b'x'; 64 << 10]);
    assert_eq!((response.status, response.header("connection")), (401, None));
    assert_eq!(client.send(SMUGGLED).response().status, 200);

    for (framing, body) in [
        ("content-length: 65537", vec![b'x'; 65537]),
        ("transfer-encoding: chunked", b"1\r\na\r\n0\r\n\r\n".to_vec()),
    ] {
        let mut client = gateway.client();
        client.send(format!("POST /keyed HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).send(body);
        let response = client.send(SMUGGLED).response();
        assert_eq!((response.status, response.header("connection")), (401, Some("close")), "{framing}");
        assert!(client.is_closed(), "{framing}");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_body_that_stops_coming_is_answered_408() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "body_idle_timeout = \"500ms\"");
    for begin in ["Content-Length: 4\r\n\r\nbo", "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n"] {
        let mut client = gateway.client();
        let response = client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{begin}")).response();
        assert_eq!((response.status, response.header("connection")), (408, Some("close")), "{begin}");
        assert!(client.is_closed(), "{begin}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_answer_that_comes_before_the_body_has_ended_is_passed_on_and_ends_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_before(&listener);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbegin");
    let mut connection = listener.accept().unwrap().0;
    let head = read_head(&mut connection);
    assert!(head.contains("content-length: 100\r\n"), "{head}");
    connection.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").unwrap();
    assert_eq!(client.response().text(), "no");
    assert!(client.is_closed());
}

#[test]
fn a_huge_body_passes_whole_both_ways() {
    let upstream = StubUpstream::answering(Answer::echo);
    let gateway = open_gateway(&upstream, "");
    let body: Vec<u8> = (0..8 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    let response = gateway.client().request(&["POST / HTTP/1.1", "host: a"], &body);
    assert_eq!(response.status, 200);
    assert!(response.message.body == body, "the bytes are the same");
}

#[test]
fn who_does_not_read_holds_up_who_writes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_before(&listener);
    let mut client = TcpStream::connect(gateway.proxy()).unwrap();
    let length = UNBUFFERABLE_BYTES;
    write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    read_head(&mut upstream);
    let sent = write_until_held_up(&mut client);
    assert!(sent < length, "the gateway took all {sent} bytes for an upstream that reads none");

    write!(upstream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
    let sent = write_until_held_up(&mut upstream);
    assert!(sent < length, "the gateway took all {sent} bytes for a client that reads none");
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_within("write_timeout = \"200ms\"", &listener);
    let mut client = TcpStream::connect(gateway.proxy()).unwrap();
    client.write_all(SMUGGLED.as_bytes()).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    read_head(&mut upstream);
    write!(upstream, "HTTP/1.1 200 OK\r\ncontent-length: {UNBUFFERABLE_BYTES}\r\n\r\n").unwrap();
    upstream.set_write_timeout(Some(PATIENCE)).unwrap();
    let cut = upstream.write_all(&vec![b'x'; UNBUFFERABLE_BYTES]);
    assert!(matches!(
        cut.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    ));
}

#[test]
fn one_address_has_no_more_connections_than_it_may() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "connections_per_ip = 2");
    let mut seated = [gateway.client(), gateway.client()];
    for client in &mut seated {
        assert_eq!(client.send(SMUGGLED).response().status, 200);
    }
    assert!(gateway.client().is_closed());
    let [first, second] = seated;
    drop(first);
    let another = until("its place is free", || {
        let mut client = gateway.client();
        client.try_send(SMUGGLED.as_bytes()).and_then(|()| client.try_response("GET")).ok()
    });
    assert_eq!(another.status, 200);
    drop(second);
}

#[test]
fn a_stream_is_passed_on_piece_by_piece() {
    let gate = Gate::default();
    let upstream = StubUpstream::start();
    let rest = Answer::Raw(b"3\r\ntwo\r\n0\r\n\r\n".to_vec()).when(&gate);
    upstream.answer(move |_| {
        let begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        Answer::Raw(begin.to_vec()).then(rest.clone())
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = Interim::connect(&gateway);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().contains("transfer-encoding: chunked\r\n"));
    assert_eq!(client.read(8), "3\r\none\r\n");
    gate.open();
    assert_eq!(client.read(13), "3\r\ntwo\r\n0\r\n\r\n");
}

// === checks and instruments ===

/// Sends each head, followed by a body that smuggles a request: it is refused with that status, the connection ends,
/// and the upstream sees nothing.
#[track_caller]
fn check_refused(heads: &[(&str, u16)]) {
    check_refused_within("", heads);
}

#[track_caller]
fn check_refused_within(limits: &str, heads: &[(&str, u16)]) {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, limits);
    for (head, status) in heads {
        let shown = &head[..head.len().min(80)];
        let mut client = gateway.client();
        client.send(format!("{head}\r\n0\r\n\r\n{SMUGGLED}"));
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (*status, Some("close")), "{shown:?}");
        assert_eq!(response.json()["status"], *status, "{shown:?}");
        assert!(client.is_closed(), "{shown:?}");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(gateway.client().send(SMUGGLED).response().status, 200, "it serves all the same");
}

#[track_caller]
fn check_truncated(gateway: &TestGateway, version: &str, head: &[u8]) {
    let mut client = gateway.client();
    client.send(format!("GET / {version}\r\nHost: a\r\n\r\n"));
    let cut = client.try_response("GET");
    assert!(cut.is_err(), "{version} {}: {cut:?}", head.escape_ascii());
}

/// A gateway in front of an upstream that the test plays itself.
#[track_caller]
fn gateway_before(listener: &TcpListener) -> TestGateway {
    gateway_within(&format!("body_bytes = {UNBUFFERABLE_BYTES}"), listener)
}

#[track_caller]
fn gateway_within(limits: &str, listener: &TcpListener) -> TestGateway {
    let limits = format!("[listen.limits]\n{limits}\n");
    let address = listener.local_addr().expect("a bound listener has an address");
    let upstream = upstream_at(&[address], "");
    TestGateway::start_with(&[limits, upstream, route("all", "/", "public = true")].concat())
}

#[track_caller]
fn read_head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the rest of a head");
        head.extend(byte);
    }
    String::from_utf8(head).expect("text")
}

/// How many bytes go out before the other side takes none for a while.
fn write_until_held_up(stream: &mut TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let block = vec![b'x'; 64 << 10];
    let mut written = 0;
    while written < UNBUFFERABLE_BYTES {
        match stream.write(&block[..block.len().min(UNBUFFERABLE_BYTES - written)]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("writing: {error}"),
        }
    }
    written
}

/// A client that sees 1xx answers and pieces of bodies.
struct Interim(TcpStream);

impl Interim {
    fn connect(gateway: &TestGateway) -> Self {
        Interim(TcpStream::connect(gateway.proxy()).expect("a connection"))
    }

    fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).expect("sending");
    }

    #[track_caller]
    fn head(&mut self) -> String {
        read_head(&mut self.0)
    }

    #[track_caller]
    fn read(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a piece");
        String::from_utf8(bytes).expect("text")
    }
}
