//! A client's HTTP/2 connection, and each of its streams as an HTTP/1 connection for the lane to answer.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, COOKIE, HOST};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tokio::sync::oneshot;

use super::OnThisThread;
use super::framed::{Framed, push_line};
use super::unframed::{BrokenOff, Owned, QueuedBody, Unframed, headers, queue};
use super::watch::Watched;
use crate::listener::http1::{AnswerHead, BodyLength, HeadLimits, LINES_MAX, Parsed};
use crate::listener::{Alarm, Alarms, Buffer, Buffers, Stream};

/// The lane's answers are our own; their heads are as large as an upstream's may be, and what we add.
const ANSWER_HEAD: HeadLimits = HeadLimits { bytes: 128 * 1024, target_bytes: 0, lines: LINES_MAX };

/// Bytes that a client may send on one stream before its upstream takes any.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that the client has reset and that we have not looked at: more are an attack ("rapid reset").
const RESET_MAX: usize = 32;

/// Bounds on what a client may do with HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Streams at a time.
    pub streams: u32,
    /// Of a request's header list, as HTTP/2 counts it.
    pub header_list_bytes: u32,
    /// A connection without streams ends after this.
    pub idle: Duration,
}

/// What becomes of the streams of a connection.
pub trait Requests: 'static {
    /// Answers the one request that can be read from `stream`. Dropping the future breaks the stream off.
    fn answer(self: Rc<Self>, stream: Stream) -> impl Future<Output = ()> + 'static;
}

/// One stream, as an HTTP/1 connection from which one request comes.
#[derive(Debug)]
pub struct Answering {
    request: Framed,
    is_head: bool,
    /// What the lane has written and is not understood yet.
    written: Buffer,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// Its head is still to come.
    Awaited(Option<oneshot::Sender<Response<QueuedBody>>>),
    Begun(Unframed),
}

/// Serves HTTP/2 on `stream`, of which `begun` was read already, until either side ends it.
///
/// Dropping the future drops the connection, and each stream's lane with it.
pub async fn serve_http2<R: Requests>(
    stream: Stream,
    begun: Buffer,
    (alarms, buffers): (Alarms, Buffers),
    alarm: &Alarm,
    limits: Http2Limits,
    requests: Rc<R>,
) -> Result<(), hyper::Error> {
    let streams = Rc::new(Streams::default());
    let counted = streams.clone();
    let service = service_fn(move |request| {
        let answered = answer(request, &buffers, requests.clone());
        let begun = Begun::new(counted.clone());
        async move {
            let _begun = begun;
            answered?.await
        }
    });
    let connection = Builder::new(OnThisThread)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_list_bytes)
        .max_pending_accept_reset_streams(RESET_MAX)
        .max_local_error_reset_streams(RESET_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Watched::new(stream, begun, alarms)), service);
    let mut connection = pin!(connection);
    // Where connections are not kept, each has its first stream all the same.
    let first = poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if streams.begun.get() > 0 => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let mut goes_on = match alarm.until_drain(limits.idle, first).await {
        Ok(Some(ended)) => return ended,
        Ok(None) => true,
        Err(_) => false,
    };
    let mut seen = 0;
    while goes_on {
        match alarm.idle(limits.idle, connection.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) => {
                let is_used = streams.open.get() > 0 || streams.begun.get() != seen;
                goes_on = alarm.keeps_alive() && is_used;
                seen = streams.begun.get();
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    loop {
        match alarm.within(limits.idle, connection.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) if streams.open.get() > 0 => {}
            // The client does not answer the farewell.
            Err(_) => return Ok(()),
        }
    }
}

/// The streams of one connection.
#[derive(Debug, Default)]
struct Streams {
    begun: Cell<u64>,
    open: Cell<usize>,
}

struct Begun(Rc<Streams>);

