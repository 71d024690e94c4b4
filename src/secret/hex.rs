//! Bytes as hexadecimal text: digests in the audit log, and secrets as people configure them.

use std::fmt::Write;

/// Two lower-case digits for each byte.
pub fn encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The 32 bytes of 64 digits of either case; `None` for anything else.
pub fn decoded(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decoded, encoded};

    #[test]
    fn what_is_encoded_is_read_again_and_nothing_else_is() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        let text = encoded(&bytes);
        assert_eq!((text.len(), &text[..8]), (64, "00081018"));
        assert_eq!(decoded(&text), Some(bytes));
        assert_eq!(decoded(&text.to_uppercase()), Some(bytes));
        for bad in [&text[1..], &format!("{text}0"), &text.replace("08", "+8"), &text.replace("08", "0g")] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
