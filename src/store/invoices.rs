//! Subscriptions and invoices: who had which tier when, what the ledger says of a period, and what was finalized.

use uuid::Uuid;

use super::sql::{Row, query, select};
use super::values::{corrupt, get, json, parsed, to_json};
use super::{BadPage, Changed, Cursor, ExportProgress, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::billing::{
    Bill, BillingPeriod, CollectorKind, Currency, ExportedTo, Invoice, InvoiceId, InvoiceLine, InvoiceStatus,
    Plan, Proration, Rounding, ScheduledTier, Segment, Terms,
};
use crate::domain::{Limit, NotUnits, Period, Resource, TenantId, Units, Window, Zone};

/// One that no collector is known to have all of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnexportedInvoice {
    pub tenant: TenantId,
    pub id: InvoiceId,
    pub period: BillingPeriod,
}

const INVOICE: &str = "tenant_id, invoice_id, period_start, period_end, currency, total_minor, timezone, proration, \
     rounding, bill_to, billing_email, finalized_at, status, status_at, status_reason, exported_at, exported_to";

// === impl Snapshot ===

impl Snapshot {
    /// Which plan the tenant had from when on, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn segments(&mut self, tenant: TenantId) -> Result<Vec<Segment>, StoreError> {
        let rows = query(
            "SELECT starts_at, tier, tier_version FROM subscription_segments WHERE tenant_id = $1 ORDER BY starts_at",
        )
        .bind(tenant.0)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(segment).collect()
    }

    /// Tenants of whom nobody has said since when they have their plan: from before there was such a table, imported, or
    /// added by another program. At most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants_without_segment(&mut self, limit: u32) -> Result<Vec<TenantId>, StoreError> {
        let rows = query(
            "SELECT tenant_id FROM organizations WHERE status <> 'deleted' AND NOT EXISTS (
                 SELECT 1 FROM subscription_segments WHERE subscription_segments.tenant_id = organizations.tenant_id)
             ORDER BY tenant_id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok(TenantId(get(row, "tenant_id")?))).collect()
    }

    /// The tier that the tenant is to have.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn scheduled_tier(&mut self, tenant: TenantId) -> Result<Option<ScheduledTier>, StoreError> {
        let row = query(
            "SELECT tier, effective_at, requested_at, requested_by FROM scheduled_tiers WHERE tenant_id = $1",
        )
        .bind(tenant.0)
        .fetch_optional(self.connection())
        .await?;
        let scheduled = |row: &Row| {
            Ok(ScheduledTier {
                tier: get(row, "tier")?,
                effective_at: get(row, "effective_at")?,
                requested_at: get(row, "requested_at")?,
                requested_by: get(row, "requested_by")?,
            })
        };
        row.as_ref().map(scheduled).transpose()
    }

    /// Tenants whose tier is to change by `now`, whoever waits longest first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tiers_due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TenantId>, StoreError> {
        let rows = query(
            "SELECT tenant_id FROM scheduled_tiers WHERE effective_at <= $1 ORDER BY effective_at, tenant_id LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok(TenantId(get(row, "tenant_id")?))).collect()
    }

    /// Tenants that were never billed, or until before `until`: those of whom something may be due. After `behind`, in
    /// the order of their ids; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants_billed_before(
        &mut self,
        until: Timestamp,
        behind: TenantId,
        limit: u32,
    ) -> Result<Vec<TenantId>, StoreError> {
        let rows = query(
            "SELECT DISTINCT tenant_id FROM subscription_segments AS s WHERE tenant_id > $2 AND NOT EXISTS (
                 SELECT 1 FROM invoices WHERE invoices.tenant_id = s.tenant_id AND period_end >= $1)
             ORDER BY tenant_id LIMIT $3",
        )
        .bind(until)
        .bind(behind.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok(TenantId(get(row, "tenant_id")?))).collect()
    }

    /// The end of what was billed last, void or not.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn billed_until(&mut self, tenant: TenantId) -> Result<Option<Timestamp>, StoreError> {
        let row = query("SELECT MAX(period_end) AS period_end FROM invoices WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(self.connection())
            .await?;
        get(&row, "period_end")
    }

    /// The first period whose invoice is void and was not drawn up again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn voided_period(&mut self, tenant: TenantId) -> Result<Option<BillingPeriod>, StoreError> {
        let row = query(
            "SELECT period_start, period_end FROM invoices AS voided
             WHERE tenant_id = $1 AND status = 'void' AND NOT EXISTS (SELECT 1 FROM invoices AS again
                 WHERE again.tenant_id = voided.tenant_id AND again.period_start = voided.period_start
                   AND again.status <> 'void')
             ORDER BY period_start LIMIT 1",
        )
        .bind(tenant.0)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(period).transpose()
    }

    /// What the tenant used of a resource in months that [belong](BillingPeriod::has) to the period, over all tills: what
    /// their journals have brought.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn units_of_period(
        &mut self,
        tenant: TenantId,
        resource: Resource,
        period: BillingPeriod,
    ) -> Result<Units, StoreError> {
        let rows = query(
            "SELECT window_start, window_end, CAST(SUM(units) AS BIGINT) AS units FROM account_units
             WHERE owner_kind = 'tenant' AND owner_id = $1 AND resource_type = $2 AND period = 'month'
               AND window_end > $3 AND window_start < $4
             GROUP BY window_start, window_end",
        )
        .bind(tenant.0)
        .bind(resource.as_str())
        .bind(period.start)
        .bind(period.end)
        .fetch_all(self.connection())
        .await?;
        let mut units = Units::ZERO;
        for row in &rows {
            let (start, end) = (get(row, "window_start")?, get(row, "window_end")?);
            if period.has(Window { period: Period::Month, start, end }) {
                let more = Units::try_from(get::<i64>(row, "units")?);
                units = units.saturating_add(more.map_err(|error| corrupt("units", error.to_string()))?);
            }
        }
        Ok(units)
    }

    /// The limit per `quota_period` that the tenant had of its own at an instant; `None`: its tier's.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn own_limit_at(
        &mut self,
        tenant: TenantId,
        resource: Resource,
        quota_period: Period,
        at: Timestamp,
    ) -> Result<Option<Limit>, StoreError> {
        let row = query(
            "SELECT change, limit_amount, expires_at FROM quota_changes
             WHERE tenant_id = $1 AND owner_kind = 'tenant' AND resource_type = $2 AND period = $4
               AND changed_at < $3
             ORDER BY version DESC LIMIT 1",
        )
        .bind(tenant.0)
        .bind(resource.as_str())
        .bind(at)
        .bind(quota_period.as_str())
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let expires_at: Option<Timestamp> = get(&row, "expires_at")?;
        if get::<&str>(&row, "change")? != "set" || expires_at.is_some_and(|expires_at| expires_at < at) {
            return Ok(None);
        }
        let bad = |error: NotUnits| corrupt("limit_amount", error.to_string());
        Limit::from_sql(get(&row, "limit_amount")?).map(Some).map_err(bad)
    }

    /// Invoices of which something may be on its way to a collector, of tenants that may be called something there, whose
    /// periods it was looked at to the end and not only before it began; after `behind` in the order of their tenants.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unexported_invoices(
        &mut self,
        progress: ExportProgress,
        behind: Option<(TenantId, InvoiceId)>,
        limit: u32,
    ) -> Result<Vec<UnexportedInvoice>, StoreError> {
        let Some(taken_until) = progress.taken_until else { return Ok(Vec::new()) };
        let (tenant, id) = behind.unwrap_or((TenantId(Uuid::nil()), InvoiceId(Uuid::nil())));
        let rows = query(
            "SELECT tenant_id, invoice_id, period_start, period_end FROM invoices
             WHERE status = 'finalized' AND period_end > $1 AND period_end <= $2
               AND (tenant_id > $3 OR tenant_id = $3 AND invoice_id > $4)
               AND (EXISTS (SELECT 1 FROM tenant_settings AS named WHERE named.tenant_id = invoices.tenant_id
                        AND setting_key = 'billing_account')
                   OR EXISTS (SELECT 1 FROM organizations AS below WHERE below.tenant_id = invoices.tenant_id
                        AND parent_id IS NOT NULL))
             ORDER BY tenant_id, invoice_id LIMIT $5",
        )
        .bind(progress.began_at)
        .bind(taken_until)
        .bind(tenant.0)
        .bind(id.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(unexported).collect()
    }

    /// The tenant's invoices, newest first; only those in that state, if it is said.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn invoices(
        &mut self,
        tenant: TenantId,
        status: Option<InvoiceStatus>,
        page: &Page,
    ) -> Result<Result<Listed<Invoice>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let mut query = select(INVOICE, "FROM invoices WHERE tenant_id = $1 AND invoice_id < $2")
            .bind(tenant.0)
            .bind(below);
        if let Some(status) = status {
            query.push(" AND status = ").push_bind(status.as_str());
        }
        let cursor = |last: &Invoice| Cursor::behind(last.id, last.finalized_at);
        let listed = self.listed(query, "invoice_id DESC", page, invoice, cursor).await?;
        Ok(Ok(Listed { items: self.with_lines(tenant, listed.items).await?, ..listed }))
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn invoice(&mut self, tenant: TenantId, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        let rows = select(INVOICE, "FROM invoices WHERE tenant_id = $1 AND invoice_id = $2")
            .bind(tenant.0)
            .bind(id.0)
            .fetch_all(self.connection())
            .await?;
        let found = self.with_lines(tenant, rows.iter().map(invoice).collect::<Result<_, _>>()?).await?;
        Ok(found.into_iter().next())
    }

    /// The lines of invoices that are neighbours in a list.
    async fn with_lines(
        &mut self,
        tenant: TenantId,
        mut invoices: Vec<Invoice>,
    ) -> Result<Vec<Invoice>, StoreError> {
        let ids = || invoices.iter().map(|invoice| invoice.id);
        let (Some(first), Some(last)) = (ids().min(), ids().max()) else { return Ok(invoices) };
        let rows = query(
            "SELECT invoice_id, amount_minor, item FROM invoice_lines
             WHERE tenant_id = $1 AND invoice_id BETWEEN $2 AND $3 ORDER BY invoice_id, line",
        )
        .bind(tenant.0)
        .bind(first.0)
        .bind(last.0)
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let id = InvoiceId(get::<Uuid>(row, "invoice_id")?);
            let line = InvoiceLine { amount_minor: get(row, "amount_minor")?, item: json(row, "item")? };
            if let Some(invoice) = invoices.iter_mut().find(|invoice| invoice.id == id) {
                invoice.bill.lines.push(line);
            }
        }
        Ok(invoices)
    }
}

