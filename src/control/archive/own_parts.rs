//! Parts of an export that are no table as it is: what is sealed here is text there, and what has another id elsewhere
//! goes by its name.

use std::io::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Export;
use crate::clock::Timestamp;
use crate::control::work::Work;
use crate::control::{ControlError, FieldFault};
use crate::domain::{Channel, ChannelId, Membership, ResourceType, RoleName, SettingKind, TenantId, Tier};
use crate::secret::seal::Place;
use crate::store::{ChannelSecret, Page, StoredSetting, StoredValue};

/// A setting: a secret as text.
#[derive(Serialize, Deserialize)]
struct ArchivedSetting {
    key: String,
    kind: SettingKind,
    value: Value,
    version: i64,
    updated_at: Timestamp,
}

/// A member. Whoever has that address becomes one, and proves anew that they have it.
#[derive(Serialize, Deserialize)]
struct ArchivedMember {
    email: String,
    role: String,
    created_at: Timestamp,
}

/// A channel with the secrets that are good.
#[derive(Serialize, Deserialize)]
struct ArchivedChannel {
    #[serde(flatten)]
    channel: Channel,
    secrets: Vec<ArchivedSecret>,
}

/// A channel's secret as text.
#[derive(Serialize, Deserialize)]
struct ArchivedSecret {
    text: String,
    version: i64,
    expires_at: Option<Timestamp>,
}

pub(super) const TIER: &str = "tier";
pub(super) const RESOURCES: &str = "resource_types";
pub(super) const SETTINGS: &str = "settings";
pub(super) const MEMBERS: &str = "members";
pub(super) const CHANNELS: &str = "channels";

// === impl Export ===

impl<W: Write + Send + 'static> Export<'_, W> {
    /// What the tenant is sold, and what is counted of it.
    pub(super) async fn tier(&mut self) -> Result<(), ControlError> {
        let tier = self.snapshot.tier_version(&self.tenant.tier, self.tenant.tier_version).await?;
        let own = self.snapshot.own_quotas(self.tenant.id).await?;
        let of_tier = tier.iter().flat_map(|tier| &tier.quotas).map(|quota| quota.resource);
        let counted: Vec<_> = of_tier.chain(own.iter().map(|own| own.quota.resource)).collect();
        self.writer.part(RESOURCES)?;
        for resource in self.snapshot.resource_types().await? {
            if counted.contains(&resource.slug) {
                self.writer.row(json!(resource))?;
            }
        }
        self.writer.part(TIER)?;
        if let Some(tier) = tier {
            self.writer.row(json!(tier))?;
        }
        Ok(())
    }

    pub(super) async fn settings(&mut self) -> Result<(), ControlError> {
        self.writer.part(SETTINGS)?;
        for stored in self.snapshot.settings(self.tenant.id).await? {
            let value = self.plain(&stored).await?;
            let StoredSetting { key, kind, version, updated_at, .. } = stored;
            let setting = ArchivedSetting { key, kind, value, version, updated_at };
            self.writer.row(json!(setting))?;
        }
        Ok(())
    }

    async fn plain(&mut self, stored: &StoredSetting) -> Result<Value, ControlError> {
        match &stored.value {
            StoredValue::Plain(json) => Ok(serde_json::from_str(json).unwrap_or(Value::Null)),
            StoredValue::Sealed { .. } => {
                Ok(self.control.opened(&mut self.snapshot, self.tenant.id, stored).await?.into())
            }
        }
    }

