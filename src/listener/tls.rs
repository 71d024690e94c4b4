//! TLS towards clients: which certificate a name gets, whose client certificates are taken, and the handshake.
//!
//! Everything is read from files and checked before anything is exchanged, so that a bad file changes nothing.
//! Connections that are open keep what they began with. A reload also draws a new ticket key: a session that was
//! begun under other authorities of client certificates can't be resumed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier, danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::stream::Stream;

/// What a handshake may agree on, in the order of our preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How to speak TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// The first one answers clients that name no known server.
    pub certificates: Vec<CertificateSettings>,
    /// PEM file of the authorities of client certificates; without it none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without a certificate when there is a `client_ca`.
    pub client_may_be_anonymous: bool,
}

/// A certificate's files, and the names it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateSettings {
    /// PEM: the certificate, then its chain.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// Lower case; `*.example.com` stands for one more label. Empty: those that the certificate lists.
    pub names: Vec<String>,
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    #[error("{0}: {1}")]
    Pem(PathBuf, #[source] pem::Error),
    #[error("{0}: it has no certificate")]
    Empty(PathBuf),
    #[error("{cert} and {key} can't be used together: {source}")]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("{0}: a certificate in it can't be used as an authority: {1}")]
    Authority(PathBuf, #[source] rustls::Error),
    #[error("{0}: its authorities can't verify clients: {1}")]
    Verifier(PathBuf, #[source] VerifierBuilderError),
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What handshakes go by now; exchanged whole.
#[derive(Debug)]
pub struct Tls(ArcSwap<ServerConfig>);

/// Settings whose files were read and found good.
#[derive(Clone, Debug)]
pub struct TlsReady(Arc<ServerConfig>);

/// Chooses a certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName(Vec<Certificate>);

#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

// === impl TlsSettings ===

impl TlsSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// [`BadTls`], the first fault found.
    pub fn load(&self) -> Result<TlsReady, BadTls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = self.certificates.iter().map(|settings| settings.load(&provider));
        let certificates = certificates.collect::<Result<_, _>>()?;
        let verifier = self.client_verifier(&provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName(certificates)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Tickets alone: sessions kept here would be memory that clients fill, and be lost to the other workers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(TlsReady(Arc::new(config)))
    }

    fn client_verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, BadTls> {
        let Some(path) = &self.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
        let roots = Arc::new(read_authorities(path)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let builder = if self.client_may_be_anonymous { builder.allow_unauthenticated() } else { builder };
        builder.build().map_err(|error| BadTls::Verifier(path.clone(), error))
    }
}

impl CertificateSettings {
    fn load(&self, provider: &CryptoProvider) -> Result<Certificate, BadTls> {
        let CertificateSettings { cert, key, names } = self;
        let chain = read_certificates(cert)?;
        let secret = read_key(key)?;
        let certified = CertifiedKey::from_der(chain, secret, provider).map_err(|source| BadTls::Pair {
            cert: cert.clone(),
            key: key.clone(),
            source,
        })?;
        Ok(Certificate { key: Arc::new(certified), names: names.clone() })
    }
}

/// The certificates of a PEM file; at least one.
///
/// # Errors
/// [`BadTls`]
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let bad = |error| BadTls::Pem(path.to_owned(), error);
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)?;
    if certificates.is_empty() { Err(BadTls::Empty(path.to_owned())) } else { Ok(certificates) }
}

/// The private key of a PEM file.
///
/// # Errors
/// [`BadTls`]
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, BadTls> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| BadTls::Pem(path.to_owned(), error))
}

/// The certificates of a PEM file as authorities.
///
/// # Errors
/// [`BadTls`]
pub fn read_authorities(path: &Path) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| BadTls::Authority(path.to_owned(), error))?;
    }
    Ok(roots)
}

/// The name that a verified client certificate is known by: its only URI, or its only DNS name if it has no URI. One
/// with several is nobody's in particular.
pub(super) fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let only = |mut names: Box<dyn Iterator<Item = &str> + '_>| match (names.next(), names.next()) {
        (Some(name), None) => Ok(Some(name.to_owned())),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(()),
    };
    match only(Box::new(parsed.valid_uri_names())) {
        Ok(None) => only(Box::new(parsed.valid_dns_names())).ok()?,
        found => found.ok()?,
    }
}

// === impl Tls ===

impl Tls {
    pub fn new(ready: TlsReady) -> Self {
        Tls(ArcSwap::new(ready.0))
    }

    /// From the next handshake on.
    pub fn exchange(&self, ready: TlsReady) {
        self.0.store(ready.0);
    }

    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// The client speaks no TLS, none that we speak, has no certificate that we take, or went away.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let accepted = TlsAcceptor::from(self.0.load_full()).accept(stream).await?;
        Ok(Stream::Tls(Box::new(accepted.into())))
    }
}

// === impl ByName ===

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.0.iter().find(|known| known.serves(name)));
        named.or(self.0.first()).map(|certificate| certificate.key.clone())
    }
}

impl Certificate {
    fn serves(&self, name: &str) -> bool {
        if self.names.is_empty() { self.lists(name) } else { self.names.iter().any(|own| holds(own, name)) }
    }

    /// Whether the certificate itself is for that name. Parsed anew each time: a handshake costs a hundred times that.
    fn lists(&self, name: &str) -> bool {
        let Ok(own) = self.key.end_entity_cert().and_then(ParsedCertificate::try_from) else { return false };
        DnsName::try_from(name).is_ok_and(|name| verify_server_name(&own, &ServerName::DnsName(name)).is_ok())
    }
}

fn holds(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}
