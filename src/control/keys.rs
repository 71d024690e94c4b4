//! API keys: made or brought along, listed, changed, exchanged for new ones, revoked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Permissions, Principal, Scope, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{ApiKey, ApiKeyId, KeyLimits, Owner, Quota, Tenant};
use crate::secret::hash::{
    CertificateName, Digests, ForeignDigest, KeyKind, KeyText, Peppers, VersionedDigest,
};
use crate::store::{Listed, OwnQuota, Page};

/// What a new key is made of.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    pub name: String,
    pub limits: KeyLimits,
    /// A `tg_test_` key.
    pub test: bool,
}

/// By what the holder of a key is known that has no text of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Brought {
    /// SHA-256 of the whole key, in hexadecimal digits.
    Sha256(String),
    /// The name in its client certificate: the URI, or the DNS name if there is none.
    Certificate(String),
}

/// What to change of a key: `None` leaves it as it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeyChange {
    pub name: Option<String>,
    pub scopes: Option<Vec<String>>,
    pub routes: Option<Vec<String>>,
    pub networks: Option<Vec<ipnet::IpNet>>,
    /// `Some(None)`: never.
    pub expires_at: Option<Option<Timestamp>>,
    pub enabled: Option<bool>,
}

/// A key at the only moment when its text is known.
#[derive(Clone, PartialEq)]
pub struct CreatedKey {
    pub key: ApiKey,
    /// Shown once, stored nowhere.
    pub text: String,
}

/// Scopes, routes or networks of one key.
const LIMITS_MAX: usize = 64;
const LIMIT_LENGTH_MAX: usize = 64;
/// How long a key may go on working beside the one that takes its place.
const GRACE_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// What people see of a key whose text nobody here ever saw.
const IMPORTED_PREFIX: &str = "imported";

impl Control {
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] for a deleted tenant.
    pub async fn create_key(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewKey,
    ) -> Result<CreatedKey, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.create_key(tenant, &new).await;
        work.end(outcome).await
    }

    /// Makes a key without a text of ours: one that another system made, whose holder goes on using it, or one for
    /// whoever shows a certificate.
    ///
    /// # Errors
    /// As [`Control::create_key`]; [`ControlError::Conflict`] for a key that is there already, whoever's it is.
    pub async fn import_key(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewKey,
        brought: &Brought,
    ) -> Result<ApiKey, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.import_key(tenant, new, brought).await;
        work.end(outcome).await
    }

    /// Newest first, revoked ones included.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn keys(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        page: &Page,
    ) -> Result<Listed<ApiKey>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadKeys, tenant).await?;
        Ok(snapshot.keys(tenant.id, page).await??)
    }

    /// # Errors
    /// [`ControlError::NotFound`] for a key that does not exist or is another tenant's.
    pub async fn key(&self, principal: &Principal, key: ApiKeyId) -> Result<ApiKey, ControlError> {
        let mut snapshot = self.read_as(principal).await?;
        let found = snapshot.key(key).await?.filter(|found| principal.sees(found.tenant));
        let found = found.ok_or_else(|| ControlError::NotFound { what: "key", which: key.to_string() })?;
        principal.authorize(Operation::ReadKeys)?;
        Ok(found)
    }

    /// Changes what the key may be used for, or whether at all. What is so already is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::NotFound`] for a key that does not exist or is
    /// another tenant's; [`ControlError::Conflict`] for a revoked one; [`ControlError::Stale`].
    pub async fn change_key(
        &self,
        principal: &Principal,
        key: ApiKeyId,
        change: KeyChange,
    ) -> Result<ApiKey, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.change_key(key, change).await;
        work.end(outcome).await
    }

    /// Makes a key that takes the place of `key`: of the same name, with the same limits and quotas of its own, whose
    /// windows begin unused. The old one works for `grace` more; not at all if that is zero.
    ///
    /// # Errors
    /// As [`Control::change_key`]; [`ControlError::Conflict`] for a key that does not work any more.
    pub async fn rotate_key(
        &self,
        principal: &Principal,
        key: ApiKeyId,
        grace: Duration,
    ) -> Result<CreatedKey, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.rotate_key(key, grace).await;
        work.end(outcome).await
    }

    /// Revokes the key for good; a second time is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] for a key that does not exist or is another tenant's.
    pub async fn revoke_key(&self, principal: &Principal, key: ApiKeyId) -> Result<ApiKey, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.revoke_key(key).await;
        work.end(outcome).await
    }
}