/// Starts the lane of one request.
fn answer<R: Requests>(
    request: Request<Incoming>,
    buffers: &Buffers,
    requests: Rc<R>,
) -> Result<impl Future<Output = Result<Response<QueuedBody>, BrokenOff>> + use<R>, BrokenOff> {
    let (parts, body) = request.into_parts();
    if parts.version != Version::HTTP_2 {
        return Err(BrokenOff);
    }
    let chunks = !body.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH);
    let head = head_of(&parts, chunks);
    let (sender, receiver) = oneshot::channel();
    let stream = Answering {
        request: Framed::new(head, body, chunks),
        is_head: parts.method == hyper::Method::HEAD,
        written: buffers.take(),
        answer: Answer::Awaited(Some(sender)),
    };
    let lane = requests.answer(Stream::Answering(Box::new(stream)));
    let lane = Owned::new(tokio::task::spawn_local(lane));
    Ok(async move {
        // Without a word the lane has given the client up.
        let response = receiver.await.map_err(|_| BrokenOff)?;
        Ok(response.map(|body| body.written_by(lane)))
    })
}

/// The request's head as HTTP/1 has it. Nothing is judged here: the lane refuses what is no head.
fn head_of(parts: &hyper::http::request::Parts, chunks: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        push_line(&mut head, "host", authority);
    }
    // The same again says nothing new; anything else makes two `Host` lines, which the lane refuses.
    let repeats = |value: &[u8]| authority.is_some_and(|authority| authority.eq_ignore_ascii_case(value));
    for (name, value) in &parts.headers {
        if *name != COOKIE && !(*name == HOST && repeats(value.as_bytes())) {
            push_line(&mut head, name.as_str(), value.as_bytes());
        }
    }
    push_cookies(&mut head, parts);
    if chunks {
        push_line(&mut head, "transfer-encoding", b"chunked");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// HTTP/2 may cut the one `Cookie` line into pieces (RFC 9113, section 8.2.3).
fn push_cookies(head: &mut Vec<u8>, parts: &hyper::http::request::Parts) {
    let mut separator: &[u8] = b"cookie: ";
    for crumb in parts.headers.get_all(COOKIE) {
        head.extend_from_slice(separator);
        head.extend_from_slice(crumb.as_bytes());
        separator = b"; ";
    }
    if parts.headers.contains_key(COOKIE) {
        head.extend_from_slice(b"\r\n");
    }
}

// === impl Answering ===

impl Answering {
    pub(in crate::listener) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.request.poll_ready(context)
    }

    pub(in crate::listener) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.request.poll_read(context, buffer)
    }

    pub(in crate::listener) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What waits for room is taken first, so that no more than one write ever waits.
        ready!(self.poll_flush(context))?;
        self.written.push(bytes);
        match self.poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Until everything that was written is on its way to the other task.
    pub(in crate::listener) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Answer::Awaited(sender) = &mut self.answer
            && !self.written.is_empty()
        {
            let Some((begun, length)) = begin(self.written.filled(), self.is_head)? else {
                return Poll::Ready(Ok(()));
            };
            self.written.consume(length);
            if let Some((response, body)) = begun {
                let is_heard = sender.take().is_some_and(|sender| sender.send(response).is_ok());
                if !is_heard {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                self.answer = Answer::Begun(body);
            }
            return self.poll_flush(context);
        }
        if let Answer::Begun(body) = &mut self.answer {
            while !self.written.is_empty() {
                ready!(body.poll_take(&mut self.written, context))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The answer does not end here.
    pub(in crate::listener) fn break_off(&mut self) {
        if let Answer::Begun(body) = &mut self.answer {
            body.break_off();
        }
    }
}

type Head = (Option<(Response<QueuedBody>, Unframed)>, usize);

/// The answer, if its head is complete, and the head's length; no answer but a length for an interim one, which hyper
/// can't send.
fn begin(bytes: &[u8], is_head: bool) -> io::Result<Option<Head>> {
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    let parsed = AnswerHead::parse(bytes, &mut space, ANSWER_HEAD, is_head);
    let (answer, length) = match parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
        Parsed::Partial => return Ok(None),
        Parsed::Complete(answer, length) => (answer, length),
    };
    if answer.status < 200 {
        return Ok(Some((None, length)));
    }
    let (unframed, body) = queue(answer.body);
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    *response.headers_mut() = headers(answer.lines);
    debug_assert!(answer.body != BodyLength::Empty || is_head || matches!(answer.status, 204 | 304));
    Ok(Some((Some((response, unframed)), length)))
}

// === impl Begun ===

impl Begun {
    fn new(streams: Rc<Streams>) -> Self {
        streams.begun.set(streams.begun.get() + 1);
        streams.open.set(streams.open.get() + 1);
        Begun(streams)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
