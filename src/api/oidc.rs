//! `/api/sessions/oidc`: people log in at the provider, and come back with a session.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::{Problem, ProblemKind};
use super::extract::{Params, Passerby};
use super::openapi::query;
use super::router::Api;
use crate::web;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// What the provider sends people back with.
pub(super) enum Callback {}

/// What the browser brings back, sealed.
const COOKIE: &str = "tollgate_oidc";

/// Where people go who have logged in.
const HOME: &str = "/";

/// Sends the browser to the provider.
#[utoipa::path(
    get, path = "/api/sessions/oidc",
    responses(
        (
            status = 303,
            description = "Off to the provider",
            headers(
                ("Location" = String, description = "Where the provider asks who it is"),
                ("Set-Cookie" = String, description = "What the browser brings back"),
            ),
        ),
        (status = 404, description = "No provider is configured"),
    ),
)]
pub(super) async fn begin(State(api): State<Api>) -> Result<Response, Problem> {
    let begun = api.control.oidc_begin().await?;
    let mut response = sent_to(&begun.url)?;
    set_cookie(&api, &mut response, &begun.cookie, 600);
    Ok(response)
}

/// Ends the log-in, when the provider has sent the browser back.
#[utoipa::path(
    get, path = "/api/sessions/oidc/callback",
    params(Callback),
    responses(
        (
            status = 303,
            description = "Logged in",
            headers(
                ("Location" = String, description = "The console"),
                ("Set-Cookie" = String, description = "The session's cookie"),
            ),
        ),
        (status = 401, description = "Not who they say"),
        (status = 404, description = "No provider is configured"),
    ),
)]
pub(super) async fn finish(
    Passerby(person): Passerby,
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let (state, code) = (params.text("state"), params.text("code"));
    let (Some(state), Some(code)) = (state, code) else {
        return Err(Problem::new(ProblemKind::Unauthenticated, "the provider vouches for nobody"));
    };
    let cookie = web::cookie(&headers, COOKIE).unwrap_or_default();
    let made = api.control.oidc_finish(&person, cookie, &state, &code).await?;
    let mut response = sent_to(HOME)?;
    set_cookie(&api, &mut response, "", 0);
    web::set_session_cookie(&api.control, &mut response, &made.token);
    Ok(response)
}

fn sent_to(url: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(url)
        .map_err(|_| Problem::new(ProblemKind::Internal, "the provider's address is no header"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn set_cookie(api: &Api, response: &mut Response, value: &str, seconds: u64) {
    web::set_cookie(&api.control, response, COOKIE, value, "/api/sessions/oidc", seconds);
}

// === impl Callback ===

impl utoipa::IntoParams for Callback {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<String>("state", "What the log-in began with"),
            query::<String>("code", "What the provider vouches with"),
        ]
    }
}
