//! Which tier would do, where a tenant's own will not for long.
//!
//! A quota is short when most of it is used, or when more than there is will be used by the end of its window. Then the
//! cheapest dearer tier is named in which everything that is used, or will be, leaves room. Limits of the tenant's own are
//! left out: they stay whatever the tier is.

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::quotas::percent;
use super::{Control, ControlError, Principal, QuotaUse, TenantRef, settings};
use crate::domain::forecast::Forecast;
use crate::domain::{Limit, Period, Resource, Tenant, Tier, TierQuota, Units};
use crate::store::{QuotaSource, Snapshot};

/// What a tenant should have, and why.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Recommendation {
    /// The tier that it has.
    pub tenant_tier: String,
    /// The cheapest that would do; `None` where the one it has does, or none of those that are sold would.
    pub recommended_tier: Option<String>,
    /// What people call it.
    pub recommended_name: Option<String>,
    /// Where more can be bought, if the tenant or one above says so.
    pub upgrade_url: Option<String>,
    /// The quotas that are short.
    pub short: Vec<ShortQuota>,
}

/// A quota of the tenant's tier that will not do for long.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct ShortQuota {
    pub resource_type: Resource,
    pub period: Period,
    pub limit: Limit,
    pub used: Units,
    /// By the end of the window, nine times in ten not more than a tenth above; `None` where too little is known.
    pub expected: Option<u64>,
    /// Of the limit, used.
    pub percent: f64,
}

/// From so much of a limit on it is short; a tier does if it leaves as much room. In percent.
const SHORT_FROM: u64 = 80;

impl Control {
    /// Which tier would do for the tenant.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn recommended_tier(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Recommendation, ControlError> {
        let (_, tenant) = self.read_tenant(principal, Operation::ReadQuotas, tenant).await?;
        // Where a tenant above sells more is out of a tenant's reach.
        self.recommendation(&mut self.read().await?, &tenant).await
    }

    /// The same of a tenant that was found. Tenants above have to be in the snapshot's reach.
    pub(super) async fn recommendation(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
    ) -> Result<Recommendation, ControlError> {
        let mut needs = Vec::new();
        for forecast in self.forecasts_of(snapshot, tenant).await? {
            needs.push(Need { forecast: forecast.forecast, quota: forecast.quota });
        }
        needs.retain(|need| need.quota.source == QuotaSource::Tier);
        let short: Vec<_> = needs.iter().filter_map(Need::short).collect();
        let tiers = if short.is_empty() { Vec::new() } else { snapshot.tiers().await? };
        let found = cheapest(&tiers, tenant, &needs);
        Ok(Recommendation {
            tenant_tier: tenant.tier.clone(),
            recommended_tier: found.map(|tier| tier.slug.clone()),
            recommended_name: found.map(|tier| tier.display.clone()),
            upgrade_url: settings::upgrade_url(snapshot, tenant).await?,
            short,
        })
    }
}

/// A quota with what is expected of it.
struct Need {
    quota: QuotaUse,
    forecast: Option<Forecast>,
}

/// The cheapest of the tiers, which are in the order of their prices, that is dearer than the tenant's and does. Resellers'
/// tiers are for resellers.
fn cheapest<'t>(tiers: &'t [Tier], tenant: &Tenant, needs: &[Need]) -> Option<&'t Tier> {
    let at = tiers.iter().position(|tier| tier.slug == tenant.tier)?;
    let own = &tiers[at];
    let dearer = tiers.iter().filter(|tier| tier.price_minor > own.price_minor);
    let mut fit = dearer.filter(|tier| tier.currency == own.currency && tier.resells() == own.resells());
    fit.find(|tier| needs.iter().all(|need| need.fits(&tier.quotas)))
}

// === impl Need ===

impl Need {
    /// What will be used in a whole window, as far as is known.
    fn expected(&self) -> u64 {
        let used = self.quota.used.get();
        self.forecast.map_or(used, |forecast| forecast.units.max(used))
    }

    fn short(&self) -> Option<ShortQuota> {
        let limit = self.quota.limit.units()?;
        let is_used = leaves_no_room(self.quota.used.get(), limit);
        let is_short = is_used || self.forecast.is_some_and(|forecast| forecast.units > limit.get());
        is_short.then(|| ShortQuota {
            resource_type: self.quota.resource_type,
            period: self.quota.period,
            limit: self.quota.limit,
            used: self.quota.used,
            expected: self.forecast.map(|forecast| forecast.units),
            percent: percent(self.quota.used, limit),
        })
    }

    /// Whether a tier with these quotas leaves room. What it does not limit, does.
    fn fits(&self, quotas: &[TierQuota]) -> bool {
        let QuotaUse { resource_type, period, .. } = self.quota;
        let mut same =
            quotas.iter().filter(|quota| (quota.resource, quota.period) == (resource_type, period));
        same.all(|quota| quota.limit.units().is_none_or(|limit| !leaves_no_room(self.expected(), limit)))
    }
}

/// Whether so much of a limit is used that it is short.
pub(super) fn leaves_no_room(used: u64, limit: Units) -> bool {
    u128::from(used) * 100 >= u128::from(limit.get()) * u128::from(SHORT_FROM)
}
