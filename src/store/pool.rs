//! The store's door: its databases, and the transactions that everything goes through.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::Transaction;

use super::postgres::PostgresPools;
use super::sql::Connection;
use super::sqlite::SqlitePools;
use super::{Changed, StoreError};
use crate::domain::TenantId;

/// The database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pub(super) pools: Pools,
}

#[derive(Clone)]
pub(super) enum Pools {
    Postgres(PostgresPools),
    Sqlite(SqlitePools),
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Sqlite(PathBuf),
    /// As written; it may hold a password.
    Postgres(String),
}

/// How a store is opened. SQLite, which is one file of one machine, heeds none of it but `url`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    pub url: StoreUrl,
    /// Most connections at a time, beside the two of the flush and the one that listens for changes.
    pub connections: u32,
    /// Longest wait for one of them.
    pub connection_wait: Duration,
    /// Longest statement.
    pub statement_timeout: Duration,
    /// Longest wait for somebody else's lock.
    pub lock_timeout: Duration,
}

/// On whose behalf a transaction works, and so which rows there are for it. Postgres holds it to that by row-level
/// security; on SQLite, which has none, the filters of the statements are all there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The platform's: all tenants.
    Platform,
    /// A tenant's own: its rows, and what all tenants share.
    Tenant(TenantId),
}

/// What a transaction may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Whatever the login may: only for migrating.
    Login,
    Of(Reach),
    /// Brings usage.
    Ingest,
}

/// The database at one moment: all that is read through it fits together.
pub struct Snapshot {
    inner: Begun,
}

/// A transaction that may write; it reads like a [`Snapshot`], its own writes included. Dropping it takes
/// everything back, notes of changes included.
pub struct Tx {
    snapshot: Snapshot,
    changes: Vec<Changed>,
}

pub(super) enum Begun {
    Postgres(Transaction<'static, sqlx::Postgres>),
    Sqlite(Transaction<'static, sqlx::Sqlite>),
}

// === impl Store ===

impl Store {
    /// Opens the database with the defaults of [`StoreSettings`].
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub async fn open(url: &StoreUrl) -> Result<Store, StoreError> {
        Store::open_with(&url.clone().into()).await
    }

    /// Opens the database. A SQLite file that is not there is made, for its owner only, and its directory as well.
    /// Changes no schema.
    ///
    /// # Errors
    /// [`StoreError`] when the file can't be made or is no database, or when the server can't be reached.
    pub async fn open_with(settings: &StoreSettings) -> Result<Store, StoreError> {
        let pools = match &settings.url {
            StoreUrl::Postgres(url) => Pools::Postgres(PostgresPools::open(url, settings).await?),
            StoreUrl::Sqlite(path) => Pools::Sqlite(SqlitePools::open(path).await?),
        };
        Ok(Store { pools })
    }

    /// The database as it is now, for the platform to read.
    ///
    /// # Errors
    /// [`StoreError::Database`] when there is no connection within the pool's patience.
    pub async fn read(&self) -> Result<Snapshot, StoreError> {
        self.read_as(Reach::Platform).await
    }

    /// The database as it is now, as far as `reach` goes.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_as(&self, reach: Reach) -> Result<Snapshot, StoreError> {
        let inner = match &self.pools {
            Pools::Postgres(pools) => Begun::Postgres(pools.read(Role::Of(reach)).await?),
            Pools::Sqlite(pools) => Begun::Sqlite(pools.readers.begin().await?),
        };
        Ok(Snapshot { inner })
    }

    /// Begins a transaction of the platform that may write, see [`Store::begin_as`].
    ///
    /// # Errors
    /// As [`Store::begin_as`].
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_as(Reach::Platform).await
    }

