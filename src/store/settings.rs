//! Settings of tenants, and the wrapped keys that their secrets are sealed with.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::sql::{Row, query, select};
use super::values::{get, parsed};
use super::{Changed, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{SettingKind, SettingSpec, TenantId};
use crate::secret::seal::WrappedKey;

/// One row of `tenant_settings`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSetting {
    pub key: String,
    pub kind: SettingKind,
    pub value: StoredValue,
    /// Rises with each change, and never comes twice: what is sealed is bound to it.
    pub version: i64,
    pub updated_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredValue {
    /// JSON.
    Plain(String),
    Sealed {
        data_key: Uuid,
        bytes: Vec<u8>,
    },
}

const COLUMNS: &str =
    "setting_key, setting_type, setting_value, sealed_value, data_key_id, version, updated_at";
const DATA_KEY: &str = "tenant_id, data_key_id, wrapped, ring_version";

// === impl Snapshot ===

impl Snapshot {
    /// What the tenant has set itself, by key.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn settings(&mut self, tenant: TenantId) -> Result<Vec<StoredSetting>, StoreError> {
        let rows = select(COLUMNS, "FROM tenant_settings WHERE tenant_id = $1 ORDER BY setting_key")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(setting).collect()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn setting(
        &mut self,
        tenant: TenantId,
        key: &str,
    ) -> Result<Option<StoredSetting>, StoreError> {
        let row = select(COLUMNS, "FROM tenant_settings WHERE tenant_id = $1 AND setting_key = $2")
            .bind(tenant.0)
            .bind(key)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(setting).transpose()
    }

    /// Of each of these settings what the first of the tenants has set that has set it. Not of secrets.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn first_settings(
        &mut self,
        tenants: &[TenantId],
        keys: &[&str],
    ) -> Result<BTreeMap<String, Value>, StoreError> {
        let mut query = query(
            "SELECT tenant_id, setting_key, setting_value FROM tenant_settings
             WHERE setting_value IS NOT NULL AND tenant_id IN (",
        );
        for (at, tenant) in tenants.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " }).push_bind(tenant.0);
        }
        for (at, key) in keys.iter().enumerate() {
            query.push(if at == 0 { ") AND setting_key IN (" } else { ", " }).push_bind(*key);
        }
        query.push(")");
        let rows = query.fetch_all(self.connection()).await?;
        let mut first = BTreeMap::<String, (usize, Value)>::new();
        for row in &rows {
            let tenant = TenantId(get(row, "tenant_id")?);
            let place = tenants.iter().position(|one| *one == tenant).unwrap_or(usize::MAX);
            let key: String = get(row, "setting_key")?;
            if first.get(&key).is_none_or(|(before, _)| place < *before) {
                let value = serde_json::from_str(get(row, "setting_value")?).unwrap_or(Value::Null);
                first.insert(key, (place, value));
            }
        }
        Ok(first.into_iter().map(|(key, (_, value))| (key, value)).collect())
    }

    /// The tenant's data keys, newest first: ids are UUIDv7.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn data_keys(&mut self, tenant: TenantId) -> Result<Vec<WrappedKey>, StoreError> {
        let rows = select(DATA_KEY, "FROM tenant_data_keys WHERE tenant_id = $1 ORDER BY data_key_id DESC")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| data_key(row).map(|(_, key)| key)).collect()
    }

    /// Any data key that the key of `ring_version` wraps.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn data_key_wrapped_by(
        &mut self,
        ring_version: i64,
    ) -> Result<Option<(TenantId, WrappedKey)>, StoreError> {
        let row = select(DATA_KEY, "FROM tenant_data_keys WHERE ring_version = $1 LIMIT 1")
            .bind(ring_version)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(data_key).transpose()
    }

    /// Some of the data keys that an older key than that of `ring_version` wraps.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn data_keys_below(
        &mut self,
        ring_version: i64,
        limit: u32,
    ) -> Result<Vec<(TenantId, WrappedKey)>, StoreError> {
        let rows = select(DATA_KEY, "FROM tenant_data_keys WHERE ring_version < $1 LIMIT $2")
            .bind(ring_version)
            .bind(limit)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(data_key).collect()
    }
}

