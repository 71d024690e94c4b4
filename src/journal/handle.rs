//! The journal for everybody but the workers: opening, making segments ahead, syncing, handing out ranges.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use uuid::{NoContext, Uuid};

use super::commit::Bell;
use super::cursor::{Cursor, Cut, Position};
use super::disk::{Disk, FileDisk};
use super::header::{HEADER_BYTES, Header, Kind};
use super::in_flight::Table;
use super::mend;
use super::reader::{CutReader, Found, Read, Walk};
use super::record::{RECORD_BYTES_MAX, WORD, Word};
use super::recover::{Recovered, Recovery, Site};
use super::segment::{FIRST, Segment, Shard};
use super::writer::Writer;
use crate::clock::Timestamp;
use crate::domain::AccountKey;

/// Identifies a journal for good. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct JournalId(pub Uuid);

/// When what was written reaches the disk. A `kill -9` costs nothing in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncPolicy {
    /// A power loss may cost this much.
    Every(Duration),
    /// Before the answer's last byte: see [`Writer::synced`].
    Always,
    /// When the kernel pleases.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// Length of a segment.
    pub segment_bytes: u64,
    /// The journal itself has no timer: whoever calls [`Journal::sync`] goes by this.
    pub sync: SyncPolicy,
    /// How many requests a worker may have in flight at once.
    pub in_flight_max: usize,
    /// How long all segments together may become.
    pub capacity_bytes: u64,
    pub on_full: OnFull,
}

/// What becomes of requests when there is no space for their records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFull {
    /// They are refused.
    #[default]
    Block,
    /// They pass. Their units are kept, exactly; their details are dropped and counted.
    CountOnly,
}

/// How near the journal is to being full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pressure {
    Low,
    /// Half of the capacity waits for the database.
    Half,
    /// Four fifths do, or some worker's next segment could not be made.
    High,
    /// Some worker has no space left.
    Full,
}

/// The handle. One per data directory, shared by all but the workers, which have a [`Writer`] each.
///
/// Whoever opens it holds the directory's lock (the till's): two journals on one directory would corrupt it.
pub struct Journal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    id: JournalId,
    till: Uuid,
    boot: Uuid,
    settings: JournalSettings,
    pub(super) shards: Vec<Arc<Shard>>,
    progress: Mutex<Progress>,
    /// Held while a segment is made, so that two callers don't make the same one.
    preparing: Mutex<()>,
    /// Files that were written anew because a sync failed.
    rewritten: AtomicU64,
    bell: Arc<Bell>,
    recovery: Recovery,
}

/// How much of the journal is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Depth {
    /// Bytes of records that no committed batch holds.
    pub pending_bytes: u64,
    /// Bytes of all segments' files.
    pub file_bytes: u64,
    /// What [`Depth::file_bytes`] may become.
    pub capacity_bytes: u64,
    /// Shards that lack their next segment.
    pub shards_short: usize,
    /// Shards whose writer wanted space and found none.
    pub shards_full: usize,
    /// Requests that were counted without details since the journal was opened.
    pub details_dropped: u64,
    /// Files whose sync failed and whose contents are in no other file yet: a power loss may take them, and nothing
    /// is flushed.
    pub suspect_files: usize,
    /// Files that were written anew because of that, since the journal was opened.
    pub rewritten_files: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal settings: {0}")]
    Settings(String),
    #[error("{action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no file of a journal; move it away", .0.display())]
    Foreign(PathBuf),
    #[error("{} is of version {version}, made by a newer tollgate", .path.display())]
    TooNew { path: PathBuf, version: u32 },
    #[error("{} holds several journals; keep the one that belongs to this data directory", .0.display())]
    Several(PathBuf),
    #[error("{} is damaged: which records reached the database is not known", .0.display())]
    Cursor(PathBuf),
    #[error("the segment {0:?} is gone, which has records that did not reach the database")]
    Gone(Cut),
}

struct Progress {
    cursor: Cursor,
    /// The shard that is looked at first, so that none starves.
    turn: usize,
}

