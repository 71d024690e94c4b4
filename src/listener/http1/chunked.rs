//! The chunked transfer coding, strictly (RFC 9112, section 7.1), without copying: the decoder says which bytes of
//! the input are data and which are framing.
//!
//! Chunk extensions are read past, within bounds, and dropped: no recipient needs them. So are trailers, which could carry
//! a header that was stripped from the head, unless they are asked for.

/// Bytes of one chunk's size line with its extensions.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// Bytes of all trailer lines together.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Size {
        digits: u8,
        size: u64,
        line: usize,
    },
    /// White space behind a size, which some write there.
    Padding {
        size: u64,
        line: usize,
    },
    Extension {
        size: u64,
        line: usize,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart {
        seen: usize,
    },
    Trailer {
        seen: usize,
    },
    TrailerLf {
        seen: usize,
    },
    EndLf,
    End,
}

/// Follows one body. Input may be cut anywhere.
#[derive(Clone, Debug)]
pub(super) struct ChunkedDecoder {
    place: Place,
    /// Bytes behind the last chunk, if they are kept.
    trailers: Option<Vec<u8>>,
}

/// What the next input bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// `skip` bytes of framing, then `length` (at least one) bytes of data.
    Data { skip: usize, length: usize },
    /// All of the input is framing; more is needed.
    More { skip: usize },
    /// After `skip` bytes of framing the body is complete. What follows belongs to the next message.
    End { skip: usize },
}

/// The body is not in the chunked coding: how much of it there is can't be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body breaks the chunked coding: {0}")]
pub struct BadChunk(&'static str);

// === impl ChunkedDecoder ===

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder { place: Place::SIZE, trailers: None }
    }
}

impl ChunkedDecoder {
    /// The next piece of `input`, which begins where the last piece ended. Call again until it says `More` or `End`.
    ///
    /// # Errors
    /// [`BadChunk`] is final.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Piece, BadChunk> {
        for (skip, byte) in input.iter().enumerate() {
            if let Place::Data { left } = self.place {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - skip);
                let left = left - length as u64;
                self.place = if left == 0 { Place::DataCr } else { Place::Data { left } };
                return Ok(Piece::Data { skip, length });
            }
            if self.place.is_in_trailers()
                && let Some(trailers) = &mut self.trailers
            {
                trailers.push(*byte);
            }
            self.place = self.place.after(*byte)?;
            if self.place == Place::End {
                return Ok(Piece::End { skip: skip + 1 });
            }
        }
        Ok(Piece::More { skip: input.len() })
    }

    /// From now on trailers are kept, at most [`TRAILER_BYTES_MAX`] of them.
    pub(super) fn keep_trailers(&mut self) {
        self.trailers = Some(Vec::new());
    }

    /// The trailer lines that were kept, and the empty line behind them.
    pub(super) fn take_trailers(&mut self) -> Option<Vec<u8>> {
        self.trailers.take().filter(|lines| lines.len() > 2)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.place == Place::End
    }
}

// === impl Place ===

impl Place {
    const SIZE: Place = Place::Size { digits: 0, size: 0, line: 0 };

    const fn is_in_trailers(self) -> bool {
        matches!(
            self,
            Place::TrailerStart { .. } | Place::Trailer { .. } | Place::TrailerLf { .. } | Place::EndLf
        )
    }

