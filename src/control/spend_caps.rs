//! Spend caps: a tenant is told when what it owes for the present period comes near to what it means to spend, and if the
//! cap stops, it is refused what would be charged for beyond it.
//!
//! A cap is of the whole estimate: subscription, what was used above limits, and corrections. It is looked at once a minute
//! by one gateway of the fleet, and each threshold is told of once per period and cap.
//!
//! # How a cap stops
//! What it leaves of each resource that is sold above its limit ([`SpendCap::leaves`]) is written down as [`Ceiling`]s, and
//! takes the place of the limit in the tenant's quotas, which become hard. From there on it is a limit as every other: the
//! directory compiles it, the till holds it, gauges are refused above it, and it is read with all quotas. Ceilings are
//! computed anew in the transaction of everything that may move them (the cap, the tier, an own limit, the time zone), so
//! there is no moment at which one of them is in force with the other's limit; and once a minute for what moves by itself:
//! gauges that are given back, corrections, a period that begins. The next period's are there before it begins.
//!
//! # What a cap can't stop
//! What was used before it came into force, within a second on every gateway. What a request turns out to have cost when it
//! has ended (bytes of answers), since that is used by then. A dearer tier, or a lower limit, that is chosen although
//! the money is spent. What comes late for an earlier period, whose cap it was within. In each case nothing more is
//! admitted that would be charged for.

use std::time::Duration;

use serde_json::json;

use super::gauges::holding;
use super::principal::Operation;
use super::subscriptions::{currency_of, had_tier, running_period, segments_of};
use super::validate::Faults;
use super::watch::Happening;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::{
    AtCap, Bill, Ceiling, InvoiceLine, Item, Money, Sale, Segment, Shares, SpendCap, next_period,
};
use crate::domain::{
    AccountKey, Actor, Alert, AlertKind, Owner, Period, Resource, Severity, Tenant, TenantId, TierQuota,
    Units,
};
use crate::store::Snapshot;

/// A cap to set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewSpendCap {
    /// A decimal of whole units of the currency that the tenant is billed in.
    pub amount: String,
    pub then: AtCap,
    /// How the money is divided among resources; evenly without it.
    pub shares: Option<Shares>,
}

/// A cap, and what it leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapInForce {
    pub cap: SpendCap,
    /// The limits that hold because of it; none if it only tells.
    pub leaves: Vec<Ceiling>,
}

/// In percent of the cap.
const THRESHOLDS: [u32; 2] = [80, 100];
/// Tenants that are looked at in one go.
const TENANTS_AT_ONCE: u32 = 500;
/// What a cap leaves of the next period is written down so long before it begins: longer than no gateway can be found that
/// keeps billing.
const NEXT_WITHIN: Duration = Duration::from_secs(86_400);

// === impl Control ===

