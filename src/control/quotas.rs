//! Quotas: what a tenant may use, and what it has used.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::counting::Standing;
use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ApiKeyId, Enforcement, Limit, LossPolicy, Owner, Period, Quota, Resource, ResourceKind,
    Tenant, Units, Window,
};
use crate::store::{OwnQuota, QuotaSource, Snapshot, TenantQuota};

/// A quota with its use.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct QuotaUse {
    pub resource_type: Resource,
    /// `null` is unlimited.
    pub limit: Limit,
    pub used: Units,
    /// `null` is unlimited.
    pub remaining: Option<Units>,
    /// Of the limit, two decimals; `null` is unlimited. May be above 100 for soft quotas.
    pub percent: Option<f64>,
    pub period: Period,
    pub window: Window,
    pub enforcement: Enforcement,
    /// `null`: as the gateways' configuration says.
    pub on_loss: Option<LossPolicy>,
    pub source: QuotaSource,
    /// The key whose own quota it is.
    pub key_id: Option<Uuid>,
    pub reason: Option<String>,
    /// When the override ends.
    pub expires_at: Option<Timestamp>,
    /// Whether the limit is what the tenant's spend cap leaves, and not what `source` says.
    pub is_capped: bool,
    /// When `used` was true.
    pub as_of: Timestamp,
    /// Raised by every change of a quota.
    pub tenant_version: i64,
}

/// A limit to set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    #[serde(rename = "resource_type")]
    pub resource: Resource,
    /// `null` is unlimited.
    pub limit: Limit,
    /// If absent: the tier's for this resource, else `month` for counters and `forever` for gauges.
    /// Gauges have no other.
    #[serde(default)]
    pub period: Option<Period>,
    /// If absent: the tier's, else `hard`.
    #[serde(default)]
    pub enforcement: Option<Enforcement>,
    /// What happens when the authority can't be asked; if absent, the tier's, else as the configuration says.
    #[serde(default)]
    pub on_loss: Option<LossPolicy>,
    /// A key of the tenant: the quota is the key's own, beside the tenant's.
    #[serde(default)]
    pub key: Option<Uuid>,
    #[serde(default)]
    pub reason: Option<String>,
    /// Then the tier's quota is in force again.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// Whether an amount would be admitted now. No promise: somebody else may take it first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaCheck {
    pub resource: Resource,
    pub amount: Units,
    pub allowed: bool,
    pub standing: Standing,
}

/// What sets a limit: what was asked for, with what it leaves open filled in.
pub(super) struct SetQuota {
    pub(super) before: Option<OwnQuota>,
    pub(super) after: OwnQuota,
}

