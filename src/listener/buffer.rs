//! Byte buffers that a connection borrows while it is busy and gives back when it idles.
//!
//! An idle connection holds no buffer, so ten thousand of them cost their sockets and tasks only. The pool is the
//! worker's own: no lock, no atomics.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// One read's worth: most heads and small bodies arrive in one piece.
const BUFFER_BYTES: usize = 16 * 1024;

/// What there is room for at least when reading.
const FILL_BYTES_MIN: usize = 1024;

/// What a worker keeps for reuse, 4 MiB; more than that goes back to the allocator.
const POOLED_MAX: usize = 256;

/// A worker's spare buffers.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Rc<RefCell<Vec<Vec<u8>>>>);

/// Bytes that were read and not yet consumed: `bytes[start..end]`. Goes back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    pool: Buffers,
}

// === impl Buffers ===

impl Buffers {
    pub fn take(&self) -> Buffer {
        let bytes = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Buffer { bytes, start: 0, end: 0, pool: self.clone() }
    }

    /// Gives the spare ones back to the allocator.
    pub fn release(&self) {
        *self.0.borrow_mut() = Vec::new();
    }
}

// === impl Buffer ===

impl Buffer {
    /// An empty one from the same pool.
    pub(super) fn sibling(&self) -> Buffer {
        self.pool.take()
    }

    /// What is there to be consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "consumed more than was there");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Appends `bytes`, growing if need be.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        // A head is dozens of these: where there is room, and that is nearly always, each is a comparison and a copy.
        if self.bytes.len() - self.end < bytes.len() {
            self.make_room(bytes.len());
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Appends a decimal number.
    pub fn push_number(&mut self, number: u64) {
        self.push(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Reads once, up to the free space, which is at least 1 KiB and grows up to `length_max` bytes in all.
    ///
    /// `Ok(0)` is the end of the stream. Never called with a full buffer: the caller refuses what is too long first.
    pub fn poll_fill<R: AsyncRead>(
        &mut self,
        reader: Pin<&mut R>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() - self.end < FILL_BYTES_MIN {
            self.make_room(FILL_BYTES_MIN);
        }
        let mut free = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(reader.poll_read(context, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    #[cold]
    fn make_room(&mut self, wanted: usize) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.bytes.len() - self.end < wanted {
            let length = (self.end + wanted).max(self.bytes.len() * 2);
            self.bytes.resize(length, 0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = self.pool.0.borrow_mut();
        // A buffer that had to grow is not kept: pooled memory stays bounded by POOLED_MAX * BUFFER_BYTES.
        if pool.len() < POOLED_MAX && self.bytes.len() == BUFFER_BYTES {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffers;

    #[test]
    fn a_buffer_keeps_what_was_not_consumed() {
        let pool = Buffers::default();
        let mut buffer = pool.take();
        buffer.push(b"hello ");
        buffer.push_number(18_446_744_073_709_551_615);
        buffer.consume(6);
        assert_eq!(buffer.filled(), b"18446744073709551615");
        buffer.push(&[b'x'; 40_000]);
        assert_eq!(buffer.len(), 40_020);
        buffer.consume(40_020);
        assert!(buffer.is_empty());
    }
}
