//! A client's connection: one request after the other, answers in the order of the requests.
//!
//! One task per connection, from head to answer. Between requests it holds no buffer, and no room for a request.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt};

use super::handle::{Call, Gateway, Refused, Serving};
use super::headers::{Peer, is_grpc};
use super::refusal::{Recipient, Refusal};
use super::streams::serve_streams;
use crate::listener::http1::{BodyCopy, BodyLength, Head, LINES_MAX, Parsed};
use crate::listener::{Accepted, Alarm, Buffer, Opened, PREFACE, Stream, send};
use crate::secret::hash::CertificateName;

/// How much of a refused request's body is read so that the connection can go on.
const DRAINED_BYTES_MAX: u64 = 64 * 1024;

/// How long a closing connection waits for the client to have read the answer, or for the first request of one that is
/// new while the worker drains.
const LINGER: Duration = Duration::from_secs(1);

/// The client's side of a connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    /// Bytes that came and were not used yet.
    pub(super) buffer: Buffer,
    pub(super) alarm: Alarm,
    pub(super) peer: Rc<Peer>,
    /// Nothing of the current request's body has been taken from the buffer.
    pub(super) body_is_unread: bool,
    /// No request has come yet: it may still turn out that HTTP/2 is spoken.
    is_new: bool,
}

/// What follows on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Request,
    /// The answer is out and says that the connection ends.
    Close,
    /// Nothing more can be said.
    Gone,
    /// The connection has begun as HTTP/2 does.
    Http2,
}

/// What a connection goes on with.
enum Read {
    Call(Call),
    Http2,
    /// The client has ended the connection.
    End,
}

/// A head that is no call, and how much of the buffer is known to belong to it.
struct Unopened {
    refusal: Refusal,
    route: Option<usize>,
    /// Bytes of the head.
    length: usize,
    body: BodyLength,
    expects_continue: bool,
    is_head: bool,
    is_http10: bool,
    is_grpc: bool,
    closes: bool,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(gateway: Rc<Gateway>, accepted: Accepted) {
    let Some(opened) = accepted.open(gateway.shared.limits.head_time).await else {
        gateway.shared.metrics.handshake_failures.inc();
        return;
    };
    gateway.shared.metrics.connections.inc();
    let Opened { mut stream, peer, purpose, mut alarm, seat } = opened;
    let certificate = stream.client_name().and_then(|name| CertificateName::parse(&name));
    let certificate = certificate.map(|name| gateway.shared.peppers.digests_of_certificate(&name));
    let mut peer = Rc::new(Peer::new(peer.ip(), stream.is_tls(), certificate, purpose));
    let mut has_begun = wait_for_first_request(&gateway, &mut stream, &alarm).await;
    let mut is_new = true;
    loop {
        if !has_begun {
            say_goodbye(stream, &alarm).await;
            break;
        }
        let mut client = Client::new(stream, gateway.parts.buffers.take(), alarm, peer);
        client.is_new = is_new;
        // Boxed, so that a connection has room for a request only while it has one.
        match Box::pin(gateway.serve_requests(&mut client)).await {
            Next::Request => {}
            Next::Close => break linger(&mut client).await,
            Next::Gone => break,
            Next::Http2 => break Box::pin(serve_streams(&gateway, client)).await,
        }
        is_new = false;
        (stream, alarm, peer) = client.idle();
        has_begun = wait_for_request(&gateway, &mut stream, &alarm).await;
    }
    drop(seat);
    gateway.shared.metrics.connections.dec();
}

/// As [`wait_for_request`], for a new socket: whoever sends nothing would seem to have begun.
///
/// A drain does not end a new connection at once: its first request is on its way, and unlike one on a connection that
/// was used before, clients don't repeat it.
async fn wait_for_first_request(gateway: &Gateway, stream: &mut Stream, alarm: &Alarm) -> bool {
    let first = poll_fn(|context| stream.poll_first(context));
    let waited = alarm.until_drain(gateway.shared.limits.idle, first).await;
    let has_begun = match waited {
        Err(_) if alarm.is_draining() => {
            let first = poll_fn(|context| stream.poll_first(context));
            alarm.within(LINGER, first).await
        }
        waited => waited,
    };
    matches!(has_begun, Ok(Ok(true)))
}

/// Without a buffer, until the first byte of a request is there.
async fn wait_for_request(gateway: &Gateway, stream: &mut Stream, alarm: &Alarm) -> bool {
    let readable = poll_fn(|context| stream.poll_readable(context));
    matches!(alarm.idle(gateway.shared.limits.idle, readable).await, Ok(Ok(())))
}

/// Tells an idle client that its connection ends, where the protocol has a word for it: otherwise it could take the end
/// for an attack.
async fn say_goodbye(mut stream: Stream, alarm: &Alarm) {
    if stream.is_tls() {
        let _ = alarm.within(LINGER, stream.shutdown()).await;
    }
}

/// Reads what is there, once.
pub(super) async fn fill<R: AsyncRead + Unpin>(buffer: &mut Buffer, reader: &mut R) -> io::Result<usize> {
    poll_fn(|context| buffer.poll_fill(Pin::new(&mut *reader), context)).await
}

/// Lets the client read the answer before the connection goes away: closing with unread bytes would reset it.
async fn linger(client: &mut Client) {
    let mut drained = 0;
    let read = async {
        let _ = client.stream.shutdown().await;
        while drained < DRAINED_BYTES_MAX {
            client.buffer.consume(client.buffer.len());
            match fill(&mut client.buffer, &mut client.stream).await {
                Ok(count) if count > 0 => drained += count as u64,
                _ => break,
            }
        }
    };
    let _ = client.alarm.within(LINGER, read).await;
}

// === impl Client ===

impl Client {
    pub(super) fn new(stream: Stream, buffer: Buffer, alarm: Alarm, peer: Rc<Peer>) -> Self {
        Client { stream, buffer, alarm, peer, body_is_unread: true, is_new: false }
    }

