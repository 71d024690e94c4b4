//! A wire to Redis that can be lengthened and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::rig::Fault;

/// Passes bytes on from its port to another one on this machine, for as long as the program runs.
pub(crate) struct Relay {
    pub(crate) port: u16,
    wire: Arc<Wire>,
}

struct Wire {
    to: u16,
    delay_micros: AtomicU64,
    is_cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

// === impl Relay ===

impl Relay {
    pub(crate) fn to(port: u16) -> Result<Relay, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("a relay: {error}"))?;
        let own = listener.local_addr().map_err(|error| format!("a relay: {error}"))?.port();
        let wire = Arc::new(Wire {
            to: port,
            delay_micros: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let relay = Relay { port: own, wire: wire.clone() };
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| wire.join(client)));
        Ok(relay)
    }

    /// Each answer arrives so much later; what is under way is not held up by what came before it.
    pub(crate) fn delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.wire.delay_micros.store(micros, Ordering::Relaxed);
    }

    /// Ends all connections, and new ones at once.
    pub(crate) fn cut(&self) {
        self.wire.is_cut.store(true, Ordering::SeqCst);
        for stream in self.wire.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.wire.is_cut.store(false, Ordering::SeqCst);
    }
}

// === impl Wire ===

impl Wire {
    /// A connection that can't be carried on is closed.
    fn join(self: &Arc<Self>, client: TcpStream) {
        if !self.is_cut.load(Ordering::SeqCst) {
            let _ = self.carry(client);
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.to))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone()?);
        }
        let (mut asking, mut asked) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut asking, &mut asked);
            let _ = asked.shutdown(Shutdown::Both);
        });
        let wire = self.clone();
        std::thread::spawn(move || wire.carry_late(server, client));
        Ok(())
    }

    fn carry_late(&self, mut from: TcpStream, mut to: TcpStream) {
        let (sender, late) = mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, bytes) in late {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut buffer = [0; 16_384];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let delay = Duration::from_micros(self.delay_micros.load(Ordering::Relaxed));
            if sender.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    }
}
