//! `/api/bulk-operations`: one thing done to many tenants.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::extract::{Caller, Json, OperationPath, Params};
use super::openapi::{Paged, query};
use super::router::Api;
use crate::control::NewBulkOperation;
use crate::domain::{BulkAction, BulkFilter, BulkItem, BulkItemState, BulkOperation};
use crate::store::Listed;

/// The body of `POST /api/bulk-operations` and of its dry run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBulkOperationBody {
    filter: BulkFilter,
    action: BulkAction,
}

/// Which of an operation's tenants.
enum ItemFilters {}

/// Has one thing done to many tenants, by and by: one tenant in one transaction.
#[utoipa::path(
    post, path = "/api/bulk-operations",
    request_body = NewBulkOperationBody,
    responses(
        (status = 201, description = "Begun", body = BulkOperation, headers(("Location" = String))),
    ),
)]
pub(super) async fn create(
    Caller(principal): Caller,
    State(api): State<Api>,
    Json(body): Json<NewBulkOperationBody>,
) -> Result<Response, Problem> {
    let operation = api.control.create_bulk_operation(&principal, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/bulk-operations/{}", operation.id))];
    Ok((StatusCode::CREATED, location, axum::Json(operation)).into_response())
}

/// Says what an operation would do to each tenant, and changes nothing.
#[utoipa::path(
    post, path = "/api/bulk-operations/dry-run",
    request_body = NewBulkOperationBody,
    params(Paged),
    responses((status = 200, description = "One page of its tenants", body = Listed<BulkItem>)),
)]
pub(super) async fn dry_run(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
    Json(body): Json<NewBulkOperationBody>,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    let planned = api.control.plan_bulk_operation(&principal, body.into(), &page).await?;
    Ok(axum::Json(planned).into_response())
}

/// Lists operations, the newest first.
#[utoipa::path(
    get, path = "/api/bulk-operations",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<BulkOperation>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    Ok(axum::Json(api.control.bulk_operations(&principal, &page).await?).into_response())
}

/// Shows an operation, and how far it has come.
#[utoipa::path(
    get, path = "/api/bulk-operations/{operation}",
    responses((status = 200, description = "The operation", body = BulkOperation)),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    OperationPath(id): OperationPath,
) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.bulk_operation(&principal, id).await?).into_response())
}

/// Lists what came of each tenant, the newest tenants first.
#[utoipa::path(
    get, path = "/api/bulk-operations/{operation}/items",
    params(ItemFilters, Paged),
    responses((status = 200, description = "One page", body = Listed<BulkItem>)),
)]
pub(super) async fn items(
    Caller(principal): Caller,
    State(api): State<Api>,
    OperationPath(id): OperationPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let state = params.read("state", "pending, changed, unchanged or failed", BulkItemState::parse);
    let page = params.into_page()?;
    Ok(axum::Json(api.control.bulk_items(&principal, id, state, &page).await?).into_response())
}

/// Has nothing more done of an operation; what was done stays.
#[utoipa::path(
    post, path = "/api/bulk-operations/{operation}/cancel",
    responses((status = 200, description = "The operation as it is now", body = BulkOperation)),
)]
pub(super) async fn cancel(
    Caller(principal): Caller,
    State(api): State<Api>,
    OperationPath(id): OperationPath,
) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.cancel_bulk_operation(&principal, id).await?).into_response())
}

/// Goes on with an operation that was cancelled, and tries again what was refused.
#[utoipa::path(
    post, path = "/api/bulk-operations/{operation}/resume",
    responses((status = 200, description = "The operation as it is now", body = BulkOperation)),
)]
pub(super) async fn resume(
    Caller(principal): Caller,
    State(api): State<Api>,
    OperationPath(id): OperationPath,
) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.resume_bulk_operation(&principal, id).await?).into_response())
}

// === impl NewBulkOperationBody ===

impl From<NewBulkOperationBody> for NewBulkOperation {
    fn from(NewBulkOperationBody { filter, action }: NewBulkOperationBody) -> Self {
        NewBulkOperation { filter, action }
    }
}

// === impl ItemFilters ===

impl utoipa::IntoParams for ItemFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query::<BulkItemState>("state", "Only those in this state")]
    }
}
