//! One range of a journal, in one transaction, once.

use std::collections::HashMap;
use std::fmt;

use sqlx::postgres::PgDatabaseError;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::rows::{LookedUp, Rows};
use super::super::sql::{Bind, Kind, query};
use super::super::values::get;
use super::super::{Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, ApiKeyId, Outcome, RequestId, Resource, TenantId};

/// Records of one range of a journal, folded.
#[derive(Clone, PartialEq, Debug)]
pub struct UsageBatch {
    pub id: Uuid,
    pub range: JournalRange,
    /// Whose units they are; nil if that is not known.
    pub till: Uuid,
    pub records: u64,
    /// Of all records and accounts.
    pub units: u64,
    /// Of the range: the same range has the same.
    pub checksum: u32,
    pub at: Timestamp,
    pub logs: Vec<UsageLog>,
    pub rollups: Vec<Rollup>,
    pub accounts: Vec<AccountUse>,
    pub parked: Vec<ParkedRecord>,
}

/// Identifies a range of records for good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JournalRange {
    pub journal: Uuid,
    pub shard: u32,
    pub sequence: u32,
    /// In bytes.
    pub from: u32,
    pub to: u32,
}

/// What becomes a row of `tenant_usage_logs`.
#[derive(Clone, PartialEq, Debug)]
pub struct UsageLog {
    /// Of what was reported through the API: the request's, which finds what its reporter said of it.
    pub id: Uuid,
    pub tenant: TenantId,
    pub date: Timestamp,
    pub resource: Resource,
    pub key: Option<ApiKeyId>,
    pub route: String,
    pub outcome: Outcome,
    pub sums: UsageSums,
}

/// What is added to a row of `usage_rollups`.
#[derive(Clone, PartialEq, Debug)]
pub struct Rollup {
    pub tenant: TenantId,
    pub period: RollupPeriod,
    pub start: Timestamp,
    pub resource: Resource,
    pub key: Option<ApiKeyId>,
    pub route: String,
    pub sums: UsageSums,
}

/// What the rows of the log and of the rollups sum up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UsageSums {
    pub units: u64,
    pub overage: u64,
    pub requests: u64,
    /// Of these, how many failed: status 5xx, or no whole answer of the upstream.
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub latency_micros: u64,
    /// Requests by the first digit of their status, from 2 to 5; the rest had none.
    pub statuses: [u64; 4],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum RollupPeriod {
    Minute,
    Hour,
    Day,
    Month,
}

/// What is added to a row of `account_units`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountUse {
    pub account: AccountKey,
    pub units: u64,
    pub overage: u64,
}

/// A record that the database refuses.
#[derive(Clone, PartialEq, Debug)]
pub struct ParkedRecord {
    /// Which of its range, from 0.
    pub ordinal: u64,
    pub request: RequestId,
    pub tenant: TenantId,
    /// JSON.
    pub record: String,
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    Now,
    /// The database had it already; nothing was changed.
    Before,
}

/// What to do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The same again, later.
    Again,
    /// A value that the database will never take.
    Poison,
    /// Someone has to mend the database first.
    Broken,
}

/// Reported events that are asked for in one statement.
const EVENTS_MAX: usize = 1_000;

/// On Postgres rows lie with those that are kept as long, by the tenant's tier. Longest for a tenant that is not
/// known here: somebody may still have to bill it.
pub(in crate::store) const RETENTION_CLASS: LookedUp = LookedUp {
    column: "retention_class",
    value: "COALESCE(tenant.retention_class, 730)",
    join: "LEFT JOIN organizations AS tenant ON tenant.tenant_id = new.tenant_id",
};

// === impl Store ===

impl Store {
    /// Adds the batch to all tables, or nothing to any. The same range may be sent again at any time.
    ///
    /// Dropping the future leaves it open whether the batch was committed: send it again.
    ///
    /// # Errors
    /// [`StoreError`], see [`StoreError::fault`]; [`StoreError::RangeDiffers`] if the range was cut differently
    /// before, which is a fault of this program.
    pub async fn insert_usage(&self, batch: &UsageBatch) -> Result<Inserted, StoreError> {
        let mut tx = self.begin_ingest().await?;
        let inserted = tx.insert_usage(batch).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Whether the database would take the batch. Changes nothing.
    ///
    /// # Errors
    /// The [`StoreError`] that inserting it would give.
    pub async fn try_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let mut tx = self.begin_ingest().await?;
        tx.insert_usage(batch).await?;
        tx.rollback().await
    }

