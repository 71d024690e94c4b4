//! Listening sockets: bound by this process, or handed to it by whoever started it.
//!
//! A socket that outlives the process is what lets a gateway be replaced without a client noticing: till and journal
//! belong to one process at a time, so the new one starts when the old one has drained, and whoever connects between
//! waits in the kernel's queue. Sockets come the way systemd hands them over (`LISTEN_FDS`), are known by their
//! addresses, and are shared by all workers.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::start::StartError;
use crate::listener::bind;

/// Sockets that were handed to this process and that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Handed(Vec<(SocketAddr, TcpListener)>);

/// The bound addresses, and for each worker a socket on each of them.
pub(super) type Bound = (Vec<SocketAddr>, Vec<Vec<TcpListener>>);

// === impl Handed ===

impl Handed {
    /// # Errors
    /// [`StartError::Handed`]: one of them is no listening socket of TCP.
    pub(super) fn receive() -> Result<Handed, StartError> {
        let mut sockets = ListenFd::from_env();
        let taken = (0..sockets.len()).map(|index| {
            let socket = sockets.take_tcp_listener(index)?.ok_or(io::ErrorKind::NotFound)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>((socket.local_addr()?, socket))
        });
        taken.collect::<io::Result<_>>().map(Handed).map_err(StartError::Handed)
    }

    /// The one on `address`, which is nobody else's from now on.
    pub(super) fn at(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(bound, _)| *bound == address)?;
        Some(self.0.swap_remove(index).1)
    }

    /// For each worker a socket on each of `wanted`. Port 0 is chosen once for all workers.
    ///
    /// # Errors
    /// [`StartError::Listen`]
    pub(super) fn bind_all(&mut self, wanted: &[SocketAddr], workers: usize) -> Result<Bound, StartError> {
        let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for address in wanted {
            let failed = |error| StartError::Listen(*address, error);
            let own = match self.at(*address) {
                Some(shared) => (0..workers).map(|_| shared.try_clone()).collect(),
                None => bind_anew(*address, workers),
            };
            let own: Vec<TcpListener> = own.map_err(failed)?;
            let address = own.first().map_or(Ok(*address), TcpListener::local_addr).map_err(failed)?;
            bound.push(address);
            sockets.iter_mut().zip(own).for_each(|(sockets, socket)| sockets.push(socket));
        }
        Ok((bound, sockets))
    }

    /// A socket that nobody wanted would take connections that nobody serves.
    ///
    /// # Errors
    /// [`StartError::Unwanted`]
    pub(super) fn refuse_rest(self) -> Result<(), StartError> {
        self.0.first().map_or(Ok(()), |(address, _)| Err(StartError::Unwanted(*address)))
    }
}

/// A socket of its own for each worker.
fn bind_anew(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // The workers share their port, and so would a second gateway, silently: this asks without sharing.
    TcpListener::bind(address).map(drop)?;
    let mut address = address;
    let sockets = (0..workers).map(|_| {
        let socket = bind(address)?;
        address = socket.local_addr()?;
        Ok::<_, io::Error>(socket)
    });
    sockets.collect()
}
