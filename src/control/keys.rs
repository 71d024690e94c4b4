//! API keys: made, listed, revoked.

use serde::{Deserialize, Serialize};

use serde_json::{Value, json};

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{ApiKey, ApiKeyId, KeyLimits, Tenant};
use crate::secret::hash::{KeyKind, KeyText};
use crate::store::{Listed, Page};

/// What a new key is made of.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    pub name: String,
    pub limits: KeyLimits,
    /// A `tg_test_` key.
    pub test: bool,
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

impl Control {
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] for a deleted tenant.
    pub async fn create_key(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewKey,
    ) -> Result<CreatedKey, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.create_key(tenant, &new).await;
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

// === impl Work ===

impl Work<'_> {
    pub(super) async fn create_key(
        &mut self,
        tenant: &TenantRef,
        new: &NewKey,
    ) -> Result<CreatedKey, ControlError> {
        let tenant = self.living_tenant_for(Operation::CreateKey, tenant).await?;
        let name = checked(new, self.now)?;
        let kind = if new.test { KeyKind::Test } else { KeyKind::Live };
        let text = KeyText::generate(kind).map_err(ControlError::Random)?;
        let key = self.new_key(&tenant, name, new.limits.clone(), &text);
        let pepper = &self.control.parts.pepper;
        self.tx.insert_key(&key, &pepper.digest(text.as_bytes()), pepper.version()).await?;
        let target = Target::of(&tenant, "key", key.id.to_string());
        self.audit(Operation::CreateKey, &target, Told::made(shown(&key))).await?;
        Ok(CreatedKey { key, text: text.as_str().to_owned() })
    }

    fn new_key(&self, tenant: &Tenant, name: String, limits: KeyLimits, text: &KeyText) -> ApiKey {
        ApiKey {
            id: ApiKeyId(self.control.new_id()),
            tenant: tenant.id,
            name,
            prefix: text.prefix().to_owned(),
            limits,
            enabled: true,
            created_at: self.now,
            revoked_at: None,
            last_used_at: None,
        }
    }

    async fn revoke_key(&mut self, id: ApiKeyId) -> Result<ApiKey, ControlError> {
        let (tenant, before) = self.key_for(Operation::RevokeKey, id).await?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        self.tx.revoke_key(id, self.now).await?;
        let after = ApiKey { revoked_at: Some(self.now), ..before.clone() };
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
    let limits = &new.limits;
    check_words(&mut faults, "scopes", &limits.scopes);
    check_words(&mut faults, "routes", &limits.routes);
    if limits.networks.len() > LIMITS_MAX {
        faults.add("networks", format!("more than {LIMITS_MAX}"));
    }
    if limits.expires_at.is_some_and(|end| end <= now) {
        faults.add("expires_at", "the key would have expired already");
    }
    let all_good = faults.is_empty();
    name.filter(|_| all_good).ok_or_else(|| faults.refusal())
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
