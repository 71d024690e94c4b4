//! The profile under which the data plane knows a caller.

use super::quotas::{Keys, TenantQuota};
use super::{Found, Snapshot, Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::{ApiKey, Quota, Tenant, TenantRef, upgrade_link};
use crate::secret::hash::Digests;

/// What the data plane must know of a caller.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// The newest change of the directory that is in it: what is read later has no smaller one.
    pub version: u64,
    pub tenant: Tenant,
    /// `None` for a caller that came with a token.
    pub key: Option<ApiKey>,
    /// The tenant's reseller, its reseller, and so on: what the tenant uses counts against their quotas, too.
    pub above: Vec<Tenant>,
    /// The tenant's effective quotas (its tier's, overridden by its own until those expire), the key's own, and those of
    /// the tenants above.
    pub quotas: Vec<Quota>,
    /// When an override or a limit of a spend cap ends: the profile must be read again by then.
    pub good_until: Option<Timestamp>,
    /// Where callers are told that more can be bought; `None` where they are not to be told.
    pub upgrade_url: Option<String>,
}

// === impl Store ===

impl Store {
    /// The key with one of these digests, its tenant and their quotas, whatever their states.
    ///
    /// `now` decides which overrides have expired.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn key_profile(
        &self,
        digests: &Digests,
        now: Timestamp,
    ) -> Result<Option<Found<Profile>>, StoreError> {
        let mut snapshot = self.read().await?;
        let Some(Found { what: key, renewal }) = snapshot.key_by_digests(digests).await? else {
            return Ok(None);
        };
        let Some(tenant) = snapshot.tenant(key.tenant).await? else { return Ok(None) };
        let what = snapshot.profile(tenant, Some(key), now).await?;
        Ok(Some(Found { what, renewal }))
    }

    /// The tenant of that name and its quotas, whatever its status.
    ///
    /// `now` decides which overrides have expired.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenant_profile(
        &self,
        named: &TenantRef,
        now: Timestamp,
    ) -> Result<Option<Profile>, StoreError> {
        let mut snapshot = self.read().await?;
        let found = match named {
            TenantRef::Id(id) => snapshot.tenant(*id).await?,
            TenantRef::Slug(slug) => snapshot.tenant_by_slug(slug).await?,
        };
        let Some(tenant) = found else { return Ok(None) };
        snapshot.profile(tenant, None, now).await.map(Some)
    }
}

// === impl Snapshot ===

impl Snapshot {
    async fn profile(
        &mut self,
        tenant: Tenant,
        key: Option<ApiKey>,
        now: Timestamp,
    ) -> Result<Profile, StoreError> {
        let keys = key.as_ref().map_or(Keys::None, |key| Keys::One(key.id));
        let mut quotas = self.quotas_with(&tenant, keys, now).await?;
        let above = self.tenants_above(&tenant).await?;
        for tenant in &above {
            quotas.extend(self.quotas_with(tenant, Keys::None, now).await?);
        }
        let ends = |quota: &TenantQuota| [quota.expires_at, quota.capped_until];
        let good_until = quotas.iter().flat_map(ends).flatten().min();
        let quotas = quotas.into_iter().map(|quota| quota.quota).collect();
        let version = self.latest_change().await?.unsigned_abs();
        let upgrade_url = self.prompted_upgrade_url(&tenant, &above).await?;
        Ok(Profile { version, tenant, key, above, quotas, good_until, upgrade_url })
    }

    /// The tenant's `upgrade_url`, or the nearest above, if `upgrade_prompts` says so, as that of the tenant or the
    /// nearest above.
    async fn prompted_upgrade_url(
        &mut self,
        tenant: &Tenant,
        above: &[Tenant],
    ) -> Result<Option<String>, StoreError> {
        let tenants: Vec<_> = std::iter::once(tenant.id).chain(above.iter().map(|above| above.id)).collect();
        let set = self.first_settings(&tenants, &["upgrade_prompts", "upgrade_url"]).await?;
        let prompts = set.get("upgrade_prompts").is_some_and(|prompts| *prompts == true);
        let url = set.get("upgrade_url").and_then(|url| url.as_str()).filter(|_| prompts);
        Ok(url.map(|template| upgrade_link(template, tenant)))
    }
}