/// Entries of the table that are made ready at the start: as many requests at once are common.
const ENTRIES_AHEAD: u32 = 512;

/// What the writers had on their hands at one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// How far each of them had published.
    tails: BTreeMap<u32, Position>,
    /// Units of requests that had been charged and had no record yet, those included that were only counted.
    pub in_flight: Sums,
}

/// Accounts and what pending records have charged to them.
pub type Sums = HashMap<AccountKey, u64>;

// === impl Default for JournalSettings ===

impl Default for JournalSettings {
    fn default() -> Self {
        JournalSettings {
            segment_bytes: 64 << 20,
            sync: SyncPolicy::Every(Duration::from_millis(50)),
            in_flight_max: 16_384,
            capacity_bytes: 8 << 30,
            on_full: OnFull::Block,
        }
    }
}

// === impl JournalSettings ===

impl JournalSettings {
    fn check(&self, shards: usize) -> Result<(), JournalError> {
        // A segment takes what one worker may have in flight, and as much again before it is full.
        let least = (HEADER_BYTES + WORD + 2 * (self.in_flight_max + 1) * RECORD_BYTES_MAX) as u64;
        let fault = if self.in_flight_max == 0 || u32::try_from(self.in_flight_max).is_err() {
            "in_flight_max is 0 or above 2^32".to_owned()
        } else if self.segment_bytes < least {
            format!("a segment needs {least} bytes for {} requests in flight", self.in_flight_max)
        } else if self.segment_bytes > u64::from(u32::MAX) || !self.segment_bytes.is_multiple_of(8) {
            "segment_bytes is above 2^32 - 1 or not divisible by 8".to_owned()
        } else if self.capacity_bytes < 2 * self.segment_bytes * shards as u64 {
            format!("the capacity is less than two segments for each of {shards} shards")
        } else {
            return Ok(());
        };
        Err(JournalError::Settings(fault))
    }
}

// === impl Journal ===

impl Journal {
    /// Opens the journal in `<data directory>/journal`, or begins one, and recovers what a crash left behind.
    ///
    /// `till` is the till that requests are charged to from now on; records keep the till of their time. `now`
    /// is only for the id of a new journal. There is one [`Writer`] per shard. Shards of an earlier start that
    /// are no longer written to are still read.
    ///
    /// # Errors
    /// [`JournalError`], and then nothing was lost: the next call does it again.
    pub fn open(
        directory: &Path,
        settings: &JournalSettings,
        shards: usize,
        till: Uuid,
        now: Timestamp,
    ) -> Result<(Journal, Vec<Writer>), JournalError> {
        Journal::open_on(Arc::new(FileDisk), directory, settings, shards, till, now)
    }

