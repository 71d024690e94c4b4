//! The store in a SQLite file.
//!
//! SQLite has one writer at a time, so writes have a pool of one connection: they queue here, in order, instead of
//! failing over each other's locks. Readers have connections of their own that can't write.
//!
//! # Why it syncs every commit
//! The flush forgets journal records once the database has them; a commit that a power loss takes back would lose
//! them. The flush commits a few times per second, so a sync for each costs nothing that anyone waits for.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::StoreError;

#[derive(Clone)]
pub(super) struct SqlitePools {
    writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

/// Enough for the control plane's queries beside each other; the data plane's misses are single-flight.
const READERS_MAX: u32 = 4;
/// Another process (a backup, a shell) may hold SQLite's lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any transaction of ours takes; whoever waits longer is told that the store is busy.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);

impl SqlitePools {
    pub(super) async fn open(path: &Path) -> Result<SqlitePools, StoreError> {
        make(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().acquire_timeout(CONNECTION_WAIT_MAX);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        let readers =
            pool.max_connections(READERS_MAX).connect_with(options.pragma("query_only", "on")).await?;
        Ok(SqlitePools { writer, readers })
    }

    /// Begins a transaction that has the writer's lock from its first statement on.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// SQLite gives the files that it makes beside the database the same permissions.
fn make(path: &Path) -> Result<(), StoreError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| StoreError::File(directory.to_owned(), error))?;
    }
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| StoreError::File(path.to_owned(), error))
}