fn segment(row: &Row) -> Result<Segment, StoreError> {
    let tier: Option<String> = get(row, "tier")?;
    let version: Option<i64> = get(row, "tier_version")?;
    let plan = tier.zip(version).map(|(tier, tier_version)| Plan { tier, tier_version });
    Ok(Segment { starts_at: get(row, "starts_at")?, plan })
}

fn period(row: &Row) -> Result<BillingPeriod, StoreError> {
    Ok(BillingPeriod { start: get(row, "period_start")?, end: get(row, "period_end")? })
}

/// Without its lines.
fn invoice(row: &Row) -> Result<Invoice, StoreError> {
    let terms = Terms {
        currency: parsed(row, "currency", Currency::parse)?,
        proration: parsed(row, "proration", Proration::parse)?,
        rounding: parsed(row, "rounding", Rounding::parse)?,
        zone: parsed(row, "timezone", Zone::named)?,
    };
    let bill = Bill {
        tenant: TenantId(get(row, "tenant_id")?),
        period: period(row)?,
        terms,
        bill_to: get(row, "bill_to")?,
        billing_email: get(row, "billing_email")?,
        lines: Vec::new(),
        total_minor: get(row, "total_minor")?,
    };
    Ok(Invoice {
        id: InvoiceId(get(row, "invoice_id")?),
        bill,
        finalized_at: get(row, "finalized_at")?,
        status: parsed(row, "status", InvoiceStatus::parse)?,
        status_at: get(row, "status_at")?,
        status_reason: get(row, "status_reason")?,
        exported: exported(row)?,
    })
}

