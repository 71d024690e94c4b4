//! One question to a server elsewhere, and its answer: documents that are fetched, messages that are delivered.
//!
//! Strict where a browser is not: redirects are not followed, an answer has an end in time and in bytes, certificates
//! are verified, and a name is resolved once: the address that was judged is the one that is connected to, so a
//! server of names can't say one thing to the judge and another to the connection. Who may be reached is the caller's
//! to say ([`Reach`]): an address that a tenant chose must not lead into the network that the gateway stands in.
//!
//! Knows no clock, no store and nothing of what it carries.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Asks servers that it verifies.
#[derive(Clone)]
pub struct Outbound {
    tls: TlsConnector,
}

/// Where a server is, and what is asked of it: an `http` or `https` URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub is_tls: bool,
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as they were written.
    authority: String,
    /// Path and query.
    target: String,
}

/// Whether a URL may be `http:`, without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plain {
    Never,
    /// To this machine only: tests and sidecars.
    Here,
    Anywhere,
}

/// Which addresses may be connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Any: the operator chose the server.
    Anywhere,
    /// Those of the public internet, and these networks.
    Public { and: Vec<IpNet> },
}

/// How long an answer may take and be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// From the resolution of the name to the last byte.
    pub within: Duration,
    pub bytes_max: usize,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// Beside `host` and `user-agent`.
    pub headers: Vec<(&'static str, String)>,
    /// Makes it a POST; without it it is a GET.
    pub body: Option<Vec<u8>>,
}

