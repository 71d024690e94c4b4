//! One file of records: a header, records without gaps, a seal.
//!
//! A record is published by the store of its header word, after all of its payload. The [`Shard`] holds the
//! segments of one writer and its tail: what lies below the tail is published and never changes again.
//!
//! A file whose records are all in the database is written again from its beginning, under another number
//! ([`Segment::recycle`]): its pages are allocated, zeroed and in memory, which costs the kernel more per record than
//! all else that the journal does. So old bytes may lie behind the tail. None of them verifies in its new place, and the
//! word behind the last record is zero, as in a new file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::commit::Waiters;
use super::cursor::Position;
use super::disk::{Disk, Region};
use super::handle::{JournalError, io_error};
use super::header::{BadHeader, HEADER_BYTES, Header};
use super::in_flight::Table;
use super::record::{Seed, WORD, WORD_BYTES};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, RecordedCharge};

/// Where the first record of a segment begins.
#[expect(clippy::cast_possible_truncation, reason = "128")]
pub(super) const FIRST: u32 = HEADER_BYTES as u32;

/// How far ahead of the writer pages are ready at least. At 100,000 records of 128 bytes per second and 20 calls per
/// second, a writer needs 640 KiB between two.
const AHEAD_BYTES: u32 = 1 << 20;

/// A segment's end while it is still written to.
const OPEN: u32 = u32::MAX;

pub(super) struct Segment {
    pub(super) sequence: u32,
    /// The till whose units its records tell of; nil when the header is damaged.
    pub(super) till: Uuid,
    pub(super) path: PathBuf,
    pub(super) seed: Seed,
    region: Region,
    /// Where the seal is, or [`OPEN`].
    end: AtomicU32,
}

/// The segments of one writer.
///
/// Alone on its cache lines: the writer stores the tail once per record.
#[repr(align(128))]
pub(super) struct Shard {
    tail: AtomicU64,
    /// Records below are on disk. Written by whoever syncs.
    synced: AtomicU64,
    /// What the table said when the tail was here is on disk.
    table_synced: AtomicU64,
    /// The fingerprint of the lingering requests that are on disk: see [`Table::lingering`].
    lingering: AtomicU64,
    /// Pages below were made ready for the writer.
    ready: AtomicU64,
    /// The writer wanted a segment and there was none.
    is_full: AtomicBool,
    /// Units of requests that have ended and are in no record yet: see [`super::counted`].
    pub(super) counted: Mutex<HashMap<AccountKey, u64>>,
    /// How many requests were ever counted so.
    pub(super) details_dropped: AtomicU64,
    /// For [`Shard::is_synced`].
    pub(super) waiters: Waiters,
    pub(super) number: u32,
    pub(super) directory: PathBuf,
    /// `None` when no worker writes here any more.
    table: Option<Mutex<Arc<Table>>>,
    /// What the writer should move its requests to: see [`super::mend`].
    pub(super) offer: Mutex<Option<Arc<Table>>>,
    /// Whether the table's place in the directory is durable.
    is_settled: AtomicBool,
    segments: Mutex<BTreeMap<u32, Arc<Segment>>>,
}

// === impl Segment ===

