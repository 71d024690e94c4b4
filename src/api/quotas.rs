//! `/api/tenants/{tenant}/quotas`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::Problem;
use super::extract::{Caller, Json, Params, ResourcePath, TenantPath};
use super::router::Api;
use super::tag::{IfMatch, tagged};
use crate::clock::Timestamp;
use crate::control::{Principal, QuotaChange, QuotaUse, Recommendation, TenantRef};
use crate::domain::{Enforcement, Limit, LossPolicy, Period, Resource, Slug, TenantId, Units, Window};
use crate::store::QuotaSource;

/// A quota and its use, as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
pub(super) struct QuotaView {
    resource_type: Resource,
    limit: Limit,
    used: Units,
    remaining: Option<Units>,
    percent: Option<f64>,
    period: Period,
    window: WindowView,
    enforcement: Enforcement,
    on_loss: Option<LossPolicy>,
    source: QuotaSource,
    key_id: Option<Uuid>,
    reason: Option<String>,
    expires_at: Option<Timestamp>,
    /// Whether the limit is what the tenant's spend cap leaves, and not what `source` says.
    is_capped: bool,
    as_of: Timestamp,
}

/// `[start, end)`; `end` is `null` for a window that never ends.
#[derive(Serialize, ToSchema)]
#[schema(as = Window)]
struct WindowView {
    start: Timestamp,
    end: Option<Timestamp>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Quotas)]
struct QuotasView {
    tenant_id: TenantId,
    slug: Slug,
    quotas: Vec<QuotaView>,
}

/// The body of `PUT …/quotas/{resource}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuotaBody {
    /// `null` is unlimited, and has to be said: to forget the limit must not lift it.
    #[serde(deserialize_with = "said")]
    limit: Limit,
    period: Option<Period>,
    enforcement: Option<Enforcement>,
    on_loss: Option<LossPolicy>,
    key_id: Option<Uuid>,
    #[schema(max_length = 1000)]
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

/// Lists the quotas of a tenant and of its keys, with their use in the present windows.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/quotas",
    responses(
        ( status = 200, description = "All of them", body = QuotasView, headers(("ETag" = String)), ),
    ),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let tenant = api.control.tenant(&principal, &tenant).await?;
    let quotas = of_tenant(&api, &principal, tenant.id).await?;
    let version = tenant.version;
    Ok(tagged(Some(version), QuotasView { tenant_id: tenant.id, slug: tenant.slug, quotas }))
}

/// Says which tier would do, if the tenant's own will not for long, and where it can be bought.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/recommendation",
    responses((status = 200, description = "The tier that would do, if any", body = Recommendation)),
)]
pub(super) async fn recommendation(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    Ok(axum::Json(api.control.recommended_tier(&principal, &tenant).await?).into_response())
}

/// Sets a limit of the tenant's own, or of one of its keys.
#[utoipa::path(
    put, path = "/api/tenants/{tenant}/quotas/{resource}",
    params(IfMatch),
    request_body = QuotaBody,
    responses(
        (
            status = 200,
            description = "The quota as it is now",
            body = QuotaView,
            headers(("ETag" = String)),
        ),
    ),
)]
pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ResourcePath(resource): ResourcePath,
    IfMatch(version): IfMatch,
    Json(body): Json<QuotaBody>,
) -> Result<Response, Problem> {
    let change = QuotaChange {
        resource,
        limit: body.limit,
        period: body.period,
        enforcement: body.enforcement,
        on_loss: body.on_loss,
        key: body.key_id,
        reason: body.reason,
        expires_at: body.expires_at,
    };
    let set = api.control.expecting(version).set_quota(&principal, &tenant, change).await?;
    Ok(tagged(Some(set.tenant_version), QuotaView::from(set)))
}

/// Removes the tenant's own limits of the resource, or a key's (`?key_id=`); of one period with `?period=`.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/quotas/{resource}",
    params(
        IfMatch,
        ("period" = Option<Period>, Query, description = "Only the limit of this period"),
        ("key_id" = Option<Uuid>, Query, description = "Those of this key, and not the tenant's"),
    ),
    responses((status = 204, description = "Removed")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ResourcePath(resource): ResourcePath,
    IfMatch(version): IfMatch,
    mut params: Params,
) -> Result<StatusCode, Problem> {
    let period = params.read("period", "a period like minute or month", |text| text.parse().ok());
    let key = params.read("key_id", "a key's id", |text| Uuid::try_parse(text).ok());
    params.finish()?;
    api.control.expecting(version).remove_quota(&principal, &tenant, resource, period, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By resource; the tenant's own before its keys'; the shortest period first.
pub(super) async fn of_tenant(
    api: &Api,
    principal: &Principal,
    tenant: TenantId,
) -> Result<Vec<QuotaView>, Problem> {
    let mut quotas = api.control.quotas(principal, &TenantRef::Id(tenant)).await?;
    quotas.sort_by(|a, b| {
        let rank = |quota: &QuotaUse| (quota.key_id, quota.period);
        a.resource_type.as_str().cmp(b.resource_type.as_str()).then(rank(a).cmp(&rank(b)))
    });
    Ok(quotas.into_iter().map(QuotaView::from).collect())
}

fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
    Limit::deserialize(deserializer)
}

// === impl QuotaView ===

impl From<QuotaUse> for QuotaView {
    fn from(quota: QuotaUse) -> Self {
        QuotaView {
            resource_type: quota.resource_type,
            limit: quota.limit,
            used: quota.used,
            remaining: quota.remaining,
            percent: quota.percent,
            period: quota.period,
            window: quota.window.into(),
            enforcement: quota.enforcement,
            on_loss: quota.on_loss,
            source: quota.source,
            key_id: quota.key_id,
            reason: quota.reason,
            expires_at: quota.expires_at,
            is_capped: quota.is_capped,
            as_of: quota.as_of,
        }
    }
}

// === impl WindowView ===

impl From<Window> for WindowView {
    fn from(window: Window) -> Self {
        let end = (window.period != Period::Forever).then_some(window.end);
        WindowView { start: window.start, end }
    }
}
