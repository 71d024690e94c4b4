//! Looking at a journal's files without touching them, whether a gateway writes them at the moment or none runs.
//!
//! Files are read, never mapped: nothing here can create, seal, sync or remove one.
//!
//! # Why a look beside a writer tells no lies
//! The directory is listed before the cursor is read, so a segment that the flush removes meanwhile lies below the
//! cursor and is not missed. What lies below the cursor is not looked at: a file that waits to be written again. One that
//! gets there while it is looked at is left alone. A segment that is still written to may be read half-way through a record; what does not
//! verify there is looked at again, and only damage that stays is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;

use super::cursor::{Cursor, Position};
use super::disk::{Disk, FileDisk, Region};
use super::handle::{self, JournalError, JournalId, io_error};
use super::header::{BadHeader, Header, Kind};
use super::in_flight::{Entries, Table};
use super::reader::{Found, Walk};
use super::record::{self, Charges, WORD, WORD_BYTES};
use super::recover::bad_header;
use super::segment::{FIRST, Segment};
use crate::clock::Timestamp;

/// What the files of a journal hold.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Inspection {
    pub journal: JournalId,
    pub directory: PathBuf,
    pub shards: Vec<ShardInspection>,
    /// Everything that does not verify, in the order of the files.
    pub faults: Vec<JournalFault>,
}

/// What the files of one worker hold.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ShardInspection {
    pub shard: u32,
    /// All records below are in the database.
    pub cursor: Position,
    /// The range that is being sent: its end. It begins at the cursor.
    pub sending_to: Option<Position>,
    pub segments: Vec<SegmentInspection>,
    /// Requests that are in flight, or were when the process died. `None` after an orderly stop.
    pub in_flight: Option<Entries>,
}

/// What one segment holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SegmentInspection {
    pub sequence: u32,
    pub file: PathBuf,
    pub file_bytes: u64,
    pub records: u64,
    pub record_bytes: u64,
    /// Records beyond the cursor: the database does not have them yet.
    pub pending_records: u64,
    pub pending_bytes: u64,
    /// When the oldest of these was admitted.
    pub oldest_pending: Option<Timestamp>,
    /// Nothing is appended to it any more.
    pub is_sealed: bool,
    /// Something in it does not verify.
    pub is_suspect: bool,
}

/// A place that does not verify.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JournalFault {
    pub file: PathBuf,
    /// Bytes from the file's beginning.
    pub offset: u64,
    pub bytes: u64,
    pub what: &'static str,
}

/// A segment is read so often at most when something in it does not verify: its writer may be at it.
const LOOKS_MAX: usize = 3;

/// What became of reading one segment.
struct Look {
    segment: SegmentInspection,
    faults: Vec<JournalFault>,
}

impl Inspection {
    /// Looks at the journal in `<data directory>/journal`; `None` if there is none.
    ///
    /// Reads every file, one at a time.
    ///
    /// # Errors
    /// [`JournalError`]: there is something that no one but a person can make sense of, or a file can't be read.
    pub fn of(directory: &Path) -> Result<Option<Inspection>, JournalError> {
        let disk = FileDisk;
        let root = directory.join("journal");
        let Some(journal) = handle::find(&disk, &root)? else { return Ok(None) };
        let directory = root.join(journal.0.to_string());
        let mut inspection =
            Inspection { journal, directory: directory.clone(), shards: Vec::new(), faults: Vec::new() };
        let mut shards = handle::numbers(&disk, &directory)?;
        shards.sort_unstable();
        for shard in shards {
            inspection.look_at(&disk, shard)?;
        }
        Ok(Some(inspection))
    }

    fn look_at(&mut self, disk: &dyn Disk, number: u32) -> Result<(), JournalError> {
        let directory = self.directory.join(number.to_string());
        let names = disk.list(&directory).map_err(io_error("listing", &directory))?;
        let cursor = handle::load_cursor(disk, &self.directory)?;
        let mut sequences: Vec<u32> = names.iter().filter_map(|name| Segment::sequence_of(name)).collect();
        sequences.sort_unstable();
        let mut shard = ShardInspection::of(number, &cursor);
        for sequence in sequences.into_iter().filter(|&sequence| sequence >= shard.cursor.sequence) {
            if let Some(look) = self.look_again(disk, (number, sequence), shard.cursor)? {
                shard.segments.push(look.segment);
                self.faults.extend(look.faults);
            }
        }
        // By now the flush may have removed what it had not passed when the cursor was read.
        let cursor = handle::load_cursor(disk, &self.directory)?;
        self.faults.extend(shard.gaps(&directory, cursor.position(number)));
        shard.in_flight = self.entries(disk, &directory)?;
        self.shards.push(shard);
        Ok(())
    }

    /// Looks at a segment until nothing is wrong with it or what is wrong stays. `None` if the flush is done with it.
    fn look_again(
        &self,
        disk: &dyn Disk,
        (shard, sequence): (u32, u32),
        cursor: Position,
    ) -> Result<Option<Look>, JournalError> {
        let directory = self.directory.join(shard.to_string());
        let place = self.place(shard, sequence);
        let mut last = None;
        for _ in 0..LOOKS_MAX {
            let Some(look) = look_once(disk, &directory, &place, cursor)? else { return Ok(None) };
            if look.faults.is_empty() {
                return Ok(Some(look));
            }
            if handle::load_cursor(disk, &self.directory)?.position(shard).sequence > sequence {
                return Ok(None);
            }
            last = Some(look);
        }
        Ok(last)
    }

    fn place(&self, shard: u32, number: u32) -> Header {
        Header { kind: Kind::Segment, shard, number, journal: self.journal, till: NIL, boot: NIL }
    }

