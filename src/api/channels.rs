//! `/api/tenants/{tenant}/channels` and `…/deliveries`

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::extract::{Caller, ChannelPath, DeliveryPath, Json, OptionalJson, Params, TenantPath};
use super::openapi::{Paged, query};
use super::router::Api;
use super::tenants::viewed;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::{ChannelChange, CreatedChannel, NewChannel};
use crate::domain::{
    AlertId, AlertKind, Channel, ChannelId, ChannelKind, Delivery, DeliveryId, DeliveryState, TenantId,
};
use crate::store::Listed;

/// A channel, as the API shows it: without its secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = Channel)]
struct ChannelView {
    channel_id: ChannelId,
    tenant_id: TenantId,
    name: String,
    kind: ChannelKind,
    /// Of Slack only the host: the rest of its URL is a secret.
    target: String,
    /// Empty: everything.
    kinds: Vec<AlertKind>,
    enabled: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A channel at the only moment when its secret is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedChannel)]
struct CreatedChannelView {
    #[serde(flatten)]
    view: ChannelView,
    /// `whsec_…`, of webhooks; `null` of others.
    secret: Option<String>,
}

/// What became of an alert that a channel is to bring.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryView {
    /// `webhook-id` in every attempt.
    delivery_id: DeliveryId,
    alert_id: AlertId,
    channel_id: ChannelId,
    state: DeliveryState,
    attempts: u32,
    /// When the next attempt is due; `null` once there will be none.
    next_attempt_at: Option<Timestamp>,
    last_error: Option<String>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// The body of `POST …/channels`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewChannelBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    kind: ChannelKind,
    /// A URL, or an e-mail address.
    target: String,
    #[serde(default)]
    kinds: Vec<AlertKind>,
}

/// The body of `PATCH …/channels/{channel}`: what is not there stays.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChannelChangeBody {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    target: Option<String>,
    kinds: Option<Vec<AlertKind>>,
    enabled: Option<bool>,
}

/// The body of `POST …/channels/{channel}/rotate`; may be missing altogether.
#[derive(Deserialize, Default, ToSchema)]
#[schema(as = RotateChannelBody)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RotateBody {
    /// How long the old secret signs as well; a day if nothing is said.
    #[schema(maximum = 2_592_000)]
    grace_seconds: Option<u64>,
}

/// Which deliveries.
enum DeliveryFilters {}

const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Lists the channels that a tenant is told through.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/channels",
    responses((status = 200, description = "All of them", body = Listed<ChannelView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let channels = api.control.channels(&principal, &tenant).await?;
    let views = channels.into_iter().map(ChannelView::from).collect();
    Ok(axum::Json(whole::<ChannelView>(views)).into_response())
}

/// Adds a webhook, a Slack channel or an e-mail address; a webhook's secret is shown this once.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/channels",
    request_body = NewChannelBody,
    responses((status = 201, description = "Made", body = CreatedChannelView)),
)]
pub(super) async fn create(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<NewChannelBody>,
) -> Result<Response, Problem> {
    let NewChannelBody { name, kind, target, kinds } = body;
    let new = NewChannel { name, kind, target, kinds };
    let created = api.control.create_channel(&principal, &tenant, new).await?;
    let (tenant, id) = (created.channel.tenant, created.channel.id);
    let location = [(header::LOCATION, format!("/api/tenants/{tenant}/channels/{id}"))];
    Ok((StatusCode::CREATED, location, axum::Json(CreatedChannelView::from(created))).into_response())
}

/// Shows a channel.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/channels/{channel}",
    responses((status = 200, description = "The channel", body = ChannelView)),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ChannelPath(id): ChannelPath,
) -> Result<Response, Problem> {
    let channel = api.control.channel(&principal, &tenant, id).await?;
    Ok(axum::Json(ChannelView::from(channel)).into_response())
}