    /// [`Journal::open`] on any disk.
    ///
    /// # Errors
    /// See [`Journal::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        settings: &JournalSettings,
        shards: usize,
        till: Uuid,
        now: Timestamp,
    ) -> Result<(Journal, Vec<Writer>), JournalError> {
        settings.check(shards)?;
        let root = directory.join("journal");
        let id = find(&*disk, &root)?.unwrap_or_else(|| JournalId::new(now));
        let directory = root.join(id.0.to_string());
        let boot = disk.boot().map_err(io_error("reading the boot's id for", &directory))?;
        let cursor = load_cursor(&*disk, &directory)?;
        let mut journal = Journal {
            disk,
            directory,
            id,
            till,
            boot,
            settings: *settings,
            shards: Vec::new(),
            progress: Mutex::new(Progress { cursor: Cursor::default(), turn: 0 }),
            preparing: Mutex::new(()),
            rewritten: AtomicU64::new(0),
            bell: Arc::default(),
            recovery: Recovery::default(),
        };
        let writers = journal.open_shards(&cursor, count(shards))?;
        journal.progress().cursor = cursor;
        journal.prepare()?;
        Ok((journal, writers))
    }

    fn open_shards(&mut self, cursor: &Cursor, live: u32) -> Result<Vec<Writer>, JournalError> {
        let mut writers = Vec::new();
        for number in self.shard_numbers(live)? {
            let recovered = self.site(number, cursor).recover()?;
            self.recovery.add(&recovered.report);
            if number < live {
                writers.push(self.open_live(number, recovered)?);
            } else {
                let directory = self.directory.join(number.to_string());
                let tail = Position::default();
                let shard = Shard::new(number, directory, None, recovered.segments, tail);
                self.shards.push(Arc::new(shard));
            }
        }
        Ok(writers)
    }

    fn shard_numbers(&self, live: u32) -> Result<Vec<u32>, JournalError> {
        let old = numbers(&*self.disk, &self.directory)?.into_iter().filter(|&number| number >= live);
        let mut numbers: Vec<u32> = (0..live).chain(old).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn site<'a>(&'a self, shard: u32, cursor: &'a Cursor) -> Site<'a> {
        let directory = self.directory.join(shard.to_string());
        Site { disk: &*self.disk, journal: self.id, boot: self.boot, directory, shard, cursor }
    }

    fn open_live(&mut self, number: u32, recovered: Recovered) -> Result<Writer, JournalError> {
        let directory = self.directory.join(number.to_string());
        let sequence = recovered.next;
        // One more than requests: a sum is written to it, see `counted`.
        let entries = count(self.settings.in_flight_max + 1);
        let header = Header { kind: Kind::InFlight, number: entries, ..self.header(number, sequence) };
        let table = Table::create(&*self.disk, &directory, &header)
            .map_err(io_error("making the table of requests in flight in", &directory))?;
        table.populate(ENTRIES_AHEAD);
        let table = Arc::new(table);
        let active = Arc::new(self.make_segment(number, sequence, &directory)?);
        let mut segments = recovered.segments;
        segments.insert(sequence, Arc::clone(&active));
        let tail = Position { sequence, offset: FIRST };
        let shard = Arc::new(Shard::new(number, directory, Some(Arc::clone(&table)), segments, tail));
        self.shards.push(Arc::clone(&shard));
        let files = (table, Arc::clone(&self.disk));
        Ok(Writer::new(shard, files, active, self.settings, Arc::clone(&self.bell)))
    }

    fn header(&self, shard: u32, sequence: u32) -> Header {
        let Journal { id: journal, till, boot, .. } = *self;
        Header { kind: Kind::Segment, shard, number: sequence, journal, till, boot }
    }

    fn make_segment(&self, shard: u32, sequence: u32, directory: &Path) -> Result<Segment, JournalError> {
        let bytes = usize::try_from(self.settings.segment_bytes).unwrap_or(usize::MAX);
        let made = Segment::create(&*self.disk, directory, &self.header(shard, sequence), bytes);
        made.map_err(io_error("making a segment in", directory))
    }

    pub fn id(&self) -> JournalId {
        self.id
    }

    /// The till that records are written for since this journal was opened.
    pub fn till(&self) -> Uuid {
        self.till
    }

    pub fn settings(&self) -> &JournalSettings {
        &self.settings
    }

    /// How many shards there are, those included that nobody writes to any more.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What opening found and mended.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Makes each writer's next segment and gets its next pages ready, so that no worker waits for the disk; writes
    /// files anew whose sync failed.
    /// To be called some 20 times a second, by one background task; blocks on the disk now and then.
    ///
    /// At capacity it makes none, which [`Journal::depth`] tells.
    ///
    /// # Errors
    /// [`JournalError::Io`], for example when the disk is full: writers go on with what they have, and the next
    /// call tries again.
    pub fn prepare(&self) -> Result<(), JournalError> {
        let _one_at_a_time = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        // Next segments first, for a writer needs one to leave a suspect one; and each shard whatever befell the others.
        let made = all(self.live().map(|shard| self.prepare_next(shard)));
        let mended = all(self.shards.iter().map(|shard| self.mend(shard)));
        self.live().for_each(|shard| shard.populate_ahead());
        made.and(mended)
    }

    fn mend(&self, shard: &Shard) -> Result<(), JournalError> {
        let rewritten = mend::mend(&*self.disk, shard)?;
        self.rewritten.fetch_add(rewritten, Ordering::Relaxed);
        Ok(())
    }

    fn prepare_next(&self, shard: &Shard) -> Result<(), JournalError> {
        let next = shard.tail().sequence + 1;
        if shard.segment(next).is_some() {
            return Ok(());
        }
        let segment = match shard.take_below(self.position(shard).sequence) {
            Some(done) => self.recycle(shard, next, done)?,
            None if self.finds_space() || shard.must_leave() => {
                self.make_segment(shard.number, next, &shard.directory)?
            }
            None => return Ok(()),
        };
        shard.segments().insert(next, Arc::new(segment));
        shard.set_full(false);
        Ok(())
    }

    fn recycle(&self, shard: &Shard, sequence: u32, done: Segment) -> Result<Segment, JournalError> {
        let old = done.path.clone();
        let recycled = done.recycle(&*self.disk, &shard.directory, &self.header(shard.number, sequence));
        // What went wrong with this file does not matter: the next call makes a new one.
        recycled.inspect_err(|_| drop(self.disk.remove(&old))).map_err(io_error("writing again", &old))
    }

    /// Whether another segment is within the capacity, if need be without those that wait to be written again.
    fn finds_space(&self) -> bool {
        let has_space = || self.file_bytes() + self.settings.segment_bytes <= self.settings.capacity_bytes;
        has_space() || {
            self.live().for_each(|shard| self.remove_done(shard, None));
            has_space()
        }
    }

    fn position(&self, shard: &Shard) -> Position {
        self.progress().cursor.position(shard.number)
    }

    fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes()).sum()
    }

    /// Brings to disk what was published before the call. To be called on a thread that may block.
    ///
    /// # Errors
    /// [`JournalError::Io`]. What the kernel failed to write it may have dropped: that file is suspect and not synced
    /// again, and this is an error until [`Journal::prepare`] has written it anew. Meanwhile the node should report
    /// that it is not ready ([`Depth::suspect_files`]).
    pub fn sync(&self) -> Result<(), JournalError> {
        let committed = self.commit();
        committed.and(all(self.live().map(|shard| shard.sync_table(&*self.disk))))
    }

    /// Brings to disk that requests are in flight which were admitted before `then`, unless an earlier call has. Answers
    /// whether there was anything to do.
    ///
    /// Together with [`Journal::commit`] this is what [`SyncPolicy::Every`] promises. Most requests end sooner than
    /// anybody syncs; then their record says it all, and the table is synced when a cut is begun.
    ///
    /// # Errors
    /// See [`Journal::sync`].
    pub fn sync_lingering(&self, then: Timestamp) -> Result<bool, JournalError> {
        // Each shard whatever befell the others.
        let synced: Vec<_> = self.live().map(|shard| shard.sync_lingering(&*self.disk, then)).collect();
        synced.into_iter().try_fold(false, |any, synced| Ok(any | synced?))
    }

    /// Half of [`Journal::sync`]: the records alone. They are what an answer waits for under [`SyncPolicy::Always`];
    /// that a request is no longer in flight is on the disk before a batch holds its record, which is early enough.
    ///
    /// # Errors
    /// See [`Journal::sync`].
    pub fn commit(&self) -> Result<(), JournalError> {
        all(self.live().map(|shard| shard.sync_records()))
    }

    /// Returns when a [`Writer`]'s task waits for a sync, at the latest after `patience`.
    pub fn wait_for_commit(&self, patience: Duration) {
        self.bell.wait(patience);
    }

    fn live(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().filter(|shard| shard.is_live())
    }

    /// Whether all that `shard`'s writer published up to `position` would survive a power loss.
    pub fn is_synced(&self, shard: u32, position: Position) -> bool {
        self.shard(shard).is_some_and(|shard| shard.is_synced(position))
    }

    pub fn depth(&self) -> Depth {
        let progress = self.progress();
        let pending = |shard: &Arc<Shard>| shard.unread_bytes(progress.cursor.position(shard.number));
        let short =
            |shard: &&Arc<Shard>| shard.is_live() && shard.segment(shard.tail().sequence + 1).is_none();
        Depth {
            pending_bytes: self.shards.iter().map(pending).sum(),
            file_bytes: self.file_bytes(),
            capacity_bytes: self.settings.capacity_bytes,
            shards_short: self.shards.iter().filter(short).count(),
            shards_full: self.live().filter(|shard| shard.is_full()).count(),
            details_dropped: self.live().map(|shard| shard.details_dropped.load(Ordering::Relaxed)).sum(),
            suspect_files: self.shards.iter().map(|shard| shard.suspects()).sum(),
            rewritten_files: self.rewritten.load(Ordering::Relaxed),
        }
    }

    /// Units per account of all published records that no finished cut holds and that tell of the present till.
    /// Reads every one of them.
    pub fn sums_beyond_cursor(&self) -> Sums {
        self.sums_until(&Moment::default())
    }

    /// What writers have on their hands now. Quick: what was published before it is added up by
    /// [`Journal::sums_until`].
    pub fn moment(&self) -> Moment {
        let tails = self.live().map(|shard| (shard.number, shard.tail())).collect();
        let mut in_flight = Sums::new();
        self.live().filter_map(|shard| shard.table()).for_each(|table| table.add_units(&mut in_flight));
        Moment { tails, in_flight }
    }

    /// [`Journal::sums_beyond_cursor`] of what was published before that moment.
    pub fn sums_until(&self, moment: &Moment) -> Sums {
        let mut sums = Sums::new();
        for shard in &self.shards {
            let mut position = self.progress().cursor.position(shard.number);
            while let Some((segment, from, to)) = shard.unread(position) {
                position = Position { sequence: segment.sequence, offset: to };
                let to = moment.end(shard.number, position);
                if segment.till == self.till && from < to {
                    let cut = Cut { shard: shard.number, sequence: segment.sequence, from, to };
                    add_units(CutReader::new(segment, &cut), &mut sums);
                }
            }
        }
        sums
    }

    /// Units per account of requests that have ended and were only counted: they are in no record yet.
    pub fn counted(&self) -> Sums {
        let mut sums = Sums::new();
        for shard in self.live() {
            for (account, units) in &*shard.counted.lock().unwrap_or_else(PoisonError::into_inner) {
                *sums.entry(*account).or_default() += units;
            }
        }
        sums
    }

    // --- for the flush, which is the only caller of these ---

    /// The cut that was begun and not finished, of this start or an earlier one. It has to be sent again first.
    pub fn unfinished_cut(&self) -> Option<Cut> {
        self.progress().cursor.cut
    }

    /// The next range of records to send: whole records of one segment, about `bytes_max` at most, and at least
    /// one if there is any.
    pub fn next_cut(&self, bytes_max: u32) -> Option<Cut> {
        let mut progress = self.progress();
        for step in 0..self.shards.len() {
            let turn = (progress.turn + step) % self.shards.len();
            let shard = &self.shards[turn];
            let position = progress.cursor.position(shard.number);
            if let Some((segment, from, to)) = shard.unread(position) {
                progress.turn = turn + 1;
                let to = boundary(&segment, from, to, bytes_max);
                return Some(Cut { shard: shard.number, sequence: segment.sequence, from, to });
            }
        }
        None
    }

    /// Makes the cut a fact: once this returns, the range will only ever be sent as it is. Syncs the journal
    /// first, so that a power loss can't bring back what the database has.
    ///
    /// # Errors
    /// [`JournalError::Io`]: nothing may be sent.
    pub fn begin_cut(&self, cut: Cut) -> Result<(), JournalError> {
        self.sync()?;
        self.advance(|cursor| cursor.cut = Some(cut))
    }

    /// The records of a cut.
    ///
    /// # Errors
    /// [`JournalError::Gone`] if the segment is not there: someone removed it.
    pub fn read(&self, cut: &Cut) -> Result<CutReader, JournalError> {
        let segment = self.shard(cut.shard).and_then(|shard| shard.segment(cut.sequence));
        segment.map(|segment| CutReader::new(segment, cut)).ok_or(JournalError::Gone(*cut))
    }

    /// Moves the cursor past a cut that the database has committed, and removes the segments that are done with, but for
    /// one that is to be written again.
    ///
    /// `journalled` are the accounts of the cut with all units of theirs that the database now has: what the till
    /// is to be told after this, and at the next start again.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the cursor did not move. To be called again.
    pub fn finish_cut(&self, cut: Cut, journalled: Vec<(AccountKey, u64)>) -> Result<(), JournalError> {
        let position = self.position_after(&cut);
        self.advance(|cursor| {
            cursor.positions.insert(cut.shard, position);
            cursor.cut = None;
            cursor.till = self.till;
            cursor.journalled = journalled;
        })?;
        if let Some(shard) = self.shard(cut.shard) {
            self.remove_done(shard, self.to_recycle(shard));
        }
        Ok(())
    }

    /// What the till was to be told of the last finished cut. Empty if that was another till.
    pub fn journalled(&self) -> Vec<(AccountKey, u64)> {
        let progress = self.progress();
        let is_ours = progress.cursor.till == self.till;
        if is_ours { progress.cursor.journalled.clone() } else { Vec::new() }
    }

    fn position_after(&self, cut: &Cut) -> Position {
        let segment = self.shard(cut.shard).and_then(|shard| shard.segment(cut.sequence));
        let is_done = segment.is_none_or(|segment| segment.end().is_some_and(|end| end <= cut.to));
        if is_done {
            Position { sequence: cut.sequence + 1, offset: FIRST }
        } else {
            Position { sequence: cut.sequence, offset: cut.to }
        }
    }

    /// Changes the cursor on disk, then in memory.
    fn advance(&self, change: impl FnOnce(&mut Cursor)) -> Result<(), JournalError> {
        let mut cursor = self.progress().cursor.clone();
        change(&mut cursor);
        cursor
            .store(&*self.disk, &self.directory)
            .map_err(io_error("writing the cursor in", &self.directory))?;
        self.progress().cursor = cursor;
        Ok(())
    }

    /// Removes the segments that the cursor has passed, but for one `to_recycle`. A file that can't be removed is tried
    /// again after the next cut, and at the next start.
    fn remove_done(&self, shard: &Shard, to_recycle: Option<u32>) {
        let below = self.position(shard).sequence;
        let done: Vec<_> = shard.segments().range(..below).map(|(_, segment)| Arc::clone(segment)).collect();
        for segment in done.into_iter().filter(|segment| Some(segment.sequence) != to_recycle) {
            if self.disk.remove(&segment.path).is_ok() {
                shard.segments().remove(&segment.sequence);
            }
        }
    }

    /// The segment that the cursor has passed and that `shard` should write again. None while half of the capacity is
    /// used: space is dearer then.
    fn to_recycle(&self, shard: &Shard) -> Option<u32> {
        let below = self.position(shard).sequence;
        let is_roomy = shard.is_live() && 2 * self.file_bytes() <= self.settings.capacity_bytes;
        let is_fit = |segment: &Segment| {
            u64::from(segment.bytes()) == self.settings.segment_bytes && !segment.is_suspect()
        };
        let segments = shard.segments();
        let mut newest = segments.range(..below).rev().filter(|(_, segment)| is_roomy && is_fit(segment));
        newest.next().map(|(&sequence, _)| sequence)
    }

    fn shard(&self, number: u32) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| shard.number == number)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("id", &self.id).field("depth", &self.depth()).finish_non_exhaustive()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io { action, path: path.to_owned(), source }
}

