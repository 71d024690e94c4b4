//! A message's body as HTTP/1 has it on the wire: from HTTP/2's frames to bytes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::HeaderMap;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::io::ReadBuf;

use crate::listener::http1::size_line;

/// The bytes of one message: its head, which is there from the beginning, and its body as it comes.
#[derive(Debug)]
pub(super) struct Framed {
    /// What is to be read next.
    ready: VecDeque<Bytes>,
    /// `None` once it has ended.
    body: Option<Incoming>,
    /// The head declared no length, so the body comes in chunks.
    chunks: bool,
}

// === impl Framed ===

impl Framed {
    /// `chunks`: what the head says of the body's framing.
    pub(super) fn new(head: Vec<u8>, body: Incoming, chunks: bool) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        Framed { ready: VecDeque::from([head.into()]), body, chunks }
    }

    /// As of `AsyncRead`; nothing is read when all has been read.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(context))?;
        while let Some(piece) = self.ready.front_mut() {
            let count = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.split_to(count));
            if !piece.is_empty() {
                break;
            }
            self.ready.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// Until there is something to read, or nothing will come.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ready.is_empty() {
            let Some(body) = &mut self.body else { break };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.push(data),
                    Err(frame) => {
                        self.body = None;
                        self.end(frame.into_trailers().ok().as_ref());
                    }
                },
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                None => {
                    self.body = None;
                    self.end(None);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.chunks {
            self.ready.push_back(Bytes::copy_from_slice(size_line(data.len(), &mut [0; 18])));
            self.ready.extend([data, Bytes::from_static(b"\r\n")]);
        } else {
            self.ready.push_back(data);
        }
    }

    /// A body whose length was declared has no place for trailers.
    fn end(&mut self, trailers: Option<&HeaderMap>) {
        if !self.chunks {
            return;
        }
        let mut end = b"0\r\n".to_vec();
        for (name, value) in trailers.into_iter().flatten() {
            push_line(&mut end, name.as_str(), value.as_bytes());
        }
        end.extend(b"\r\n");
        self.ready.push_back(end.into());
    }
}

/// A header line with its CR LF.
pub(super) fn push_line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}
