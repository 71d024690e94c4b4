//! An upstream's HTTP/2 connection, and each of its streams as an HTTP/1 connection for the lane to ask on.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::ReadBuf;

use super::OnThisThread;
use super::framed::{Framed, push_line};
use super::unframed::{QueuedBody, Unframed, headers, queue};
use crate::listener::http1::{Head, HeadLimits, LINES_MAX, Parsed};
use crate::listener::{Buffer, Stream};

/// Of our own request, which has what the client's had, and what we add.
const REQUEST_HEAD: HeadLimits = HeadLimits { bytes: 2 << 20, target_bytes: 2 << 20, lines: LINES_MAX };

/// Bytes that an upstream may send on one stream before the client takes any.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Streams on one connection: as many as RFC 9113, section 6.5.2, asks any server to take.
const STREAMS_MAX: usize = 100;

/// How often a connection with streams is asked whether it is still there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Of an answer's header list, as HTTP/2 counts it: what HTTP/1 upstreams may send.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Opens streams on one connection. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Http2Sender {
    requests: SendRequest<QueuedBody>,
    is_tls: bool,
    streams: Rc<Cell<usize>>,
}

/// One stream, as an HTTP/1 connection to which one request goes.
pub struct Asking {
    sender: Http2Sender,
    /// What the lane has written and is not understood yet.
    written: Buffer,
    request: Option<Unframed>,
    is_head: bool,
    answer: Answer,
}

type Pending = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>>>>;

enum Answer {
    /// The request's head is still to come.
    Unasked,
    Awaited(Pending),
    Begun(Framed),
}

/// Begins HTTP/2 on `stream`. The connection lives on by itself until its last sender and stream are gone.
///
/// # Errors
/// The other side speaks no HTTP/2, or went away.
pub async fn connect_http2(stream: Stream) -> hyper::Result<Http2Sender> {
    let is_tls = stream.is_tls();
    let (requests, connection) = Builder::new(OnThisThread)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_BYTES)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "an HTTP/2 connection to an upstream ended: {error}");
        }
    });
    Ok(Http2Sender { requests, is_tls, streams: Rc::default() })
}

// === impl Http2Sender ===

impl Http2Sender {
    /// Whether new streams can be opened.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Whether one more stream can be opened.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.streams() < STREAMS_MAX
    }

    /// Streams that are in use.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// A new stream, as a connection; `written` is an empty buffer for its use.
    pub fn open(&self, written: Buffer) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream::Asking(Box::new(Asking {
            sender: self.clone(),
            written,
            request: None,
            is_head: false,
            answer: Answer::Unasked,
        }))
    }
}

// === impl Asking ===

impl Asking {
    pub(in crate::listener) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?.poll_ready(context)
    }

    pub(in crate::listener) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?.poll_read(context, buffer)
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

    /// Until everything that was written is on its way to the connection.
    pub(in crate::listener) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.request.is_none() && !self.written.is_empty() {
            let Some(length) = self.ask()? else { return Poll::Ready(Ok(())) };
            self.written.consume(length);
        }
        if let Some(body) = &mut self.request {
            while !self.written.is_empty() {
                ready!(body.poll_take(&mut self.written, context))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the request if its head is complete, and gives the head's length.
    fn ask(&mut self) -> io::Result<Option<usize>> {
        let invalid =
            |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let mut space = [MaybeUninit::uninit(); LINES_MAX];
        let parsed =
            Head::parse(self.written.filled(), &mut space, REQUEST_HEAD).map_err(|error| invalid(&error))?;
        let Parsed::Complete(head, length) = parsed else { return Ok(None) };
        let (unframed, body) = queue(head.body);
        let mut request = Request::new(body);
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() =
            Method::from_bytes(head.method.as_bytes()).map_err(|error| invalid(&error))?;
        *request.uri_mut() = Uri::builder()
            .scheme(if self.sender.is_tls { "https" } else { "http" })
            .authority(head.authority)
            .path_and_query([head.path, head.query].concat())
            .build()
            .map_err(|error| invalid(&error))?;
        *request.headers_mut() = headers(head.lines);
        self.is_head = head.method == "HEAD";
        self.request = Some(unframed);
        self.answer = Answer::Awaited(Box::pin(self.sender.requests.send_request(request)));
        Ok(Some(length))
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut Framed>> {
        if let Answer::Awaited(pending) = &mut self.answer {
            let answered = ready!(pending.as_mut().poll(context));
            let response = answered.map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))?;
            self.answer = Answer::Begun(framed(response, self.is_head));
        }
        match &mut self.answer {
            Answer::Begun(framed) => Poll::Ready(Ok(framed)),
            // Nothing was asked: nothing will come.
            Answer::Unasked | Answer::Awaited(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// The answer as HTTP/1 has it.
fn framed(response: Response<Incoming>, to_head: bool) -> Framed {
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let has_no_body = to_head || matches!(status, 204 | 304);
    let is_declared = parts.headers.contains_key(CONTENT_LENGTH);
    let is_empty = body.is_end_stream();
    let mut head =
        format!("HTTP/1.1 {status} {}\r\n", parts.status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in &parts.headers {
        push_line(&mut head, name.as_str(), value.as_bytes());
    }
    let chunks = !has_no_body && !is_declared && !is_empty;
    if chunks {
        push_line(&mut head, "transfer-encoding", b"chunked");
    } else if !has_no_body && !is_declared {
        push_line(&mut head, "content-length", b"0");
    }
    head.extend_from_slice(b"\r\n");
    Framed::new(head, body, chunks)
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.sender.streams.set(self.sender.streams() - 1);
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("sender", &self.sender).finish_non_exhaustive()
    }
}
