//! Settings of tenants: what is known, what holds where nothing is set, and secrets that are shown to nobody.
//!
//! What a tenant has not set itself it has from the nearest tenant above (where the setting is inherited), from its
//! tier, or by default. Secrets are sealed with a key of the tenant's own; the audit log notes that they were set, and
//! never what to.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::BILLING_ACCOUNT;
use crate::domain::{
    SECURITY_LEVELS, SETTINGS, SettingDefault, SettingKind, SettingSpec, Tenant, TenantId, TenantStatus,
    upgrade_link,
};
use crate::secret::seal::{DataKey, KeyRing, Place, SealError};
use crate::store::{Snapshot, StoredSetting, StoredValue};

/// A setting as it holds.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct SettingView {
    pub setting_key: String,
    pub setting_type: SettingKind,
    /// `null` for secrets, which are never shown, and for what is not set and has no default.
    pub setting_value: Value,
    pub is_encrypted: bool,
    pub is_set: bool,
    pub source: SettingSource,
    /// An `ETag`; `None` where the tenant has set nothing.
    pub version: Option<i64>,
    pub updated_at: Option<Timestamp>,
    pub about: Option<&'static str>,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    Tenant,
    /// A tenant above.
    Reseller,
    Tier,
    Default,
}

/// A value to be set.
#[derive(Clone, PartialEq, Debug)]
pub struct NewSetting {
    pub value: Value,
    /// Custom settings may be secret; those that the registry knows are not.
    pub is_encrypted: Option<bool>,
}

/// How far a rotation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Rotated {
    /// The version that wraps from now on.
    pub version: i64,
    /// Tenants' keys that were wrapped anew.
    pub rewrapped: u64,
}

/// Keys that are rewrapped in one transaction.
const ROTATED_AT_ONCE: u32 = 100;
/// The setting that says where more can be bought.
const UPGRADE_URL: &str = "upgrade_url";
/// What is left of an erased tenant's name.
const ERASED: &str = "Erased tenant";

