//! One invoice: its lines, the rows that each was counted from, and whether it is still what the ledger says.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use uuid::Uuid;

use super::billing::PATH;
use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::page::html;
use super::refusal::Refusal;
use super::session::{TenantVisit, form_encoded};
use super::text::{self, grouped};
use crate::clock::Timestamp;
use crate::control::{Verification, VerifiedLine};
use crate::domain::billing::{Bill, BillingPeriod, Invoice, InvoiceId, InvoiceStatus, Item, Level};
use crate::domain::{Limit, Resource, ResourceNames, Tenant, Units};
use crate::store::{Page, UsageFilter, UsageRow};

/// A bill as people read it.
pub(super) struct Document {
    pub(super) bill_to: String,
    pub(super) billing_email: Option<String>,
    pub(super) period: String,
    pub(super) end: Timestamp,
    pub(super) zone: String,
    pub(super) lines: Vec<Line>,
    pub(super) total: String,
    pub(super) files: Vec<File>,
}

pub(super) struct Line {
    pub(super) number: u32,
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) amount: String,
    pub(super) evidence: Option<Evidence>,
    /// What became of it when it was computed again.
    pub(super) verified: Option<VerifiedLine>,
}

/// Where a line comes from.
pub(super) struct Evidence {
    pub(super) label: &'static str,
    pub(super) href: String,
}

/// A document to take along, as the API gives it.
pub(super) struct File {
    pub(super) label: &'static str,
    pub(super) href: String,
    /// What it is called when it is kept; `None` for one to look at.
    pub(super) name: Option<String>,
}

#[derive(Template)]
#[template(path = "invoice.html")]
struct InvoicePage {
    layout: Layout,
    here: String,
    back: String,
    id: InvoiceId,
    document: Document,
    invoice: Invoice,
    verification: Option<Verification>,
    form: Form,
    may_void: bool,
    may_pay: bool,
}

#[derive(Template)]
#[template(path = "invoice_rows.html")]
struct RowsPage {
    layout: Layout,
    back: String,
    title: String,
    from: Timestamp,
    to: Timestamp,
    rows: Vec<UsageRow>,
    next: Option<String>,
    csv: String,
    /// Who is below the tenant, if it resells: what they use is charged to its accounts.
    below: Vec<(Tenant, String)>,
}

#[derive(Template)]
#[template(path = "invoice_levels.html")]
struct LevelsPage {
    layout: Layout,
    back: String,
    title: String,
    from: Timestamp,
    to: Timestamp,
    levels: Vec<Level>,
    next: Option<String>,
    api: String,
}

/// `GET …/billing/invoices/{invoice}?verify=yes`
pub(super) async fn show(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    filters: Filters,
) -> Result<Response, Refusal> {
    page(&here, InvoiceId(id), filters.0).await
}

