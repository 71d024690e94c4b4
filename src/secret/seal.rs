//! Settings at rest: envelope encryption.
//!
//! A [`DataKey`] per tenant seals what is secret; a [`KeyRing`] of key-encryption keys, which never enter the database,
//! wraps the data keys. So a dump of the database holds nothing readable, exchanging the ring's key rewraps one short
//! row per tenant and touches no secret, and a tenant whose data key is deleted is shredded, backups included as soon
//! as the ring's key is gone.
//!
//! AES-256-GCM with random nonces, by the library that does our TLS. A key seals far fewer than the 2^32 messages
//! that random nonces bear: settings are written by people. What is sealed is bound to its place: to other names, as
//! [`Place`] says them, it does not open.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::hash::{PepperError, load_or_create_secret};
use super::hex;
use crate::domain::TenantId;

/// Key-encryption keys by their versions. The newest wraps; all unwrap.
#[derive(Clone)]
pub struct KeyRing {
    /// Newest first; never empty.
    keys: Vec<(i64, [u8; KEY_BYTES])>,
}

/// What a tenant's secrets are sealed with. Exists outside of a wrapping only while it is used.
pub struct DataKey {
    pub id: Uuid,
    key: [u8; KEY_BYTES],
}

/// A data key as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrappedKey {
    pub id: Uuid,
    /// Of the key that wraps it.
    pub ring_version: i64,
    pub bytes: Vec<u8>,
}

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub tenant: TenantId,
    pub name: &'a str,
    pub version: i64,
}

/// What can't be sealed or opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    #[error("the key-encryption key of version {0} is not configured")]
    NoKey(i64),
    /// Changed, moved from another place, or sealed with another key.
    #[error("it does not open: it was changed, or belongs elsewhere")]
    Unopened,
    #[error("sealing failed")]
    Unsealed,
    /// Another key of that version seals what is in the database.
    #[error(
        "the key-encryption key of version {0} is not the one that the store's secrets are sealed with: give all gateways of \
         a store the same control.secret_keys; what a gateway made for itself is in its data directory (secret.key)"
    )]
    OtherKey(i64),
}

/// Keys that make no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("a key-encryption key is 64 hexadecimal digits")]
    Malformed,
    #[error("version {0} is given twice")]
    Twice(i64),
    #[error("{} can't be read or made", .0.display())]
    File(PathBuf, #[source] PepperError),
}

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// First byte of everything sealed: what follows, and what it is bound to.
const FORMAT: u8 = 1;

// === impl KeyRing ===

impl KeyRing {
    /// # Errors
    /// [`RingError`]
    pub fn parse<'a>(keys: impl IntoIterator<Item = (i64, &'a str)>) -> Result<KeyRing, RingError> {
        let mut ring = Vec::new();
        for (version, text) in keys {
            if ring.iter().any(|(other, _)| *other == version) {
                return Err(RingError::Twice(version));
            }
            ring.push((version, hex::decoded(text).ok_or(RingError::Malformed)?));
        }
        ring.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        if ring.is_empty() { Err(RingError::Malformed) } else { Ok(KeyRing { keys: ring }) }
    }

    /// The ring of a gateway that is alone: one key, kept beside the database and not in it.
    ///
    /// # Errors
    /// [`RingError::File`]; an existing file is never overwritten, because without it all secrets are lost.
    pub fn load_or_create(path: &Path) -> Result<KeyRing, RingError> {
        let key = load_or_create_secret(path).map_err(|error| RingError::File(path.to_owned(), error))?;
        Ok(KeyRing { keys: vec![(1, key)] })
    }

    /// The version that wraps.
    pub fn newest(&self) -> i64 {
        self.keys.first().map_or(0, |(version, _)| *version)
    }

    /// What tells the keys apart, and nothing of them, by their versions.
    pub fn fingerprints(&self) -> impl Iterator<Item = (i64, [u8; 32])> + '_ {
        let fingerprint =
            |key: &[u8; KEY_BYTES]| Sha256::new_with_prefix(b"tollgate ring key\n").chain_update(key);
        self.keys.iter().map(move |(version, key)| (*version, fingerprint(key).finalize().into()))
    }

    /// A new data key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn draw(&self, id: Uuid) -> Result<DataKey, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(DataKey { id, key })
    }

    /// # Errors
    /// [`SealError::Unsealed`]
    pub fn wrap(&self, tenant: TenantId, key: &DataKey) -> Result<WrappedKey, SealError> {
        let Some((ring_version, own)) = self.keys.first() else { return Err(SealError::NoKey(0)) };
        let bytes = seal(own, &wrapping(tenant, key.id, *ring_version), &key.key)?;
        Ok(WrappedKey { id: key.id, ring_version: *ring_version, bytes })
    }

    /// What is sealed in `place` with the data key of that id, which is one of `keys`.
    ///
    /// # Errors
    /// As [`KeyRing::unwrap`], and [`SealError::Unopened`] for what was sealed elsewhere, or with a key that is gone.
    pub fn open(
        &self,
        keys: &[WrappedKey],
        data_key: Uuid,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<String, SealError> {
        let wrapped = keys.iter().find(|wrapped| wrapped.id == data_key).ok_or(SealError::Unopened)?;
        self.unwrap(place.tenant, wrapped)?.open(place, sealed)
    }

    /// # Errors
    /// [`SealError::NoKey`] for a version that is not in the ring; [`SealError::Unopened`].
    pub fn unwrap(&self, tenant: TenantId, wrapped: &WrappedKey) -> Result<DataKey, SealError> {
        let WrappedKey { id, ring_version, bytes } = wrapped;
        let own = self.keys.iter().find(|(version, _)| version == ring_version);
        let (_, own) = own.ok_or(SealError::NoKey(*ring_version))?;
        let key = open(own, &wrapping(tenant, *id, *ring_version), bytes)?;
        let key = key.as_slice().try_into().map_err(|_| SealError::Unopened)?;
        Ok(DataKey { id: *id, key })
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing(version {})", self.newest())
    }
}

