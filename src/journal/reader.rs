//! Walking over records, and what to do where one is damaged.
//!
//! The walk goes from record to record by their lengths. Where a record does not verify, it looks on, word by
//! word, for the next one that does; the checksum's seed holds the offset, so nothing inside a record passes for
//! one. What lies between is damage and is reported as such.

use std::sync::Arc;

use uuid::Uuid;

use super::cursor::Cut;
use super::record::{self, Charges, WORD, WORD_BYTES, Word};
use super::segment::Segment;
use crate::domain::UsageRecord;

/// Reads the records of one [`Cut`].
pub struct CutReader {
    segment: Arc<Segment>,
    walk: Walk,
    charges: Charges,
    checksum: u32,
}

/// What a [`CutReader`] finds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Read<'a> {
    Record(UsageRecord<'a>),
    /// So many bytes that verify as no record: what they recorded is lost.
    Damaged(u32),
}

/// A walk over a segment, from a record's beginning to `limit`.
pub(super) struct Walk {
    offset: u32,
    limit: u32,
    record: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A record that verifies; its payload is the walk's.
    Record {
        offset: u32,
        end: u32,
    },
    Damaged {
        from: u32,
        to: u32,
    },
    /// The seal, the limit, or nothing but what was never published.
    End {
        offset: u32,
        sealed: bool,
    },
}

// === impl CutReader ===

impl CutReader {
    pub(super) fn new(segment: Arc<Segment>, cut: &Cut) -> CutReader {
        let walk = Walk::new(cut.from, cut.to);
        CutReader { segment, walk, charges: Charges::new(), checksum: 0 }
    }

    /// The till whose units the records tell of; nil if the segment's header was damaged.
    pub fn till(&self) -> Uuid {
        self.segment.till
    }

    /// A checksum of all that was read so far: the same for the same records in the same place.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The next record, or what is damaged before it. `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends what it reads, which an iterator can't")]
    pub fn next(&mut self) -> Option<Read<'_>> {
        match self.walk.next(&self.segment) {
            Found::End { .. } => None,
            Found::Damaged { from, to } => Some(Read::Damaged(to - from)),
            Found::Record { offset, end } => {
                let header = self.segment.word(offset);
                self.checksum = crc32c::crc32c_append(self.checksum, &header.to_le_bytes());
                let record = record::decode(self.walk.payload(), &mut self.charges);
                Some(record.map_or(Read::Damaged(end - offset), Read::Record))
            }
        }
    }
}

// === impl Walk ===

impl Walk {
    pub(super) fn new(from: u32, limit: u32) -> Walk {
        Walk { offset: from, limit, record: Vec::new() }
    }

    /// The payload of the record that was found last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.record[WORD..]
    }

    pub(super) fn next(&mut self, segment: &Segment) -> Found {
        let from = self.offset;
        let found = self.look_at(segment, from).unwrap_or_else(|| self.look_beyond(segment, from));
        self.offset = match found {
            Found::Record { end, .. } => end,
            Found::Damaged { to, .. } => to,
            Found::End { offset, .. } => offset,
        };
        found
    }

    /// What verifies at `offset`, or the limit.
    #[expect(clippy::cast_possible_truncation, reason = "a record is shorter than 1024 bytes")]
    fn look_at(&mut self, segment: &Segment, offset: u32) -> Option<Found> {
        if offset >= self.limit {
            return Some(Found::End { offset, sealed: false });
        }
        let header = segment.word(offset);
        match Word::of(header) {
            Word::Seal if header == segment.seed.seal(offset) => Some(Found::End { offset, sealed: true }),
            Word::Record(bytes) if offset as usize + bytes <= self.limit as usize => {
                segment.payload(offset, header, bytes, &mut self.record)?;
                Some(Found::Record { offset, end: offset + bytes as u32 })
            }
            _ => None,
        }
    }

    /// Nothing verifies at `from`. Damage if something does behind it or if `from` itself is no blank; otherwise
    /// the end: a payload whose header word was not stored yet is no record.
    fn look_beyond(&mut self, segment: &Segment, from: u32) -> Found {
        let mut offset = from + WORD_BYTES;
        while let Some(next) = segment.first_nonzero(offset.min(self.limit), self.limit) {
            if self.look_at(segment, next).is_some() {
                return Found::Damaged { from, to: next };
            }
            offset = next + WORD_BYTES;
        }
        match segment.word(from) {
            0 => Found::End { offset: from, sealed: false },
            _ => Found::Damaged { from, to: self.limit },
        }
    }
}
