//! A worker: one thread, one runtime, its own listening socket, its own connections.
//!
//! The kernel spreads connections over the workers' sockets (SO_REUSEPORT); from accept to answer a request stays
//! on one thread, so nothing of a connection is shared or locked.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::alarm::{Alarm, Alarms, TICK};
use super::buffer::Buffers;
use super::preamble::{Origin, ProxyProtocol, read_preamble};
use super::stream::Stream;
use super::tls::Tls;

/// Connections that the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// At the limit of connections, and after `accept` failed for want of descriptors or memory: new connections wait in
/// the kernel's backlog instead of us spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How far the shutdown has come. Only ever moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Serving,
    /// Accept nothing new, end idle connections, let requests finish.
    Draining,
    /// Drop everything.
    Ending,
}

/// Bounds on connections over all workers.
#[derive(Clone, Debug)]
pub struct Admittance(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    connections_max: usize,
    per_ip_max: usize,
    /// Proxies, whose connections are many clients'.
    trusted: Vec<IpNet>,
    by_ip: Mutex<ByIp>,
}

#[derive(Debug, Default)]
struct ByIp {
    total: usize,
    counts: HashMap<IpAddr, usize>,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admittance: Admittance,
    /// Whose it is; `None` for a proxy's.
    ip: Option<IpAddr>,
}

/// What the clients of an entrance want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Their requests passed on.
    Proxy,
    /// To be told whether somebody else's request may pass.
    Authorize,
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Full {
    /// For nobody: one will be free again.
    All,
    /// For that address.
    Address,
}

/// A listening socket, and what is spoken there.
#[derive(Debug)]
pub struct Entrance {
    pub socket: StdListener,
    pub purpose: Purpose,
    pub proxy_protocol: ProxyProtocol,
    /// Absent: plain TCP.
    pub tls: Option<Arc<Tls>>,
}

/// What a connection's task starts with.
#[derive(Debug)]
pub struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    purpose: Purpose,
    proxy_protocol: ProxyProtocol,
    alarm: Alarm,
    seat: Seat,
    tls: Option<Arc<Tls>>,
}

/// A connection on which the first request may follow.
#[derive(Debug)]
pub struct Opened {
    pub stream: Stream,
    /// The client, also where a balancer connects for it.
    pub peer: SocketAddr,
    pub purpose: Purpose,
    pub alarm: Alarm,
    /// Held until the connection's end.
    pub seat: Seat,
}

/// A connection's place among all and among its worker's; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    place: Place,
    _open: OpenConnection,
}

/// What all connections of a worker share. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct WorkerParts {
    pub alarms: Alarms,
    pub buffers: Buffers,
    open: Rc<Cell<usize>>,
}

/// What a worker does with its connections.
pub trait Service: 'static {
    /// Serves one connection to its end. Dropping the future drops the connection.
    fn serve(self: Rc<Self>, accepted: Accepted) -> impl Future<Output = ()> + 'static;
    /// Called every [`TICK`]: short housekeeping, no waiting.
    fn tick(&self) {}
    /// Called once after the last connection is gone.
    fn end(&self) {}
}

#[derive(Debug)]
struct OpenConnection(Rc<Cell<usize>>);

/// A listening socket of its own for each worker, all on the same address.
///
/// # Errors
/// Whatever the kernel says to `socket`, `bind` or `listen`: mostly that the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts a worker thread. It ends when `phase` says so and its connections are gone.
///
/// `make` runs on the new thread, so what it makes need not be `Send`.
///
/// # Errors
/// If the thread can't be started.
pub fn spawn<S: Service>(
    name: String,
    entrances: Vec<Entrance>,
    admittance: Admittance,
    phase: watch::Receiver<Phase>,
    make: impl FnOnce(&WorkerParts) -> Rc<S> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        // Tasks of a local runtime are woken without the system call that a `LocalSet` makes for each.
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime =
            runtime.expect("a runtime needs an epoll descriptor and a pipe, and the process has just begun");
        runtime.block_on(async move {
            let parts = WorkerParts::default();
            let service = make(&parts);
            run(entrances, admittance, phase, parts, service).await;
        });
    })
}