/// What a key looks like in the audit log and in plans.
pub(super) fn shown(key: &ApiKey) -> Value {
    json!({
        "name": key.name,
        "prefix": key.prefix,
        "limits": key.limits,
        "enabled": key.enabled,
        "revoked_at": key.revoked_at,
    })
}

// === impl CreatedKey ===

/// Without the text.
impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("key", &self.key).finish_non_exhaustive()
    }
}

// === impl Brought ===

impl Brought {
    /// By what it is looked up, and what people see of it.
    fn check<'b>(&'b self, faults: &mut Faults, peppers: &Peppers) -> Option<(Digests, &'b str)> {
        match self {
            Brought::Sha256(text) => {
                let expected = "64 hexadecimal digits are expected: SHA-256 of the whole key";
                let foreign = faults.check("sha256", ForeignDigest::parse(text), expected)?;
                Some((peppers.digests_of_foreign(foreign), IMPORTED_PREFIX))
            }
            Brought::Certificate(text) => {
                let expected = "a URI or a host's name is expected, as the certificate has it";
                let name = faults.check("certificate", CertificateName::parse(text), expected)?;
                Some((peppers.digests_of_certificate(&name), text))
            }
        }
    }
}

// === impl Work ===

impl Work<'_> {
    pub(super) async fn create_key(
        &mut self,
        tenant: &TenantRef,
        new: &NewKey,
    ) -> Result<CreatedKey, ControlError> {
        let tenant = self.living_tenant_for(Operation::CreateKey, tenant).await?;
        let name = checked(new, self.now)?;
        self.check_scopes(&new.limits)?;
        self.check_age(&tenant, &new.limits).await?;
        let kind = if new.test { KeyKind::Test } else { KeyKind::Live };
        self.make_key(&tenant, name, new.limits.clone(), kind).await
    }

    /// A new key, with its text and its audit row.
    async fn make_key(
        &mut self,
        tenant: &Tenant,
        name: String,
        limits: KeyLimits,
        kind: KeyKind,
    ) -> Result<CreatedKey, ControlError> {
        let text = KeyText::generate(kind).map_err(ControlError::Random)?;
        let key = self.new_key(tenant, name, limits, text.prefix());
        let digests = self.control.parts.peppers.digests(text.as_bytes());
        self.insert_key(Operation::CreateKey, tenant, &key, digests.current()).await?;
        Ok(CreatedKey { key, text: text.as_str().to_owned() })
    }

    async fn import_key(
        &mut self,
        tenant: &TenantRef,
        new: NewKey,
        brought: &Brought,
    ) -> Result<ApiKey, ControlError> {
        let tenant = self.living_tenant_for(Operation::ImportKey, tenant).await?;
        let name = checked(&new, self.now)?;
        let mut faults = Faults::default();
        if new.test {
            faults.add("test", "a key without a text of ours is no test key of ours");
        }
        let known = brought.check(&mut faults, &self.control.parts.peppers);
        let Some((digests, prefix)) = known.filter(|_| faults.is_empty()) else {
            return Err(faults.refusal());
        };
        let key = self.new_key(&tenant, name, new.limits, prefix);
        if let Some(there) = self.tx.key_by_digests(&digests).await? {
            return Err(ControlError::Conflict(format!("that key is there already, as `{}`", there.what.id)));
        }
        self.insert_key(Operation::ImportKey, &tenant, &key, digests.current()).await?;
        Ok(key)
    }

    async fn insert_key(
        &mut self,
        operation: Operation,
        tenant: &Tenant,
        key: &ApiKey,
        under: &VersionedDigest,
    ) -> Result<(), ControlError> {
        self.tx.insert_key(key, &under.digest, under.version).await?;
        let target = Target::of(tenant, "key", key.id.to_string());
        self.audit(operation, &target, Told::made(shown(key))).await
    }

    pub(super) async fn change_key(
        &mut self,
        id: ApiKeyId,
        change: KeyChange,
    ) -> Result<ApiKey, ControlError> {
        let (tenant, before) = self.key_for(Operation::ChangeKey, id).await?;
        self.control.expects(before.version)?;
        if before.revoked_at.is_some() {
            return Err(ControlError::Conflict(format!("key `{id}` is revoked")));
        }
        let mut after = changed(&before, change, self.now)?;
        if after == before {
            return Ok(before);
        }
        after.version += 1;
        if after.limits.scopes != before.limits.scopes {
            self.check_scopes(&after.limits)?;
        }
        if after.limits.expires_at != before.limits.expires_at {
            self.check_age(&tenant, &after.limits).await?;
        }
        self.tx.set_key(&after).await?;
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::ChangeKey, &Target::of(&tenant, "key", id.to_string()), told).await?;
        Ok(after)
    }

    async fn rotate_key(&mut self, id: ApiKeyId, grace: Duration) -> Result<CreatedKey, ControlError> {
        let (tenant, before) = self.key_for(Operation::RotateKey, id).await?;
        if !before.is_usable(self.now) {
            let why = format!("key `{id}` does not work any more: create another one");
            return Err(ControlError::Conflict(why));
        }
        if grace > GRACE_MAX {
            let mut faults = Faults::default();
            faults.add("grace_seconds", format!("at most {}", GRACE_MAX.as_secs()));
            return Err(faults.refusal());
        }
        self.check_scopes(&before.limits)?;
        let kind = if before.prefix.starts_with("tg_test_") { KeyKind::Test } else { KeyKind::Live };
        let mut limits = before.limits.clone();
        if let Some(last) = self.last_expiry(&tenant).await? {
            limits.expires_at = Some(limits.expires_at.map_or(last, |own| own.min(last)));
        }
        let made = self.make_key(&tenant, before.name.clone(), limits, kind).await?;
        self.copy_quotas(&tenant, id, made.key.id).await?;
        let mut after = ApiKey { version: before.version + 1, ..before.clone() };
        let end = self.now.plus(grace);
        after.limits.expires_at = Some(before.limits.expires_at.map_or(end, |own| own.min(end)));
        self.tx.set_key(&after).await?;
        let mut told = Told::changed(&shown(&before), &shown(&after));
        told.reason = Some(format!("replaced by {}", made.key.id));
        self.audit(Operation::RotateKey, &Target::of(&tenant, "key", id.to_string()), told).await?;
        Ok(made)
    }

    /// The last instant that a key made now may expire at, if the tenant limits its keys' age.
    async fn last_expiry(&mut self, tenant: &Tenant) -> Result<Option<Timestamp>, ControlError> {
        let days = self.own_number(tenant, "key_age_days_max").await?;
        Ok(days.map(|days| self.now.plus(Duration::from_secs(days.unsigned_abs() * 24 * 3_600))))
    }

    /// Nobody hands out, as a key, what they may not do themselves.
    fn check_scopes(&self, limits: &KeyLimits) -> Result<(), ControlError> {
        let given = Scope::of(&limits.scopes).map_or(Permissions::NONE, Scope::permissions);
        let mut faults = Faults::default();
        if !given.is_within(self.principal.rights.permissions) {
            faults.add("scopes", "the key could do more than you may yourself");
        }
        faults.finish()
    }

    async fn check_age(&mut self, tenant: &Tenant, limits: &KeyLimits) -> Result<(), ControlError> {
        let Some(last) = self.last_expiry(tenant).await? else { return Ok(()) };
        let mut faults = Faults::default();
        if limits.expires_at.is_none_or(|end| end > last) {
            faults.add("expires_at", format!("the tenant's keys expire: by {last} at the latest"));
        }
        faults.finish()
    }

    async fn copy_quotas(
        &mut self,
        tenant: &Tenant,
        from: ApiKeyId,
        to: ApiKeyId,
    ) -> Result<(), ControlError> {
        let own = self.tx.own_quotas_of(tenant.id, Owner::Key(from)).await?;
        for own in &own {
            let quota = Quota { owner: Owner::Key(to), ..own.quota.clone() };
            let copy = OwnQuota { quota, ..own.clone() };
            self.tx.set_own_quota(tenant.id, &copy, self.now).await?;
        }
        Ok(())
    }

    fn new_key(&self, tenant: &Tenant, name: String, limits: KeyLimits, prefix: &str) -> ApiKey {
        ApiKey {
            id: ApiKeyId(self.control.new_id()),
            tenant: tenant.id,
            name,
            prefix: prefix.to_owned(),
            limits,
            enabled: true,
            created_at: self.now,
            revoked_at: None,
            last_used_at: None,
            version: 1,
        }
    }

    async fn revoke_key(&mut self, id: ApiKeyId) -> Result<ApiKey, ControlError> {
        let (tenant, before) = self.key_for(Operation::RevokeKey, id).await?;
        self.control.expects(before.version)?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        self.tx.revoke_key(id, self.now).await?;
        let version = before.version + 1;
        let after = ApiKey { revoked_at: Some(self.now), version, ..before.clone() };
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::RevokeKey, &Target::of(&tenant, "key", id.to_string()), told).await?;
        Ok(after)
    }

    /// The key and its tenant, if the caller may do that to it.
    async fn key_for(
        &mut self,
        operation: Operation,
        id: ApiKeyId,
    ) -> Result<(Tenant, ApiKey), ControlError> {
        let found = self.tx.key(id).await?.filter(|key| self.principal.sees(key.tenant));
        let Some(key) = found else {
            self.note_foreign(operation, "key", id.to_string());
            return Err(ControlError::NotFound { what: "key", which: id.to_string() });
        };
        let tenant = self.tenant_for(operation, &TenantRef::Id(key.tenant)).await?;
        Ok((tenant, key))
    }
}

