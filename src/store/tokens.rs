//! Platform tokens: what the platform's owner authenticates with.

use uuid::Uuid;

use super::sql::query;
use super::values::get;
use super::{Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::secret::hash::KeyDigest;

/// A platform token, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformToken {
    pub id: Uuid,
    pub name: String,
}

// === impl Snapshot ===

impl Snapshot {
    /// The unrevoked token with that digest.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn platform_token(&mut self, digest: &KeyDigest) -> Result<Option<PlatformToken>, StoreError> {
        let row =
            query("SELECT token_id, name FROM platform_tokens WHERE digest = $1 AND revoked_at IS NULL")
                .bind(digest.0.as_slice())
                .fetch_optional(self.connection())
                .await?;
        row.map(|row| Ok(PlatformToken { id: get(&row, "token_id")?, name: get(&row, "name")? })).transpose()
    }

    /// Whether there is an unrevoked token.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_platform_token(&mut self) -> Result<bool, StoreError> {
        let found = query("SELECT COUNT(*) FROM platform_tokens WHERE revoked_at IS NULL")
            .fetch_number(self.connection())
            .await?;
        Ok(found > 0)
    }
}

// === impl Tx ===

impl Tx {
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_platform_token(
        &mut self,
        token: &PlatformToken,
        digest: &KeyDigest,
        pepper_version: i64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO platform_tokens (token_id, name, digest, pepper_version, created_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(token.id)
        .bind(&token.name)
        .bind(digest.0.as_slice())
        .bind(pepper_version)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Revokes the unrevoked tokens of that name: a newly configured one takes the place of its predecessor.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn revoke_platform_tokens(&mut self, name: &str, at: Timestamp) -> Result<u64, StoreError> {
        query("UPDATE platform_tokens SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL")
            .bind(name)
            .bind(at)
            .execute(self.connection())
            .await
    }
}
