//! The connections, and the transaction that every change goes through.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use super::{Changed, StoreError};

/// The database. Clones share its connections.
///
/// SQLite has one writer at a time, so writes have a pool of one connection: they queue here, in order, instead
/// of failing over each other's locks. Readers have connections of their own that can't write.
#[derive(Clone)]
pub struct Store {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreUrl {
    Sqlite(PathBuf),
}

/// The database at one moment: all that is read through it fits together.
pub struct Snapshot {
    inner: Transaction<'static, Sqlite>,
}

/// A transaction that may write; it reads like a [`Snapshot`], its own writes included. Dropping it takes
/// everything back, notes of changes included.
pub struct Tx {
    snapshot: Snapshot,
    changes: Vec<Changed>,
}

/// Enough for the control plane's queries beside each other; the data plane's misses are single-flight.
const READERS_MAX: u32 = 4;
/// Another process (a backup, a shell) may hold SQLite's lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any transaction of ours takes; whoever waits longer is told that the store is busy.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);

// === impl Store ===

impl Store {
    /// Opens the database; makes the file, for its owner only, and its directory when there are none. Changes no
    /// schema.
    ///
    /// # Errors
    /// [`StoreError`] when the file can't be made or is no database.
    pub async fn open(url: &StoreUrl) -> Result<Store, StoreError> {
        let StoreUrl::Sqlite(path) = url;
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
        Ok(Store { writer, readers })
    }

    /// The database as it is now, for reading.
    ///
    /// # Errors
    /// [`StoreError::Database`] when there is no connection within the pool's patience.
    pub async fn read(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { inner: self.readers.begin().await? })
    }

    /// Begins a transaction that may write. On SQLite it waits for the one before it, so that what it reads stays
    /// true until it ends.
    ///
    /// # Errors
    /// [`StoreError::Database`] when its turn does not come within the pool's patience.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let snapshot = Snapshot { inner: self.writer.begin_with("BEGIN IMMEDIATE").await? };
        Ok(Tx { snapshot, changes: Vec::new() })
    }

    /// Waits for the statements under way and closes all connections.
    pub async fn close(&self) {
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(sqlite)")
    }
}

// === impl StoreUrl ===

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        let path = path.map(|path| path.strip_prefix("//").unwrap_or(path));
        path.map(|path| StoreUrl::Sqlite(path.into())).ok_or_else(|| StoreError::Url(url.to_owned()))
    }
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }
}

// === impl Tx ===

impl Tx {
    /// Notes that gateways must forget what they know of `what`.
    pub fn changed(&mut self, what: Changed) {
        if !self.changes.contains(&what) {
            self.changes.push(what);
        }
    }

    /// Makes everything permanent, the notes of what changed included.
    ///
    /// Dropping the future leaves it open whether the transaction was committed, as losing the connection does.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing is permanent unless the connection was lost in that moment.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.changes);
        self.insert_changes(&changes).await?;
        Ok(self.snapshot.inner.commit().await?)
    }

    /// Takes everything back now; dropping does it a moment later.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is permanent then either.
    pub async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.snapshot.inner.rollback().await?)
    }
}

impl Deref for Tx {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

#[cfg(test)]
mod tests;
