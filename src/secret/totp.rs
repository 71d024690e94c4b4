//! Codes of six digits that change every half a minute (RFC 6238), as authenticator apps make them.

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;

/// What an app and we share. 160 bits, as RFC 4226 recommends.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret([u8; TotpSecret::BYTES]);

/// RFC 6238's defaults, which is what all apps do: SHA-1, six digits, thirty seconds.
const STEP_SECONDS: i64 = 30;
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
/// RFC 6238, section 5.2: one step for clocks that differ, and for who types slowly. Both ways.
const STEPS_APART: i64 = 1;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

// === impl TotpSecret ===

impl TotpSecret {
    const BYTES: usize = 20;

    /// # Errors
    /// Only when the operating system has no random bytes to give.
    pub fn draw() -> Result<TotpSecret, getrandom::Error> {
        let mut secret = [0; TotpSecret::BYTES];
        getrandom::fill(&mut secret)?;
        Ok(TotpSecret(secret))
    }

    /// From base32, as [`TotpSecret::text`] writes it.
    pub fn parse(text: &str) -> Option<TotpSecret> {
        let mut secret = [0; TotpSecret::BYTES];
        let (mut bits, mut held, mut at) = (0_u32, 0_u32, 0);
        for letter in text.bytes() {
            let value = BASE32.iter().position(|known| *known == letter)?;
            bits = bits << 5 | u32::try_from(value).ok()?;
            held += 5;
            if held >= 8 {
                held -= 8;
                *secret.get_mut(at)? = u8::try_from(bits >> held & 0xff).ok()?;
                at += 1;
            }
        }
        (at == TotpSecret::BYTES && text.len() == TotpSecret::BYTES * 8 / 5).then_some(TotpSecret(secret))
    }

    /// Base32, to be typed into an app. 160 bits are 32 letters and need no padding.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let (mut bits, mut held) = (0_u32, 0_u32);
        for byte in self.0 {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(BASE32[(bits >> held & 31) as usize]));
            }
        }
        text
    }

    /// What an app reads from a QR code.
    pub fn url(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (escaped(issuer), escaped(account));
        format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}", self.text())
    }

    /// The step that the code is good for, if that is near `now` and later than `last`: none is good twice.
    pub fn verify(&self, code: &str, now: Timestamp, last: i64) -> Option<i64> {
        let present = now.seconds().div_euclid(STEP_SECONDS);
        let near = present - STEPS_APART..=present + STEPS_APART;
        // All of them are looked at, so that the time it takes tells nothing.
        let good = near.filter(|step| bool::from(self.code(*step).as_bytes().ct_eq(code.as_bytes())));
        good.filter(|step| *step > last).max()
    }

    fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        format!("{:0DIGITS$}", truncated(tag.as_ref()) % MODULUS)
    }

    #[cfg(test)]
    pub(crate) fn code_at(&self, now: Timestamp) -> String {
        self.code(now.seconds().div_euclid(STEP_SECONDS))
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(***)")
    }
}

/// RFC 4226, section 5.3: four bytes from where the last one's low half points to, without their highest bit.
fn truncated(tag: &[u8]) -> u32 {
    let at = usize::from(tag.last().copied().unwrap_or(0) & 0xf);
    let bytes = tag.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// Percent-encoded, except what RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::{TotpSecret, truncated};
    use crate::clock::Timestamp;

    fn rfc() -> TotpSecret {
        TotpSecret(*b"12345678901234567890")
    }

    /// RFC 6238, appendix B, of whose eight digits the last six are ours.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (seconds, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            let now = Timestamp::from_seconds(seconds);
            assert_eq!(rfc().code_at(now), code[2..], "{seconds}");
            assert_eq!(rfc().verify(&code[2..], now, 0), Some(seconds / 30));
        }
    }

    /// RFC 4226, section 5.4.
    #[test]
    fn truncation_is_that_of_the_rfc() {
        let tag = [
            0x1f, 0x86, 0x98, 0x69, 0x0e, 0x02, 0xca, 0x16, 0x61, 0x85, 0x50, 0xef, 0x7f, 0x19, 0xda, 0x8e,
            0x94, 0x5b, 0x55, 0x5a,
        ];
        assert_eq!(truncated(&tag), 0x50ef_7f19);
    }

    #[test]
    fn a_code_is_good_a_step_early_and_late_and_once() {
        let (secret, now) = (rfc(), Timestamp::from_seconds(3_000));
        let code = secret.code_at(now);
        for (seconds, good) in [(2_969, false), (2_970, true), (3_000, true), (3_059, true), (3_060, false)] {
            let found = secret.verify(&code, Timestamp::from_seconds(seconds), 0);
            assert_eq!(found, good.then_some(100), "{seconds}");
        }
        assert_eq!(secret.verify(&code, now, 100), None, "it was used");
        for bad in ["", "000000", &code[1..], &format!("{code}0")] {
            assert!(secret.verify(bad, now, 0).is_none() || bad == code, "{bad}");
        }
    }

    #[test]
    fn a_secret_survives_its_text() {
        assert_eq!(rfc().text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let drawn = TotpSecret::draw().unwrap();
        assert_eq!(TotpSecret::parse(&drawn.text()), Some(drawn));
        for bad in ["", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQA", "gezd"] {
            assert_eq!(TotpSecret::parse(bad), None, "{bad}");
        }
        let url = rfc().url("Tollgate", "a+b@example.com");
        assert!(url.starts_with("otpauth://totp/Tollgate:a%2Bb%40example.com?secret=GEZD"), "{url}");
    }
}
