//! The services behind the gateway: where they are, and each worker's open connections to them.
//!
//! A worker pools its own connections: taking one needs no lock and no system call. Whether the upstream has closed
//! an idle one is known from the socket's readiness, which the runtime keeps anyway.
//!
//! Endpoints take turns, also where the next one has no idle connection yet. One that can't be reached rests, so that
//! requests do not wait for it one after the other.
//!
//! An endpoint of HTTP/2 has few connections with many streams each. A stream is handed out as a connection that serves
//! one request, so that nobody else need know the difference.

mod tls;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use smallvec::SmallVec;
use tokio::net::{TcpStream, lookup_host};

pub use self::tls::{BadUpstreamTls, UpstreamTlsSettings};

use self::tls::Secured;
use super::meters::GatewayMetrics;
use crate::clock::Monotonic;
use crate::listener::{Alarm, Buffers, Http2Sender, Stream, connect_http2};

/// An endpoint that could not be reached is tried last for this long, after the time that connecting may take.
const REST: Duration = Duration::from_secs(1);

/// One upstream, as configured.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub name: String,
    pub endpoints: Vec<EndpointSettings>,
    pub tls: UpstreamTlsSettings,
    pub timeouts: UpstreamTimeouts,
    /// Idle connections that each worker keeps open.
    pub idle_per_worker_max: usize,
    /// An idle connection older than this is not used again: many servers close theirs after a minute.
    pub idle_for: Duration,
}

/// One endpoint of an upstream, as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSettings {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Http,
    /// As the endpoint prefers: HTTP/2 or HTTP/1.1.
    Https,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    /// From the request's end to the answer's head.
    pub first_byte: Duration,
    /// Between two parts of an answer's body.
    pub idle: Duration,
}

/// An upstream whose URLs were understood. Shared by the workers.
#[derive(Debug)]
pub(super) struct UpstreamTarget {
    pub(super) timeouts: UpstreamTimeouts,
    endpoints: Vec<EndpointTarget>,
    idle_max: usize,
    idle_for: Duration,
}

/// Where and how an endpoint is reached.
#[derive(Clone, Debug)]
struct EndpointTarget {
    /// `host:port`.
    authority: Arc<str>,
    /// Known without asking DNS.
    address: Option<SocketAddr>,
    /// Absent: in clear.
    secured: Option<Secured>,
    /// HTTP/2 is spoken without asking.
    is_h2c: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum BadUpstream {
    #[error("it has no URL")]
    NoUrl,
    #[error(transparent)]
    Tls(#[from] BadUpstreamTls),
}

/// One worker's connections to an upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    endpoints: Vec<Endpoint>,
    next: Cell<usize>,
    pub(super) timeouts: UpstreamTimeouts,
    idle_max: usize,
    idle_for: Duration,
}

#[derive(Debug)]
struct Endpoint {
    target: EndpointTarget,
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2, and when a stream was last opened on each.
    http2: RefCell<Vec<(Http2Sender, Monotonic)>>,
    buffers: Buffers,
    /// It could not be reached, and is tried last until then.
    rests_until: Cell<Option<Monotonic>>,
    failures: IntCounter,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Monotonic,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) stream: Stream,
    /// It has served a request before, so the upstream may have closed it meanwhile.
    pub(super) is_reused: bool,
    endpoint: usize,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// A pooled one if there is one.
    Any,
    /// One that nobody has used before.
    Fresh,
    /// One that speaks HTTP/1.1 alone, to be upgraded.
    Http1,
}

/// No endpoint could be connected to in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unreachable;

// === impl UpstreamTimeouts ===

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        UpstreamTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}

// === impl UpstreamTarget ===