impl Control {
    /// All settings that are known, and what the tenant has set beside them.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn settings(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<SettingView>, ControlError> {
        let (_, tenant) = self.read_tenant(principal, Operation::ReadSettings, tenant).await?;
        // Tenants above are out of a tenant's reach.
        let mut snapshot = self.read().await?;
        let own = snapshot.settings(tenant.id).await?;
        let inherited = inherited(&mut snapshot, &tenant).await?;
        let level = snapshot.tier_security_level(&tenant).await?;
        let known = SETTINGS.iter().map(|spec| {
            let set = own.iter().find(|own| own.key == spec.key);
            let above = inherited.iter().find(|above| above.key == spec.key);
            SettingView::of(spec, set, above, &level)
        });
        let custom = own.iter().filter(|own| SettingSpec::is_custom(&own.key)).map(SettingView::custom);
        Ok(known.chain(custom).collect())
    }

    /// # Errors
    /// [`ControlError::NotFound`], also for a setting that is not known.
    pub async fn setting(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        key: &str,
    ) -> Result<SettingView, ControlError> {
        let all = self.settings(principal, tenant).await?;
        all.into_iter().find(|setting| setting.setting_key == key).ok_or_else(|| no_setting(key))
    }

    /// Sets a setting of the tenant. To set what is set already is success and writes nothing, except of secrets.
    ///
    /// # Errors
    /// [`ControlError::Invalid`]; [`ControlError::NotFound`] for a setting that is not known;
    /// [`ControlError::Stale`].
    pub async fn set_setting(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        key: &str,
        new: NewSetting,
    ) -> Result<SettingView, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_setting(tenant, key, &new).await;
        work.end(outcome).await?;
        self.setting(principal, tenant, key).await
    }

    /// Forgets what the tenant has set; what is inherited or the default holds again.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] when it has set nothing; [`ControlError::Stale`].
    pub async fn remove_setting(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        key: &str,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_setting(tenant, key).await;
        work.end(outcome).await
    }

    /// The text of a secret, for whoever does something with it on the tenant's behalf. Not for the API.
    ///
    /// # Errors
    /// [`ControlError::Seal`] for a secret that was moved or changed in the database, or whose key is not configured.
    pub async fn secret(&self, tenant: TenantId, key: &str) -> Result<Option<String>, ControlError> {
        let mut snapshot = self.read().await?;
        let Some(stored) = snapshot.setting(tenant, key).await? else { return Ok(None) };
        match stored.value {
            StoredValue::Sealed { .. } => self.opened(&mut snapshot, tenant, &stored).await.map(Some),
            StoredValue::Plain(_) => Ok(None),
        }
    }

    /// The text of a setting that is sealed.
    pub(super) async fn opened(
        &self,
        snapshot: &mut Snapshot,
        tenant: TenantId,
        stored: &StoredSetting,
    ) -> Result<String, ControlError> {
        let StoredSetting { key, version, .. } = stored;
        let StoredValue::Sealed { data_key, bytes } = &stored.value else { return Err(no_setting(key)) };
        let keys = snapshot.data_keys(tenant).await?;
        let place = Place { tenant, name: key, version: *version };
        Ok(self.key_ring()?.open(&keys, *data_key, place, bytes)?)
    }

    /// Wraps all tenants' keys, and those of people's second factors, with the newest key of the ring, batch by batch. May be interrupted and run again, and
    /// beside everything else; afterwards older keys of the ring are not needed any more.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Seal`] where a key that wraps is not configured.
    pub async fn rotate_secrets(&self, principal: &Principal) -> Result<Rotated, ControlError> {
        let version = self.key_ring()?.newest();
        let mut rewrapped = 0;
        loop {
            let mut work = self.begin(principal).await?;
            let outcome = work.rotate_some(version).await;
            let some = work.end(outcome).await?;
            rewrapped += some;
            if some < ROTATED_AT_ONCE.into() {
                return Ok(Rotated { version, rewrapped });
            }
        }
    }

    /// Erases a deleted tenant's personal data and shreds its secrets: what is left is a tombstone, its usage, its audit
    /// log, and the invoices that were finalized, to whom and as they are: they are documents that the law wants kept. A second time is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] for a tenant that is not deleted.
    pub async fn erase_tenant(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.erase_tenant(tenant).await;
        work.end(outcome).await
    }

    /// Sees to it that the ring's keys are those that this store's secrets are sealed with, also by gateways that have
    /// not sealed anything yet: each key is noted with the store by whoever has it first.
    ///
    /// # Errors
    /// [`ControlError::Seal`] with [`SealError::OtherKey`] for a key that is another one of its version.
    pub async fn confirm_secrets(&self) -> Result<(), ControlError> {
        let ring = self.key_ring()?;
        let mut tx = self.parts.store.begin().await?;
        for (version, fingerprint) in ring.fingerprints() {
            let sealed = tx.data_key_wrapped_by(version).await?;
            let opens = sealed.is_none_or(|(tenant, wrapped)| ring.unwrap(tenant, &wrapped).is_ok());
            if !opens || tx.note_ring_key(version, &fingerprint, self.now()).await? != fingerprint {
                return Err(SealError::OtherKey(version).into());
            }
        }
        Ok(tx.commit().await?)
    }

    /// Says in refusals for want of units where more can be bought: at the tenant's `upgrade_url`, or at that of the
    /// nearest tenant above.
    pub(super) async fn tell_where_more_is(
        &self,
        tenant: &Tenant,
        refusals: impl IntoIterator<Item = &mut ControlError>,
    ) -> Result<(), ControlError> {
        let of_quota = |refusal| match refusal {
            &mut ControlError::Exceeded(ref mut exceeded) => Some(exceeded),
            _ => None,
        };
        let exceeded: Vec<_> = refusals.into_iter().filter_map(of_quota).collect();
        if exceeded.is_empty() {
            return Ok(());
        }
        let url = upgrade_url(&mut self.read().await?, tenant).await?;
        exceeded.into_iter().for_each(|exceeded| exceeded.upgrade_url.clone_from(&url));
        Ok(())
    }

    /// How strict the tenant is with itself: as it has set, but no stricter than its tier allows.
    pub(super) async fn security_level(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
    ) -> Result<String, ControlError> {
        let of_tier = snapshot.tier_security_level(tenant).await?;
        let own = snapshot.setting(tenant.id, "security_level").await?;
        let own = own.and_then(|own| match own.value {
            StoredValue::Plain(text) => plain(&text).as_str().map(str::to_owned),
            StoredValue::Sealed { .. } => None,
        });
        Ok(own.filter(|own| rank(own) <= rank(&of_tier)).unwrap_or(of_tier))
    }

    pub(super) fn key_ring(&self) -> Result<&KeyRing, ControlError> {
        let without = || ControlError::Conflict("no key for tenants' secrets is configured".to_owned());
        self.parts.secrets.as_ref().ok_or_else(without)
    }
}

