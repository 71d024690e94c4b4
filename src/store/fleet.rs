//! What the store knows of the fleet: who brought usage lately.

use uuid::Uuid;

use super::sql::{Row, query};
use super::values::{get, whole};
use super::{Snapshot, StoreError};
use crate::clock::Timestamp;

/// A gateway that brought usage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flusher {
    /// Its till's id, which outlives its process.
    pub till: Uuid,
    /// The last time that it brought something.
    pub last_at: Timestamp,
    /// Records that it brought since the moment that was asked about.
    pub records: u64,
}

// === impl Snapshot ===

impl Snapshot {
    /// The gateways that brought usage since then, in the order of their ids. One that serves nobody brings nothing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn flushers(&mut self, since: Timestamp) -> Result<Vec<Flusher>, StoreError> {
        let query = query(
            "SELECT till, MAX(committed_at) AS last_at, CAST(SUM(records) AS BIGINT) AS records
             FROM usage_batches WHERE committed_at >= $1 GROUP BY till ORDER BY till",
        );
        let rows = query.bind(since).fetch_all(self.connection()).await?;
        rows.iter().map(Flusher::read).collect()
    }
}

// === impl Flusher ===

impl Flusher {
    fn read(row: &Row) -> Result<Flusher, StoreError> {
        Ok(Flusher {
            till: get(row, "till")?,
            last_at: get(row, "last_at")?,
            records: whole(row, "records")?,
        })
    }
}
