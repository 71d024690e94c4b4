//! The last door of every answer: its `x-request-id`, and the one place where a refusal is written.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use uuid::{NoContext, Uuid};

use super::error::{Problem, ProblemKind};
use crate::clock::Clock;

/// One id for all that one request did: in its answer, in the log and in the audit rows. A UUIDv7.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId(pub(super) Uuid);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, and the answer the id and its body, if it is a [`Problem`]'s.
///
/// The id is always ours: one that a client chose could claim another request's audit rows.
pub(super) async fn seal(State(clock): State<Arc<dyn Clock>>, mut request: Request, next: Next) -> Response {
    let id = new_id(clock.as_ref());
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.written(id);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    // Answers hold tenants' data, some of them a secret.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}

/// The answer to a method that an address does not know; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(ProblemKind::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}

pub(super) async fn no_such_address(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", uri.path()))
}

fn new_id(clock: &dyn Clock) -> Uuid {
    let now = clock.now();
    let seconds = u64::try_from(now.seconds()).unwrap_or(0);
    let nanos = u32::try_from(now.micros().rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}
