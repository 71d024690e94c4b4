//! Checkpoints: signed statements of how far an audit chain had come, and with which hash.
//!
//! A chain by itself shows that no row was changed unless all rows after it were written anew. Who has the database in
//! hand can do that, and can cut off the end; but not sign. So a signed place of the chain, kept where that hand does
//! not reach, proves every row up to it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ed25519::{PublicKey, SigningKey};
use crate::clock::Timestamp;
use crate::domain::TenantId;

/// A place of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    pub seq: i64,
    /// Hexadecimal.
    pub hash: String,
}

/// A place of a chain, and who says so. As JSON it is one line of a checkpoint file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SignedCheckpoint {
    /// Whose chain; `None` is the platform's own.
    pub tenant_id: Option<TenantId>,
    #[serde(flatten)]
    pub place: Checkpoint,
    /// When it was signed: all rows up to the place are older.
    pub at: Timestamp,
    /// The id of the public key that verifies it.
    pub signer: String,
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// 64 bytes; base64url in JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature(pub Vec<u8>);

/// What a signature is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    Good,
    /// Its signer is nobody whom we believe: it says nothing, and nothing against the chain.
    Unknown,
    /// It names a signer whom we believe, and is not theirs.
    Forged,
}

/// Says what is signed and in which form: another form gets another tag.
const TAG: &str = "tollgate audit checkpoint 1";

// === impl SignedCheckpoint ===

impl SignedCheckpoint {
    pub fn sign(
        key: &SigningKey,
        tenant_id: Option<TenantId>,
        place: Checkpoint,
        at: Timestamp,
    ) -> SignedCheckpoint {
        let signature = Signature(key.sign(statement(tenant_id, &place, at).as_bytes()));
        SignedCheckpoint { tenant_id, place, at, signer: key.public().id(), signature }
    }

    /// What it is worth to who believes `keys`.
    pub fn worth(&self, keys: &[PublicKey]) -> Worth {
        let Some(key) = keys.iter().find(|key| key.id() == self.signer) else { return Worth::Unknown };
        let statement = statement(self.tenant_id, &self.place, self.at);
        if key.verifies(statement.as_bytes(), &self.signature.0) { Worth::Good } else { Worth::Forged }
    }
}

/// One field a line, none of which can hold the end of one.
fn statement(tenant: Option<TenantId>, place: &Checkpoint, at: Timestamp) -> String {
    let chain = tenant.map_or(Uuid::nil(), |tenant| tenant.0);
    format!("{TAG}\n{chain}\n{}\n{}\n{at}\n", place.seq, place.hash)
}

// === impl Checkpoint ===

impl Checkpoint {
    /// From `SEQ:HASH`.
    pub fn parse(text: &str) -> Option<Checkpoint> {
        let (seq, hash) = text.split_once(':')?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let seq = seq.parse().ok().filter(|seq: &i64| *seq > 0 && is_hash)?;
        Some(Checkpoint { seq, hash: hash.to_ascii_lowercase() })
    }
}

// === impl Signature ===

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
        bytes.map(Signature).map_err(|_| serde::de::Error::custom("base64url is expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ed25519::{SigningKey, tests::SEED};
    use super::{Checkpoint, SignedCheckpoint, Worth};
    use crate::clock::Timestamp;
    use crate::domain::TenantId;
    use uuid::Uuid;

    fn signed() -> (SigningKey, SignedCheckpoint) {
        let key = SigningKey::parse(SEED).unwrap();
        let place = Checkpoint { seq: 7, hash: "0a".repeat(32) };
        let signed =
            SignedCheckpoint::sign(&key, Some(TenantId(Uuid::max())), place, Timestamp::from_seconds(1));
        (key, signed)
    }

    #[test]
    fn a_line_is_the_same_checkpoint_when_it_is_read_again() {
        let (key, signed) = signed();
        let line = serde_json::to_string(&signed).unwrap();
        assert!(!line.contains('\n') && line.contains(r#""seq":7,"hash":"0a0a"#), "{line}");
        let read: SignedCheckpoint = serde_json::from_str(&line).unwrap();
        assert_eq!((read.worth(&[key.public()]), read), (Worth::Good, signed));
    }

    #[test]
    fn nothing_of_it_can_be_changed_and_nobody_else_can_have_signed_it() {
        let (key, signed) = signed();
        let mut others = [(); 4].map(|()| signed.clone());
        others[0].tenant_id = None;
        others[1].place.seq = 8;
        others[2].place.hash.replace_range(0..1, "1");
        others[3].at = Timestamp::from_seconds(2);
        for other in others {
            assert_eq!(other.worth(&[key.public()]), Worth::Forged, "{other:?}");
        }
        assert_eq!(signed.worth(&[]), Worth::Unknown);
    }

    #[test]
    fn a_place_as_text_has_a_number_and_a_whole_hash() {
        let hash = "AB".repeat(32);
        assert_eq!(Checkpoint::parse(&format!("7:{hash}")).map(|place| place.seq), Some(7));
        for bad in ["", "7", "0:ab", &format!("0:{hash}"), &format!("7:{hash}0"), &format!("x:{hash}")] {
            assert_eq!(Checkpoint::parse(bad), None, "{bad}");
        }
    }
}