    /// Forgets ranges that were committed before `before`, and answers how many: none of them must be sent again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_batches(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin_ingest().await?;
        let forget = query("DELETE FROM usage_batches WHERE committed_at < $1").bind(before);
        let forgotten = forget.execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

// === impl Tx ===

impl Tx {
    async fn insert_usage(&mut self, batch: &UsageBatch) -> Result<Inserted, StoreError> {
        if !self.claim_range(batch).await? {
            self.compare_range(batch).await?;
            return Ok(Inserted::Before);
        }
        self.insert_logs(batch).await?;
        self.add_rollups(&batch.rollups).await?;
        self.add_account_units(batch).await?;
        self.insert_parked(batch).await?;
        Ok(Inserted::Now)
    }

    async fn claim_range(&mut self, batch: &UsageBatch) -> Result<bool, StoreError> {
        let JournalRange { journal, shard, sequence, from, to } = batch.range;
        let claimed = query(
            "INSERT INTO usage_batches (journal, shard, sequence, from_offset, to_offset, batch_id, till, records,
                 units, checksum, committed_at, first_hour)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (journal, shard, sequence, from_offset) DO NOTHING
             RETURNING batch_id",
        )
        .bind(journal)
        .bind(i64::from(shard))
        .bind(i64::from(sequence))
        .bind(i64::from(from))
        .bind(i64::from(to))
        .bind(batch.id)
        .bind(batch.till)
        .bind(sql(batch.records))
        .bind(sql(batch.units))
        .bind(i64::from(batch.checksum))
        .bind(batch.at)
        .bind(batch.first_hour())
        .fetch_optional(self.connection())
        .await?;
        Ok(claimed.is_some())
    }

    /// The range is there already: it must be the same one.
    async fn compare_range(&mut self, batch: &UsageBatch) -> Result<(), StoreError> {
        let JournalRange { journal, shard, sequence, from, to } = batch.range;
        let row = query(
            "SELECT to_offset, checksum FROM usage_batches
             WHERE journal = $1 AND shard = $2 AND sequence = $3 AND from_offset = $4",
        )
        .bind(journal)
        .bind(i64::from(shard))
        .bind(i64::from(sequence))
        .bind(i64::from(from))
        .fetch_one(self.connection())
        .await?;
        let committed: (i64, i64) = (get(&row, "to_offset")?, get(&row, "checksum")?);
        if committed == (to.into(), batch.checksum.into()) {
            return Ok(());
        }
        Err(StoreError::RangeDiffers { range: batch.range.to_string(), committed_to: committed.0 })
    }

