//! Bodies: from one hop's buffer to the next hop's, in framing of our own.
//!
//! What is sent on is always what was understood: sized bodies byte for byte up to their size, chunked ones decoded
//! and framed anew. Nothing of the sender's framing is copied.

use super::chunked::{BadChunk, ChunkedDecoder, Piece, size_line};
use super::head::BodyLength;
use crate::listener::Buffer;

/// Trailer lines that are passed on; a body with more loses them all.
const TRAILERS_MAX: usize = 64;

/// One body on its way.
#[derive(Debug)]
pub struct BodyCopy {
    source: Source,
    /// Whether the receiver gets chunks; otherwise bare bytes.
    chunks: bool,
    bytes: u64,
    trailers: Trailers,
}

/// What becomes of the trailers of a chunked body.
#[derive(Debug)]
enum Trailers {
    Drop,
    /// They are kept aside, as lines and an empty one.
    Keep,
    /// Those whose names pass go on with the body, if it goes on in chunks.
    Pass(fn(&str) -> bool),
}

#[derive(Debug)]
enum Source {
    Sized { left: u64 },
    Chunked(ChunkedDecoder),
    UntilClose { closed: bool },
}

// === impl BodyCopy ===

impl BodyCopy {
    /// A body framed as `body`. `chunks`: frame it in chunks for the receiver, which only a chunked body needs.
    pub fn new(body: BodyLength, chunks: bool) -> Self {
        let source = match body {
            BodyLength::Empty => Source::Sized { left: 0 },
            BodyLength::Sized(left) => Source::Sized { left },
            BodyLength::Chunked => Source::Chunked(ChunkedDecoder::default()),
            BodyLength::UntilClose => Source::UntilClose { closed: false },
        };
        BodyCopy { source, chunks, bytes: 0, trailers: Trailers::Drop }
    }

    /// The same, with trailers: those whose names pass are sent on behind the last chunk.
    #[must_use]
    pub fn passing_trailers(mut self, passes: fn(&str) -> bool) -> Self {
        self.trailers = Trailers::Pass(passes);
        self.reading_trailers()
    }

    /// The same, with trailers kept for [`BodyCopy::take_trailers`].
    #[must_use]
    pub(in crate::listener) fn keeping_trailers(mut self) -> Self {
        self.trailers = Trailers::Keep;
        self.reading_trailers()
    }

    fn reading_trailers(mut self) -> Self {
        if let Source::Chunked(decoder) = &mut self.source {
            decoder.keep_trailers();
        }
        self
    }

    /// The trailer lines, with an empty one behind them; `None` if there were none, or none were kept.
    pub(in crate::listener) fn take_trailers(&mut self) -> Option<Vec<u8>> {
        match (&mut self.source, &self.trailers) {
            (Source::Chunked(decoder), Trailers::Keep) => decoder.take_trailers(),
            _ => None,
        }
    }

