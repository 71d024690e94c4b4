//! Signed texts (JWS compact serialization, RFC 7515): three parts with dots between them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::keys::KeySet;
use super::{BadToken, json};

/// A signed text, read and not yet believed.
pub(super) struct Jws<'t> {
    pub(super) payload: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    kind: Option<String>,
    /// Header and payload as they were sent: what the signature goes over.
    signed: &'t [u8],
    signature: Vec<u8>,
}

// === impl Jws ===

impl<'t> Jws<'t> {
    /// # Errors
    /// [`BadToken::Malformed`], [`BadToken::Algorithm`], [`BadToken::Critical`]
    pub(super) fn read(text: &'t [u8]) -> Result<Jws<'t>, BadToken> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadToken::Malformed);
        };
        let members = json::object(&decoded(header)?).ok_or(BadToken::Malformed)?;
        if members.contains_key("crit") {
            return Err(BadToken::Critical);
        }
        let algorithm = text_of(&members, "alg")?.and_then(Algorithm::named);
        Ok(Jws {
            payload: decoded(payload)?,
            algorithm: algorithm.ok_or(BadToken::Algorithm)?,
            key_id: text_of(&members, "kid")?.map(str::to_owned),
            kind: text_of(&members, "typ")?.map(str::to_owned),
            signed: &text[..header.len() + 1 + payload.len()],
            signature: decoded(signature)?,
        })
    }

    /// What kind of thing it says it is.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// # Errors
    /// [`BadToken::Key`] if the keys may have been exchanged since, [`BadToken::Signature`] if there is no hope.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(), BadToken> {
        match keys.verifies(self.algorithm, self.key_id.as_deref(), self.signed, &self.signature) {
            Some(true) => Ok(()),
            // Of an issuer that names no keys, a new key can't be told from a wrong signature.
            None => Err(BadToken::Key),
            Some(false) if self.key_id.is_none() => Err(BadToken::Key),
            Some(false) => Err(BadToken::Signature),
        }
    }
}

/// Strict: no padding, no other alphabet, no stray bits.
fn decoded(part: &[u8]) -> Result<Vec<u8>, BadToken> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed)
}

/// A member that must be text if it is there.
fn text_of<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, BadToken> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(BadToken::Malformed),
    }
}
