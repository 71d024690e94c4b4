//! Credentials whose pepper is being exchanged: found by any of their digests, stored anew under the current one, and
//! counted, so that it is seen when an old pepper can go.

use super::sql::query;
use super::values::get;
use super::{PlatformToken, Snapshot, Store, StoreError, Tx};
use crate::domain::ApiKey;
use crate::secret::hash::{Digests, Renewal};

/// What was found by one of a credential's digests.
#[derive(Clone, PartialEq, Debug)]
pub struct Found<T> {
    pub what: T,
    /// Set if it is stored under an older pepper than the current one.
    pub renewal: Option<Renewal>,
}

/// What is stored under one pepper and may still be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peppered {
    pub version: i64,
    pub keys: i64,
    pub platform_tokens: i64,
}

// === impl Store ===

impl Store {
    /// Stores keys under the current pepper; tells how many. A batch, and no change that anyone needs to hear of: what a
    /// key may do does not depend on its digest. One that is renewed already is left alone.
    ///
    /// # Errors
    /// [`StoreError`]; then none is renewed.
    pub async fn renew_keys(&self, renewals: &[Renewal]) -> Result<u64, StoreError> {
        let mut in_order = renewals.to_vec();
        // Two gateways that renew the same keys would wait for each other if their orders differed.
        in_order.sort_unstable_by_key(|renewal| renewal.old);
        let (mut tx, mut renewed) = (self.begin().await?, 0);
        for Renewal { old, new } in in_order {
            renewed += query(
                "UPDATE api_keys SET digest = $2, pepper_version = $3
                 WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM api_keys AS other WHERE other.digest = $2)",
            )
            .bind(old.0.as_slice())
            .bind(new.digest.0.as_slice())
            .bind(new.version)
            .execute(tx.connection())
            .await?;
        }
        tx.commit().await?;
        Ok(renewed)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The key that is stored under one of these digests, the current one first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn key_by_digests(&mut self, digests: &Digests) -> Result<Option<Found<ApiKey>>, StoreError> {
        for stored in digests.all() {
            if let Some(what) = self.key_by_digest(&stored.digest).await? {
                return Ok(Some(Found { what, renewal: digests.renewal(stored) }));
            }
        }
        Ok(None)
    }

    /// The unrevoked platform token that is stored under one of these digests, the current one first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn platform_token_by_digests(
        &mut self,
        digests: &Digests,
    ) -> Result<Option<Found<PlatformToken>>, StoreError> {
        for stored in digests.all() {
            if let Some(what) = self.platform_token(&stored.digest).await? {
                return Ok(Some(Found { what, renewal: digests.renewal(stored) }));
            }
        }
        Ok(None)
    }

    /// What is stored under which pepper, by version. What is revoked, and the keys of deleted tenants, need none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn peppered(&mut self) -> Result<Vec<Peppered>, StoreError> {
        let rows = query(
            "SELECT pepper_version, SUM(is_key) AS keys, SUM(1 - is_key) AS platform_tokens
             FROM (SELECT pepper_version, 1 AS is_key FROM api_keys JOIN organizations USING (tenant_id)
                   WHERE api_keys.revoked_at IS NULL AND organizations.deleted_at IS NULL
                   UNION ALL SELECT pepper_version, 0 FROM platform_tokens WHERE revoked_at IS NULL) AS stored
             GROUP BY pepper_version ORDER BY pepper_version",
        )
        .fetch_all(self.connection())
        .await?;
        let peppered = |row| {
            Ok(Peppered {
                version: get(row, "pepper_version")?,
                keys: get(row, "keys")?,
                platform_tokens: get(row, "platform_tokens")?,
            })
        };
        rows.iter().map(peppered).collect()
    }
}

// === impl Tx ===

impl Tx {
    /// Stores a platform token under the current pepper. One that is renewed already is left alone.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn renew_platform_token(&mut self, Renewal { old, new }: Renewal) -> Result<(), StoreError> {
        query("UPDATE platform_tokens SET digest = $2, pepper_version = $3 WHERE digest = $1")
            .bind(old.0.as_slice())
            .bind(new.digest.0.as_slice())
            .bind(new.version)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
