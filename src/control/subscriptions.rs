//! Subscriptions: which plan a tenant has had since when, and what another one would change.
//!
//! A change of tier, or of a status that is not charged for, begins a segment in the same transaction. A tenant that has
//! none yet has had its plan since its present month began: there was nothing to say before.
//!
//! # When a change of tier happens
//! To a dearer tier at once: use carries over, and the rest of the period is charged for at the new price. To a cheaper
//! one when the period ends, since the period is paid for; or at once when that is asked for. What is to happen is kept
//! until then, and another change of tier takes its place.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::principal::Operation;
use super::tenants::shown;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::{
    BillingPeriod, Currency, Measure, NotCountable, Plan, Priced, ScheduledTier, Segment, Stretch, Terms,
    line_items, next_period, stretches,
};
use crate::domain::{Actor, Limit, Period, Resource, Tenant, TenantId, Tier, Units};
use crate::store::Snapshot;

/// When a change of tier happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierWhen {
    Now,
    PeriodEnd,
}

/// What a tenant subscribes to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Subscription {
    pub tenant_id: TenantId,
    /// `null`: there is nothing that is charged for.
    pub plan: Option<Plan>,
    /// What is being billed.
    pub period: Option<BillingPeriod>,
    /// Which plan it had from when on, oldest first.
    pub segments: Vec<Segment>,
    /// Which tier it is to have.
    pub scheduled: Option<ScheduledTier>,
    /// The tenant's version, for `If-Match` of a change.
    pub version: i64,
}

/// What another tier would change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct TierChangePreview {
    pub tenant_id: TenantId,
    pub tier_now: String,
    pub tier_then: String,
    /// What it would be by default; the other one may be asked for.
    pub when: TierWhen,
    pub effective_at: Timestamp,
    pub currency: Currency,
    /// Per month, in minor units.
    pub price_now_minor: i64,
    pub price_then_minor: i64,
    /// What the present period would cost more (or less, if negative), in minor units.
    pub prorated_minor: i64,
    pub period: Option<BillingPeriod>,
    pub changes: Vec<LimitChange>,
    /// The tenant's version: a change that expects it is a change of what was seen.
    pub version: i64,
}

/// A limit before and after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct LimitChange {
    pub resource_type: Resource,
    pub period: Period,
    /// Absent: the tier has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Limit, required = false)]
    pub limit_now: Option<Limit>,
    /// Absent: the other tier has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Limit, required = false)]
    pub limit_then: Option<Limit>,
    /// In the present window, as far as the database knows.
    pub used: Units,
    /// Whether more is used than the limit then.
    pub is_exceeded: bool,
}

/// What was kept up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BillingKept {
    /// Tenants whose subscription is known from now on.
    pub begun: u64,
    /// Tiers that were changed as scheduled.
    pub changed: u64,
    pub finalized: u64,
    /// Invoices of whose periods everything has reached its collector.
    pub exported: u64,
}

/// What becomes of the tier that a tenant is to have.
pub(super) enum Schedule {
    Kept,
    Becomes(Option<ScheduledTier>),
}

/// Tenants that are looked at in one go.
pub(super) const TENANTS_AT_ONCE: u32 = 500;

/// Invoices that are due are looked for this often, by one gateway of the fleet, which looks at many tenants.
const FINALIZE_INTERVAL: Duration = Duration::from_secs(600);
/// How that names its rounds.
const INVOICES: &str = "invoices";

/// What is charged for.
pub(super) fn plan_of(tenant: &Tenant) -> Option<Plan> {
    tenant.status.is_charged().then(|| Plan { tier: tenant.tier.clone(), tier_version: tenant.tier_version })
}

/// A tier as it is sold.
pub(super) fn priced(tier: &Tier) -> Priced {
    Priced {
        plan: Plan { tier: tier.slug.clone(), tier_version: tier.version },
        display: tier.display.clone(),
        price_minor: tier.price_minor,
    }
}

pub(super) fn not_countable(error: NotCountable) -> ControlError {
    ControlError::Conflict(error.to_string())
}

pub(super) fn currency_of(tier: &Tier) -> Result<Currency, ControlError> {
    Currency::parse(&tier.currency).ok_or_else(|| {
        ControlError::Conflict(format!(
            "the tier {} is sold in `{}`, which is no currency",
            tier.slug, tier.currency
        ))
    })
}

