//! One range of a journal, in one transaction, once.

use std::fmt;

use sqlx::QueryBuilder;
use sqlx::sqlite::Sqlite;
use uuid::Uuid;

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
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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

/// SQLite takes 32,766 values in a statement; no row here has more than 16.
const ROWS_MAX: usize = 2_000;

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
        let mut tx = self.begin().await?;
        let inserted = tx.insert_usage(batch).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Whether the database would take the batch. Changes nothing.
    ///
    /// # Errors
    /// The [`StoreError`] that inserting it would give.
    pub async fn try_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.insert_usage(batch).await?;
        tx.rollback().await
    }

    /// Forgets ranges that were committed before `before`, and answers how many: none of them must be sent again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_batches(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let forget = sqlx::query("DELETE FROM usage_batches WHERE committed_at < $1").bind(before);
        let forgotten = forget.execute(tx.connection()).await?.rows_affected();
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
        for logs in batch.logs.chunks(ROWS_MAX) {
            self.insert_logs(batch, logs).await?;
        }
        for rollups in batch.rollups.chunks(ROWS_MAX) {
            self.add_rollups(rollups).await?;
        }
        for accounts in batch.accounts.chunks(ROWS_MAX) {
            self.add_account_units(batch, accounts).await?;
        }
        for parked in batch.parked.chunks(ROWS_MAX) {
            self.insert_parked(batch, parked).await?;
        }
        Ok(Inserted::Now)
    }

    async fn claim_range(&mut self, batch: &UsageBatch) -> Result<bool, StoreError> {
        let JournalRange { journal, shard, sequence, from, to } = batch.range;
        let claimed = sqlx::query(
            "INSERT INTO usage_batches (journal, shard, sequence, from_offset, to_offset, batch_id, till, records,
                 units, checksum, committed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
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
        .fetch_optional(self.connection())
        .await?;
        Ok(claimed.is_some())
    }

    /// The range is there already: it must be the same one.
    async fn compare_range(&mut self, batch: &UsageBatch) -> Result<(), StoreError> {
        let JournalRange { journal, shard, sequence, from, to } = batch.range;
        let row = sqlx::query(
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

    async fn insert_logs(&mut self, batch: &UsageBatch, logs: &[UsageLog]) -> Result<(), StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO tenant_usage_logs (tenant_id, usage_date, log_id, resource_type, usage_amount,
                 overage_amount, key_id, route, outcome, requests, errors, bytes_in, bytes_out,
                 latency_sum_micros, batch_id) ",
        );
        query.push_values(logs, |mut row, log| {
            row.push_bind(log.tenant.0)
                .push_bind(log.date)
                .push_bind(log.id)
                .push_bind(log.resource.as_str())
                .push_bind(sql(log.sums.units))
                .push_bind(sql(log.sums.overage))
                .push_bind(log.key.map(|key| key.0))
                .push_bind(log.route.as_str())
                .push_bind(log.outcome.as_str())
                .push_bind(sql(log.sums.requests))
                .push_bind(sql(log.sums.errors))
                .push_bind(sql(log.sums.bytes_in))
                .push_bind(sql(log.sums.bytes_out))
                .push_bind(sql(log.sums.latency_micros))
                .push_bind(batch.id);
        });
        self.execute(query).await
    }

    async fn add_rollups(&mut self, rollups: &[Rollup]) -> Result<(), StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO usage_rollups (tenant_id, period, bucket_start, resource_type, key_id, route, units,
                 overage, requests, errors, bytes_in, bytes_out, latency_sum_micros) ",
        );
        query.push_values(rollups, |mut row, rollup| {
            row.push_bind(rollup.tenant.0)
                .push_bind(rollup.period.as_str())
                .push_bind(rollup.start)
                .push_bind(rollup.resource.as_str())
                .push_bind(rollup.key.map_or(Uuid::nil(), |key| key.0))
                .push_bind(rollup.route.as_str())
                .push_bind(sql(rollup.sums.units))
                .push_bind(sql(rollup.sums.overage))
                .push_bind(sql(rollup.sums.requests))
                .push_bind(sql(rollup.sums.errors))
                .push_bind(sql(rollup.sums.bytes_in))
                .push_bind(sql(rollup.sums.bytes_out))
                .push_bind(sql(rollup.sums.latency_micros));
        });
        query.push(
            " ON CONFLICT (tenant_id, period, bucket_start, resource_type, key_id, route) DO UPDATE SET
                 units = usage_rollups.units + excluded.units,
                 overage = usage_rollups.overage + excluded.overage,
                 requests = usage_rollups.requests + excluded.requests,
                 errors = usage_rollups.errors + excluded.errors,
                 bytes_in = usage_rollups.bytes_in + excluded.bytes_in,
                 bytes_out = usage_rollups.bytes_out + excluded.bytes_out,
                 latency_sum_micros = usage_rollups.latency_sum_micros + excluded.latency_sum_micros",
        );
        self.execute(query).await
    }

    async fn add_account_units(
        &mut self,
        batch: &UsageBatch,
        accounts: &[AccountUse],
    ) -> Result<(), StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO account_units (owner_kind, owner_id, resource_type, period, window_start, window_end,
                 till, units, overage, updated_at) ",
        );
        query.push_values(accounts, |mut row, used| {
            let AccountKey { owner, resource, window } = &used.account;
            row.push_bind(owner.kind())
                .push_bind(owner.uuid())
                .push_bind(resource.as_str())
                .push_bind(window.period.as_str())
                .push_bind(window.start)
                .push_bind(window.end)
                .push_bind(batch.till)
                .push_bind(sql(used.units))
                .push_bind(sql(used.overage))
                .push_bind(batch.at);
        });
        query.push(
            " ON CONFLICT (owner_kind, owner_id, resource_type, period, window_start, window_end, till)
             DO UPDATE SET units = account_units.units + excluded.units,
                 overage = account_units.overage + excluded.overage, updated_at = excluded.updated_at",
        );
        self.execute(query).await
    }

    async fn insert_parked(&mut self, batch: &UsageBatch, parked: &[ParkedRecord]) -> Result<(), StoreError> {
        let JournalRange { journal, shard, sequence, from, .. } = batch.range;
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO usage_quarantine (journal, shard, sequence, from_offset, ordinal, request_id, tenant_id,
                 till, record, reason, parked_at) ",
        );
        query.push_values(parked, |mut row, parked| {
            row.push_bind(journal)
                .push_bind(i64::from(shard))
                .push_bind(i64::from(sequence))
                .push_bind(i64::from(from))
                .push_bind(sql(parked.ordinal))
                .push_bind(parked.request.0)
                .push_bind(parked.tenant.0)
                .push_bind(batch.till)
                .push_bind(parked.record.as_str())
                .push_bind(parked.reason.as_str())
                .push_bind(batch.at);
        });
        self.execute(query).await
    }

    async fn execute(&mut self, mut query: QueryBuilder<Sqlite>) -> Result<(), StoreError> {
        // Batches differ in their number of rows, so keeping the statement prepared would not pay.
        query.build().persistent(false).execute(self.connection()).await?;
        Ok(())
    }
}

/// Sums are far below 2^63; one that is not would be refused by the addition that follows.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
}

// === impl StoreError ===

impl StoreError {
    /// What a writer that may not lose its data does about the error.
    pub fn fault(&self) -> Fault {
        match self {
            StoreError::Database(sqlx::Error::Database(error)) => {
                Fault::of_sqlite(error.code().and_then(|code| code.parse().ok()).unwrap_or(0))
            }
            StoreError::Database(
                sqlx::Error::Io(_)
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
