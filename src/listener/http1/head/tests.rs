use std::mem::MaybeUninit;

use proptest::prelude::*;

use super::{AnswerHead, BadHead, BodyLength, Head, HeadLimits, Parsed};

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, target_bytes: 8 * 1024, lines: 100 };

fn verdict(bytes: &[u8]) -> Result<String, BadHead> {
    let mut space = [MaybeUninit::uninit(); super::LINES_MAX];
    Head::parse(bytes, &mut space, LIMITS).map(|parsed| match parsed {
        Parsed::Partial => "partial".to_owned(),
        Parsed::Complete(head, length) => {
            format!(
                "{} {}{} {} {:?} +{}",
                head.method,
                head.path,
                head.query,
                head.authority,
                head.body,
                bytes.len() - length
            )
        }
    })
}

fn answer(bytes: &[u8]) -> Result<(u16, BodyLength, bool), BadHead> {
    let mut space = [MaybeUninit::uninit(); super::LINES_MAX];
    match AnswerHead::parse(bytes, &mut space, LIMITS, false)? {
        Parsed::Partial => panic!("partial"),
        Parsed::Complete(head, _) => Ok((head.status, head.body, head.closes)),
    }
}

#[test]
fn good_heads_are_read() {
    for (head, read) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a Empty +0"),
        ("GET /v1/x?y=1&z HTTP/1.1\r\nhost: a.b:80\r\n\r\nrest", "GET /v1/x?y=1&z a.b:80 Empty +4"),
        ("GET http://A.b/x HTTP/1.1\r\nHost: a.B\r\n\r\n", "GET /x a.B Empty +0"),
        ("POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\n\r\n", "POST / [::1]:80 Sized(12) +0"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST / a Chunked +0"),
        ("GET / HTTP/1.0\r\n\r\n", "GET /  Empty +0"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "partial"),
        ("", "partial"),
    ] {
        assert_eq!(verdict(head.as_bytes()).as_deref(), Ok(read), "{head}");
    }
}

#[test]
fn whatever_could_be_read_two_ways_is_refused() {
    use BadHead::{
        BareLf, ContentLength, Expect, Host, Method, Syntax, Target, TransferEncoding, TwoLengths, Version,
    };
    let with = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    for (head, fault) in [
        (with("Content-Length: 1\r\nTransfer-Encoding: chunked"), TwoLengths),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 1"), TwoLengths),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), TransferEncoding),
        (with("Transfer-Encoding: gzip, chunked"), TransferEncoding),
        (with("Transfer-Encoding: identity"), TransferEncoding),
        (with("Transfer-Encoding: xchunked"), TransferEncoding),
        (with("Transfer-Encoding: chunked,"), TransferEncoding),
        (with("Transfer-Encoding:"), TransferEncoding),
        (with("Transfer-Encoding: \"chunked\""), TransferEncoding),
        (with("Content-Length: 1\r\nContent-Length: 1"), ContentLength),
        (with("Content-Length: 1, 1"), ContentLength),
        (with("Content-Length: +1"), ContentLength),
        (with("Content-Length: -1"), ContentLength),
        (with("Content-Length: 0x1"), ContentLength),
        (with("Content-Length: 1 1"), ContentLength),
        (with("Content-Length:"), ContentLength),
        (with("Content-Length: 99999999999999999999"), ContentLength),
        (with("Host: b"), Host),
        (with("Expect: nothing"), Expect),
        ("GET / HTTP/1.1\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), Host),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), Host),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), Host),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), Method("CONNECT")),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), Method("TRACE")),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".into(), BareLf),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), BareLf),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), Version(2)),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(), TransferEncoding),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), Syntax("a header name has a byte that is not allowed")),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), Syntax("a header name has a byte that is not allowed")),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n".into(),
            Syntax("a header name has a byte that is not allowed"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".into(),
            Syntax("a header value has a byte that is not allowed"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".into(),
            Syntax("a header value has a byte that is not allowed"),
        ),
    ] {
        assert_eq!(verdict(head.as_bytes()), Err(fault), "{head:?}");
    }
}

#[test]
fn large_heads_are_refused_as_soon_as_they_are_too_large() {
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000));
    assert_eq!(verdict(target.as_bytes()), Err(BadHead::TargetTooLong));
    let endless = format!("GET /{}", "x".repeat(40_000));
    assert_eq!(verdict(endless.as_bytes()), Err(BadHead::TargetTooLong));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(verdict(long.as_bytes()), Err(BadHead::TooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100));
    assert_eq!(verdict(many.as_bytes()), Err(BadHead::TooLarge));
    let too_many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    assert_eq!(verdict(too_many.as_bytes()), Err(BadHead::TooLarge));
}

#[test]
fn an_answer_tells_how_its_body_ends() {
    for (head, read) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((200, BodyLength::Sized(5), false))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((200, BodyLength::Chunked, false))),
        ("HTTP/1.1 200\r\n\r\n", Ok((200, BodyLength::UntilClose, true))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((200, BodyLength::Sized(5), true))),
        ("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, BodyLength::Empty, false))),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok((304, BodyLength::Empty, false))),
        (
            "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
            Ok((200, BodyLength::Sized(0), true)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Err(BadHead::ContentLength)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(BadHead::TwoLengths),
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Err(BadHead::TransferEncoding)),
        ("HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 5\r\n\r\n", Err(BadHead::BareLf)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\n\n", Err(BadHead::BareLf)),
        (&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.bytes)), Err(BadHead::TooLarge)),
    ] {
        assert_eq!(answer(head.as_bytes()), read, "{head:?}");
    }
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = verdict(&bytes);
    }

    #[test]
    fn a_head_cut_anywhere_is_partial_and_then_the_same(cut in 0_usize..76) {
        let head = b"POST /v1/x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 12\r\nX: y z\r\n\r\n";
        prop_assert_eq!(verdict(&head[..cut.min(head.len() - 1)]), Ok("partial".to_owned()));
    }
}
