//! The tenants that the visitor may see: found, filtered, sorted, page by page.

use askama::Template;
use axum::response::Response;

use super::forms::Form;
use super::layout::Layout;
use super::lists::Filters;
use super::page::html;
use super::refusal::Refusal;
use super::session::Visit;
use super::text::words;
use crate::domain::{Tenant, TenantStatus};
use crate::store::{TenantFilter, TenantSort};

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    layout: Layout,
    may_create: bool,
    filters: Form,
    statuses: Vec<(String, String)>,
    tiers: Vec<(String, String)>,
    sorts: Vec<(String, String)>,
    rows: Vec<Tenant>,
    total: String,
    next_page: Option<String>,
}

const SORTS: [(&str, &str); 5] = [
    ("", "Oldest first"),
    ("-created_at", "Newest first"),
    ("name", "Name"),
    ("-name", "Name, backwards"),
    ("slug", "Slug"),
];

/// `GET /console/tenants?q=&status=&tier=&sort=&cursor=`
pub(super) async fn list(visit: Visit, filters: Filters) -> Result<Response, Refusal> {
    let asked = &filters.0;
    let filter = TenantFilter {
        status: asked.optional("status").and_then(|text| TenantStatus::parse(&text)),
        tier: asked.optional("tier"),
        q: asked.optional("q"),
        ..TenantFilter::default()
    };
    let sort = TenantSort::parse(asked.text("sort")).unwrap_or_default();
    let listed = visit.control.tenants(&visit.principal, &filter, sort, &filters.page()?).await?;
    let tiers = visit.control.tiers(&visit.principal).await?;
    html(&TenantsPage {
        layout: visit.layout("Tenants"),
        may_create: visit.may("tenant.create") || visit.looks_after_tenants() && visit.may("children.manage"),
        statuses: any(TenantStatus::ALL.iter().map(|status| (status.as_str(), words(status.as_str())))),
        tiers: any(tiers.iter().map(|tier| (tier.slug.as_str(), tier.display.clone()))),
        sorts: SORTS.map(|(value, label)| (value.to_owned(), label.to_owned())).into(),
        rows: listed.items,
        total: listed.total.map_or_else(String::new, |total| total.to_string()),
        next_page: filters.next("/console/tenants", listed.next_cursor),
        filters: filters.0,
    })
}

/// Options of a filter, with that of no filter before them.
fn any<'a>(options: impl Iterator<Item = (&'a str, String)>) -> Vec<(String, String)> {
    let all = std::iter::once((String::new(), "Any".to_owned()));
    all.chain(options.map(|(value, label)| (value.to_owned(), label))).collect()
}
