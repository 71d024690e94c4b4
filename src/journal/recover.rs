//! Opening what an earlier process left: after an orderly stop, a `kill -9` or a power loss.
//!
//! Per shard, in this order, each step one that may be cut off and done again:
//!
//! 1. Segments that the cursor has passed are removed, empty ones too; the others are sealed where their records
//!    end. Nothing is ever appended to an old segment.
//! 2. Each entry of the table that was sent gets its record with `outcome = crashed`, in a segment made for
//!    these, unless its record was published: the entry says where to look.
//! 3. The table is removed.
//!
//! After a power loss pages may be older than others, so an entry may be there whose record was published and
//! the position is not. Then the requests of all records that are left are searched. Records that a batch holds
//! can't be among them: before a cut is made, the table is synced.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::cursor::{Cursor, Position};
use super::disk::Disk;
use super::handle::{JournalError, JournalId};
use super::header::{BadHeader, HEADER_BYTES, Header, Kind};
use super::in_flight::{Owed, Table};
use super::reader::{Found, Walk};
use super::record::{self, Buffer, Charges, RECORD_BYTES_MAX, WORD, WORD_BYTES, Word};
use super::segment::{FIRST, Segment};
use crate::domain::{Outcome, RequestId, UsageRecord};

/// What [`Journal::open`](super::Journal::open) found and did. All zero after an orderly stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Requests that were with an upstream when the process died: now records with `outcome = crashed`.
    pub crashed: usize,
    /// Requests that had been charged but not sent. Their units are given back by the flush's recovery.
    pub unsent: usize,
    /// Bytes that verify as no record.
    pub damaged_bytes: u64,
    /// Segments that should be there and are not: what they recorded is lost.
    pub segments_missing: u32,
    /// Segments whose header is damaged; their records are read all the same.
    pub headers_damaged: u32,
}

/// Where to recover.
pub(super) struct Site<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) journal: JournalId,
    pub(super) boot: Uuid,
    pub(super) directory: PathBuf,
    pub(super) shard: u32,
    pub(super) cursor: &'a Cursor,
}

/// A shard that nobody writes to.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    /// The number of the next segment.
    pub(super) next: u32,
    pub(super) report: Recovery,
}

// === impl Site ===

impl Site<'_> {
    pub(super) fn recover(&self) -> Result<Recovered, JournalError> {
        let mut recovered = Recovered::default();
        for sequence in self.sequences()? {
            self.take_in(sequence, &mut recovered)?;
        }
        self.number(&mut recovered);
        self.settle_table(&mut recovered)?;
        Ok(recovered)
    }

    /// What the shard's directory holds, less what was never finished.
    fn sequences(&self) -> Result<Vec<u32>, JournalError> {
        let names = self.at(&self.directory, "listing", self.disk.list(&self.directory))?;
        for name in names.iter().filter(|name| name.ends_with(".unfinished") || *name == Table::NEXT) {
            self.remove(&self.directory.join(name))?;
        }
        let mut sequences: Vec<u32> = names.iter().filter_map(|name| Segment::sequence_of(name)).collect();
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// Keeps a segment, sealed; or removes it if it holds nothing that is still needed.
    fn take_in(&self, sequence: u32, recovered: &mut Recovered) -> Result<(), JournalError> {
        let path = self.directory.join(Segment::name(sequence));
        let position = self.cursor.position(self.shard);
        if sequence < position.sequence {
            return self.remove(&path);
        }
        let Some(region) = self.at(&path, "opening", self.disk.open(&path))? else { return Ok(()) };
        let segment = Segment::of_region(path.clone(), region, &self.place(sequence))
            .map_err(|bad| bad_header(&path, bad))?;
        recovered.report.headers_damaged += u32::from(segment.till.is_nil());
        let damaged = close(&segment);
        if segment.end() == Some(FIRST) && !damaged.found {
            drop(segment);
            return self.remove(&path);
        }
        recovered.report.damaged_bytes += damaged.bytes;
        recovered.segments.insert(sequence, Arc::new(segment));
        Ok(())
    }

    /// Finds gaps, and the next number that was never used, for whatever was lost.
    fn number(&self, recovered: &mut Recovered) {
        let position = self.cursor.position(self.shard);
        let mut expected = position.sequence.max(1);
        for &sequence in recovered.segments.keys() {
            recovered.report.segments_missing += sequence - expected.min(sequence);
            expected = sequence + 1;
        }
        let begun = position.offset > FIRST;
        if begun && !recovered.segments.contains_key(&position.sequence) {
            expected = expected.max(position.sequence + 1);
            recovered.report.segments_missing += u32::from(recovered.segments.is_empty());
        }
        let cut = self.cursor.cut_of(self.shard).map_or(0, |cut| cut.sequence + 1);
        recovered.next = expected.max(cut);
    }

    fn settle_table(&self, recovered: &mut Recovered) -> Result<(), JournalError> {
        let path = Table::path(&self.directory);
        let Some(region) = self.at(&path, "opening", self.disk.open(&path))? else { return Ok(()) };
        match Table::of_region(region) {
            Ok((table, header)) => self.settle_entries(&table, &header, recovered)?,
            Err(BadHeader::Unreadable) => recovered.report.headers_damaged += 1,
            Err(newer @ BadHeader::TooNew(_)) => return Err(bad_header(&path, newer)),
        }
        self.remove(&path)
    }

    fn settle_entries(
        &self,
        table: &Table,
        header: &Header,
        recovered: &mut Recovered,
    ) -> Result<(), JournalError> {
        table.settle_replacing();
        recovered.report.unsent += table.unsent();
        let mut owed = table.owed();
        if header.boot == self.boot {
            owed.retain(|owed| !self.is_published(owed, recovered));
        } else {
            let known = known_requests(recovered);
            owed.retain(|owed| owed.request().is_some_and(|request| !known.contains(&request)));
        }
        if owed.is_empty() {
            return Ok(());
        }
        recovered.report.crashed += owed.len();
        let segment = self.segment_of(&owed, header.till, recovered.next)?;
        recovered.next += 1;
        let end = publish(&owed, table, &segment);
        // The table goes next, and then nobody else knows of them.
        self.at(&segment.path, "syncing", segment.sync(0, end))?;
        recovered.segments.insert(segment.sequence, Arc::new(segment));
        Ok(())
    }

    /// Whether the record that the entry was to become lies where the entry says it would.
    fn is_published(&self, owed: &Owed, recovered: &Recovered) -> bool {
        if owed.noted < self.cursor.position(self.shard) {
            return owed.noted != Position::default();
        }
        let Some(segment) = recovered.segments.get(&owed.noted.sequence) else { return false };
        let mut payload = Vec::new();
        record_at(segment, owed.noted.offset, &mut payload)
            .is_some_and(|payload| request_of(payload) == owed.request())
    }

    /// A segment just large enough for the crashed records.
    fn segment_of(&self, owed: &[Owed], till: Uuid, sequence: u32) -> Result<Segment, JournalError> {
        let bytes = HEADER_BYTES + owed.len() * RECORD_BYTES_MAX + WORD;
        let header = Header { till, ..self.place(sequence) };
        let made = Segment::create(self.disk, &self.directory, &header, bytes);
        self.at(&self.directory, "making a segment in", made)
    }

    fn place(&self, number: u32) -> Header {
        let Site { journal, boot, shard, .. } = *self;
        Header { kind: Kind::Segment, shard, number, journal, till: Uuid::nil(), boot }
    }

    fn remove(&self, path: &Path) -> Result<(), JournalError> {
        self.at(path, "removing", self.disk.remove(path))
    }

    fn at<T>(&self, path: &Path, action: &'static str, done: io::Result<T>) -> Result<T, JournalError> {
        done.map_err(|source| JournalError::Io { action, path: path.to_owned(), source })
    }
}