/// Does all of them, and answers the first error.
fn all(mut done: impl Iterator<Item = Result<(), JournalError>>) -> Result<(), JournalError> {
    let first = done.by_ref().find(Result::is_err).unwrap_or(Ok(()));
    done.for_each(drop);
    first
}

/// The journal that is there.
pub(super) fn find(disk: &dyn Disk, root: &Path) -> Result<Option<JournalId>, JournalError> {
    let names = disk.list(root).map_err(io_error("listing", root))?;
    let mut ids = names.iter().filter_map(|name| Uuid::try_parse(name).ok());
    match (ids.next(), ids.next()) {
        (Some(_), Some(_)) => Err(JournalError::Several(root.to_owned())),
        (id, _) => Ok(id.map(JournalId)),
    }
}

/// The numbers of the shards that are there, in no order.
pub(super) fn numbers(disk: &dyn Disk, directory: &Path) -> Result<Vec<u32>, JournalError> {
    let names = disk.list(directory).map_err(io_error("listing", directory))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

pub(super) fn load_cursor(disk: &dyn Disk, directory: &Path) -> Result<Cursor, JournalError> {
    Cursor::load(disk, directory).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => JournalError::Cursor(directory.join("cursor")),
        _ => io_error("reading the cursor in", directory)(source),
    })
}