    fn after(self, byte: u8) -> Result<Place, BadChunk> {
        match (self, byte) {
            (Place::Size { digits, size, line }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(BadChunk("a chunk size has more than 16 digits"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(Place::Size { digits: digits + 1, size: size << 4 | u64::from(digit), line: line + 1 })
            }
            (Place::Size { digits: 0, .. }, _) => Err(BadChunk("a chunk size is missing")),
            (
                Place::Size { size, .. } | Place::Padding { size, .. } | Place::Extension { size, .. },
                b'\r',
            ) => Ok(Place::SizeLf { size }),
            (Place::Padding { line, .. }, _) if line >= SIZE_LINE_BYTES_MAX => {
                Err(BadChunk("a chunk extension is longer than 1 KiB"))
            }
            (Place::Size { size, line, .. } | Place::Padding { size, line }, b' ' | b'\t') => {
                Ok(Place::Padding { size, line: line + 1 })
            }
            (Place::Size { size, line, .. } | Place::Padding { size, line }, b';') => {
                Ok(Place::Extension { size, line: line + 1 })
            }
            (Place::Padding { .. }, _) => Err(BadChunk("a chunk size is more than one number")),
            (Place::Size { .. }, _) => Err(BadChunk("a chunk size is not hexadecimal")),
            (Place::Extension { .. }, b'\n' | 0) => Err(BadChunk("a line does not end with CR LF")),
            (Place::Extension { line, .. }, _) if line >= SIZE_LINE_BYTES_MAX => {
                Err(BadChunk("a chunk extension is longer than 1 KiB"))
            }
            (Place::Extension { size, line }, _) => Ok(Place::Extension { size, line: line + 1 }),
            (Place::SizeLf { size: 0 }, b'\n') => Ok(Place::TrailerStart { seen: 0 }),
            (Place::SizeLf { size }, b'\n') => Ok(Place::Data { left: size }),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::SIZE),
            (Place::DataCr | Place::DataLf, _) => Err(BadChunk("a chunk is longer than its size")),
            (Place::TrailerStart { .. }, b'\r') => Ok(Place::EndLf),
            (Place::EndLf, b'\n') => Ok(Place::End),
            (Place::TrailerStart { seen } | Place::Trailer { seen }, _) if seen >= TRAILER_BYTES_MAX => {
                Err(BadChunk("the trailers are longer than 8 KiB"))
            }
            (Place::Trailer { seen }, b'\r') => Ok(Place::TrailerLf { seen: seen + 1 }),
            (Place::TrailerStart { .. } | Place::Trailer { .. }, b'\n' | 0) => {
                Err(BadChunk("a line does not end with CR LF"))
            }
            (Place::TrailerStart { seen } | Place::Trailer { seen }, _) => {
                Ok(Place::Trailer { seen: seen + 1 })
            }
            (Place::TrailerLf { seen }, b'\n') => Ok(Place::TrailerStart { seen: seen + 1 }),
            (Place::SizeLf { .. } | Place::EndLf | Place::TrailerLf { .. }, _) => {
                Err(BadChunk("a line does not end with CR LF"))
            }
            (Place::Data { .. } | Place::End, _) => Ok(self),
        }
    }
}

/// The size line of a chunk of `length` bytes, for our own writer: hexadecimal and CR LF.
pub(in crate::listener) fn size_line(length: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut first = 16;
    line[16..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        first -= 1;
        line[first] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &line[first..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadChunk, ChunkedDecoder, Piece, size_line};
    use proptest::prelude::*;

    /// Decodes `input`, handed over in pieces of `step` bytes; gives the data and what was left.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize), BadChunk> {
        let (mut decoder, mut data, mut at) = (ChunkedDecoder::default(), Vec::new(), 0);
        for block in input.chunks(step) {
            let mut rest = block;
            loop {
                match decoder.next(rest)? {
                    Piece::Data { skip, length } => {
                        data.extend_from_slice(&rest[skip..skip + length]);
                        rest = &rest[skip + length..];
                        at += skip + length;
                    }
                    Piece::More { skip } => {
                        at += skip;
                        break;
                    }
                    Piece::End { skip } => return Ok((data, input.len() - at - skip)),
                }
            }
        }
        Ok((data, usize::MAX))
    }

    #[test]
    fn data_is_what_stands_between_the_framing() {
        let body = b"5\r\nhello\r\nA;name=\"x\"\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\nGET /";
        for step in 1..=body.len() {
            assert_eq!(decode(body, step), Ok((b"hello0123456789".to_vec(), 5)), "step {step}");
        }
    }

    #[test]
    fn whatever_could_be_read_two_ways_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello\rX",
            b"5;a\nb\r\nhello\r\n",
            b"5 0\r\nhello\r\n",
            b"5 \n\nhello\r\n",
            b"10000000000000000\r\n",
            b"0\r\nx: 1\n\r\n",
            b"0\r\n\rx",
            b"0\r\nx: 1\rX",
        ] {
            for step in [1, 2, body.len()] {
                assert!(decode(body, step).is_err(), "{}", body.escape_ascii());
            }
        }
        assert!(decode(&[b"1;", &[b'x'; 2000][..]].concat(), 100).is_err());
        assert!(decode(&[b"0\r\n", &b"x: 1\r\n".repeat(2000)[..]].concat(), 100).is_err());
    }

    proptest! {
        #[test]
        fn what_our_writer_frames_is_decoded(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8), step in 1_usize..400) {
            let mut body = Vec::new();
            for block in &blocks {
                body.extend_from_slice(size_line(block.len(), &mut [0; 18]));
                body.extend_from_slice(block);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&body, step), Ok((blocks.concat(), 0)));
        }

        #[test]
        fn no_input_panics(body in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            let _ = decode(&body, step);
        }
    }
}