/// Which plan the tenant had from when on.
pub(super) async fn segments_of(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Vec<Segment>, ControlError> {
    let known = snapshot.segments(tenant.id).await?;
    Ok(if known.is_empty() { vec![first_segment(tenant, now)] } else { known })
}

/// Of a tenant of whom nothing was said: it has had its plan since its present month began.
fn first_segment(tenant: &Tenant, now: Timestamp) -> Segment {
    let month = Period::Month.window(tenant.anchor, &tenant.timezone, now);
    Segment { starts_at: month.start, plan: plan_of(tenant) }
}

/// The period that holds `now`; `None` if there is no plan then.
pub(super) async fn running_period(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    segments: &[Segment],
    now: Timestamp,
) -> Result<Option<BillingPeriod>, ControlError> {
    let mut after = snapshot.billed_until(tenant.id).await?;
    loop {
        match next_period(segments, after, tenant.anchor, &tenant.timezone) {
            Some(period) if period.end <= now => after = Some(period.end),
            Some(period) => return Ok(period.contains(now).then_some(period)),
            None => return Ok(None),
        }
    }
}

/// What the plans of a period come to, in minor units.
fn charged(
    measure: &Measure,
    stretches: &[Stretch<'_>],
    tiers: &[Tier],
    terms: &Terms,
) -> Result<i64, ControlError> {
    let priced: Vec<_> = tiers.iter().map(priced).collect();
    let items = line_items(measure, stretches, &priced, &[]);
    let amounts = items.iter().map(|item| item.amount_minor(terms.currency, terms.rounding));
    amounts.sum::<Result<i64, _>>().map_err(not_countable)
}

/// Every version of a tier that stands in the stretches.
pub(super) async fn tiers_of(
    snapshot: &mut Snapshot,
    stretches: &[Stretch<'_>],
) -> Result<Vec<Tier>, ControlError> {
    let mut tiers: Vec<Tier> = Vec::new();
    for plan in stretches.iter().filter_map(|stretch| stretch.plan) {
        let is_known = tiers.iter().any(|tier| (&tier.slug, tier.version) == (&plan.tier, plan.tier_version));
        if !is_known {
            tiers.extend(snapshot.tier_version(&plan.tier, plan.tier_version).await?);
        }
    }
    Ok(tiers)
}

// === impl Control ===

impl Control {
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn subscription(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Subscription, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        let segments = segments_of(&mut snapshot, &tenant, self.now()).await?;
        let period = running_period(&mut snapshot, &tenant, &segments, self.now()).await?;
        Ok(Subscription {
            tenant_id: tenant.id,
            plan: plan_of(&tenant),
            period,
            segments,
            scheduled: snapshot.scheduled_tier(tenant.id).await?,
            version: tenant.version,
        })
    }

    /// What another tier would change, and what it would cost: to be shown before it is asked for. Changes nothing. Asked
    /// for with [`TierChangePreview::version`], a change is of what was seen or refused.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] if there is no such tier, or it can't be had.
    pub async fn tier_change_preview(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        tier: &str,
    ) -> Result<TierChangePreview, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        let mut faults = Faults::default();
        let Some(then) = snapshot.tier(tier).await? else {
            let known: Vec<_> = snapshot.tiers().await?.into_iter().map(|tier| tier.slug).collect();
            faults.add("tier", format!("there is no such tier; there are {}", known.join(", ")));
            return Err(faults.refusal());
        };
        let now = had_tier(&mut snapshot, &tenant).await?;
        if now.currency != then.currency {
            faults.add("tier", other_currency(&now, &then));
        }
        faults.finish()?;
        let segments = segments_of(&mut snapshot, &tenant, self.now()).await?;
        let period = running_period(&mut snapshot, &tenant, &segments, self.now()).await?;
        let when = when_by_default(&now, &then, period);
        let prorated_minor = match (when, period) {
            (TierWhen::Now, Some(period)) => {
                self.prorated(&mut snapshot, &tenant, segments, period, &then).await?
            }
            _ => 0,
        };
        let effective_at = match (when, period) {
            (TierWhen::PeriodEnd, Some(period)) => period.end,
            _ => self.now(),
        };
        Ok(TierChangePreview {
            tenant_id: tenant.id,
            tier_now: now.slug.clone(),
            tier_then: then.slug.clone(),
            when,
            effective_at,
            currency: currency_of(&then)?,
            price_now_minor: now.price_minor,
            price_then_minor: then.price_minor,
            prorated_minor,
            period,
            changes: self.limit_changes(&mut snapshot, &tenant, &now, &then).await?,
            version: tenant.version,
        })
    }

    /// What the period would cost more if the tenant had that tier from now on.
    async fn prorated(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        mut segments: Vec<Segment>,
        period: BillingPeriod,
        then: &Tier,
    ) -> Result<i64, ControlError> {
        let terms = self.terms(tenant, currency_of(then)?);
        let measure = Measure::of(period, terms.proration, &terms.zone);
        let as_it_is = stretches(&segments, &measure);
        let mut tiers = tiers_of(snapshot, &as_it_is).await?;
        let before = charged(&measure, &as_it_is, &tiers, &terms)?;
        segments.retain(|segment| segment.starts_at < self.now());
        segments.push(Segment { starts_at: self.now(), plan: Some(priced(then).plan) });
        tiers.push(then.clone());
        let after = charged(&measure, &stretches(&segments, &measure), &tiers, &terms)?;
        Ok(after - before)
    }

    async fn limit_changes(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        now: &Tier,
        then: &Tier,
    ) -> Result<Vec<LimitChange>, ControlError> {
        let quotas = snapshot.quotas(tenant, self.now()).await?;
        let in_use = self.with_use(snapshot, tenant, quotas, self.now()).await?;
        let mut named: Vec<_> =
            now.quotas.iter().chain(&then.quotas).map(|it| (it.resource, it.period)).collect();
        named.sort_unstable();
        named.dedup();
        let limit = |tier: &Tier, resource, period| {
            let found = tier.quotas.iter().find(|quota| (quota.resource, quota.period) == (resource, period));
            found.map(|quota| quota.limit)
        };
        let change = |(resource, period)| {
            let (limit_now, limit_then) = (limit(now, resource, period), limit(then, resource, period));
            let same = |quota: &&super::QuotaUse| {
                (quota.resource_type, quota.period, quota.key_id) == (resource, period, None)
            };
            let used = in_use.iter().find(same).map_or(Units::ZERO, |quota| quota.used);
            let is_exceeded = limit_then.and_then(Limit::units).is_some_and(|limit| used > limit);
            LimitChange { resource_type: resource, period, limit_now, limit_then, used, is_exceeded }
        };
        Ok(named.into_iter().map(change).collect())
    }

    /// Somebody has to say since when tenants have their plans, see to it that tiers change when they are to, that
    /// what ended is invoiced, and that it is known what of that was exported. Any number of gateways may: each thing is done once.
    ///
    /// Dropping the future leaves the rest for the next time.
    ///
    /// # Errors
    /// [`ControlError::Store`]; what was not done then is done the next time.
    pub async fn keep_billing(&self) -> Result<BillingKept, ControlError> {
        let system = Principal::platform(Actor::system("billing"), self.new_id());
        let changed = self.change_due_tiers(&system).await?;
        if !self.take_round(INVOICES, FINALIZE_INTERVAL).await? {
            return Ok(BillingKept { changed, ..BillingKept::default() });
        }
        let begun = self.begin_subscriptions().await?;
        let finalized = self.finalize_due(&system).await?;
        Ok(BillingKept { begun, changed, finalized, exported: self.note_exported(&system).await? })
    }

    async fn begin_subscriptions(&self) -> Result<u64, ControlError> {
        let mut begun = 0;
        loop {
            // Most who ask find none: they need not wait for their turn to write.
            let some = self.read().await?.tenants_without_segment(TENANTS_AT_ONCE).await?;
            if some.is_empty() {
                return Ok(begun);
            }
            let mut tx = self.parts.store.begin().await?;
            for id in &some {
                let Some(tenant) = tx.tenant(*id).await? else { continue };
                if tx.segments(*id).await?.is_empty() {
                    tx.set_segment(*id, &first_segment(&tenant, self.now())).await?;
                    begun += 1;
                }
            }
            tx.commit().await?;
        }
    }

    async fn change_due_tiers(&self, system: &Principal) -> Result<u64, ControlError> {
        let mut changed = 0;
        for id in self.read().await?.tiers_due(self.now(), TENANTS_AT_ONCE).await? {
            let mut work = self.begin(system).await?;
            let outcome = work.change_due_tier(id).await;
            changed += u64::from(work.end(outcome).await?);
        }
        Ok(changed)
    }
}

fn other_currency(now: &Tier, then: &Tier) -> String {
    let (is, would) = (&now.currency, &then.currency);
    format!("a tenant is billed in one currency: it has a tier in {is}, this one is in {would}")
}

/// A period that is paid for is used to its end.
fn when_by_default(now: &Tier, then: &Tier, period: Option<BillingPeriod>) -> TierWhen {
    let is_cheaper = then.price_minor < now.price_minor;
    if is_cheaper && period.is_some() { TierWhen::PeriodEnd } else { TierWhen::Now }
}

/// The version of its tier that the tenant has.
pub(super) async fn had_tier(snapshot: &mut Snapshot, tenant: &Tenant) -> Result<Tier, ControlError> {
    let found = snapshot.tier_version(&tenant.tier, tenant.tier_version).await?;
    found.ok_or_else(|| ControlError::NotFound { what: "tier", which: tenant.tier.clone() })
}

// === impl Work ===

impl Work<'_> {
    /// When the change of tier that was asked for happens: `after` keeps the tier of `before` if that is later.
    pub(super) async fn scheduled(
        &mut self,
        before: &Tenant,
        after: &mut Tenant,
        asked: Option<TierWhen>,
    ) -> Result<Schedule, ControlError> {
        let waiting = self.tx.scheduled_tier(before.id).await?;
        let withdrawn = if waiting.is_some() { Schedule::Becomes(None) } else { Schedule::Kept };
        if after.tier == before.tier {
            return Ok(withdrawn);
        }
        let (now, then) = (had_tier(&mut self.tx, before).await?, had_tier(&mut self.tx, after).await?);
        let mut faults = Faults::default();
        if now.currency != then.currency {
            faults.add("tier", other_currency(&now, &then));
        }
        faults.finish()?;
        let segments = segments_of(&mut self.tx, before, self.now).await?;
        let period = running_period(&mut self.tx, before, &segments, self.now).await?;
        let when = asked.unwrap_or_else(|| when_by_default(&now, &then, period));
        let (TierWhen::PeriodEnd, Some(period)) = (when, period) else { return Ok(withdrawn) };
        (after.tier, after.tier_version) = (before.tier.clone(), before.tier_version);
        let scheduled = ScheduledTier {
            tier: then.slug,
            effective_at: period.end,
            requested_at: self.now,
            requested_by: self.principal.actor.name.clone(),
        };
        let is_known = waiting.is_some_and(|waiting| {
            (&waiting.tier, waiting.effective_at) == (&scheduled.tier, scheduled.effective_at)
        });
        Ok(if is_known { Schedule::Kept } else { Schedule::Becomes(Some(scheduled)) })
    }

    /// The tenant's next segment, if `after` is charged for otherwise than `before`, from `since` on.
    pub(super) async fn resubscribe(
        &mut self,
        before: &Tenant,
        after: &Tenant,
        since: Timestamp,
    ) -> Result<(), ControlError> {
        let plan = plan_of(after);
        if plan == plan_of(before) {
            return Ok(());
        }
        if self.tx.segments(before.id).await?.is_empty() {
            self.tx.set_segment(before.id, &first_segment(before, since)).await?;
        }
        if plan.is_none() {
            self.tx.schedule_tier(after.id, None).await?;
        }
        Ok(self.tx.set_segment(after.id, &Segment { starts_at: since, plan }).await?)
    }

    /// Writes down that the tenant is to have another tier, or no other any more.
    pub(super) async fn schedule(
        &mut self,
        tenant: &Tenant,
        scheduled: Option<ScheduledTier>,
    ) -> Result<(), ControlError> {
        let before = self.tx.scheduled_tier(tenant.id).await?;
        self.tx.schedule_tier(tenant.id, scheduled.as_ref()).await?;
        let seen = |scheduled: Option<&ScheduledTier>| -> Value {
            let mut members = Map::new();
            let tier =
                scheduled.map(|scheduled| json!({ "tier": scheduled.tier, "at": scheduled.effective_at }));
            members.insert("scheduled_tier".to_owned(), tier.unwrap_or(Value::Null));
            members.into()
        };
        let told = Told::changed(&seen(before.as_ref()), &seen(scheduled.as_ref()));
        self.audit(Operation::ChangeTenant, &Target::tenant(tenant), told).await
    }

    /// Answers whether it was still to be done.
    async fn change_due_tier(&mut self, id: TenantId) -> Result<bool, ControlError> {
        let (Some(before), Some(scheduled)) = (self.tx.tenant(id).await?, self.tx.scheduled_tier(id).await?)
        else {
            return Ok(false);
        };
        if scheduled.effective_at > self.now {
            return Ok(false);
        }
        self.tx.schedule_tier(id, None).await?;
        let Some(tier) = self.tx.tier(&scheduled.tier).await? else { return Ok(false) };
        let after = Tenant {
            tier: tier.slug,
            tier_version: tier.version,
            version: before.version + 1,
            updated_at: self.now,
            ..before.clone()
        };
        self.tx.update_tenant(&after, tier.retention_days).await?;
        self.resubscribe(&before, &after, scheduled.effective_at).await?;
        let reason = Some(format!("as {} asked for on {}", scheduled.requested_by, scheduled.requested_at));
        let told = Told::changed(&shown(&before), &shown(&after)).because(reason);
        self.audit(Operation::ChangeTerms, &Target::tenant(&after), told).await?;
        Ok(true)
    }
}
