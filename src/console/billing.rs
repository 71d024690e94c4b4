//! What a tenant owes: the running estimate, its invoices, and the tier that it is to have.
//!
//! Nothing is computed here: what is shown is what the API answers, written for people. Documents to take along are the
//! API's own, which reads the same session.

use askama::Template;
use axum::response::Response;

use super::filters;
use super::forms::{Form, Posted, sentence};
use super::invoices::Document;
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text;
use crate::clock::Timestamp;
use crate::control::{CapInForce, ControlError, FieldFault, NewSpendCap, TenantChange};
use crate::domain::ResourceNames;
use crate::domain::billing::{
    AtCap, BadShares, Ceiling, Invoice, InvoiceId, InvoiceStatus, ScheduledTier, Shares,
};

#[derive(Template)]
#[template(path = "billing.html")]
struct BillingPage {
    layout: Layout,
    here: String,
    /// Or why there is none.
    estimate: Result<Document, String>,
    waiting: Option<Waiting>,
    invoices: Vec<InvoiceRow>,
    next: Option<String>,
    form: Form,
    may_finalize: bool,
    cap: Option<CapInForce>,
    /// What it leaves of each resource in this period, as people read it.
    leaves: Vec<(String, String)>,
    at_cap: [(&'static str, &'static str); 2],
    may_cap: bool,
}

struct InvoiceRow {
    id: InvoiceId,
    period: String,
    status: InvoiceStatus,
    total: String,
}

/// A tier that is to come, and the form that has it stay away.
pub(super) struct Waiting {
    pub(super) scheduled: ScheduledTier,
    /// Where the form is sent to.
    pub(super) address: String,
    /// The tenant's, as it was when this was shown.
    pub(super) version: i64,
    pub(super) may_withdraw: bool,
}

pub(super) const PATH: &str = "/billing";

const AT_CAP: [(&str, &str); 2] =
    [("notify", "Tell the tenant, and go on"), ("stop", "Tell the tenant, and refuse what costs more")];

/// `GET …/billing`
pub(super) async fn show(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    page(&here, &filters, Form::default()).await
}

async fn page(here: &TenantVisit, filters: &Filters, form: Form) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let listed = control.invoices(who, &here.named, None, &filters.page()?).await?;
    let names = ResourceNames::of(control.resource_types(who).await?);
    let estimate = match control.running_invoice(who, &here.named).await {
        Ok(bill) => Ok(Document::of(here, &names, "draft", &bill)),
        Err(error @ ControlError::Conflict(_)) => Err(sentence(&error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let address = here.address(PATH);
    let cap = control.spend_cap(who, &here.named).await?;
    let page = BillingPage {
        layout: here.layout("Billing", Tab::Billing),
        next: filters.next(&address, listed.next_cursor),
        here: address,
        estimate,
        waiting: waiting(here).await?,
        invoices: listed.items.iter().map(InvoiceRow::of).collect(),
        may_finalize: here.may("invoice.finalize"),
        leaves: leaves(cap.as_ref(), &names, here.visit.now),
        at_cap: AT_CAP,
        form: form.over(cap.as_ref().map_or_else(Form::default, typed)),
        cap,
        may_cap: here.may("spend_cap.set"),
    };
    of_form(&page.form, &page)
}

/// The tier that the tenant is to have, for whoever may know what it subscribes to.
pub(super) async fn waiting(here: &TenantVisit) -> Result<Option<Waiting>, Refusal> {
    if !here.shows(Tab::Billing) {
        return Ok(None);
    }
    let subscription = here.visit.control.subscription(&here.visit.principal, &here.named).await?;
    let waiting = |scheduled| Waiting {
        scheduled,
        address: here.address("/billing/scheduled/withdraw"),
        version: subscription.version,
        may_withdraw: here.may("tenant.change_terms"),
    };
    Ok(subscription.scheduled.map(waiting))
}

/// `POST …/billing/scheduled/withdraw`: the tenant keeps the tier that it has.
pub(super) async fn withdraw(
    here: TenantVisit,
    filters: Filters,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let change = TenantChange { tier: Some(here.tenant.tier.clone()), ..TenantChange::default() };
    // A form without a version can't be one that we have shown.
    let version = form.version().unwrap_or(0);
    let control = here.visit.control.expecting(Some(version));
    match control.change_tenant(&here.visit.principal, &here.named, change).await {
        Ok(tenant) => done(&here.visit, &here.address(PATH), &format!("The tier stays {}.", tenant.tier)),
        Err(error) => page(&here, &filters, form.refused(error)?).await,
    }
}

/// `POST …/billing/cap`: sets the spend cap; without an amount, there is none any more.
pub(super) async fn set_cap(
    here: TenantVisit,
    filters: Filters,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let outcome = match form.optional("amount") {
        Some(amount) => {
            let then = AtCap::parse(form.text("then")).unwrap_or_default();
            let shares = form.optional("shares").map(|shares| shares.parse()).transpose();
            let set = match shares {
                Ok(shares) => {
                    control.set_spend_cap(who, &here.named, &NewSpendCap { amount, then, shares }).await
                }
                Err(bad) => {
                    Err(ControlError::Invalid(vec![FieldFault::new("shares", BadShares::to_string(&bad))]))
                }
            };
            set.map(|set| format!("The spend cap is {}.", text::money(set.cap.amount)))
        }
        None => match control.remove_spend_cap(who, &here.named).await {
            Ok(()) | Err(ControlError::NotFound { what: "spend cap", .. }) => {
                Ok("There is no spend cap.".to_owned())
            }
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(said) => done(&here.visit, &here.address(PATH), &said),
        Err(error) => page(&here, &filters, form.refused(error)?).await,
    }
}

/// The present cap, as its form has it.
fn typed(CapInForce { cap, .. }: &CapInForce) -> Form {
    let shares = cap.shares.as_ref().map(Shares::to_string).unwrap_or_default();
    Form::filled([("then", cap.then.as_str()), ("shares", &shares)])
}

fn leaves(cap: Option<&CapInForce>, names: &ResourceNames, now: Timestamp) -> Vec<(String, String)> {
    let leaves = cap.into_iter().flat_map(|cap| &cap.leaves);
    let present = leaves.filter(|ceiling| ceiling.starts_at <= now && now < ceiling.ends_at);
    let told = |ceiling: &Ceiling| {
        let resource = ceiling.resource_type;
        (names.display(resource), names.told(resource, ceiling.limit.get()))
    };
    present.map(told).collect()
}

/// `POST …/billing/finalize`
pub(super) async fn finalize(
    here: TenantVisit,
    filters: Filters,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    match here.visit.control.finalize_invoice(&here.visit.principal, &here.named).await {
        Ok(invoice) => {
            let address = here.address(&format!("{PATH}/invoices/{}", invoice.id));
            done(&here.visit, &address, "The invoice is final: it never changes from now on.")
        }
        Err(error) => page(&here, &filters, form.refused(error)?).await,
    }
}

// === impl InvoiceRow ===

impl InvoiceRow {
    fn of(invoice: &Invoice) -> InvoiceRow {
        let bill = &invoice.bill;
        InvoiceRow {
            id: invoice.id,
            period: text::days(bill.period, &bill.terms.zone),
            status: invoice.status,
            total: text::money(bill.money(bill.total_minor)),
        }
    }
}