    /// What is needed to wait for the next request; the buffer goes back to its pool.
    fn idle(self) -> (Stream, Alarm, Rc<Peer>) {
        (self.stream, self.alarm, self.peer)
    }
}

// === impl Gateway ===

impl Gateway {
    /// The one request of a stream of HTTP/2.
    pub(super) async fn serve_one(&self, client: &mut Client) {
        self.serve_request(client).await;
    }

    /// Requests as long as some of one is in the buffer; then the buffer can go back to the pool.
    async fn serve_requests(&self, client: &mut Client) -> Next {
        if client.stream.protocol() == Some(b"h2") {
            return Next::Http2;
        }
        loop {
            let next = self.serve_request(client).await;
            client.is_new = false;
            // Some clients end a body with an empty line that belongs to nothing (RFC 9112, section 2.2).
            if client.buffer.filled() == b"\r\n" {
                client.buffer.consume(2);
            }
            if next != Next::Request || client.buffer.is_empty() {
                return next;
            }
        }
    }

    async fn serve_request(&self, client: &mut Client) -> Next {
        let serving = self.serving();
        let mut out = self.parts.buffers.take();
        let read = self.read_head(&serving, client, &mut out);
        let call = match read.await {
            Ok(Read::Call(call)) => call,
            Ok(Read::Http2) => return Next::Http2,
            Ok(Read::End) => return Next::Gone,
            Err(unopened) => return self.refuse_unopened(&serving, client, unopened).await,
        };
        let total = serving.table.routes[call.route].settings.timeout;
        client.alarm.bound(total);
        client.body_is_unread = true;
        let passed = self.pass(&serving, client, &call, out).await;
        client.alarm.bound(None);
        match passed {
            Ok(ended) if ended.reusable => Next::Request,
            Ok(ended) if ended.complete => Next::Close,
            Ok(_) => Next::Gone,
            Err(refused) => self.refuse_call(&serving, client, &call, refused).await,
        }
    }

    /// Reads until a head is complete.
    async fn read_head(
        &self,
        serving: &Serving,
        client: &mut Client,
        out: &mut Buffer,
    ) -> Result<Read, Unopened> {
        let mut parse_from = 0;
        let bytes_max = self.shared.limits.head.bytes;
        let Client { stream, buffer, alarm, peer, is_new, .. } = client;
        let reading = async {
            loop {
                let bytes = buffer.filled();
                if bytes.len() >= bytes_max || may_be_complete(bytes, parse_from) {
                    match self.try_open(serving, buffer, peer, out) {
                        Ok(Some((call, length))) => {
                            buffer.consume(length);
                            return Ok(Read::Call(call));
                        }
                        Ok(None) => {}
                        Err(_) if *is_new && bytes.starts_with(PREFACE) => return Ok(Read::Http2),
                        // A part of it so far.
                        Err(_) if *is_new && PREFACE.starts_with(bytes) => {}
                        Err(unopened) => return Err(unopened),
                    }
                }
                parse_from = buffer.len();
                match fill(buffer, stream).await {
                    Ok(count) if count > 0 => {}
                    _ => return Ok(Read::End),
                }
            }
        };
        let read = alarm.within(self.shared.limits.head_time, reading).await;
        read.unwrap_or_else(|_| Err(Unopened::at_once(Refusal::HeadTimeout)))
    }

    fn try_open(
        &self,
        serving: &Serving,
        buffer: &Buffer,
        peer: &Peer,
        out: &mut Buffer,
    ) -> Result<Option<(Call, usize)>, Unopened> {
        let mut space = [MaybeUninit::uninit(); LINES_MAX];
        let parsed = Head::parse(buffer.filled(), &mut space, self.shared.limits.head);
        match parsed.map_err(|fault| Unopened::at_once(Refusal::Malformed(fault)))? {
            Parsed::Partial => Ok(None),
            Parsed::Complete(head, length) => {
                let opened = self.open(serving, &head, peer, out);
                let call =
                    opened.map_err(|(route, refusal)| Unopened::of(&head, peer, length, route, refusal))?;
                Ok(Some((call, length)))
            }
        }
    }