fn setting(row: &Row) -> Result<StoredSetting, StoreError> {
    let sealed: Option<Vec<u8>> = get(row, "sealed_value")?;
    let value = match sealed {
        Some(bytes) => StoredValue::Sealed { data_key: get(row, "data_key_id")?, bytes },
        None => StoredValue::Plain(get(row, "setting_value")?),
    };
    Ok(StoredSetting {
        key: get(row, "setting_key")?,
        kind: parsed(row, "setting_type", SettingKind::parse)?,
        value,
        version: get(row, "version")?,
        updated_at: get(row, "updated_at")?,
    })
}

fn data_key(row: &Row) -> Result<(TenantId, WrappedKey), StoreError> {
    let key = WrappedKey {
        id: get(row, "data_key_id")?,
        ring_version: get(row, "ring_version")?,
        bytes: get(row, "wrapped")?,
    };
    Ok((TenantId(get(row, "tenant_id")?), key))
}

// === impl Tx ===

impl Tx {
    /// # Errors
    /// [`StoreError`]
    pub async fn set_setting(&mut self, tenant: TenantId, new: &StoredSetting) -> Result<(), StoreError> {
        let (plain, sealed, data_key) = match &new.value {
            StoredValue::Plain(json) => (Some(json.as_str()), None, None),
            StoredValue::Sealed { data_key, bytes } => (None, Some(bytes.as_slice()), Some(*data_key)),
        };
        query(
            "INSERT INTO tenant_settings (tenant_id, setting_key, setting_type, setting_value, sealed_value,
                 data_key_id, version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
             ON CONFLICT (tenant_id, setting_key) DO UPDATE SET setting_type = excluded.setting_type,
                 setting_value = excluded.setting_value, sealed_value = excluded.sealed_value,
                 data_key_id = excluded.data_key_id, version = excluded.version, updated_at = excluded.updated_at",
        )
        .bind(tenant.0)
        .bind(&new.key)
        .bind(new.kind.as_str())
        .bind(plain)
        .bind(sealed)
        .bind(data_key)
        .bind(new.version)
        .bind(new.updated_at)
        .execute(self.connection())
        .await?;
        self.note_setting(tenant, &new.key);
        Ok(())
    }

    fn note_setting(&mut self, tenant: TenantId, key: &str) {
        if SettingSpec::reaches_gateways(key) {
            self.changed(Changed::Tenant(tenant));
        }
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn remove_setting(&mut self, tenant: TenantId, key: &str) -> Result<(), StoreError> {
        query("DELETE FROM tenant_settings WHERE tenant_id = $1 AND setting_key = $2")
            .bind(tenant.0)
            .bind(key)
            .execute(self.connection())
            .await?;
        self.note_setting(tenant, key);
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn insert_data_key(
        &mut self,
        tenant: TenantId,
        key: &WrappedKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO tenant_data_keys (tenant_id, data_key_id, wrapped, ring_version, created_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant.0)
        .bind(key.id)
        .bind(key.bytes.as_slice())
        .bind(key.ring_version)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Puts another wrapping in the place of a data key's.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn rewrap_data_key(&mut self, tenant: TenantId, key: &WrappedKey) -> Result<(), StoreError> {
        query(
            "UPDATE tenant_data_keys SET wrapped = $3, ring_version = $4 WHERE tenant_id = $1 AND data_key_id = $2",
        )
        .bind(tenant.0)
        .bind(key.id)
        .bind(key.bytes.as_slice())
        .bind(key.ring_version)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Deletes the tenant's settings, its channels and the keys of its secrets, for good.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn shred_settings(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        for text in [
            "DELETE FROM tenant_settings WHERE tenant_id = $1",
            "DELETE FROM notification_channels WHERE tenant_id = $1",
            "DELETE FROM tenant_data_keys WHERE tenant_id = $1",
        ] {
            query(text).bind(tenant.0).execute(self.connection()).await?;
        }
        Ok(())
    }
}
