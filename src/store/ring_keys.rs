//! Which key-encryption keys this database's secrets belong to.

use super::sql::query;
use super::values::digest;
use super::{StoreError, Tx};
use crate::clock::Timestamp;

impl Tx {
    /// Notes a key by its version, unless one of that version is noted already; answers the fingerprint that is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note_ring_key(
        &mut self,
        version: i64,
        fingerprint: &[u8; 32],
        at: Timestamp,
    ) -> Result<[u8; 32], StoreError> {
        query(
            "INSERT INTO ring_keys (version, fingerprint, noted_at) VALUES ($1, $2, $3)
             ON CONFLICT (version) DO NOTHING",
        )
        .bind(version)
        .bind(fingerprint.as_slice())
        .bind(at)
        .execute(self.connection())
        .await?;
        let noted = query("SELECT fingerprint FROM ring_keys WHERE version = $1").bind(version);
        digest(&noted.fetch_one(self.connection()).await?, "fingerprint")
    }
}
