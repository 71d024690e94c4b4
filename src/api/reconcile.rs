//! `/api/reconcile`: whether till, journal and database agree.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::Problem;
use super::extract::Caller;
use super::router::Api;
use crate::control::Books;

/// Compares what till, journal and database say was used.
#[utoipa::path(
    get, path = "/api/reconcile",
    responses((status = 200, description = "The books", body = Books), (status = 409)),
)]
pub(super) async fn show(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.reconcile(&principal).await?).into_response())
}
