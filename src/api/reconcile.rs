//! `/api/reconcile`: whether till, journal and database agree.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::Problem;
use super::extract::Caller;
use super::router::Api;

pub(super) async fn show(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.reconcile(&principal).await?).into_response())
}
