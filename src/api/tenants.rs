//! `/api/tenants`

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::{Problem, ProblemKind};
use super::extract::{Caller, Json, OptionalJson, Params, StatusPath, TenantPath, no_status};
use super::openapi::{Paged, query};
use super::quotas::{self, QuotaView};
use super::router::Api;
use super::tag::{IfMatch, tagged};
use crate::clock::Timestamp;
use crate::control::{
    ControlError, FieldFault, Glance, GlanceSpan, LargestQuota, NewTenant, Principal, TenantChange,
    TenantRef, TierWhen,
};
use crate::domain::{Health, Slug, Tenant, TenantId, TenantStatus, Zone};
use crate::store::{Listed, TenantFilter, TenantSort};

/// A tenant, as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantView {
    tenant_id: TenantId,
    slug: Slug,
    organization_name: String,
    tenant_status: TenantStatus,
    tenant_tier: String,
    tier_version: i64,
    parent_id: Option<TenantId>,
    billing_email: Option<String>,
    contact_phone: Option<String>,
    timezone: Zone,
    locale: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: i64,
}

/// The same at a glance, as lists show it.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantGlance {
    #[serde(flatten)]
    tenant: TenantView,
    health: Health,
    /// With `glance`; absent where nothing that has a limit was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest_quota: Option<LargestQuota>,
    /// With `glance`: requests of each hour, or day, the present one last.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Vec<u64>>,
}

/// The same, with what it may use and has used.
#[derive(Serialize, ToSchema)]
struct TenantWithQuotas {
    #[serde(flatten)]
    tenant: TenantView,
    quotas: Vec<QuotaView>,
}

/// The body of `POST /api/tenants/`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenantBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    organization_name: String,
    #[schema(max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    slug: Option<String>,
    #[schema(example = "pro")]
    tenant_tier: Option<String>,
    #[schema(max_length = 254, format = "email", example = "billing@acme.example")]
    billing_email: Option<String>,
    #[schema(max_length = 40, pattern = r"^\+?[0-9 ().-]{4,}$", example = "+41 44 668 18 00")]
    contact_phone: Option<String>,
    #[schema(example = "Europe/Zurich")]
    timezone: Option<String>,
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", example = "de-CH")]
    locale: Option<String>,
    /// The reseller above it: id or slug.
    parent_id: Option<String>,
}

/// The body of `PUT` and `PATCH /api/tenants/{tenant}`: what is absent stays as it is, in both.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TenantChangeBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    organization_name: Option<String>,
    #[schema(max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    slug: Option<String>,
    #[schema(example = "pro")]
    tenant_tier: Option<String>,
    /// When the tier changes: if absent, a dearer one at once and a cheaper one when the billing period ends.
    tier_when: Option<TierWhen>,
    #[schema(max_length = 254, format = "email", example = "billing@acme.example")]
    #[serde(deserialize_with = "null_removes")]
    billing_email: Option<String>,
    #[schema(max_length = 40, pattern = r"^\+?[0-9 ().-]{4,}$", example = "+41 44 668 18 00")]
    #[serde(deserialize_with = "null_removes")]
    contact_phone: Option<String>,
    #[schema(example = "Europe/Zurich")]
    timezone: Option<String>,
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", example = "de-CH")]
    locale: Option<String>,
}

/// The filters of the list, and its order.
pub(super) enum TenantFilters {}

