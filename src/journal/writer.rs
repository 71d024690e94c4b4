//! Appending: one writer per thread, and nothing in its way.

use std::cell::RefCell;
use std::sync::Arc;

use super::commit::{self, Bell};
use super::counted::{Counted, Sum};
use super::cursor::Position;
use super::disk::Disk;
use super::handle::{JournalSettings, OnFull, SyncPolicy};
use super::in_flight::{State, Table};
use super::mend;
use super::record::{self, Buffer, RECORD_BYTES_MAX};
use super::segment::{FIRST, Segment, Shard};
use crate::domain::{Units, UsageRecord};

/// What one thread writes its records with. `Send`, not `Sync`: many tasks of one thread may share it.
///
/// Dropping it leaves its requests in flight to the next [`Journal::open`](super::Journal::open), which takes
/// those that were sent for crashed.
pub struct Writer {
    shard: Arc<Shard>,
    /// Exchanged when a sync of its file failed: see [`super::mend`].
    table: RefCell<Arc<Table>>,
    /// How many requests may be in flight: all entries of the table but the spare one.
    places: u32,
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    bell: Arc<Bell>,
    state: RefCell<Active>,
}

/// A request that is in flight. Ends with [`Writer::finish`] or [`Writer::abandon`] of the writer that made it; one that is
/// dropped keeps its place until the next start, where it counts as crashed if it was sent.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a ticket must be finished or abandoned"]
pub struct Ticket {
    index: u32,
    /// Whether space for its record was set aside.
    has_space: bool,
}

/// Why a request can't be recorded now. Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JournalFull {
    /// The disk, or the capacity that was configured, is used up by records that the database has not.
    #[error("the journal has no space left")]
    Space,
    /// More requests at once than [`JournalSettings::in_flight_max`](super::JournalSettings::in_flight_max).
    #[error("too many requests in flight on one worker")]
    InFlight,
}

struct Active {
    segment: Arc<Segment>,
    /// Where the next record goes.
    offset: u32,
    /// In hand before it is needed, so that changing over can't fail.
    next: Option<Arc<Segment>>,
    /// Entries of the table that are free. Last in, first out: what is used is warm.
    free: Vec<u32>,
    /// The entry that the next sum is written to.
    spare: u32,
    counted: Counted,
    buffer: Box<Buffer>,
}

