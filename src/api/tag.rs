//! Versions as HTTP says them: `ETag` in answers, `If-Match` in requests.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::{Problem, ProblemKind};
use super::openapi::optional;

/// The version in `If-Match`; `None` if there is no such header, or if any version will do (`*`).
pub(super) struct IfMatch(pub(super) Option<i64>);

/// The body, with its version as `ETag`, if it has one.
pub(super) fn tagged(version: Option<i64>, body: impl Serialize) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(tag) = version.and_then(etag) {
        headers.insert(header::ETAG, tag);
    }
    (headers, axum::Json(body)).into_response()
}

pub(super) fn etag(version: i64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

// === impl IfMatch ===

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(IfMatch(None)),
            (Some(value), None) => if_match(value),
            (Some(_), Some(_)) => Err(unknown_tag()),
        }
    }
}

impl utoipa::IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "Do it only if the `ETag` is still this one; `*` is any";
        vec![optional(ParameterIn::Header, "If-Match", about, String::schema())]
    }
}

fn if_match(value: &HeaderValue) -> Result<IfMatch, Problem> {
    if value == "*" {
        return Ok(IfMatch(None));
    }
    let quoted = value.to_str().ok().map(str::trim);
    let version = quoted.and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    version.map(|version| IfMatch(Some(version))).ok_or_else(unknown_tag)
}

/// A tag that we never gave out matches nothing.
fn unknown_tag() -> Problem {
    Problem::new(ProblemKind::Stale, "`If-Match` must be one `ETag` of this resource, in quotes, or *")
}
