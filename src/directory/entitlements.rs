//! A caller (a tenant, and its key if it came with one), compiled for the data plane.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::DirectorySettings;
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ApiKeyId, Enforcement, Limit, LossPolicy, Owner, Period, Quota, Resource, Tenant, TenantId,
    TenantStatus, Units, Window,
};
use crate::store::Profile;
use crate::till::{Account, Opening, Terms, Till, TillFull};

/// What a caller may do and what it pays from. Immutable; a change compiles a new one.
#[derive(Debug)]
pub struct Entitlements {
    profile: Arc<Profile>,
    accounts: Vec<Entitled>,
    upstream_lines: Box<[u8]>,
    tier_line: Box<[u8]>,
    upgrade_url: Option<Arc<str>>,
    /// The first end of a window or of the profile: then entitlements are compiled anew.
    valid_until: Timestamp,
    freshness: FreshnessOf,
}

/// One quota of the caller, in its current window.
#[derive(Debug)]
pub struct Entitled {
    pub account: Account,
    pub resource: Resource,
    /// Of a tenant above: shared with others, who must not see how much they use.
    pub is_pool: bool,
    pub enforcement: Enforcement,
    /// Whether the limit is what its owner's spend cap leaves.
    pub is_capped: bool,
    /// What happens when the till is dry and the authority can't be asked.
    pub on_loss: LossPolicy,
    pub window: Window,
    /// The quota's member of `RateLimit-Policy`, named by [`AccountKey::policy_name`]; empty when unlimited.
    pub policy_member: Box<str>,
    /// Its member of `RateLimit`, up to the units that are left.
    pub limit_member: Box<str>,
}

/// Whether what is known of a tenant or a key still holds. Shared by everything compiled from it.
#[derive(Debug, Default)]
pub(super) struct Freshness(AtomicBool);

/// The freshness of a caller's tenant, of its key if it has one, and of the tenants above.
pub(super) type FreshnessOf = SmallVec<[Arc<Freshness>; 2]>;

/// What entitlements are compiled from.
pub(super) struct Source<'a> {
    pub profile: Arc<Profile>,
    pub freshness: FreshnessOf,
    pub settings: &'a DirectorySettings,
    /// Resources that some route charges: counted for the tenant even where it has no quota of them.
    pub charged: &'a [Resource],
}

// === impl Entitlements ===

impl Entitlements {
    pub fn tenant(&self) -> TenantId {
        self.profile.tenant.id
    }

    /// The key that the caller came with; `None` for one with a token.
    pub fn key(&self) -> Option<ApiKeyId> {
        self.profile.key.as_ref().map(|key| key.id)
    }

    /// Whether the key, if there is one, may still be used.
    pub fn key_is_usable(&self, now: Timestamp) -> bool {
        self.profile.key.as_ref().is_none_or(|key| key.is_usable(now))
    }

    /// Whether the key may be used on that route. An empty list allows all.
    pub fn allows_route(&self, route: &str) -> bool {
        let Some(key) = &self.profile.key else { return true };
        let routes = &key.limits.routes;
        routes.is_empty() || routes.iter().any(|name| name == route)
    }

    /// Whether the key may be used from that address. An empty list allows all.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let Some(key) = &self.profile.key else { return true };
        let networks = &key.limits.networks;
        // A client that came in over a dual-stack socket has a mapped address.
        let address = address.to_canonical();
        networks.is_empty() || networks.iter().any(|network| network.contains(&address))
    }

    /// The key's scopes. A caller with a token has those of its token.
    pub fn scopes(&self) -> &[String] {
        self.profile.key.as_ref().map_or(&[], |key| &key.limits.scopes)
    }

    /// Whether requests are served as far as tenants' statuses go: its own, and those above.
    pub fn stopped_by(&self) -> Option<(TenantId, TenantStatus)> {
        let Profile { tenant, above, .. } = &*self.profile;
        let stopped = std::iter::once(tenant).chain(above).find(|tenant| !tenant.status.is_served());
        stopped.map(|tenant| (tenant.id, tenant.status))
    }

    /// Whether the owner's quotas are the caller's own, and not those of a tenant above.
    pub fn owns(&self, owner: Owner) -> bool {
        !self.profile.above.iter().any(|tenant| owner == Owner::Tenant(tenant.id))
    }

    /// The quotas of a resource: the tenant's, the key's and those above, one per period.
    pub fn quotas(&self, resource: Resource) -> impl Iterator<Item = &Entitled> {
        self.accounts.iter().filter(move |entitled| entitled.resource == resource)
    }

    /// Header lines that tell the upstream who calls, each with its CR LF, but for the tier's.
    pub fn upstream_lines(&self) -> &[u8] {
        &self.upstream_lines
    }

    /// The header line that tells the upstream the tenant's tier, with its CR LF.
    pub fn tier_line(&self) -> &[u8] {
        &self.tier_line
    }

    /// Where more can be bought, for the caller to be told in refusals; `None` where it is not to be told.
    pub fn upgrade_url(&self) -> Option<&Arc<str>> {
        self.upgrade_url.as_ref()
    }

    /// Whether what was read of the tenant still holds; only windows may have ended since.
    pub(super) fn profile_holds(&self, now: Timestamp) -> bool {
        self.is_fresh() && self.profile.good_until.is_none_or(|until| now < until)
    }

    pub(super) fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    pub(super) fn freshness(&self) -> &FreshnessOf {
        &self.freshness
    }

    /// Whether nothing has changed since of the tenant, the key or the tenants above.
    pub fn is_fresh(&self) -> bool {
        self.freshness.iter().all(|freshness| freshness.holds())
    }

    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        now < self.valid_until
    }

    /// Whether nothing has changed since it was compiled, and no window has ended.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.is_current(now) && self.is_fresh()
    }
}

