//! Quotas: a tier's, a tenant's own, a key's own.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sql::{Row, query, select};
use super::values::{corrupt, get, limit, parsed};
use super::{Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::billing::Ceiling;
use crate::domain::{
    ApiKeyId, Enforcement, Limit, LossPolicy, Owner, Period, Quota, Resource, Tenant, TenantId, TierQuota,
    Units,
};

/// Where a quota comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaSource {
    Tier,
    /// The tenant's own, instead of its tier's.
    Override,
    Key,
}

/// A quota in force, and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantQuota {
    pub quota: Quota,
    pub source: QuotaSource,
    pub reason: Option<String>,
    /// When an override ends and the tier's quota is in force again.
    pub expires_at: Option<Timestamp>,
    /// When the limit that the tenant's spend cap leaves ends.
    pub capped_until: Option<Timestamp>,
}

/// One row of `tenant_resource_quotas`: a limit of a tenant's or a key's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnQuota {
    pub quota: Quota,
    /// Raised by each change of this limit, also across its removal.
    pub version: i64,
    pub reason: Option<String>,
    pub expires_at: Option<Timestamp>,
}

/// Quotas of which keys are asked for, beside the tenant's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keys {
    None,
    One(ApiKeyId),
    /// All that are not revoked.
    All,
}

const COLUMNS: &str = "owner_kind, owner_id, resource_type, period, limit_amount, enforcement, on_loss, version, reason, \
     expires_at";

// === impl Snapshot ===

impl Snapshot {
    /// The quotas in force at `now`: the tenant's, then those of its keys that are not revoked; in the order of
    /// owner, resource, period.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn quotas(&mut self, tenant: &Tenant, now: Timestamp) -> Result<Vec<TenantQuota>, StoreError> {
        self.quotas_with(tenant, Keys::All, now).await
    }

    pub(super) async fn quotas_with(
        &mut self,
        tenant: &Tenant,
        keys: Keys,
        now: Timestamp,
    ) -> Result<Vec<TenantQuota>, StoreError> {
        let tier = self.tier_quotas(&tenant.tier, tenant.tier_version).await?;
        let own = match keys {
            Keys::None => self.own_quotas_of(tenant.id, Owner::Tenant(tenant.id)).await?,
            Keys::One(key) => {
                let mut own = self.own_quotas_of(tenant.id, Owner::Tenant(tenant.id)).await?;
                own.extend(self.own_quotas_of(tenant.id, Owner::Key(key)).await?);
                own
            }
            Keys::All => {
                let revoked = self.revoked_keys(tenant.id).await?;
                let is_living = |owner| !matches!(owner, Owner::Key(key) if revoked.contains(&key));
                let mut own = self.own_quotas(tenant.id).await?;
                own.retain(|own| is_living(own.quota.owner));
                own
            }
        };
        let mut quotas = in_force(tenant.id, &tier, own, now);
        let may_stop = tenant.status.is_charged() && tier.iter().any(TierQuota::is_sold);
        if may_stop && self.is_stopped_at_cap(tenant.id).await? {
            let ceilings = self.ceilings(tenant.id).await?;
            for quota in quotas.iter_mut().filter(|quota| tier.iter().any(|tier| tier.sells(&quota.quota))) {
                quota.cap(tenant, &ceilings, now);
            }
        }
        Ok(quotas)
    }

    /// All limits of the tenant's and its keys' own, expired ones included.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn own_quotas(&mut self, tenant: TenantId) -> Result<Vec<OwnQuota>, StoreError> {
        let rows = select(
            COLUMNS,
            "FROM tenant_resource_quotas WHERE tenant_id = $1
             ORDER BY owner_kind, owner_id, resource_type, period",
        )
        .bind(tenant.0)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(own_quota).collect()
    }

    /// The same of one owner: a tenant may have a thousand keys with limits.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn own_quotas_of(
        &mut self,
        tenant: TenantId,
        owner: Owner,
    ) -> Result<Vec<OwnQuota>, StoreError> {
        let rows = select(
            COLUMNS,
            "FROM tenant_resource_quotas WHERE tenant_id = $1 AND owner_kind = $2 AND owner_id = $3
             ORDER BY resource_type, period",
        )
        .bind(tenant.0)
        .bind(owner.kind())
        .bind(owner.uuid())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(own_quota).collect()
    }

    /// The sum of what tenants right below `parent`, but for `except`, have as limits of their own of the resource and
    /// period of `slice`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn carved(
        &mut self,
        parent: TenantId,
        except: TenantId,
        slice: &Quota,
        now: Timestamp,
    ) -> Result<Units, StoreError> {
        let sum = query(
            "SELECT CAST(COALESCE(SUM(limit_amount), 0) AS BIGINT) FROM tenant_resource_quotas AS slice
             JOIN organizations AS child ON child.tenant_id = slice.tenant_id
             WHERE child.parent_id = $1 AND child.tenant_id <> $2 AND child.status <> 'deleted'
                 AND owner_kind = 'tenant' AND resource_type = $3 AND period = $4
                 AND (expires_at IS NULL OR expires_at > $5)",
        )
        .bind(parent.0)
        .bind(except.0)
        .bind(slice.resource.as_str())
        .bind(slice.period.as_str())
        .bind(now)
        .fetch_number(self.connection())
        .await?;
        Ok(Units::saturating(u64::try_from(sum).unwrap_or(0)))
    }

    async fn revoked_keys(&mut self, tenant: TenantId) -> Result<HashSet<ApiKeyId>, StoreError> {
        let rows = query("SELECT key_id FROM api_keys WHERE tenant_id = $1 AND revoked_at IS NOT NULL")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| get(row, "key_id").map(ApiKeyId)).collect()
    }

    /// The version that the next change of that limit has.
    async fn next_quota_version(&mut self, tenant: TenantId, quota: &Quota) -> Result<i64, StoreError> {
        query(
            "SELECT COALESCE(MAX(version), 0) + 1 FROM quota_changes
             WHERE tenant_id = $1 AND owner_kind = $2 AND owner_id = $3 AND resource_type = $4 AND period = $5",
        )
        .bind(tenant.0)
        .bind(quota.owner.kind())
        .bind(quota.owner.uuid())
        .bind(quota.resource.as_str())
        .bind(quota.period.as_str())
        .fetch_number(self.connection())
        .await
    }
}

