//! Channels that tenants are told through, and the secrets that belong to them.

use uuid::Uuid;

use super::sql::{Row, query, select};
use super::values::{get, json, parsed, to_json};
use super::{Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Channel, ChannelId, ChannelKind, TenantId};

/// One row of `channel_secrets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelSecret {
    /// Rises with each secret of its channel, and never comes twice: what is sealed is bound to it.
    pub version: i64,
    pub data_key: Uuid,
    pub sealed: Vec<u8>,
    /// `None`: it is the channel's newest.
    pub expires_at: Option<Timestamp>,
}

const CHANNEL: &str = "tenant_id, channel_id, name, kind, target, kinds, enabled, created_at, updated_at";

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's channels, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn channels(&mut self, tenant: TenantId) -> Result<Vec<Channel>, StoreError> {
        let rows = select(CHANNEL, "FROM notification_channels WHERE tenant_id = $1 ORDER BY channel_id")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(channel).collect()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn channel(&mut self, tenant: TenantId, id: ChannelId) -> Result<Option<Channel>, StoreError> {
        let row = select(CHANNEL, "FROM notification_channels WHERE tenant_id = $1 AND channel_id = $2")
            .bind(tenant.0)
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(channel).transpose()
    }

    /// The secrets of a channel that are good at `now`, newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn channel_secrets(
        &mut self,
        tenant: TenantId,
        id: ChannelId,
        now: Timestamp,
    ) -> Result<Vec<ChannelSecret>, StoreError> {
        let rows = query(
            "SELECT version, data_key_id, sealed, expires_at FROM channel_secrets
             WHERE tenant_id = $1 AND channel_id = $2 AND (expires_at IS NULL OR expires_at > $3)
             ORDER BY version DESC",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(now)
        .fetch_all(self.connection())
        .await?;
        let secret = |row| {
            Ok(ChannelSecret {
                version: get(row, "version")?,
                data_key: get(row, "data_key_id")?,
                sealed: get(row, "sealed")?,
                expires_at: get(row, "expires_at")?,
            })
        };
        rows.iter().map(secret).collect()
    }
}

fn channel(row: &Row) -> Result<Channel, StoreError> {
    Ok(Channel {
        id: ChannelId(get(row, "channel_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        name: get(row, "name")?,
        kind: parsed(row, "kind", ChannelKind::parse)?,
        target: get(row, "target")?,
        kinds: json(row, "kinds")?,
        enabled: get(row, "enabled")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds the channel, or makes it what it is now; its kind stays.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_channel(&mut self, channel: &Channel) -> Result<(), StoreError> {
        query(
            "INSERT INTO notification_channels (tenant_id, channel_id, name, kind, target, kinds, enabled, created_at,
                 updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (tenant_id, channel_id) DO UPDATE SET name = excluded.name, target = excluded.target,
                 kinds = excluded.kinds, enabled = excluded.enabled, updated_at = excluded.updated_at",
        )
        .bind(channel.tenant.0)
        .bind(channel.id.0)
        .bind(&channel.name)
        .bind(channel.kind.as_str())
        .bind(&channel.target)
        .bind(to_json(&channel.kinds))
        .bind(channel.enabled)
        .bind(channel.created_at)
        .bind(channel.updated_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Removes the channel with its secrets and what is on its way there.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_channel(&mut self, tenant: TenantId, id: ChannelId) -> Result<(), StoreError> {
        let remove = query("DELETE FROM notification_channels WHERE tenant_id = $1 AND channel_id = $2");
        remove.bind(tenant.0).bind(id.0).execute(self.connection()).await.map(drop)
    }

    /// Forgets all secrets of the channel but the newest.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn end_old_channel_secrets(
        &mut self,
        tenant: TenantId,
        id: ChannelId,
    ) -> Result<(), StoreError> {
        let end = query(
            "DELETE FROM channel_secrets WHERE tenant_id = $1 AND channel_id = $2 AND expires_at IS NOT NULL",
        );
        end.bind(tenant.0).bind(id.0).execute(self.connection()).await.map(drop)
    }

    /// Gives the channel another secret. Those it has end at `others_end` at the latest, and are forgotten if that is
    /// not later than `now`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn add_channel_secret(
        &mut self,
        tenant: TenantId,
        id: ChannelId,
        secret: &ChannelSecret,
        others_end: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE channel_secrets SET expires_at = $3
             WHERE tenant_id = $1 AND channel_id = $2 AND (expires_at IS NULL OR expires_at > $3)",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(others_end)
        .execute(self.connection())
        .await?;
        query("DELETE FROM channel_secrets WHERE tenant_id = $1 AND channel_id = $2 AND expires_at <= $3")
            .bind(tenant.0)
            .bind(id.0)
            .bind(now)
            .execute(self.connection())
            .await?;
        query(
            "INSERT INTO channel_secrets (tenant_id, channel_id, version, data_key_id, sealed, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(secret.version)
        .bind(secret.data_key)
        .bind(secret.sealed.as_slice())
        .bind(secret.expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
