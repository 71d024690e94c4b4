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

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::alarm::{Alarm, Alarms, TICK};
use super::buffer::Buffers;
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
    ip: IpAddr,
}

/// A listening socket, and what is spoken there.
#[derive(Debug)]
pub struct Entrance {
    pub socket: StdListener,
    /// Absent: plain TCP.
    pub tls: Option<Arc<Tls>>,
}

/// What a connection's task starts with.
#[derive(Debug)]
pub struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    alarm: Alarm,
    seat: Seat,
    tls: Option<Arc<Tls>>,
}

/// A connection on which the first request may follow.
#[derive(Debug)]
pub struct Opened {
    pub stream: Stream,
    pub peer: SocketAddr,
    pub alarm: Alarm,
    /// Held until the connection's end.
    pub seat: Seat,
}

/// A connection's place among all and among its worker's; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    _place: Place,
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
    let Entrance { socket, tls } = entrance;
    let listener = TcpListener::from_std(socket).expect("a non-blocking socket inside a runtime");
    loop {
        while admittance.is_full() {
            sleep(ACCEPT_PAUSE).await;
        }
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(error = %error, "accepting pauses: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = admittance.enter(peer.ip()) else { continue };
        // Without it the kernel waits for more to send; with it each answer leaves at once.
        let _ = stream.set_nodelay(true);
        let alarm = parts.alarms.alarm();
        let open = OpenConnection::new(&parts.open);
        let seat = Seat { _place: place, _open: open };
        let accepted = Accepted { stream, peer, alarm, seat, tls: tls.clone() };
        tokio::task::spawn_local(service.clone().serve(accepted));
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
    /// Does what comes before the first request: the handshake where TLS is spoken, within `limit`. `None` if that
    /// fails.
    ///
    /// Dropping the future drops the connection.
    pub async fn open(self, limit: Duration) -> Option<Opened> {
        let Accepted { stream, peer, alarm, seat, tls } = self;
        let stream = match tls {
            None => Stream::Tcp(stream),
            Some(tls) => match alarm.within(limit, tls.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(client.address = %peer, error = %error, "no TLS with {peer}: {error}");
                    return None;
                }
                Err(_) => return None,
            },
        };
        Some(Opened { stream, peer, alarm, seat })
    }
}

// === impl Admittance ===

impl Admittance {
    /// At most so many connections in all and of one address; 0 of an address is unlimited.
    pub fn new(connections_max: usize, per_ip_max: usize) -> Self {
        let per_ip_max = if per_ip_max == 0 { usize::MAX } else { per_ip_max };
        Admittance(Arc::new(Counts { connections_max, per_ip_max, by_ip: Mutex::default() }))
    }

    /// Open connections now.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    fn is_full(&self) -> bool {
        self.lock().total >= self.0.connections_max
    }

    fn enter(&self, ip: IpAddr) -> Option<Place> {
        let mut by_ip = self.lock();
        if by_ip.total >= self.0.connections_max {
            return None;
        }
        let count = by_ip.counts.entry(ip).or_default();
        if *count >= self.0.per_ip_max {
            return None;
        }
        *count += 1;
        by_ip.total += 1;
        Some(Place { admittance: self.clone(), ip })
    }

    fn leave(&self, ip: IpAddr) {
        let mut by_ip = self.lock();
        by_ip.total -= 1;
        if let Some(count) = by_ip.counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.counts.remove(&ip);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByIp> {
        self.0.by_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admittance.leave(self.ip);
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
    use super::Admittance;

    #[test]
    fn places_are_bounded_in_all_and_per_address_and_come_back() {
        let admittance = Admittance::new(3, 2);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = admittance.enter(a).unwrap();
        let _second = admittance.enter(a).unwrap();
        assert!(admittance.enter(a).is_none());
        let _third = admittance.enter(b).unwrap();
        assert!(admittance.enter(b).is_none());
        assert_eq!(admittance.open(), 3);
        drop(first);
        assert!(admittance.enter(a).is_some());
    }
}