/// The body of `POST …/status/{status}`; may be missing altogether.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StatusBody {
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Makes a tenant; its quotas are those of its tier.
#[utoipa::path(
    post, path = "/api/tenants",
    request_body = NewTenantBody,
    responses(
        (
            status = 201,
            description = "Made",
            body = TenantWithQuotas,
            headers( ("ETag" = String), ("Location" = String), ),
        ),
    ),
)]
pub(super) async fn create(
    Caller(principal): Caller,
    State(api): State<Api>,
    Json(body): Json<NewTenantBody>,
) -> Result<Response, Problem> {
    let tenant = api.control.create_tenant(&principal, body.into()).await.map_err(named_as_here)?;
    let location = format!("/api/tenants/{}", tenant.id);
    let mut response = with_quotas(&api, &principal, tenant).await?;
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Lists the tenants that the caller may see; deleted ones only when asked for.
#[utoipa::path(
    get, path = "/api/tenants",
    params(TenantFilters, Paged),
    responses((status = 200, description = "One page", body = Listed<TenantGlance>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    mut params: Params,
) -> Result<Response, Problem> {
    let status = params.text("status");
    let filter = TenantFilter {
        status: status.as_deref().and_then(TenantStatus::parse),
        tier: params.text("tier"),
        q: params.text("q"),
        health: params.read("health", "healthy, warning or critical", Health::parse),
        ..TenantFilter::default()
    };
    if let (Some(text), None) = (&status, filter.status) {
        params.fault("status", no_status(text));
    }
    let sort = params.read(
        "sort",
        "created_at, name, slug or health, with - before it for descending",
        TenantSort::parse,
    );
    let glance = params.read("glance", "day or month", GlanceSpan::parse);
    let page = params.into_page()?;
    let sort = sort.unwrap_or_default();
    let listed = api.control.tenants_at_a_glance(&principal, &filter, sort, &page, glance).await?;
    Ok(axum::Json(viewed(listed, TenantGlance::from)).into_response())
}

/// Shows the credential's own tenant.
#[utoipa::path(
    get, path = "/api/tenants/current",
    responses(
        ( status = 200, description = "The tenant", body = TenantWithQuotas, headers(("ETag" = String)), ),
    ),
)]
pub(super) async fn current(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    let Some(id) = principal.tenant().filter(|_| !principal.rights.is_nobodys()) else {
        return Err(Problem::new(
            ProblemKind::NoTenant,
            "this credential belongs to no tenant; name one: /api/tenants/{id or slug}",
        ));
    };
    shown(&api, &principal, &TenantRef::Id(id)).await
}

/// Shows a tenant with its quotas.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}",
    responses(
        ( status = 200, description = "The tenant", body = TenantWithQuotas, headers(("ETag" = String)), ),
    ),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    shown(&api, &principal, &tenant).await
}

/// Changes what the body names of a tenant; `PUT` and `PATCH` mean the same.
#[utoipa::path(
    method(put, patch), path = "/api/tenants/{tenant}",
    params(IfMatch),
    request_body = TenantChangeBody,
    responses(
        (
            status = 200,
            description = "The tenant as it is now",
            body = TenantWithQuotas,
            headers(("ETag" = String)),
        ),
    ),
)]
pub(super) async fn change(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    IfMatch(version): IfMatch,
    Json(body): Json<TenantChangeBody>,
) -> Result<Response, Problem> {
    let changed = api.control.expecting(version).change_tenant(&principal, &tenant, body.into()).await;
    with_quotas(&api, &principal, changed.map_err(named_as_here)?).await
}

/// Moves a tenant to another status.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/status/{status}",
    params(IfMatch),
    request_body = Option<StatusBody>,
    responses(
        (
            status = 200,
            description = "The tenant as it is now",
            body = TenantWithQuotas,
            headers(("ETag" = String)),
        ),
    ),
)]
pub(super) async fn set_status(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    StatusPath(status): StatusPath,
    IfMatch(version): IfMatch,
    OptionalJson(body): OptionalJson<StatusBody>,
) -> Result<Response, Problem> {
    let moved = api.control.expecting(version).set_status(&principal, &tenant, status, body.reason).await?;
    with_quotas(&api, &principal, moved).await
}

/// Leaves a tombstone: the tenant's id and slug are never given to another.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}",
    params(IfMatch),
    responses((status = 204, description = "Deleted")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    IfMatch(version): IfMatch,
) -> Result<StatusCode, Problem> {
    let control = api.control.expecting(version);
    control.set_status(&principal, &tenant, TenantStatus::Deleted, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Erases what is personal of a deleted tenant, and shreds its secrets. Its finalized invoices stay as they are, with the
/// name and the address that they were made out to: they are documents that the law wants kept.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/erase",
    responses(
        (
            status = 200,
            description = "What is left of it",
            body = TenantWithQuotas,
            headers(("ETag" = String)),
        ),
    ),
)]
pub(super) async fn erase(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let erased = api.control.erase_tenant(&principal, &tenant).await?;
    with_quotas(&api, &principal, erased).await
}

