//! Declared tenants: a file says what should be, and what is not so is made so.
//!
//! It covers tenants with their terms and status, limits of their own, keys with what they may, and settings, secrets
//! among them. What it does not name stays as it is: it never removes anything. Usage, keys' texts and people are not of
//! the kind that is declared.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::principal::Operation;
use super::subscriptions::TierWhen;
use super::work::{Target, Told, Work};
use super::{
    Control, ControlError, FieldFault, KeyChange, NewKey, NewSetting, NewTenant, Principal, QuotaChange,
    TenantChange, TenantRef, keys, quotas, settings, tenants,
};
use crate::clock::Timestamp;
use crate::domain::{
    ApiKey, Enforcement, KeyLimits, Limit, LossPolicy, Period, Resource, SettingKind, Slug, Tenant,
    TenantStatus,
};
use crate::store::StoredSetting;

/// What should be. What it does not name stays as it is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    #[serde(rename = "tenant")]
    pub tenants: Vec<ManifestTenant>,
}

/// A tenant, known by its slug.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestTenant {
    pub slug: String,
    /// The slug if absent, when the tenant is made.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub tier: Option<String>,
    #[serde(default)]
    pub status: Option<TenantStatus>,
    /// Why it is suspended.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub billing_email: Option<String>,
    #[serde(default)]
    pub contact_phone: Option<String>,
    #[serde(default)]
    pub timezone: Option<String>,
    #[serde(default)]
    pub locale: Option<String>,
    /// The reseller above it, by id or slug; said when it is made, and never changed.
    #[serde(default)]
    pub parent: Option<String>,
    /// Its own settings, by their keys.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
    /// The same of what is sealed: custom settings.
    #[serde(default)]
    pub secrets: BTreeMap<String, ManifestSecret>,
    #[serde(default, rename = "quota")]
    pub quotas: Vec<ManifestQuota>,
    #[serde(default, rename = "key")]
    pub keys: Vec<ManifestKey>,
}

/// A limit of the tenant's own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestQuota {
    #[serde(rename = "resource_type", alias = "resource")]
    pub resource: Resource,
    /// Absent is unlimited.
    #[serde(default = "unlimited")]
    pub limit: Limit,
    #[serde(default)]
    pub period: Option<Period>,
    #[serde(default)]
    pub enforcement: Option<Enforcement>,
    #[serde(default)]
    pub on_loss: Option<LossPolicy>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A key, known by its name; its text is made once. One that was revoked is not made again: take another name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestKey {
    pub name: String,
    /// Absent: as they are; none, for a key that is made.
    #[serde(default)]
    pub limits: Option<KeyLimits>,
    #[serde(default)]
    pub test: bool,
}

/// The text of a secret. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ManifestSecret(pub String);

/// Whether to do it or only to say what would be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DryRun {
    Yes,
    No,
}

/// What is (or would be) done about one thing of the manifest.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct Planned {
    pub action: PlannedAction,
    /// For example `tenant acme`, `tenant acme quota api_calls/month`, `tenant acme key ci`.
    pub what: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The text of a key that was made: shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    Create,
    Change,
    /// It is as it should be.
    None,
}

/// The plan as it grows, and the faults that were met on the way.
struct Plan {
    planned: Vec<Planned>,
    faults: Vec<FieldFault>,
}

impl Control {
    /// Makes things as the manifest says, all of them in one transaction or none. A second run plans nothing.
    ///
    /// A dry run does the same and takes it back: its plan is what would happen, not what somebody thinks would.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] with all faults, each naming its place in the manifest.
    pub async fn apply(
        &self,
        principal: &Principal,
        manifest: Manifest,
        dry_run: DryRun,
    ) -> Result<Vec<Planned>, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.apply(&manifest).await;
        match dry_run {
            DryRun::Yes => work.take_back(outcome).await.map(without_keys),
            DryRun::No => work.end(outcome).await,
        }
    }
}

/// The keys of a dry run were never good.
fn without_keys(planned: Vec<Planned>) -> Vec<Planned> {
    planned.into_iter().map(|planned| Planned { key: None, ..planned }).collect()
}

fn unlimited() -> Limit {
    Limit::Unlimited
}

// === impl Planned ===

/// Without the key's text.
impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}: {:?} -> {:?}", self.action, self.what, self.before, self.after)
    }
}

// === impl Plan ===

