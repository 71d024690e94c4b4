//! Ed25519: what this installation signs with, and whose signatures it believes.
//!
//! A public key is named by its thumbprint (RFC 7638), so that another key has another name, and published as a JWK
//! (RFC 8037). The same kind of key signs headers, checkpoints of the audit log and exports of tenants; what is signed
//! says in its first bytes what it is, so that no signature of one kind passes for one of another.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hash::{PepperError, load_or_create_secret};
use super::hex;

/// A private key. Clones are the same key.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

/// The half of a key that anybody may know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; KEY_BYTES]);

/// The text is no private key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an Ed25519 private key is expected: PKCS #8 PEM, or its 32 bytes in base64 or hexadecimal")]
pub struct BadSigningKey;

const KEY_BYTES: usize = 32;

/// The keys as a JWK set (RFC 7517), each once.
pub fn jwks(keys: impl IntoIterator<Item = PublicKey>) -> String {
    let mut distinct: Vec<PublicKey> = Vec::new();
    for key in keys {
        if !distinct.contains(&key) {
            distinct.push(key);
        }
    }
    let keys: Vec<_> = distinct.iter().map(PublicKey::jwk).collect();
    json!({ "keys": keys }).to_string()
}

// === impl SigningKey ===

impl SigningKey {
    /// From PKCS #8 in PEM, or the key's 32 bytes in base64 or hexadecimal.
    ///
    /// # Errors
    /// [`BadSigningKey`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<SigningKey, BadSigningKey> {
        pair(text.trim()).and_then(SigningKey::of).ok_or(BadSigningKey)
    }

    /// Reads the key of `path`, or makes one: a file that only its owner may read.
    ///
    /// # Errors
    /// [`PepperError`]; an existing file is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<SigningKey, PepperError> {
        let seed = load_or_create_secret(path)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).ok().and_then(SigningKey::of);
        key.ok_or_else(|| PepperError::Malformed(path.display().to_string()))
    }

    fn of(pair: Ed25519KeyPair) -> Option<SigningKey> {
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(SigningKey { pair: Arc::new(pair), public })
    }

    pub const fn public(&self) -> PublicKey {
        self.public
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Without the private half.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

fn pair(text: &str) -> Option<Ed25519KeyPair> {
    if text.starts_with("-----") {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
        // `openssl genpkey` writes the key without its public half.
        return Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok();
    }
    let seed = match hex::decoded(text) {
        Some(seed) => seed.to_vec(),
        None => BASE64_STANDARD.decode(text).ok().filter(|seed| seed.len() == KEY_BYTES)?,
    };
    Ed25519KeyPair::from_seed_unchecked(&seed).ok()
}

// === impl PublicKey ===

impl PublicKey {
    /// From the `x` of its JWK: 32 bytes in unpadded base64url.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(PublicKey)
    }

    /// The `x` of its JWK.
    pub fn x(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Its thumbprint: the `kid` of its JWK.
    pub fn id(&self) -> String {
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id(), "x": self.x() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::{BadSigningKey, PublicKey, SigningKey, jwks};

    /// RFC 8037, appendix A.
    pub(in super::super) const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

    #[test]
    fn the_published_key_is_that_of_rfc_8037_and_named_by_its_thumbprint() {
        let key = SigningKey::parse(SEED).unwrap();
        let public = key.public();
        assert_eq!(public.x(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(public.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(PublicKey::parse(&public.x()), Some(public));
        let set = jwks([public, public]);
        assert_eq!(set.matches(&public.id()).count(), 1, "{set}");
        assert!(!format!("{key:?}").contains("nWGxne"));
    }

    #[test]
    fn a_pem_file_is_the_same_key_as_its_bytes() {
        let der = [&b"0.\x02\x01\x000\x05\x06\x03+ep\x04\"\x04 "[..], &BASE64_STANDARD.decode(SEED).unwrap()]
            .concat();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(der)
        );
        let public = |key: &str| SigningKey::parse(key).map(|key| key.public());
        assert_eq!(public(&pem), public(SEED));
        let hexadecimal = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        assert_eq!(public(hexadecimal), public(SEED));
        for bad in ["", "nWGxne", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"] {
            assert_eq!(public(bad), Err(BadSigningKey), "{bad}");
        }
    }

    #[test]
    fn a_kept_key_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.key");
        let made = SigningKey::load_or_create(&path).unwrap().public();
        assert_eq!(SigningKey::load_or_create(&path).unwrap().public(), made);
        std::fs::write(&path, "hello").unwrap();
        assert!(SigningKey::load_or_create(&path).is_err());
    }

    #[test]
    fn a_signature_is_good_for_what_was_signed_alone() {
        let key = SigningKey::parse(SEED).unwrap();
        let signature = key.sign(b"hello");
        assert!(key.public().verifies(b"hello", &signature));
        assert!(!key.public().verifies(b"hallo", &signature));
        assert!(!key.public().verifies(b"hello", &signature[1..]));
    }
}