/// Changes a channel, or lets it rest.
#[utoipa::path(
    patch, path = "/api/tenants/{tenant}/channels/{channel}",
    request_body = ChannelChangeBody,
    responses((status = 200, description = "The channel as it is now", body = ChannelView)),
)]
pub(super) async fn change(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ChannelPath(id): ChannelPath,
    Json(body): Json<ChannelChangeBody>,
) -> Result<Response, Problem> {
    let ChannelChangeBody { name, target, kinds, enabled } = body;
    let change = ChannelChange { name, target, kinds, enabled };
    let changed = api.control.change_channel(&principal, &tenant, id, change).await?;
    Ok(axum::Json(ChannelView::from(changed)).into_response())
}

/// Removes a channel, with what is on its way there.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/channels/{channel}",
    responses((status = 204, description = "Removed")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ChannelPath(id): ChannelPath,
) -> Result<StatusCode, Problem> {
    api.control.remove_channel(&principal, &tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new secret; the old one signs as well for a while.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/channels/{channel}/rotate",
    request_body = Option<RotateBody>,
    responses((status = 200, description = "With its new secret", body = CreatedChannelView)),
)]
pub(super) async fn rotate(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ChannelPath(id): ChannelPath,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Response, Problem> {
    let grace = body.grace_seconds.map_or(GRACE, Duration::from_secs);
    let rotated = api.control.rotate_channel(&principal, &tenant, id, grace).await?;
    Ok(axum::Json(CreatedChannelView::from(rotated)).into_response())
}

/// Sends something to a channel.
///
/// It is on its way when this is answered; what becomes of it stands in the deliveries.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/channels/{channel}/test",
    responses((status = 202, description = "On its way", body = DeliveryView)),
)]
pub(super) async fn test(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    ChannelPath(id): ChannelPath,
) -> Result<Response, Problem> {
    let delivery = api.control.test_channel(&principal, &tenant, id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(DeliveryView::from(delivery))).into_response())
}

/// Lists what was sent, the newest first; those that are `dead` were given up.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/deliveries",
    params(DeliveryFilters, Paged),
    responses((status = 200, description = "One page", body = Listed<DeliveryView>)),
)]
pub(super) async fn deliveries(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let channel = params.read("channel_id", "a channel's id", |text| text.parse().ok().map(ChannelId));
    let state = params.read("state", "pending, delivered or dead", DeliveryState::parse);
    let page = params.into_page()?;
    let listed = api.control.deliveries(&principal, &tenant, channel, state, &page).await?;
    Ok(axum::Json(viewed(listed, DeliveryView::from)).into_response())
}

/// Sends something again; its receiver knows it by the same id.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/deliveries/{delivery}/resend",
    responses((status = 202, description = "On its way", body = DeliveryView)),
)]
pub(super) async fn resend(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    DeliveryPath(id): DeliveryPath,
) -> Result<Response, Problem> {
    let delivery = api.control.resend_delivery(&principal, &tenant, id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(DeliveryView::from(delivery))).into_response())
}

// === impl DeliveryFilters ===

impl utoipa::IntoParams for DeliveryFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<ChannelId>("channel_id", "Only to this channel"),
            query::<DeliveryState>("state", "Only those in this state"),
        ]
    }
}

// === impl ChannelView ===

impl From<Channel> for ChannelView {
    fn from(channel: Channel) -> Self {
        ChannelView {
            channel_id: channel.id,
            tenant_id: channel.tenant,
            name: channel.name,
            kind: channel.kind,
            target: channel.target,
            kinds: channel.kinds,
            enabled: channel.enabled,
            created_at: channel.created_at,
            updated_at: channel.updated_at,
        }
    }
}

// === impl CreatedChannelView ===

impl From<CreatedChannel> for CreatedChannelView {
    fn from(created: CreatedChannel) -> Self {
        CreatedChannelView { view: created.channel.into(), secret: created.secret }
    }
}

// === impl DeliveryView ===

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let is_pending = delivery.state == DeliveryState::Pending;
        DeliveryView {
            delivery_id: delivery.id,
            alert_id: delivery.alert,
            channel_id: delivery.channel,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: is_pending.then_some(delivery.next_at),
            last_error: delivery.last_error,
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
        }
    }
}