impl UpstreamTarget {
    pub(super) fn resolve(settings: &UpstreamSettings) -> Result<UpstreamTarget, BadUpstream> {
        if settings.endpoints.is_empty() {
            return Err(BadUpstream::NoUrl);
        }
        let is_secured = settings.endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Https);
        let tls = is_secured.then(|| settings.tls.load()).transpose()?;
        let endpoint = |endpoint: &EndpointSettings| {
            let EndpointSettings { host, port, protocol } = endpoint;
            let authority: Arc<str> = format!("{host}:{port}").into();
            let secured = match (protocol, &tls) {
                (Protocol::Https, Some(tls)) => Some(settings.tls.secured(tls, host)?),
                _ => None,
            };
            let is_h2c = *protocol == Protocol::H2c;
            Ok(EndpointTarget { address: authority.parse().ok(), authority, secured, is_h2c })
        };
        let endpoints = settings.endpoints.iter().map(endpoint).collect::<Result<_, BadUpstreamTls>>()?;
        Ok(UpstreamTarget {
            timeouts: settings.timeouts,
            endpoints,
            idle_max: settings.idle_per_worker_max,
            idle_for: settings.idle_for,
        })
    }
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(target: &UpstreamTarget, metrics: &GatewayMetrics, buffers: &Buffers) -> Self {
        let endpoints = target.endpoints.iter().map(|target| Endpoint {
            idle: RefCell::default(),
            http2: RefCell::default(),
            buffers: buffers.clone(),
            rests_until: Cell::new(None),
            failures: metrics.unreachable(&target.authority),
            target: target.clone(),
        });
        Upstream {
            endpoints: endpoints.collect(),
            next: Cell::new(0),
            timeouts: target.timeouts,
            idle_max: target.idle_max,
            idle_for: target.idle_for,
        }
    }

    /// An open connection to the endpoint whose turn it is, or to the next one that can be reached, as `wanted`.
    ///
    /// Dropping the future drops a connection that is being made.
    pub(super) async fn connect(
        &self,
        alarm: &Alarm,
        now: Monotonic,
        wanted: Wanted,
    ) -> Result<UpstreamConnection, Unreachable> {
        for endpoint in self.turn(now) {
            let idle = match wanted {
                Wanted::Any => self.endpoints[endpoint].take_idle(now),
                Wanted::Fresh | Wanted::Http1 => None,
            };
            if let Some(stream) = idle {
                return Ok(UpstreamConnection { stream, is_reused: true, endpoint });
            }
            if let Some(stream) = self.reach(endpoint, alarm, now, wanted).await {
                return Ok(UpstreamConnection { stream, is_reused: false, endpoint });
            }
        }
        Err(Unreachable)
    }

    /// A new connection. An endpoint that can't be reached rests from then on.
    async fn reach(&self, index: usize, alarm: &Alarm, now: Monotonic, wanted: Wanted) -> Option<Stream> {
        let endpoint = &self.endpoints[index];
        let reached = alarm.within(self.timeouts.connect, endpoint.connect(now, wanted)).await;
        let error = match reached {
            Ok(Ok(stream)) => {
                endpoint.rests_until.set(None);
                return Some(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        endpoint.failures.inc();
        // Once per rest: an outage must not fill the log with a line for each request.
        if !endpoint.rests(now) {
            self.log_unreachable(index, &error);
        }
        // Whoever waited in vain waited that long before.
        endpoint.rests_until.set(Some(now.plus(self.timeouts.connect + REST)));
        None
    }

    /// The endpoints in the order to try them: each is first in its turn, and those that rest come last.
    fn turn(&self, now: Monotonic) -> SmallVec<[usize; 8]> {
        let (first, count) = (self.next.get(), self.endpoints.len());
        self.next.set((first + 1) % count);
        let mut order: SmallVec<[usize; 8]> = (0..count).map(|step| (first + step) % count).collect();
        order.sort_by_key(|endpoint| self.endpoints[*endpoint].rests(now));
        order
    }

    /// Takes a connection back whose last answer is complete.
    pub(super) fn put_back(&self, connection: UpstreamConnection, now: Monotonic) {
        if connection.stream.is_one_of_many() {
            return;
        }
        let mut idle = self.endpoints[connection.endpoint].idle.borrow_mut();
        if idle.len() < self.idle_max {
            idle.push(Idle { stream: connection.stream, since: now });
        }
    }

    /// Closes connections that have idled too long.
    pub(super) fn close_idle(&self, now: Monotonic) {
        for endpoint in &self.endpoints {
            endpoint.idle.borrow_mut().retain(|idle| now.since(idle.since) < self.idle_for);
            endpoint.http2.borrow_mut().retain(|(sender, used)| {
                sender.is_open() && (sender.streams() > 0 || now.since(*used) < self.idle_for)
            });
        }
    }

    fn log_unreachable(&self, endpoint: usize, error: &io::Error) {
        let authority = &self.endpoints[endpoint].target.authority;
        tracing::warn!(upstream.endpoint = %authority, error = %error, "the upstream at {authority} can't be reached: {error}");
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// A stream of an open connection, or the most recently used connection that is still open.
    fn take_idle(&self, now: Monotonic) -> Option<Stream> {
        if let Some((sender, used)) = self.http2.borrow_mut().iter_mut().find(|(sender, _)| sender.has_room())
        {
            *used = now;
            return Some(sender.open(self.buffers.take()));
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut stream, .. }) = idle.pop() {
            if stream.is_open() {
                return Some(stream);
            }
        }
        None
    }

    fn rests(&self, now: Monotonic) -> bool {
        self.rests_until.get().is_some_and(|until| now < until)
    }

    async fn connect(&self, now: Monotonic, wanted: Wanted) -> io::Result<Stream> {
        let stream = match self.target.address {
            Some(address) => TcpStream::connect(address).await?,
            None => connect_by_name(&self.target.authority).await?,
        };
        // Without it the kernel waits for more to send; with it each request leaves at once.
        stream.set_nodelay(true)?;
        let stream = match &self.target.secured {
            Some(secured) => secured.connect(stream, wanted == Wanted::Http1).await?,
            None => Stream::Tcp(stream),
        };
        if self.target.is_h2c || stream.protocol() == Some(b"h2") {
            let sender = connect_http2(stream).await.map_err(io::Error::other)?;
            let stream = sender.open(self.buffers.take());
            self.http2.borrow_mut().push((sender, now));
            return Ok(stream);
        }
        Ok(stream)
    }
}

async fn connect_by_name(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses: Vec<_> = lookup_host(authority).await?.collect();
    addresses.sort_by_key(|address| matches!(address.ip(), IpAddr::V6(_)));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
