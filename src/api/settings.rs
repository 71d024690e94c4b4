//! `/api/tenants/{tenant}/settings`, and the rotation of what secrets are sealed with.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, Params, SettingPath, TenantPath};
use super::router::Api;
use super::tag::{IfMatch, tagged};
use super::tiers::whole;
use crate::control::{NewSetting, Rotated, SettingView};
use crate::store::Listed;

/// The body of `PUT …/settings/{key}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingBody {
    setting_value: Value,
    /// Whether it is sealed at rest and never shown; known settings say so themselves.
    is_encrypted: Option<bool>,
}

/// Lists all settings that are known, and those that the tenant has set beside them.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/settings",
    responses((status = 200, description = "All of them", body = Listed<SettingView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let settings = api.control.settings(&principal, &tenant).await?;
    Ok(axum::Json(whole(settings)).into_response())
}

/// Shows a setting; never the text of a secret.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/settings/{setting}",
    responses(
        ( status = 200, description = "The setting", body = SettingView, headers(("ETag" = String)), ),
    ),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
) -> Result<Response, Problem> {
    let setting = api.control.setting(&principal, &tenant, &key).await?;
    Ok(tagged(setting.version, setting))
}

/// Sets a setting.
#[utoipa::path(
    put, path = "/api/tenants/{tenant}/settings/{setting}",
    params(IfMatch),
    request_body = SettingBody,
    responses(
        (
            status = 200,
            description = "The setting as it is now",
            body = SettingView,
            headers(("ETag" = String)),
        ),
    ),
)]
pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
    IfMatch(version): IfMatch,
    Json(body): Json<SettingBody>,
) -> Result<Response, Problem> {
    let new = NewSetting { value: body.setting_value, is_encrypted: body.is_encrypted };
    let setting = api.control.expecting(version).set_setting(&principal, &tenant, &key, new).await?;
    Ok(tagged(setting.version, setting))
}

/// Forgets what the tenant has set; what is inherited or the default holds again.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/settings/{setting}",
    params(IfMatch),
    responses((status = 204, description = "Forgotten")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
    IfMatch(version): IfMatch,
) -> Result<StatusCode, Problem> {
    api.control.expecting(version).remove_setting(&principal, &tenant, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wraps all tenants' keys with the newest key for secrets.
#[utoipa::path(
    post, path = "/api/secrets/rotate",
    responses((status = 200, description = "Done", body = Rotated)),
)]
pub(super) async fn rotate(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.rotate_secrets(&principal).await?).into_response())
}
