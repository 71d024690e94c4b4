//! An account's key as a slot holds it.

use uuid::Uuid;

use super::slot::KEY_WORDS;
use crate::clock::Timestamp;
use crate::domain::{AccountKey, ApiKeyId, Owner, Period, TenantId, Window};

/// Owner's kind, period, length and bytes of the resource's name; owner's id; window. Never changed: it is the
/// file's format.
pub(super) fn key_to_words(key: &AccountKey) -> [u64; KEY_WORDS] {
    let mut bytes = [0; KEY_WORDS * 8];
    let name = key.resource.as_str().as_bytes();
    bytes[0] = match key.owner {
        Owner::Tenant(_) => 1,
        Owner::Key(_) => 2,
    };
    bytes[1] = key.window.period.code();
    bytes[2] = u8::try_from(name.len()).unwrap_or(u8::MAX);
    bytes[3..3 + name.len()].copy_from_slice(name);
    bytes[40..56].copy_from_slice(key.owner.uuid().as_bytes());
    bytes[56..64].copy_from_slice(&key.window.start.micros().to_le_bytes());
    bytes[64..72].copy_from_slice(&key.window.end.micros().to_le_bytes());
    std::array::from_fn(|word| u64::from_le_bytes(array(&bytes[word * 8..word * 8 + 8])))
}

/// The inverse of [`key_to_words`].
pub(super) fn key_from_words(words: &[u64; KEY_WORDS]) -> Option<AccountKey> {
    let mut bytes = [0; KEY_WORDS * 8];
    for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    let id = Uuid::from_bytes(array(&bytes[40..56]));
    let owner = match bytes[0] {
        1 => Owner::Tenant(TenantId(id)),
        2 => Owner::Key(ApiKeyId(id)),
        _ => return None,
    };
    let name = bytes.get(3..3 + usize::from(bytes[2]))?;
    let window = Window {
        period: Period::from_code(bytes[1])?,
        start: Timestamp::from_micros(i64::from_le_bytes(array(&bytes[56..64]))),
        end: Timestamp::from_micros(i64::from_le_bytes(array(&bytes[64..72]))),
    };
    Some(AccountKey { owner, resource: std::str::from_utf8(name).ok()?.parse().ok()?, window })
}

/// # Panics
/// If `bytes` is not `N` long: the callers' slices are literal.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
