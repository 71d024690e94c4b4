//! `/api/tenants/{tenant}/health`, `…/children`, and `/api/tenants/metrics`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Params, TenantPath};
use super::openapi::Paged;
use super::router::Api;
use super::tenants::{TenantView, viewed};
use crate::control::TenantHealth;
use crate::store::Listed;

/// All tenants in numbers; deleted ones are counted by their status only.
#[derive(Serialize, Default, ToSchema)]
#[schema(as = PlatformMetrics)]
struct MetricsView {
    tenants: u64,
    by_status: BTreeMap<String, u64>,
    by_tier: BTreeMap<String, u64>,
}

/// Shows how a tenant fares, and why.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/health",
    responses((status = 200, description = "Its health", body = TenantHealth)),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.health(&principal, &tenant).await?).into_response())
}

/// Lists the tenants right below a reseller.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/children",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<TenantView>)),
)]
pub(super) async fn children(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    let listed = api.control.children(&principal, &tenant, &page).await?;
    Ok(axum::Json(viewed(listed, TenantView::from)).into_response())
}

/// Counts all tenants, by status and by tier.
#[utoipa::path(
    get, path = "/api/tenants/metrics",
    responses((status = 200, description = "The numbers", body = MetricsView)),
)]
pub(super) async fn metrics(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    let mut metrics = MetricsView::default();
    for count in api.control.tenant_counts(&principal).await? {
        if count.status != "deleted" {
            metrics.tenants += count.tenants;
            *metrics.by_tier.entry(count.tier).or_default() += count.tenants;
        }
        *metrics.by_status.entry(count.status).or_default() += count.tenants;
    }
    Ok(axum::Json(metrics).into_response())
}
