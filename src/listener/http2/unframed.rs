//! A message as HTTP/2 has it: from the bytes that an HTTP/1 lane writes to a head, data and trailers.
//!
//! Writer and reader are two tasks of one thread with a bounded queue between them: who writes waits when the other
//! side's window is closed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{HeaderName, HeaderValue};
use tokio::task::JoinHandle;

use crate::listener::Buffer;
use crate::listener::http1::{BodyCopy, BodyLength, Line};

/// Bytes of a body that wait for the other side's window.
const QUEUED_MAX: usize = 64 * 1024;

/// Header lines of one connection, which HTTP/2 must not carry (RFC 9113, section 8.2.2).
const OF_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"];

/// The lane's end of a body.
#[derive(Debug)]
pub(super) struct Unframed {
    copy: BodyCopy,
    queue: Queue,
    /// The body ends with its writer, if the writer does not say that it breaks off.
    until_close: bool,
}

/// HTTP/2's end of a body.
#[derive(Debug)]
pub(super) struct QueuedBody {
    queue: Queue,
    /// Who writes the body: ends when nobody reads it any more.
    writer: Option<Owned>,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Owned(Option<JoinHandle<()>>);

/// The body was broken off before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body was broken off")]
pub(super) struct BrokenOff;

#[derive(Clone, Debug, Default)]
struct Queue(Rc<RefCell<Queued>>);

#[derive(Debug, Default)]
struct Queued {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), BrokenOff>>,
    has_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A body from one to the other. The reader ends `writer` when it is dropped before the body's end.
pub(super) fn queue(body: BodyLength) -> (Unframed, QueuedBody) {
    let queue = Queue::default();
    {
        let mut queued = queue.0.borrow_mut();
        queued.has_reader = true;
        if body.is_empty() {
            queued.end = Some(Ok(()));
        }
    }
    let copy = BodyCopy::new(body, false).keeping_trailers();
    let until_close = body == BodyLength::UntilClose;
    (Unframed { copy, queue: queue.clone(), until_close }, QueuedBody { queue, writer: None })
}

/// The lines as HTTP/2 may carry them. A line that is no header of it, which our own writer never makes, is dropped.
pub(super) fn headers<'l>(lines: impl IntoIterator<Item = &'l Line<'l>>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let is_of_connection = OF_CONNECTION.iter().any(|name| line.name.eq_ignore_ascii_case(name))
            || (line.name.eq_ignore_ascii_case("te") && line.value != b"trailers");
        if let (false, Ok(name), Ok(value)) = (
            is_of_connection,
            HeaderName::from_bytes(line.name.as_bytes()),
            HeaderValue::from_bytes(line.value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

// === impl Unframed ===

impl Unframed {
    /// Takes the body's bytes from `from`, as far as the queue has room.
    ///
    /// # Errors
    /// Nobody reads any more, or the bytes are no body.
    pub(super) fn poll_take(&mut self, from: &mut Buffer, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queued = self.queue.0.borrow_mut();
        if !queued.has_reader {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if queued.bytes >= QUEUED_MAX {
            queued.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut data = from.sibling();
        self.copy
            .advance(from, &mut data)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if !data.is_empty() {
            queued.bytes += data.len();
            queued.pieces.push_back(Bytes::copy_from_slice(data.filled()));
        }
        if self.copy.is_complete() {
            queued.trailers = self.copy.take_trailers().and_then(|lines| trailers(&lines));
            queued.end = Some(Ok(()));
        }
        queued.wake_reader();
        Poll::Ready(Ok(()))
    }

    /// The body does not end here, whatever its framing says.
    pub(super) fn break_off(&mut self) {
        self.until_close = false;
    }
}

impl Drop for Unframed {
    fn drop(&mut self) {
        let mut queued = self.queue.0.borrow_mut();
        let end = if self.until_close { Ok(()) } else { Err(BrokenOff) };
        queued.end.get_or_insert(end);
        queued.wake_reader();
    }
}

fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut space = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(lines, &mut space) {
        Ok(httparse::Status::Complete((_, lines))) if !lines.is_empty() => Some(headers(lines)),
        _ => None,
    }
}

// === impl QueuedBody ===

impl QueuedBody {
    pub(super) fn written_by(mut self, writer: Owned) -> Self {
        // Nothing more is to be written of an empty body; its writer has only its books to close.
        if self.is_end_stream() {
            writer.let_go();
        } else {
            self.writer = Some(writer);
        }
        self
    }
}

impl Body for QueuedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut queued = self.queue.0.borrow_mut();
        if let Some(piece) = queued.pieces.pop_front() {
            queued.bytes -= piece.len();
            if let Some(writer) = queued.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match queued.end {
            None => {
                queued.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Some(Ok(())) => Poll::Ready(queued.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            Some(Err(broken)) => Poll::Ready(Some(Err(broken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let queued = self.queue.0.borrow();
        queued.pieces.is_empty() && queued.trailers.is_none() && queued.end == Some(Ok(()))
    }
}

impl Drop for QueuedBody {
    fn drop(&mut self) {
        let mut queued = self.queue.0.borrow_mut();
        queued.has_reader = false;
        if let Some(writer) = queued.writer.take() {
            writer.wake();
        }
        let is_whole = queued.end == Some(Ok(()));
        drop(queued);
        if is_whole && let Some(writer) = self.writer.take() {
            writer.let_go();
        }
    }
}

impl Queued {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

// === impl Owned ===

impl Owned {
    pub(super) fn new(task: JoinHandle<()>) -> Self {
        Owned(Some(task))
    }

    /// Lets the task end by itself.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