/// Where the tenant can buy more: at its own `upgrade_url`, or at that of the nearest tenant above. Tenants above have to
/// be in the snapshot's reach.
pub(super) async fn upgrade_url(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
) -> Result<Option<String>, ControlError> {
    let set = nearest(snapshot, tenant, &[UPGRADE_URL]).await?;
    let template = set.get(UPGRADE_URL).and_then(Value::as_str);
    Ok(template.map(|template| upgrade_link(template, tenant)))
}

/// What the tenant, or else the nearest tenant above, has set of these.
pub(super) async fn nearest(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    keys: &[&str],
) -> Result<BTreeMap<String, Value>, ControlError> {
    let mut tenants = vec![tenant.id];
    tenants.extend(snapshot.tenants_above(tenant).await?.into_iter().map(|above| above.id));
    Ok(snapshot.first_settings(&tenants, keys).await?)
}

/// What the tenants above have set of what is inherited: the nearest first.
async fn inherited(snapshot: &mut Snapshot, tenant: &Tenant) -> Result<Vec<StoredSetting>, ControlError> {
    let mut inherited = Vec::new();
    for above in snapshot.tenants_above(tenant).await? {
        let set = snapshot.settings(above.id).await?;
        let is_inherited =
            |set: &StoredSetting| SettingSpec::named(&set.key).is_some_and(|spec| spec.is_inherited);
        inherited.extend(set.into_iter().filter(is_inherited));
    }
    Ok(inherited)
}

fn no_setting(key: &str) -> ControlError {
    ControlError::NotFound { what: "setting", which: key.to_owned() }
}

fn rank(level: &str) -> Option<usize> {
    SECURITY_LEVELS.iter().position(|known| *known == level)
}

// === impl Work ===

