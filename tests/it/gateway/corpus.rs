//! Raw requests of both protocols and what becomes of each: refused with a status, or carried, and then the upstream
//! has received exactly these bytes. Whoever finds a new way to be misread adds a line here.

use super::open_gateway;
use crate::support::{Http2Frames, Message, StubUpstream, TestGateway};

/// Follows every raw request of HTTP/1: it must never be what the upstream takes for a request of its own where the
/// one before was refused, and always be the next one where that was carried.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// A raw request, and what the upstream receives of it: its first line, the lines that the client sent or that frame
/// the body (without those in which the gateway speaks of itself), and the body as it is on the wire. A refusal is a
/// status.
type Case<'c> = (&'c str, Result<&'c str, u16>);

const CARRIED_OR_REFUSED: &[Case<'_>] = &[
    // === targets ===
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET /?a=b&c HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /?a=b&c HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET //x HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET //x HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET /%00%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /%00%0d%0a HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET /?/../x HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /?/../x HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET /;a=b HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /;a=b HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET /x?y HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET HTTPS://A:8/x HTTP/1.1\r\nHost: a:8\r\n\r\n", Ok("GET /x HTTP/1.1\r\nhost: a:8\r\n\r\n")),
    ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", Err(400)),
    ("GET ws://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET \\x HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /x\\..\\y HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /x/..;/y HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET /x\x0cy HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    // === methods and versions ===
    ("PURGE /x HTTP/1.1\r\nHost: a\r\n\r\n", Ok("PURGE /x HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("M-SEARCH / HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("get / HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\x0b\r\nHost: a\r\n\r\n", Err(400)),
    ("GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET: / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP/1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP /1.1\r\nHost: a\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
    // === hosts ===
    ("GET / HTTP/1.1\r\nHOST:\t a:8 \t\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a:8\r\n\r\n")),
    ("GET / HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: [::1]:8\r\n\r\n")),
    ("GET / HTTP/1.1\r\nHost: a.\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a.\r\n\r\n")),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: []\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: \"a\"\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Err(400)),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
    // === lines ===
    ("GET / HTTP/1.1\r\nHost: a\r\nx:\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n")),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\nX: 2\r\n\r\n",
        Ok("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\nX: 2\r\n\r\n"),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: 1\r\n\r\n",
        Ok("GET / HTTP/1.1\r\nhost: a\r\n!#$%&'*+-.^_`|~: 1\r\n\r\n"),
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: a\tb\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\nx: a\tb\r\n\r\n")),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: a:b\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\nx: a:b\r\n\r\n")),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nx: 1\r\ny: 2\r\n\r\n",
        Ok("GET / HTTP/1.1\r\nhost: a\r\ny: 2\r\n\r\n"),
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
        Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nx\t: 1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx y: 1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\x0bx: 1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx\0: 1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: \x01\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: \x7f\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\n\tfolded: 2\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\r\ny: 2\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\n\ny: 2\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\u{fc}: 1\r\n\r\n", Err(400)),
    ("GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n", Err(400)),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    // === lengths ===
    ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:02\r\n\r\nok",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok"),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
        Ok("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok"),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \u{662}\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2;\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"2\"\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2,\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length:\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", Err(413)),
    // === chunks ===
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING:CHUNKED\r\n\r\n02;a=\"b\"\r\nok\r\n00\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n0\r\nx: 1\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked identity\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: deflate\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", Err(400)),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 \t\r\nok\r\n0\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 ;a\r\nok\r\n0\r\n\r\n",
        Ok("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 0\r\nok\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2_\r\nok\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\rok\r\n0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok", Err(400)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nok\r\n0\r\n\r\n", Err(400)),
];

#[test]
fn a_raw_request_of_http_1_is_carried_byte_for_byte_or_refused_whole() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    for (raw, verdict) in CARRIED_OR_REFUSED {
        let before = upstream.count();
        let mut client = gateway.client();
        client.send([raw, NEXT].concat());
        let shown = raw.escape_debug();
        let answer = client.response();
        match verdict {
            Ok(expected) => {
                assert_eq!(answer.status, 200, "{shown}");
                assert_eq!(client.response().status, 200, "what follows {shown}");
                let seen = upstream.recorded().split_off(before);
                assert_eq!(seen.len(), 2, "{shown}");
                assert_eq!(
                    (received(&seen[0]), seen[1].target()),
                    ((*expected).to_owned(), "/next"),
                    "{shown}"
                );
            }
            Err(status) => {
                assert_eq!(answer.status, *status, "{shown}");
                // An ambiguous path alone leaves no doubt about where the request ends.
                let goes_on = answer.header("connection") != Some("close");
                assert_eq!(goes_on, answer.text().contains("`.` or `..`"), "{shown}");
                assert!(goes_on || client.is_closed(), "{shown}");
                let next = usize::from(goes_on && client.response().status == 200);
                assert_eq!((upstream.count() - before, next), (usize::from(goes_on), next), "{shown}");
            }
        }
    }
}

