//! Grants that the database keeps: its functions `tollgate_renew`, `tollgate_seed` and `tollgate_lives`, asked.
//!
//! Everything is decided by those functions (`migrations/postgres/0004_grants.sql`), one call for a whole batch of
//! questions, which is one transaction and one round trip. This room only puts questions into arrays and reads rows.
//!
//! # Why connections of its own
//! They work as one role for good and commit synchronously whatever the server's default, so that a call needs no
//! `BEGIN`. And a question about units never waits behind an administrator's statement.
//!
//! # How lost writes are found out
//! The functions notice another timeline, an empty table and a restored dump by themselves. What they can't see is a
//! server that came back with less than it had acknowledged (`fsync = off`, a snapshot of its disk). So each call says
//! how much its caller has seen written in this life: a server that has not written as much has lost some.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use super::pool::Pools;
use super::postgres::Ear;
use super::sql::{Connection, Query, Row, query};
use super::values::{corrupt, get, whole};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Units};
use crate::till::TillId;
use crate::till::protocol::{
    Answer, Answers, AuthorityLost, Book, Life, News, Renew, Renewed, Seed, Terms, kept_until,
};

/// The database as the keeper of grants.
pub struct Grants {
    pool: PgPool,
    listener: PgPool,
    settings: GrantSettings,
    seen: Mutex<Seen>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantSettings {
    /// Most calls at a time.
    pub connections: u32,
    /// The server gives up a call that takes longer.
    pub timeout: Duration,
    /// How long a new life collects claims and grants nothing. The same for all gateways.
    pub learn_for: Duration,
}

/// Hears what is called out to all gateways.
pub struct Hearing(Ear);

/// What of the server's settings and state matters to whoever relies on its grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFacts {
    pub version: String,
    pub fsync: bool,
    pub full_page_writes: bool,
    /// It follows another server and takes no writes.
    pub is_standby: bool,
    pub now: Timestamp,
}

/// How far the server had written, in which life.
#[derive(Clone, Copy, Default)]
struct Seen {
    life: i64,
    wal: i64,
}

/// The channel that the functions call out on.
const CHANNEL: &str = "tollgate_news";
/// Longest wait for a connection, and for an answer on one: after that it is dead, and dropped.
const PATIENCE: Duration = Duration::from_secs(1);

// === impl Store ===

impl Store {
    /// The database as the keeper of grants; `None` on SQLite, which serves one gateway. Connects when asked.
    pub fn grants(&self, settings: GrantSettings) -> Option<Grants> {
        let Pools::Postgres(pools) = &self.pools else { return None };
        let options = pools.options().application_name("tollgate grants").options([
            ("role", "tollgate_ingest"),
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
            // 0 would be for ever.
            ("statement_timeout", &settings.timeout.as_millis().max(1).to_string()),
            ("lock_timeout", "0"),
        ]);
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
                // A question that fails is asked again; a look before each would double the round trips.
                .test_before_acquire(false)
                .max_lifetime(None)
                .idle_timeout(None)
                .connect_lazy_with(options.clone())
        };
        let (pool, listener) = (pool(settings.connections), pool(1));
        Some(Grants { pool, listener, settings, seen: Mutex::default() })
    }

    /// Forgets grants of windows that ended long ago; answers how many accounts. Does nothing on SQLite. Gateways may
    /// do it at the same time.
    ///
    /// # Errors
    /// [`StoreError::Database`]; what is left is forgotten by the next attempt.
    pub async fn forget_grants(&self, now: Timestamp) -> Result<u64, StoreError> {
        if !matches!(self.pools, Pools::Postgres(_)) {
            return Ok(0);
        }
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin_ingest().await?;
            let some =
                query("SELECT tollgate_forget_grants($1)").bind(now).fetch_number(tx.connection()).await?;
            tx.commit().await?;
            forgotten += some.unsigned_abs();
            if some == 0 {
                return Ok(forgotten);
            }
        }
    }
}

// === impl GrantSettings ===

impl Default for GrantSettings {
    fn default() -> Self {
        GrantSettings {
            connections: 4,
            timeout: Duration::from_millis(25),
            learn_for: Duration::from_secs(1),
        }
    }
}

// === impl Grants ===

impl Grants {
    pub const fn settings(&self) -> &GrantSettings {
        &self.settings
    }

    /// Takes the tills' claims and grants what they ask for: one answer each, in their order.
    ///
    /// Dropping the future leaves open whether that was done.
    ///
    /// # Errors
    /// [`StoreError`]; also then it may have been done, for all or for none.
    pub async fn renew(&self, batch: &[Renew]) -> Result<Answers, StoreError> {
        let more = batch.iter().any(|renew| renew.more);
        let asked = self.question(RENEW).bind(more);
        let asked = with_names(asked, batch.iter().map(|renew| &renew.account))
            .bind_all(batch.iter().map(|renew| renew.account.window.start));
        let asked = with_terms(asked, batch.iter().map(|renew| renew.terms));
        let rows = self.ask(with_claims(asked, batch)).await?;
        let mut answers: Answers =
            batch.iter().map(|_| Answer::Lost(AuthorityLost(NO_ROW.to_owned()))).collect();
        for row in &rows {
            let place: i64 = get(row, "place")?;
            let answer = usize::try_from(place - 1).ok().and_then(|at| answers.get_mut(at));
            *answer.ok_or_else(|| corrupt("place", place.to_string()))? = self.read(row)?;
        }
        Ok(answers)
    }

