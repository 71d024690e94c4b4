//! Reading a small document from a trusted place.
//!
//! Strict where a browser is not: the address is the operator's, redirects are not followed, and an answer has an end
//! in time and in bytes. Plain `http:` is for this machine only: tests and sidecars.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Real sets of keys have some kilobytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// From the first packet to the last byte.
const FETCHED_WITHIN: Duration = Duration::from_secs(5);

/// A client for documents.
pub(super) struct Fetcher {
    tls: TlsConnector,
}

/// Certificates that nobody can be recognized by.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadTrust {
    #[error("reading the certificates of {0}")]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("{0} has no certificate that could vouch for a server")]
    Empty(PathBuf),
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the address is no https URL")]
    Url,
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("asking")]
    Exchange(#[source] hyper::Error),
    #[error("it answers {0}, and only 200 is good (redirects are not followed)")]
    Status(StatusCode),
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("reading the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it took longer than {} seconds", FETCHED_WITHIN.as_secs())]
    TimedOut,
}

/// Where a document is.
struct Place {
    is_tls: bool,
    host: String,
    port: u16,
    /// Host and port as they were written.
    authority: String,
    target: String,
}

// === impl Fetcher ===

impl Fetcher {
    /// A client that trusts the certificates in `ca`, or the system's if it is `None`.
    ///
    /// # Errors
    /// [`BadTrust`]
    pub(super) fn new(ca: Option<&Path>) -> Result<Fetcher, BadTrust> {
        let roots = match ca {
            Some(path) => roots_of(path)?,
            None => system_roots(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadTrust::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Fetcher { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Reads the document at `url`. Dropping the future ends the connection.
    ///
    /// # Errors
    /// [`FetchError`]
    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let place = Place::parse(url).ok_or(FetchError::Url)?;
        timeout(FETCHED_WITHIN, self.get_from(&place)).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn get_from(&self, place: &Place) -> Result<Vec<u8>, FetchError> {
        let stream = TcpStream::connect((&*place.host, place.port)).await.map_err(FetchError::Connect)?;
        if !place.is_tls {
            return exchange(stream, place).await;
        }
        let name = ServerName::try_from(place.host.clone()).map_err(|_| FetchError::Url)?;
        let stream = self.tls.connect(name, stream).await.map_err(FetchError::Connect)?;
        exchange(stream, place).await
    }
}

async fn exchange<S>(stream: S, place: &Place) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(FetchError::Exchange)?;
    let asking = async {
        let response = sender.send_request(place.request()?).await.map_err(FetchError::Exchange)?;
        whole(response).await
    };
    // The connection moves the bytes while the answer is read; it has nothing to say of its own.
    let moving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! { answer = asking => answer, answer = moving => answer }
}

async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    match Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLong),
        Err(error) => Err(FetchError::Read(error)),
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, BadTrust> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| BadTrust::Read(path.to_owned(), error))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(BadTrust::Empty(path.to_owned())) } else { Ok(roots) }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(faults = ?found.errors, "this system has no certificates: no https server will be believed");
    }
    roots
}

/// Whether two URLs lead to one host; ports may differ.
pub(super) fn are_of_one_host(one: &str, other: &str) -> bool {
    match (Place::parse(one), Place::parse(other)) {
        (Some(one), Some(other)) => one.host.eq_ignore_ascii_case(&other.host),
        _ => false,
    }
}

// === impl Place ===

impl Place {
    /// `None` unless it is an `https:` URL, or an `http:` URL of this machine.
    fn parse(url: &str) -> Option<Place> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let may_be_plain = uri.scheme() == Some(&Scheme::HTTP) && is_here;
        if !(is_tls || may_be_plain) || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Some(Place { is_tls, host, port, authority: authority.to_string(), target })
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, FetchError> {
        let request = Request::get(&self.target)
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        request.body(Empty::new()).map_err(|_| FetchError::Url)
    }
}