async fn run<S: Service>(
    entrances: Vec<Entrance>,
    admittance: Admittance,
    mut phase: watch::Receiver<Phase>,
    parts: WorkerParts,
    service: Rc<S>,
) {
    let accepting: Vec<_> = entrances
        .into_iter()
        .map(|entrance| {
            tokio::task::spawn_local(accept(entrance, admittance.clone(), parts.clone(), service.clone()))
        })
        .collect();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        parts.alarms.tick();
        service.tick();
        let now = if phase.has_changed().is_err() { Phase::Ending } else { *phase.borrow_and_update() };
        if now >= Phase::Draining && !parts.alarms.is_draining() {
            accepting.iter().for_each(tokio::task::JoinHandle::abort);
            parts.alarms.drain();
        }
        if now == Phase::Ending || (now == Phase::Draining && parts.open.get() == 0) {
            break;
        }
    }
    service.end();
}

async fn accept<S: Service>(entrance: Entrance, admittance: Admittance, parts: WorkerParts, service: Rc<S>) {
    let Entrance { socket, purpose, proxy_protocol, tls } = entrance;
    let listener = TcpListener::from_std(socket).expect("a non-blocking socket inside a runtime");
    let mut is_short = false;
    loop {
        while admittance.is_full() {
            sleep(ACCEPT_PAUSE).await;
        }
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => {
                is_short = false;
                accepted
            }
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                if !std::mem::replace(&mut is_short, true) {
                    tracing::warn!(error = %error, "accepting pauses: {error}");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = place_for(&admittance, peer.ip()).await else { continue };
        // Without it the kernel waits for more to send; with it each answer leaves at once.
        let _ = stream.set_nodelay(true);
        let alarm = parts.alarms.alarm();
        let open = OpenConnection::new(&parts.open);
        let seat = Seat { place, _open: open };
        let accepted = Accepted { stream, peer, purpose, proxy_protocol, alarm, seat, tls: tls.clone() };
        tokio::task::spawn_local(service.clone().serve(accepted));
    }
}

/// A place, as soon as there is one; `None` if that address has all it may have.
///
/// Several workers may see the last free place: those that do not get it hold one connection each until there is another.
async fn place_for(admittance: &Admittance, ip: IpAddr) -> Option<Place> {
    loop {
        match admittance.enter(ip) {
            Ok(place) => return Some(place),
            Err(Full::Address) => return None,
            Err(Full::All) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Errors of `accept` that tell of the connection and not of us (accept(2), "Error handling").
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

// === impl Accepted ===

impl Accepted {
    /// Does what comes before the first request: reads for whom a balancer connects, and shakes hands where TLS is
    /// spoken, each within `limit`. `None` if that fails.
    ///
    /// Dropping the future drops the connection.
    pub async fn open(self, limit: Duration) -> Option<Opened> {
        let Accepted { mut stream, mut peer, purpose, proxy_protocol, alarm, mut seat, tls } = self;
        if proxy_protocol != ProxyProtocol::Off {
            // Boxed, so that no connection has room for it while it is served.
            let reading = Box::pin(client_behind(&mut stream, peer, &mut seat, proxy_protocol));
            peer = match alarm.within(limit, reading).await {
                Ok(Ok(client)) => client,
                Ok(Err(error)) => {
                    tracing::debug!(balancer.address = %peer, error = %error, "no PROXY protocol with {peer}: {error}");
                    return None;
                }
                Err(_) => return None,
            };
        }
        let stream = match tls {
            None => Stream::Tcp(stream),
            Some(tls) => match alarm.within(limit, Box::pin(tls.accept(stream))).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(client.address = %peer, error = %error, "no TLS with {peer}: {error}");
                    return None;
                }
                Err(_) => return None,
            },
        };
        Some(Opened { stream, peer, purpose, alarm, seat })
    }
}

/// For whom `peer` connects, as a balancer says it. The client takes its own place then.
async fn client_behind(
    stream: &mut TcpStream,
    peer: SocketAddr,
    seat: &mut Seat,
    proxy_protocol: ProxyProtocol,
) -> io::Result<SocketAddr> {
    let is_required = proxy_protocol == ProxyProtocol::Required;
    let refused = |why: &'static str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    if !seat.place.admittance.trusts(peer.ip()) {
        return if is_required { Err(refused("it is no trusted proxy")) } else { Ok(peer) };
    }
    match read_preamble(stream).await? {
        None if is_required => Err(refused("it says nothing of its client")),
        None | Some(Origin::Peer) => Ok(peer),
        Some(Origin::Client(client)) if seat.place.is_taken_by(client.ip()) => Ok(client),
        Some(Origin::Client(_)) => Err(refused("the client has too many connections")),
    }
}

// === impl Admittance ===

impl Admittance {
    /// At most so many connections in all and of one address; 0 of an address is unlimited, and so are those of
    /// `trusted` proxies.
    pub fn new(connections_max: usize, per_ip_max: usize, trusted: Vec<IpNet>) -> Self {
        let per_ip_max = if per_ip_max == 0 { usize::MAX } else { per_ip_max };
        Admittance(Arc::new(Counts { connections_max, per_ip_max, trusted, by_ip: Mutex::default() }))
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.trusted.iter().any(|network| network.contains(&ip))
    }

    /// Open connections now.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    fn is_full(&self) -> bool {
        self.lock().total >= self.0.connections_max
    }

    fn enter(&self, ip: IpAddr) -> Result<Place, Full> {
        let mut by_ip = self.lock();
        if by_ip.total >= self.0.connections_max {
            return Err(Full::All);
        }
        let ip = Some(ip).filter(|ip| !self.trusts(*ip));
        if ip.is_some_and(|ip| !by_ip.take(ip, self.0.per_ip_max)) {
            return Err(Full::Address);
        }
        by_ip.total += 1;
        Ok(Place { admittance: self.clone(), ip })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByIp> {
        self.0.by_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ByIp ===

impl ByIp {
    /// Whether there was room for one more.
    fn take(&mut self, ip: IpAddr, most: usize) -> bool {
        let count = self.counts.entry(ip).or_default();
        let has_room = *count < most;
        *count += usize::from(has_room);
        has_room
    }

    fn give_back(&mut self, ip: IpAddr) {
        if let Some(count) = self.counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&ip);
            }
        }
    }
}

