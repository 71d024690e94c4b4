//! Invoices: computed from the ledger when somebody asks, finalized when their period is over, and verified ever after.
//!
//! The ledger is what the journals brought: units per account and window, exactly once. What was denied or given back is
//! in no journal. A draft is no more than that and the tenant's segments, so it is the running estimate; finalizing is
//! keeping it. Units that arrive later (a gateway was away with its journal) change no finalized invoice: the next one has
//! a correction that names it, so that all invoices together are the ledger to the unit.
//!
//! # What is included when a tier changed in mid-period
//! What the tier includes that is had at the period's end, or the tenant's own limit then: an upgrade never makes
//! dearer what was used before it.
//!
//! # Gauges
//! See [`gauges`](super::gauges): they are charged for by what was held, where a tier sells more of them than its limit.
//! What is held is written down where it changes, so nothing of it comes late and nothing is corrected.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::gauges::gauge_items;
use super::principal::Operation;
use super::subscriptions::{
    TENANTS_AT_ONCE, currency_of, not_countable, priced, running_period, segments_of, tiers_of,
};
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::{
    Bill, BillingPeriod, Currency, Held, Invoice, InvoiceId, InvoiceLine, InvoiceStatus, Item, Measure,
    Metered, NotCountable, Proration, Rounding, Segment, Terms, UnitPrice, line_items, next_period,
    stretches,
};
use crate::domain::{Limit, Period, Resource, Tenant, TenantId, Tier, Units};
use crate::store::{Listed, Page, Snapshot};

/// How is billed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BillingSettings {
    /// An invoice is finalized so long after its period's end: what gateways still hold arrives in that time.
    pub grace: Duration,
    pub proration: Proration,
    pub rounding: Rounding,
}

/// What an invoice says beside what the ledger says now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Verification {
    pub invoice_id: InvoiceId,
    /// Whether every line is what the ledger says, and the total their sum.
    pub agrees: bool,
    pub total_minor: i64,
    pub recomputed_minor: i64,
    pub lines: Vec<VerifiedLine>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct VerifiedLine {
    pub line: u32,
    pub kind: &'static str,
    pub resource_type: Option<Resource>,
    /// As billed, with what later invoices corrected.
    pub billed: Option<Units>,
    /// What the ledger says now. More than was billed: it came late, and the next invoice corrects it.
    pub ledger: Option<Units>,
    pub amount_minor: i64,
    /// What the line comes to, computed again from what it says.
    pub recomputed_minor: i64,
    pub agrees: bool,
}

/// What invoices have said of a resource of a period.
struct Billed {
    used: Units,
    charged_minor: i64,
}

/// Of so many invoices, late units are looked for: no journal waits for a year.
const CORRECTED_MAX: u32 = 12;

/// No invoice is due sooner after the one before it: a month, less what a change of its zone takes.
const NEXT_DUE_AFTER: Duration = Duration::from_secs(26 * 86_400);

// === impl BillingSettings ===

impl Default for BillingSettings {
    fn default() -> Self {
        BillingSettings {
            grace: Duration::from_secs(3_600),
            proration: Proration::default(),
            rounding: Rounding::default(),
        }
    }
}

// === impl Control ===

