//! The usage log's partitions on Postgres: made before their month, dropped when their retention is over.
//!
//! The statements that do it are functions of the schema with their owner's rights: the gateway's login may call them
//! and nothing more. See `migrations/postgres/0002_usage.sql`.

use super::pool::Pools;
use super::sql::query;
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// What became of the partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Partitions {
    pub made: i64,
    pub dropped: i64,
    /// Rows that no month's partition was there for. There should be none: they are kept for ever, and their
    /// month's partition can't be made until they are moved.
    pub stray_rows: i64,
}

impl Store {
    /// Makes partitions ahead and drops those whose retention is over. Does nothing on SQLite, where a table is not
    /// partitioned. Gateways may do it at the same time.
    ///
    /// # Errors
    /// [`StoreError::Database`]; what is missing is made by the next attempt.
    pub async fn keep_partitions(&self, now: Timestamp) -> Result<Partitions, StoreError> {
        if !matches!(self.pools, Pools::Postgres(_)) {
            return Ok(Partitions::default());
        }
        let made = self.ask_about_partitions("SELECT tollgate_make_partitions($1)", now).await?;
        let dropped = self.ask_about_partitions("SELECT tollgate_drop_partitions($1)", now).await?;
        // Counted up to a bound: the table is not indexed for this, and the first one is the news.
        let strays = "SELECT COUNT(*) FROM (
            SELECT FROM tenant_usage_logs_30_default UNION ALL SELECT FROM tenant_usage_logs_90_default UNION ALL
            SELECT FROM tenant_usage_logs_365_default UNION ALL SELECT FROM tenant_usage_logs_730_default
            LIMIT 10000) AS strays WHERE $1 IS NOT NULL";
        let stray_rows = self.ask_about_partitions(strays, now).await?;
        Ok(Partitions { made, dropped, stray_rows })
    }

    /// In a transaction of its own, so that what one waits for does not keep the others from being done.
    async fn ask_about_partitions(&self, text: &'static str, now: Timestamp) -> Result<i64, StoreError> {
        let mut tx = self.begin_ingest().await?;
        let number = query(text).bind(now).fetch_number(tx.connection()).await?;
        tx.commit().await?;
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
