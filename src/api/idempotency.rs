//! `Idempotency-Key`: a POST that is sent twice and done once.
//!
//! Only what was done is remembered: a request that was refused changed nothing and may be sent again under its key.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archives;
use super::error::{Problem, ProblemKind};
use super::extract::Caller;
use super::router::Api;
use crate::control::{Claim, Claimed, FieldFault};

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const KEY_LENGTH_MAX: usize = 255;

/// Passes requests without the header, and those that are sent for the first time; answers the others.
pub(super) async fn idempotent(
    State(api): State<Api>,
    Caller(principal): Caller,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(key) = key_of(request.method(), request.headers())? else { return Ok(next.run(request).await) };
    let (request, digest) = digested(request).await?;
    match api.control.claim(&principal, &key, &digest).await? {
        Claimed::First(claim) => {
            // A task of its own: what was begun is done and its answer kept, even if the client goes away.
            let done = tokio::spawn(async move { done(claim, next.run(request).await).await });
            done.await.unwrap_or_else(|_| Err(Problem::new(ProblemKind::Internal, "the request ended early")))
        }
        Claimed::Done(answer) => Ok(replayed(&answer)),
        Claimed::Open => Err(Problem::new(
            ProblemKind::Conflict,
            "a request with this Idempotency-Key is being worked on, or its outcome is not known: look what was done",
        )),
        Claimed::Other => Err(Problem::invalid(vec![FieldFault::new(
            "Idempotency-Key",
            "it was sent with another request: choose a new one for each",
        )])),
    }
}

fn key_of(method: &Method, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY).filter(|_| method == Method::POST) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| (1..=KEY_LENGTH_MAX).contains(&text.len()));
    let expected = format!("1 to {KEY_LENGTH_MAX} printable ASCII characters are expected");
    let bad = || Problem::invalid(vec![FieldFault::new("Idempotency-Key", expected)]);
    text.map(|text| Some(text.to_owned())).ok_or_else(bad)
}

/// The same request, and a digest of all that makes it what it is.
async fn digested(request: Request) -> Result<(Request, [u8; 32]), Problem> {
    let (parts, body) = request.into_parts();
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ProblemKind::TooLarge, "the body is above 1 MiB"),
        _ => Problem::new(ProblemKind::Malformed, "the body ended early"),
    })?;
    let mut hash = Sha256::new();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    hash.update(target.as_bytes());
    hash.update([0]);
    hash.update(&body);
    Ok((Request::from_parts(parts, Body::from(body)), hash.finalize().into()))
}

/// Keeps the answer if something was done.
async fn done(claim: Claim, response: Response) -> Result<Response, Problem> {
    // An archive is no answer to be kept: asked again, it is made again.
    let is_archive = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == archives::ARCHIVE);
    if !response.status().is_success() || is_archive {
        claim.answered(None).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let unread = |_| Problem::new(ProblemKind::Internal, "the answer could not be read");
    let body = body.collect().await.map_err(unread)?.to_bytes();
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let kept = Kept {
        status: parts.status.as_u16(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    claim.answered(serde_json::to_string(&kept).ok().as_deref()).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replayed(answer: &str) -> Response {
    let Ok(kept) = serde_json::from_str::<Kept>(answer) else {
        return Problem::new(ProblemKind::Internal, "the answer that was kept can't be read").into_response();
    };
    let mut response = Response::new(Body::from(kept.body));
    *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    for (name, value) in kept.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
