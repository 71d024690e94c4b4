//! The gateway's own signature: proves to an upstream that a request came through the gate, and whose it is.
//!
//! A JWS in compact form (RFC 7515) with Ed25519 (RFC 8037), so that upstreams verify it with any JWT library. It is
//! good for seconds, and for one method and path: what leaks from a log can't be replayed for long or elsewhere.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;

use super::ed25519::{BadSigningKey, PublicKey, SigningKey};
use crate::clock::Timestamp;

/// A private key, and how it signs.
pub struct Signer {
    key: SigningKey,
    lifetime: Duration,
    /// The encoded header and its dot: the same for all.
    header: String,
}

/// What is said of a request.
#[derive(Clone, Copy, Serialize)]
pub struct Statement<'s> {
    pub tenant_id: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<&'s str>,
    /// Whoever calls within the tenant, by a token's word.
    #[serde(rename = "sub", skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'s str>,
    pub request_id: &'s str,
    pub method: &'s str,
    /// As the upstream is asked, without the query.
    pub path: &'s str,
}

/// A statement and its time.
#[derive(Serialize)]
struct Timed<'s> {
    iat: i64,
    exp: i64,
    #[serde(flatten)]
    statement: Statement<'s>,
}

// === impl Signer ===

impl Signer {
    /// From PKCS #8 in PEM, or the key's 32 bytes in base64.
    ///
    /// # Errors
    /// [`BadSigningKey`], which does not repeat the text.
    pub fn new(key: &str, lifetime: Duration) -> Result<Signer, BadSigningKey> {
        let key = SigningKey::parse(key)?;
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": key.public().id() }).to_string();
        let header = format!("{}.", BASE64_URL_SAFE_NO_PAD.encode(header));
        Ok(Signer { key, lifetime, header })
    }

    /// What upstreams verify with.
    pub const fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The JWS.
    pub fn sign(&self, statement: Statement<'_>, now: Timestamp) -> String {
        let iat = now.seconds();
        let timed = Timed { iat, exp: now.plus(self.lifetime).seconds(), statement };
        // Texts and numbers always have a form in JSON.
        let claims = serde_json::to_vec(&timed).unwrap_or_default();
        let mut jws = self.header.clone();
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut jws);
        let signature = self.key.sign(jws.as_bytes());
        jws.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        jws
    }
}

/// Without the private key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::super::ed25519::tests::SEED;
    use super::{Signer, Statement};
    use crate::clock::Timestamp;

    const STATEMENT: Statement<'_> = Statement {
        tenant_id: "acme",
        key_id: None,
        subject: Some("a\"b"),
        request_id: "1",
        method: "GET",
        path: "/v1/ä",
    };

    #[test]
    fn what_is_signed_is_what_was_said_and_ends_with_its_time() {
        let signer = Signer::new(SEED, Duration::from_secs(30)).unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let jws = signer.sign(STATEMENT, now);
        let claims = jws.split('.').nth(1).unwrap();
        let claims = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let expected = r#"{"iat":1800000000,"exp":1800000030,"tenant_id":"acme","sub":"a\"b","request_id":"1","method":"GET","path":"/v1/ä"}"#;
        assert_eq!(claims, expected);
        let (signed, signature) = jws.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(signer.public().verifies(signed.as_bytes(), &signature));
        assert!(!signer.public().verifies(signed.replace("ey", "fy").as_bytes(), &signature));
        assert!(!format!("{signer:?}").contains("nWGxne"));
    }
}
