//! `/api/reports`: who is idle, and who has more than is needed.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::error::Problem;
use super::extract::{Caller, Params};
use super::openapi::{Paged, optional};
use super::router::Api;
use crate::control::LookBack;
use crate::domain::{IdleKey, Oversized, TenantUse};
use crate::store::{Listed, Page};

/// How far to look back.
enum Days {}

const DAYS: u32 = 30;
/// A tier is for a season, not for a month.
const OVERSIZED_DAYS: u32 = 90;

/// Lists tenants that are served and have used nothing for a while, the newest first.
#[utoipa::path(
    get, path = "/api/reports/idle-tenants",
    params(Days, Paged),
    responses((status = 200, description = "One page", body = Listed<TenantUse>)),
)]
pub(super) async fn idle_tenants(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let (back, page) = asked(params, DAYS)?;
    Ok(axum::Json(api.control.idle_tenants(&principal, back, &page).await?).into_response())
}

/// Lists tenants that are served and whose usage is billed to nobody, the newest first.
#[utoipa::path(
    get, path = "/api/reports/unbilled-tenants",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<TenantUse>)),
)]
pub(super) async fn unbilled_tenants(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    Ok(axum::Json(api.control.unbilled_tenants(&principal, &page).await?).into_response())
}

/// Lists keys that could be used and were not for a while, the newest first.
#[utoipa::path(
    get, path = "/api/reports/idle-keys",
    params(Days, Paged),
    responses((status = 200, description = "One page", body = Listed<IdleKey>)),
)]
pub(super) async fn idle_keys(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let (back, page) = asked(params, DAYS)?;
    Ok(axum::Json(api.control.idle_keys(&principal, back, &page).await?).into_response())
}

/// Lists tenants for which a cheaper tier would have done, by the busiest month, the newest first.
#[utoipa::path(
    get, path = "/api/reports/oversized",
    params(Days, Paged),
    responses((status = 200, description = "One page", body = Listed<Oversized>)),
)]
pub(super) async fn oversized(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let (back, page) = asked(params, OVERSIZED_DAYS)?;
    Ok(axum::Json(api.control.oversized(&principal, back, &page).await?).into_response())
}

fn asked(mut params: Params, usual: u32) -> Result<(LookBack, Page), Problem> {
    let days = params.number("days").unwrap_or(usual);
    let page = params.into_page()?;
    Ok((LookBack(days), page))
}

// === impl Days ===

impl utoipa::IntoParams for Days {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let days = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(730));
        let about = "How many days to look back; 30, or 90 for tiers, if nothing is said";
        vec![optional(ParameterIn::Query, "days", about, days.into())]
    }
}