impl Plan {
    fn add(&mut self, what: String, before: Option<Value>, after: Option<Value>) {
        let action = match (&before, &after) {
            (None, Some(_)) => PlannedAction::Create,
            (Some(_), Some(_)) => PlannedAction::Change,
            (_, None) => PlannedAction::None,
        };
        self.planned.push(Planned { action, what, before, after, key: None });
    }

    fn add_as_it_is(&mut self, what: String) {
        self.add(what, None, None);
    }

    /// The value, or else a note of why there is none, at its place; only the store's errors end the whole.
    fn note<T>(&mut self, place: &str, outcome: Result<T, ControlError>) -> Result<Option<T>, ControlError> {
        let error = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        match error {
            ControlError::Invalid(faults) => {
                let placed = faults
                    .into_iter()
                    .map(|fault| FieldFault::new(format!("{place}.{}", fault.field), fault.message));
                self.faults.extend(placed);
            }
            ControlError::Conflict(_) | ControlError::IllegalMove(_) | ControlError::NotFound { .. } => {
                self.faults.push(FieldFault::new(place, error.to_string()));
            }
            ControlError::Forbidden { .. }
            | ControlError::Stale { .. }
            | ControlError::Exceeded(_)
            | ControlError::Stopped(_)
            | ControlError::NoGateway
            | ControlError::Unanswered(_)
            | ControlError::Throttled { .. }
            | ControlError::BadCredentials
            | ControlError::SecondFactor
            | ControlError::Unbelievable(_)
            | ControlError::Seal(_)
            | ControlError::Store(_)
            | ControlError::Checkpoints(..)
            | ControlError::Archive(_)
            | ControlError::Random(_) => return Err(error),
        }
        Ok(None)
    }
}

// === impl Manifest ===

impl Manifest {
    /// What is named twice.
    fn doubles(&self) -> Vec<FieldFault> {
        let mut faults = doubles("tenant", "slug", self.tenants.iter().map(|tenant| &tenant.slug));
        for (at, tenant) in self.tenants.iter().enumerate() {
            let quotas = tenant.quotas.iter().map(|quota| (quota.resource, quota.period));
            faults.extend(doubles(&format!("tenant[{at}].quota"), "resource_type", quotas));
            let names = tenant.keys.iter().map(|key| &key.name);
            faults.extend(doubles(&format!("tenant[{at}].key"), "name", names));
            let twice = tenant.secrets.keys().filter(|key| tenant.settings.contains_key(*key));
            faults.extend(twice.map(|key| {
                FieldFault::new(format!("tenant[{at}].secrets.{key}"), "it is among the settings, too")
            }));
        }
        faults
    }
}

fn doubles<T: Hash + Eq>(place: &str, field: &str, items: impl Iterator<Item = T>) -> Vec<FieldFault> {
    let mut seen = HashSet::new();
    let twice = items.enumerate().filter_map(|(at, item)| (!seen.insert(item)).then_some(at));
    twice.map(|at| FieldFault::new(format!("{place}[{at}].{field}"), "it is there twice")).collect()
}

// === impl ManifestTenant ===

impl ManifestTenant {
    fn new_tenant(&self) -> NewTenant {
        NewTenant {
            name: self.name.clone().unwrap_or_else(|| self.slug.clone()),
            slug: Some(self.slug.clone()),
            tier: self.tier.clone(),
            billing_email: self.billing_email.clone(),
            contact_phone: self.contact_phone.clone(),
            timezone: self.timezone.clone(),
            locale: self.locale.clone(),
            parent: self.parent.clone(),
        }
    }

    fn new_settings(&self) -> impl Iterator<Item = (&str, NewSetting)> {
        let new = |value, is_encrypted| NewSetting { value, is_encrypted };
        let plain = self.settings.iter().map(move |(key, value)| (key.as_str(), new(value.clone(), None)));
        let sealed = self.secrets.iter();
        plain.chain(sealed.map(move |(key, text)| (key.as_str(), new(text.0.as_str().into(), Some(true)))))
    }

    fn change(&self) -> TenantChange {
        TenantChange {
            name: self.name.clone(),
            slug: None,
            tier: self.tier.clone(),
            // What a file says is so once it was applied.
            tier_when: Some(TierWhen::Now),
            billing_email: self.billing_email.clone(),
            contact_phone: self.contact_phone.clone(),
            timezone: self.timezone.clone(),
            locale: self.locale.clone(),
        }
    }
}

// === impl ManifestSecret ===

impl std::fmt::Debug for ManifestSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

// === impl ManifestQuota ===