    /// Moves what is there, framed, from `from` to the end of `to`. Bytes behind the body stay in `from`.
    ///
    /// # Errors
    /// [`BadChunk`]: the body's end can't be known any more; what was moved before may still be sent.
    pub fn advance(&mut self, from: &mut Buffer, to: &mut Buffer) -> Result<(), BadChunk> {
        match &mut self.source {
            Source::Sized { left } => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
                to.push(&from.filled()[..length]);
                from.consume(length);
                *left -= length as u64;
                self.bytes += length as u64;
                Ok(())
            }
            Source::UntilClose { .. } => {
                self.bytes += from.len() as u64;
                to.push(from.filled());
                from.consume(from.len());
                Ok(())
            }
            Source::Chunked(decoder) => {
                while !from.is_empty() && !decoder.is_at_end() {
                    match decoder.next(from.filled())? {
                        Piece::More { skip } => from.consume(skip),
                        Piece::End { skip } => {
                            from.consume(skip);
                            if self.chunks {
                                push_end(to, decoder, &self.trailers);
                            }
                        }
                        Piece::Data { skip, length } => {
                            push_data(to, &from.filled()[skip..skip + length], self.chunks);
                            from.consume(skip + length);
                            self.bytes += length as u64;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// The sender has ended its stream. Whether that completes the body is then told by [`BodyCopy::is_complete`].
    pub fn close(&mut self) {
        if let Source::UntilClose { closed } = &mut self.source {
            *closed = true;
        }
    }

    pub fn is_complete(&self) -> bool {
        match &self.source {
            Source::Sized { left } => *left == 0,
            Source::Chunked(decoder) => decoder.is_at_end(),
            Source::UntilClose { closed } => *closed,
        }
    }

    /// Bytes of data so far, without framing.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn push_data(to: &mut Buffer, data: &[u8], chunks: bool) {
    if chunks {
        to.push(size_line(data.len(), &mut [0; 18]));
        to.push(data);
        to.push(b"\r\n");
    } else {
        to.push(data);
    }
}

/// The last chunk, and what passes of the trailers.
fn push_end(to: &mut Buffer, decoder: &mut ChunkedDecoder, trailers: &Trailers) {
    to.push(b"0\r\n");
    let mut space = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    if let Trailers::Pass(passes) = trailers
        && let Some(lines) = decoder.take_trailers()
        && let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(&lines, &mut space)
    {
        for line in lines.iter().filter(|line| passes(line.name)) {
            for part in [line.name.as_bytes(), b": ", line.value, b"\r\n"] {
                to.push(part);
            }
        }
    }
    to.push(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::BodyCopy;
    use crate::listener::Buffers;
    use crate::listener::http1::BodyLength;

    fn check(body: BodyLength, chunks: bool, input: &str, output: &str, rest: &str, complete: bool) {
        let pool = Buffers::default();
        let (mut from, mut to) = (pool.take(), pool.take());
        let mut copy = BodyCopy::new(body, chunks);
        from.push(input.as_bytes());
        copy.advance(&mut from, &mut to).unwrap();
        assert_eq!(to.filled(), output.as_bytes());
        assert_eq!(from.filled(), rest.as_bytes());
        assert_eq!(copy.is_complete(), complete);
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        check(BodyLength::Empty, false, "GET /", "", "GET /", true);
        check(BodyLength::Sized(5), false, "hello!", "hello", "!", true);
        check(BodyLength::Sized(9), false, "hello!", "hello!", "", false);
        check(
            BodyLength::Chunked,
            true,
            "5;x\r\nhello\r\n0\r\nt: 1\r\n\r\nGET",
            "5\r\nhello\r\n0\r\n\r\n",
            "GET",
            true,
        );
        check(BodyLength::Chunked, false, "5\r\nhello\r\n0\r\n\r\n", "hello", "", true);
        check(BodyLength::Chunked, true, "5\r\nhel", "3\r\nhel\r\n", "", false);
        check(BodyLength::UntilClose, false, "hello", "hello", "", false);
    }

    #[test]
    fn trailers_pass_by_name_and_are_lost_where_they_are_none() {
        let pool = Buffers::default();
        for (sent, passed) in [
            ("a: 1\r\nno: 2\r\nb:3\r\n", "a: 1\r\nb: 3\r\n"),
            ("", ""),
            ("no colon\r\n", ""),
            ("a : 1\r\n", ""),
        ] {
            let whole = format!("1\r\nx\r\n0\r\n{sent}\r\n");
            for step in 1..=whole.len() {
                let (mut from, mut to) = (pool.take(), pool.take());
                let mut copy = BodyCopy::new(BodyLength::Chunked, true).passing_trailers(|name| name != "no");
                for piece in whole.as_bytes().chunks(step) {
                    from.push(piece);
                    copy.advance(&mut from, &mut to).unwrap();
                }
                assert_eq!(to.filled(), format!("1\r\nx\r\n0\r\n{passed}\r\n").as_bytes(), "{sent:?}");
            }
        }
    }
}
