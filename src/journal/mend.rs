//! What becomes of a file whose sync failed.
//!
//! A kernel that could not write a page may drop it; it says so once and calls the next sync good. So such a file is
//! never synced again ([`Region`](super::Region) sees to that) and never trusted: while its contents can still be
//! read, they are written to a new file. Until then no cut begins, and the node reports that it is not ready.
//!
//! - A *segment* is left by its writer for the next one, and then copied whole, at the same offsets, into a new file
//!   that is renamed over the old. Its records keep their places and so their checksums, a range that was cut is still
//!   that range, and a crash finds the old file or the new one, never both.
//! - The *table* of requests in flight changes under its writer's hands. So the writer itself copies its entries into
//!   a new table that is held ready, and renames it into place: one system call in the life of a failed disk. What is
//!   noted from then on is in the new one.
//!
//! What the kernel has dropped before the copy is damage like any other: it does not verify, and is reported.

use std::sync::{Arc, PoisonError};

use super::disk::Disk;
use super::handle::{JournalError, io_error};
use super::in_flight::Table;
use super::segment::Shard;

/// Writes anew what can be, and answers how many files. To be called again until [`Shard::suspects`] is 0.
///
/// # Errors
/// Those of the disk: what is suspect stays so.
pub(super) fn mend(disk: &dyn Disk, shard: &Shard) -> Result<u64, JournalError> {
    let mut rewritten = u64::from(offer_table(disk, shard)?);
    let suspects: Vec<_> =
        shard.segments().values().filter(|segment| segment.is_suspect()).map(Arc::clone).collect();
    for suspect in suspects {
        // The writer leaves it first.
        let Some(end) = suspect.end() else { continue };
        let copy = suspect.copy(disk, end).map_err(io_error("writing anew", &suspect.path))?;
        shard.segments().insert(copy.sequence, Arc::new(copy));
        rewritten += 1;
    }
    Ok(rewritten)
}

/// Holds a new table ready for the writer, if it needs one. Answers whether it made one.
fn offer_table(disk: &dyn Disk, shard: &Shard) -> Result<bool, JournalError> {
    let Some(suspect) = shard.table().filter(|table| table.is_suspect()) else { return Ok(false) };
    let mut offer = shard.offer.lock().unwrap_or_else(PoisonError::into_inner);
    if offer.is_some() {
        return Ok(false);
    }
    let table = suspect.renewed(disk, &shard.directory);
    *offer = Some(Arc::new(table.map_err(io_error("making a table in", &shard.directory))?));
    Ok(true)
}

/// Moves the writer's requests to the table that is held ready, if one is. To be called by the writer.
pub(super) fn exchange_table(disk: &dyn Disk, shard: &Shard, table: &mut Arc<Table>) {
    // Whoever holds it makes a table, which takes as long as a disk takes: the next call finds it done.
    let Ok(mut offer) = shard.offer.try_lock() else { return };
    let Some(new) = offer.clone() else { return };
    new.take_over(table);
    if disk.rename(&Table::path_of_next(&shard.directory), &Table::path(&shard.directory)).is_ok() {
        shard.set_table(Arc::clone(&new));
        *table = new;
        *offer = None;
    }
}
