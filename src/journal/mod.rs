//! The usage journal: what was used, on disk before anyone asks for it, in files that outlive the process.
//!
//! Each worker thread has a [`Writer`] of its own, which appends records to a memory-mapped [`segment`].
//! A request passes three facts to it:
//!
//! 1. [`Writer::begin`], right after its units were taken: the record as it would read if the process died now,
//!    kept in a table of requests in flight ([`in_flight`]). It also sets journal space aside, so that finishing
//!    can't fail.
//! 2. [`Writer::sent`], right before the first byte goes to the upstream.
//! 3. [`Writer::finish`], when the answer ended: the real record is published and the entry cleared.
//!
//! None of them makes a system call, takes a lock or allocates. After a `kill -9` the kernel still has every
//! page, and [`Journal::open`] turns each entry that was sent into one record with `outcome = crashed`. So the
//! published records are exactly the requests that an upstream may have seen.
//!
//! The [`Journal`] itself is the handle for everybody else: it makes segments ahead, syncs, and hands ranges of
//! published records to the flush, which moves the [`cursor`]. A file whose sync failed is written anew ([`mend`]).
//! Who only wants to look has an [`Inspection`].
//!
//! May not know tokio, SQL, the clock or the till: time and identities come in as arguments, files through
//! [`Disk`].
//!
//! # Why what is written is sound
//! Mapped files are read and written as 64-bit atomic words ([`Region`]), so a reader that races with a writer
//! reads an old or a new word and never undefined behaviour; the order of publication makes it the right one.
//! A record's checksum is seeded with its place, so bytes that belong elsewhere never verify.

mod commit;
mod counted;
mod cursor;
mod disk;
mod handle;
mod header;
mod in_flight;
mod inspect;
mod mend;
mod reader;
pub mod record;
mod recover;
mod segment;
mod writer;

pub use cursor::{Cut, Position};
pub use disk::{Disk, FileDisk, Region};
pub use handle::{
    Depth, Journal, JournalError, JournalId, JournalSettings, Moment, OnFull, Pressure, Sums, SyncPolicy,
};
pub use in_flight::Entries;
pub use inspect::{Inspection, JournalFault, SegmentInspection, ShardInspection};
pub use reader::{CutReader, Read};
pub use record::RECORD_BYTES_MAX;
pub use recover::Recovery;
pub use writer::{JournalFull, Ticket, Writer};

#[cfg(test)]
mod tests;