fn exported(row: &Row) -> Result<Option<ExportedTo>, StoreError> {
    let Some(at) = get(row, "exported_at")? else { return Ok(None) };
    Ok(Some(ExportedTo { at, collector: parsed(row, "exported_to", CollectorKind::parse)? }))
}

fn unexported(row: &Row) -> Result<UnexportedInvoice, StoreError> {
    Ok(UnexportedInvoice {
        tenant: TenantId(get(row, "tenant_id")?),
        id: InvoiceId(get(row, "invoice_id")?),
        period: period(row)?,
    })
}

// === impl Tx ===

impl Tx {
    /// From `starts_at` on, the tenant has that plan. What was said of the same instant before is replaced.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_segment(&mut self, tenant: TenantId, segment: &Segment) -> Result<(), StoreError> {
        let plan = segment.plan.as_ref();
        query(
            "INSERT INTO subscription_segments (tenant_id, starts_at, tier, tier_version) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, starts_at) DO UPDATE SET tier = excluded.tier,
                 tier_version = excluded.tier_version",
        )
        .bind(tenant.0)
        .bind(segment.starts_at)
        .bind(plan.map(|plan| plan.tier.clone()))
        .bind(plan.map(|plan| plan.tier_version))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The tenant is to have that tier; `None`: no other than it has.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn schedule_tier(
        &mut self,
        tenant: TenantId,
        scheduled: Option<&ScheduledTier>,
    ) -> Result<(), StoreError> {
        let statement = match scheduled {
            None => query("DELETE FROM scheduled_tiers WHERE tenant_id = $1").bind(tenant.0),
            Some(scheduled) => query(
                "INSERT INTO scheduled_tiers (tenant_id, tier, effective_at, requested_at, requested_by)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant_id) DO UPDATE SET tier = excluded.tier, effective_at = excluded.effective_at,
                     requested_at = excluded.requested_at, requested_by = excluded.requested_by",
            )
            .bind(tenant.0)
            .bind(&scheduled.tier)
            .bind(scheduled.effective_at)
            .bind(scheduled.requested_at)
            .bind(&scheduled.requested_by),
        };
        statement.execute(self.connection()).await?;
        self.changed(Changed::Tenant(tenant));
        Ok(())
    }

