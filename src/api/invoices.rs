//! `/api/tenants/{tenant}/invoices` and `…/subscription`: what is owed, for what, and on which terms.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::export::{self, Column, Form, Formats};
use super::extract::{Caller, InvoicePath, Json, OptionalJson, Params, TenantPath};
use super::openapi::{Paged, query};
use super::router::Api;
use super::tag::tagged;
use super::tenants::{named_as_here, viewed};
use crate::clock::Timestamp;
use crate::control::{Subscription, TierChangePreview, Verification};
use crate::domain::billing::{
    Bill, BillingPeriod, CollectorKind, Currency, Invoice, InvoiceId, InvoiceLine, InvoiceStatus, Item,
    Proration, Rounding,
};
use crate::domain::{TenantId, Zone};
use crate::store::Listed;

/// What is owed for a period.
#[derive(Serialize, ToSchema)]
#[schema(as = Invoice)]
struct InvoiceView {
    /// `null` of a draft.
    invoice_id: Option<InvoiceId>,
    tenant_id: TenantId,
    status: InvoiceStatus,
    period: BillingPeriod,
    currency: Currency,
    /// What the parts of a price are counted in.
    proration: Proration,
    rounding: Rounding,
    timezone: Zone,
    bill_to: String,
    billing_email: Option<String>,
    lines: Vec<LineView>,
    total_minor: i64,
    /// With its decimals and its currency.
    total: String,
    finalized_at: Option<Timestamp>,
    status_at: Option<Timestamp>,
    status_reason: Option<String>,
    /// When all usage of the period had reached its collector.
    exported_at: Option<Timestamp>,
    exported_to: Option<CollectorKind>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InvoiceLine)]
struct LineView {
    line: u32,
    description: String,
    amount_minor: i64,
    amount: String,
    item: Item,
    /// Where the rows are that were counted, as long as they are kept.
    evidence: Option<String>,
}

/// The body of `POST …/subscription/preview`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewBody {
    #[schema(example = "business")]
    tenant_tier: String,
}

/// The body of `POST …/invoices/{invoice}/void`.
#[derive(Deserialize, Default, ToSchema)]
#[schema(as = VoidBody)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VoidBody {
    reason: Option<String>,
}

/// In which form.
enum InForm {}

/// Which of them.
enum InState {}

const COLUMNS: [Column; 19] = [
    ("invoice_id", &["invoice_id"]),
    ("tenant_id", &["tenant_id"]),
    ("period_start", &["period_start"]),
    ("period_end", &["period_end"]),
    ("line", &["line"]),
    ("kind", &["item", "kind"]),
    ("description", &["description"]),
    ("tier", &["item", "tier"]),
    ("tier_version", &["item", "tier_version"]),
    ("resource_type", &["item", "resource_type"]),
    ("used", &["item", "used"]),
    ("included", &["item", "included"]),
    ("overage", &["item", "overage"]),
    ("amount_minor", &["amount_minor"]),
    ("amount", &["amount"]),
    ("currency", &["currency"]),
    ("charge_by", &["item", "charge_by"]),
    ("maximum", &["item", "held", "maximum"]),
    ("average", &["item", "held", "average"]),
];

/// A line as a row of its own.
#[derive(Serialize)]
struct LineRow<'i> {
    invoice_id: Option<InvoiceId>,
    tenant_id: TenantId,
    period_start: Timestamp,
    period_end: Timestamp,
    currency: Currency,
    #[serde(flatten)]
    line: &'i LineView,
}

/// Shows which plan a tenant has had from when on, and what is to change.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/subscription",
    responses((status = 200, description = "The subscription", body = Subscription, headers(("ETag" = String)))),
)]
pub(super) async fn subscription(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let subscription = api.control.subscription(&principal, &tenant).await?;
    Ok(tagged(Some(subscription.version), subscription))
}

/// Shows what another tier would change and cost; changes nothing. To have it, PATCH the tenant with this `ETag`.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/subscription/preview",
    request_body = PreviewBody,
    responses(
        (status = 200, description = "What it would be", body = TierChangePreview, headers(("ETag" = String))),
    ),
)]
pub(super) async fn preview(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<PreviewBody>,
) -> Result<Response, Problem> {
    let preview = api.control.tier_change_preview(&principal, &tenant, &body.tenant_tier).await;
    let preview = preview.map_err(named_as_here)?;
    Ok(tagged(Some(preview.version), preview))
}