impl Control {
    /// All quotas in force, with their use in the present window: the tenant's, then its keys'.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn quotas(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<QuotaUse>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadQuotas, tenant).await?;
        let now = self.now();
        let quotas = snapshot.quotas(&tenant, now).await?;
        self.with_use(&mut snapshot, &tenant, quotas, now).await
    }

    /// Sets the tenant's own limit of a resource, or a key's. Use is never reset. To set what is set already is
    /// success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::NotFound`] for a key that is not the tenant's;
    /// [`ControlError::Conflict`] for a deleted tenant.
    pub async fn set_quota(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        change: QuotaChange,
    ) -> Result<QuotaUse, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_quota_and_see(tenant, &change).await;
        work.end(outcome).await
    }

    /// Removes the tenant's own limits of a resource (or the key's); the tier's are in force again.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] when there is none of its own.
    pub async fn remove_quota(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        resource: Resource,
        period: Option<Period>,
        key: Option<Uuid>,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_quotas(tenant, resource, period, key).await;
        work.end(outcome).await
    }

    /// Looks whether the tenant's quotas of a resource, and those of the tenants above it, have so many units left.
    /// Takes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for a resource that there is not.
    pub async fn check_quota(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        resource: Resource,
        amount: Units,
    ) -> Result<QuotaCheck, ControlError> {
        let (_, tenant) = self.read_tenant(principal, Operation::ReadQuotas, tenant).await?;
        // Tenants above are out of a tenant's reach.
        let mut snapshot = self.read().await?;
        if snapshot.resource_type(resource).await?.is_none() {
            let mut faults = Faults::default();
            faults.unknown_resource(&snapshot.resource_types().await?);
            return Err(faults.refusal());
        }
        let mut own = self.uses_of(&mut snapshot, &tenant, resource).await?;
        let mut allowed = own.iter().all(|quota| quota.admits(amount));
        for above in snapshot.tenants_above(&tenant).await? {
            let pool = self.uses_of(&mut snapshot, &above, resource).await?;
            allowed &= pool.iter().all(|quota| quota.admits(amount));
        }
        let standing = Standing::tightest(own.drain(..).map(|quota| quota.standing()));
        Ok(QuotaCheck { resource, amount, allowed, standing })
    }

    /// The tenant's quotas of a resource, without its keys'.
    async fn uses_of(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        resource: Resource,
    ) -> Result<Vec<QuotaUse>, ControlError> {
        let now = self.now();
        let mut quotas = snapshot.quotas(tenant, now).await?;
        quotas.retain(|quota| {
            (quota.quota.owner, quota.quota.resource) == (Owner::Tenant(tenant.id), resource)
        });
        self.with_use(snapshot, tenant, quotas, now).await
    }

    pub(super) async fn with_use(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        quotas: Vec<TenantQuota>,
        now: Timestamp,
    ) -> Result<Vec<QuotaUse>, ControlError> {
        let accounts: Vec<_> = quotas.iter().map(|quota| account(tenant, &quota.quota, now)).collect();
        let stored = snapshot.account_units(&accounts).await?;
        let uses = quotas.into_iter().zip(accounts).zip(stored).map(|((quota, account), stored)| {
            // Our till knows what we used, and of the others what its last renewal told; the store, what all had flushed.
            let used = self.used_by_till(&account).map_or(stored, |used| used.max(stored));
            QuotaUse::of(tenant, quota, account.window, used, now)
        });
        Ok(uses.collect())
    }

    pub(super) fn used_by_till(&self, account: &AccountKey) -> Option<Units> {
        let till = self.parts.till.as_ref()?;
        till.find(account).map(|account| account.used())
    }
}

pub(super) fn account(tenant: &Tenant, quota: &Quota, now: Timestamp) -> AccountKey {
    let window = quota.period.window(tenant.anchor, &tenant.timezone, now);
    AccountKey { owner: quota.owner, resource: quota.resource, window }
}

/// What a tenant's or key's own limit looks like in the audit log and in plans.
pub(super) fn shown(own: &OwnQuota) -> Value {
    json!({
        "owner": own.quota.owner.kind(),
        "owner_id": own.quota.owner.uuid(),
        "resource_type": own.quota.resource,
        "period": own.quota.period,
        "limit": own.quota.limit,
        "enforcement": own.quota.enforcement,
        "on_loss": own.quota.on_loss,
        "reason": own.reason,
        "expires_at": own.expires_at,
    })
}

// === impl QuotaUse ===

impl QuotaUse {
    fn of(tenant: &Tenant, quota: TenantQuota, window: Window, used: Units, as_of: Timestamp) -> QuotaUse {
        let TenantQuota { quota, source, reason, expires_at, .. } = quota;
        let limit = quota.limit.units();
        QuotaUse {
            resource_type: quota.resource,
            limit: quota.limit,
            used,
            remaining: limit.map(|limit| limit.saturating_sub(used)),
            percent: limit.map(|limit| percent(used, limit)),
            period: quota.period,
            window,
            enforcement: quota.enforcement,
            on_loss: quota.on_loss,
            source,
            key_id: match quota.owner {
                Owner::Tenant(_) => None,
                Owner::Key(ApiKeyId(id)) => Some(id),
            },
            reason,
            expires_at,
            is_capped: quota.is_capped,
            as_of,
            tenant_version: tenant.version,
        }
    }
}

impl QuotaUse {
    fn admits(&self, amount: Units) -> bool {
        self.enforcement != Enforcement::Hard || self.remaining.is_none_or(|remaining| amount <= remaining)
    }

