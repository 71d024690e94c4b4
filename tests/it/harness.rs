//! The instruments, checked against each other: what they report is what was on the wire.

use std::io;

use crate::support::{
    Answer, Gate, PrivatePostgres, RawClient, StubUpstream, load, psql, shared_postgres, try_psql,
};

#[test]
fn the_upstream_keeps_each_request_byte_for_byte() {
    let upstream = StubUpstream::answering(Answer::echo);
    let mut client = RawClient::connect(upstream.address());
    let request =
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Odd:  two  \r\nx-odd: one\r\nContent-Length: 5\r\n\r\nhello";
    let response = client.send(request).response();
    assert_eq!((response.status, response.text()), (200, "hello".to_owned()));
    let seen = upstream.last();
    assert_eq!(seen.raw, request.as_bytes());
    assert_eq!((seen.method(), seen.target(), seen.text()), ("POST", "/a?b=c", "hello".to_owned()));
    assert_eq!(seen.headers_named("X-ODD").collect::<Vec<_>>(), ["two", "one"]);
}

#[test]
fn pipelined_requests_get_their_answers_in_order() {
    let upstream = StubUpstream::answering(|request| Answer::ok(request.target().to_owned()));
    let mut client = RawClient::connect(upstream.address());
    client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    assert_eq!([client.response().text(), client.response().text()], ["/1", "/2"]);
    assert_eq!((upstream.count(), upstream.connections()), (2, 1));
}

#[test]
fn chunked_bodies_are_read_both_ways_with_trailers() {
    let upstream = StubUpstream::answering(|_| Answer::chunked(["ab", "c"]));
    let mut client = RawClient::connect(upstream.address());
    client.send(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nsum: 1\r\n\r\n",
    );
    assert_eq!(client.response().text(), "abc");
    assert_eq!(upstream.last().text(), "def");
    assert_eq!(upstream.last().trailers, [("sum".to_owned(), "1".to_owned())]);
}

#[test]
fn an_answer_that_is_cut_short_is_an_error_and_no_answer() {
    for cut in [Answer::Close, Answer::Reset] {
        let upstream = StubUpstream::start();
        upstream.answer(move |_| cut(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()));
        let mut client = RawClient::connect(upstream.address());
        let error = client.send("GET / HTTP/1.1\r\n\r\n").try_response("GET").expect_err("half an answer");
        let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

#[test]
fn an_answer_waits_for_its_gate_and_can_come_in_pieces() {
    let gate = Gate::default();
    let upstream = StubUpstream::start();
    let late = Answer::Raw(b"lo".to_vec()).when(&gate);
    upstream.answer(move |_| {
        Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel".to_vec()).then(late.clone())
    });
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    gate.open();
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let upstream = StubUpstream::answering(|request| match request.method() {
        "HEAD" => Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec()),
        _ => Answer::status(204, "").with("x-a", "b"),
    });
    let mut client = RawClient::connect(upstream.address());
    assert_eq!(client.request(&["HEAD / HTTP/1.1"], b"").text(), "");
    let response = client.request(&["DELETE / HTTP/1.1"], b"");
    assert_eq!((response.status, response.header("X-A")), (204, Some("b")));
}

#[test]
fn a_hanging_upstream_sees_the_client_leave() {
    let upstream = StubUpstream::answering(|_| Answer::Hang);
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\n\r\n").finish();
    assert!(client.is_closed());
}

#[test]
fn the_load_counts_every_request_once() {
    let upstream = StubUpstream::answering(|request| match request.target() {
        "/0" => Answer::Close(Vec::new()),
        target if target.ends_with('7') => Answer::status(429, ""),
        _ => Answer::ok(""),
    });
    let tally =
        load(upstream.address(), 8, 100, |index| format!("GET /{index} HTTP/1.1\r\n\r\n").into_bytes());
    assert_eq!((tally.of(200), tally.of(429), tally.unanswered), (89, 10, 1));
    assert_eq!(upstream.count(), 100);
}

#[test]
fn a_private_postgres_keeps_what_was_committed_through_its_kill() {
    let mut postgres = PrivatePostgres::start();
    let url = postgres.url("postgres", "postgres");
    psql(&url, "CREATE TABLE kept AS SELECT 1 AS number");
    postgres.kill();
    assert!(try_psql(&url, "SELECT 1").is_err());
    postgres.restart();
    assert_eq!(psql(&url, "SELECT number FROM kept"), "1");
}

#[test]
fn the_shared_postgres_lets_a_superuser_in() {
    assert_eq!(psql(&shared_postgres(), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"), "t");
}
