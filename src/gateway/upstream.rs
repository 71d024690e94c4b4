//! The services behind the gateway: where they are, and each worker's open connections to them.
//!
//! A worker pools its own connections: taking one needs no lock and no system call. Whether the upstream has closed
//! an idle one is known from the socket's readiness, which the runtime keeps anyway.
//!
//! Endpoints take turns, also where the next one has no idle connection yet. One that can't be reached rests, so that
//! requests do not wait for it one after the other.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prometheus::IntCounter;
use smallvec::SmallVec;
use tokio::net::{TcpStream, lookup_host};

use super::meters::GatewayMetrics;
use crate::clock::Monotonic;
use crate::listener::Alarm;

/// An endpoint that could not be reached is tried last for this long, after the time that connecting may take.
const REST: Duration = Duration::from_secs(1);

/// One upstream, as configured.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub name: String,
    /// `http://host[:port]`.
    pub urls: Vec<String>,
    pub timeouts: UpstreamTimeouts,
    /// Idle connections that each worker keeps open.
    pub idle_per_worker_max: usize,
    /// An idle connection older than this is not used again: many servers close theirs after a minute.
    pub idle_for: Duration,
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
    endpoints: Vec<Arc<str>>,
    idle_max: usize,
    idle_for: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum BadUpstream {
    #[error("it has no URL")]
    NoUrl,
    #[error("`{0}` is no `http://host:port` without a path")]
    Url(String),
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
    /// `host:port`.
    authority: Arc<str>,
    /// Known without asking DNS.
    address: Option<SocketAddr>,
    idle: RefCell<Vec<Idle>>,
    /// It could not be reached, and is tried last until then.
    rests_until: Cell<Option<Monotonic>>,
    failures: IntCounter,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Monotonic,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) stream: TcpStream,
    /// It has served a request before, so the upstream may have closed it meanwhile.
    pub(super) is_reused: bool,
    endpoint: usize,
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
        if settings.urls.is_empty() {
            return Err(BadUpstream::NoUrl);
        }
        let endpoints = settings.urls.iter().map(|url| endpoint(url)).collect::<Result<_, _>>()?;
        Ok(UpstreamTarget {
            timeouts: settings.timeouts,
            endpoints,
            idle_max: settings.idle_per_worker_max,
            idle_for: settings.idle_for,
        })
    }
}

fn endpoint(url: &str) -> Result<Arc<str>, BadUpstream> {
    let bad = || BadUpstream::Url(url.to_owned());
    let authority = url.strip_prefix("http://").ok_or_else(bad)?.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
        return Err(bad());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { authority.into() } else { format!("{authority}:80").into() })
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(target: &UpstreamTarget, metrics: &GatewayMetrics) -> Self {
        let endpoints = target.endpoints.iter().map(|authority| Endpoint {
            authority: authority.clone(),
            address: authority.parse().ok(),
            idle: RefCell::default(),
            rests_until: Cell::new(None),
            failures: metrics.unreachable(authority),
        });
        Upstream {
            endpoints: endpoints.collect(),
            next: Cell::new(0),
            timeouts: target.timeouts,
            idle_max: target.idle_max,
            idle_for: target.idle_for,
        }
    }

    /// An open connection to the endpoint whose turn it is, or to the next one that can be reached: a pooled one if
    /// there is one and it need not be `fresh`.
    ///
    /// Dropping the future drops a connection that is being made.
    pub(super) async fn connect(
        &self,
        alarm: &Alarm,
        now: Monotonic,
        fresh: bool,
    ) -> Result<UpstreamConnection, Unreachable> {
        for endpoint in self.turn(now) {
            let idle = if fresh { None } else { self.endpoints[endpoint].take_idle() };
            if let Some(stream) = idle {
                return Ok(UpstreamConnection { stream, is_reused: true, endpoint });
            }
            if let Some(stream) = self.reach(endpoint, alarm, now).await {
                return Ok(UpstreamConnection { stream, is_reused: false, endpoint });
            }
        }
        Err(Unreachable)
    }

    /// A new connection. An endpoint that can't be reached rests from then on.
    async fn reach(&self, index: usize, alarm: &Alarm, now: Monotonic) -> Option<TcpStream> {
        let endpoint = &self.endpoints[index];
        let reached = alarm.within(self.timeouts.connect, endpoint.connect()).await;
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
        let mut idle = self.endpoints[connection.endpoint].idle.borrow_mut();
        if idle.len() < self.idle_max {
            idle.push(Idle { stream: connection.stream, since: now });
        }
    }

    /// Closes connections that have idled too long.
    pub(super) fn close_idle(&self, now: Monotonic) {
        for endpoint in &self.endpoints {
            endpoint.idle.borrow_mut().retain(|idle| now.since(idle.since) < self.idle_for);
        }
    }

    fn log_unreachable(&self, endpoint: usize, error: &io::Error) {
        let authority = &self.endpoints[endpoint].authority;
        tracing::warn!(upstream.endpoint = %authority, error = %error, "the upstream at {authority} can't be reached: {error}");
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// The most recently used one that is still open.
    fn take_idle(&self) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { stream, .. }) = idle.pop() {
            if is_open(&stream) {
                return Some(stream);
            }
        }
        None
    }

    fn rests(&self, now: Monotonic) -> bool {
        self.rests_until.get().is_some_and(|until| now < until)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => connect_by_name(&self.authority).await?,
        };
        // Without it the kernel waits for more to send; with it each request leaves at once.
        stream.set_nodelay(true)?;
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

/// Nothing is to be read from an idle connection. If something is, it is its end, or an answer nobody asked for.
fn is_open(stream: &TcpStream) -> bool {
    match stream.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => true,
        // The readiness may be left over from the last answer; only then the kernel is asked.
        Poll::Ready(_) => {
            matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn a_url_is_a_host_with_an_optional_port() {
        for (url, authority) in [
            ("http://a", Some("a:80")),
            ("http://127.0.0.1:3000/", Some("127.0.0.1:3000")),
            ("http://[::1]:3000", Some("[::1]:3000")),
            ("https://a", None),
            ("http://", None),
            ("http://a/b", None),
            ("http://u@a", None),
        ] {
            assert_eq!(endpoint(url).ok().as_deref(), authority, "{url}");
        }
    }
}
