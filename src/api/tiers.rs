//! `/api/tiers` and `/api/resource-types`: what can be sold, and what is counted.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, Params};
use super::router::Api;
use crate::control::OfferedTier;
use crate::domain::{ResourceType, Tier, TierQuota};
use crate::store::Listed;

/// The body of `POST /api/tiers`.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewTierBody)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTierBody {
    slug: String,
    display: String,
    /// Per month, in minor units of the currency.
    price_minor: i64,
    /// ISO 4217.
    currency: String,
    retention_days: i64,
    /// `basic`, `standard`, `advanced` or `enterprise`.
    security_level: String,
    #[serde(default)]
    flags: Vec<String>,
    quotas: Vec<TierQuota>,
}

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

/// Sells a tier so from now on: as its next version, or as a new tier. Tenants keep the version that they have until their
/// tier changes.
#[utoipa::path(
    post, path = "/api/tiers",
    request_body = NewTierBody,
    responses((status = 200, description = "The tier as it is sold now", body = OfferedTier)),
)]
pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    Json(body): Json<NewTierBody>,
) -> Result<Response, Problem> {
    let NewTierBody { slug, display, price_minor, currency, retention_days, security_level, flags, quotas } =
        body;
    let version = 0;
    let tier =
        Tier { slug, version, display, price_minor, currency, retention_days, security_level, flags, quotas };
    let sold = api.control.set_tier(&principal, tier).await?;
    Ok(axum::Json(OfferedTier::from(sold)).into_response())
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