    /// Tells what was used of accounts. Those that are seeded stay as they are.
    ///
    /// # Errors
    /// [`StoreError`]; also then it may have been done, for all or for none.
    pub async fn seed(&self, seeds: &[Seed]) -> Result<(), StoreError> {
        let asked = self.question("SELECT tollgate_seed($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
        let accounts = || seeds.iter().map(|seed| &seed.account);
        let told = || seeds.iter().flat_map(|seed| seed.used.iter().map(|used| (&seed.account, used)));
        let asked = with_terms(with_names(asked, accounts()), seeds.iter().map(|seed| seed.terms))
            .bind_all(told().map(|(account, _)| account.to_string()))
            .bind_all(told().map(|(_, (TillId(till), _))| *till))
            .bind_all(told().map(|(_, (_, units))| units.to_i64()));
        self.ask(asked).await.map(drop)
    }

    /// The life of all books, begun if there was none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn life(&self) -> Result<Book, StoreError> {
        let rows = self.ask(self.question("SELECT * FROM tollgate_lives($1, $2, $3)")).await?;
        let row = rows.first().ok_or_else(|| corrupt("in_life", NO_ROW.to_owned()))?;
        Ok(Book { life: Life(whole(row, "in_life")?), learning: get(row, "is_learning")? })
    }

    /// What is called out from when this is first asked for news.
    pub fn listen(&self) -> Hearing {
        Hearing(Ear::new(self.listener.clone(), CHANNEL))
    }

    /// What an operator should know about the server.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        let rows = self
            .ask(query(
                "SELECT current_setting('server_version') AS version, current_setting('fsync')::bool AS fsync,
                    current_setting('full_page_writes')::bool AS full_page_writes,
                    pg_is_in_recovery() AS is_standby, clock_timestamp() AS now",
            ))
            .await?;
        let row = rows.first().ok_or_else(|| corrupt("version", NO_ROW.to_owned()))?;
        Ok(ServerFacts {
            version: get(row, "version")?,
            fsync: get(row, "fsync")?,
            full_page_writes: get(row, "full_page_writes")?,
            is_standby: get(row, "is_standby")?,
            now: get(row, "now")?,
        })
    }

    /// With what each function is told first.
    fn question(&self, text: &'static str) -> Query {
        let learn_for = i64::try_from(self.settings.learn_for.as_micros()).unwrap_or(i64::MAX);
        let Seen { life, wal } = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        query(text).bind(learn_for).bind(life).bind(wal)
    }

    async fn ask(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let answered = timeout(PATIENCE, query.fetch_all(Connection::Postgres(&mut connection))).await;
        answered.unwrap_or_else(|_| {
            // Whatever it says after so long is not worth waiting for, and nobody else should.
            drop(connection.detach());
            Err(StoreError::Database(sqlx::Error::PoolTimedOut))
        })
    }

    fn read(&self, row: &Row) -> Result<Answer, StoreError> {
        let life: i64 = get(row, "in_life")?;
        self.note(Seen { life, wal: get(row, "wal")? });
        let life = Life(life.unsigned_abs());
        if !get::<bool>(row, "is_seeded")? {
            return Ok(Answer::Unseeded(life));
        }
        let remaining: Option<i64> = get(row, "remaining")?;
        Ok(Answer::Renewed(Renewed {
            life,
            granted: whole(row, "now_granted")?,
            remaining: remaining.map_or(Units::MAX, |units| Units::saturating(units.unsigned_abs())),
            idle_elsewhere: whole(row, "idle_elsewhere").map(Units::saturating)?,
            used_elsewhere: whole(row, "used_elsewhere").map(Units::saturating)?,
            learning: get(row, "is_learning")?,
        }))
    }

    fn note(&self, now: Seen) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let wal = if seen.life == now.life { seen.wal.max(now.wal) } else { now.wal };
        *seen = Seen { wal, ..now };
    }
}

const RENEW: &str = "SELECT * FROM tollgate_renew($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
    $17, $18)";
/// What the functions never do.
const NO_ROW: &str = "the database answers with fewer rows than it was asked for";

/// Names of accounts, and until when to keep them.
fn with_names<'a>(asked: Query, accounts: impl Iterator<Item = &'a AccountKey> + Clone) -> Query {
    asked.bind_all(accounts.clone().map(ToString::to_string)).bind_all(accounts.map(kept_until))
}

fn with_terms(asked: Query, terms: impl Iterator<Item = Terms> + Clone) -> Query {
    asked
        .bind_all(terms.clone().map(|terms| terms.limit.to_sql()))
        .bind_all(terms.map(|terms| number(terms.version)))
}

fn with_claims(asked: Query, batch: &[Renew]) -> Query {
    let counters: [fn(&Renew) -> u64; 8] = [
        |renew| renew.claim.granted,
        |renew| renew.claim.spent,
        |renew| renew.claim.returned,
        |renew| renew.claim.refunded,
        |renew| renew.claim.over,
        |renew| renew.claim.over_returned,
        |renew| renew.granted_target,
        |renew| renew.granted_least,
    ];
    let asked = asked.bind_all(batch.iter().map(|renew| renew.till.0));
    counters
        .into_iter()
        .fold(asked, |asked, counter| asked.bind_all(batch.iter().map(|renew| number(counter(renew)))))
}

/// Counters of a whole century stay far below.
fn number(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

// === impl Hearing ===

impl Hearing {
    /// What is called out next; [`News::Gap`] when hearing has begun, or begun again. Waits as long as that takes.
    ///
    /// Dropping the future may lose what was called out in that moment.
    pub async fn next(&mut self) -> News {
        loop {
            let Some(told) = self.0.next().await else { return News::Gap };
            // Another version may say more than this one knows.
            if let Some(news) = News::parse(told.payload(), |text| text.parse().ok()) {
                return news;
            }
        }
    }
}
