//! Preambles of the PROXY protocol: one that is taken ends in one place, whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::listener::preamble::{Beginning, beginning};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Beginning::Preamble(origin, length)) = beginning(bytes) else { return };
    assert!(length <= bytes.len());
    assert_eq!(beginning(&bytes[..length]), Ok(Beginning::Preamble(origin, length)));
    for shorter in (0..length.min(32)).chain([length - 1]) {
        assert_eq!(beginning(&bytes[..shorter]), Ok(Beginning::Partial), "of {shorter} bytes");
    }
});
