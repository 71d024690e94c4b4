//! `/api/tenants/{tenant}/gauges/{resource}/levels`: what gauges held, which is what they are charged by.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::export::{self, Column, Formats};
use super::extract::{Caller, Params, ResourcePath, TenantPath};
use super::openapi::{Paged, query};
use super::router::Api;
use crate::clock::Timestamp;
use crate::domain::billing::{BillingPeriod, Level};
use crate::store::Listed;

/// Which time.
pub(super) enum Within {}

const COLUMNS: [Column; 2] = [("since", &["since"]), ("units", &["units"])];

/// Lists what a tenant held of a gauge, the oldest first: the level that held already when the time begins, and each that
/// it became; as JSON, NDJSON or CSV.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/gauges/{resource}/levels",
    params(Within, Paged, Formats),
    responses(
        (status = 200, description = "One page", body = Listed<Level>, headers(("X-Next-Cursor" = String))),
    ),
)]
pub(super) async fn levels(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ResourcePath(resource): ResourcePath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let (from, to) = (params.instant("from"), params.instant("to"));
    let (page, form) = export::page(params, &headers)?;
    let start = from.unwrap_or(Timestamp::from_seconds(0));
    let period = BillingPeriod { start, end: to.unwrap_or(Timestamp::MAX) };
    let listed = api.control.levels(&principal, &tenant, resource, period, &page).await?;
    Ok(export::listed(form, listed, &COLUMNS))
}

// === impl Within ===

impl utoipa::IntoParams for Within {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<Timestamp>("from", "What held then, and what it became"),
            query::<Timestamp>("to", "Before this instant"),
        ]
    }
}
