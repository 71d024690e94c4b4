//! Looks over HTTP/2's shoulder: frames that cost the sender nothing and us work end the connection when they flood.
//!
//! hyper bounds what such frames make it remember, but answers or skips them as fast as they come. A client that works
//! sends a few of them per request; the bound is far above that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use crate::listener::{Alarms, Buffer, Stream};

/// Frames without a use that are borne at once.
const BURST: u32 = 1_000;

/// So many more are borne per tick: 200 per second.
const PER_TICK: u64 = 10;

const HEADER_BYTES: usize = 9;

/// A client's connection, its frames counted as they come.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// Was read before, and comes first.
    begun: Buffer,
    alarms: Alarms,
    frames: Frames,
    /// Useless frames that are borne from now on, as of `tick`.
    credit: u32,
    tick: u64,
}

/// Follows the frames of one direction.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next header: of the preface or a payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
}

// === impl Watched ===

impl Watched {
    pub(super) fn new(stream: Stream, begun: Buffer, alarms: Alarms) -> Self {
        let tick = alarms.now();
        Watched { stream, begun, alarms, frames: Frames::new(), credit: BURST, tick }
    }

    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        let useless = self.frames.useless(bytes);
        if useless == 0 {
            return Ok(());
        }
        let now = self.alarms.now();
        let regained = u32::try_from((now - self.tick).saturating_mul(PER_TICK)).unwrap_or(BURST);
        self.tick = now;
        self.credit = self.credit.saturating_add(regained).min(BURST);
        match self.credit.checked_sub(useless) {
            Some(credit) => {
                self.credit = credit;
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "a flood of frames without a use")),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.begun.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        } else {
            let count = this.begun.len().min(buffer.remaining());
            buffer.put_slice(&this.begun.filled()[..count]);
            this.begun.consume(count);
        }
        Poll::Ready(this.count(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

// === impl Frames ===

impl Frames {
    const fn new() -> Self {
        Frames { skip: PREFACE.len(), header: [0; HEADER_BYTES], header_bytes: 0 }
    }

    /// How many useless frames begin in `bytes`, which follow what was seen before.
    fn useless(&mut self, mut bytes: &[u8]) -> u32 {
        let mut useless = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER_BYTES {
                useless += u32::from(self.is_useless());
                self.skip = self.payload_bytes();
                self.header_bytes = 0;
            }
        }
        useless
    }

    fn payload_bytes(&self) -> usize {
        self.header[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    }

    /// By type (RFC 9113, section 6): an empty DATA that ends nothing, PRIORITY, RST_STREAM, SETTINGS, PING,
    /// CONTINUATION, and what nobody knows. HEADERS begin a stream; a window must be opened for every few bytes.
    fn is_useless(&self) -> bool {
        let ends_stream = self.header[4] & 1 == 1;
        match self.header[3] {
            0 => self.payload_bytes() == 0 && !ends_stream,
            1 | 7 | 8 => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, PREFACE};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let frames = [
            PREFACE.to_vec(),
            frame(4, 0, &[0; 12]),
            frame(1, 4, b"headers"),
            frame(0, 0, b"data"),
            frame(0, 0, b""),
            frame(0, 1, b""),
            frame(6, 0, &[0; 8]),
            frame(8, 0, &[0; 4]),
            frame(3, 0, &[0; 4]),
            frame(99, 0, &[6; 40]),
        ]
        .concat();
        for step in 1..=frames.len() {
            let mut watch = Frames::new();
            let useless: u32 = frames.chunks(step).map(|bytes| watch.useless(bytes)).sum();
            assert_eq!(useless, 5, "step {step}: SETTINGS, empty DATA, PING, RST_STREAM, unknown");
        }
    }
}