impl Work<'_> {
    pub(super) async fn set_setting(
        &mut self,
        tenant: &TenantRef,
        key: &str,
        new: &NewSetting,
    ) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::SetSetting, tenant).await?;
        self.authorize_setting(&tenant, key)?;
        let before = self.expected_setting(&tenant, key).await?;
        let (kind, value) = self.checked_setting(&tenant, key, new, before.as_ref()).await?;
        let version = before.as_ref().map_or(0, |before| before.version + 1).max(self.now.micros());
        let plain = value.to_string();
        if before.as_ref().is_some_and(|before| before.value == StoredValue::Plain(plain.clone())) {
            return Ok(());
        }
        let stored = match (kind, value.as_str()) {
            (SettingKind::Secret, Some(text)) => {
                let data_key = self.data_key(tenant.id).await?;
                let place = Place { tenant: tenant.id, name: key, version };
                StoredValue::Sealed { data_key: data_key.id, bytes: data_key.seal(place, text)? }
            }
            _ => StoredValue::Plain(plain),
        };
        let after = StoredSetting { key: key.to_owned(), kind, value: stored, version, updated_at: self.now };
        self.tx.set_setting(tenant.id, &after).await?;
        let told = Told { before: before.as_ref().map(shown), ..Told::made(shown(&after)) };
        self.audit(Operation::SetSetting, &Target::of(&tenant, "setting", key), told).await
    }

    /// What is owed depends on some settings: those are the platform's.
    fn authorize_setting(&mut self, tenant: &Tenant, key: &str) -> Result<(), ControlError> {
        match SettingSpec::named(key) {
            Some(spec) if spec.is_platforms => {
                self.authorize(Operation::SetPlatformSetting, &Target::of(tenant, "setting", key))
            }
            _ => Ok(()),
        }
    }

    /// The setting as it is, if it is of the version that the caller expects; one that is not set is of version 0.
    async fn expected_setting(
        &mut self,
        tenant: &Tenant,
        key: &str,
    ) -> Result<Option<StoredSetting>, ControlError> {
        let before = self.tx.setting(tenant.id, key).await?;
        self.control.expects(before.as_ref().map_or(0, |before| before.version))?;
        Ok(before)
    }

    async fn checked_setting(
        &mut self,
        tenant: &Tenant,
        key: &str,
        new: &NewSetting,
        before: Option<&StoredSetting>,
    ) -> Result<(SettingKind, Value), ControlError> {
        let mut faults = Faults::default();
        let Some(spec) = SettingSpec::named(key) else {
            let was_secret = before.is_some_and(|before| before.kind == SettingKind::Secret);
            return custom_value(key, new, was_secret);
        };
        if new.is_encrypted == Some(true) {
            faults.add("is_encrypted", "it is no secret: others read it; secrets are custom settings");
        }
        let value = spec.holds.read(&new.value);
        let value =
            value.map_err(|expected| faults.add("setting_value", format!("{expected} is expected"))).ok();
        if let (SettingDefault::TierSecurityLevel, Some(asked)) = (spec.default, value.as_ref()) {
            let cap = self.tx.tier_security_level(tenant).await?;
            if asked.as_str().and_then(rank) > rank(&cap) {
                faults.add("setting_value", format!("the tier {} allows {cap} at most", tenant.tier));
            }
        }
        if let (BILLING_ACCOUNT, Some(account)) = (key, value.as_ref().and_then(Value::as_str)) {
            let others = self.tx.tenants_billed_as(account).await?;
            if others.iter().any(|other| *other != tenant.id) {
                faults.add("setting_value", "another tenant is billed as that");
            }
        }
        let all_good = faults.is_empty();
        let value = value.filter(|_| all_good).ok_or_else(|| faults.refusal())?;
        Ok((spec.kind, value))
    }

    /// The tenant's newest data key; made if it has none.
    pub(super) async fn data_key(&mut self, tenant: TenantId) -> Result<DataKey, ControlError> {
        let control = self.control;
        let ring = control.key_ring()?;
        if let Some(newest) = self.tx.data_keys(tenant).await?.first() {
            return Ok(ring.unwrap(tenant, newest)?);
        }
        let key = ring.draw(control.new_id()).map_err(ControlError::Random)?;
        self.tx.insert_data_key(tenant, &ring.wrap(tenant, &key)?, self.now).await?;
        Ok(key)
    }

    /// The number that the tenant has set.
    pub(super) async fn own_number(
        &mut self,
        tenant: &Tenant,
        key: &str,
    ) -> Result<Option<i64>, ControlError> {
        let stored = self.tx.setting(tenant.id, key).await?;
        Ok(stored.and_then(|stored| match stored.value {
            StoredValue::Plain(text) => plain(&text).as_i64(),
            StoredValue::Sealed { .. } => None,
        }))
    }

    async fn remove_setting(&mut self, tenant: &TenantRef, key: &str) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::RemoveSetting, tenant).await?;
        self.authorize_setting(&tenant, key)?;
        let before = self.expected_setting(&tenant, key).await?.ok_or_else(|| no_setting(key))?;
        self.tx.remove_setting(tenant.id, key).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveSetting, &Target::of(&tenant, "setting", key), told).await
    }

    async fn rotate_some(&mut self, version: i64) -> Result<u64, ControlError> {
        let target = Target { tenant: None, kind: "secret_key", id: version.to_string() };
        self.authorize(Operation::RotateSecrets, &target)?;
        let old = self.tx.data_keys_below(version, ROTATED_AT_ONCE).await?;
        let ring = self.control.key_ring()?;
        for (tenant, wrapped) in &old {
            let key = ring.unwrap(*tenant, wrapped)?;
            self.tx.rewrap_data_key(*tenant, &ring.wrap(*tenant, &key)?).await?;
        }
        let control = self.control;
        let people = control.rewrap_second_factors(&mut self.tx, version, ROTATED_AT_ONCE).await?;
        let some = old.len() as u64 + people;
        if some > 0 {
            let told = Told::made(json!({ "version": version, "rewrapped": some }));
            self.audit(Operation::RotateSecrets, &target, told).await?;
        }
        Ok(some)
    }

    async fn erase_tenant(&mut self, tenant: &TenantRef) -> Result<Tenant, ControlError> {
        let before = self.tenant_for(Operation::EraseTenant, tenant).await?;
        if before.status != TenantStatus::Deleted {
            let why = format!("tenant `{}` is not deleted: what is erased can't be had back", before.slug);
            return Err(ControlError::Conflict(why));
        }
        let (name, billing_email, contact_phone) = (ERASED.to_owned(), None, None);
        let mut after = Tenant { name, billing_email, contact_phone, ..before.clone() };
        self.tx.shred_settings(before.id).await?;
        self.tx.remove_people_of(before.id).await?;
        self.tx.forget_networks_of(before.id).await?;
        if after == before {
            return Ok(before);
        }
        (after.version, after.updated_at) = (before.version + 1, self.now);
        let retention_days = self.tx.tier_retention_days(&after).await?;
        self.tx.update_tenant(&after, retention_days).await?;
        // What was erased must not stand in the log either.
        self.audit(Operation::EraseTenant, &Target::tenant(&after), Told::default()).await?;
        Ok(after)
    }
}

