//! `/api/tenants/{tenant}/keys` and `/api/keys`

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, KeyPath, OptionalJson, Params, TenantPath};
use super::openapi::Paged;
use super::router::Api;
use super::tag::{IfMatch, tagged};
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::control::{Brought, CreatedKey, FieldFault, KeyChange, NewKey};
use crate::domain::{ApiKey, ApiKeyId, KeyLimits, TenantId};
use crate::store::Listed;

/// A key, as the API shows it: without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyView {
    key_id: ApiKeyId,
    tenant_id: TenantId,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    routes: Vec<String>,
    #[schema(value_type = Vec<String>)]
    networks: Vec<IpNet>,
    enabled: bool,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    version: i64,
}

/// A key at the only moment when its text is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedKey)]
struct CreatedKeyView {
    #[serde(flatten)]
    view: KeyView,
    /// Absent for a key that was brought along.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The body of `POST …/keys`. Empty lists allow everything, except administration, which needs a scope.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    routes: Vec<String>,
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    networks: Vec<IpNet>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    test: bool,
    /// SHA-256, in hexadecimal digits, of a key that another system made: the platform's to bring along.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    sha256: Option<String>,
    /// The name in the client certificate of whoever needs no key's text: the platform's to vouch for.
    certificate: Option<String>,
}

/// The body of `PATCH …/keys/{key}`: what is not there stays.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyChangeBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    scopes: Option<Vec<String>>,
    routes: Option<Vec<String>>,
    #[schema(value_type = Option<Vec<String>>)]
    networks: Option<Vec<IpNet>>,
    #[schema(value_type = Option<Timestamp>)]
    #[serde(deserialize_with = "null_is_never")]
    expires_at: Option<Option<Timestamp>>,
    enabled: Option<bool>,
}

/// The body of `POST …/keys/{key}/rotate`; may be missing altogether.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RotateBody {
    /// How long the old key goes on working; a day if nothing is said.
    #[schema(maximum = 7_776_000)]
    grace_seconds: Option<u64>,
}

const GRACE: Duration = Duration::from_secs(24 * 3600);

fn null_is_never<'de, D>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Lists the keys of a tenant, without their texts.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/keys",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<KeyView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    let listed = api.control.keys(&principal, &tenant, &page).await?;
    Ok(axum::Json(viewed(listed, KeyView::from)).into_response())
}

/// Makes a key, whose text is shown this once; or brings along another system's, known by its hash.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/keys",
    request_body = NewKeyBody,
    responses((status = 201, description = "Made", body = CreatedKeyView)),
)]
pub(super) async fn create(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(mut body): Json<NewKeyBody>,
) -> Result<Response, Problem> {
    if let Some(brought) = body.brought()? {
        return Ok(made(api.control.import_key(&principal, &tenant, body.into(), &brought).await?, None));
    }
    let CreatedKey { key, text } = api.control.create_key(&principal, &tenant, body.into()).await?;
    Ok(made(key, Some(text)))
}

/// Shows a key, without its text.
#[utoipa::path(
    get, path = "/api/keys/{key}",
    responses((status = 200, description = "The key", body = KeyView, headers(("ETag" = String)))),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    Ok(shown(api.control.key(&principal, key).await?))
}

/// Shows a key of a tenant, without its text.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/keys/{key}",
    responses((status = 200, description = "The key", body = KeyView, headers(("ETag" = String)))),
)]
pub(super) async fn show_of_tenant(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    let within = api.control.within(&principal, &tenant).await?;
    Ok(shown(api.control.key(&within, key).await?))
}

fn shown(key: ApiKey) -> Response {
    tagged(Some(key.version), KeyView::from(key))
}

/// Changes what a key may do.
#[utoipa::path(
    patch, path = "/api/keys/{key}",
    params(IfMatch),
    request_body = KeyChangeBody,
    responses(
        (status = 200, description = "The key as it is now", body = KeyView, headers(("ETag" = String))),
    ),
)]
pub(super) async fn change(
    Caller(principal): Caller,
    State(api): State<Api>,
    KeyPath(key): KeyPath,
    IfMatch(version): IfMatch,
    Json(body): Json<KeyChangeBody>,
) -> Result<Response, Problem> {
    Ok(shown(api.control.expecting(version).change_key(&principal, key, body.into()).await?))
}