    /// Begins a transaction that may write. It waits for the one before it, so that what it reads stays true until
    /// it ends, and so that versions of changes are seen in their order.
    ///
    /// # Errors
    /// [`StoreError::Database`] when its turn does not come within the store's patience.
    pub async fn begin_as(&self, reach: Reach) -> Result<Tx, StoreError> {
        let inner = match &self.pools {
            Pools::Postgres(pools) => Begun::Postgres(pools.write_in_turn(Role::Of(reach)).await?),
            Pools::Sqlite(pools) => Begun::Sqlite(pools.begin().await?),
        };
        Ok(Tx::of(inner))
    }

    /// Begins a transaction that brings usage. On Postgres it waits for nobody: gateways flush beside each other.
    pub(super) async fn begin_ingest(&self) -> Result<Tx, StoreError> {
        let inner = match &self.pools {
            Pools::Postgres(pools) => Begun::Postgres(pools.ingest().await?),
            Pools::Sqlite(pools) => Begun::Sqlite(pools.begin().await?),
        };
        Ok(Tx::of(inner))
    }

    /// Begins a transaction that may change the schema, if the login may. Nobody else does at the same time.
    pub(super) async fn begin_migration(&self) -> Result<Tx, StoreError> {
        let inner = match &self.pools {
            Pools::Postgres(pools) => Begun::Postgres(pools.write_in_turn(Role::Login).await?),
            Pools::Sqlite(pools) => Begun::Sqlite(pools.begin().await?),
        };
        Ok(Tx::of(inner))
    }

    /// Waits for the statements under way and closes all connections.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Postgres(pools) => pools.close().await,
            Pools::Sqlite(pools) => pools.close().await,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.pools {
            Pools::Postgres(_) => "Store(postgres)",
            Pools::Sqlite(_) => "Store(sqlite)",
        })
    }
}

// === impl StoreUrl ===

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(StoreUrl::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        let path = path.map(|path| path.strip_prefix("//").unwrap_or(path));
        path.map(|path| StoreUrl::Sqlite(path.into())).ok_or_else(|| StoreError::Url(url.to_owned()))
    }
}

/// Without the password that a URL may hold.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Postgres(_) => f.write_str("postgres://***"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

// === impl StoreSettings ===

impl From<StoreUrl> for StoreSettings {
    fn from(url: StoreUrl) -> StoreSettings {
        StoreSettings {
            url,
            connections: 16,
            connection_wait: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) const fn of(inner: Begun) -> Snapshot {
        Snapshot { inner }
    }

    pub(super) fn connection(&mut self) -> Connection<'_> {
        match &mut self.inner {
            Begun::Postgres(transaction) => Connection::Postgres(transaction),
            Begun::Sqlite(transaction) => Connection::Sqlite(transaction),
        }
    }
}

// === impl Tx ===

impl Tx {
    fn of(inner: Begun) -> Tx {
        Tx { snapshot: Snapshot { inner }, changes: Vec::new() }
    }

    /// Notes that gateways must forget what they know of `what`.
    pub fn changed(&mut self, what: Changed) {
        if !self.changes.contains(&what) {
            self.changes.push(what);
        }
    }

    /// The tenants that gateways must forget so far.
    pub fn tenants_changed(&self) -> Vec<TenantId> {
        let tenant = |what: &Changed| match what {
            Changed::Tenant(tenant) => Some(*tenant),
            Changed::Key(_) | Changed::Tier(_) => None,
        };
        self.changes.iter().filter_map(tenant).collect()
    }

    /// Makes everything permanent, the notes of what changed included.
    ///
    /// Dropping the future leaves it open whether the transaction was committed, as losing the connection does.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing is permanent unless the connection was lost in that moment.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.write_notes().await?;
        match self.snapshot.inner {
            Begun::Postgres(transaction) => transaction.commit().await?,
            Begun::Sqlite(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    /// Writes down what changed, last in the transaction.
    pub(super) async fn write_notes(&mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.changes);
        self.insert_changes(&changes).await
    }

    /// Takes everything back now; dropping does it a moment later.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is permanent then either.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.snapshot.inner {
            Begun::Postgres(transaction) => transaction.rollback().await?,
            Begun::Sqlite(transaction) => transaction.rollback().await?,
        }
        Ok(())
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