/// A field list, and what the upstream receives of it; `None`: the stream is reset, the connection ends, or the answer
/// is a refusal.
type Fields<'c> = (&'c [(&'c str, &'c str)], Option<&'c str>);

const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "http");
const A: (&str, &str) = (":authority", "a");
const P: (&str, &str) = (":path", "/");

const FIELDS: &[Fields<'_>] = &[
    (&[M, S, A, P], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[P, A, S, M], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, P, ("host", "a")], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, A, P, ("host", "A")], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, A, (":path", "/?a=b&c")], Some("GET /?a=b&c HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, A, (":path", "/%00%0d%0a")], Some("GET /%00%0d%0a HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, (":authority", "[::1]:8"), P], Some("GET / HTTP/1.1\r\nhost: [::1]:8\r\n\r\n")),
    (&[("cookie", "z"), M, S, A, P], None),
    (&[M, M, S, A, P], None),
    (&[M, S, S, A, P], None),
    (&[M, S, A, A, P], None),
    (&[M, S, A, P, P], None),
    (&[M, S, A, P, (":status", "200")], None),
    (&[M, S, A, P, (":protocol", "websocket")], None),
    (&[M, A, P], None),
    (&[M, S, A, P, ("te", "trailers, gzip")], None),
    (&[M, S, A, P, ("Connection", "x")], None),
    (&[M, S, A, P, ("", "x")], None),
    (&[M, S, A, P, ("x", "a\rb")], None),
    (&[M, S, A, P, ("x:y", "1")], None),
    // A fragment is cut off before anybody sees it.
    (&[M, S, A, (":path", "/#x")], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, A, (":path", "x")], None),
    (&[M, S, A, (":path", "http://a/")], None),
    (&[M, S, A, (":path", "/\t")], None),
    (&[M, S, A, (":path", "/\0")], None),
    (&[M, S, A, (":path", "/\\..")], None),
    (&[M, S, A, (":path", "/./x")], None),
    (&[M, S, (":authority", "a:port"), P], None),
    (&[M, S, (":authority", "a:123456"), P], None),
    (&[M, S, (":authority", ""), P], None),
    (&[M, S, (":authority", "a b"), P], None),
    (&[M, S, (":authority", "a,b"), P], None),
    (&[M, S, (":authority", "a?b"), P], None),
    (&[M, S, A, P, ("host", "a"), ("host", "a")], Some("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    (&[M, S, A, P, ("host", "a"), ("host", "b")], None),
    (&[M, S, A, P, ("content-length", "0")], Some("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")),
    (&[M, S, A, P, ("content-length", "0"), ("content-length", "5")], None),
    (&[M, S, A, P, ("content-length", "5x")], None),
    (&[(":method", "TRACE"), S, A, P], None),
    (&[(":method", "CONNECT"), A], None),
    (&[(":method", ""), S, A, P], None),
];

#[test]
fn a_header_list_of_http_2_is_carried_byte_for_byte_or_refused_whole() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    for (fields, expected) in FIELDS {
        let before = upstream.count();
        let is_served = is_served(&gateway, fields);
        let seen = upstream.recorded().split_off(before);
        let received: Vec<String> = seen.iter().map(received).collect();
        let expected = expected.iter().map(|expected| (*expected).to_owned());
        assert_eq!((is_served, received), (expected.len() == 1, expected.collect()), "{fields:?}");
    }
}

/// Whether the answer is 200.
fn is_served(gateway: &TestGateway, fields: &[(&str, &str)]) -> bool {
    let mut client = Http2Frames::connect(gateway.proxy());
    client.headers(1, fields);
    let frames = client.read_until(&[1, 3, 7]);
    // The status is a block's first field, and 200 one of those that HPACK has an index for.
    frames.last().is_some_and(|(kind, _, payload)| *kind == 1 && payload[0] == 0x88)
}

/// What the upstream received, without the lines in which the gateway speaks of itself.
fn received(seen: &Message) -> String {
    const OWN: [&str; 5] =
        ["x-forwarded-for: ", "x-forwarded-proto: ", "x-forwarded-host: ", "forwarded: ", "x-request-id: "];
    let raw = String::from_utf8_lossy(&seen.raw).into_owned();
    let (head, body) = raw.split_once("\r\n\r\n").expect("a head");
    let kept: Vec<&str> =
        head.split("\r\n").filter(|line| !OWN.iter().any(|own| line.starts_with(own))).collect();
    format!("{}\r\n\r\n{body}", kept.join("\r\n"))
}

#[test]
fn the_corpus_is_as_large_as_it_is_said_to_be() {
    assert!(
        CARRIED_OR_REFUSED.len() + FIELDS.len() >= 150,
        "{} + {}",
        CARRIED_OR_REFUSED.len(),
        FIELDS.len()
    );
}