// === impl DataKey ===

impl DataKey {
    /// One that is derived from something else, and so is wrapped nowhere.
    pub const fn of(id: Uuid, key: [u8; KEY_BYTES]) -> DataKey {
        DataKey { id, key }
    }

    /// # Errors
    /// [`SealError::Unsealed`]
    pub fn seal(&self, place: Place<'_>, plain: &str) -> Result<Vec<u8>, SealError> {
        seal(&self.key, &self.bound_to(place), plain.as_bytes())
    }

    /// # Errors
    /// [`SealError::Unopened`]
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<String, SealError> {
        let plain = open(&self.key, &self.bound_to(place), sealed)?;
        String::from_utf8(plain).map_err(|_| SealError::Unopened)
    }

    fn bound_to(&self, place: Place<'_>) -> Vec<u8> {
        let Place { tenant, name, version } = place;
        // The name comes last: all before it has a fixed length, so no two places read alike.
        [
            &b"setting"[..],
            &[FORMAT],
            &tenant.0.as_bytes()[..],
            self.id.as_bytes(),
            &version.to_be_bytes(),
            name.as_bytes(),
        ]
        .concat()
    }
}

fn wrapping(tenant: TenantId, key: Uuid, ring_version: i64) -> Vec<u8> {
    [&b"datakey"[..], &[FORMAT], &tenant.0.as_bytes()[..], key.as_bytes(), &ring_version.to_be_bytes()]
        .concat()
}

/// Format, nonce, ciphertext, tag.
fn seal(key: &[u8; KEY_BYTES], bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Unsealed)?;
    let mut text = plain.to_vec();
    let nonce =
        key.seal_in_place_append_tag(Aad::from(bound_to), &mut text).map_err(|_| SealError::Unsealed)?;
    Ok([&[FORMAT], nonce.as_ref().as_slice(), &text].concat())
}

fn open(key: &[u8; KEY_BYTES], bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Unopened)?;
    let sealed = sealed.strip_prefix(&[FORMAT]).ok_or(SealError::Unopened)?;
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealError::Unopened)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Unopened)?;
    let mut text = text.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(bound_to), &mut text).map_err(|_| SealError::Unopened)?;
    Ok(plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{KeyRing, Place, RingError, SealError};
    use crate::domain::TenantId;
    use uuid::Uuid;

    const ACME: TenantId = TenantId(Uuid::from_u128(1));
    const OTHER: TenantId = TenantId(Uuid::from_u128(2));

    fn ring(versions: &[i64]) -> KeyRing {
        let texts: Vec<_> = versions.iter().map(|version| format!("{version:064x}")).collect();
        KeyRing::parse(versions.iter().copied().zip(texts.iter().map(String::as_str))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_and_nowhere_else() {
        let key = ring(&[1]).draw(Uuid::from_u128(7)).unwrap();
        let place = Place { tenant: ACME, name: "smtp_password", version: 3 };
        let sealed = key.seal(place, "hunter2").unwrap();
        assert_eq!(key.open(place, &sealed).as_deref(), Ok("hunter2"));
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(key.seal(place, "hunter2").unwrap(), sealed, "no two sealings are alike");
        for elsewhere in [
            Place { tenant: OTHER, ..place },
            Place { name: "smtp_passwor", ..place },
            Place { version: 4, ..place },
        ] {
            assert_eq!(key.open(elsewhere, &sealed), Err(SealError::Unopened), "{elsewhere:?}");
        }
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(key.open(place, &bent).is_err(), "byte {at}");
            assert!(key.open(place, &sealed[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn the_newest_key_wraps_and_older_ones_still_unwrap() {
        let place = Place { tenant: ACME, name: "a", version: 1 };
        let key = ring(&[1]).draw(Uuid::from_u128(7)).unwrap();
        let sealed = key.seal(place, "x").unwrap();
        let before = ring(&[1]).wrap(ACME, &key).unwrap();
        let both = ring(&[1, 2]);
        let unwrapped = both.unwrap(ACME, &before).unwrap();
        let after = both.wrap(ACME, &unwrapped).unwrap();
        assert_eq!((before.ring_version, after.ring_version), (1, 2));
        assert_eq!(ring(&[2]).unwrap(ACME, &after).unwrap().open(place, &sealed).as_deref(), Ok("x"));
        assert_eq!(ring(&[2]).unwrap(ACME, &before).err(), Some(SealError::NoKey(1)));
        assert_eq!(both.unwrap(OTHER, &after).err(), Some(SealError::Unopened));
    }

    #[test]
    fn a_ring_has_good_keys_each_of_its_own_version() {
        assert!(matches!(KeyRing::parse([]), Err(RingError::Malformed)));
        assert!(matches!(KeyRing::parse([(1, "ab")]), Err(RingError::Malformed)));
        let key = "0".repeat(64);
        assert!(matches!(KeyRing::parse([(1, key.as_str()), (1, key.as_str())]), Err(RingError::Twice(1))));
    }
}
