//! Whether a message is Stripe's: its header `Stripe-Signature`.
//!
//! `t=TIMESTAMP,v1=SIGNATURE,…`: each signature is the HMAC-SHA256, in hexadecimal, of the timestamp, a point and the body.
//! While a secret takes another's place there is one of each. Schemes other than `v1` prove nothing and are passed over.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::hex;
use crate::clock::Timestamp;

/// Why a message is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadStripeSignature {
    #[error("the header `Stripe-Signature` is missing or can't be read")]
    Malformed,
    /// It may have been heard by somebody who sends it again.
    #[error("the message was signed too long ago, or in the future")]
    Untimely,
    #[error("the message is signed with none of the secrets that are configured")]
    Forged,
}

/// A message that was signed longer ago, or in the future, is not believed.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures that are looked at: Stripe has two secrets at a time at most.
const SIGNATURES_MAX: usize = 8;

/// # Errors
/// [`BadStripeSignature`], unless one of the signatures is that of one of the secrets.
pub fn verify<'s>(
    header: &str,
    body: &[u8],
    secrets: impl Iterator<Item = &'s str>,
    now: Timestamp,
) -> Result<(), BadStripeSignature> {
    let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
    let signed_at = fields().find_map(|(name, value)| (name == "t").then_some(value));
    let signed_at = signed_at.and_then(|text| Some((text, text.parse::<u32>().ok()?)));
    let (text, seconds) = signed_at.ok_or(BadStripeSignature::Malformed)?;
    let signatures =
        fields().filter_map(|(name, value)| (name == "v1").then(|| hex::decoded(value)).flatten());
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX).collect();
    if signatures.is_empty() {
        return Err(BadStripeSignature::Malformed);
    }
    let mut is_genuine = false;
    for secret in secrets {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| BadStripeSignature::Forged)?;
        mac.update(text.as_bytes());
        mac.update(b".");
        mac.update(body);
        // In constant time.
        is_genuine |= signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok());
    }
    if !is_genuine {
        return Err(BadStripeSignature::Forged);
    }
    let signed_at = Timestamp::from_seconds(seconds.into());
    let is_timely = now.since(signed_at) <= TOLERANCE && signed_at.since(now) <= TOLERANCE;
    if is_timely { Ok(()) } else { Err(BadStripeSignature::Untimely) }
}

/// The header of a message that is signed now, as Stripe would write it.
#[cfg(test)]
pub(crate) fn signed(secret: &str, body: &[u8], at: Timestamp) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{}.", at.seconds()).as_bytes());
    mac.update(body);
    format!("t={},v1={}", at.seconds(), hex::encoded(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{BadStripeSignature, verify};
    use crate::clock::Timestamp;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    /// By `printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_one`, and the same with `whsec_two`.
    const ONE: &str = "401fbbceeb3818dc562ff77127ba1c62e47e24c9c6cde4d7a6eba85e32dbd058";
    const TWO: &str = "4fb9aa7e8a9678e685ef5c7eafa19ac1eb7c0564196cbe246ca08c2fd799eaf3";

    fn verified(header: &str, secrets: &[&str], seconds: i64) -> Result<(), BadStripeSignature> {
        verify(header, BODY, secrets.iter().copied(), Timestamp::from_seconds(seconds))
    }

    #[test]
    fn a_message_is_believed_that_was_signed_with_one_of_the_secrets_a_short_while_ago() {
        let (header, at) = (format!("t=1700000000,v1={ONE},v0=00"), 1_700_000_000);
        for seconds in [at, at + 300, at - 300] {
            assert_eq!(verified(&header, &["whsec_one"], seconds), Ok(()));
        }
        for seconds in [at + 301, at - 301] {
            assert_eq!(verified(&header, &["whsec_one"], seconds), Err(BadStripeSignature::Untimely));
        }
        // While one takes the other's place, on either side.
        assert_eq!(verified(&header, &["whsec_two", "whsec_one"], at), Ok(()));
        assert_eq!(verified(&format!("t=1700000000,v1={TWO},v1={ONE}"), &["whsec_one"], at), Ok(()));
    }

    #[test]
    fn no_other_message_is_believed() {
        let at = 1_700_000_000;
        for (header, secrets) in [
            (format!("t=1700000001,v1={ONE}"), ["whsec_one"]),
            (format!("t=1700000000,v1={TWO}"), ["whsec_one"]),
            (format!("t=1700000000,v1={}", "0".repeat(64)), ["whsec_one"]),
        ] {
            assert_eq!(verified(&header, &secrets, at), Err(BadStripeSignature::Forged), "{header}");
        }
        assert_eq!(verified(&format!("t=1700000000,v1={ONE}"), &[], at), Err(BadStripeSignature::Forged));
        for header in [
            String::new(),
            format!("v1={ONE}"),
            format!("t=x,v1={ONE}"),
            "t=1700000000".to_owned(),
            format!("t=1700000000,v0={ONE}"),
            format!("t=1700000000,v1={}", &ONE[1..]),
        ] {
            let refused = verified(&header, &["whsec_one"], at);
            assert_eq!(refused, Err(BadStripeSignature::Malformed), "{header}");
        }
    }
}
