//! The store in a Postgres database.
//!
//! The login owns nothing and inherits nothing: every transaction says by `SET LOCAL ROLE` which of the roles of
//! `migrations/postgres` it works as, and for a tenant also which tenant. Both end with the transaction, so that a
//! pooled connection keeps neither.
//!
//! # Why writers of the control plane take turns
//! They read before they write (is the slug taken, what is the limit's version, which hash ends the chain), and the
//! versions in `directory_changes` must become visible in their order: a gateway that has seen version 8 never asks
//! for 7 again. One advisory lock per database, taken with `BEGIN` and held to the end, gives both, as SQLite does
//! by nature; there is nothing to retry and nothing to deadlock. What it costs is that administrators' changes
//! (not usage, which is flushed beside it) queue at a few round trips each.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool, Postgres, Transaction};

use super::pool::{Pools, Reach, Role, StoreSettings};
use super::sql::Connection;
use super::{Store, StoreError, StoreUrl};

#[derive(Clone)]
pub(super) struct PostgresPools {
    pool: PgPool,
    /// The flush's own: it goes on while the control plane's connections are taken, and takes none of them.
    flush: PgPool,
    listener: PgPool,
}

/// Hears of changes that other processes commit.
pub struct Listening(Ear);

/// Hears what is said on one channel.
pub(super) struct Ear {
    pool: PgPool,
    channel: &'static str,
    listener: Option<PgListener>,
}

/// One for the range that is under way, one for the partitions' hourly work.
const FLUSH_CONNECTIONS: u32 = 2;
/// Said in every transaction: the server's defaults are others' to set. Who has the turn must see what was committed
/// before it, not before its own beginning.
const READING: &str = "ISOLATION LEVEL REPEATABLE READ, READ ONLY";
const WRITING: &str = "ISOLATION LEVEL READ COMMITTED, READ WRITE";
/// Between attempts to listen again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// The channel of changes; what is sent on it is empty, since `directory_changes` has it all.
const CHANNEL: &str = "tollgate_changed";
/// The first half of our advisory locks' keys, which a database shares with whoever else uses it.
const LOCKS: i32 = 0x746F_6C6C;
/// Whose turn it is to write.
const TURN: i32 = 1;

// === impl PostgresPools ===

impl PostgresPools {
    pub(super) async fn open(url: &str, settings: &StoreSettings) -> Result<PostgresPools, StoreError> {
        let options = options(url)?.options([
            ("statement_timeout", settings.statement_timeout.as_millis().to_string()),
            ("lock_timeout", settings.lock_timeout.as_millis().to_string()),
            // What is not there and need not be dropped is no news.
            ("client_min_messages", "warning".to_owned()),
            // A transaction of ours never waits for anything but the database; one that hangs holds the turn.
            ("idle_in_transaction_session_timeout", settings.lock_timeout.as_millis().to_string()),
        ]);
        let pool = |connections| {
            PgPoolOptions::new().max_connections(connections).acquire_timeout(settings.connection_wait)
        };
        Ok(PostgresPools {
            pool: pool(settings.connections).connect_with(options.clone()).await?,
            flush: pool(FLUSH_CONNECTIONS)
                .connect_lazy_with(options.clone().application_name("tollgate flush")),
            listener: pool(1).connect_lazy_with(options.application_name("tollgate listen")),
        })
    }

    /// The same server, for a pool of its own.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.pool.connect_options().as_ref().clone()
    }

    /// Everything that is read in it is of one moment.
    pub(super) async fn read(&self, role: Role) -> Result<Transaction<'static, Postgres>, StoreError> {
        begin(&self.pool, READING, role, "").await
    }

    pub(super) async fn write_in_turn(
        &self,
        role: Role,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let turn = format!("; SELECT pg_advisory_xact_lock({LOCKS}, {TURN})");
        begin(&self.pool, WRITING, role, &turn).await
    }

    pub(super) async fn ingest(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        begin(&self.flush, WRITING, Role::Ingest, "").await
    }

    pub(super) async fn close(&self) {
        self.listener.close().await;
        self.flush.close().await;
        self.pool.close().await;
    }
}

/// Begins a transaction, takes the role and does what follows, in one round trip.
async fn begin(
    pool: &PgPool,
    mode: &str,
    role: Role,
    then: &str,
) -> Result<Transaction<'static, Postgres>, StoreError> {
    let role = match role {
        Role::Login => String::new(),
        Role::Of(Reach::Platform) => "; SET LOCAL ROLE tollgate_platform".to_owned(),
        // A UUID's text needs no quoting.
        Role::Of(Reach::Tenant(tenant)) => {
            format!("; SET LOCAL ROLE tollgate_app; SET LOCAL app.tenant_id = '{}'", tenant.0)
        }
        Role::Ingest => "; SET LOCAL ROLE tollgate_ingest".to_owned(),
    };
    Ok(pool.begin_with(AssertSqlSafe(format!("BEGIN {mode}{role}{then}"))).await?)
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(StoreError::PostgresUrl)?;
    Ok(options.application_name("tollgate").disable_statement_logging())
}

/// Tells everybody who listens, once the transaction is committed.
pub(super) async fn notify(connection: Connection<'_>) -> Result<(), StoreError> {
    Ok(connection.run(format!("NOTIFY {CHANNEL}")).await?)
}

// === impl Store ===

impl Store {
    /// Hears of changes that other processes commit; `None` where there is no way to hear of them, on SQLite.
    pub fn listen(&self) -> Option<Listening> {
        match &self.pools {
            Pools::Postgres(pools) => Some(Listening(Ear::new(pools.listener.clone(), CHANNEL))),
            Pools::Sqlite(_) => None,
        }
    }
}

// === impl StoreUrl ===

impl StoreUrl {
    /// The role that logs in; `None` on SQLite.
    ///
    /// # Errors
    /// [`StoreError::PostgresUrl`]
    pub(super) fn login(&self) -> Result<Option<String>, StoreError> {
        match self {
            StoreUrl::Postgres(url) => Ok(Some(options(url)?.get_username().to_owned())),
            StoreUrl::Sqlite(_) => Ok(None),
        }
    }
}

// === impl Listening ===

impl Listening {
    /// Ready when something may have changed: somebody said so, or the connection was lost and is back, so that it
    /// is not known what was missed. Connects again for as long as that takes.
    ///
    /// Dropping the future loses nothing that a look at the changes would not find.
    pub async fn heard(&mut self) {
        self.0.next().await;
    }
}

// === impl Ear ===

impl Ear {
    pub(super) const fn new(pool: PgPool, channel: &'static str) -> Ear {
        Ear { pool, channel, listener: None }
    }

    /// What is said next; `None` when hearing has begun, or begun again, and something may have been missed. Connects
    /// again for as long as that takes.
    pub(super) async fn next(&mut self) -> Option<PgNotification> {
        loop {
            let told = match &mut self.listener {
                Some(listener) => listener.try_recv().await,
                None => self.connect().await.map(|()| None),
            };
            match told {
                Ok(told) => return told,
                Err(error) => {
                    tracing::debug!(error = %error, channel = self.channel, "the store can't be listened to");
                    self.listener = None;
                    tokio::time::sleep(LISTEN_RETRY).await;
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(self.channel).await?;
        self.listener = Some(listener);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
