//! Where an endpoint is, how it is spoken to, and how it stands. Shared by the workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};

use super::Wanted;
use super::settings::{EndpointSettings, Protocol};
use super::standing::Standing;
use super::tls::{BadUpstreamTls, Secured, UpstreamTlsSettings};
use crate::gateway::random::hash_of;
use crate::listener::Stream;

/// An endpoint of an upstream.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// What it is called in metrics and logs: its address, or `host:port` while its name was not looked up.
    pub(super) name: Arc<str>,
    /// `host:port` as configured.
    pub(super) origin: Arc<str>,
    pub(super) weight: u32,
    /// Of its name, for [`super::Balance::HashTenant`].
    pub(super) hash: u64,
    pub(super) standing: Arc<Standing>,
    /// Absent: DNS is asked for each connection.
    address: Option<SocketAddr>,
    /// Absent: in clear.
    secured: Option<Secured>,
    /// HTTP/2 is spoken without asking.
    is_h2c: bool,
}

// === impl Endpoint ===

impl Endpoint {
    /// As configured. `tls` is there if the endpoint is of `https`.
    pub(super) fn new(
        settings: &EndpointSettings,
        tls: Option<(&Arc<ClientConfig>, &UpstreamTlsSettings)>,
    ) -> Result<Endpoint, BadUpstreamTls> {
        let EndpointSettings { host, protocol, weight, .. } = settings;
        let origin: Arc<str> = settings.authority().into();
        let tls = tls.filter(|_| settings.is_secured());
        let secured = tls.map(|(loaded, tls)| tls.secured(loaded, host)).transpose()?;
        Ok(Endpoint {
            name: origin.clone(),
            address: origin.parse().ok(),
            weight: (*weight).max(1),
            hash: hash_of(origin.as_bytes()),
            origin,
            standing: Arc::default(),
            secured,
            is_h2c: *protocol == Protocol::H2c,
        })
    }

    /// The endpoint of the same name at this address, of which nothing else is known.
    pub(super) fn at(&self, address: SocketAddr) -> Endpoint {
        let name: Arc<str> = address.to_string().into();
        let (hash, standing) = (hash_of(name.as_bytes()), Arc::default());
        Endpoint { name, hash, standing, address: Some(address), ..self.clone() }
    }

    /// The endpoint as configured here, where the other one is and as it stands.
    pub(super) fn standing_as(&self, other: &Endpoint) -> Endpoint {
        let Endpoint { name, hash, standing, address, .. } = other.clone();
        Endpoint { name, hash, standing, address, ..self.clone() }
    }

    pub(super) fn is_name(&self) -> bool {
        self.address.is_none()
    }

    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.address == Some(address)
    }

    /// A new connection, by TLS where it is spoken.
    ///
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// It can't be found or reached, or is not who it should be.
    pub(super) async fn dial(&self, wanted: Wanted) -> io::Result<Stream> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => connect_by_name(&self.origin).await?,
        };
        // Without it the kernel waits for more to send; with it each request leaves at once.
        stream.set_nodelay(true)?;
        match &self.secured {
            Some(secured) => secured.connect(stream, wanted == Wanted::Http1).await,
            None => Ok(Stream::Tcp(stream)),
        }
    }

    /// Whether what was dialled is a connection of HTTP/2.
    pub(super) fn speaks_http2(&self, stream: &Stream) -> bool {
        self.is_h2c || stream.protocol() == Some(b"h2")
    }
}

async fn connect_by_name(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(authority).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of `host:port`, in an order that does not depend on the resolver's. Those of IPv6 only if there are
/// no others: most services that have both listen on both, and some (`localhost`) only seem to.
///
/// # Errors
/// The name has no address, or nobody could be asked.
pub(super) async fn look_up(authority: &str) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<_> = lookup_host(authority).await?.collect();
    if addresses.iter().any(SocketAddr::is_ipv4) {
        addresses.retain(SocketAddr::is_ipv4);
    }
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}