#[expect(clippy::cast_possible_truncation, reason = "below 1024")]
const RECORD_MAX: u32 = RECORD_BYTES_MAX as u32;

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        shard: Arc<Shard>,
        (table, disk): (Arc<Table>, Arc<dyn Disk>),
        segment: Arc<Segment>,
        settings: JournalSettings,
        bell: Arc<Bell>,
    ) -> Writer {
        let places = table.entries() - 1;
        let (spare, free) = (places, (0..places).rev().collect());
        let buffer = Box::new([0; RECORD_BYTES_MAX]);
        let active =
            Active { segment, offset: FIRST, next: None, free, spare, counted: Counted::default(), buffer };
        let (table, state) = (RefCell::new(table), RefCell::new(active));
        Writer { shard, table, places, disk, settings, bell, state }
    }

    /// Which shard it writes.
    pub fn shard(&self) -> u32 {
        self.shard.number
    }

    /// Notes a request whose units were just taken, and sets space aside for its record.
    ///
    /// `record` says what is known now; its charges are what a crash would count, once the request is
    /// [`sent`](Writer::sent). Until then a crash counts nothing.
    ///
    /// # Errors
    /// [`JournalFull`]: give the units back and refuse. Under [`OnFull::CountOnly`] a lack of space is no error: what
    /// the request uses is added to a sum, and only its details are dropped.
    ///
    /// # Panics
    /// With more than [`UsageRecord::CHARGES_MAX`] charges: a fault of the caller.
    #[inline]
    pub fn begin(&self, record: &UsageRecord<'_>) -> Result<Ticket, JournalFull> {
        let active = &mut *self.state.borrow_mut();
        let has_space = self.has_space(active, record)?;
        let index = active.free.pop().ok_or(JournalFull::InFlight)?;
        let bytes = record::encode(record, &mut active.buffer);
        self.table.borrow().admit(index, &mut active.buffer[..bytes], record.charges.len());
        Ok(Ticket { index, has_space })
    }

    /// The next byte goes to the upstream: from here on the request counts, whatever happens.
    #[inline]
    pub fn sent(&self, ticket: &Ticket) {
        self.table.borrow().set_state(ticket.index, State::Sent);
    }

    /// All units of the request are about to be given back to the till. To be called *before* they are.
    #[inline]
    pub fn refunding(&self, ticket: &Ticket) {
        self.table.borrow().set_state(ticket.index, State::Returning);
    }

    /// The charge at `index` is about to be lowered to `units`, the difference given back to the till. To be
    /// called *before* it is. (Raised charges need no telling: a crash gives back what no record claims.)
    ///
    /// # Panics
    /// In debug builds, if `index` is not below [`UsageRecord::CHARGES_MAX`].
    #[inline]
    pub fn lowering(&self, ticket: &Ticket, index: usize, units: Units) {
        self.table.borrow().lower(ticket.index, index, units);
    }

    /// Publishes the request's record. Always succeeds. Answers where the record ends:
    /// [`Journal::is_synced`](super::Journal::is_synced) tells when a power loss can't reach it any more.
    ///
    /// # Panics
    /// With more than [`UsageRecord::CHARGES_MAX`] charges: a fault of the caller.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a ticket ends here")]
    pub fn finish(&self, ticket: Ticket, record: &UsageRecord<'_>) -> Position {
        let active = &mut *self.state.borrow_mut();
        if !ticket.has_space && active.ensure_space(&self.shard, self.places).is_err() {
            return self.count(active, ticket.index, record);
        }
        self.append(active, ticket.index, record)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a record is shorter than 1024 bytes")]
    fn append(&self, active: &mut Active, index: u32, record: &UsageRecord<'_>) -> Position {
        let bytes = record::encode(record, &mut active.buffer);
        if active.segment.room() - active.offset < bytes as u32 {
            active.change_over(&self.shard);
        }
        let position = Position { sequence: active.segment.sequence, offset: active.offset };
        let header = active.segment.place(position.offset, &mut active.buffer[..bytes]);
        // Three stores in this order, and the tail last: a crash between any two finds either no record, or a
        // record that the entry knows of; and no reader passes a record whose entry could come back.
        self.table.borrow().note(index, position);
        active.segment.publish(position.offset, header);
        self.table.borrow().set_state(index, State::Free);
        active.free.push(index);
        active.offset += bytes as u32;
        let tail = Position { offset: active.offset, ..position };
        self.shard.set_tail(tail);
        tail
    }

    /// Done when the policy lets the answer end whose record ends at `position`: at once, or under
    /// [`SyncPolicy::Always`] when a sync has reached it. Many records share a sync, and the thread only awaits it.
    ///
    /// Dropping it at any point costs nothing. While the disk fails it does not end.
    pub fn synced(&self, position: Position) -> impl Future<Output = ()> + use<> {
        let must_wait = self.settings.sync == SyncPolicy::Always;
        let waiting =
            must_wait.then(|| commit::synced(Arc::clone(&self.shard), Arc::clone(&self.bell), position));
        async {
            if let Some(waiting) = waiting {
                waiting.await;
            }
        }
    }

    /// Whether answers wait for [`Writer::synced`].
    pub fn answers_wait(&self) -> bool {
        self.settings.sync == SyncPolicy::Always
    }

    /// Forgets a request that was not sent and whose units were given back.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a ticket ends here")]
    pub fn abandon(&self, ticket: Ticket) {
        self.table.borrow().set_state(ticket.index, State::Free);
        self.state.borrow_mut().free.push(ticket.index);
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        let active = self.state.borrow();
        self.places as usize - active.free.len() - active.counted.len()
    }

    /// What a worker without requests would leave undone: writes the records of what was only counted, once there is
    /// space again, and leaves files whose sync failed. To be called some 20 times a second.
    pub fn tick(&self) {
        let active = &mut *self.state.borrow_mut();
        if !active.counted.is_empty() && active.ensure_space(&self.shard, self.places).is_ok() {
            self.end_counting(active);
        }
        if active.segment.is_suspect() {
            active.leave(&self.shard);
        }
        mend::exchange_table(&*self.disk, &self.shard, &mut self.table.borrow_mut());
    }

    /// Sets space aside for the records of all in flight and of one more. False if there is none and the policy lets
    /// requests pass all the same.
    #[inline]
    fn has_space(&self, active: &mut Active, record: &UsageRecord<'_>) -> Result<bool, JournalFull> {
        match active.ensure_space(&self.shard, self.places) {
            Ok(()) => {
                if !active.counted.is_empty() {
                    self.end_counting(active);
                }
                Ok(true)
            }
            Err(full) => self.may_count(active, record, full),
        }
    }

    #[cold]
    fn may_count(
        &self,
        active: &Active,
        record: &UsageRecord<'_>,
        full: JournalFull,
    ) -> Result<bool, JournalFull> {
        // Sums keep entries; as many are left to requests at least.
        let has_room = active.counted.len() < self.places as usize / 2 || active.counted.has_sum_of(record);
        if self.settings.on_full == OnFull::CountOnly && has_room { Ok(false) } else { Err(full) }
    }

    /// Adds a request that has ended to its sum.
    #[cold]
    fn count(&self, active: &mut Active, index: u32, record: &UsageRecord<'_>) -> Position {
        let sum = active.counted.add(record);
        let bytes = record::encode(&sum.record(), &mut active.buffer);
        let (old, new) = (sum.entry.replace(active.spare), active.spare);
        self.table.borrow().replace(
            new,
            &mut active.buffer[..bytes],
            record.charges.len(),
            [old, Some(index)],
        );
        match old {
            None => active.spare = index,
            Some(old) => {
                active.spare = old;
                active.free.push(index);
            }
        }
        self.shard.count(record.charges);
        self.shard.tail()
    }

    /// Space was ensured for all entries, and sums have entries like requests.
    #[cold]
    fn end_counting(&self, active: &mut Active) {
        let sums: Vec<Sum> = active.counted.drain().collect();
        for sum in sums {
            if let Some(entry) = sum.entry {
                self.append(active, entry, &sum.record());
            }
        }
        self.shard.end_counting();
    }
}