// === impl Freshness ===

impl Freshness {
    pub(super) fn holds(&self) -> bool {
        !self.0.load(Ordering::Acquire)
    }

    pub(super) fn lapse(&self) {
        self.0.store(true, Ordering::Release);
    }
}

// === impl Source ===

impl Source<'_> {
    /// The accounts that these entitlements will take from at `now`, in the order of [`Source::compile`]'s `bases`.
    pub(super) fn accounts(&self, now: Timestamp) -> Vec<AccountKey> {
        self.quotas().map(|quota| self.account_key(&quota, now)).collect()
    }

    /// Compiles. `bases` are what other tills have used of each account.
    ///
    /// # Errors
    /// [`TillFull`]: there is no slot left for an account.
    pub(super) fn compile(
        &self,
        till: &Till,
        bases: &[Units],
        now: Timestamp,
    ) -> Result<Entitlements, TillFull> {
        let mut accounts = Vec::new();
        for (index, quota) in self.quotas().enumerate() {
            let base = bases.get(index).copied().unwrap_or_default();
            accounts.push(self.entitled(&quota, till, base, now)?);
        }
        let window_ends = accounts.iter().map(|entitled| entitled.window.end);
        let valid_until = window_ends.chain(self.profile.good_until).min().unwrap_or(Timestamp::MAX);
        Ok(Entitlements {
            accounts,
            upstream_lines: self.upstream_lines(),
            tier_line: self.tier_line(),
            upgrade_url: self.profile.upgrade_url.as_deref().map(Arc::from),
            valid_until,
            profile: self.profile.clone(),
            freshness: self.freshness.clone(),
        })
    }

    /// The profile's quotas of charged resources, and an unlimited one for each charged resource that has none. What
    /// no route charges takes no slot of the till.
    fn quotas(&self) -> impl Iterator<Item = Quota> {
        let tenant = self.profile.tenant.id;
        let own = self.profile.quotas.iter().filter(|quota| self.charged.contains(&quota.resource));
        let counted = self.charged.iter().filter(move |resource| {
            !self
                .profile
                .quotas
                .iter()
                .any(|quota| quota.resource == **resource && quota.owner == Owner::Tenant(tenant))
        });
        own.cloned().chain(counted.map(move |resource| Quota {
            owner: Owner::Tenant(tenant),
            resource: *resource,
            period: Period::Month,
            limit: Limit::Unlimited,
            enforcement: Enforcement::Monitor,
            on_loss: None,
            is_capped: false,
        }))
    }

    fn account_key(&self, quota: &Quota, now: Timestamp) -> AccountKey {
        let tenant = self.tenant_of(quota.owner);
        let window = quota.period.window(tenant.anchor, &tenant.timezone, now);
        AccountKey { owner: quota.owner, resource: quota.resource, window }
    }

    /// Whose calendar the owner's windows follow.
    fn tenant_of(&self, owner: Owner) -> &Tenant {
        let mut above = self.profile.above.iter();
        above.find(|tenant| owner == Owner::Tenant(tenant.id)).unwrap_or(&self.profile.tenant)
    }

    fn entitled(
        &self,
        quota: &Quota,
        till: &Till,
        base: Units,
        now: Timestamp,
    ) -> Result<Entitled, TillFull> {
        let key = self.account_key(quota, now);
        let terms = Terms { limit: quota.limit, version: self.profile.version };
        let account = till.account(&key, Opening { terms, base })?;
        let is_pool = self.tenant_of(quota.owner).id != self.profile.tenant.id;
        let policy = key.policy_name();
        Ok(Entitled {
            account,
            resource: quota.resource,
            is_pool,
            enforcement: quota.enforcement,
            is_capped: quota.is_capped,
            on_loss: quota.on_loss.unwrap_or(self.settings.on_loss),
            window: key.window,
            policy_member: policy_member(&policy, quota, &key.window).into(),
            limit_member: format!("\"{policy}\";r=").into(),
        })
    }

    fn upstream_lines(&self) -> Box<[u8]> {
        let prefix = &self.settings.header_prefix;
        let mut lines = format!("{prefix}id: {}\r\n", self.profile.tenant.id);
        if let Some(key) = &self.profile.key {
            lines.push_str(&format!("{prefix}key-id: {}\r\n", key.id));
            if !key.limits.scopes.is_empty() {
                lines.push_str(&format!("{prefix}scopes: {}\r\n", key.limits.scopes.join(" ")));
            }
        }
        lines.into_bytes().into()
    }

    fn tier_line(&self) -> Box<[u8]> {
        let line = format!("{}tier: {}\r\n", self.settings.header_prefix, self.profile.tenant.tier);
        line.into_bytes().into()
    }
}

/// A member of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 2). A gauge has no window.
fn policy_member(policy: &str, quota: &Quota, window: &Window) -> String {
    match (quota.limit, quota.period) {
        (Limit::Unlimited, _) => String::new(),
        (Limit::Of(limit), Period::Forever) => format!("\"{policy}\";q={limit}"),
        (Limit::Of(limit), _) => {
            format!("\"{policy}\";q={limit};w={}", window.end.seconds() - window.start.seconds())
        }
    }
}
