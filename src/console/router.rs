//! The whole console on one page: every address, by what it is about.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use super::page::{method_not_allowed, no_such_page, seal};
use super::session::authenticate;
use super::{assets, home, log_in, new_tenant, overview, status, tenants, theme};
use crate::clock::Clock;
use crate::control::Control;

/// What every handler can reach.
#[derive(Clone)]
pub(super) struct Console {
    pub(super) control: Control,
    pub(super) clock: Arc<dyn Clock>,
}

/// The longest form that is read.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What asks for a session.
fn guarded() -> Router<Console> {
    Router::new()
        .route("/console/", get(home::show))
        .route("/console/log-out", post(log_in::log_out))
        .route("/console/tenants", get(tenants::list))
        .route("/console/new-tenant", get(new_tenant::show).post(new_tenant::create))
        .route("/console/tenants/{tenant}", get(overview::show))
        .route("/console/tenants/{tenant}/status", get(status::show).post(status::set))
}

/// What asks for nothing but what it is sent.
fn open() -> Router<Console> {
    Router::new()
        .route("/", get(home::redirect))
        .route("/console", get(home::redirect))
        .route("/console/log-in", get(log_in::show).post(log_in::log_in))
        .route("/console/first-log-in", get(log_in::show_first).post(log_in::first))
        .route("/console/theme", post(theme::set))
        .route("/console/assets/{hash}/{name}", get(assets::show))
        .route("/console/{*path}", any(no_such_page))
}

/// The console: `/` and everything below `/console`. `clock` is what the ids of requests are made of.
pub fn router(control: Control, clock: Arc<dyn Clock>) -> Router {
    let console = Console { control, clock };
    guarded()
        .route_layer(from_fn_with_state(console.clone(), authenticate))
        .merge(open())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(console.clone(), seal))
        .with_state(console)
}