/// The end of the last record that ends within `bytes_max` of `from`; the end of the first one at least.
fn boundary(segment: &Segment, from: u32, to: u32, bytes_max: u32) -> u32 {
    if to - from <= bytes_max {
        return to;
    }
    hopped(segment, from, to, bytes_max).unwrap_or_else(|| walked(segment, from, to, bytes_max))
}

/// The boundary by what the records say of their lengths, and what is there verifies as a record; most of them need not
/// be read for that. `None` if something is damaged.
fn hopped(segment: &Segment, from: u32, to: u32, bytes_max: u32) -> Option<u32> {
    let mut end = from;
    loop {
        let Word::Record(bytes) = Word::of(segment.word(end)) else { return None };
        let next = end.checked_add(u32::try_from(bytes).ok()?).filter(|next| *next <= to)?;
        if end > from && next - from > bytes_max {
            break;
        }
        end = next;
    }
    let is_record = matches!(Walk::new(end, to).next(segment), Found::Record { offset, .. } if offset == end);
    is_record.then_some(end)
}

/// The boundary by reading all that is before it.
fn walked(segment: &Segment, from: u32, to: u32, bytes_max: u32) -> u32 {
    let mut walk = Walk::new(from, to);
    let mut end = from;
    loop {
        let next = match walk.next(segment) {
            Found::Record { end, .. } => end,
            Found::Damaged { to, .. } => to,
            Found::End { .. } => return to,
        };
        if end > from && next - from > bytes_max {
            return end;
        }
        end = next;
    }
}

