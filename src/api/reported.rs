//! `/api/tenants/{tenant}/usage/increment`, and `…/quotas/check`, `reserve`, `commit` and `release`: usage that does not
//! come through the proxy.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{Problem, Written};
use super::extract::{Caller, Json, RequestId, TenantPath};
use super::router::Api;
use crate::clock::Timestamp;
use crate::control::{CountedEvent, NewEvent, NewReservation, Standing};
use crate::domain::{Resource, Units};

/// The body of `POST …/usage/increment`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventBody {
    resource_type: Resource,
    /// Below 0 gives units of a gauge back.
    #[schema(minimum = -9_007_199_254_740_991_i64, maximum = 9_007_199_254_740_991_i64)]
    #[serde(default = "one")]
    amount: i64,
    #[schema(max_length = 500)]
    description: Option<String>,
    /// An event of that name counts once.
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    event_id: Option<String>,
    /// When it was used, if not now; at most 35 days ago.
    occurred_at: Option<Timestamp>,
}

/// The body of `POST …/usage/increment/batch`: at most 1,000 events.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsBody {
    #[schema(max_items = 1000)]
    events: Vec<EventBody>,
}

/// An event that counts.
#[derive(Serialize, ToSchema)]
#[schema(as = CountedEvent)]
struct CountedView {
    event_id: String,
    resource_type: Resource,
    amount: i64,
    /// Whether it was counted before: then the rest is what was said then.
    duplicate: bool,
    #[serde(flatten)]
    standing: Standing,
}

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventOutcome)]
enum EventView {
    Counted {
        status: u16,
        #[serde(flatten)]
        counted: CountedView,
    },
    Refused(Written),
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventOutcomes)]
struct EventsView {
    /// In the order of the events.
    results: Vec<EventView>,
    counted: usize,
    refused: usize,
}

/// The body of `POST …/quotas/check`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    resource_type: Resource,
    #[serde(default = "one_unit")]
    amount: Units,
}

/// Whether that much would be admitted now.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaCheck)]
struct CheckView {
    resource_type: Resource,
    amount: Units,
    allowed: bool,
    /// Always true: nothing is set aside, so the answer may be out of date when it arrives.
    advisory: bool,
    #[serde(flatten)]
    standing: Standing,
}

/// The body of `POST …/quotas/reserve`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReserveBody {
    resource_type: Resource,
    amount: Units,
    /// After this many seconds the units go back by themselves.
    #[serde(default = "minute")]
    ttl_seconds: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Reservation)]
struct ReservedView {
    reservation_id: Uuid,
    resource_type: Resource,
    amount: Units,
    expires_at: Timestamp,
    #[serde(flatten)]
    standing: Standing,
}

/// The body of `POST …/quotas/commit`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitBody {
    reservation_id: Uuid,
    /// What was used of it; all if absent.
    amount: Option<Units>,
}

/// The body of `POST …/quotas/release`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseBody {
    reservation_id: Uuid,
}

/// How the resource stands after a reservation has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = EndedReservation)]
struct EndedView {
    reservation_id: Uuid,
    #[serde(flatten)]
    standing: Standing,
}

const fn one() -> i64 {
    1
}

const fn one_unit() -> Units {
    Units::ONE
}

const fn minute() -> u64 {
    60
}

/// Counts usage that did not come through the proxy: in full, or not at all.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/usage/increment",
    request_body = EventBody,
    responses((status = 200, description = "Counted", body = CountedView), (status = 429)),
)]
pub(super) async fn increment(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<EventBody>,
) -> Result<Response, Problem> {
    let counted = api.control.increment(&principal, &tenant, body.into()).await?;
    Ok(axum::Json(CountedView::from(counted)).into_response())
}

/// Counts many events, each in full or not at all.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/usage/increment/batch",
    request_body = EventsBody,
    responses((status = 200, description = "What became of each", body = EventsView)),
)]
pub(super) async fn increment_batch(
    Caller(principal): Caller,
    State(api): State<Api>,
    request: RequestId,
    TenantPath(tenant): TenantPath,
    Json(body): Json<EventsBody>,
) -> Result<Response, Problem> {
    let events = body.events.into_iter().map(NewEvent::from).collect();
    let outcomes = api.control.increments(&principal, &tenant, events).await?;
    let counted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.len() - counted;
    let view = |outcome| match outcome {
        Ok(counted) => EventView::Counted { status: 200, counted: CountedView::from(counted) },
        Err(error) => EventView::Refused(Problem::from(error).body(request.0)),
    };
    let results = outcomes.into_iter().map(view).collect();
    Ok(axum::Json(EventsView { results, counted, refused }).into_response())
}

/// Says whether so much would be admitted now; promises nothing.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/quotas/check",
    request_body = CheckBody,
    responses(
        (
            status = 200,
            description = "The answer, which may be out of date when it arrives",
            body = CheckView,
        ),
    ),
)]
pub(super) async fn check(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<CheckBody>,
) -> Result<Response, Problem> {
    let check = api.control.check_quota(&principal, &tenant, body.resource_type, body.amount).await?;
    Ok(axum::Json(CheckView {
        resource_type: check.resource,
        amount: check.amount,
        allowed: check.allowed,
        advisory: true,
        standing: check.standing,
    })
    .into_response())
}

/// Sets units aside, to be committed or released.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/quotas/reserve",
    request_body = ReserveBody,
    responses((status = 201, description = "Set aside", body = ReservedView), (status = 429)),
)]
pub(super) async fn reserve(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<ReserveBody>,
) -> Result<Response, Problem> {
    let new = NewReservation {
        resource: body.resource_type,
        units: body.amount,
        lasts: Duration::from_secs(body.ttl_seconds),
    };
    let reserved = api.control.reserve_units(&principal, &tenant, new).await?;
    let view = ReservedView {
        reservation_id: reserved.id,
        resource_type: reserved.resource,
        amount: reserved.units,
        expires_at: reserved.expires_at,
        standing: reserved.standing,
    };
    Ok((StatusCode::CREATED, axum::Json(view)).into_response())
}

/// Counts what was set aside, or a part of it; the rest goes back.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/quotas/commit",
    request_body = CommitBody,
    responses((status = 200, description = "Counted", body = EndedView)),
)]
pub(super) async fn commit(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<CommitBody>,
) -> Result<Response, Problem> {
    let CommitBody { reservation_id, amount } = body;
    let standing = api.control.commit_units(&principal, &tenant, reservation_id, amount).await?;
    Ok(axum::Json(EndedView { reservation_id, standing }).into_response())
}

/// Gives back what was set aside.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/quotas/release",
    request_body = ReleaseBody,
    responses((status = 200, description = "Given back", body = EndedView)),
)]
pub(super) async fn release(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<ReleaseBody>,
) -> Result<Response, Problem> {
    let ReleaseBody { reservation_id } = body;
    let standing = api.control.release_units(&principal, &tenant, reservation_id).await?;
    Ok(axum::Json(EndedView { reservation_id, standing }).into_response())
}

// === impl EventBody ===

impl From<EventBody> for NewEvent {
    fn from(body: EventBody) -> Self {
        let EventBody { resource_type, amount, description, event_id, occurred_at } = body;
        NewEvent { resource: resource_type, amount, description, event_id, occurred_at }
    }
}

// === impl CountedView ===

impl From<CountedEvent> for CountedView {
    fn from(counted: CountedEvent) -> Self {
        let CountedEvent { event_id, resource, amount, duplicate, standing } = counted;
        CountedView { event_id, resource_type: resource, amount, duplicate, standing }
    }
}
