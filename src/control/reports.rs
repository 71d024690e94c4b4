//! Reports over all tenants: who is idle, and who has more than is needed.
//!
//! Found by walking tenants or keys in the order of their ids until a page is full, however many there are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::principal::Operation;
use super::recommendation::leaves_no_room;
use super::validate::Faults;
use super::work::Target;
use super::{Control, ControlError, Principal};
use crate::clock::Timestamp;
use crate::domain::{
    IdleKey, Limit, Oversized, Peak, Period, Resource, Tenant, TenantId, TenantUse, Tier, Units,
};
use crate::store::{BadPage, Cursor, Listed, Page};

/// Days that a report looks back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookBack(pub u32);

const DAYS_MAX: u32 = 730;
/// Tenants that are looked at together.
const LOOKED_AT_ONCE: u32 = 500;

impl Control {
    /// Tenants that are served and have used nothing for so many days; the newest first.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for days or a cursor that make no sense.
    pub async fn idle_tenants(
        &self,
        principal: &Principal,
        back: LookBack,
        page: &Page,
    ) -> Result<Listed<TenantUse>, ControlError> {
        let since = self.report_since(principal, back).await?;
        Ok(self.read().await?.idle_tenants(since, page).await??)
    }

    /// Keys that could be used and were not for so many days; the newest first.
    ///
    /// # Errors
    /// As [`Control::idle_tenants`].
    pub async fn idle_keys(
        &self,
        principal: &Principal,
        back: LookBack,
        page: &Page,
    ) -> Result<Listed<IdleKey>, ControlError> {
        let since = self.report_since(principal, back).await?;
        Ok(self.read().await?.idle_keys(since, page).await??)
    }

    /// Tenants for which, by the busiest month of so many days, a cheaper tier would have done and left room; the newest
    /// first. Those that came later are left out, and limits of tenants' own are not looked at.
    ///
    /// # Errors
    /// As [`Control::idle_tenants`].
    pub async fn oversized(
        &self,
        principal: &Principal,
        back: LookBack,
        page: &Page,
    ) -> Result<Listed<Oversized>, ControlError> {
        let since = self.report_since(principal, back).await?;
        let wanted = usize::try_from(page.limit() + page.offset()).unwrap_or(usize::MAX).saturating_add(1);
        let mut below = below(page)?;
        let mut snapshot = self.read().await?;
        let tiers = snapshot.tiers().await?;
        let mut found = Vec::new();
        while found.len() < wanted {
            let tenants = snapshot.served_tenants_below(below, since, LOOKED_AT_ONCE).await?;
            let Some(last) = tenants.last() else { break };
            below = last.id;
            let ids: Vec<_> = tenants.iter().map(|tenant| tenant.id).collect();
            let peaks = snapshot.peak_use(&ids, since, self.now()).await?;
            found.extend(tenants.iter().filter_map(|tenant| oversized(tenant, &tiers, &peaks)));
        }
        found.truncate(wanted);
        let skipped = usize::try_from(page.offset()).unwrap_or(usize::MAX).min(found.len());
        let found = found.split_off(skipped);
        let cursor = |last: &Oversized| Cursor { after: String::new(), id: last.tenant_id.to_string() };
        Ok(Listed::of(found, page, cursor))
    }

    /// From when on a report looks, if the caller may see it.
    async fn report_since(
        &self,
        principal: &Principal,
        LookBack(days): LookBack,
    ) -> Result<Timestamp, ControlError> {
        self.allow(principal, Operation::ReadReports, &Target::platform("report")).await?;
        let mut faults = Faults::default();
        if !(1..=DAYS_MAX).contains(&days) {
            faults.add("days", format!("1 to {DAYS_MAX} are expected"));
        }
        faults.finish()?;
        Ok(self.now().minus(Duration::from_secs(u64::from(days) * 86_400)))
    }
}

fn below(page: &Page) -> Result<TenantId, ControlError> {
    let Some(cursor) = page.cursor() else { return Ok(TenantId(uuid::Uuid::max())) };
    let id = uuid::Uuid::try_parse(&cursor.id).map_err(|_| BadPage::Cursor)?;
    Ok(TenantId(id))
}

/// What a cheaper tier would save, if one does.
fn oversized(
    tenant: &Tenant,
    tiers: &[Tier],
    peaks: &BTreeMap<(TenantId, Resource), Units>,
) -> Option<Oversized> {
    let own = tiers.iter().find(|tier| tier.slug == tenant.tier)?;
    let used = |resource| peaks.get(&(tenant.id, resource)).copied().unwrap_or_default();
    // Tiers are in the order of their prices.
    let cheaper = tiers.iter().filter(|tier| tier.price_minor < own.price_minor);
    let mut alike = cheaper.filter(|tier| tier.currency == own.currency && tier.resells() == own.resells());
    let smaller = alike.find(|tier| monthly(tier).all(|(resource, limit)| fits(used(resource), limit)))?;
    let peaks = monthly(smaller).map(|(resource_type, smaller_limit)| Peak {
        resource_type,
        used: used(resource_type),
        smaller_limit,
    });
    Some(Oversized {
        tenant_id: tenant.id,
        slug: tenant.slug.clone(),
        organization_name: tenant.name.clone(),
        tenant_tier: own.slug.clone(),
        smaller_tier: smaller.slug.clone(),
        price_minor: own.price_minor,
        smaller_price_minor: smaller.price_minor,
        currency: own.currency.clone(),
        peaks: peaks.collect(),
    })
}

/// The limits that a month's use, or what is held, can be compared with.
fn monthly(tier: &Tier) -> impl Iterator<Item = (Resource, Limit)> {
    let quotas = tier.quotas.iter().filter(|quota| matches!(quota.period, Period::Month | Period::Forever));
    quotas.map(|quota| (quota.resource, quota.limit))
}

fn fits(used: Units, limit: Limit) -> bool {
    limit.units().is_none_or(|limit| !leaves_no_room(used.get(), limit))
}
