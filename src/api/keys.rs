//! `/api/tenants/{tenant}/keys` and `/api/keys`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::Problem;
use super::extract::{Caller, Json, KeyPath, Params, TenantPath};
use super::router::Api;
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::control::{NewKey, Principal, Rights, Scope, TenantRef};
use crate::domain::{ApiKey, ApiKeyId, KeyLimits, TenantId};

/// A key, as the API shows it: without its text.
#[derive(Serialize)]
struct KeyView {
    key_id: ApiKeyId,
    tenant_id: TenantId,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    routes: Vec<String>,
    networks: Vec<IpNet>,
    enabled: bool,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

/// A key at the only moment when its text is shown.
#[derive(Serialize)]
struct CreatedKeyView {
    #[serde(flatten)]
    view: KeyView,
    key: String,
}

/// The body of `POST …/keys`. Empty lists allow everything, except administration, which needs a scope.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    routes: Vec<String>,
    #[serde(default)]
    networks: Vec<IpNet>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    test: bool,
}

pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let page = params.page();
    params.finish()?;
    let listed = api.control.keys(&principal, &tenant, &page).await?;
    Ok(axum::Json(viewed(listed, KeyView::from)).into_response())
}

pub(super) async fn create(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<NewKeyBody>,
) -> Result<Response, Problem> {
    let created = api.control.create_key(&principal, &tenant, body.into()).await?;
    let body = CreatedKeyView { view: created.key.into(), key: created.text };
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}

pub(super) async fn revoke(
    Caller(principal): Caller,
    State(api): State<Api>,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    let revoked = api.control.revoke_key(&principal, key).await?;
    Ok(axum::Json(KeyView::from(revoked)).into_response())
}

pub(super) async fn revoke_of_tenant(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    let revoked = revoked(&api, &principal, &tenant, key).await?;
    Ok(axum::Json(KeyView::from(revoked)).into_response())
}

/// A key is never forgotten, since usage and audit rows name it: to delete it is to revoke it.
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    KeyPath(key): KeyPath,
) -> Result<StatusCode, Problem> {
    revoked(&api, &principal, &tenant, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes the key if it is that tenant's: within the path's tenant, no caller reaches further than its own
/// administrator, so another tenant's key does not exist there.
async fn revoked(
    api: &Api,
    principal: &Principal,
    tenant: &TenantRef,
    key: ApiKeyId,
) -> Result<ApiKey, Problem> {
    let tenant = api.control.tenant(principal, tenant).await?.id;
    let mut within = principal.clone();
    if within.rights == Rights::Platform {
        within.rights = Rights::Tenant { tenant, scope: Scope::Admin };
    }
    Ok(api.control.revoke_key(&within, key).await?)
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
        }
    }
}

// === impl NewKeyBody ===

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