/// The value of a setting of the tenant's own invention. What is a secret stays one.
fn custom_value(key: &str, new: &NewSetting, was_secret: bool) -> Result<(SettingKind, Value), ControlError> {
    if !SettingSpec::is_custom(key) {
        return Err(no_setting(key));
    }
    let mut faults = Faults::default();
    let is_secret = new.is_encrypted.unwrap_or(was_secret);
    if was_secret && !is_secret {
        faults.add("is_encrypted", "it is a secret, and stays one: remove it first");
    }
    let kind = match &new.value {
        Value::String(_) if is_secret => SettingKind::Secret,
        Value::String(_) => SettingKind::String,
        Value::Bool(_) => SettingKind::Bool,
        Value::Number(number) if number.is_i64() => SettingKind::Int,
        _ => SettingKind::Json,
    };
    if is_secret && kind != SettingKind::Secret {
        faults.add("setting_value", "a secret is text");
    }
    if new.value.to_string().len() > CUSTOM_BYTES_MAX || new.value.is_null() {
        faults.add("setting_value", format!("a value of at most {CUSTOM_BYTES_MAX} bytes is expected"));
    }
    faults.finish()?;
    Ok((kind, new.value.clone()))
}

const CUSTOM_BYTES_MAX: usize = 16_384;

/// What a setting looks like in the audit log: of a secret only that there is one.
pub(super) fn shown(setting: &StoredSetting) -> Value {
    match &setting.value {
        StoredValue::Plain(text) => json!({
            "setting_type": setting.kind, "setting_value": plain(text), "version": setting.version,
        }),
        StoredValue::Sealed { .. } => json!({ "setting_type": setting.kind, "version": setting.version }),
    }
}

fn plain(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

// === impl SettingView ===

impl SettingView {
    fn of(
        spec: &'static SettingSpec,
        own: Option<&StoredSetting>,
        above: Option<&StoredSetting>,
        tier_level: &str,
    ) -> SettingView {
        let (set, source) = match (own, above) {
            (Some(own), _) => (Some(own), SettingSource::Tenant),
            (None, Some(above)) => (Some(above), SettingSource::Reseller),
            (None, None) => (None, SettingSource::Default),
        };
        let (value, source) = match set {
            Some(set) => (SettingView::value(set), source),
            None => match spec.default {
                SettingDefault::Nothing => (Value::Null, source),
                SettingDefault::False => (false.into(), source),
                SettingDefault::TierSecurityLevel => (tier_level.into(), SettingSource::Tier),
            },
        };
        // A tier that was lowered caps what was set before.
        let is_capped = matches!(spec.default, SettingDefault::TierSecurityLevel)
            && value.as_str().and_then(rank) > rank(tier_level);
        let (value, source) =
            if is_capped { (tier_level.into(), SettingSource::Tier) } else { (value, source) };
        SettingView {
            setting_key: spec.key.to_owned(),
            setting_type: spec.kind,
            setting_value: value,
            is_encrypted: spec.kind == SettingKind::Secret,
            is_set: set.is_some(),
            source,
            version: own.map(|own| own.version),
            updated_at: own.map(|own| own.updated_at),
            about: Some(spec.about),
        }
    }

    fn custom(own: &StoredSetting) -> SettingView {
        SettingView {
            setting_key: own.key.clone(),
            setting_type: own.kind,
            setting_value: SettingView::value(own),
            is_encrypted: own.kind == SettingKind::Secret,
            is_set: true,
            source: SettingSource::Tenant,
            version: Some(own.version),
            updated_at: Some(own.updated_at),
            about: None,
        }
    }

    fn value(stored: &StoredSetting) -> Value {
        match &stored.value {
            StoredValue::Plain(text) => plain(text),
            StoredValue::Sealed { .. } => Value::Null,
        }
    }
}
