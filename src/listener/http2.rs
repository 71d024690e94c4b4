//! HTTP/2, each stream of it as an HTTP/1 connection that carries one request.
//!
//! hyper speaks the protocol; this room turns a stream into bytes that the HTTP/1 lane reads, and what the lane writes
//! into frames: [`Answering`] towards clients, [`Asking`] towards upstreams. So there is one walk, one set of limits
//! and refusals, one way of counting, and a head that HTTP/1 would refuse is refused here by the same lines of code.
//! The price is a copy of the body and a parsed head, which is little beside what frames and windows cost.
//!
//! # Who ends what
//! A stream that the client resets drops its lane where it stands: the walk is told as by a broken connection. A lane
//! that ends before its answer is whole resets the stream: the client never takes half an answer for a whole one.

mod answering;
mod asking;
mod framed;
mod unframed;
mod watch;

use hyper::rt::Executor;

pub use answering::{Answering, Http2Limits, Requests, serve_http2};
pub use asking::{Asking, Http2Sender, connect_http2};

/// What a client begins with that knows beforehand that HTTP/2 is spoken (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Tasks of hyper stay on the worker's thread.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

// === impl OnThisThread ===

impl<F: Future + 'static> Executor<F> for OnThisThread
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
