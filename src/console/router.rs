//! The whole console on one page: every address, by what it is about.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use super::fleet::Process;
use super::live::Streams;
use super::page::{method_not_allowed, no_such_page, seal};
use super::session::authenticate;
use super::{
    account, alerts, assets, audit, billing, billing_events, brand, channels, children, fleet, home,
    invoices, join, keys, live, log_in, members, new_tenant, overview, quotas, roles, settings, status,
    tenants, theme, upgrade, usage,
};
use crate::clock::Clock;
use crate::control::Control;

/// What every handler can reach.
#[derive(Clone)]
pub(super) struct Console {
    pub(super) control: Control,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) process: Process,
    pub(super) streams: Streams,
}

/// The longest form that is read.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What asks for a session.
fn guarded() -> Router<Console> {
    Router::new()
        .route("/console/", get(home::show))
        .route("/console/log-out", post(log_in::log_out))
        .route("/console/account", get(account::show))
        .route("/console/account/sessions/{session}/end", post(account::end_session))
        .route("/console/account/password", get(account::password).post(account::change_password))
        .route(
            "/console/account/second-factor",
            get(account::second_factor).post(account::begin_second_factor),
        )
        .route("/console/account/second-factor/confirm", post(account::confirm_second_factor))
        .route("/console/account/second-factor/remove", post(account::remove_second_factor))
        .route("/console/audit", get(audit::show_platform))
        .route("/console/fleet", get(fleet::show))
        .route("/console/billing-events", get(billing_events::list))
        .route("/console/billing-events/{event}", get(billing_events::show))
        .route("/console/billing-events/{event}/resend", post(billing_events::resend))
        .route("/console/billing-events/{event}/settle", post(billing_events::settle))
        .merge(members())
        .merge(alerts())
        .merge(billing())
        .route("/console/tenants/{tenant}/settings", get(settings::show).post(settings::add))
        .route("/console/tenants/{tenant}/settings/{setting}", post(settings::set))
        .route("/console/tenants/{tenant}/settings/{setting}/reset", post(settings::reset))
        .route("/console/tenants/{tenant}/audit", get(audit::show))
        .route("/console/tenants/{tenant}/children", get(children::show).post(children::create))
        .route("/console/tenants/{tenant}/children/{child}", get(children::show_child))
        .route("/console/tenants/{tenant}/children/{child}/quota", post(children::set_quota))
        .route("/console/tenants", get(tenants::list))
        .route("/console/new-tenant", get(new_tenant::show).post(new_tenant::create))
        .route("/console/tenants/{tenant}", get(overview::show))
        .route("/console/tenants/{tenant}/live", get(live::show))
        .route("/console/tenants/{tenant}/live/events", get(live::events))
        .route("/console/tenants/{tenant}/quotas", get(quotas::show))
        .route("/console/tenants/{tenant}/quotas/{resource}", get(quotas::edit).post(quotas::set))
        .route("/console/tenants/{tenant}/quotas/{resource}/remove", post(quotas::remove))
        .route("/console/tenants/{tenant}/upgrade", get(upgrade::show).post(upgrade::confirm))
        .route("/console/tenants/{tenant}/usage", get(usage::show))
        .route("/console/tenants/{tenant}/keys", get(keys::list))
        .route("/console/tenants/{tenant}/keys/new", get(keys::show_new).post(keys::create))
        .route("/console/tenants/{tenant}/keys/{key}", get(keys::show).post(keys::change))
        .route("/console/tenants/{tenant}/keys/{key}/rotate", post(keys::rotate))
        .route("/console/tenants/{tenant}/keys/{key}/revoke", post(keys::revoke))
        .route("/console/tenants/{tenant}/status", get(status::show).post(status::set))
}

/// The people of a tenant, and what they can be.
fn members() -> Router<Console> {
    Router::new()
        .route("/console/tenants/{tenant}/members", get(members::show).post(members::invite))
        .route("/console/tenants/{tenant}/members/invitations/{invitation}/withdraw", post(members::withdraw))
        .route("/console/tenants/{tenant}/members/{user}/role", post(members::change))
        .route(
            "/console/tenants/{tenant}/members/{user}/remove",
            get(members::ask_remove).post(members::remove),
        )
        .route("/console/tenants/{tenant}/members/roles", get(roles::show).post(roles::set))
        .route("/console/tenants/{tenant}/members/roles/{role}/remove", post(roles::remove))
}

/// What a tenant is told, and where.
fn alerts() -> Router<Console> {
    Router::new()
        .route("/console/tenants/{tenant}/alerts", get(alerts::show))
        .route("/console/tenants/{tenant}/alerts/{alert}/acknowledge", post(alerts::acknowledge))
        .route("/console/tenants/{tenant}/alerts/rules", get(alerts::rules).post(alerts::create_rule))
        .route("/console/tenants/{tenant}/alerts/rules/{rule}", post(alerts::change_rule))
        .route("/console/tenants/{tenant}/alerts/rules/{rule}/remove", post(alerts::remove_rule))
        .route("/console/tenants/{tenant}/alerts/channels", get(channels::show).post(channels::create))
        .route("/console/tenants/{tenant}/alerts/channels/{channel}", post(channels::switch))
        .route("/console/tenants/{tenant}/alerts/channels/{channel}/rotate", post(channels::rotate))
        .route("/console/tenants/{tenant}/alerts/channels/{channel}/test", post(channels::test))
        .route("/console/tenants/{tenant}/alerts/channels/{channel}/remove", post(channels::remove))
        .route("/console/tenants/{tenant}/alerts/deliveries", get(channels::deliveries))
        .route("/console/tenants/{tenant}/alerts/deliveries/{delivery}/resend", post(channels::resend))
}

/// What a tenant owes.
fn billing() -> Router<Console> {
    Router::new()
        .route("/console/tenants/{tenant}/billing", get(billing::show))
        .route("/console/tenants/{tenant}/billing/finalize", post(billing::finalize))
        .route("/console/tenants/{tenant}/billing/cap", post(billing::set_cap))
        .route("/console/tenants/{tenant}/billing/scheduled/withdraw", post(billing::withdraw))
        .route("/console/tenants/{tenant}/billing/rows", get(invoices::rows))
        .route("/console/tenants/{tenant}/billing/levels", get(invoices::levels))
        .route("/console/tenants/{tenant}/billing/invoices/{invoice}", get(invoices::show))
        .route("/console/tenants/{tenant}/billing/invoices/{invoice}/void", post(invoices::void))
        .route("/console/tenants/{tenant}/billing/invoices/{invoice}/paid", post(invoices::paid))
}

/// What asks for nothing but what it is sent.
fn open() -> Router<Console> {
    Router::new()
        .route("/", get(home::redirect))
        .route("/console", get(home::redirect))
        .route("/console/log-in", get(log_in::show).post(log_in::log_in))
        .route("/console/first-log-in", get(log_in::show_first).post(log_in::first))
        .route("/console/join", get(join::show).post(join::join))
        .route("/console/set-password", get(join::show_password).post(join::set_password))
        .route("/console/theme", post(theme::set))
        .route("/console/assets/{hash}/{name}", get(assets::show))
        .route("/console/brand/{color}", get(brand::show))
        .route("/console/{*path}", any(no_such_page))
}

/// The console: `/` and everything below `/console`. `clock` is what the ids of requests are made of.
pub fn router(control: Control, clock: Arc<dyn Clock>, process: Process) -> Router {
    let console = Console { control, clock, process, streams: Streams::default() };
    guarded()
        .route_layer(from_fn_with_state(console.clone(), authenticate))
        .merge(open())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(console.clone(), seal))
        .with_state(console)
}