pub(super) fn bad_header(path: &Path, bad: BadHeader) -> JournalError {
    match bad {
        BadHeader::Unreadable => JournalError::Foreign(path.to_owned()),
        BadHeader::TooNew(version) => JournalError::TooNew { path: path.to_owned(), version },
    }
}

#[derive(Default)]
struct Damage {
    found: bool,
    bytes: u64,
}

/// Seals the segment where its records end, if nobody has; says what does not verify.
fn close(segment: &Segment) -> Damage {
    let mut damage = Damage::default();
    let mut walk = Walk::new(FIRST, segment.room() + WORD_BYTES);
    loop {
        match walk.next(segment) {
            Found::Record { .. } => {}
            Found::Damaged { from, to } => {
                damage.found = true;
                damage.bytes += u64::from(to - from);
            }
            Found::End { offset, sealed: true } => {
                segment.close(offset);
                return damage;
            }
            Found::End { offset, sealed: false } => {
                let end = offset.min(segment.room());
                segment.seal(end);
                // What its writer had no time to sync. If that fails, the file is suspect and written anew.
                let _ = segment.sync(0, end);
                return damage;
            }
        }
    }
}

/// Publishes what is owed, and answers where it ends; each under its noted position as [`Writer::finish`](super::Writer::finish) does.
#[expect(clippy::cast_possible_truncation, reason = "a record is shorter than 1024 bytes")]
fn publish(owed: &[Owed], table: &Table, segment: &Segment) -> u32 {
    let mut buffer: Buffer = [0; RECORD_BYTES_MAX];
    let mut offset = FIRST;
    for owed in owed {
        let Some(bytes) = owed.crashed(&mut buffer) else { continue };
        let header = segment.place(offset, &mut buffer[..bytes]);
        table.note(owed.index, Position { sequence: segment.sequence, offset });
        segment.publish(offset, header);
        offset += bytes as u32;
    }
    segment.seal(offset);
    offset
}

fn record_at<'b>(segment: &Segment, offset: u32, payload: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    if offset < FIRST || !offset.is_multiple_of(WORD_BYTES) || offset >= segment.room() {
        return None;
    }
    let header = segment.word(offset);
    match Word::of(header) {
        Word::Record(bytes) if offset as usize + bytes <= segment.room() as usize => {
            segment.payload(offset, header, bytes, payload)
        }
        _ => None,
    }
}

fn request_of(payload: &[u8]) -> Option<RequestId> {
    record::decode(payload, &mut Charges::new()).map(|record| record.request)
}

fn known_requests(recovered: &Recovered) -> HashSet<RequestId> {
    let mut known = HashSet::new();
    for segment in recovered.segments.values() {
        let mut walk = Walk::new(FIRST, segment.end().unwrap_or(FIRST));
        loop {
            match walk.next(segment) {
                Found::Record { .. } => known.extend(request_of(walk.payload())),
                Found::Damaged { .. } => {}
                Found::End { .. } => break,
            }
        }
    }
    known
}

// === impl Owed ===

impl Owed {
    fn request(&self) -> Option<RequestId> {
        request_of(&self.payload)
    }

    /// Encodes the record of a request that nobody could finish, with the units that the till still has as spent.
    fn crashed(&self, buffer: &mut Buffer) -> Option<usize> {
        let mut recorded = Charges::new();
        let record = record::decode(&self.payload, &mut recorded)?;
        let charges = self.charges()?;
        let crashed = UsageRecord { charges: &charges, outcome: Outcome::Crashed, status: 0, ..record };
        Some(record::encode(&crashed, buffer))
    }
}