/// Changes what a key of a tenant may do.
#[utoipa::path(
    patch, path = "/api/tenants/{tenant}/keys/{key}",
    params(IfMatch),
    request_body = KeyChangeBody,
    responses(
        (status = 200, description = "The key as it is now", body = KeyView, headers(("ETag" = String))),
    ),
)]
pub(super) async fn change_of_tenant(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
    IfMatch(version): IfMatch,
    Json(body): Json<KeyChangeBody>,
) -> Result<Response, Problem> {
    let within = api.control.within(&principal, &tenant).await?;
    Ok(shown(api.control.expecting(version).change_key(&within, key, body.into()).await?))
}

/// Gives a key a successor, and ends it after a grace.
#[utoipa::path(
    post, path = "/api/keys/{key}/rotate",
    request_body = Option<RotateBody>,
    responses((status = 201, description = "The successor", body = CreatedKeyView)),
)]
pub(super) async fn rotate(
    Caller(principal): Caller,
    State(api): State<Api>,
    KeyPath(key): KeyPath,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Response, Problem> {
    let CreatedKey { key, text } = api.control.rotate_key(&principal, key, body.grace()).await?;
    Ok(made(key, Some(text)))
}

/// Gives a key of a tenant a successor, and ends it after a grace.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/keys/{key}/rotate",
    request_body = Option<RotateBody>,
    responses((status = 201, description = "The successor", body = CreatedKeyView)),
)]
pub(super) async fn rotate_of_tenant(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Response, Problem> {
    let within = api.control.within(&principal, &tenant).await?;
    let CreatedKey { key, text } = api.control.rotate_key(&within, key, body.grace()).await?;
    Ok(made(key, Some(text)))
}

fn made(key: ApiKey, text: Option<String>) -> Response {
    let body = CreatedKeyView { view: key.into(), key: text };
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

/// Ends a key for good.
#[utoipa::path(
    post, path = "/api/keys/{key}/revoke",
    responses(
        (status = 200, description = "The key as it is now", body = KeyView, headers(("ETag" = String))),
    ),
)]
pub(super) async fn revoke(
    Caller(principal): Caller,
    State(api): State<Api>,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    Ok(shown(api.control.revoke_key(&principal, key).await?))
}

/// Ends a key of a tenant for good.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/keys/{key}/revoke",
    responses(
        (status = 200, description = "The key as it is now", body = KeyView, headers(("ETag" = String))),
    ),
)]
pub(super) async fn revoke_of_tenant(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    let within = api.control.within(&principal, &tenant).await?;
    Ok(shown(api.control.revoke_key(&within, key).await?))
}

/// A key is never forgotten, since usage and audit rows name it: to delete it is to revoke it.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/keys/{key}",
    params(IfMatch),
    responses((status = 204, description = "Revoked")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
    IfMatch(version): IfMatch,
) -> Result<StatusCode, Problem> {
    let within = api.control.within(&principal, &tenant).await?;
    api.control.expecting(version).revoke_key(&within, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl KeyView ===

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        KeyView {
            key_id: key.id,
            tenant_id: key.tenant,
            name: key.name,
            prefix: key.prefix,
            scopes: key.limits.scopes,
            routes: key.limits.routes,
            networks: key.limits.networks,
            enabled: key.enabled,
            created_at: key.created_at,
            expires_at: key.limits.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            version: key.version,
        }
    }
}

// === impl NewKeyBody ===

impl NewKeyBody {
    /// By what the key's holder is known, if it is to have no text of ours.
    fn brought(&mut self) -> Result<Option<Brought>, Problem> {
        match (self.sha256.take(), self.certificate.take()) {
            (None, None) => Ok(None),
            (Some(sha256), None) => Ok(Some(Brought::Sha256(sha256))),
            (None, Some(name)) => Ok(Some(Brought::Certificate(name))),
            (Some(_), Some(_)) => Err(Problem::invalid(vec![FieldFault {
                field: "certificate".into(),
                message: "a key has a `sha256` or a `certificate`, not both".into(),
            }])),
        }
    }
}

impl From<NewKeyBody> for NewKey {
    fn from(body: NewKeyBody) -> Self {
        let limits = KeyLimits {
            scopes: body.scopes,
            routes: body.routes,
            networks: body.networks,
            expires_at: body.expires_at,
        };
        NewKey { name: body.name, limits, test: body.test }
    }
}

// === impl KeyChangeBody ===

impl From<KeyChangeBody> for KeyChange {
    fn from(body: KeyChangeBody) -> Self {
        let KeyChangeBody { name, scopes, routes, networks, expires_at, enabled } = body;
        KeyChange { name, scopes, routes, networks, expires_at, enabled }
    }
}

// === impl RotateBody ===

impl RotateBody {
    fn grace(&self) -> Duration {
        self.grace_seconds.map_or(GRACE, Duration::from_secs)
    }
}
