//! The command line's way to the API: over the admin address of a running gateway, or in process when none runs.
//!
//! Both ways pass the same router, so a command means the same thing beside a gateway and without one. One client
//! sends one request at a time over one connection each: a command sends one or two.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::local::{LocalDoor, LocalToken};

pub use axum::http::Method;

/// A gateway beside us answers within milliseconds; a store under load within seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest answer that is read: a thousand rows of the largest kind, many times over.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Who answers the command line.
#[derive(Clone, Debug)]
pub enum Client {
    /// A running gateway, at its admin address.
    Remote(LocalDoor),
    /// This process, as [`router`](super::router()) built it with the same token.
    InProcess(Router, LocalToken),
}

/// What the API said.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// `null` when the answer has no body.
    pub body: Value,
    /// The same as it was sent: its fields in the order of the documentation.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connecting to the gateway's admin address {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("asking the gateway at its admin address {0}")]
    Exchange(SocketAddr, #[source] hyper::Error),
    #[error("the gateway at its admin address {0} did not answer within 30 seconds")]
    TimedOut(SocketAddr),
    #[error("reading the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer (status {0}) is no JSON: is that address a gateway's admin address?")]
    NoJson(StatusCode, #[source] serde_json::Error),
    #[error("`{0}` is no address of the API")]
    BadPath(String, #[source] axum::http::Error),
}

// === impl Client ===

impl Client {
    /// Sends one request. `path` begins with `/api/` and is percent-encoded already.
    ///
    /// Dropping the future abandons the answer; what was asked for may still be done.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer. A refusal is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let request =
            self.request(method, path, body).map_err(|e| ClientError::BadPath(path.to_owned(), e))?;
        match self {
            Client::Remote(door) => {
                let address = door.address();
                let asked = tokio::time::timeout(ANSWER_WITHIN, exchange(address, request)).await;
                asked.unwrap_or(Err(ClientError::TimedOut(address)))
            }
            Client::InProcess(router, _) => {
                let answered = router.clone().oneshot(request.map(Body::new)).await;
                let response = answered.unwrap_or_else(|never| match never {});
                read(response.status(), response.into_body()).await
            }
        }
    }

    /// Whether there is somebody who knows our token: false for the door of a gateway that is gone, even if another
    /// program has its port now.
    pub async fn is_welcome(&self) -> bool {
        self.send(Method::GET, "/api/tiers", None).await.is_ok_and(|answer| answer.status.is_success())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> axum::http::Result<Request<Full<Bytes>>> {
        let (host, token) = match self {
            Client::Remote(door) => (door.address().to_string(), door.token()),
            Client::InProcess(_, token) => ("localhost".to_owned(), token),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body.unwrap_or_default()))
    }
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
    let stream = TcpStream::connect(address).await.map_err(|e| ClientError::Connect(address, e))?;
    let exchanging = |error| ClientError::Exchange(address, error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(exchanging)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(exchanging)?;
        read(response.status(), response.into_body()).await
    };
    // The connection moves the bytes while the answer is read; it has nothing to say of its own.
    let moving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! { answer = asking => answer, answer = moving => answer }
}

async fn read<B>(status: StatusCode, body: B) -> Result<Answer, ClientError>
where
    B: axum::body::HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(ClientError::Read)?.to_bytes();
    let text = if bytes.is_empty() { "null".into() } else { String::from_utf8_lossy(&bytes) }.into_owned();
    let body = serde_json::from_str(&text).map_err(|error| ClientError::NoJson(status, error))?;
    Ok(Answer { status, body, text })
}
