//! Moving a tenant to another status, for a reason that its audit log keeps.

use askama::Template;
use axum::response::Response;

use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text::words;
use crate::control::{ControlError, FieldFault};
use crate::domain::{Tenant, TenantStatus};

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    layout: Layout,
    form: Form,
    tenant: Tenant,
    moves: Vec<(String, String)>,
}

/// `GET /console/tenants/{tenant}/status`
pub(super) async fn show(place: TenantVisit) -> Result<Response, Refusal> {
    let version = place.tenant.version.to_string();
    page(place, Form::filled([("version", version)]))
}

/// `POST /console/tenants/{tenant}/status`
pub(super) async fn set(place: TenantVisit, Posted(form): Posted) -> Result<Response, Refusal> {
    match moved(&place, &form).await {
        Ok(tenant) => {
            let status = words(tenant.status.as_str()).to_lowercase();
            done(&place.visit, &place.address(""), &format!("{} is {status} now.", tenant.name))
        }
        Err(error) => page(place, form.refused(error)?),
    }
}

async fn moved(place: &TenantVisit, form: &Form) -> Result<Tenant, ControlError> {
    let status = TenantStatus::parse(form.text("status"));
    let status =
        status.ok_or_else(|| ControlError::Invalid(vec![FieldFault::new("status", "Choose a status.")]))?;
    let control = place.visit.control.expecting(form.version());
    control.set_status(&place.visit.principal, &place.named, status, form.optional("reason")).await
}

fn page(place: TenantVisit, form: Form) -> Result<Response, Refusal> {
    let moves = place.tenant.status.moves().iter();
    let moves = moves.map(|status| (status.as_str().to_owned(), words(status.as_str()))).collect();
    let layout = place.layout("Status", Tab::Overview);
    let page = StatusPage { layout, form, tenant: place.tenant, moves };
    of_form(&page.form, &page)
}
