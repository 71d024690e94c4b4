//! `/api/tenants/{tenant}/spend-cap`: how much a tenant means to spend in a period at most.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, TenantPath};
use super::router::Api;
use crate::clock::Timestamp;
use crate::control::{CapInForce, ControlError, NewSpendCap};
use crate::domain::billing::{AtCap, Ceiling, Currency, Shares};

/// What a tenant means to spend in a period at most: it is told when the estimate reaches 80 and 100 percent of it.
#[derive(Serialize, ToSchema)]
#[schema(as = SpendCap)]
struct SpendCapView {
    amount_minor: i64,
    currency: Currency,
    /// With its decimals and its currency.
    amount: String,
    then: AtCap,
    /// `null`: each resource that is sold above its limit gets as much.
    shares: Option<Shares>,
    /// The limits that hold because of it; none if it only tells.
    leaves: Vec<Ceiling>,
    set_at: Timestamp,
    set_by: String,
}

/// The body of `PUT …/spend-cap`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendCapBody {
    /// Whole units of the currency that the tenant is billed in.
    #[schema(example = "500.00")]
    amount: String,
    /// Whether what would be charged for beyond it is refused; it is not, if this is absent.
    #[serde(default)]
    then: AtCap,
    /// How what it leaves is divided among resources; evenly, if this is absent.
    #[serde(default)]
    shares: Option<Shares>,
}

/// Shows the tenant's spend cap, and what it leaves.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/spend-cap",
    responses((status = 200, description = "The cap", body = SpendCapView)),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let none = || ControlError::NotFound { what: "spend cap", which: tenant.to_string() };
    let cap = api.control.spend_cap(&principal, &tenant).await?.ok_or_else(none)?;
    Ok(axum::Json(SpendCapView::from(cap)).into_response())
}

/// Sets the tenant's spend cap. With `then` `stop`, what would be charged for beyond it is refused, on all gateways.
#[utoipa::path(
    put, path = "/api/tenants/{tenant}/spend-cap",
    request_body = SpendCapBody,
    responses((status = 200, description = "The cap as it is now", body = SpendCapView)),
)]
pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<SpendCapBody>,
) -> Result<Response, Problem> {
    let SpendCapBody { amount, then, shares } = body;
    let cap = api.control.set_spend_cap(&principal, &tenant, &NewSpendCap { amount, then, shares }).await?;
    Ok(axum::Json(SpendCapView::from(cap)).into_response())
}

/// Removes the tenant's spend cap.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/spend-cap",
    responses((status = 204, description = "It has none")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<StatusCode, Problem> {
    api.control.remove_spend_cap(&principal, &tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl SpendCapView ===

impl From<CapInForce> for SpendCapView {
    fn from(CapInForce { cap, leaves }: CapInForce) -> Self {
        SpendCapView {
            amount_minor: cap.amount.minor,
            currency: cap.amount.currency,
            amount: cap.amount.to_string(),
            then: cap.then,
            shares: cap.shares,
            leaves,
            set_at: cap.set_at,
            set_by: cap.set_by,
        }
    }
}
