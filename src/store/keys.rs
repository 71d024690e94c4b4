//! API keys.

use super::sql::{Row, query, select};
use super::values::{get, json, to_json};
use super::{BadPage, Changed, Cursor, Listed, Page, Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{ApiKey, ApiKeyId, KeyLimits, TenantId};
use crate::secret::hash::KeyDigest;

const COLUMNS: &str = "tenant_id, key_id, name, prefix, scopes, routes, networks, expires_at, enabled, created_at, \
     revoked_at, last_used_at, version";

// === impl Store ===

impl Store {
    /// Notes when keys were last used; never backwards. A batch, and no change that anyone needs to hear of.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_keys_used(&self, used: &[(ApiKeyId, Timestamp)]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (key, at) in used {
            query(
                "UPDATE api_keys SET last_used_at = $2
                 WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
            )
            .bind(key.0)
            .bind(at)
            .execute(tx.connection())
            .await?;
        }
        tx.commit().await
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// # Errors
    /// [`StoreError`]
    pub async fn key_by_digest(&mut self, digest: &KeyDigest) -> Result<Option<ApiKey>, StoreError> {
        let row = select(COLUMNS, "FROM api_keys WHERE digest = $1")
            .bind(digest.0.as_slice())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(key).transpose()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn key(&mut self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let row = select(COLUMNS, "FROM api_keys WHERE key_id = $1")
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(key).transpose()
    }

    /// The tenant's newest key of that name, revoked or not.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn key_named(&mut self, tenant: TenantId, name: &str) -> Result<Option<ApiKey>, StoreError> {
        let row =
            select(COLUMNS, "FROM api_keys WHERE tenant_id = $1 AND name = $2 ORDER BY key_id DESC LIMIT 1")
                .bind(tenant.0)
                .bind(name)
                .fetch_optional(self.connection())
                .await?;
        row.as_ref().map(key).transpose()
    }

    /// The tenant's keys, newest first. Ids are UUIDv7, so their order is that of the keys' making.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn keys(
        &mut self,
        tenant: TenantId,
        page: &Page,
    ) -> Result<Result<Listed<ApiKey>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let query =
            select(COLUMNS, "FROM api_keys WHERE tenant_id = $1 AND key_id < $2").bind(tenant.0).bind(below);
        let cursor = |last: &ApiKey| Cursor::behind(last.id, last.created_at);
        self.listed(query, "key_id DESC", page, key, cursor).await.map(Ok)
    }
}

fn key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: ApiKeyId(get(row, "key_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        name: get(row, "name")?,
        prefix: get(row, "prefix")?,
        limits: KeyLimits {
            scopes: json(row, "scopes")?,
            routes: json(row, "routes")?,
            networks: json(row, "networks")?,
            expires_at: get(row, "expires_at")?,
        },
        enabled: get(row, "enabled")?,
        created_at: get(row, "created_at")?,
        revoked_at: get(row, "revoked_at")?,
        last_used_at: get(row, "last_used_at")?,
        version: get(row, "version")?,
    })
}

// === impl Tx ===

impl Tx {
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_key(
        &mut self,
        key: &ApiKey,
        digest: &KeyDigest,
        pepper_version: i64,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO api_keys (tenant_id, key_id, name, prefix, digest, pepper_version, scopes, routes,
                 networks, expires_at, enabled, created_at, revoked_at, last_used_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(key.tenant.0)
        .bind(key.id.0)
        .bind(&key.name)
        .bind(&key.prefix)
        .bind(digest.0.as_slice())
        .bind(pepper_version)
        .bind(to_json(&key.limits.scopes))
        .bind(to_json(&key.limits.routes))
        .bind(to_json(&key.limits.networks))
        .bind(key.limits.expires_at)
        .bind(key.enabled)
        .bind(key.created_at)
        .bind(key.revoked_at)
        .bind(key.last_used_at)
        .bind(key.version)
        .execute(self.connection())
        .await?;
        // Gateways may remember that there is no such key.
        self.changed(Changed::Key(key.id));
        Ok(())
    }

    /// Makes the key's row what `key` is, but for when it was made, used and revoked.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        query(
            "UPDATE api_keys SET name = $2, scopes = $3, routes = $4, networks = $5, expires_at = $6, enabled = $7,
                 version = $8
             WHERE key_id = $1",
        )
        .bind(key.id.0)
        .bind(&key.name)
        .bind(to_json(&key.limits.scopes))
        .bind(to_json(&key.limits.routes))
        .bind(to_json(&key.limits.networks))
        .bind(key.limits.expires_at)
        .bind(key.enabled)
        .bind(key.version)
        .execute(self.connection())
        .await?;
        self.changed(Changed::Key(key.id));
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn revoke_key(&mut self, key: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        query("UPDATE api_keys SET revoked_at = $2, version = version + 1 WHERE key_id = $1 AND revoked_at IS NULL")
            .bind(key.0)
            .bind(at)
            .execute(self.connection())
            .await?;
        self.changed(Changed::Key(key));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
