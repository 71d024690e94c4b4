//! Where people arrive: at their tenant, at a choice of them, or at all tenants.

use askama::Template;
use axum::response::Response;

use super::layout::Layout;
use super::page::{html, see_other};
use super::refusal::Refusal;
use super::session::{HOME, Visit};
use crate::domain::Tenant;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    layout: Layout,
    tenants: Vec<Tenant>,
}

/// `GET /` and `GET /console`
pub(super) async fn redirect() -> Response {
    see_other(HOME)
}

/// `GET /console/`
pub(super) async fn show(visit: Visit) -> Result<Response, Refusal> {
    let tenants = visit.control.tenants_of(&visit.visitor).await?;
    if let [only] = tenants.as_slice() {
        return Ok(see_other(&format!("/console/tenants/{}", only.slug)));
    }
    if visit.is_platforms() && tenants.is_empty() {
        return Ok(see_other("/console/tenants"));
    }
    html(&HomePage { layout: visit.layout("Your tenants"), tenants })
}
