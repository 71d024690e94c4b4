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
use crate::control::ControlError;
use crate::domain::billing::{Currency, SpendCap};

/// What a tenant means to spend in a period at most: it is told when the estimate reaches 80 and 100 percent of it.
#[derive(Serialize, ToSchema)]
#[schema(as = SpendCap)]
struct SpendCapView {
    amount_minor: i64,
    currency: Currency,
    /// With its decimals and its currency.
    amount: String,
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
}

/// Shows the tenant's spend cap.
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

/// Sets the tenant's spend cap. Nothing is refused because of it: the tenant is told.
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
    let cap = api.control.set_spend_cap(&principal, &tenant, &body.amount).await?;
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

impl From<SpendCap> for SpendCapView {
    fn from(cap: SpendCap) -> Self {
        let SpendCap { amount, set_at, set_by } = cap;
        SpendCapView {
            amount_minor: amount.minor,
            currency: amount.currency,
            amount: amount.to_string(),
            set_at,
            set_by,
        }
    }
}
