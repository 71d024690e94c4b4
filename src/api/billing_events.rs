//! `/api/billing-events` and `/api/billing-exports`: usage on its way to whoever collects what is owed.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::extract::{BillingEventPath, Caller, Json, Params};
use super::openapi::{Paged, query};
use super::router::Api;
use super::tenants::viewed;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::BillingExport;
use crate::domain::billing::{BillingEvent, BillingEventId, BillingEventState, CollectorKind, Settled};
use crate::domain::{Resource, TenantId, TenantRef, Units};
use crate::store::Listed;

/// What a tenant used of a resource in one hour, on its way.
#[derive(Serialize, ToSchema)]
#[schema(as = BillingEvent)]
struct BillingEventView {
    event_id: BillingEventId,
    /// What its collector knows it by.
    identifier: String,
    tenant_id: TenantId,
    resource_type: Resource,
    /// Start of the hour.
    bucket_start: Timestamp,
    /// From 0; usage that came late for the hour is in the next one.
    revision: u64,
    units: Units,
    collector: CollectorKind,
    /// What the tenant is called there.
    account: String,
    state: BillingEventState,
    attempts: u32,
    /// When the next attempt is due; `null` once there will be none.
    next_attempt_at: Option<Timestamp>,
    /// The first attempt of which nobody knows whether it arrived.
    doubtful_since: Option<Timestamp>,
    last_error: Option<String>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// Why somebody has settled it.
    settled_reason: Option<String>,
}

/// The body of `POST …/settle`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettleBody {
    r#as: Settled,
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Which events.
enum EventFilters {}

/// Shows how bringing usage to each collector goes.
#[utoipa::path(
    get, path = "/api/billing-exports",
    responses((status = 200, description = "All of them", body = Listed<BillingExport>)),
)]
pub(super) async fn exports(Caller(principal): Caller, State(api): State<Api>) -> Result<Response, Problem> {
    let exports = api.control.billing_exports(&principal).await?;
    Ok(axum::Json(whole(exports)).into_response())
}

/// Lists hours of usage that were taken to be billed, the newest first; those that are `dead` were given up.
#[utoipa::path(
    get, path = "/api/billing-events",
    params(EventFilters, Paged),
    responses((status = 200, description = "One page", body = Listed<BillingEventView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    mut params: Params,
) -> Result<Response, Problem> {
    let tenant = params.read("tenant", "a tenant's id or slug", |text| text.parse::<TenantRef>().ok());
    let state = params.read("state", "pending, delivered, dead or abandoned", BillingEventState::parse);
    let page = params.into_page()?;
    let listed = api.control.billing_events(&principal, tenant.as_ref(), state, &page).await?;
    Ok(axum::Json(viewed(listed, BillingEventView::from)).into_response())
}

/// Sends usage again that was given up; its collector knows it by the same identifier.
#[utoipa::path(
    post, path = "/api/billing-events/{event}/resend",
    responses((status = 202, description = "On its way", body = BillingEventView)),
)]
pub(super) async fn resend(
    Caller(principal): Caller,
    State(api): State<Api>,
    BillingEventPath(id): BillingEventPath,
) -> Result<Response, Problem> {
    let event = api.control.resend_billing_event(&principal, id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(BillingEventView::from(event))).into_response())
}

/// Notes what was decided of usage that was given up: its collector has it, or it is billed to nobody.
#[utoipa::path(
    post, path = "/api/billing-events/{event}/settle",
    request_body = SettleBody,
    responses((status = 200, description = "As it is now", body = BillingEventView)),
)]
pub(super) async fn settle(
    Caller(principal): Caller,
    State(api): State<Api>,
    BillingEventPath(id): BillingEventPath,
    Json(body): Json<SettleBody>,
) -> Result<Response, Problem> {
    let event = api.control.settle_billing_event(&principal, id, body.r#as, body.reason.as_deref()).await?;
    Ok(axum::Json(BillingEventView::from(event)).into_response())
}

// === impl EventFilters ===

impl utoipa::IntoParams for EventFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<String>("tenant", "Only of this tenant: its id or its slug"),
            query::<BillingEventState>("state", "Only those in this state"),
        ]
    }
}

// === impl BillingEventView ===

impl From<BillingEvent> for BillingEventView {
    fn from(event: BillingEvent) -> Self {
        let is_pending = event.state == BillingEventState::Pending;
        BillingEventView {
            event_id: event.id,
            identifier: event.identifier(),
            tenant_id: event.tenant,
            resource_type: event.resource,
            bucket_start: event.bucket,
            revision: event.revision,
            units: event.units,
            collector: event.collector,
            account: event.account,
            state: event.state,
            attempts: event.attempts,
            next_attempt_at: is_pending.then_some(event.next_at),
            doubtful_since: event.doubtful_since,
            last_error: event.last_error,
            created_at: event.created_at,
            finished_at: event.finished_at,
            settled_reason: event.settled_reason,
        }
    }
}