/// The new key's name, when everything about it is good.
fn checked(new: &NewKey, now: Timestamp) -> Result<String, ControlError> {
    let mut faults = Faults::default();
    let name = faults.name("name", &new.name);
    check_limits(&mut faults, &new.limits, now);
    let all_good = faults.is_empty();
    name.filter(|_| all_good).ok_or_else(|| faults.refusal())
}

/// The key with the change, when everything about it is good.
fn changed(before: &ApiKey, change: KeyChange, now: Timestamp) -> Result<ApiKey, ControlError> {
    let KeyChange { name, scopes, routes, networks, expires_at, enabled } = change;
    let mut faults = Faults::default();
    let name = name.map_or(Some(before.name.clone()), |name| faults.name("name", &name));
    let own = &before.limits;
    let limits = KeyLimits {
        scopes: scopes.unwrap_or_else(|| own.scopes.clone()),
        routes: routes.unwrap_or_else(|| own.routes.clone()),
        networks: networks.unwrap_or_else(|| own.networks.clone()),
        expires_at: expires_at.unwrap_or(own.expires_at),
    };
    // What stays may have passed: a key that has expired can be renamed.
    if limits != *own {
        check_limits(&mut faults, &limits, now);
    }
    let all_good = faults.is_empty();
    let name = name.filter(|_| all_good).ok_or_else(|| faults.refusal())?;
    Ok(ApiKey { name, limits, enabled: enabled.unwrap_or(before.enabled), ..before.clone() })
}

fn check_limits(faults: &mut Faults, limits: &KeyLimits, now: Timestamp) {
    check_words(faults, "scopes", &limits.scopes);
    check_words(faults, "routes", &limits.routes);
    if limits.networks.len() > LIMITS_MAX {
        faults.add("networks", format!("more than {LIMITS_MAX}"));
    }
    if limits.expires_at.is_some_and(|end| end <= now) {
        faults.add("expires_at", "the key would have expired already");
    }
}

fn check_words(faults: &mut Faults, field: &str, words: &[String]) {
    let good = |word: &String| {
        (1..=LIMIT_LENGTH_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if words.len() > LIMITS_MAX {
        faults.add(field, format!("more than {LIMITS_MAX}"));
    }
    if let Some(at) = words.iter().position(|word| !good(word)) {
        let expected = format!("1 to {LIMIT_LENGTH_MAX} visible ASCII characters are expected");
        faults.add(&format!("{field}[{at}]"), expected);
    }
}