/// The same part of a list, in the form that the API shows.
pub(super) fn viewed<T, V>(listed: Listed<T>, view: impl FnMut(T) -> V) -> Listed<V> {
    listed.map(view)
}

async fn shown(api: &Api, principal: &Principal, tenant: &TenantRef) -> Result<Response, Problem> {
    let tenant = api.control.tenant(principal, tenant).await?;
    with_quotas(api, principal, tenant).await
}

/// The tenant with its quotas, and its version as `ETag`.
async fn with_quotas(api: &Api, principal: &Principal, tenant: Tenant) -> Result<Response, Problem> {
    let quotas = quotas::of_tenant(api, principal, tenant.id).await?;
    let version = tenant.version;
    Ok(tagged(Some(version), TenantWithQuotas { tenant: tenant.into(), quotas }))
}

/// `control` names fields as it knows them; the caller knows them by the names of the bodies above.
pub(super) fn named_as_here(error: ControlError) -> Problem {
    let ControlError::Invalid(faults) = error else { return error.into() };
    let renamed = faults.into_iter().map(|fault| {
        let field = match fault.field.as_str() {
            "name" => "organization_name",
            "tier" => "tenant_tier",
            "parent" => "parent_id",
            same => same,
        };
        FieldFault::new(field, fault.message)
    });
    Problem::invalid(renamed.collect())
}

/// `null` and the empty text both mean: remove it.
fn null_removes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer).map(|text: Option<String>| Some(text.unwrap_or_default()))
}

// === impl TenantFilters ===

impl utoipa::IntoParams for TenantFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<TenantStatus>("status", "Only those of this status"),
            query::<String>("tier", "Only those of this tier"),
            query::<String>("q", "Only those whose name, slug or billing address holds this"),
            query::<Health>("health", "Only those who fare like that"),
            query::<GlanceSpan>(
                "glance",
                "Each with its largest quota and its requests: of each hour of a day, or each day of a month",
            ),
            query::<TenantSort>("sort", "The order; with - before it for descending"),
        ]
    }
}

// === impl TenantGlance ===

impl From<Glance> for TenantGlance {
    fn from(Glance { tenant, health, largest_quota, requests }: Glance) -> Self {
        TenantGlance { tenant: tenant.into(), health, largest_quota, requests }
    }
}

// === impl TenantView ===

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        TenantView {
            tenant_id: tenant.id,
            slug: tenant.slug,
            organization_name: tenant.name,
            tenant_status: tenant.status,
            tenant_tier: tenant.tier,
            tier_version: tenant.tier_version,
            parent_id: tenant.parent,
            billing_email: tenant.billing_email,
            contact_phone: tenant.contact_phone,
            timezone: tenant.timezone,
            locale: tenant.locale,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
            version: tenant.version,
        }
    }
}

// === impl NewTenantBody ===

impl From<NewTenantBody> for NewTenant {
    fn from(body: NewTenantBody) -> Self {
        NewTenant {
            name: body.organization_name,
            slug: body.slug,
            tier: body.tenant_tier,
            billing_email: body.billing_email,
            contact_phone: body.contact_phone,
            timezone: body.timezone,
            locale: body.locale,
            parent: body.parent_id,
        }
    }
}

// === impl TenantChangeBody ===

impl From<TenantChangeBody> for TenantChange {
    fn from(body: TenantChangeBody) -> Self {
        TenantChange {
            name: body.organization_name,
            slug: body.slug,
            tier: body.tenant_tier,
            tier_when: body.tier_when,
            billing_email: body.billing_email,
            contact_phone: body.contact_phone,
            timezone: body.timezone,
            locale: body.locale,
        }
    }
}
