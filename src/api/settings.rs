//! `/api/tenants/{tenant}/settings`, and the rotation of what secrets are sealed with.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::error::Problem;
use super::extract::{Caller, IfMatch, Json, SettingPath, TenantPath};
use super::router::Api;
use super::tiers::whole;
use crate::control::{NewSetting, SettingView};

/// The body of `PUT …/settings/{key}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingBody {
    setting_value: Value,
    /// Whether it is sealed at rest and never shown; known settings say so themselves.
    is_encrypted: Option<bool>,
}

pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let settings = api.control.settings(&principal, &tenant).await?;
    Ok(axum::Json(whole(settings)).into_response())
}

pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
) -> Result<Response, Problem> {
    Ok(tagged(api.control.setting(&principal, &tenant, &key).await?))
}

pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
    IfMatch(if_version): IfMatch,
    Json(body): Json<SettingBody>,
) -> Result<Response, Problem> {
    let new = NewSetting { value: body.setting_value, is_encrypted: body.is_encrypted, if_version };
    Ok(tagged(api.control.set_setting(&principal, &tenant, &key, new).await?))
}

pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    SettingPath(key): SettingPath,
    IfMatch(if_version): IfMatch,
) -> Result<StatusCode, Problem> {
    api.control.remove_setting(&principal, &tenant, &key, if_version).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    Ok(axum::Json(api.control.rotate_secrets(&principal).await?).into_response())
}

/// With the version that the tenant's own value has as `ETag`.
fn tagged(setting: SettingView) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(Ok(tag)) = setting.version.map(|version| HeaderValue::from_str(&format!("\"{version}\""))) {
        headers.insert(header::ETAG, tag);
    }
    (headers, axum::Json(setting)).into_response()
}