    /// Keeps an invoice for ever.
    ///
    /// # Errors
    /// [`StoreError`], also if its period has one that is not void.
    pub async fn insert_invoice(&mut self, invoice: &Invoice) -> Result<(), StoreError> {
        let Bill { tenant, period, terms, bill_to, billing_email, lines, total_minor } = &invoice.bill;
        query(
            "INSERT INTO invoices (tenant_id, invoice_id, period_start, period_end, currency, total_minor, timezone,
                 proration, rounding, bill_to, billing_email, finalized_at, status, status_at, status_reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(tenant.0)
        .bind(invoice.id.0)
        .bind(period.start)
        .bind(period.end)
        .bind(terms.currency.as_str())
        .bind(*total_minor)
        .bind(terms.zone.name())
        .bind(terms.proration.as_str())
        .bind(terms.rounding.as_str())
        .bind(bill_to)
        .bind(billing_email)
        .bind(invoice.finalized_at)
        .bind(invoice.status.as_str())
        .bind(invoice.status_at)
        .bind(&invoice.status_reason)
        .execute(self.connection())
        .await?;
        for (number, line) in (1_u32..).zip(lines) {
            query(
                "INSERT INTO invoice_lines (tenant_id, invoice_id, line, amount_minor, item)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(tenant.0)
            .bind(invoice.id.0)
            .bind(number)
            .bind(line.amount_minor)
            .bind(to_json(&line.item))
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    /// Notes that everything of an invoice's period has reached its collector.
    ///
    /// # Errors
    /// [`StoreError`], also if it was noted before.
    pub async fn set_invoice_exported(
        &mut self,
        tenant: TenantId,
        id: InvoiceId,
        exported: ExportedTo,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE invoices SET status = 'exported', status_at = $3, exported_at = $3, exported_to = $4
             WHERE tenant_id = $1 AND invoice_id = $2 AND status = 'finalized'",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(exported.at)
        .bind(exported.collector.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes what became of an invoice. One that is void or paid stays so.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_invoice_status(
        &mut self,
        tenant: TenantId,
        id: InvoiceId,
        status: InvoiceStatus,
        at: Timestamp,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE invoices SET status = $3, status_at = $4, status_reason = $5
             WHERE tenant_id = $1 AND invoice_id = $2",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(status.as_str())
        .bind(at)
        .bind(reason)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