// === impl Active ===

impl Active {
    /// Whether the records of all in flight, and of one more, have a place.
    #[inline]
    fn ensure_space(&mut self, shard: &Shard, entries: u32) -> Result<(), JournalFull> {
        let in_flight = u64::from(entries) - self.free.len() as u64;
        let left = u64::from(self.segment.room() - self.offset);
        if left >= (in_flight + 1) * u64::from(RECORD_MAX) || self.next.is_some() {
            return Ok(());
        }
        self.take_next(shard)
    }

    /// Once per segment, or when there is none: the only lock on a worker's way, held for a look-up.
    #[cold]
    fn take_next(&mut self, shard: &Shard) -> Result<(), JournalFull> {
        self.next = shard.segment(self.segment.sequence + 1);
        shard.set_full(self.next.is_none());
        if self.next.is_some() { Ok(()) } else { Err(JournalFull::Space) }
    }

    /// Goes on in the next segment, if there is one.
    #[cold]
    fn leave(&mut self, shard: &Shard) {
        self.next = self.next.take().or_else(|| shard.segment(self.segment.sequence + 1));
        if self.next.is_some() {
            self.change_over(shard);
            shard.set_tail(Position { sequence: self.segment.sequence, offset: FIRST });
        }
    }

    #[cold]
    fn change_over(&mut self, shard: &Shard) {
        if self.next.is_none() {
            let taken = self.take_next(shard);
            debug_assert!(taken.is_ok(), "space was set aside when the request began");
        }
        let next = self.next.take().expect("space for every request in flight was set aside when it began");
        self.segment.seal(self.offset);
        self.segment = next;
        self.offset = FIRST;
    }
}