/// Lists a tenant's finalized invoices, the newest first; as JSON, NDJSON or CSV, of which the latter has a row per line.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/invoices",
    params(InState, Paged, Formats),
    responses((status = 200, description = "One page", body = Listed<InvoiceView>, headers(("X-Next-Cursor" = String)))),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let state = params.read("state", "finalized, exported, paid or void", InvoiceStatus::parse);
    let (page, form) = export::page(params, &headers)?;
    let listed = api.control.invoices(&principal, &tenant, state, &page).await?;
    let listed = viewed(listed, InvoiceView::from);
    Ok(match form {
        Form::Csv => {
            let rows = Listed {
                items: listed.items.iter().flat_map(InvoiceView::rows).collect(),
                next_cursor: listed.next_cursor.clone(),
                total: None,
            };
            export::listed(form, rows, &COLUMNS)
        }
        Form::Json | Form::Ndjson | Form::Html => export::listed(form, listed, &COLUMNS),
    })
}

/// Shows what is owed for the present period as of now: the running estimate.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/invoices/draft",
    params(InForm),
    responses(
        (status = 200, description = "The draft; JSON, CSV or printable HTML", body = InvoiceView),
    ),
)]
pub(super) async fn draft(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let form = form(&headers, params)?;
    let bill = api.control.running_invoice(&principal, &tenant).await?;
    Ok(InvoiceView::from(bill).into_form(form))
}

/// Shows an invoice.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/invoices/{invoice}",
    params(InForm),
    responses(
        (status = 200, description = "The invoice; JSON, CSV or printable HTML", body = InvoiceView),
    ),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    InvoicePath(id): InvoicePath,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let form = form(&headers, params)?;
    let invoice = api.control.invoice(&principal, &tenant, id).await?;
    Ok(InvoiceView::from(invoice).into_form(form))
}

/// Finalizes the invoice of the first period that is over and has none; the last one again if there is no such period.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/invoices/finalize",
    responses((status = 200, description = "The invoice, which never changes from now on", body = InvoiceView)),
)]
pub(super) async fn finalize(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let invoice = api.control.finalize_invoice(&principal, &tenant).await?;
    Ok(axum::Json(InvoiceView::from(invoice)).into_response())
}

/// Takes back an invoice that was not paid; its period may then be finalized again.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/invoices/{invoice}/void",
    request_body = Option<VoidBody>,
    responses((status = 200, description = "The invoice as it is now", body = InvoiceView)),
)]
pub(super) async fn void(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    InvoicePath(id): InvoicePath,
    OptionalJson(body): OptionalJson<VoidBody>,
) -> Result<Response, Problem> {
    let invoice = api.control.void_invoice(&principal, &tenant, id, body.reason.as_deref()).await?;
    Ok(axum::Json(InvoiceView::from(invoice)).into_response())
}

/// Notes that an invoice was paid.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/invoices/{invoice}/paid",
    responses((status = 200, description = "The invoice as it is now", body = InvoiceView)),
)]
pub(super) async fn paid(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    InvoicePath(id): InvoicePath,
) -> Result<Response, Problem> {
    let invoice = api.control.pay_invoice(&principal, &tenant, id).await?;
    Ok(axum::Json(InvoiceView::from(invoice)).into_response())
}

/// Computes an invoice again from the ledger and says, line by line, whether it is the same.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/invoices/{invoice}/verify",
    responses((status = 200, description = "What was found", body = Verification)),
)]
pub(super) async fn verify(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    InvoicePath(id): InvoicePath,
) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.verify_invoice(&principal, &tenant, id).await?).into_response())
}

/// A link says it in its query, a program in its header.
fn form(headers: &HeaderMap, mut params: Params) -> Result<Form, Problem> {
    let asked = params.read("format", "json, csv or html", |text| match text {
        "json" => Some(Form::Json),
        "csv" => Some(Form::Csv),
        "html" => Some(Form::Html),
        _ => None,
    });
    params.finish()?;
    Ok(asked.unwrap_or_else(|| Form::accepted(headers)))
}

// === impl InForm ===

impl utoipa::IntoParams for InState {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query::<InvoiceStatus>("state", "Only those in this state")]
    }
}

impl utoipa::IntoParams for InForm {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query::<String>("format", "json, csv or html; if absent, as `Accept` says")]
    }
}

// === impl InvoiceView ===