    fn entries(&mut self, disk: &dyn Disk, directory: &Path) -> Result<Option<Entries>, JournalError> {
        let path = Table::path(directory);
        let Some(region) = region_of(disk, &path)? else { return Ok(None) };
        let bytes = region.bytes() as u64;
        match Table::of_region(region) {
            Ok((table, _)) => Ok(Some(table.entries_by_state())),
            Err(BadHeader::Unreadable) => {
                let what = "the table of requests in flight can't be read";
                self.faults.push(JournalFault { file: path, offset: 0, bytes, what });
                Ok(None)
            }
            Err(newer @ BadHeader::TooNew(_)) => Err(bad_header(&path, newer)),
        }
    }

    /// Records that the database does not have yet.
    pub fn pending_records(&self) -> u64 {
        self.segments().map(|segment| segment.pending_records).sum()
    }

    /// All records that verify, those included that the database has.
    pub fn records(&self) -> u64 {
        self.segments().map(|segment| segment.records).sum()
    }

    /// When the oldest request was admitted that the database does not have yet.
    pub fn oldest_pending(&self) -> Option<Timestamp> {
        self.segments().filter_map(|segment| segment.oldest_pending).min()
    }

    pub fn segments(&self) -> impl Iterator<Item = &SegmentInspection> {
        self.shards.iter().flat_map(|shard| &shard.segments)
    }
}

const NIL: uuid::Uuid = uuid::Uuid::nil();

// === impl ShardInspection ===

impl ShardInspection {
    fn of(shard: u32, cursor: &Cursor) -> ShardInspection {
        let sending_to = cursor.cut_of(shard).map(|cut| Position { sequence: cut.sequence, offset: cut.to });
        let cursor = cursor.position(shard);
        ShardInspection { shard, cursor, sending_to, segments: Vec::new(), in_flight: None }
    }

    /// Segments from `cursor` on that should be there and are not: what they recorded is lost.
    fn gaps(&self, directory: &Path, cursor: Position) -> Vec<JournalFault> {
        let mut expected = cursor.sequence.max(1);
        let mut gaps = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.sequence >= cursor.sequence) {
            gaps.extend((expected..segment.sequence).map(|missing| JournalFault {
                file: directory.join(Segment::name(missing)),
                offset: 0,
                bytes: 0,
                what: "the segment is missing: what it recorded is lost",
            }));
            expected = segment.sequence + 1;
        }
        gaps
    }
}

fn look_once(
    disk: &dyn Disk,
    directory: &Path,
    place: &Header,
    cursor: Position,
) -> Result<Option<Look>, JournalError> {
    let file = directory.join(Segment::name(place.number));
    let Some(region) = region_of(disk, &file)? else { return Ok(None) };
    let segment = Segment::of_region(file.clone(), region, place).map_err(|bad| bad_header(&file, bad))?;
    let mut look = Look::at(&segment, file);
    look.walk(&segment, cursor);
    look.segment.is_suspect = !look.faults.is_empty();
    Ok(Some(look))
}

/// A file's contents in memory of our own.
fn region_of(disk: &dyn Disk, path: &Path) -> Result<Option<Region>, JournalError> {
    let Some(contents) = disk.read(path).map_err(io_error("reading", path))? else { return Ok(None) };
    let word = |bytes: &[u8; WORD]| AtomicU64::new(u64::from_ne_bytes(*bytes));
    let words: Arc<[AtomicU64]> = contents.as_chunks::<WORD>().0.iter().map(word).collect();
    Ok(Some(Region::heap(words)))
}

// === impl Look ===

impl Look {
    fn at(segment: &Segment, file: PathBuf) -> Look {
        let mut faults = Vec::new();
        if segment.till.is_nil() {
            let (file, bytes) = (file.clone(), u64::from(FIRST));
            let what = "the header does not verify: whose units the records tell of is lost";
            faults.push(JournalFault { file, offset: 0, bytes, what });
        }
        let segment = SegmentInspection {
            sequence: segment.sequence,
            file,
            file_bytes: segment.bytes().into(),
            records: 0,
            record_bytes: 0,
            pending_records: 0,
            pending_bytes: 0,
            oldest_pending: None,
            is_sealed: false,
            is_suspect: false,
        };
        Look { segment, faults }
    }

    fn walk(&mut self, segment: &Segment, cursor: Position) {
        let mut walk = Walk::new(FIRST, segment.room() + WORD_BYTES);
        let mut charges = Charges::new();
        loop {
            match walk.next(segment) {
                Found::Record { offset, end } => {
                    let at = Position { sequence: segment.sequence, offset };
                    let admitted = record::decode(walk.payload(), &mut charges).map(|it| it.admitted_at);
                    self.add(u64::from(end - offset), admitted.filter(|_| at >= cursor), at >= cursor);
                }
                Found::Damaged { from, to } => self.damaged(from, to),
                Found::End { sealed, .. } => {
                    self.segment.is_sealed = sealed;
                    return;
                }
            }
        }
    }

    fn add(&mut self, bytes: u64, admitted: Option<Timestamp>, is_pending: bool) {
        let segment = &mut self.segment;
        segment.records += 1;
        segment.record_bytes += bytes;
        if is_pending {
            segment.pending_records += 1;
            segment.pending_bytes += bytes;
            segment.oldest_pending = segment.oldest_pending.into_iter().chain(admitted).min();
        }
    }

    fn damaged(&mut self, from: u32, to: u32) {
        let (file, offset, bytes) = (self.segment.file.clone(), from.into(), (to - from).into());
        self.faults.push(JournalFault { file, offset, bytes, what: "verifies as no record: it is lost" });
    }
}
