//! A wire between a client and a server that tests can lengthen, cut and lead elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::wait::pass;

/// Passes bytes on from its port to another one on this machine.
pub(crate) struct Relay {
    port: u16,
    wire: Arc<Wire>,
}

struct Wire {
    to: AtomicU16,
    delay_micros: AtomicU64,
    swallows: AtomicBool,
    /// Commits of Postgres that were answered, and those whose answer was swallowed.
    commits: AtomicU64,
    swallowed: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

// === impl Relay ===

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = Relay {
            port: listener.local_addr().expect("a bound port").port(),
            wire: Arc::new(Wire {
                to: AtomicU16::new(port),
                delay_micros: AtomicU64::new(0),
                swallows: AtomicBool::new(false),
                commits: AtomicU64::new(0),
                swallowed: AtomicU64::new(0),
                streams: Mutex::default(),
            }),
        };
        let wire = relay.wire.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| wire.join(client)));
        relay
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Each answer arrives so much later; what is under way is not held up by what came before it.
    pub(crate) fn delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).expect("a delay of a test");
        self.wire.delay_micros.store(micros, Ordering::Relaxed);
    }

    /// From now on, or no longer, every other time that Postgres says it has committed the connection ends instead: who
    /// asked can't know whether it was done.
    pub(crate) fn swallow_commits(&self, swallows: bool) {
        self.wire.swallows.store(swallows, Ordering::Relaxed);
    }

    /// How many it has swallowed.
    pub(crate) fn swallowed(&self) -> u64 {
        self.wire.swallowed.load(Ordering::Relaxed)
    }

    /// Cuts all connections; new ones lead to `port`.
    pub(crate) fn lead_to(&self, port: u16) {
        self.wire.to.store(port, Ordering::Relaxed);
        for stream in self.wire.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

// === impl Wire ===

impl Wire {
    fn join(self: &Arc<Self>, client: TcpStream) {
        let to = SocketAddr::from(([127, 0, 0, 1], self.to.load(Ordering::Relaxed)));
        let Ok(server) = TcpStream::connect(to) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("another handle of a socket");
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(clone(stream));
        }
        let (client_too, server_too) = (clone(&client), clone(&server));
        std::thread::spawn(move || drop(std::io::copy(&mut { client_too }, &mut { server_too })));
        let wire = self.clone();
        std::thread::spawn(move || wire.carry_late(server, client));
    }

    fn carry_late(&self, mut from: TcpStream, mut to: TcpStream) {
        let (sender, late) = mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, bytes) in late {
                pass(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut buffer = [0; 16_384];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if self.is_swallowed(&buffer[..read]) {
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
            let delay = Duration::from_micros(self.delay_micros.load(Ordering::Relaxed));
            if sender.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    }

    fn is_swallowed(&self, answer: &[u8]) -> bool {
        let is_commit = || answer.windows(7).any(|bytes| bytes == b"COMMIT\0");
        if !self.swallows.load(Ordering::Relaxed) || !is_commit() {
            return false;
        }
        let is_swallowed = self.commits.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        self.swallowed.fetch_add(is_swallowed.into(), Ordering::Relaxed);
        is_swallowed
    }
}
