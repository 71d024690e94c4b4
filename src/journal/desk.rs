//! A [`Writer`] for those who are many threads and come seldom: the control plane, where an administrator or a service
//! reports what was used without a request that passed the gateway.
//!
//! # Why a lock is right here
//! Workers have a writer each, because a request may not wait for another. A report is a request of the control plane
//! with a transaction of its own, and holds the lock for the time of one record.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cursor::Position;
use super::writer::{JournalFull, Writer};
use crate::domain::UsageRecord;

/// Records what was reported. Its shard is one more than the workers have: open the journal with that many.
pub struct Desk(Mutex<Writer>);

impl Desk {
    pub fn new(writer: Writer) -> Desk {
        Desk(Mutex::new(writer))
    }

    /// Records units that were taken from the till: with this they count, whatever happens. Answers where the record
    /// ends, as [`Writer::finish`] does.
    ///
    /// # Errors
    /// [`JournalFull`]: nothing was recorded, the units go back.
    ///
    /// # Panics
    /// With more than [`UsageRecord::CHARGES_MAX`] charges: a fault of the caller.
    pub fn record(&self, record: &UsageRecord<'_>) -> Result<Position, JournalFull> {
        let writer = self.writer();
        let ticket = writer.begin(record)?;
        writer.sent(&ticket);
        Ok(writer.finish(ticket, record))
    }

    /// Done when a power loss can't take the record that ends at `position`, or at once under other policies than
    /// [`SyncPolicy::Always`](super::SyncPolicy::Always). Dropping it costs nothing.
    pub fn synced(&self, position: Position) -> impl Future<Output = ()> + use<> {
        self.writer().synced(position)
    }

    /// See [`Writer::tick`].
    pub fn tick(&self) {
        self.writer().tick();
    }

    /// What a panicking thread left is a ticket that is neither finished nor free, and that is all.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
