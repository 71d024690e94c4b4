//! The last door of every answer: its id, the headers that keep a page to itself, and the one place where a refusal is
//! written.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use super::layout::{self, Look};
use super::refusal::Refusal;
use super::router::Console;
use crate::web::RequestId;

/// Nothing is loaded from elsewhere, sent elsewhere or framed elsewhere, and no text of a page is a script or a style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A year, as browsers' preload lists ask for.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

const GUARDS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Set by htmx, which takes a part of a page.
pub(super) const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");

/// A page, or a part of one.
///
/// # Errors
/// [`Refusal::Internal`] for a template that can't be filled: a fault of ours.
pub(super) fn html(template: &impl Template) -> Result<Response, Refusal> {
    Ok(Html(template.render()?).into_response())
}

/// The answer to a form that was done: the browser goes on to `address`, and reloading it repeats nothing.
pub(super) fn see_other(address: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(address) else {
        return Refusal::NotFound("that page".to_owned()).into_response();
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// Gives the request its id, and the answer the id, its guards and, if it is a [`Refusal`]'s, its page.
pub(super) async fn seal(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new(console.clock.as_ref());
    request.extensions_mut().insert(id);
    let look = Look::of(request.uri(), request.headers());
    let is_part = request.headers().contains_key(HX_REQUEST);
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.written(&look, id);
    }
    if is_page(response.headers()) && !is_part && look.has_flash() {
        layout::forget_flash(&console.control, &mut response);
    }
    guard(response.headers_mut(), console.control.session_settings().is_secure);
    id.tell(response.headers_mut());
    response
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

fn guard(headers: &mut HeaderMap, is_secure: bool) {
    headers.extend(GUARDS);
    if is_secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    // Pages hold tenants' data, some of them a secret.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

pub(super) async fn no_such_page(uri: Uri) -> Refusal {
    Refusal::NotFound(format!("page at {}", uri.path()))
}

pub(super) async fn method_not_allowed() -> Refusal {
    Refusal::Method
}