impl Segment {
    /// A new file, empty and durable.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        header: &Header,
        bytes: usize,
    ) -> std::io::Result<Segment> {
        let path = directory.join(Segment::name(header.number));
        let region = disk.create(&path, bytes, &header.encode())?;
        Ok(Segment::new(path, region, header, header.till))
    }

    /// The file of a segment that nobody needs any more, as the one that `header` is of; durable when it returns. A crash
    /// before leaves the old name, or the new one and no records.
    ///
    /// # Errors
    /// Those of the disk. The file is of no more use; it has the old name or the new one.
    pub(super) fn recycle(
        self,
        disk: &dyn Disk,
        directory: &Path,
        header: &Header,
    ) -> std::io::Result<Segment> {
        let path = directory.join(Segment::name(header.number));
        self.region.write(0, &header.encode());
        self.region.store(HEADER_BYTES, 0);
        self.region.sync(0, HEADER_BYTES + WORD)?;
        disk.rename(&self.path, &path)?;
        disk.settle(&path)?;
        Ok(Segment::new(path, self.region, header, header.till))
    }

    /// An existing file. Its place in the directory says which it is; a damaged header costs it only its till.
    pub(super) fn of_region(path: PathBuf, region: Region, place: &Header) -> Result<Segment, BadHeader> {
        let mut bytes = [0; HEADER_BYTES];
        if region.bytes() < HEADER_BYTES + WORD || u32::try_from(region.bytes()).is_err() {
            return Err(BadHeader::Unreadable);
        }
        region.read(0, &mut bytes);
        let till = match Header::decode(&bytes) {
            Ok(header) => header.till,
            Err(BadHeader::Unreadable) => Uuid::nil(),
            Err(newer @ BadHeader::TooNew(_)) => return Err(newer),
        };
        Ok(Segment::new(path, region, place, till))
    }

    fn new(path: PathBuf, region: Region, place: &Header, till: Uuid) -> Segment {
        let seed = Seed::segment(place.journal, place.shard, place.number);
        Segment { sequence: place.number, till, path, seed, region, end: AtomicU32::new(OPEN) }
    }

    pub(super) fn name(sequence: u32) -> String {
        format!("{sequence:010}.seg")
    }

    pub(super) fn sequence_of(name: &str) -> Option<u32> {
        name.strip_suffix(".seg")?.parse().ok()
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked when the file was made or opened")]
    pub(super) fn bytes(&self) -> u32 {
        self.region.bytes() as u32
    }

    /// Where records must end, so that the seal still has a place.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.bytes() - WORD_BYTES
    }

    /// Where the records end, once the segment is closed.
    pub(super) fn end(&self) -> Option<u32> {
        Some(self.end.load(Ordering::Acquire)).filter(|&end| end != OPEN)
    }

    /// Puts a record in its place without publishing it, and nothing behind it; answers the word that publishes it.
    #[inline]
    pub(super) fn place(&self, offset: u32, record: &mut [u8]) -> u64 {
        self.region.write(offset as usize + WORD, &record[WORD..]);
        self.region.store(offset as usize + record.len(), 0);
        self.seed.header(offset, record)
    }

    #[inline]
    pub(super) fn publish(&self, offset: u32, header: u64) {
        self.region.store(offset as usize, header);
    }

    /// Ends the segment at `offset`. One store, so a crash leaves it open or sealed.
    pub(super) fn seal(&self, offset: u32) {
        debug_assert!(offset <= self.room());
        self.region.store(offset as usize, self.seed.seal(offset));
        self.close(offset);
    }

    /// Remembers where the seal is.
    pub(super) fn close(&self, offset: u32) {
        self.end.store(offset, Ordering::Release);
    }

    pub(super) fn word(&self, offset: u32) -> u64 {
        self.region.load(offset as usize)
    }

    /// The record's payload if it verifies in its place.
    pub(super) fn payload<'b>(
        &self,
        offset: u32,
        header: u64,
        bytes: usize,
        into: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        into.resize(bytes, 0);
        self.region.read(offset as usize, into);
        self.seed.verifies(offset, header, into).then(|| &into[WORD..])
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the length of the file")]
    pub(super) fn first_nonzero(&self, from: u32, to: u32) -> Option<u32> {
        self.region.first_nonzero(from as usize, to as usize).map(|offset| offset as u32)
    }

    /// Brings `[from, to)` to disk, and the word behind it, which says that nothing follows.
    pub(super) fn sync(&self, from: u32, to: u32) -> std::io::Result<()> {
        self.region.sync(from as usize, to.saturating_add(WORD_BYTES).min(self.bytes()) as usize)
    }

    /// Whether a sync of it failed.
    #[inline]
    pub(super) fn is_suspect(&self) -> bool {
        self.region.is_suspect()
    }

    /// The same records at the same offsets in a new file, which takes the place of this one. `end` is where the seal
    /// is. All of it is durable, or the old one is still there.
    pub(super) fn copy(&self, disk: &dyn Disk, end: u32) -> std::io::Result<Segment> {
        let mut contents = vec![0; end as usize + WORD];
        self.region.read(0, &mut contents);
        let region = disk.create(&self.path, contents.len(), &contents)?;
        let Segment { sequence, till, seed, .. } = *self;
        Ok(Segment { sequence, till, path: self.path.clone(), seed, region, end: AtomicU32::new(end) })
    }

    pub(super) fn populate(&self, from: u32, bytes: u32) {
        self.region.populate(from as usize, from.saturating_add(bytes) as usize);
    }
}