/// What a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    /// How long it wants to be left alone, where it says so in seconds (`Retry-After`).
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Certificates that nobody can be recognized by.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    #[error("reading the certificates of {0}")]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("{0} has no certificate that could vouch for a server")]
    Empty(PathBuf),
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the address is no URL that may be asked")]
    Url,
    /// A header that can't be written.
    #[error("the question can't be written")]
    Question(#[source] hyper::http::Error),
    #[error("resolving {0}")]
    Resolve(String, #[source] io::Error),
    /// The name leads to where nobody may be reached.
    #[error("{0} is not an address that may be reached")]
    Unreachable(IpAddr),
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("asking")]
    Exchange(#[source] hyper::Error),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("reading the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it took longer than {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

/// Networks that are not of the public internet, by the registries of special addresses (RFC 6890 and after).
/// Addresses of IPv6 that carry one of IPv4 are judged by that.
const SPECIAL_V4: [(Ipv4Addr, u8); 14] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Metadata of cloud machines is here.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved, broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

// === impl Outbound ===

impl Outbound {
    /// Trusts the certificates in `ca`, or the system's if it is `None`.
    ///
    /// # Errors
    /// [`BadTrust`]
    pub fn new(ca: Option<&Path>) -> Result<Outbound, BadTrust> {
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
        Ok(Outbound { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Asks, and reads the whole answer. Dropping the future ends the connection; whether the server acted is open then.
    ///
    /// # Errors
    /// [`SendError`]; a refusal is an answer.
    pub async fn send(
        &self,
        place: &Place,
        question: Question,
        reach: &Reach,
        bounds: Bounds,
    ) -> Result<Answer, SendError> {
        let asking = async {
            let request = place.request(question)?;
            let stream = connect(place, reach).await?;
            if !place.is_tls {
                return exchange(stream, request, bounds.bytes_max).await;
            }
            let name = ServerName::try_from(place.host.clone()).map_err(|_| SendError::Url)?;
            let stream = self.tls.connect(name, stream).await.map_err(SendError::Connect)?;
            exchange(stream, request, bounds.bytes_max).await
        };
        timeout(bounds.within, asking).await.unwrap_or(Err(SendError::TimedOut(bounds.within)))
    }
}

/// Resolves the name once and connects to what it led to: the first address that answers.
async fn connect(place: &Place, reach: &Reach) -> Result<TcpStream, SendError> {
    let found = lookup_host((&*place.host, place.port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|error| SendError::Resolve(place.host.clone(), error))?.collect();
    // One address that must not be reached spoils the name: who mixes them means no good.
    if let Some(address) = found.iter().find(|address| !reach.covers(address.ip())) {
        return Err(SendError::Unreachable(address.ip()));
    }
    TcpStream::connect(&*found).await.map_err(SendError::Connect)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Answer, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(SendError::Exchange)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(SendError::Exchange)?;
        whole(response, bytes_max).await
    };
    // The connection moves the bytes while the answer is read; it has nothing to say of its own.
    let moving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! { answer = asking => answer, answer = moving => answer }
}

async fn whole(response: Response<Incoming>, bytes_max: usize) -> Result<Answer, SendError> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    match Limited::new(response.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(Answer { status, retry_after, body: body.to_bytes().into() }),
        Err(error) if error.is::<LengthLimitError>() => Err(SendError::TooLong(bytes_max)),
        Err(error) => Err(SendError::Read(error)),
    }
}

/// `application/x-www-form-urlencoded`.
pub fn form(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", form_encoded(name), form_encoded(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Percent-encoded, except what RFC 3986 calls unreserved.
pub fn form_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// Up to a fifth longer, so that what failed together is not tried again together.
pub fn jittered(pause: Duration) -> Duration {
    let mut chance = [0; 2];
    // Without chance it is the pause itself.
    let _ = getrandom::fill(&mut chance);
    pause + pause.mul_f64(0.2 * f64::from(u16::from_be_bytes(chance)) / f64::from(u16::MAX))
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

// === impl SendError ===

impl SendError {
    /// Whether the server may have had the question all the same.
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            SendError::Url
            | SendError::Question(_)
            | SendError::Resolve(..)
            | SendError::Unreachable(_)
            | SendError::Connect(_) => false,
            SendError::Exchange(_) | SendError::TooLong(_) | SendError::Read(_) | SendError::TimedOut(_) => {
                true
            }
        }
    }
}

// === impl Place ===

impl Place {
    /// `None` unless it is an `https:` URL without a user, or an `http:` URL that `plain` allows.
    pub fn parse(url: &str, plain: Plain) -> Option<Place> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let may_be_plain = match plain {
            Plain::Never => false,
            Plain::Here => is_here,
            Plain::Anywhere => true,
        };
        let is_good = is_tls || (may_be_plain && uri.scheme() == Some(&Scheme::HTTP));
        if !is_good || host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Some(Place { is_tls, host, port, authority: authority.to_string(), target })
    }

    /// The address that is written in place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, SendError> {
        let method = if question.body.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri(&self.target)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        let headers = question.headers.into_iter();
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        request.body(question.body.unwrap_or_default().into()).map_err(SendError::Question)
    }
}

// === impl Reach ===

impl Reach {
    pub fn covers(&self, address: IpAddr) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::Public { and } => {
                let address = address.to_canonical();
                is_public(address) || and.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(carried) => is_public_v4(carried),
            // Global unicast is 2000::/3; what of it is not routed: documentation, benchmarks, protocols, Teredo.
            None => {
                let [first, second, ..] = address.segments();
                let is_special =
                    matches!((first, second), (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x3fff, 0x0000..=0x0fff));
                first >> 13 == 1 && !is_special
            }
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !SPECIAL_V4.iter().any(|(network, length)| (bits ^ network.to_bits()) >> (32 - length) == 0)
}

/// The address of IPv4 that one of IPv6 leads to: NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Plain, Reach};

    #[test]
    fn places_are_https_urls_without_a_user() {
        let place = |url| Place::parse(url, Plain::Never);
        let good = place("https://hooks.example.com/in?x=1").unwrap();
        assert_eq!(
            (good.host.as_str(), good.port, good.target.as_str()),
            ("hooks.example.com", 443, "/in?x=1")
        );
        assert_eq!(place("https://[2001:db8::1]:8443").unwrap().host, "2001:db8::1");
        for bad in
            ["", "/in", "http://example.com/", "ftp://example.com/", "https://a:b@example.com/", "https://"]
        {
            assert_eq!(place(bad), None, "{bad}");
        }
        assert!(Place::parse("http://127.0.0.1:1/", Plain::Here).is_some());
        assert_eq!(Place::parse("http://10.0.0.1/", Plain::Here), None);
        assert!(Place::parse("http://10.0.0.1/", Plain::Anywhere).is_some());
    }

    #[test]
    fn no_address_of_a_network_behind_the_gateway_is_public() {
        let public = Reach::Public { and: Vec::new() };
        let covers = |reach: &Reach, address: &str| reach.covers(address.parse().unwrap());
        for good in [
            "1.1.1.1",
            "9.255.255.255",
            "172.32.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(covers(&public, good), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "::7f00:1",
        ] {
            assert!(!covers(&public, bad), "{bad}");
            assert!(covers(&Reach::Anywhere, bad));
        }
        let widened = Reach::Public { and: vec!["10.0.0.0/8".parse().unwrap()] };
        assert!(covers(&widened, "10.1.2.3") && covers(&widened, "::ffff:10.1.2.3"));
        assert!(!covers(&widened, "127.0.0.1"));
    }
}