impl Control {
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Forbidden`] to who is not told what the tenant owes.
    pub async fn spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Option<CapInForce>, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        let Some(cap) = snapshot.spend_cap(tenant.id).await? else { return Ok(None) };
        Ok(Some(CapInForce { cap, leaves: snapshot.ceilings(tenant.id).await? }))
    }

    /// Sets the tenant's cap. The same again is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for what is no amount above zero, and for shares of what the tenant's tier does not sell.
    pub async fn set_spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: &NewSpendCap,
    ) -> Result<CapInForce, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_spend_cap(tenant, new).await;
        work.end(outcome).await
    }

    /// Removes the tenant's cap.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], also if it has none.
    pub async fn remove_spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_spend_cap(tenant).await;
        work.end(outcome).await
    }

    /// Tells of caps that are nearly spent, or are; and sees to it that those which stop leave what they leave by now.
    pub(super) async fn watch_spending(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let mut behind = TenantId(uuid::Uuid::nil());
        loop {
            let mut snapshot = self.read().await?;
            let some = snapshot.capped_tenants(behind, TENANTS_AT_ONCE).await?;
            let Some((last, _)) = some.last() else { return Ok(()) };
            behind = *last;
            for (id, cap) in &some {
                let Some(tenant) = snapshot.tenant(*id).await? else { continue };
                // Without a subscription nothing is spent; and one who can't be billed keeps nobody else from being told.
                let Some((segments, bill)) = self.running_bill(&mut snapshot, &tenant).await? else {
                    continue;
                };
                let mut happenings = spending(&bill, cap);
                if cap.then == AtCap::Stop {
                    let ceilings = self.ceilings(&mut snapshot, &tenant, cap, &segments, &bill).await?;
                    happenings
                        .extend(ceilings.iter().filter_map(|ceiling| reached(&bill, ceiling, cap.amount)));
                    if snapshot.ceilings(*id).await? != ceilings {
                        self.move_ceilings(*id).await?;
                    }
                }
                told.extend(self.note(&mut snapshot, *id, happenings, None).await?);
            }
        }
    }

    async fn move_ceilings(&self, tenant: TenantId) -> Result<(), ControlError> {
        let system = Principal::platform(Actor::system("billing"), self.new_id());
        let mut work = self.begin(&system).await?;
        let outcome = work.recap(tenant).await;
        work.end(outcome).await
    }

    /// The estimate of the present period; `None` where there is nothing to be billed, or it can't be.
    async fn running_bill(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
    ) -> Result<Option<(Vec<Segment>, Bill)>, ControlError> {
        let segments = segments_of(snapshot, tenant, self.now()).await?;
        let Some(period) = running_period(snapshot, tenant, &segments, self.now()).await? else {
            return Ok(None);
        };
        let bill = billable(self.drawn_up(snapshot, tenant, &segments, period).await)?;
        Ok(bill.map(|bill| (segments, bill)))
    }

    /// What the cap leaves in the present period, and in the next if that begins soon; in the order of
    /// [`Snapshot::ceilings`].
    async fn ceilings(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        cap: &SpendCap,
        segments: &[Segment],
        bill: &Bill,
    ) -> Result<Vec<Ceiling>, ControlError> {
        let end = bill.period.end;
        let mut ceilings = self.ceilings_in(snapshot, tenant, cap, bill).await?;
        // Of a tier that is to come, it is computed when it comes.
        let comes =
            end.since(self.now()) <= NEXT_WITHIN && snapshot.scheduled_tier(tenant.id).await?.is_none();
        let next = next_period(segments, Some(end), tenant.anchor, &tenant.timezone).filter(|_| comes);
        if let Some(next) = next.filter(|next| next.start == end)
            && let Some(mut bill) = billable(self.drawn_up(snapshot, tenant, segments, next).await)?
        {
            // They are in the present one.
            bill.lines.retain(|line| !matches!(line.item, Item::Correction { .. }));
            ceilings.extend(self.ceilings_in(snapshot, tenant, cap, &bill).await?);
        }
        ceilings.sort_unstable();
        Ok(ceilings)
    }

    async fn ceilings_in(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        cap: &SpendCap,
        bill: &Bill,
    ) -> Result<Vec<Ceiling>, ControlError> {
        let from = self.now().max(bill.period.start);
        let (mut fixed_minor, mut sales, mut windows) = (0_i64, Vec::new(), Vec::new());
        for line in &bill.lines {
            match self.sale(snapshot, tenant, bill, line, from).await? {
                Some((sale, window)) => {
                    sales.push(sale);
                    windows.push(window);
                }
                None => fixed_minor = fixed_minor.saturating_add(line.amount_minor),
            }
        }
        let units = cap.leaves(fixed_minor, &sales, &bill.terms, from);
        Ok(windows.into_iter().zip(units).filter_map(|(window, units)| Some(window?.of(units))).collect())
    }

    /// What a line sells above what is included, and in which window of its quota; `None` for a line that is owed whatever
    /// is used from now on.
    async fn sale(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        bill: &Bill,
        line: &InvoiceLine,
        from: Timestamp,
    ) -> Result<Option<(Sale, Option<SoldWindow>)>, ControlError> {
        match &line.item {
            Item::Usage { resource_type, used, included, price: Some(price), .. }
                if !price.is_nothing() && included.units().is_some() =>
            {
                let resource = *resource_type;
                let window = Period::Month.window(tenant.anchor, &tenant.timezone, from);
                let account = AccountKey { owner: Owner::Tenant(tenant.id), resource, window };
                let stored = snapshot.account_units(&[account]).await?.first().copied().unwrap_or_default();
                // Our till may know of more than has reached the database.
                let known = self.used_by_till(&account).map_or(stored, |known| known.max(stored));
                let elsewhere = used.saturating_sub(stored);
                let used = elsewhere.saturating_add(known);
                let sold = SoldWindow {
                    resource,
                    period: Period::Month,
                    starts_at: window.start,
                    ends_at: window.end,
                    elsewhere,
                };
                // A month that belongs to another period's bill is none of this one's.
                let sold = bill.period.has(window).then_some(sold);
                Ok(Some((Sale::Counter { resource, used, included: *included, price: *price }, sold)))
            }
            Item::Gauge { resource_type, start, end, included, price, .. }
                if *end == bill.period.end && !price.is_nothing() && included.units().is_some() =>
            {
                let resource = *resource_type;
                let holding = holding(snapshot, tenant.id, resource, *start, *end).await?;
                let sold = SoldWindow {
                    resource,
                    period: Period::Forever,
                    starts_at: bill.period.start,
                    ends_at: bill.period.end,
                    elsewhere: Units::ZERO,
                };
                Ok(Some((Sale::Gauge { resource, item: line.item.clone(), holding }, Some(sold))))
            }
            _ => Ok(None),
        }
    }
}

/// One that can't be drawn up (its tiers are in two currencies, or it is beyond counting) is none.
fn billable(bill: Result<Bill, ControlError>) -> Result<Option<Bill>, ControlError> {
    match bill {
        Ok(bill) => Ok(Some(bill)),
        Err(ControlError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where what is sold is limited.
struct SoldWindow {
    resource: Resource,
    period: Period,
    starts_at: Timestamp,
    ends_at: Timestamp,
    /// Used in other windows that are billed with it.
    elsewhere: Units,
}

// === impl SoldWindow ===

impl SoldWindow {
    fn of(self, units: Units) -> Ceiling {
        let SoldWindow { resource, period, starts_at, ends_at, elsewhere } = self;
        Ceiling {
            resource_type: resource,
            period,
            starts_at,
            ends_at,
            limit: units.saturating_sub(elsewhere),
        }
    }
}

fn spending(bill: &Bill, cap: &SpendCap) -> Vec<Happening> {
    let passed = THRESHOLDS.into_iter().filter(|percent| cap.is_spent(bill.total_minor, *percent));
    passed.map(|percent| spent(bill, cap.amount, percent)).collect()
}

fn spent(bill: &Bill, cap: Money, percent: u32) -> Happening {
    let (total, start) = (bill.money(bill.total_minor), bill.period.start);
    Happening {
        occasion: format!("spend_cap:{}:{}:{percent}", start.seconds(), cap.minor),
        kind: AlertKind::Billing,
        severity: if percent < 100 { Severity::Warning } else { Severity::Critical },
        resource: None,
        summary: format!("{percent} % of the spend cap are reached: {total} of {cap} in this period."),
        details: json!({
            "threshold": percent,
            "cap_minor": cap.minor,
            "total_minor": bill.total_minor,
            "currency": cap.currency,
            "period": bill.period,
        }),
    }
}

/// All is used that the cap leaves of a resource.
fn reached(bill: &Bill, ceiling: &Ceiling, cap: Money) -> Option<Happening> {
    let Ceiling { resource_type, starts_at, limit, .. } = *ceiling;
    let had = bill.lines.iter().find_map(|line| match &line.item {
        Item::Usage { resource_type: of, used, .. } if *of == resource_type => Some(*used),
        Item::Gauge { resource_type: of, held, .. } if *of == resource_type => Some(held.maximum),
        _ => None,
    });
    had.filter(|had| *had >= limit && bill.period.contains(starts_at)).map(|_| Happening {
        occasion: format!("spend_stop:{}:{}:{resource_type}", bill.period.start.seconds(), cap.minor),
        kind: AlertKind::Billing,
        severity: Severity::Critical,
        resource: Some(resource_type),
        summary: format!(
            "More {resource_type} are refused: the spend cap of {cap} pays for {limit} in this period."
        ),
        details: json!({
            "limit": limit,
            "cap_minor": cap.minor,
            "currency": cap.currency,
            "period": bill.period,
        }),
    })
}

fn shown(cap: &SpendCap) -> serde_json::Value {
    let SpendCap { amount, then, shares, .. } = cap;
    json!({ "amount_minor": amount.minor, "currency": amount.currency, "then": then, "shares": shares })
}

fn target(tenant: &Tenant) -> Target {
    Target::of(tenant, "spend_cap", tenant.id.to_string())
}

fn check_shares(faults: &mut Faults, shares: Option<&Shares>, sold: &[TierQuota]) {
    let is_sold = |resource| sold.iter().any(|quota| quota.resource == resource && quota.is_sold());
    let unsold = shares.into_iter().flat_map(Shares::resources).find(|resource| !is_sold(*resource));
    if let Some(unsold) = unsold {
        faults.add("shares", format!("the tenant's tier sells no {unsold} above its limit"));
    }
}

// === impl Work ===

impl Work<'_> {
    async fn set_spend_cap(
        &mut self,
        tenant: &TenantRef,
        new: &NewSpendCap,
    ) -> Result<CapInForce, ControlError> {
        let tenant = self.living_tenant_for(Operation::SetSpendCap, tenant).await?;
        let tier = had_tier(&mut self.tx, &tenant).await?;
        let currency = currency_of(&tier)?;
        let mut faults = Faults::default();
        let amount = Money::parse(new.amount.trim(), currency).filter(|amount| amount.minor > 0);
        let expected = format!("an amount above 0 is expected, in {currency} and like 500.00");
        let amount = faults.check("amount", amount, expected);
        check_shares(&mut faults, new.shares.as_ref(), &tier.quotas);
        faults.finish()?;
        let amount = amount.unwrap_or(Money { minor: 0, currency });
        let before = self.tx.spend_cap(tenant.id).await?;
        let said = |cap: &SpendCap| (cap.amount, cap.then, cap.shares.clone());
        let same = before.clone().filter(|before| said(before) == (amount, new.then, new.shares.clone()));
        if let Some(cap) = same {
            return Ok(CapInForce { cap, leaves: self.tx.ceilings(tenant.id).await? });
        }
        let set_by = self.principal.actor.name.clone();
        let cap = SpendCap { amount, then: new.then, shares: new.shares.clone(), set_at: self.now, set_by };
        self.tx.set_spend_cap(tenant.id, Some(&cap)).await?;
        self.recap(tenant.id).await?;
        let told = Told { before: before.as_ref().map(shown), ..Told::made(shown(&cap)) };
        self.audit(Operation::SetSpendCap, &target(&tenant), told).await?;
        Ok(CapInForce { cap, leaves: self.tx.ceilings(tenant.id).await? })
    }

    async fn remove_spend_cap(&mut self, tenant: &TenantRef) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::RemoveSpendCap, tenant).await?;
        let Some(before) = self.tx.spend_cap(tenant.id).await? else {
            return Err(ControlError::NotFound { what: "spend cap", which: tenant.slug.to_string() });
        };
        self.tx.set_spend_cap(tenant.id, None).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveSpendCap, &target(&tenant), told).await
    }

    /// Writes down what the tenant's cap leaves, as things stand in this transaction.
    pub(super) async fn recap(&mut self, tenant: TenantId) -> Result<(), ControlError> {
        let cap = self.tx.spend_cap(tenant).await?.filter(|cap| cap.then == AtCap::Stop);
        let Some(cap) = cap else { return Ok(()) };
        let Some(tenant) = self.tx.tenant(tenant).await? else { return Ok(()) };
        let control = self.control;
        let ceilings = match control.running_bill(&mut self.tx, &tenant).await? {
            Some((segments, bill)) => control.ceilings(&mut self.tx, &tenant, &cap, &segments, &bill).await?,
            None => Vec::new(),
        };
        Ok(self.tx.set_ceilings(tenant.id, &ceilings).await?)
    }
}