impl Control {
    /// The tenant's finalized invoices, newest first; only those in that state, if it is said.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn invoices(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        status: Option<InvoiceStatus>,
        page: &Page,
    ) -> Result<Listed<Invoice>, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        Ok(snapshot.invoices(tenant.id, status, page).await??)
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: InvoiceId,
    ) -> Result<Invoice, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        snapshot.invoice(tenant.id, id).await?.ok_or_else(|| no_invoice(id))
    }

    /// What is owed for the present period as of now: the running estimate. The subscription is in it to the period's
    /// end, use as far as it reached the database.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] if the tenant has no subscription.
    pub async fn running_invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Bill, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        self.estimated(&mut snapshot, &tenant).await
    }

    /// The same of a tenant that was found.
    pub(super) async fn estimated(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
    ) -> Result<Bill, ControlError> {
        let segments = segments_of(snapshot, tenant, self.now()).await?;
        let period = running_period(snapshot, tenant, &segments, self.now()).await?;
        let period = period.ok_or_else(|| ControlError::Conflict("there is no subscription".to_owned()))?;
        self.drawn_up(snapshot, tenant, &segments, period).await
    }

    /// Keeps the invoice of the first period that is over and has none; if none is over, what is there already of the last
    /// one: to finalize twice is to finalize once.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] if no period is over yet.
    pub async fn finalize_invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Invoice, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.finalize_invoice(tenant).await;
        work.end(outcome).await
    }

    /// Takes back an invoice that nothing was paid for. Its period may then be finalized again.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] without a reason; [`ControlError::Conflict`] if it was paid, or if a later invoice
    /// corrects it: that one has to be void first.
    pub async fn void_invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: InvoiceId,
        reason: Option<&str>,
    ) -> Result<Invoice, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.void_invoice(tenant, id, reason).await;
        work.end(outcome).await
    }

    /// Notes that an invoice was paid. A second time is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] for one that is void.
    pub async fn pay_invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: InvoiceId,
    ) -> Result<Invoice, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.pay_invoice(tenant, id).await;
        work.end(outcome).await
    }

    /// Computes every line of an invoice again: units from the ledger, shares from the segments, amounts from both.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn verify_invoice(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: InvoiceId,
    ) -> Result<Verification, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        let invoice = snapshot.invoice(tenant.id, id).await?.ok_or_else(|| no_invoice(id))?;
        let known = recent_invoices(&mut snapshot, tenant.id).await?;
        let Bill { period, terms, .. } = &invoice.bill;
        let segments = segments_of(&mut snapshot, &tenant, self.now()).await?;
        let (_, items) = items_of(&mut snapshot, &tenant, &segments, *period, terms).await?;
        verified(&invoice, &known, &items)
    }

    /// A tenant, for whoever may know what it owes. Of one below a reseller that is the reseller: what the platform charges
    /// for it is not its to know, and what it pays is between the two.
    pub(super) async fn read_billed(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<(Snapshot, Tenant), ControlError> {
        let (snapshot, tenant) = self.read_tenant(principal, Operation::ReadInvoices, tenant).await?;
        if self.is_billed_above(principal, &tenant) {
            return Err(ControlError::Forbidden {
                actor: principal.actor.name.clone(),
                operation: Operation::ReadInvoices.action(),
                needs: "the tenant has a reseller, who is billed for it".to_owned(),
            });
        }
        Ok((snapshot, tenant))
    }

    /// Whether it is another's matter than the caller's what the tenant owes: its reseller's.
    pub fn is_billed_above(&self, principal: &Principal, tenant: &Tenant) -> bool {
        tenant.parent.is_some() && principal.tenant() == Some(tenant.id)
    }

    /// How the tenant is billed.
    pub(super) fn terms(&self, tenant: &Tenant, currency: Currency) -> Terms {
        let BillingSettings { proration, rounding, .. } = self.parts.billing;
        Terms { currency, proration, rounding, zone: tenant.timezone.clone() }
    }

    /// The bill of a period, as of what is known now.
    pub(super) async fn drawn_up(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        segments: &[Segment],
        period: BillingPeriod,
    ) -> Result<Bill, ControlError> {
        // The currency is the tiers', and they are not known yet: nothing else of the terms depends on it.
        let mut terms = self.terms(tenant, Currency::USD);
        let (tiers, mut items) = items_of(snapshot, tenant, segments, period, &terms).await?;
        if let Some(tier) = tiers.first() {
            terms.currency = currency_of(tier)?;
        }
        items.extend(corrections(snapshot, tenant, period).await?);
        let bill = Bill {
            tenant: tenant.id,
            period,
            terms,
            bill_to: tenant.name.clone(),
            billing_email: tenant.billing_email.clone(),
            lines: Vec::new(),
            total_minor: 0,
        };
        bill.with(items).map_err(not_countable)
    }

    /// Finalizes everything that is due, of all tenants; answers how many invoices that were.
    pub(super) async fn finalize_due(&self, system: &Principal) -> Result<u64, ControlError> {
        let due = self.now().minus(self.parts.billing.grace);
        let mut finalized = 0;
        let mut behind = TenantId(uuid::Uuid::nil());
        loop {
            let until = due.minus(NEXT_DUE_AFTER);
            let mut snapshot = self.read().await?;
            let some = snapshot.tenants_billed_before(until, behind, TENANTS_AT_ONCE).await?;
            drop(snapshot);
            let Some(last) = some.last() else { return Ok(finalized) };
            behind = *last;
            for id in some {
                while self.finalize_one_due(system, id, due).await? {
                    finalized += 1;
                }
            }
        }
    }

    /// Answers whether there was one that was over by `due`.
    async fn finalize_one_due(
        &self,
        system: &Principal,
        id: TenantId,
        due: Timestamp,
    ) -> Result<bool, ControlError> {
        let mut snapshot = self.read().await?;
        let Some(tenant) = snapshot.tenant(id).await? else { return Ok(false) };
        let segments = snapshot.segments(id).await?;
        let after = snapshot.billed_until(id).await?;
        drop(snapshot);
        let next = next_period(&segments, after, tenant.anchor, &tenant.timezone);
        if next.is_none_or(|period| period.end > due) {
            return Ok(false);
        }
        let mut work = self.begin(system).await?;
        let outcome = work.finalize_next(&tenant).await;
        Ok(work.end(outcome).await?.is_some())
    }
}