    async fn insert_logs(&mut self, batch: &UsageBatch) -> Result<(), StoreError> {
        let columns = [
            ("tenant_id", Kind::Id),
            ("usage_date", Kind::Instant),
            ("log_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("usage_amount", Kind::Integer),
            ("overage_amount", Kind::Integer),
            ("key_id", Kind::Id),
            ("route", Kind::Text),
            ("outcome", Kind::Text),
            ("requests", Kind::Integer),
            ("errors", Kind::Integer),
            ("bytes_in", Kind::Integer),
            ("bytes_out", Kind::Integer),
            ("latency_sum_micros", Kind::Integer),
            ("batch_id", Kind::Id),
            ("description", Kind::Text),
        ];
        let descriptions = self.descriptions(&batch.logs).await?;
        let rows = batch.logs.iter().map(|log| {
            [
                log.tenant.0.value(),
                log.date.value(),
                log.id.value(),
                log.resource.as_str().value(),
                sql(log.sums.units).value(),
                sql(log.sums.overage).value(),
                log.key.map(|key| key.0).value(),
                log.route.as_str().value(),
                log.outcome.as_str().value(),
                sql(log.sums.requests).value(),
                sql(log.sums.errors).value(),
                sql(log.sums.bytes_in).value(),
                sql(log.sums.bytes_out).value(),
                sql(log.sums.latency_micros).value(),
                batch.id.value(),
                descriptions.get(&log.id).cloned().value(),
            ]
        });
        let rows = Rows::of("tenant_usage_logs", columns, rows).looking_up(RETENTION_CLASS);
        rows.insert("", self.connection()).await
    }

    /// What reporters said of the events that are among the rows, by the rows' ids.
    async fn descriptions(&mut self, logs: &[UsageLog]) -> Result<HashMap<Uuid, String>, StoreError> {
        let reported: Vec<_> = logs.iter().filter(|log| log.outcome == Outcome::Reported).collect();
        let mut descriptions = HashMap::new();
        for logs in reported.chunks(EVENTS_MAX) {
            let mut query = query(
                "SELECT request_id, description FROM usage_events
                 WHERE description IS NOT NULL AND request_id IN (",
            );
            for (number, log) in logs.iter().enumerate() {
                query.push(if number > 0 { ", " } else { "" }).push_bind(log.id);
            }
            query.push(")");
            for row in &query.once().fetch_all(self.connection()).await? {
                descriptions.insert(get(row, "request_id")?, get(row, "description")?);
            }
        }
        Ok(descriptions)
    }

    async fn add_rollups(&mut self, rollups: &[Rollup]) -> Result<(), StoreError> {
        let columns = [
            ("tenant_id", Kind::Id),
            ("period", Kind::Text),
            ("bucket_start", Kind::Instant),
            ("resource_type", Kind::Text),
            ("key_id", Kind::Id),
            ("route", Kind::Text),
            ("units", Kind::Integer),
            ("overage", Kind::Integer),
            ("requests", Kind::Integer),
            ("errors", Kind::Integer),
            ("bytes_in", Kind::Integer),
            ("bytes_out", Kind::Integer),
            ("latency_sum_micros", Kind::Integer),
            ("status_2xx", Kind::Integer),
            ("status_3xx", Kind::Integer),
            ("status_4xx", Kind::Integer),
            ("status_5xx", Kind::Integer),
        ];
        let rows = rollups.iter().map(|rollup| {
            let [status_2xx, status_3xx, status_4xx, status_5xx] = rollup.sums.statuses;
            [
                rollup.tenant.0.value(),
                rollup.period.as_str().value(),
                rollup.start.value(),
                rollup.resource.as_str().value(),
                rollup.key.map_or(Uuid::nil(), |key| key.0).value(),
                rollup.route.as_str().value(),
                sql(rollup.sums.units).value(),
                sql(rollup.sums.overage).value(),
                sql(rollup.sums.requests).value(),
                sql(rollup.sums.errors).value(),
                sql(rollup.sums.bytes_in).value(),
                sql(rollup.sums.bytes_out).value(),
                sql(rollup.sums.latency_micros).value(),
                sql(status_2xx).value(),
                sql(status_3xx).value(),
                sql(status_4xx).value(),
                sql(status_5xx).value(),
            ]
        });
        let add = "ON CONFLICT (tenant_id, period, bucket_start, resource_type, key_id, route) DO UPDATE SET
             units = usage_rollups.units + excluded.units,
             overage = usage_rollups.overage + excluded.overage,
             requests = usage_rollups.requests + excluded.requests,
             errors = usage_rollups.errors + excluded.errors,
             bytes_in = usage_rollups.bytes_in + excluded.bytes_in,
             bytes_out = usage_rollups.bytes_out + excluded.bytes_out,
             latency_sum_micros = usage_rollups.latency_sum_micros + excluded.latency_sum_micros,
             status_2xx = usage_rollups.status_2xx + excluded.status_2xx,
             status_3xx = usage_rollups.status_3xx + excluded.status_3xx,
             status_4xx = usage_rollups.status_4xx + excluded.status_4xx,
             status_5xx = usage_rollups.status_5xx + excluded.status_5xx";
        Rows::of("usage_rollups", columns, rows).insert(add, self.connection()).await
    }

    async fn add_account_units(&mut self, batch: &UsageBatch) -> Result<(), StoreError> {
        let columns = [
            ("owner_kind", Kind::Text),
            ("owner_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("period", Kind::Text),
            ("window_start", Kind::Instant),
            ("window_end", Kind::Instant),
            ("till", Kind::Id),
            ("units", Kind::Integer),
            ("overage", Kind::Integer),
            ("updated_at", Kind::Instant),
        ];
        let rows = batch.accounts.iter().map(|used| {
            let AccountKey { owner, resource, window } = &used.account;
            [
                owner.kind().value(),
                owner.uuid().value(),
                resource.as_str().value(),
                window.period.as_str().value(),
                window.start.value(),
                window.end.value(),
                batch.till.value(),
                sql(used.units).value(),
                sql(used.overage).value(),
                batch.at.value(),
            ]
        });
        let add = "ON CONFLICT (owner_kind, owner_id, resource_type, period, window_start, window_end, till)
             DO UPDATE SET units = account_units.units + excluded.units,
                 overage = account_units.overage + excluded.overage, updated_at = excluded.updated_at";
        Rows::of("account_units", columns, rows).insert(add, self.connection()).await
    }

    async fn insert_parked(&mut self, batch: &UsageBatch) -> Result<(), StoreError> {
        let JournalRange { journal, shard, sequence, from, .. } = batch.range;
        let columns = [
            ("journal", Kind::Id),
            ("shard", Kind::Integer),
            ("sequence", Kind::Integer),
            ("from_offset", Kind::Integer),
            ("ordinal", Kind::Integer),
            ("request_id", Kind::Id),
            ("tenant_id", Kind::Id),
            ("till", Kind::Id),
            ("record", Kind::Text),
            ("reason", Kind::Text),
            ("parked_at", Kind::Instant),
        ];
        let rows = batch.parked.iter().map(|parked| {
            [
                journal.value(),
                shard.value(),
                sequence.value(),
                from.value(),
                sql(parked.ordinal).value(),
                parked.request.0.value(),
                parked.tenant.0.value(),
                batch.till.value(),
                parked.record.as_str().value(),
                parked.reason.as_str().value(),
                batch.at.value(),
            ]
        });
        Rows::of("usage_quarantine", columns, rows).insert("", self.connection()).await
    }
}

/// Sums are far below 2^63; one that is not would be refused by the addition that follows.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

// === impl UsageBatch ===

impl UsageBatch {
    /// The first hour that its rollups add to; `None` if they add to none.
    fn first_hour(&self) -> Option<Timestamp> {
        let hours = self.rollups.iter().filter(|rollup| rollup.period == RollupPeriod::Hour);
        hours.map(|rollup| rollup.start).min()
    }
}

// === impl UsageSums ===

impl UsageSums {
    pub fn add(&mut self, other: &UsageSums) {
        self.units = self.units.saturating_add(other.units);
        self.overage = self.overage.saturating_add(other.overage);
        self.requests += other.requests;
        self.errors += other.errors;
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.latency_micros = self.latency_micros.saturating_add(other.latency_micros);
        for (own, other) in self.statuses.iter_mut().zip(other.statuses) {
            *own += other;
        }
    }
}

// === impl JournalRange ===

impl fmt::Display for JournalRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JournalRange { journal, shard, sequence, from, to } = self;
        write!(f, "{journal}/{shard}/{sequence} [{from}, {to})")
    }
}

// === impl RollupPeriod ===

impl RollupPeriod {
    pub const ALL: [RollupPeriod; 4] =
        [RollupPeriod::Minute, RollupPeriod::Hour, RollupPeriod::Day, RollupPeriod::Month];