// === impl Place ===

impl Place {
    /// Whether the client behind a proxy has room for one more; the place is counted as its own then.
    fn is_taken_by(&mut self, client: IpAddr) -> bool {
        let counts = &self.admittance.0;
        let client = Some(client).filter(|client| !self.admittance.trusts(*client));
        if client.is_some_and(|client| !self.admittance.lock().take(client, counts.per_ip_max)) {
            return false;
        }
        debug_assert!(self.ip.is_none(), "only proxies connect for others");
        self.ip = client;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_ip = self.admittance.lock();
        by_ip.total -= 1;
        if let Some(ip) = self.ip {
            by_ip.give_back(ip);
        }
    }
}

// === impl OpenConnection ===

impl OpenConnection {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        OpenConnection(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Admittance, Full};

    #[test]
    fn places_are_bounded_in_all_and_per_address_and_come_back() {
        let admittance = Admittance::new(3, 2, Vec::new());
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = admittance.enter(a).unwrap();
        let _second = admittance.enter(a).unwrap();
        assert_eq!(admittance.enter(a).err(), Some(Full::Address));
        let _third = admittance.enter(b).unwrap();
        assert_eq!(admittance.enter(b).err(), Some(Full::All));
        assert_eq!(admittance.open(), 3);
        drop(first);
        assert!(admittance.enter(a).is_ok());
    }

    #[test]
    fn a_proxys_places_are_its_clients() {
        let admittance = Admittance::new(4, 1, vec!["192.0.2.0/24".parse().unwrap()]);
        let (proxy, client) = ("192.0.2.1".parse().unwrap(), "198.51.100.1".parse().unwrap());
        let [mut first, mut second] = [(); 2].map(|()| admittance.enter(proxy).unwrap());
        assert!(first.is_taken_by(client) && !second.is_taken_by(client));
        assert_eq!(admittance.enter(client).err(), Some(Full::Address));
        drop((first, second));
        assert_eq!(admittance.open(), 0);
        assert!(admittance.enter(client).is_ok());
    }
}
