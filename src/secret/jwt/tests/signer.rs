//! Keys that sign what a test wants, by the same library as verifies it: the vectors of others hold the library.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::{Algorithm, KeySet};

/// Whoever makes tokens.
pub(super) enum Signer {
    Rsa(Box<rsa::KeyPair>, Algorithm),
    Ecdsa(Box<EcdsaKeyPair>, Algorithm),
    Ed25519(Ed25519KeyPair),
    Secret(Vec<u8>, Algorithm),
}

// === impl Signer ===

impl Signer {
    pub(super) fn new(algorithm: Algorithm) -> Signer {
        use Algorithm::{ES256, ES384, ES512, EdDSA, HS256, HS384, HS512};
        let ecdsa = |signing| Box::new(EcdsaKeyPair::generate(signing).unwrap());
        match algorithm {
            ES256 => Signer::Ecdsa(ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING), algorithm),
            ES384 => Signer::Ecdsa(ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING), algorithm),
            ES512 => Signer::Ecdsa(ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING), algorithm),
            EdDSA => Signer::Ed25519(Ed25519KeyPair::generate().unwrap()),
            HS256 | HS384 | HS512 => Signer::Secret(vec![7; 64], algorithm),
            _ => Signer::Rsa(Box::new(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap()), algorithm),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Signer::Rsa(_, algorithm) | Signer::Ecdsa(_, algorithm) | Signer::Secret(_, algorithm) => {
                *algorithm
            }
            Signer::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    /// Its public key, without `alg` and `kid`.
    pub(super) fn jwk(&self) -> Value {
        match self {
            Signer::Rsa(pair, _) => {
                // DER of `RSAPublicKey`: 256 bytes of n, then e, which is 65537, in five.
                let der = pair.public_key().as_ref();
                let n = &der[der.len() - 261..der.len() - 5];
                json!({ "kty": "RSA", "n": encoded(n), "e": "AQAB" })
            }
            Signer::Ecdsa(pair, algorithm) => {
                let (curve, length, _) = algorithm.ecdsa().unwrap();
                let point = &pair.public_key().as_ref()[1..];
                json!({ "kty": "EC", "crv": curve, "x": encoded(&point[..length]),
                    "y": encoded(&point[length..]) })
            }
            Signer::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key().as_ref()) })
            }
            Signer::Secret(secret, _) => json!({ "kty": "oct", "k": encoded(secret) }),
        }
    }

    /// As its verifier would have it configured.
    pub(super) fn keys(&self) -> KeySet {
        let accepted = [self.algorithm()];
        match self {
            Signer::Secret(secret, _) => KeySet::of_secret(secret, &accepted).unwrap(),
            _ => KeySet::parse(json!({ "keys": [self.jwk()] }).to_string().as_bytes(), &accepted).unwrap(),
        }
    }

    /// A token with these claims and an ordinary header.
    pub(super) fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": format!("{:?}", self.algorithm()), "typ": "JWT" });
        self.signed(&header.to_string(), &claims.to_string())
    }

    /// Whatever it is, signed.
    pub(super) fn signed(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header.as_bytes()), encoded(payload.as_bytes()));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encoded(&signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair, algorithm) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(*algorithm), &random, message, &mut signature).unwrap();
                signature
            }
            Signer::Ecdsa(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Secret(secret, algorithm) => {
                let key = hmac::Key::new(algorithm.hmac().unwrap().0, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_SHA512,
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::PS384 => &RSA_PSS_SHA384,
        _ => &RSA_PSS_SHA512,
    }
}
