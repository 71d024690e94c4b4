//! TLS towards upstreams: whom to trust, who we are, and which name to ask for.
//!
//! An endpoint's certificate is always verified; an upstream with a private authority names it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::listener::{BadTls, Stream, read_authorities, read_certificates, read_key};

/// How to speak TLS to an upstream's `https` endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamTlsSettings {
    /// PEM file of the authorities that are trusted; without it the system's are.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that is asked for and verified; without it the endpoint's host.
    pub server_name: Option<String>,
}

/// Why an upstream's TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum BadUpstreamTls {
    #[error(transparent)]
    File(#[from] BadTls),
    #[error("the system has no authorities to trust; name them in `tls.ca`")]
    NoAuthorities,
    #[error("`{0}` is no name that a certificate could be for")]
    ServerName(String),
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// How to reach one endpoint by TLS.
#[derive(Clone)]
pub(super) struct Secured {
    /// Offers HTTP/2 and HTTP/1.1.
    connector: TlsConnector,
    /// Offers HTTP/1.1 alone: what is upgraded can't be a stream among others.
    connector_http1: TlsConnector,
    name: ServerName<'static>,
}

// === impl UpstreamTlsSettings ===

impl UpstreamTlsSettings {
    /// Reads the files.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, BadUpstreamTls> {
        let roots = match &self.ca {
            Some(path) => read_authorities(path)?,
            None => system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.identity {
            Some((cert, key)) => builder.with_client_auth_cert(read_certificates(cert)?, read_key(key)?)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// `host` is as a URL has it: an IPv6 address is in brackets.
    pub(super) fn secured(&self, config: &Arc<ClientConfig>, host: &str) -> Result<Secured, BadUpstreamTls> {
        let name = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| BadUpstreamTls::ServerName(name.to_owned()))?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let connector = offering(&[b"h2", b"http/1.1"]);
        Ok(Secured { connector, connector_http1: offering(&[b"http/1.1"]), name })
    }
}

fn system_authorities() -> Result<RootCertStore, BadUpstreamTls> {
    let mut roots = RootCertStore::empty();
    // What can't be read or understood is not trusted; only having none at all is a fault.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(BadUpstreamTls::NoAuthorities) } else { Ok(roots) }
}

// === impl Secured ===

impl Secured {
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// The endpoint speaks no TLS, or is not who it should be.
    pub(super) async fn connect(&self, stream: TcpStream, http1: bool) -> io::Result<Stream> {
        let connector = if http1 { &self.connector_http1 } else { &self.connector };
        let connected = connector.connect(self.name.clone(), stream).await?;
        Ok(Stream::Tls(Box::new(connected.into())))
    }
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("name", &self.name).finish_non_exhaustive()
    }
}