    async fn refuse_unopened(&self, serving: &Serving, client: &mut Client, unopened: Unopened) -> Next {
        client.buffer.consume(unopened.length);
        let Unopened { refusal, route, body, expects_continue, is_head, is_http10, is_grpc, closes, .. } =
            unopened;
        let request = self.next_request();
        let route = route.map_or("", |route| serving.table.routes[route].settings.name.as_str());
        let reusable = !closes
            && !refusal.ends_connection()
            && client.alarm.keeps_alive()
            && self.can_skip(client, body, expects_continue).await;
        let to = Recipient { request, is_head, is_http10, is_grpc, closes: !reusable };
        self.answer(client, &Refused::from(refusal), to, route).await
    }

    async fn refuse_call(
        &self,
        serving: &Serving,
        client: &mut Client,
        call: &Call,
        refused: Refused,
    ) -> Next {
        let settings = &serving.table.routes[call.route].settings;
        if let Refusal::Exceeded(denial) = &refused.refusal {
            self.shared.metrics.denied(&settings.name, denial.resource.as_str());
        }
        let reusable = !call.closes
            && !refused.refusal.ends_connection()
            && client.alarm.keeps_alive()
            && client.body_is_unread
            && self.can_skip(client, call.body, call.expects_continue).await;
        let Call { request, is_head, is_http10, is_grpc, .. } = *call;
        let to = Recipient { request, is_head, is_http10, is_grpc, closes: !reusable };
        self.answer(client, &refused, to, &settings.name).await
    }

    /// Reads past the body of a request that is refused, if it is small; otherwise the connection has to end.
    pub(super) async fn can_skip(
        &self,
        client: &mut Client,
        body: BodyLength,
        expects_continue: bool,
    ) -> bool {
        if body.is_empty() {
            return true;
        }
        let small = matches!(body, BodyLength::Sized(length) if length <= DRAINED_BYTES_MAX);
        // Whoever waits for `100 Continue` may or may not send the body now: where the next request begins is open.
        if expects_continue || !small {
            return false;
        }
        let mut skipping = BodyCopy::new(body, false);
        let mut nowhere = self.parts.buffers.take();
        let skip = async {
            loop {
                if skipping.advance(&mut client.buffer, &mut nowhere).is_err() {
                    return false;
                }
                nowhere.consume(nowhere.len());
                if skipping.is_complete() {
                    return true;
                }
                if !matches!(fill(&mut client.buffer, &mut client.stream).await, Ok(count) if count > 0) {
                    return false;
                }
            }
        };
        client.alarm.within(LINGER, skip).await.unwrap_or(false)
    }

    async fn answer(&self, client: &mut Client, refused: &Refused, to: Recipient, route: &str) -> Next {
        let Refused { refusal, lines } = refused;
        self.shared.metrics.refused(route, refusal.reason(), refusal.status());
        tracing::debug!(request.id = %to.request, reason = refusal.reason(), route, "refused");
        let mut out = self.parts.buffers.take();
        let lines = lines.as_ref().map_or(&b""[..], Buffer::filled);
        refusal.write(&mut out, to, self.shared.clock.now(), lines);
        let written =
            client.alarm.within(self.shared.limits.write, send(&mut client.stream, out.filled())).await;
        match written {
            Ok(Ok(())) if !to.closes => Next::Request,
            Ok(Ok(())) => Next::Close,
            _ => Next::Gone,
        }
    }
}

/// Whether it is worth parsing: the first time, and when what came since has an empty line. Otherwise a client that
/// sends a head byte by byte would have it parsed as often.
fn may_be_complete(bytes: &[u8], parsed: usize) -> bool {
    if parsed == 0 {
        return !bytes.is_empty();
    }
    let fresh = &bytes[parsed.saturating_sub(3)..];
    memchr::memchr_iter(b'\n', fresh).any(|at| matches!(&fresh[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

// === impl Unopened ===

impl Unopened {
    /// Where the next request begins is unknown.
    fn at_once(refusal: Refusal) -> Self {
        Unopened {
            refusal,
            route: None,
            length: 0,
            body: BodyLength::Empty,
            expects_continue: false,
            is_head: false,
            is_http10: false,
            is_grpc: false,
            closes: true,
        }
    }

    fn of(head: &Head<'_>, peer: &Peer, length: usize, route: Option<usize>, refusal: Refusal) -> Self {
        let Head { body, expects_continue, is_http10, closes, .. } = *head;
        let (is_head, is_grpc) = (head.method == "HEAD", is_grpc(head, peer));
        Unopened { refusal, route, length, body, expects_continue, is_head, is_http10, is_grpc, closes }
    }
}
