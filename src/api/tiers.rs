//! `/api/tiers` and `/api/resource-types`: what can be sold, and what is counted.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::Problem;
use super::extract::{Caller, Params};
use super::router::Api;
use crate::control::OfferedTier;
use crate::domain::ResourceType;
use crate::store::Listed;

/// Lists the tiers, each in its newest version; without prices to tenants below a reseller.
#[utoipa::path(
    get, path = "/api/tiers",
    responses((status = 200, description = "All of them", body = Listed<OfferedTier>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    Ok(axum::Json(whole(api.control.offered_tiers(&principal).await?)).into_response())
}

/// Lists what is counted.
#[utoipa::path(
    get, path = "/api/resource-types",
    responses((status = 200, description = "All of them", body = Listed<ResourceType>)),
)]
pub(super) async fn resource_types(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    Ok(axum::Json(whole(api.control.resource_types(&principal).await?)).into_response())
}

/// A list that is short enough to be one page.
pub(super) fn whole<T>(items: Vec<T>) -> Listed<T> {
    let total = u64::try_from(items.len()).ok();
    Listed { items, next_cursor: None, total }
}