async fn page(here: &TenantVisit, id: InvoiceId, form: Form) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let invoice = control.invoice(who, &here.named, id).await?;
    let verification = match form.has("verify", "yes") {
        true => Some(control.verify_invoice(who, &here.named, id).await?),
        false => None,
    };
    let names = ResourceNames::of(control.resource_types(who).await?);
    let is_open = matches!(invoice.status, InvoiceStatus::Finalized | InvoiceStatus::Exported);
    let page = InvoicePage {
        layout: here.layout("Invoice", Tab::Billing),
        here: address_of(here, id),
        back: here.address(PATH),
        id,
        document: Document::of(here, &names, &id.to_string(), &invoice.bill).with(verification.as_ref()),
        may_void: is_open && here.may("invoice.void"),
        may_pay: is_open && here.may("invoice.pay"),
        invoice,
        verification,
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/billing/invoices/{invoice}/void`
pub(super) async fn void(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who, id) = (&here.visit.control, &here.visit.principal, InvoiceId(id));
    match control.void_invoice(who, &here.named, id, form.optional("reason").as_deref()).await {
        Ok(_) => {
            let said = "The invoice is void: its period may be finalized again.";
            done(&here.visit, &address_of(&here, id), said)
        }
        Err(error) => page(&here, id, form.refused(error)?).await,
    }
}

/// `POST …/billing/invoices/{invoice}/paid`
pub(super) async fn paid(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who, id) = (&here.visit.control, &here.visit.principal, InvoiceId(id));
    match control.pay_invoice(who, &here.named, id).await {
        Ok(_) => done(&here.visit, &address_of(&here, id), "It is noted that the invoice was paid."),
        Err(error) => page(&here, id, form.refused(error)?).await,
    }
}

fn address_of(here: &TenantVisit, id: InvoiceId) -> String {
    here.address(&format!("{PATH}/invoices/{id}"))
}

/// `GET …/billing/rows?resource_type=&from=&to=`: the rows that a line of use was counted from.
pub(super) async fn rows(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    let asked = asked(&filters.0);
    let (resource, period) =
        asked.ok_or_else(|| Refusal::Malformed("The address names no period of a resource.".to_owned()))?;
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let filter = UsageFilter {
        resource: Some(resource),
        from: Some(period.start),
        to: Some(period.end),
        ..UsageFilter::default()
    };
    let listed = control.usage_logs(who, &here.named, &filter, &filters.page()?).await?;
    let children = match here.shows(Tab::Children) {
        true => control.children(who, &here.named, &Page::default()).await?.items,
        false => Vec::new(),
    };
    let beside = |child: Tenant| {
        let href = counted(&format!("/console/tenants/{}{PATH}/rows", child.slug), resource, period);
        (child, href)
    };
    html(&RowsPage {
        layout: here.layout("What was counted", Tab::Billing),
        back: here.address(PATH),
        title: ResourceNames::of(control.resource_types(who).await?).display(resource),
        from: period.start,
        to: period.end,
        rows: listed.items,
        next: filters.next(&here.address(&format!("{PATH}/rows")), listed.next_cursor),
        csv: counted(&format!("/api/tenants/{}/usage-logs", here.tenant.id), resource, period),
        below: children.into_iter().map(beside).collect(),
    })
}

/// `GET …/billing/levels?resource_type=&from=&to=`: what was held of a gauge, from when on.
pub(super) async fn levels(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    let asked = asked(&filters.0);
    let (resource, period) =
        asked.ok_or_else(|| Refusal::Malformed("The address names no time of a gauge.".to_owned()))?;
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let listed = control.levels(who, &here.named, resource, period, &filters.page()?).await?;
    let [from, to] = [period.start, period.end].map(|at| form_encoded(&at.to_string()));
    html(&LevelsPage {
        layout: here.layout("What was held", Tab::Billing),
        back: here.address(PATH),
        title: ResourceNames::of(control.resource_types(who).await?).display(resource),
        from: period.start,
        to: period.end,
        levels: listed.items,
        next: filters.next(&here.address(&format!("{PATH}/levels")), listed.next_cursor),
        api: format!("/api/tenants/{}/gauges/{resource}/levels?from={from}&to={to}", here.tenant.id),
    })
}

fn asked(form: &Form) -> Option<(Resource, BillingPeriod)> {
    let instant = |name| Timestamp::parse(form.text(name));
    let period = BillingPeriod { start: instant("from")?, end: instant("to")? };
    Some((form.text("resource_type").parse().ok()?, period))
}

/// The ledger's rows of a resource in a period: the same query at the API and here.
fn counted(address: &str, resource: Resource, BillingPeriod { start, end }: BillingPeriod) -> String {
    let [start, end] = [start, end].map(|at| form_encoded(&at.to_string()));
    format!("{address}?resource_type={resource}&from={start}&to={end}")
}

fn included(limit: Limit) -> String {
    limit.units().map_or_else(|| "no limit".to_owned(), |units| grouped(units.get()))
}

fn units(units: Units) -> String {
    grouped(units.get())
}

// === impl Document ===

impl Document {
    /// `name` is what the API calls it.
    pub(super) fn of(here: &TenantVisit, names: &ResourceNames, name: &str, bill: &Bill) -> Document {
        let lines = (1..).zip(&bill.lines);
        let line = |(number, line): (u32, &crate::domain::billing::InvoiceLine)| Line {
            number,
            amount: text::money(bill.money(line.amount_minor)),
            evidence: Evidence::of(here, bill, &line.item),
            verified: None,
            ..Line::about(&line.item, bill, names)
        };
        Document {
            bill_to: bill.bill_to.clone(),
            billing_email: bill.billing_email.clone(),
            period: text::days(bill.period, &bill.terms.zone),
            end: bill.period.end,
            zone: bill.terms.zone.name().to_owned(),
            lines: lines.map(line).collect(),
            total: text::money(bill.money(bill.total_minor)),
            files: File::all(here, name, bill),
        }
    }

    fn with(mut self, verification: Option<&Verification>) -> Document {
        let Some(verification) = verification else { return self };
        for (line, verified) in self.lines.iter_mut().zip(&verification.lines) {
            line.verified = Some(verified.clone());
        }
        self
    }
}

// === impl Line ===

impl Line {
    fn about(item: &Item, bill: &Bill, names: &ResourceNames) -> Line {
        let named = |resource: &Resource| names.display(*resource);
        let (title, detail) = match item {
            Item::Subscription { display, from, to, of, .. } => {
                let parts = bill.terms.proration.as_str();
                (display.clone(), format!("{} of {of} {parts}s of the period", to - from))
            }
            Item::Usage { resource_type, used, included: limit, overage, price } => {
                let of = included(*limit);
                let sold = match price {
                    Some(price) => {
                        let (price, per) = (price.price(), grouped(price.per()));
                        let currency = bill.terms.currency;
                        format!("; {} above at {price} {currency} per {per}", units(*overage))
                    }
                    None => String::new(),
                };
                (named(resource_type), format!("{} used, {of} included{sold}", units(*used)))
            }
            Item::Gauge { resource_type, charge_by, held, included: limit, price, from, to, of, .. } => {
                let (by, held, limit) = (charge_by.words(), held.told(*charge_by), included(*limit));
                let (per, currency, price) = (grouped(price.per()), bill.terms.currency, price.price());
                let (share, parts) = (to - from, bill.terms.proration.as_str());
                let detail = format!(
                    "{held} held {by}, {limit} included; what is above at {price} {currency} per {per} a month, \
                     {share} of {of} {parts}s"
                );
                (named(resource_type), detail)
            }
            Item::Correction { resource_type, used_before, used, .. } => {
                let (now, before) = (units(*used), units(*used_before));
                let title = format!("{}, correction", named(resource_type));
                (title, format!("{now} were used in an earlier period, {before} were billed"))
            }
        };
        Line { number: 0, title, detail, amount: String::new(), evidence: None, verified: None }
    }
}

// === impl Evidence ===

impl Evidence {
    fn of(here: &TenantVisit, bill: &Bill, item: &Item) -> Option<Evidence> {
        match item {
            Item::Subscription { .. } => None,
            Item::Usage { resource_type, .. } => here.may("usage.read").then(|| Evidence {
                label: "What was counted",
                href: counted(&here.address(&format!("{PATH}/rows")), *resource_type, bill.period),
            }),
            Item::Gauge { resource_type, start, end, .. } => here.may("usage.read").then(|| Evidence {
                label: "What was held",
                href: counted(
                    &here.address(&format!("{PATH}/levels")),
                    *resource_type,
                    BillingPeriod { start: *start, end: *end },
                ),
            }),
            Item::Correction { corrects, .. } => {
                Some(Evidence { label: "The invoice that it corrects", href: address_of(here, *corrects) })
            }
        }
    }
}

// === impl File ===

impl File {
    fn all(here: &TenantVisit, name: &str, bill: &Bill) -> Vec<File> {
        let start = bill.terms.zone.date(bill.period.start);
        let file = |label, format, kept: bool| File {
            label,
            href: format!("/api/tenants/{}/invoices/{name}?format={format}", here.tenant.id),
            name: kept.then(|| format!("invoice-{}-{start}.{format}", here.tenant.slug)),
        };
        vec![file("JSON", "json", true), file("CSV", "csv", true), file("Print", "html", false)]
    }
}