    fn standing(&self) -> Standing {
        let resets_at = (self.window.period != Period::Forever).then_some(self.window.end);
        Standing { limit: self.limit.units(), used: self.used, remaining: self.remaining, resets_at }
    }
}

/// To two decimals, rounded down: 100 means that nothing is left. Of a limit of 0, nothing ever is.
pub(super) fn percent(used: Units, limit: Units) -> f64 {
    if limit.is_zero() {
        return 100.0;
    }
    let hundredths = u128::from(used.get()) * 10_000 / u128::from(limit.get());
    // Exact: 10^4 times 2^53 - 1 at most, and a u32 holds four million percent.
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

// === impl Work ===

impl Work<'_> {
    async fn set_quota_and_see(
        &mut self,
        tenant: &TenantRef,
        change: &QuotaChange,
    ) -> Result<QuotaUse, ControlError> {
        let (mut tenant, set) = self.set_quota(tenant, change).await?;
        // As touched by the change.
        tenant.version += i64::from(set.is_change());
        let (control, now) = (self.control, self.now);
        let seen = control.with_use(&mut self.tx, &tenant, vec![set.after.into()], now).await?;
        seen.into_iter().next().ok_or_else(|| not_found(change.resource))
    }

    pub(super) async fn set_quota(
        &mut self,
        tenant: &TenantRef,
        change: &QuotaChange,
    ) -> Result<(Tenant, SetQuota), ControlError> {
        let operation = if change.key.is_some() { Operation::SetKeyQuota } else { Operation::SetQuota };
        let tenant = self.living_tenant_for(operation, tenant).await?;
        self.control.expects(tenant.version)?;
        let owner = self.owner(&tenant, change.key).await?;
        let after = self.checked_quota(&tenant, owner, change).await?;
        if change.key.is_none() && self.principal.tenant().is_some() {
            self.check_slice(&tenant, &after.quota).await?;
        }
        let before = self.own_quota(&tenant, &after.quota).await?;
        let set = SetQuota { before, after };
        if !set.is_change() {
            return Ok((tenant, set));
        }
        self.tx.set_own_quota(tenant.id, &set.after, self.now).await?;
        self.tx.touch_tenant(tenant.id, self.now).await?;
        self.audit(operation, &quota_target(&tenant, &set.after), set.told()).await?;
        Ok((tenant, set))
    }

    async fn owner(&mut self, tenant: &Tenant, key: Option<Uuid>) -> Result<Owner, ControlError> {
        let Some(id) = key.map(ApiKeyId) else { return Ok(Owner::Tenant(tenant.id)) };
        let found = self.tx.key(id).await?;
        let living = found.filter(|key| key.tenant == tenant.id && key.revoked_at.is_none());
        living
            .map(|key| Owner::Key(key.id))
            .ok_or_else(|| ControlError::NotFound { what: "key", which: id.to_string() })
    }

    async fn checked_quota(
        &mut self,
        tenant: &Tenant,
        owner: Owner,
        change: &QuotaChange,
    ) -> Result<OwnQuota, ControlError> {
        let mut faults = Faults::default();
        let reason = faults.reason(change.reason.as_deref());
        if change.expires_at.is_some_and(|end| end <= self.now) {
            faults.add("expires_at", "it would have expired already");
        }
        let Some(kind) = self.tx.resource_type(change.resource).await?.map(|resource| resource.kind) else {
            faults.unknown_resource(&self.tx.resource_types().await?);
            return Err(faults.refusal());
        };
        if kind == ResourceKind::Gauge && change.period.is_some_and(|period| period != Period::Forever) {
            faults.add("period", "a gauge is held until it is released: its only period is forever");
        }
        faults.finish()?;
        let tier = self.tx.tier_quotas(&tenant.tier, tenant.tier_version).await?;
        let tier: Vec<_> = tier.into_iter().filter(|quota| quota.resource == change.resource).collect();
        let of_kind = if kind == ResourceKind::Gauge { Period::Forever } else { Period::Month };
        let of_tier = tier.iter().map(|quota| quota.period).max();
        let period = change.period.or(of_tier).unwrap_or(of_kind);
        let of_tier = tier.iter().find(|quota| quota.period == period);
        let enforcement = change.enforcement.or(of_tier.map(|quota| quota.enforcement)).unwrap_or_default();
        let on_loss = change.on_loss.or(of_tier.and_then(|quota| quota.on_loss));
        let QuotaChange { resource, limit, .. } = *change;
        let quota = Quota { owner, resource, period, limit, enforcement, on_loss, is_capped: false };
        Ok(OwnQuota { quota, version: 0, reason, expires_at: change.expires_at })
    }

    /// What a reseller carves for a tenant below, and has carved for others, is within what it has itself.
    async fn check_slice(&mut self, tenant: &Tenant, slice: &Quota) -> Result<(), ControlError> {
        let Some(parent) = tenant.parent else { return Ok(()) };
        let Some(parent) = self.tx.tenant(parent).await? else { return Ok(()) };
        let pool = self.tx.quotas(&parent, self.now).await?.into_iter().map(|quota| quota.quota);
        let is_same = |quota: &Quota| {
            (quota.owner, quota.resource, quota.period)
                == (Owner::Tenant(parent.id), slice.resource, slice.period)
        };
        let Some(pool) = pool.filter(is_same).find_map(|quota| quota.limit.units()) else { return Ok(()) };
        let carved = self.tx.carved(parent.id, tenant.id, slice, self.now).await?;
        let mut faults = Faults::default();
        if slice.limit.units().is_none_or(|units| units.saturating_add(carved) > pool) {
            let (resource, period) = (slice.resource, slice.period);
            let left = pool.saturating_sub(carved);
            faults.add("limit", format!("{left} of {pool} {resource} per {period} are left to be carved"));
        }
        faults.finish()
    }

    /// The own limit that a new one takes the place of.
    async fn own_quota(&mut self, tenant: &Tenant, quota: &Quota) -> Result<Option<OwnQuota>, ControlError> {
        let own = self.tx.own_quotas_of(tenant.id, quota.owner).await?;
        let is_replaced =
            |own: &OwnQuota| (own.quota.resource, own.quota.period) == (quota.resource, quota.period);
        Ok(own.into_iter().find(is_replaced))
    }

    async fn remove_quotas(
        &mut self,
        tenant: &TenantRef,
        resource: Resource,
        period: Option<Period>,
        key: Option<Uuid>,
    ) -> Result<(), ControlError> {
        let operation = if key.is_some() { Operation::RemoveKeyQuota } else { Operation::RemoveQuota };
        let tenant = self.living_tenant_for(operation, tenant).await?;
        self.control.expects(tenant.version)?;
        let owner = key.map_or(Owner::Tenant(tenant.id), |key| Owner::Key(ApiKeyId(key)));
        let mut own = self.tx.own_quotas_of(tenant.id, owner).await?;
        own.retain(|own| own.quota.resource == resource);
        own.retain(|own| period.is_none_or(|period| own.quota.period == period));
        if own.is_empty() {
            return Err(not_found(resource));
        }
        for own in &own {
            self.tx.remove_own_quota(tenant.id, own, self.now).await?;
            let told = Told { before: Some(shown(own)), ..Told::default() };
            self.audit(operation, &quota_target(&tenant, own), told).await?;
        }
        Ok(self.tx.touch_tenant(tenant.id, self.now).await?)
    }
}

fn not_found(resource: Resource) -> ControlError {
    ControlError::NotFound { what: "own limit of", which: resource.to_string() }
}

fn quota_target(tenant: &Tenant, own: &OwnQuota) -> Target {
    Target::of(tenant, "quota", format!("{}/{}", own.quota.resource, own.quota.period))
}

// === impl SetQuota ===

impl SetQuota {
    pub(super) fn is_change(&self) -> bool {
        let OwnQuota { quota, version: _, reason, expires_at } = &self.after;
        !self.before.as_ref().is_some_and(|before| {
            (&before.quota, &before.reason, &before.expires_at) == (quota, reason, expires_at)
        })
    }

    fn told(&self) -> Told {
        let told = Told::made(shown(&self.after)).because(self.after.reason.clone());
        Told { before: self.before.as_ref().map(shown), ..told }
    }
}
