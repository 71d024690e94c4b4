//! The last door of every answer: its `x-request-id`, and the one place where a refusal is written.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::{Problem, ProblemKind};
use crate::clock::Clock;
use crate::web::RequestId;

/// Gives the request its id, and the answer the id and its body, if it is a [`Problem`]'s.
pub(super) async fn seal(State(clock): State<Arc<dyn Clock>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new(clock.as_ref());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.written(id.0);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    // Answers hold tenants' data, some of them a secret.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    id.tell(headers);
    response
}

/// The answer to a method that an address does not know; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(ProblemKind::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}

pub(super) async fn no_such_address(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", uri.path()))
}