fn no_invoice(id: InvoiceId) -> ControlError {
    ControlError::NotFound { what: "invoice", which: id.to_string() }
}

/// The lines of a period but for corrections, and the tiers that are in them.
async fn items_of(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    segments: &[Segment],
    period: BillingPeriod,
    terms: &Terms,
) -> Result<(Vec<Tier>, Vec<Item>), ControlError> {
    let measure = Measure::of(period, terms.proration, &terms.zone);
    let parts = stretches(segments, &measure);
    let tiers = tiers_of(snapshot, &parts).await?;
    if let Some(other) = tiers.iter().find(|tier| tier.currency != tiers[0].currency) {
        let (one, other) = (&tiers[0].currency, &other.currency);
        return Err(ControlError::Conflict(format!("the period has tiers in {one} and in {other}")));
    }
    let last = parts.iter().rev().find_map(|part| part.plan);
    let at_end = tiers
        .iter()
        .find(|tier| last.is_some_and(|plan| (&plan.tier, plan.tier_version) == (&tier.slug, tier.version)));
    let metered = match at_end {
        Some(tier) => metered(snapshot, tenant, tier, period).await?,
        None => Vec::new(),
    };
    let priced: Vec<_> = tiers.iter().map(priced).collect();
    let mut items = line_items(&measure, &parts, &priced, &metered);
    items.extend(gauge_items(snapshot, tenant, &measure, &parts, &tiers).await?);
    Ok((tiers, items))
}

/// What was used of whatever the tier limits per month.
async fn metered(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    tier: &Tier,
    period: BillingPeriod,
) -> Result<Vec<Metered>, ControlError> {
    let mut metered = Vec::new();
    for quota in tier.quotas.iter().filter(|quota| quota.period == Period::Month) {
        let own = snapshot.own_limit_at(tenant.id, quota.resource, quota.period, period.end).await?;
        metered.push(Metered {
            resource: quota.resource,
            used: snapshot.units_of_period(tenant.id, quota.resource, period).await?,
            included: own.unwrap_or(quota.limit),
            price: quota.overage,
        });
    }
    Ok(metered)
}

/// The tenant's last invoices that are not void, newest first.
async fn recent_invoices(snapshot: &mut Snapshot, tenant: TenantId) -> Result<Vec<Invoice>, ControlError> {
    let page = Page::new(Some(i64::from(CORRECTED_MAX) * 2), None, None)?;
    let listed = snapshot.invoices(tenant, None, &page).await??;
    Ok(listed.items.into_iter().filter(|invoice| invoice.status != InvoiceStatus::Void).collect())
}

/// What came late for periods before `period`.
async fn corrections(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    period: BillingPeriod,
) -> Result<Vec<Item>, ControlError> {
    let known = recent_invoices(snapshot, tenant.id).await?;
    let mut items = Vec::new();
    let earlier = known.iter().filter(|invoice| invoice.bill.period.end <= period.start);
    for invoice in earlier.take(CORRECTED_MAX as usize) {
        for line in &invoice.bill.lines {
            let Item::Usage { resource_type, included, price, .. } = line.item else { continue };
            let Some(billed) = billed(invoice, &known, resource_type) else { continue };
            let used = snapshot.units_of_period(tenant.id, resource_type, invoice.bill.period).await?;
            if used != billed.used {
                items.push(Item::Correction {
                    corrects: invoice.id,
                    resource_type,
                    used_before: billed.used,
                    used,
                    included,
                    price,
                    charged_before_minor: billed.charged_minor,
                });
            }
        }
    }
    Ok(items)
}