impl ManifestQuota {
    fn change(&self) -> QuotaChange {
        QuotaChange {
            resource: self.resource,
            limit: self.limit,
            period: self.period,
            enforcement: self.enforcement,
            on_loss: self.on_loss,
            key: None,
            reason: self.reason.clone(),
            expires_at: self.expires_at,
        }
    }
}

// === impl Work ===

impl Work<'_> {
    async fn apply(&mut self, manifest: &Manifest) -> Result<Vec<Planned>, ControlError> {
        let whole = Target { tenant: None, kind: "manifest", id: String::new() };
        self.authorize(Operation::Apply, &whole)?;
        let mut plan = Plan { planned: Vec::new(), faults: manifest.doubles() };
        for (at, tenant) in manifest.tenants.iter().enumerate() {
            self.apply_tenant(&mut plan, &format!("tenant[{at}]"), tenant).await?;
        }
        if plan.faults.is_empty() { Ok(plan.planned) } else { Err(ControlError::Invalid(plan.faults)) }
    }

    async fn apply_tenant(
        &mut self,
        plan: &mut Plan,
        place: &str,
        wanted: &ManifestTenant,
    ) -> Result<(), ControlError> {
        let Ok(slug) = wanted.slug.parse::<Slug>() else {
            let message = "it is no slug: 1 to 63 of a-z, 0-9 and -, beginning with a letter, and no UUID";
            plan.faults.push(FieldFault::new(format!("{place}.slug"), message));
            return Ok(());
        };
        let before = self.tx.tenant_by_slug(&slug).await?;
        let is_gone = before.as_ref().is_none_or(|before| before.status == TenantStatus::Deleted);
        if is_gone && wanted.status == Some(TenantStatus::Deleted) {
            plan.add_as_it_is(format!("tenant {slug}"));
            return Ok(());
        }
        let outcome = match &before {
            None => self.make_tenant(wanted).await,
            Some(before) => self.conform_tenant(before, wanted).await,
        };
        let Some(after) = plan.note(place, outcome)? else { return Ok(()) };
        plan.add_tenant(before.as_ref(), &after);
        if after.status == TenantStatus::Deleted {
            return Ok(());
        }
        let tenant = TenantRef::Id(after.id);
        for (at, quota) in wanted.quotas.iter().enumerate() {
            self.apply_quota(plan, &format!("{place}.quota[{at}]"), (&slug, &tenant), quota).await?;
        }
        for (at, key) in wanted.keys.iter().enumerate() {
            self.apply_key(plan, &format!("{place}.key[{at}]"), &after, key).await?;
        }
        for (key, new) in wanted.new_settings() {
            self.apply_setting(plan, &format!("{place}.settings.{key}"), &after, key, new).await?;
        }
        Ok(())
    }

    async fn make_tenant(&mut self, wanted: &ManifestTenant) -> Result<Tenant, ControlError> {
        // Trial is where tenants begin; nothing leads back to it.
        let begins = wanted.status.filter(|status| *status == TenantStatus::Trial);
        let made = self.create_tenant(&wanted.new_tenant(), begins.unwrap_or(TenantStatus::Active)).await?;
        self.conform_status(made, wanted).await
    }

    async fn conform_tenant(
        &mut self,
        before: &Tenant,
        wanted: &ManifestTenant,
    ) -> Result<Tenant, ControlError> {
        if let Some(parent) = &wanted.parent
            && !self.is_parent(before, parent).await?
        {
            let fault = FieldFault::new("parent", "a tenant that is there keeps the reseller that it has");
            return Err(ControlError::Invalid(vec![fault]));
        }
        let changed = self.change_tenant(&TenantRef::Id(before.id), &wanted.change()).await?;
        self.conform_status(changed, wanted).await
    }

    async fn is_parent(&mut self, tenant: &Tenant, named: &str) -> Result<bool, ControlError> {
        let Some(parent) = tenant.parent else { return Ok(false) };
        let parent = self.tx.tenant(parent).await?;
        Ok(parent.is_some_and(|parent| named == parent.slug.as_str() || named == parent.id.to_string()))
    }

    async fn conform_status(
        &mut self,
        tenant: Tenant,
        wanted: &ManifestTenant,
    ) -> Result<Tenant, ControlError> {
        let Some(status) = wanted.status else { return Ok(tenant) };
        self.set_status(&TenantRef::Id(tenant.id), status, wanted.reason.as_deref()).await
    }

    async fn apply_quota(
        &mut self,
        plan: &mut Plan,
        place: &str,
        (slug, tenant): (&Slug, &TenantRef),
        wanted: &ManifestQuota,
    ) -> Result<(), ControlError> {
        let outcome = self.set_quota(tenant, &wanted.change()).await;
        let Some((_, set)) = plan.note(place, outcome)? else { return Ok(()) };
        let what = format!("tenant {slug} quota {}/{}", set.after.quota.resource, set.after.quota.period);
        if !set.is_change() {
            plan.add_as_it_is(what);
            return Ok(());
        }
        let after = quotas::shown(&set.after);
        match set.before.as_ref().map(quotas::shown) {
            None => plan.add(what, None, Some(after)),
            Some(before) => {
                let Told { before, after, .. } = Told::changed(&before, &after);
                plan.add(what, before, after);
            }
        }
        Ok(())
    }

    async fn apply_key(
        &mut self,
        plan: &mut Plan,
        place: &str,
        tenant: &Tenant,
        wanted: &ManifestKey,
    ) -> Result<(), ControlError> {
        let what = format!("tenant {} key {}", tenant.slug, wanted.name);
        if let Some(before) = self.tx.key_named(tenant.id, wanted.name.trim()).await? {
            return self.conform_key(plan, place, what, before, wanted).await;
        }
        let limits = wanted.limits.clone().unwrap_or_default();
        let new = NewKey { name: wanted.name.clone(), limits, test: wanted.test };
        let outcome = self.create_key(&TenantRef::Id(tenant.id), &new).await;
        let Some(created) = plan.note(place, outcome)? else { return Ok(()) };
        plan.add(what, None, Some(keys::shown(&created.key)));
        if let Some(planned) = plan.planned.last_mut() {
            planned.key = Some(created.text);
        }
        Ok(())
    }

    async fn conform_key(
        &mut self,
        plan: &mut Plan,
        place: &str,
        what: String,
        before: ApiKey,
        wanted: &ManifestKey,
    ) -> Result<(), ControlError> {
        let limits = wanted.limits.as_ref().filter(|_| before.revoked_at.is_none());
        let Some(KeyLimits { scopes, routes, networks, expires_at }) = limits.cloned() else {
            plan.add_as_it_is(what);
            return Ok(());
        };
        let change = KeyChange {
            scopes: Some(scopes),
            routes: Some(routes),
            networks: Some(networks),
            expires_at: (expires_at != before.limits.expires_at).then_some(expires_at),
            ..KeyChange::default()
        };
        let outcome = self.change_key(before.id, change).await;
        let Some(after) = plan.note(place, outcome)? else { return Ok(()) };
        let told = Told::changed(&keys::shown(&before), &keys::shown(&after));
        let is_change = after != before;
        plan.add(what, told.before.filter(|_| is_change), told.after.filter(|_| is_change));
        Ok(())
    }

    /// A secret that is what it should be is not sealed again.
    async fn apply_setting(
        &mut self,
        plan: &mut Plan,
        place: &str,
        tenant: &Tenant,
        key: &str,
        new: NewSetting,
    ) -> Result<(), ControlError> {
        let what = format!("tenant {} setting {key}", tenant.slug);
        let before = self.tx.setting(tenant.id, key).await?;
        if let Some(before) = before.as_ref().filter(|before| before.kind == SettingKind::Secret)
            && new.value.as_str() == Some(&self.control.opened(&mut self.tx, tenant.id, before).await?)
        {
            plan.add_as_it_is(what);
            return Ok(());
        }
        let outcome = self.set_setting(&TenantRef::Id(tenant.id), key, &new).await;
        if plan.note(place, outcome)?.is_none() {
            return Ok(());
        }
        let after = self.tx.setting(tenant.id, key).await?;
        let is_change = before != after;
        let shown = |setting: Option<StoredSetting>| setting.as_ref().map(settings::shown);
        plan.add(what, shown(before).filter(|_| is_change), shown(after).filter(|_| is_change));
        Ok(())
    }
}

impl Plan {
    fn add_tenant(&mut self, before: Option<&Tenant>, after: &Tenant) {
        let what = format!("tenant {}", after.slug);
        match before {
            None => self.add(what, None, Some(tenants::shown(after))),
            Some(before) if before.version == after.version => self.add_as_it_is(what),
            Some(before) => {
                let told = Told::changed(&tenants::shown(before), &tenants::shown(after));
                self.add(what, told.before, told.after);
            }
        }
    }
}
