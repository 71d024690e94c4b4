//! One worker's open connections to one endpoint.
//!
//! Taking one needs no lock and no system call. Whether the endpoint has closed an idle one is known from the socket's
//! readiness, which the runtime keeps anyway.
//!
//! An endpoint of HTTP/2 has few connections with many streams each. A stream is handed out as a connection that serves
//! one request, so that nobody else need know the difference.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Wanted;
use super::endpoint::Endpoint;
use crate::clock::Monotonic;
use crate::listener::{Buffers, Http2Sender, Stream, connect_http2};

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2, and when a stream was last opened on each.
    http2: RefCell<Vec<(Http2Sender, Monotonic)>>,
    buffers: Buffers,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Monotonic,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(endpoint: Arc<Endpoint>, buffers: Buffers) -> Self {
        Pool { endpoint, idle: RefCell::default(), http2: RefCell::default(), buffers }
    }

    /// A stream of an open connection, or the most recently used connection that is still open.
    pub(super) fn take_idle(&self, now: Monotonic) -> Option<Stream> {
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

    /// A new connection, or a stream of one.
    ///
    /// Dropping the future drops the connection.
    pub(super) async fn connect(&self, now: Monotonic, wanted: Wanted) -> io::Result<Stream> {
        // Boxed, so that no request has room for it that finds a connection.
        let stream = Box::pin(self.endpoint.dial(wanted)).await?;
        if !self.endpoint.speaks_http2(&stream) {
            return Ok(stream);
        }
        let sender = Box::pin(connect_http2(stream)).await.map_err(io::Error::other)?;
        let stream = sender.open(self.buffers.take());
        self.http2.borrow_mut().push((sender, now));
        Ok(stream)
    }

    /// Keeps a connection whose last answer is complete, beside `idle_max` at most.
    pub(super) fn put_back(&self, stream: Stream, now: Monotonic, idle_max: usize) {
        if stream.is_one_of_many() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < idle_max {
            idle.push(Idle { stream, since: now });
        }
    }

    /// Closes connections that were not used for so long.
    pub(super) fn close_idle(&self, now: Monotonic, idle_for: Duration) {
        self.idle.borrow_mut().retain(|idle| now.since(idle.since) < idle_for);
        self.http2.borrow_mut().retain(|(sender, used)| {
            sender.is_open() && (sender.streams() > 0 || now.since(*used) < idle_for)
        });
    }
}