/// What `invoice` and those that correct it say of a resource.
fn billed(invoice: &Invoice, known: &[Invoice], resource: Resource) -> Option<Billed> {
    let own = invoice.bill.lines.iter().find_map(|line| match line.item {
        Item::Usage { resource_type, used, .. } if resource_type == resource => {
            Some(Billed { used, charged_minor: line.amount_minor })
        }
        _ => None,
    });
    let later = known.iter().rev().flat_map(|invoice| &invoice.bill.lines);
    later.fold(own, |billed, line| match (&line.item, billed) {
        (Item::Correction { corrects, resource_type, used, .. }, Some(billed))
            if *corrects == invoice.id && *resource_type == resource =>
        {
            Some(Billed {
                used: *used,
                charged_minor: billed.charged_minor.saturating_add(line.amount_minor),
            })
        }
        (_, billed) => billed,
    })
}

fn verified(invoice: &Invoice, known: &[Invoice], items: &[Item]) -> Result<Verification, ControlError> {
    let lines = (1..).zip(&invoice.bill.lines);
    let lines = lines.map(|(number, line)| verified_line(invoice, known, items, number, line));
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    let recomputed = lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.recomputed_minor));
    let recomputed_minor = recomputed.ok_or_else(|| not_countable(NotCountable))?;
    let total_minor = invoice.bill.total_minor;
    // Lines that are there may agree while one is missing.
    let is_share = |item: &&Item| matches!(item, Item::Subscription { .. } | Item::Gauge { .. });
    let shares = invoice.bill.lines.iter().map(|line| &line.item).filter(is_share).count();
    let is_whole = shares == items.iter().filter(is_share).count();
    let agrees = is_whole && recomputed_minor == total_minor && lines.iter().all(|line| line.agrees);
    Ok(Verification { invoice_id: invoice.id, agrees, total_minor, recomputed_minor, lines })
}

fn verified_line(
    invoice: &Invoice,
    known: &[Invoice],
    items: &[Item],
    number: u32,
    line: &InvoiceLine,
) -> Result<VerifiedLine, ControlError> {
    let Terms { currency, rounding, .. } = invoice.bill.terms;
    let recomputed_minor = line.item.amount_minor(currency, rounding).map_err(not_countable)?;
    let (billed, ledger, is_known) = match &line.item {
        Item::Subscription { .. } => (None, None, items.contains(&line.item)),
        Item::Usage { resource_type, included, price, .. } => {
            let now = items.iter().find_map(|item| used_of(item, *resource_type));
            let billed = billed(invoice, known, *resource_type).map(|billed| billed.used);
            let agrees = now.is_some() && now == billed.map(|billed| (billed, *included, *price));
            (billed, now.map(|(used, ..)| used), agrees)
        }
        Item::Gauge { charge_by, held, .. } => {
            let again = items.iter().find_map(|item| held_again(item, &line.item));
            let units = |held: Held| held.units(*charge_by);
            (Some(units(*held)), again.map(units), items.contains(&line.item))
        }
        // What it corrects is verified with the invoice that it names.
        Item::Correction { .. } => (None, None, true),
    };
    Ok(VerifiedLine {
        line: number,
        kind: line.item.kind(),
        resource_type: line.item.resource(),
        billed,
        ledger,
        amount_minor: line.amount_minor,
        recomputed_minor,
        agrees: is_known && recomputed_minor == line.amount_minor,
    })
}

fn used_of(item: &Item, resource: Resource) -> Option<(Units, Limit, Option<UnitPrice>)> {
    match item {
        Item::Usage { resource_type, used, included, price, .. } if *resource_type == resource => {
            Some((*used, *included, *price))
        }
        _ => None,
    }
}

/// What is computed now for the same gauge and time.
fn held_again(item: &Item, line: &Item) -> Option<Held> {
    let place = |item: &Item| match item {
        Item::Gauge { resource_type, start, held, .. } => Some((*resource_type, *start, *held)),
        _ => None,
    };
    let ((resource, start, held), (of, since, _)) = (place(item)?, place(line)?);
    ((resource, start) == (of, since)).then_some(held)
}

// === impl Work ===

