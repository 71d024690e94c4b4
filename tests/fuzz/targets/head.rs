//! Heads of requests: one that is taken ends in one place and means one thing.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use tollgate::listener::http1::{Head, HeadLimits, LINES_MAX, Parsed};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, target_bytes: 8 * 1024, lines: 100 };

/// For a head that was written anew, with a space behind each colon.
const LIMITS_ANEW: HeadLimits = HeadLimits { bytes: 32 * 1024, ..LIMITS };

fuzz_target!(|bytes: &[u8]| {
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let Ok(Parsed::Complete(head, length)) = Head::parse(bytes, &mut space, LIMITS) else { return };
    assert!(length <= bytes.len().min(LIMITS.bytes));
    assert!(head.path.starts_with('/') && !head.path.contains('?'));
    assert!(head.query.is_empty() || head.query.starts_with('?'));
    assert!(head.lines.iter().all(|line| !line.value.iter().any(|byte| b"\r\n\0".contains(byte))));
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let shorter = Head::parse(&bytes[..length - 1], &mut space, LIMITS);
    assert!(matches!(shorter, Ok(Parsed::Partial)), "it ends earlier as well: {shorter:?}");

    let anew = written(&head);
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let Ok(Parsed::Complete(again, length)) = Head::parse(&anew, &mut space, LIMITS_ANEW) else {
        panic!("what was understood is refused: {head:?}");
    };
    assert_eq!((format!("{again:?}"), length), (format!("{head:?}"), anew.len()));
});

fn written(head: &Head<'_>) -> Vec<u8> {
    let Head { method, path, query, .. } = head;
    let minor = u8::from(!head.is_http10);
    let mut anew = format!("{method} {path}{query} HTTP/1.{minor}\r\n").into_bytes();
    for line in head.lines {
        for part in [line.name.as_bytes(), b": ", line.value, b"\r\n"] {
            anew.extend_from_slice(part);
        }
    }
    anew.extend_from_slice(b"\r\n");
    anew
}