fn add_units(mut reader: CutReader, sums: &mut Sums) {
    while let Some(read) = reader.next() {
        let Read::Record(record) = read else { continue };
        for charge in record.charges {
            *sums.entry(charge.account).or_default() += charge.units.get();
        }
    }
}

// === impl Moment ===

impl Moment {
    /// Where a shard's records end that were published by then, of a segment that ends at `end`.
    fn end(&self, shard: u32, end: Position) -> u32 {
        match self.tails.get(&shard) {
            Some(tail) if tail.sequence == end.sequence => end.offset.min(tail.offset),
            Some(tail) if tail.sequence < end.sequence => 0,
            _ => end.offset,
        }
    }
}

// === impl JournalId ===

impl JournalId {
    fn new(now: Timestamp) -> JournalId {
        let seconds = u64::try_from(now.seconds()).unwrap_or_default();
        JournalId(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, 0)))
    }
}

// === impl Depth ===

impl Depth {
    /// Of the capacity, so much waits for the database.
    pub fn pending_percent(&self) -> u64 {
        self.pending_bytes.saturating_mul(100) / self.capacity_bytes.max(1)
    }

    pub fn pressure(&self) -> Pressure {
        match self.pending_percent() {
            _ if self.shards_full > 0 => Pressure::Full,
            80.. => Pressure::High,
            _ if self.shards_short > 0 => Pressure::High,
            50.. => Pressure::Half,
            _ => Pressure::Low,
        }
    }
}

// === impl Recovery ===

impl Recovery {
    fn add(&mut self, other: &Recovery) {
        self.crashed += other.crashed;
        self.unsent += other.unsent;
        self.damaged_bytes += other.damaged_bytes;
        self.segments_missing += other.segments_missing;
        self.headers_damaged += other.headers_damaged;
    }
}