impl Work<'_> {
    async fn finalize_invoice(&mut self, tenant: &TenantRef) -> Result<Invoice, ControlError> {
        let tenant = self.tenant_for(Operation::FinalizeInvoice, tenant).await?;
        if let Some(finalized) = self.finalize_next(&tenant).await? {
            return Ok(finalized);
        }
        let known = recent_invoices(&mut self.tx, tenant.id).await?;
        known.into_iter().next().ok_or_else(|| {
            ControlError::Conflict(
                "no period of the tenant is over yet: there is nothing to finalize".to_owned(),
            )
        })
    }

    /// The invoice of the first period that is over and has none.
    async fn finalize_next(&mut self, tenant: &Tenant) -> Result<Option<Invoice>, ControlError> {
        let segments = segments_of(&mut self.tx, tenant, self.now).await?;
        let next = match self.tx.voided_period(tenant.id).await? {
            Some(again) => Some(again),
            None => {
                let after = self.tx.billed_until(tenant.id).await?;
                next_period(&segments, after, tenant.anchor, &tenant.timezone)
            }
        };
        let Some(period) = next.filter(|period| period.end <= self.now) else { return Ok(None) };
        let bill = self.control.drawn_up(&mut self.tx, tenant, &segments, period).await?;
        let invoice = Invoice {
            id: InvoiceId(self.control.new_id()),
            bill,
            finalized_at: self.now,
            status: InvoiceStatus::Finalized,
            status_at: self.now,
            status_reason: None,
            exported: None,
        };
        self.tx.insert_invoice(&invoice).await?;
        let told = Told::made(json!({
            "period": period,
            "total_minor": invoice.bill.total_minor,
            "currency": invoice.bill.terms.currency,
        }));
        let target = Target::of(tenant, "invoice", invoice.id.to_string());
        self.audit(Operation::FinalizeInvoice, &target, told).await?;
        Ok(Some(invoice))
    }

    async fn void_invoice(
        &mut self,
        tenant: &TenantRef,
        id: InvoiceId,
        reason: Option<&str>,
    ) -> Result<Invoice, ControlError> {
        let tenant = self.tenant_for(Operation::VoidInvoice, tenant).await?;
        let invoice = self.tx.invoice(tenant.id, id).await?.ok_or_else(|| no_invoice(id))?;
        let mut faults = Faults::default();
        let reason = faults.reason(reason);
        if reason.is_none() {
            faults.add("reason", "an invoice is taken back for a reason: say it");
        }
        faults.finish()?;
        match invoice.status {
            InvoiceStatus::Void => return Ok(invoice),
            InvoiceStatus::Paid => {
                return Err(ControlError::Conflict("an invoice that was paid is not taken back".to_owned()));
            }
            InvoiceStatus::Draft | InvoiceStatus::Finalized | InvoiceStatus::Exported => {}
        }
        let known = recent_invoices(&mut self.tx, tenant.id).await?;
        let corrects =
            |line: &InvoiceLine| matches!(line.item, Item::Correction { corrects, .. } if corrects == id);
        if let Some(later) = known.iter().find(|later| later.bill.lines.iter().any(corrects)) {
            let later = later.id;
            return Err(ControlError::Conflict(format!(
                "invoice {later} corrects it, and has to be void first"
            )));
        }
        self.become_of(Operation::VoidInvoice, &tenant, invoice, InvoiceStatus::Void, reason).await
    }

    async fn pay_invoice(&mut self, tenant: &TenantRef, id: InvoiceId) -> Result<Invoice, ControlError> {
        let tenant = self.tenant_for(Operation::PayInvoice, tenant).await?;
        let invoice = self.tx.invoice(tenant.id, id).await?.ok_or_else(|| no_invoice(id))?;
        match invoice.status {
            InvoiceStatus::Paid => Ok(invoice),
            InvoiceStatus::Void => Err(ControlError::Conflict("the invoice is void".to_owned())),
            InvoiceStatus::Draft | InvoiceStatus::Finalized | InvoiceStatus::Exported => {
                self.become_of(Operation::PayInvoice, &tenant, invoice, InvoiceStatus::Paid, None).await
            }
        }
    }

    async fn become_of(
        &mut self,
        operation: Operation,
        tenant: &Tenant,
        invoice: Invoice,
        status: InvoiceStatus,
        reason: Option<String>,
    ) -> Result<Invoice, ControlError> {
        self.tx.set_invoice_status(tenant.id, invoice.id, status, self.now, reason.as_deref()).await?;
        let (before, after) = (json!({ "status": invoice.status }), json!({ "status": status }));
        let told = Told::changed(&before, &after).because(reason.clone());
        self.audit(operation, &Target::of(tenant, "invoice", invoice.id.to_string()), told).await?;
        Ok(Invoice { status, status_at: self.now, status_reason: reason, ..invoice })
    }
}
