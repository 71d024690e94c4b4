//! The whole API on one page: every operation, by what it is about. Its path and its form stand above its handler.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use serde_json::Value;
use tower::ServiceExt;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::authenticate;
use super::idempotency::idempotent;
use super::local::LocalToken;
use super::openapi::Access;
use super::seal::{method_not_allowed, no_such_address, seal};
use super::{
    alerts, analytics, apply, archives, audit_logs, billing_events, billing_news, bulk, channels, gauges,
    health, invoices, keys, members, oidc, openapi, quotas, reconcile, reported, reports, sessions, settings,
    spend_caps, tenants, tiers, usage_logs, users,
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

/// What asks for a credential.
pub(super) fn guarded() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::current))
        .routes(routes!(tenants::show, tenants::change, tenants::remove))
        .routes(routes!(tenants::set_status))
        .routes(routes!(tenants::erase))
        .routes(routes!(health::metrics))
        .routes(routes!(health::show))
        .routes(routes!(health::children))
        .routes(routes!(quotas::list))
        .routes(routes!(quotas::set, quotas::remove))
        .routes(routes!(quotas::recommendation))
        .routes(routes!(reported::check))
        .routes(routes!(reported::reserve))
        .routes(routes!(reported::commit))
        .routes(routes!(reported::release))
        .routes(routes!(reported::increment))
        .routes(routes!(reported::increment_batch))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show_of_tenant, keys::change_of_tenant, keys::remove))
        .routes(routes!(keys::rotate_of_tenant))
        .routes(routes!(keys::revoke_of_tenant))
        .routes(routes!(keys::show, keys::change))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::revoke))
        .routes(routes!(members::list, members::invite))
        .routes(routes!(members::change, members::remove))
        .routes(routes!(members::invitations))
        .routes(routes!(members::withdraw))
        .routes(routes!(members::roles))
        .routes(routes!(members::set_role, members::remove_role))
        .routes(routes!(users::list, users::set))
        .routes(routes!(users::reset_password))
        .routes(routes!(sessions::end_of_user))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::current, sessions::end_current))
        .routes(routes!(sessions::change_password))
        .routes(routes!(sessions::new_second_factor))
        .routes(routes!(sessions::confirm_second_factor))
        .routes(routes!(sessions::remove_second_factor))
        .routes(routes!(sessions::end))
        .routes(routes!(analytics::show))
        .routes(routes!(analytics::forecast))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::show))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::rules, alerts::create_rule))
        .routes(routes!(alerts::change_rule, alerts::remove_rule))
        .routes(routes!(channels::list, channels::create))
        .routes(routes!(channels::show, channels::change, channels::remove))
        .routes(routes!(channels::rotate))
        .routes(routes!(channels::test))
        .routes(routes!(channels::deliveries))
        .routes(routes!(channels::resend))
        .routes(routes!(invoices::subscription))
        .routes(routes!(invoices::preview))
        .routes(routes!(invoices::list))
        .routes(routes!(invoices::draft))
        .routes(routes!(invoices::finalize))
        .routes(routes!(invoices::show))
        .routes(routes!(invoices::void))
        .routes(routes!(invoices::paid))
        .routes(routes!(invoices::verify))
        .routes(routes!(spend_caps::show, spend_caps::set, spend_caps::remove))
        .routes(routes!(billing_events::exports))
        .routes(routes!(billing_events::list))
        .routes(routes!(billing_events::resend))
        .routes(routes!(billing_events::settle))
        .routes(routes!(settings::list))
        .routes(routes!(settings::show, settings::set, settings::remove))
        .routes(routes!(settings::rotate))
        .routes(routes!(usage_logs::list))
        .routes(routes!(gauges::levels))
        .routes(routes!(audit_logs::list))
        .routes(routes!(audit_logs::verify))
        .routes(routes!(audit_logs::list_of_platform))
        .routes(routes!(audit_logs::verify_platform, audit_logs::verify_chains))
        .routes(routes!(archives::export))
        .routes(routes!(tiers::list, tiers::set))
        .routes(routes!(tiers::resource_types))
        .routes(routes!(reconcile::show))
        .routes(routes!(apply::apply))
        .routes(routes!(bulk::list, bulk::create))
        .routes(routes!(bulk::dry_run))
        .routes(routes!(bulk::show))
        .routes(routes!(bulk::items))
        .routes(routes!(bulk::cancel))
        .routes(routes!(bulk::resume))
        .routes(routes!(reports::idle_tenants))
        .routes(routes!(reports::unbilled_tenants))
        .routes(routes!(reports::idle_keys))
        .routes(routes!(reports::oversized))
}

/// What tells nothing about tenants, or asks for no credential but what it is sent.
pub(super) fn open() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(openapi::show))
        .routes(routes!(sessions::create))
        .routes(routes!(oidc::begin))
        .routes(routes!(oidc::finish))
        .routes(routes!(members::accept))
        .routes(routes!(users::set_password))
        .routes(routes!(billing_news::hear))
}

/// What the API says of itself: OpenAPI 3.1.
pub fn document() -> Value {
    openapi::document([(Access::Guarded, guarded().into_openapi()), (Access::Open, open().into_openapi())])
}

/// The API. `local` is the token that opens it for whoever may read the data directory; `clock` is what the ids of
/// requests are made of.
pub fn router(control: Control, local: LocalToken, clock: Arc<dyn Clock>) -> Router {
    let api = Api { control, local };
    let routes = Router::from(guarded())
        .route_layer(from_fn_with_state(api.clone(), idempotent))
        .route_layer(from_fn_with_state(api.clone(), authenticate))
        .merge(open())
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
