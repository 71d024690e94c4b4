//! A tenant at a glance.

use askama::Template;
use axum::response::Response;

use super::layout::{Layout, Tab};
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::domain::Tenant;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    layout: Layout,
    tenant: Tenant,
    may_set_status: bool,
}

/// `GET /console/tenants/{tenant}`
pub(super) async fn show(place: TenantVisit) -> Result<Response, Refusal> {
    let layout = place.layout("Overview", Tab::Overview);
    html(&OverviewPage { layout, may_set_status: place.may("tenant.set_status"), tenant: place.tenant })
}
