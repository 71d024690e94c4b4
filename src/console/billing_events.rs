//! Usage on its way to whoever collects what is owed: what waits, what was given up and why, and what people decide of it.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use uuid::Uuid;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::Layout;
use super::lists::{Filters, any_of, done, of_form, word};
use super::page::html;
use super::refusal::Refusal;
use super::session::Visit;
use crate::control::ControlError;
use crate::domain::ResourceNames;
use crate::domain::billing::{BillingEvent, BillingEventId, BillingEventState, Settled};

#[derive(Template)]
#[template(path = "billing_events.html")]
struct EventsPage {
    layout: Layout,
    here: &'static str,
    events: Vec<Row>,
    states: Vec<(String, String)>,
    next: Option<String>,
    form: Form,
}

#[derive(Template)]
#[template(path = "billing_event.html")]
struct EventPage {
    layout: Layout,
    here: String,
    back: &'static str,
    row: Row,
    settled: [(&'static str, &'static str); 2],
    may_resend: bool,
    may_settle: bool,
    form: Form,
}

struct Row {
    event: BillingEvent,
    resource: String,
    units: String,
}

const EVENTS: &str = "/console/billing-events";

const SETTLED: [(&str, &str); 2] =
    [("delivered", "It is there, or was entered there by hand"), ("abandoned", "It is billed to nobody")];

/// `GET /console/billing-events?state=…`
pub(super) async fn list(visit: Visit, filters: Filters) -> Result<Response, Refusal> {
    let state = BillingEventState::parse(filters.0.text("state"));
    let listed = visit.control.billing_events(&visit.principal, None, state, &filters.page()?).await?;
    let names = visit.names().await?;
    html(&EventsPage {
        layout: visit.layout("Usage to be billed"),
        here: EVENTS,
        next: filters.next(EVENTS, listed.next_cursor),
        events: listed.items.into_iter().map(|event| Row::of(event, &names)).collect(),
        states: any_of(BillingEventState::ALL.map(|state| word(state.as_str()))),
        form: filters.0,
    })
}

/// `GET /console/billing-events/{event}`
pub(super) async fn show(visit: Visit, Path(id): Path<Uuid>) -> Result<Response, Refusal> {
    page(&visit, BillingEventId(id), Form::default()).await
}

async fn page(visit: &Visit, id: BillingEventId, form: Form) -> Result<Response, Refusal> {
    let event = visit.control.billing_event(&visit.principal, id).await?;
    let is_dead = event.state == BillingEventState::Dead;
    let page = EventPage {
        layout: visit.layout("Usage to be billed"),
        here: format!("{EVENTS}/{id}"),
        back: EVENTS,
        row: Row::of(event, &visit.names().await?),
        settled: SETTLED,
        may_resend: is_dead && visit.may("billing_event.resend"),
        may_settle: is_dead && visit.may("billing_event.settle"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST /console/billing-events/{event}/resend`
pub(super) async fn resend(
    visit: Visit,
    Path(id): Path<Uuid>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let outcome = visit.control.resend_billing_event(&visit.principal, BillingEventId(id)).await;
    answered(&visit, id, form, outcome, "It is on its way again.").await
}

/// `POST /console/billing-events/{event}/settle`
pub(super) async fn settle(
    visit: Visit,
    Path(id): Path<Uuid>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let settled = match form.text("as") {
        "abandoned" => Settled::Abandoned,
        _ => Settled::Delivered,
    };
    let (event, reason) = (BillingEventId(id), form.text("reason").to_owned());
    let outcome = visit.control.settle_billing_event(&visit.principal, event, settled, Some(&reason)).await;
    answered(&visit, id, form, outcome, "It is settled.").await
}

async fn answered(
    visit: &Visit,
    id: Uuid,
    form: Form,
    outcome: Result<BillingEvent, ControlError>,
    said: &str,
) -> Result<Response, Refusal> {
    match outcome {
        Ok(_) => done(visit, &format!("{EVENTS}/{id}"), said),
        Err(error) => page(visit, BillingEventId(id), form.refused(error)?).await,
    }
}

// === impl Row ===

impl Row {
    fn of(event: BillingEvent, names: &ResourceNames) -> Row {
        let resource = names.display(event.resource);
        let units = names.told(event.resource, event.units.get());
        Row { event, resource, units }
    }
}