    pub(super) async fn members(&mut self) -> Result<(), ControlError> {
        self.writer.part(MEMBERS)?;
        let mut cursor = None;
        loop {
            let page = Page::new(None, None, cursor.as_deref())?;
            let listed = self.snapshot.members(self.tenant.id, &page).await??;
            for Membership { email, role, created_at, .. } in listed.items {
                let role = role.as_str().to_owned();
                self.writer.row(json!(ArchivedMember { email, role, created_at }))?;
            }
            cursor = listed.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) async fn channels(&mut self) -> Result<(), ControlError> {
        self.writer.part(CHANNELS)?;
        let keys = self.snapshot.data_keys(self.tenant.id).await?;
        for channel in self.snapshot.channels(self.tenant.id).await? {
            let (tenant, name) = (self.tenant.id, channel.id.secret_name());
            let mut secrets = Vec::new();
            for sealed in self.snapshot.channel_secrets(tenant, channel.id, self.control.now()).await? {
                let ChannelSecret { version, data_key, sealed, expires_at } = sealed;
                let place = Place { tenant, name: &name, version };
                let text = self.control.key_ring()?.open(&keys, data_key, place, &sealed)?;
                secrets.push(ArchivedSecret { text, version, expires_at });
            }
            self.writer.row(json!(ArchivedChannel { channel, secrets }))?;
        }
        Ok(())
    }
}

// === impl Work ===

impl Work<'_> {
    pub(super) async fn import_tiers(&mut self, rows: &[Value]) -> Result<(), ControlError> {
        for row in rows {
            let tier: Tier = read(TIER, row)?;
            match self.tx.tier_version(&tier.slug, tier.version).await? {
                None => self.tx.add_tier_version(&tier).await?,
                Some(here) if here == tier => {}
                Some(_) => {
                    let what =
                        format!("version {} of the tier {} is another one here", tier.version, tier.slug);
                    return Err(ControlError::Conflict(what));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn import_resources(&mut self, rows: &[Value]) -> Result<(), ControlError> {
        for row in rows {
            let resource: ResourceType = read(RESOURCES, row)?;
            match self.tx.resource_type(resource.slug).await? {
                None => self.tx.add_resource_type(&resource).await?,
                Some(here) if here.kind == resource.kind => {}
                Some(_) => {
                    let what = format!("the resource {} is of another kind here", resource.slug);
                    return Err(ControlError::Conflict(what));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn import_settings(
        &mut self,
        tenant: TenantId,
        rows: &[Value],
    ) -> Result<(), ControlError> {
        for row in rows {
            let ArchivedSetting { key, kind, value, version, updated_at } = read(SETTINGS, row)?;
            let value = match (kind, value.as_str()) {
                (SettingKind::Secret, Some(text)) => {
                    let data_key = self.data_key(tenant).await?;
                    let place = Place { tenant, name: &key, version };
                    StoredValue::Sealed { data_key: data_key.id, bytes: data_key.seal(place, text)? }
                }
                _ => StoredValue::Plain(value.to_string()),
            };
            self.tx.set_setting(tenant, &StoredSetting { key, kind, value, version, updated_at }).await?;
        }
        Ok(())
    }

    pub(super) async fn import_members(
        &mut self,
        tenant: TenantId,
        rows: &[Value],
    ) -> Result<(), ControlError> {
        for row in rows {
            let ArchivedMember { email, role, created_at } = read(MEMBERS, row)?;
            let role = role.parse::<RoleName>().map_err(|()| bad(MEMBERS, "it is no role"))?;
            let user = match self.tx.user_by_email(&email).await? {
                Some(user) => user.id,
                None => self.tx.insert_login(&self.control.new_user(&email, self.now)).await?,
            };
            self.tx.set_member(&Membership { tenant, user, email, role, created_at }).await?;
        }
        Ok(())
    }

    pub(super) async fn import_channels(
        &mut self,
        tenant: TenantId,
        rows: &[Value],
    ) -> Result<(), ControlError> {
        for row in rows {
            let ArchivedChannel { channel, secrets } = read(CHANNELS, row)?;
            if channel.tenant != tenant {
                return Err(bad(CHANNELS, "it is another tenant's"));
            }
            self.tx.set_channel(&channel).await?;
            // The oldest first: each that is added ends those before it.
            let mut others_end = self.now;
            for secret in secrets.into_iter().rev() {
                let ends = secret.expires_at.unwrap_or(self.now);
                self.import_channel_secret((tenant, channel.id), secret, others_end).await?;
                others_end = ends;
            }
        }
        Ok(())
    }

    async fn import_channel_secret(
        &mut self,
        (tenant, channel): (TenantId, ChannelId),
        secret: ArchivedSecret,
        others_end: Timestamp,
    ) -> Result<(), ControlError> {
        let ArchivedSecret { text, version, expires_at } = secret;
        let data_key = self.data_key(tenant).await?;
        let place = Place { tenant, name: &channel.secret_name(), version };
        let sealed = data_key.seal(place, &text)?;
        let secret = ChannelSecret { version, data_key: data_key.id, sealed, expires_at };
        Ok(self.tx.add_channel_secret(tenant, channel, &secret, others_end, self.now).await?)
    }
}

fn read<T: serde::de::DeserializeOwned>(part: &str, row: &Value) -> Result<T, ControlError> {
    T::deserialize(row).map_err(|error| bad(part, error.to_string()))
}

fn bad(part: &str, why: impl Into<String>) -> ControlError {
    ControlError::Invalid(vec![FieldFault::new(part, why)])
}