impl InvoiceView {
    fn rows(&self) -> impl Iterator<Item = LineRow<'_>> {
        self.lines.iter().map(|line| LineRow {
            invoice_id: self.invoice_id,
            tenant_id: self.tenant_id,
            period_start: self.period.start,
            period_end: self.period.end,
            currency: self.currency,
            line,
        })
    }

    fn into_form(self, form: Form) -> Response {
        match form {
            Form::Json | Form::Ndjson => axum::Json(self).into_response(),
            Form::Csv => {
                let rows: Vec<_> = self.rows().collect();
                export::in_csv(&rows, &COLUMNS)
            }
            Form::Html => {
                let kind = HeaderValue::from_static("text/html; charset=utf-8");
                (StatusCode::OK, [(header::CONTENT_TYPE, kind)], self.page()).into_response()
            }
        }
    }

    /// One page without a script or a picture, for the eye and for paper.
    fn page(&self) -> String {
        let number = self.invoice_id.map_or_else(|| "Draft".to_owned(), |id| format!("Invoice {id}"));
        let day = |at: Timestamp| self.timezone.date(at);
        let rows: String = self.lines.iter().map(LineView::row).collect();
        let status = self.status.as_str();
        let mail =
            self.billing_email.as_deref().map(|mail| format!("<br>{}", escaped(mail))).unwrap_or_default();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{number}</title>\n</head>\n\
             <body>\n<h1>{number}</h1>\n<p>{bill_to}{mail}</p>\n\
             <p>Period: {start} to {end} (exclusive), {zone}. Status: {status}.</p>\n\
             <table border=\"1\" cellpadding=\"6\">\n\
             <thead><tr><th scope=\"col\">#</th><th scope=\"col\">Description</th><th scope=\"col\">Amount</th></tr></thead>\n\
             <tbody>\n{rows}</tbody>\n\
             <tfoot><tr><th scope=\"row\" colspan=\"2\">Total</th><td>{total}</td></tr></tfoot>\n\
             </table>\n<p>Parts of a price are counted by the {proration}. Taxes are not in it.</p>\n</body>\n</html>\n",
            bill_to = escaped(&self.bill_to),
            start = day(self.period.start),
            end = day(self.period.end),
            zone = escaped(self.timezone.name()),
            total = self.total,
            proration = self.proration.as_str(),
        )
    }
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl From<Bill> for InvoiceView {
    fn from(bill: Bill) -> Self {
        let view = |(number, line): (u32, &InvoiceLine)| LineView::of(&bill, number, line);
        let lines = (1..).zip(&bill.lines).map(view).collect();
        InvoiceView {
            invoice_id: None,
            tenant_id: bill.tenant,
            status: InvoiceStatus::Draft,
            period: bill.period,
            currency: bill.terms.currency,
            proration: bill.terms.proration,
            rounding: bill.terms.rounding,
            total_minor: bill.total_minor,
            total: bill.money(bill.total_minor).to_string(),
            timezone: bill.terms.zone,
            bill_to: bill.bill_to,
            billing_email: bill.billing_email,
            lines,
            finalized_at: None,
            status_at: None,
            status_reason: None,
            exported_at: None,
            exported_to: None,
        }
    }
}

impl From<Invoice> for InvoiceView {
    fn from(invoice: Invoice) -> Self {
        InvoiceView {
            invoice_id: Some(invoice.id),
            status: invoice.status,
            finalized_at: Some(invoice.finalized_at),
            status_at: Some(invoice.status_at),
            status_reason: invoice.status_reason,
            exported_at: invoice.exported.map(|exported| exported.at),
            exported_to: invoice.exported.map(|exported| exported.collector),
            ..invoice.bill.into()
        }
    }
}

// === impl LineView ===

impl LineView {
    fn of(bill: &Bill, number: u32, line: &InvoiceLine) -> LineView {
        let (tenant, BillingPeriod { start, end }) = (bill.tenant, bill.period);
        let evidence = match &line.item {
            Item::Usage { resource_type, .. } => Some(format!(
                "/api/tenants/{tenant}/usage-logs?resource_type={resource_type}&from={start}&to={end}"
            )),
            Item::Gauge { resource_type, start, end, .. } => {
                Some(format!("/api/tenants/{tenant}/gauges/{resource_type}/levels?from={start}&to={end}"))
            }
            Item::Subscription { .. } | Item::Correction { .. } => None,
        };
        LineView {
            line: number,
            description: line.item.description(),
            amount_minor: line.amount_minor,
            amount: bill.money(line.amount_minor).to_string(),
            item: line.item.clone(),
            evidence,
        }
    }

    fn row(&self) -> String {
        let LineView { line, description, amount, .. } = self;
        format!("<tr><td>{line}</td><td>{}</td><td>{amount}</td></tr>\n", escaped(description))
    }
}
