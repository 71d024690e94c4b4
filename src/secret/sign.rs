//! The gateway's own signature: proves to an upstream that a request came through the gate, and whose it is.
//!
//! A JWS in compact form (RFC 7515) with Ed25519 (RFC 8037), so that upstreams verify it with any JWT library. It is
//! good for seconds, and for one method and path: what leaks from a log can't be replayed for long or elsewhere.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// A private key, and how it signs.
pub struct Signer {
    pair: Ed25519KeyPair,
    lifetime: Duration,
    /// The encoded header and its dot: the same for all.
    header: String,
    jwks: String,
}

/// The text is no private key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an Ed25519 private key is expected: PKCS #8 PEM, or its 32 bytes in base64")]
pub struct BadSigningKey;

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
        let pair = pair(key.trim()).ok_or(BadSigningKey)?;
        let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        // RFC 7638: the key's name is its thumbprint, so another key has another name.
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
        let kid = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }).to_string();
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x });
        Ok(Signer {
            pair,
            lifetime,
            header: format!("{}.", BASE64_URL_SAFE_NO_PAD.encode(header)),
            jwks: json!({ "keys": [key] }).to_string(),
        })
    }

    /// The public key, as upstreams fetch it: a JWK set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The JWS.
    pub fn sign(&self, statement: Statement<'_>, now: Timestamp) -> String {
        let iat = now.seconds();
        let timed = Timed { iat, exp: now.plus(self.lifetime).seconds(), statement };
        // Texts and numbers always have a form in JSON.
        let claims = serde_json::to_vec(&timed).unwrap_or_default();
        let mut jws = self.header.clone();
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut jws);
        let signature = self.pair.sign(jws.as_bytes());
        jws.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        jws
    }
}

/// Without the private key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

fn pair(text: &str) -> Option<Ed25519KeyPair> {
    if text.starts_with("-----") {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
        // `openssl genpkey` writes the key without its public half.
        return Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok();
    }
    let seed = BASE64_STANDARD.decode(text).ok().filter(|seed| seed.len() == 32)?;
    Ed25519KeyPair::from_seed_unchecked(&seed).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::{BadSigningKey, Signer, Statement};
    use crate::clock::Timestamp;

    /// RFC 8037, appendix A.
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

    const STATEMENT: Statement<'_> = Statement {
        tenant_id: "acme",
        key_id: None,
        subject: Some("a\"b"),
        request_id: "1",
        method: "GET",
        path: "/v1/ä",
    };

    #[test]
    fn the_published_key_is_that_of_rfc_8037_and_named_by_its_thumbprint() {
        let signer = Signer::new(SEED, Duration::from_secs(30)).unwrap();
        for expected in
            ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]
        {
            assert!(signer.jwks().contains(expected), "{}", signer.jwks());
        }
        assert!(!format!("{signer:?}").contains("nWGxne"));
    }

    #[test]
    fn a_pem_file_is_the_same_key_as_its_bytes() {
        let der = [&b"0.\x02\x01\x000\x05\x06\x03+ep\x04\"\x04 "[..], &BASE64_STANDARD.decode(SEED).unwrap()]
            .concat();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(der)
        );
        let jwks =
            |key: &str| Signer::new(key, Duration::from_secs(1)).map(|signer| signer.jwks().to_owned());
        assert_eq!(jwks(&pem), jwks(SEED));
        for bad in ["", "nWGxne", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"] {
            assert_eq!(jwks(bad).unwrap_err(), BadSigningKey, "{bad}");
        }
    }

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
        let public = UnparsedPublicKey::new(&ED25519, signer.pair.public_key().as_ref().to_vec());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
        assert!(public.verify(signed.replace("ey", "fy").as_bytes(), &signature).is_err());
    }
}
