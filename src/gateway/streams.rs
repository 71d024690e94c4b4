//! A client's HTTP/2 connection: each stream is a small HTTP/1 connection that carries one request through the walk.
//!
//! Nothing here decides anything about a request; what the walk refuses, counts and records is the same on both
//! protocols because it is the same walk.

use std::rc::Rc;

use super::connection::Client;
use super::handle::Gateway;
use super::headers::Peer;
use crate::listener::{Http2Limits, Requests, Stream, serve_http2};

/// Streams at a time. Each may hold what a connection of HTTP/1 holds.
const STREAMS_MAX: u32 = 100;

/// Of a request's header list, as HTTP/2 counts it: 32 bytes more per line than HTTP/1 does.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// The lanes of one connection.
struct Lanes {
    gateway: Rc<Gateway>,
    peer: Rc<Peer>,
}

/// Serves HTTP/2 until either side ends it; `client` has read no more than its beginning.
///
/// A drain tells the client to open no more streams and ends when the open ones have ended.
pub(super) async fn serve_streams(gateway: &Rc<Gateway>, client: Client) {
    let Client { stream, buffer, alarm, peer, .. } = client;
    let parts = (gateway.parts.alarms.clone(), gateway.parts.buffers.clone());
    let address = peer.address;
    let lanes = Rc::new(Lanes { gateway: gateway.clone(), peer });
    let limits = Http2Limits {
        streams: STREAMS_MAX,
        header_list_bytes: HEADER_LIST_BYTES_MAX,
        idle: gateway.shared.limits.idle,
    };
    if let Err(error) = serve_http2(stream, buffer, parts, &alarm, limits, lanes).await {
        gateway.shared.metrics.http2_failures.inc();
        tracing::debug!(error = %error, client.address = %address, "an HTTP/2 connection ended: {error}");
    }
}

impl Requests for Lanes {
    async fn answer(self: Rc<Self>, stream: Stream) {
        let parts = &self.gateway.parts;
        let mut client = Client::new(stream, parts.buffers.take(), parts.alarms.alarm(), self.peer.clone());
        self.gateway.serve_one(&mut client).await;
    }
}