/// What is in force: the tier's quotas, replaced per resource and period by the tenant's own until those expire,
/// and the keys' own beside them.
fn in_force(
    tenant: TenantId,
    tier: &[TierQuota],
    own: impl IntoIterator<Item = OwnQuota>,
    now: Timestamp,
) -> Vec<TenantQuota> {
    let mut quotas: Vec<_> = tier.iter().map(|quota| TenantQuota::of_tier(tenant, quota)).collect();
    for own in own.into_iter().filter(|own| own.expires_at.is_none_or(|end| now < end)) {
        let own = TenantQuota::own(own);
        quotas.retain(|other| account_of(&other.quota) != account_of(&own.quota));
        quotas.push(own);
    }
    quotas.sort_by_key(|one| account_of(&one.quota));
    quotas
}

/// What at most one quota in force limits.
const fn account_of(quota: &Quota) -> (Owner, Resource, Period) {
    (quota.owner, quota.resource, quota.period)
}

/// What a quota says of an authority that can't be asked.
pub(super) fn on_loss(row: &Row) -> Result<Option<LossPolicy>, StoreError> {
    let text: Option<&str> = get(row, "on_loss")?;
    let read = |text: &str| LossPolicy::parse(text).ok_or_else(|| corrupt("on_loss", format!("`{text}`")));
    text.map(read).transpose()
}

fn own_quota(row: &Row) -> Result<OwnQuota, StoreError> {
    let (kind, id): (&str, _) = (get(row, "owner_kind")?, get(row, "owner_id")?);
    Ok(OwnQuota {
        quota: Quota {
            owner: Owner::of_kind(kind, id).ok_or_else(|| corrupt("owner_kind", format!("`{kind}`")))?,
            resource: parsed(row, "resource_type", |text| text.parse().ok())?,
            period: parsed(row, "period", |text| text.parse().ok())?,
            limit: limit(row, "limit_amount")?,
            enforcement: parsed(row, "enforcement", Enforcement::parse)?,
            on_loss: on_loss(row)?,
            is_capped: false,
        },
        version: get(row, "version")?,
        reason: get(row, "reason")?,
        expires_at: get(row, "expires_at")?,
    })
}

// === impl TenantQuota ===

impl TenantQuota {
    fn of_tier(tenant: TenantId, quota: &TierQuota) -> TenantQuota {
        let TierQuota { resource, limit, period, enforcement, on_loss, .. } = *quota;
        let owner = Owner::Tenant(tenant);
        let quota = Quota { owner, resource, period, limit, enforcement, on_loss, is_capped: false };
        TenantQuota { quota, source: QuotaSource::Tier, reason: None, expires_at: None, capped_until: None }
    }

    fn own(own: OwnQuota) -> TenantQuota {
        let source = match own.quota.owner {
            Owner::Tenant(_) => QuotaSource::Override,
            Owner::Key(_) => QuotaSource::Key,
        };
        let OwnQuota { quota, reason, expires_at, .. } = own;
        TenantQuota { quota, source, reason, expires_at, capped_until: None }
    }
}

