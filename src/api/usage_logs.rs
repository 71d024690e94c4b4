//! `/api/tenants/{tenant}/usage-logs`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::error::Problem;
use super::export::{self, Column, Formats};
use super::extract::{Caller, Params, TenantPath};
use super::openapi::{Paged, query};
use super::router::Api;
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, Outcome, Resource, TenantId, Units};
use crate::store::{Listed, UsageFilter, UsageRow};

/// What a key used of a resource on a route within ten seconds.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageRow)]
struct UsageView {
    usage_id: Uuid,
    tenant_id: TenantId,
    resource_type: Resource,
    usage_amount: Units,
    usage_date: Timestamp,
    description: Option<String>,
    key_id: Option<ApiKeyId>,
    route: String,
    outcome: Outcome,
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    latency_sum_micros: u64,
}

/// The filters of the log.
pub(super) enum UsageFilters {}

const COLUMNS: [Column; 13] = [
    ("usage_id", &["usage_id"]),
    ("tenant_id", &["tenant_id"]),
    ("resource_type", &["resource_type"]),
    ("usage_amount", &["usage_amount"]),
    ("usage_date", &["usage_date"]),
    ("description", &["description"]),
    ("key_id", &["key_id"]),
    ("route", &["route"]),
    ("outcome", &["outcome"]),
    ("requests", &["requests"]),
    ("bytes_in", &["bytes_in"]),
    ("bytes_out", &["bytes_out"]),
    ("latency_sum_micros", &["latency_sum_micros"]),
];

/// Lists what a tenant has used, the newest first; as JSON, NDJSON or CSV.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/usage-logs",
    params(UsageFilters, Paged, Formats),
    responses(
        (
            status = 200,
            description = "One page",
            body = Listed<UsageView>,
            headers(("X-Next-Cursor" = String)),
        ),
    ),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let filter = UsageFilter {
        resource: params.read("resource_type", "a resource's name", |text| text.parse().ok()),
        key: params.read("key_id", "a key's id", |text| Uuid::try_parse(text).ok().map(ApiKeyId)),
        route: params.text("route"),
        from: params.instant("from"),
        to: params.instant("to"),
    };
    let (page, form) = export::page(params, &headers)?;
    let listed = api.control.usage_logs(&principal, &tenant, &filter, &page).await?;
    Ok(export::listed(form, viewed(listed, UsageView::from), &COLUMNS))
}

// === impl UsageFilters ===

impl utoipa::IntoParams for UsageFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<Resource>("resource_type", "Only of this resource"),
            query::<ApiKeyId>("key_id", "Only by this key"),
            query::<String>("route", "Only on this route"),
            query::<Timestamp>("from", "From this instant on"),
            query::<Timestamp>("to", "Before this instant"),
        ]
    }
}

// === impl UsageView ===

impl From<UsageRow> for UsageView {
    fn from(row: UsageRow) -> Self {
        UsageView {
            usage_id: row.id,
            tenant_id: row.tenant,
            resource_type: row.resource,
            usage_amount: row.usage_amount,
            usage_date: row.usage_date,
            description: row.description,
            key_id: row.key,
            route: row.route,
            outcome: row.outcome,
            requests: row.requests,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            latency_sum_micros: row.latency_sum_micros,
        }
    }
}
