//! Signatures of Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over id, timestamp and body.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;

const PREFIX: &str = "whsec_";

/// One signature per secret, so that a receiver who knows either is content. `None` if there is no good secret.
pub(super) fn signatures<'a>(
    secrets: impl Iterator<Item = &'a str>,
    id: &str,
    at: Timestamp,
    body: &[u8],
) -> Option<String> {
    let signatures: Vec<_> = secrets.filter_map(|secret| signature(secret, id, at, body)).collect();
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

fn signature(secret: &str, id: &str, at: Timestamp, body: &[u8]) -> Option<String> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{}.", at.seconds()).as_bytes());
    mac.update(body);
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::signatures;
    use crate::clock::Timestamp;

    /// The example of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_reference_libraries() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let at = Timestamp::from_seconds(1_614_265_330);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let sign = |secrets: &[&str]| signatures(secrets.iter().copied(), id, at, br#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&[secret]).as_deref(), Some(expected));
        let both = sign(&["whsec_AAAA", secret]).unwrap();
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {expected}")), "{both}");
        assert_eq!(sign(&[]), None);
        assert_eq!(sign(&["whsec_%"]), None);
    }
}
