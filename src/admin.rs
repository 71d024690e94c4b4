//! The admin address: `/metrics`, `/healthz`, `/readyz`, the public keys of signatures, the console, and the REST API behind them.
//!
//! Knows the console and the API only as routers that it is handed, whose own rules guard them. Never on the proxy's port, so that no tenant's client can reach an administrator's door by choosing a path.
//! The three probes ask for no credential and tell nothing about tenants; `/` and what is below
//! `/console` are the console's, and everything else is the API's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::telemetry::readiness::Readiness;

/// How long answers in progress may take after the order to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What the admin address shows.
#[derive(Clone)]
pub struct AdminParts {
    pub registry: Registry,
    pub readiness: Readiness,
    /// The JWK set by which upstreams verify signed headers, and auditors checkpoints of the audit log and exports.
    pub signing_keys: String,
    /// As `console::router` builds it: the addresses that people open.
    pub console: Router,
    /// As `api::router` builds it: every other address.
    pub api: Router,
}

/// Serves until `shutdown` is done, then finishes the answers in progress, for 10 seconds at most.
///
/// Dropping the future closes the listener; answers in progress end with the runtime.
///
/// # Errors
/// When the listener can't be used any more.
pub async fn serve(
    listener: TcpListener,
    parts: AdminParts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // An answer is written at once; waiting to fill a segment only delays it. Failing costs speed, no more.
        let _ = connection.set_nodelay(true);
    });
    let service = router(parts).into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = stopping.send(());
    });
    tokio::select! {
        served = serving.into_future() => served,
        () = overdue(stopped) => Ok(()),
    }
}

/// Everything that the admin address answers.
pub fn router(parts: AdminParts) -> Router {
    let AdminParts { registry, readiness, signing_keys, console, api } = parts;
    let headers =
        [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=300")];
    Router::new()
        .route("/.well-known/jwks.json", get(move || async move { (headers, signing_keys) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
        .merge(console)
        .fallback_service(api)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be written as text");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Ends [`DRAIN_MAX`] after the order to stop; never, if none comes.
async fn overdue(stopped: tokio::sync::oneshot::Receiver<()>) {
    match stopped.await {
        Ok(()) => tokio::time::sleep(DRAIN_MAX).await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use prometheus::{IntCounter, Registry};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tower::ServiceExt;

    use super::{AdminParts, router, serve};
    use crate::telemetry::readiness::Readiness;

    async fn get(parts: &AdminParts, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(parts.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn parts() -> AdminParts {
        let api = Router::new().fallback(|| async { "the API" });
        AdminParts {
            registry: Registry::new(),
            readiness: Readiness::default(),
            signing_keys: "{}".to_owned(),
            console: Router::new(),
            api,
        }
    }

    #[tokio::test]
    async fn the_process_is_alive_before_it_is_ready() {
        let parts = parts();
        parts.readiness.expect("store");
        assert_eq!(get(&parts, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        let (status, body) = get(&parts, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            r#"{"ready":false,"checks":[{"name":"store","ready":false,"detail":"not started yet"}]}"#
        );
        parts.readiness.ready("store");
        let (status, body) = get(&parts, "/readyz").await;
        assert_eq!(
            (status, &*body),
            (StatusCode::OK, r#"{"ready":true,"checks":[{"name":"store","ready":true}]}"#)
        );
    }

    #[tokio::test]
    async fn the_keys_of_signatures_are_public() {
        assert_eq!(get(&parts(), "/.well-known/jwks.json").await, (StatusCode::OK, "{}".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_what_the_registry_holds_and_the_rest_is_the_apis() {
        let parts = parts();
        let counter = IntCounter::new("tollgate_test_total", "A test.").unwrap();
        parts.registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let (status, text) = get(&parts, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("tollgate_test_total 1"), "{text}");
        assert_eq!(get(&parts, "/else").await, (StatusCode::OK, "the API".to_owned()));
    }

    #[tokio::test]
    async fn it_serves_until_it_is_told_to_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, parts(), async { stopped.await.unwrap() }));

        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        connection.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        // The idle connection is still open and does not hold it up.
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_probe_knows_only_get() {
        let request = Request::post("/healthz").body(Body::empty()).unwrap();
        let response = router(parts()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "GET,HEAD");
    }
}
