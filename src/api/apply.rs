//! `/api/apply`: tenants as a manifest declares them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, Params};
use super::router::Api;
use crate::control::{DryRun, Manifest, Planned};

/// What was done, or with `?dry_run=true` what would be.
#[derive(Serialize, ToSchema)]
struct Applied {
    dry_run: bool,
    changes: Vec<Planned>,
}

/// Brings tenants, limits and keys to what a manifest says.
#[utoipa::path(
    post, path = "/api/apply",
    request_body = Manifest,
    params(("dry_run" = Option<bool>, Query, description = "Only say what would be done")),
    responses((status = 200, description = "What was done", body = Applied)),
)]
pub(super) async fn apply(
    Caller(principal): Caller,
    State(api): State<Api>,
    mut params: Params,
    Json(manifest): Json<Manifest>,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run");
    params.finish()?;
    let wanted = if dry_run { DryRun::Yes } else { DryRun::No };
    let changes = api.control.apply(&principal, manifest, wanted).await?;
    Ok(axum::Json(Applied { dry_run, changes }).into_response())
}