    pub const fn as_str(self) -> &'static str {
        match self {
            RollupPeriod::Minute => "minute",
            RollupPeriod::Hour => "hour",
            RollupPeriod::Day => "day",
            RollupPeriod::Month => "month",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        RollupPeriod::ALL.into_iter().find(|period| period.as_str() == text)
    }
}

// === impl StoreError ===

impl StoreError {
    /// What a writer that may not lose its data does about the error.
    pub fn fault(&self) -> Fault {
        match self {
            StoreError::Database(sqlx::Error::Database(error)) => {
                match error.try_downcast_ref::<PgDatabaseError>() {
                    Some(error) => Fault::of_postgres(error.code()),
                    None => Fault::of_sqlite(error.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
                }
            }
            StoreError::Database(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed,
            ) => Fault::Again,
            _ => Fault::Broken,
        }
    }
}

// === impl Fault ===

impl Fault {
    /// By the class of the SQLSTATE.
    pub(super) fn of_postgres(state: &str) -> Fault {
        match state.get(..2) {
            // Data that the columns can't hold, and constraints.
            Some("22" | "23") => Fault::Poison,
            // Names and rights that are not there, a feature that is off, a function of ours that refuses.
            Some("0A" | "0L" | "0P" | "28" | "3D" | "3F" | "42" | "P0") => Fault::Broken,
            // Lost connections, serialization, resources, a server that is stopping or can't write: these pass.
            _ => Fault::Again,
        }
    }

    /// By SQLite's primary result codes.
    fn of_sqlite(code: u32) -> Fault {
        const SQLITE_ERROR: u32 = 1;
        const SQLITE_CORRUPT: u32 = 11;
        const SQLITE_TOOBIG: u32 = 18;
        const SQLITE_CONSTRAINT: u32 = 19;
        const SQLITE_MISMATCH: u32 = 20;
        const SQLITE_NOTADB: u32 = 26;
        match code & 0xFF {
            SQLITE_TOOBIG | SQLITE_CONSTRAINT | SQLITE_MISMATCH => Fault::Poison,
            SQLITE_ERROR | SQLITE_CORRUPT | SQLITE_NOTADB => Fault::Broken,
            // Busy, locked, interrupted, no memory, disk full, I/O errors, read-only mounts: all of these pass.
            _ => Fault::Again,
        }
    }
}
