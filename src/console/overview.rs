//! A tenant at a glance: how it fares and why, what it used of what, and what it was told lately.

use askama::Template;
use axum::response::Response;

use super::layout::{Layout, Tab};
use super::live::Live;
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text::instant;
use crate::domain::Tenant;
use crate::store::{AlertFilter, Page};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    layout: Layout,
    tenant: Tenant,
    since: String,
    live: Live,
    /// When and what; `None` for who may not read them.
    alerts: Option<Vec<(String, String)>>,
    may_set_status: bool,
}

/// Alerts that are shown.
const ALERTS: i64 = 5;

/// `GET /console/tenants/{tenant}`
pub(super) async fn show(place: TenantVisit) -> Result<Response, Refusal> {
    let visit = &place.visit;
    let page = Page::new(Some(ALERTS), None, None).unwrap_or_default();
    let alerts = if place.may("alert.read") {
        let all = AlertFilter::default();
        let listed = visit.control.alerts(&visit.principal, &place.named, &all, &page).await?;
        let items = listed.items.into_iter();
        Some(items.map(|alert| (instant(alert.at), alert.summary)).collect())
    } else {
        None
    };
    html(&OverviewPage {
        layout: place.layout("Overview", Tab::Overview),
        live: Live::of(&place).await?,
        alerts,
        may_set_status: place.may("tenant.set_status"),
        since: instant(place.tenant.created_at),
        tenant: place.tenant,
    })
}
