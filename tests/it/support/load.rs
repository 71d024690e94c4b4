//! Many requests at once, and what became of them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::client::RawClient;
use super::wait::pass;

const RECONNECTED_AFTER: Duration = Duration::from_millis(5);

/// How many requests ended how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub by_status: BTreeMap<u16, usize>,
    /// Requests without a whole answer: no connection, cut off, timed out.
    pub unanswered: usize,
}

/// Sends `requests` requests over `connections` connections, each of them kept alive and opened again when it
/// closes. `make` gives the bytes of the request with that index.
pub(crate) fn load(
    to: SocketAddr,
    connections: usize,
    requests: usize,
    make: impl Fn(usize) -> Vec<u8> + Sync,
) -> Tally {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        let mut client = None;
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < requests) {
            tally.count(exchange(&mut client, to, &make(index)).ok());
        }
        tally
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        let tallies = threads.into_iter().map(|thread| thread.join().expect("a client does not panic"));
        tallies.fold(Tally::default(), Tally::plus)
    })
}

/// One request on the connection at hand. After a failure, or a `connection: close`, there is none at hand.
fn exchange(client: &mut Option<RawClient>, to: SocketAddr, request: &[u8]) -> io::Result<u16> {
    let mut connection = match client.take() {
        Some(connection) => connection,
        None => RawClient::try_connect(to)?,
    };
    connection.try_send(request)?;
    let response = connection.try_response("GET")?;
    if !response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *client = Some(connection);
    }
    Ok(response.status)
}

/// Keeps requests coming to `addresses`, over so many connections to each, while `meanwhile` runs, and ends with it
/// however it ends. `count` is told each answer's status; clients whose gateway dies find it again.
pub(crate) fn load_while(
    addresses: &[SocketAddr],
    connections: usize,
    request: &[u8],
    count: impl Fn(u16) + Sync,
    meanwhile: impl FnOnce(),
) {
    let stop = AtomicBool::new(false);
    let work = |address: SocketAddr| {
        let mut client = None;
        while !stop.load(Ordering::Relaxed) {
            match exchange(&mut client, address, request) {
                Ok(status) => count(status),
                // Nobody is there; what others do there needs the processor.
                Err(_) => pass(RECONNECTED_AFTER),
            }
        }
    };
    std::thread::scope(|scope| {
        let _stops = StopsAtEnd(&stop);
        let work = &work;
        for address in addresses {
            (0..connections).for_each(|_| drop(scope.spawn(move || work(*address))));
        }
        meanwhile();
    });
}

/// Stops the load also when what is tested has failed: nobody would wait for its end then.
struct StopsAtEnd<'s>(&'s AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Tally ===

impl Tally {
    pub(crate) fn of(&self, status: u16) -> usize {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    fn count(&mut self, status: Option<u16>) {
        match status {
            Some(status) => *self.by_status.entry(status).or_default() += 1,
            None => self.unanswered += 1,
        }
    }

    fn plus(mut self, other: Tally) -> Tally {
        for (status, requests) in other.by_status {
            *self.by_status.entry(status).or_default() += requests;
        }
        self.unanswered += other.unanswered;
        self
    }
}