// === impl Shard ===

impl Shard {
    pub(super) fn new(
        number: u32,
        directory: PathBuf,
        table: Option<Arc<Table>>,
        segments: BTreeMap<u32, Arc<Segment>>,
        tail: Position,
    ) -> Shard {
        Shard {
            tail: AtomicU64::new(tail.to_bits()),
            synced: AtomicU64::new(tail.to_bits()),
            table_synced: AtomicU64::new(tail.to_bits()),
            lingering: AtomicU64::new(0),
            ready: AtomicU64::new(tail.to_bits()),
            is_full: AtomicBool::new(false),
            counted: Mutex::default(),
            details_dropped: AtomicU64::new(0),
            waiters: Waiters::default(),
            number,
            directory,
            table: table.map(Mutex::new),
            offer: Mutex::default(),
            is_settled: AtomicBool::new(true),
            segments: Mutex::new(segments),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.table.is_some()
    }

    /// Everything below is published and, for its writer's requests, cleared from the table.
    pub(super) fn tail(&self) -> Position {
        Position::from_bits(self.tail.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn set_tail(&self, tail: Position) {
        self.tail.store(tail.to_bits(), Ordering::Release);
    }

    /// Makes sure that the next pages cost the writer no page fault. To be called by one thread at a time.
    ///
    /// Each page is asked for once, well before it is needed, and the one that the writer is in again: a sync has made
    /// it clean, and the first store to a clean page is a fault.
    pub(super) fn populate_ahead(&self) {
        let tail = self.tail();
        let Some(segment) = self.segment(tail.sequence) else { return };
        segment.populate(tail.offset, WORD_BYTES);
        let ready = self.ready().max(tail);
        let left = segment.bytes() - tail.offset;
        if ready.sequence > tail.sequence || ready.offset - tail.offset >= AHEAD_BYTES.min(left) {
            let is_near = left < AHEAD_BYTES && ready.sequence == tail.sequence;
            if let Some(next) = self.segment(tail.sequence + 1).filter(|_| is_near) {
                next.populate(0, 2 * AHEAD_BYTES);
                self.set_ready(Position { sequence: next.sequence, offset: 2 * AHEAD_BYTES });
            }
            return;
        }
        segment.populate(ready.offset, 2 * AHEAD_BYTES);
        self.set_ready(Position { offset: ready.offset.saturating_add(2 * AHEAD_BYTES), ..ready });
    }

    fn ready(&self) -> Position {
        Position::from_bits(self.ready.load(Ordering::Relaxed))
    }

    fn set_ready(&self, ready: Position) {
        self.ready.store(ready.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// A request ended without a record of its own.
    pub(super) fn count(&self, charges: &[RecordedCharge]) {
        self.details_dropped.fetch_add(1, Ordering::Relaxed);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for charge in charges {
            *counted.entry(charge.account).or_default() += charge.units.get();
        }
    }

    /// All that was counted is in records now.
    pub(super) fn end_counting(&self) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where the records end that a power loss can't take.
    pub(super) fn synced(&self) -> Position {
        Position::from_bits(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn is_synced(&self, position: Position) -> bool {
        self.synced() >= position
    }

    /// Syncs the records that were published before the call, and tells who waits for them.
    pub(super) fn sync_records(&self) -> Result<(), JournalError> {
        let (synced, tail) = (self.synced(), self.tail());
        if synced < tail {
            self.sync_between(synced, tail)?;
            self.synced.fetch_max(tail.to_bits(), Ordering::AcqRel);
        }
        self.waiters.wake(tail);
        Ok(())
    }

    /// Syncs the table, unless no record was published since it was.
    pub(super) fn sync_table(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        let tail = self.tail().to_bits();
        match self.table().filter(|_| self.table_synced.load(Ordering::Acquire) < tail) {
            Some(table) => self.sync_all_of(&table, disk, tail),
            None => Ok(()),
        }
    }

    /// Syncs the table if a request lingers in it that was admitted before `then` and did not at the last call. Answers
    /// whether it did.
    pub(super) fn sync_lingering(&self, disk: &dyn Disk, then: Timestamp) -> Result<bool, JournalError> {
        let Some(table) = self.table() else { return Ok(false) };
        let lingering = table.lingering(then);
        if lingering == 0 || lingering == self.lingering.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.sync_all_of(&table, disk, self.tail().to_bits())?;
        self.lingering.store(lingering, Ordering::Relaxed);
        Ok(true)
    }

    fn sync_all_of(&self, table: &Table, disk: &dyn Disk, tail: u64) -> Result<(), JournalError> {
        let path = Table::path(&self.directory);
        if !self.is_settled.load(Ordering::Acquire) {
            disk.settle(&path).map_err(io_error("settling", &path))?;
            self.is_settled.store(true, Ordering::Release);
        }
        table.sync().map_err(io_error("syncing", &path))?;
        self.table_synced.fetch_max(tail, Ordering::AcqRel);
        Ok(())
    }

    /// The table of its writer's requests, if it has a writer.
    pub(super) fn table(&self) -> Option<Arc<Table>> {
        let table = self.table.as_ref()?;
        Some(Arc::clone(&table.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The table has another file from now on.
    pub(super) fn set_table(&self, new: Arc<Table>) {
        self.is_settled.store(false, Ordering::Release);
        if let Some(table) = &self.table {
            *table.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// Whether its writer needs a next segment, at whatever price: its own is suspect.
    pub(super) fn must_leave(&self) -> bool {
        self.segment(self.tail().sequence).is_some_and(|segment| segment.is_suspect())
    }

    /// How many of its files are suspect.
    pub(super) fn suspects(&self) -> usize {
        let segments = self.segments().values().filter(|segment| segment.is_suspect()).count();
        segments + usize::from(self.table().is_some_and(|table| table.is_suspect()))
    }

    fn sync_between(&self, from: Position, to: Position) -> Result<(), JournalError> {
        for sequence in from.sequence..=to.sequence {
            let Some(segment) = self.segment(sequence) else { continue };
            let begin = if sequence == from.sequence { from.offset } else { 0 };
            let end = if sequence == to.sequence { to.offset } else { segment.bytes() };
            segment.sync(begin, end).map_err(io_error("syncing", &segment.path))?;
        }
        Ok(())
    }

    /// Never held while a file is touched.
    pub(super) fn segments(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segment(&self, sequence: u32) -> Option<Arc<Segment>> {
        self.segments().get(&sequence).cloned()
    }

    /// Takes the oldest segment below `sequence` out, if nobody reads it.
    pub(super) fn take_below(&self, sequence: u32) -> Option<Segment> {
        let mut segments = self.segments();
        let oldest = *segments.range(..sequence).next()?.0;
        let untaken = Arc::try_unwrap(segments.remove(&oldest)?);
        untaken.map_err(|shared| segments.insert(oldest, shared)).ok()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments().values().map(|segment| u64::from(segment.bytes())).sum()
    }

    /// The first published bytes at or after `position`, of one segment.
    pub(super) fn unread(&self, position: Position) -> Option<(Arc<Segment>, u32, u32)> {
        let tail = self.tail();
        let segments = self.segments();
        for (&sequence, segment) in segments.range(position.sequence..) {
            let from = if sequence == position.sequence { position.offset.max(FIRST) } else { FIRST };
            let closed = segment.end();
            let open = (self.is_live() && sequence == tail.sequence).then_some(tail.offset);
            let to = closed.or(open)?;
            if from < to {
                return Some((Arc::clone(segment), from, to));
            }
        }
        None
    }

    /// Bytes of records at or after `position`.
    pub(super) fn unread_bytes(&self, position: Position) -> u64 {
        let tail = self.tail();
        let segments = self.segments();
        let unread = |(&sequence, segment): (&u32, &Arc<Segment>)| {
            let from = if sequence == position.sequence { position.offset.max(FIRST) } else { FIRST };
            let open = if self.is_live() && sequence == tail.sequence { tail.offset } else { FIRST };
            u64::from(segment.end().unwrap_or(open).saturating_sub(from))
        };
        segments.range(position.sequence..).map(unread).sum()
    }
}
