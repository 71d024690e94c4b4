//! Gauges: what they held, and what that comes to on an invoice.
//!
//! A tier may sell more of a gauge than its limit, by the most that was held while the tenant had that tier or by the
//! average of that time. What is included is what that tier includes, or the tenant's own limit at the end of that time;
//! the price is per month, and a part of a month costs that part of it. An average is a fraction until it becomes the
//! amount of its line.

use super::principal::Operation;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::{BillingPeriod, Holding, Item, Level, Measure, Stretch, joined};
use crate::domain::{Resource, Tenant, TenantId, Tier};
use crate::store::{Listed, Page, Snapshot};

impl Control {
    /// What the tenant held of a gauge: the level that the period begins with, and each that it became.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn levels(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        resource: Resource,
        period: BillingPeriod,
        page: &Page,
    ) -> Result<Listed<Level>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadUsage, tenant).await?;
        Ok(snapshot.levels(tenant.id, resource, period, page).await??)
    }
}

/// The lines of what tiers sell of gauges, in the order of the stretches.
pub(super) async fn gauge_items(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    measure: &Measure,
    parts: &[Stretch<'_>],
    tiers: &[Tier],
) -> Result<Vec<Item>, ControlError> {
    let mut items = Vec::new();
    for stretch in joined(parts).iter().filter(|stretch| stretch.from < stretch.to) {
        let of_plan = |tier: &&Tier| {
            stretch.plan.is_some_and(|plan| (&plan.tier, plan.tier_version) == (&tier.slug, tier.version))
        };
        for quota in tiers.iter().find(of_plan).into_iter().flat_map(|tier| &tier.quotas) {
            let (Some(charge_by), Some(price), Some(plan)) = (quota.charge_by, quota.overage, stretch.plan)
            else {
                continue;
            };
            let own = snapshot.own_limit_at(tenant.id, quota.resource, quota.period, stretch.end).await?;
            items.push(Item::Gauge {
                resource_type: quota.resource,
                charge_by,
                tier: plan.tier.clone(),
                start: stretch.start,
                end: stretch.end,
                held: holding(snapshot, tenant.id, quota.resource, stretch.start, stretch.end).await?.held(),
                included: own.unwrap_or(quota.limit),
                price,
                from: stretch.from,
                to: stretch.to,
                of: measure.whole(),
            });
        }
    }
    Ok(items)
}

/// What is held, up to the last level. Read page by page: a gauge may have changed a million times.
pub(super) async fn holding(
    snapshot: &mut Snapshot,
    tenant: TenantId,
    resource: Resource,
    start: Timestamp,
    end: Timestamp,
) -> Result<Holding, ControlError> {
    let mut holding = Holding::over(start, end);
    let mut cursor = None;
    loop {
        let page = Page::new(Some(Page::LIMIT_MAX.into()), None, cursor.as_deref())?;
        let listed = snapshot.levels(tenant, resource, BillingPeriod { start, end }, &page).await??;
        for level in listed.items {
            holding.becomes(level);
        }
        cursor = listed.next_cursor;
        if cursor.is_none() {
            return Ok(holding);
        }
    }
}
