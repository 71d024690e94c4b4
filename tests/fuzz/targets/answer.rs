//! Heads of answers: one that is taken ends in one place, and its body is framed in one way. The first byte says
//! whether HEAD was asked.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use tollgate::listener::http1::{AnswerHead, BodyLength, HeadLimits, LINES_MAX, Parsed};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, target_bytes: 8 * 1024, lines: 100 };

fuzz_target!(|bytes: &[u8]| {
    let Some((asked, bytes)) = bytes.split_first() else { return };
    let to_head_request = asked & 1 == 1;
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let parsed = AnswerHead::parse(bytes, &mut space, LIMITS, to_head_request);
    let Ok(Parsed::Complete(head, length)) = parsed else { return };
    assert!(length <= bytes.len());
    assert!((100..=999).contains(&head.status));
    assert!(!head.reason.bytes().any(|byte| b"\r\n\0".contains(&byte)));
    assert!(head.lines.iter().all(|line| !line.value.iter().any(|byte| b"\r\n\0".contains(byte))));
    match head.body {
        BodyLength::Empty => {}
        BodyLength::Sized(length) => assert_eq!(head.declared, Some(length)),
        BodyLength::Chunked => assert_eq!(head.declared, None),
        BodyLength::UntilClose => assert!(head.closes && head.declared.is_none()),
    }
    let has_none = to_head_request || head.status < 200 || [204, 304].contains(&head.status);
    assert!(!has_none || head.body == BodyLength::Empty);
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let shorter = AnswerHead::parse(&bytes[..length - 1], &mut space, LIMITS, to_head_request);
    assert!(matches!(shorter, Ok(Parsed::Partial)), "it ends earlier as well: {shorter:?}");
});