impl TenantQuota {
    /// Puts what the tenant's spend cap leaves in force. Where that is not known, nothing above the limit is had: a
    /// moment later it is.
    fn cap(&mut self, tenant: &Tenant, ceilings: &[Ceiling], now: Timestamp) {
        let quota = &mut self.quota;
        let window = quota.period.window(tenant.anchor, &tenant.timezone, now);
        let ceiling = ceilings.iter().find(|ceiling| ceiling.is_of(quota.resource, window, now));
        quota.limit = match (ceiling, quota.limit) {
            (None, Limit::Unlimited) => return,
            (None, own) => own,
            // What the tenant is denied without a cap, money does not buy.
            (Some(ceiling), Limit::Of(own)) if quota.enforcement == Enforcement::Hard => {
                Limit::Of(own.min(ceiling.limit))
            }
            (Some(ceiling), _) => Limit::Of(ceiling.limit),
        };
        quota.enforcement = Enforcement::Hard;
        // Nothing is admitted on trust: it would be charged for.
        let closed = quota.on_loss.filter(|on_loss| *on_loss == LossPolicy::Closed);
        quota.on_loss = closed.or(Some(LossPolicy::Till));
        quota.is_capped = true;
        self.capped_until = ceiling.map(|ceiling| ceiling.ends_at);
    }
}

impl From<OwnQuota> for TenantQuota {
    fn from(own: OwnQuota) -> Self {
        TenantQuota::own(own)
    }
}

// === impl Tx ===

impl Tx {
    /// Sets a limit of the tenant's or a key's own, and notes what it was set to. `own.version` is not read.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_own_quota(
        &mut self,
        tenant: TenantId,
        own: &OwnQuota,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let version = self.next_quota_version(tenant, &own.quota).await?;
        query(
            "INSERT INTO tenant_resource_quotas (tenant_id, owner_kind, owner_id, resource_type, period,
                 limit_amount, enforcement, version, reason, expires_at, created_at, updated_at, on_loss)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)
             ON CONFLICT (tenant_id, owner_kind, owner_id, resource_type, period) DO UPDATE SET
                 limit_amount = excluded.limit_amount, enforcement = excluded.enforcement,
                 version = excluded.version, reason = excluded.reason, expires_at = excluded.expires_at,
                 updated_at = excluded.updated_at, on_loss = excluded.on_loss",
        )
        .bind(tenant.0)
        .bind(own.quota.owner.kind())
        .bind(own.quota.owner.uuid())
        .bind(own.quota.resource.as_str())
        .bind(own.quota.period.as_str())
        .bind(own.quota.limit.to_sql())
        .bind(own.quota.enforcement.as_str())
        .bind(version)
        .bind(&own.reason)
        .bind(own.expires_at)
        .bind(at)
        .bind(own.quota.on_loss.map(LossPolicy::as_str))
        .execute(self.connection())
        .await?;
        self.insert_quota_change(tenant, own, version, "set", at).await
    }

    /// Removes a limit of the tenant's or a key's own.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_own_quota(
        &mut self,
        tenant: TenantId,
        own: &OwnQuota,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let version = self.next_quota_version(tenant, &own.quota).await?;
        query(
            "DELETE FROM tenant_resource_quotas
             WHERE tenant_id = $1 AND owner_kind = $2 AND owner_id = $3 AND resource_type = $4 AND period = $5",
        )
        .bind(tenant.0)
        .bind(own.quota.owner.kind())
        .bind(own.quota.owner.uuid())
        .bind(own.quota.resource.as_str())
        .bind(own.quota.period.as_str())
        .execute(self.connection())
        .await?;
        self.insert_quota_change(tenant, own, version, "removed", at).await
    }

    async fn insert_quota_change(
        &mut self,
        tenant: TenantId,
        own: &OwnQuota,
        version: i64,
        change: &'static str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO quota_changes (tenant_id, owner_kind, owner_id, resource_type, period, version, change,
                 limit_amount, enforcement, reason, expires_at, changed_at, on_loss)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(tenant.0)
        .bind(own.quota.owner.kind())
        .bind(own.quota.owner.uuid())
        .bind(own.quota.resource.as_str())
        .bind(own.quota.period.as_str())
        .bind(version)
        .bind(change)
        .bind(own.quota.limit.to_sql())
        .bind(own.quota.enforcement.as_str())
        .bind(&own.reason)
        .bind(own.expires_at)
        .bind(at)
        .bind(own.quota.on_loss.map(LossPolicy::as_str))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
