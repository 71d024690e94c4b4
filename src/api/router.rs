//! The whole API on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, patch, post, put};
use tower::ServiceExt;

use super::extract::authenticate;
use super::idempotency::idempotent;
use super::local::LocalToken;
use super::seal::{method_not_allowed, no_such_address, seal};
use super::{
    apply, audit_logs, health, keys, quotas, reconcile, reported, settings, tenants, tiers, usage_logs,
};
use crate::clock::Clock;
use crate::control::Control;

/// What every handler can reach.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) control: Control,
    pub(super) local: LocalToken,
}

/// The longest body that is read: a manifest of some thousand tenants.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The API. `local` is the token that opens it for whoever may read the data directory; `clock` is what the ids of
/// requests are made of.
pub fn router(control: Control, local: LocalToken, clock: Arc<dyn Clock>) -> Router {
    let api = Api { control, local };
    let routes = Router::new()
        .route("/api/tenants", get(tenants::list).post(tenants::create))
        .route("/api/tenants/current", get(tenants::current))
        .route("/api/tenants/metrics", get(health::metrics))
        .route("/api/tenants/{tenant}/health", get(health::show))
        .route("/api/tenants/{tenant}/children", get(health::children))
        .route(
            "/api/tenants/{tenant}",
            get(tenants::show).put(tenants::change).patch(tenants::change).delete(tenants::remove),
        )
        .route("/api/tenants/{tenant}/status/{status}", post(tenants::set_status))
        .route("/api/tenants/{tenant}/quotas", get(quotas::list))
        .route("/api/tenants/{tenant}/quotas/check", post(reported::check))
        .route("/api/tenants/{tenant}/quotas/reserve", post(reported::reserve))
        .route("/api/tenants/{tenant}/quotas/commit", post(reported::commit))
        .route("/api/tenants/{tenant}/quotas/release", post(reported::release))
        .route("/api/tenants/{tenant}/usage/increment", post(reported::increment))
        .route("/api/tenants/{tenant}/usage/increment/batch", post(reported::increment_batch))
        .route("/api/tenants/{tenant}/quotas/{resource}", put(quotas::set).delete(quotas::remove))
        .route("/api/tenants/{tenant}/keys", get(keys::list).post(keys::create))
        .route("/api/tenants/{tenant}/keys/{key}", patch(keys::change_of_tenant).delete(keys::remove))
        .route("/api/tenants/{tenant}/keys/{key}/rotate", post(keys::rotate_of_tenant))
        .route("/api/tenants/{tenant}/keys/{key}/revoke", post(keys::revoke_of_tenant))
        .route("/api/tenants/{tenant}/settings", get(settings::list))
        .route(
            "/api/tenants/{tenant}/settings/{setting}",
            get(settings::show).put(settings::set).delete(settings::remove),
        )
        .route("/api/tenants/{tenant}/erase", post(tenants::erase))
        .route("/api/secrets/rotate", post(settings::rotate))
        .route("/api/tenants/{tenant}/usage-logs", get(usage_logs::list))
        .route("/api/tenants/{tenant}/audit-logs", get(audit_logs::list))
        .route("/api/tenants/{tenant}/audit-logs/verify", get(audit_logs::verify))
        .route("/api/audit-logs", get(audit_logs::list_of_platform))
        .route("/api/audit-logs/verify", get(audit_logs::verify_platform))
        .route("/api/keys/{key}", patch(keys::change))
        .route("/api/keys/{key}/rotate", post(keys::rotate))
        .route("/api/keys/{key}/revoke", post(keys::revoke))
        .route("/api/tiers", get(tiers::list))
        .route("/api/resource-types", get(tiers::resource_types))
        .route("/api/reconcile", get(reconcile::show))
        .route("/api/apply", post(apply::apply))
        .route_layer(from_fn_with_state(api.clone(), idempotent))
        .route_layer(from_fn_with_state(api.clone(), authenticate))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_address)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(clock, seal))
        .with_state(api);
    Router::new().fallback_service(routes.map_request(without_trailing_slash))
}

/// `/api/tenants/` is `/api/tenants`: routed alike and never redirected, which would lose a POST's body.
fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some(shorter) = path.strip_suffix('/').filter(|shorter| !shorter.is_empty()) else { return request };
    let target = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    // What is left of a valid target is one, unless it begins with two slashes; then nothing is found there anyway.
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}
