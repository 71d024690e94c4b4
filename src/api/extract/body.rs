//! The body: as JSON, or byte for byte.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{NO_NUL, NUL, Problem, ProblemKind};
use crate::control::FieldFault;

/// The body, as JSON. Fields that `T` does not know are refused.
pub(in crate::api) struct Json<T>(pub(in crate::api) T);

/// The same, where no body at all means `T::default()`.
pub(in crate::api) struct OptionalJson<T>(pub(in crate::api) T);

/// The body, byte for byte.
pub(in crate::api) struct Whole(pub(in crate::api) Bytes);

// === impl Json ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = body(request, state).await?;
        if !is_json {
            return Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "send the body as JSON, with `Content-Type: application/json`",
            ));
        }
        from_json(&bytes).map(Json)
    }
}

// === impl Whole ===

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        body(request, state).await.map(Whole)
    }
}

// === impl OptionalJson ===

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, content) = request.into_parts();
        let bytes = body(Request::from_parts(parts.clone(), content), state).await?;
        if bytes.is_empty() {
            return Ok(OptionalJson(T::default()));
        }
        let Json(value) = Json::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        Ok(OptionalJson(value))
    }
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ProblemKind::TooLarge, "the body is above 1 MiB"),
        _ => Problem::new(ProblemKind::Malformed, "the body ended early"),
    })
}

/// `application/json` or `application/*+json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take a list for an object's fields in their order: a form that nobody was promised.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid(vec![FieldFault::new("body", "must be an object")]));
    }
    refuse_nul(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| unreadable(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| unreadable(".", &error))?;
    Ok(value)
}

/// In JSON it is written in one way only, which is rare enough to look closer then.
fn refuse_nul(bytes: &[u8]) -> Result<(), Problem> {
    if memchr::memmem::find(bytes, br"\u0000").is_none() {
        return Ok(());
    }
    // What can't be read is told by who reads it.
    let body = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let field = with_nul(&body, String::new());
    field.map_or(Ok(()), |field| Err(Problem::invalid(vec![FieldFault::new(field, NO_NUL)])))
}

/// The first field with that character in it, which is at `path` or below.
fn with_nul(value: &Value, path: String) -> Option<String> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) => text.contains(NUL).then_some(path),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| with_nul(item, format!("{path}[{at}]")))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| match name.contains(NUL) {
            true => Some(below(&name.replace(NUL, ""))),
            false => with_nul(member, below(name)),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Broken JSON is told by its line and column, a wrong value by its field.
fn unreadable(path: &str, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::new(ProblemKind::Malformed, format!("the body is no JSON: {error}"));
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    Problem::invalid(vec![FieldFault::new(faulty_field(path, message), message)])
}

/// The field that `message` is about. A missing field is reported at the object that lacks it.
fn faulty_field(path: &str, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match (path, missing) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "body".to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    }
}
