//! From the journal to the database, exactly once.
//!
//! Takes a range of records, folds it, and adds it to the store in one transaction that holds the range itself: a
//! range that is there already is not added again. The range is written to the cursor before it is sent, so that a
//! crash, a lost connection or a dropped future ends in sending the very same range once more. After the commit the
//! cursor moves, the till is told, and segments that are done with are removed, in that order.
//!
//! Knows the journal, the till and the store; no gateway and no control.
//!
//! # Why errors don't lose or repeat anything
//! What may pass (connections, locks, full disks) is tried again for ever, the journal keeps what is pending. A
//! record that the database will never take is found by halving the range and parked in `usage_quarantine`, so
//! that the records behind it go on. A range that the database knows with another end would be a fault of this
//! program: the flush stops, and nothing is guessed.

mod fold;
mod meters;
mod recover;
mod tally;
mod used;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use uuid::{NoContext, Uuid};

use self::fold::Fold;
use self::meters::Meters;
use self::used::KeysUsed;
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::domain::ApiKeyId;
use crate::journal::{Cut, Journal, JournalError};
use crate::store::{Fault, Inserted, JournalRange, Store, StoreError, UsageBatch};
use crate::telemetry::log::with_causes;
use crate::till::Till;

pub use self::recover::{Balanced, recover};

/// How many rows a request makes in the usage log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detail {
    /// One per tenant, key, resource, route, outcome and ten seconds.
    #[default]
    Aggregate,
    /// One per request and resource.
    Request,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushSettings {
    /// Between two rounds. Ten times as long where rounds have much to write: see [`FlushSettings::pause`].
    pub interval: Duration,
    /// Bytes of records in one transaction, about.
    pub batch_bytes: u32,
    /// The same while much more than that is pending, unless each request has rows of its own. Most of what a
    /// transaction costs are its rows, and sixteen times the records make hardly more of them.
    pub catch_up_bytes: u32,
    pub detail: Detail,
}

/// The one flusher of a gateway.
pub struct Flush {
    journal: Arc<Journal>,
    till: Arc<Till>,
    store: Store,
    clock: Arc<dyn Clock>,
    settings: FlushSettings,
    /// Held from taking a range to having moved the cursor past it, on whatever thread that goes on.
    turn: Arc<Mutex<()>>,
    meters: Meters,
    used: KeysUsed,
}

/// Why a range was not flushed. It will be sent again, as it is.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A range and what it comes to.
struct Taken {
    cut: Cut,
    fold: Fold,
}

type Turn = OwnedMutexGuard<()>;

/// The pause after the first failure; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// So many times as long as it worked, the flush rests; but no longer than so many times its interval: with the usual one
/// of a second, until the log begins another row for the same key.
const PAUSE_PER_WORK: u32 = 9;
const PAUSE_MAX: u32 = 10;

/// How long the database remembers ranges. Longer than anyone would run a gateway on a data directory that was
/// restored from a backup, whose cursor has forgotten them.
const BATCHES_KEPT: Duration = Duration::from_secs(35 * 86_400);
/// How often the database is asked to forget older ones.
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);

// === impl FlushSettings ===

impl Default for FlushSettings {
    fn default() -> Self {
        FlushSettings {
            interval: Duration::from_secs(1),
            // 8,000 requests: some 50 ms of folding and inserting, so that nobody else waits long for SQLite's writer.
            batch_bytes: 1 << 20,
            catch_up_bytes: 16 << 20,
            detail: Detail::Aggregate,
        }
    }
}

impl FlushSettings {
    /// The pause after a round that took so long. What a round writes are rows, one for each key that was used since
    /// the last; where many keys are used now and then, later rounds write hardly more of them for many more records. So
    /// the flush works a tenth of the time at most, as long as that is not too late.
    fn pause(&self, took: Duration) -> Duration {
        match self.detail {
            Detail::Request => self.interval,
            Detail::Aggregate => (took * PAUSE_PER_WORK).clamp(self.interval, self.interval * PAUSE_MAX),
        }
    }

    /// How long the next range may be when so much is pending in so many shards.
    fn range_bytes(&self, pending: u64, shards: usize) -> u32 {
        match self.detail {
            Detail::Request => self.batch_bytes,
            // A share at most, so that shards still take turns.
            Detail::Aggregate => {
                let share = u32::try_from(pending / shards.max(1) as u64).unwrap_or(u32::MAX);
                share.clamp(self.batch_bytes, self.catch_up_bytes.max(self.batch_bytes))
            }
        }
    }
}

// === impl Flush ===

impl Flush {
    pub fn new(
        journal: Arc<Journal>,
        till: Arc<Till>,
        store: Store,
        clock: Arc<dyn Clock>,
        settings: FlushSettings,
    ) -> Flush {
        let meters = Meters::begun_at(clock.monotonic());
        let (turn, used) = (Arc::default(), KeysUsed::default());
        Flush { journal, till, store, clock, settings, turn, meters, used }
    }

    /// Flushes for ever: a round, a pause, a round.
    ///
    /// May be dropped at any point; what was under way is sent again by the next [`Flush::run`] or
    /// [`Flush::drain`], of this process or a later one.
    pub async fn run(&self) {
        let mut failures = 0;
        let mut forgotten_at = Monotonic::default();
        loop {
            let began = self.clock.monotonic();
            let pause = match self.round().await {
                Ok(()) => {
                    let took = self.clock.monotonic().since(began);
                    self.note_success(failures);
                    failures = 0;
                    self.forget_batches(&mut forgotten_at).await;
                    self.write_keys_used(&self.used.due(self.clock.monotonic())).await;
                    self.settings.pause(took)
                }
                Err(error) => {
                    failures += 1;
                    self.note_failure(&error, failures);
                    if error.is_final() {
                        return std::future::pending().await;
                    }
                    self.backoff(failures)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Flushes all that is published, for the end of the process. Answers whether that was done within `patience`;
    /// what is left is flushed after the next start. Errors are tried again as long as there is patience.
    ///
    /// Cancel safe like [`Flush::run`].
    pub async fn drain(&self, patience: Duration) -> bool {
        let is_done = tokio::time::timeout(patience, self.drain_all()).await.unwrap_or(false);
        if is_done {
            let used = self.used.rest();
            let _ = tokio::time::timeout(patience, self.write_keys_used(&used)).await;
        }
        is_done
    }

    async fn drain_all(&self) -> bool {
        let mut failures = 0;
        loop {
            match self.flush_next().await {
                Ok(None) => return true,
                Ok(Some(_)) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.note_failure(&error, failures);
                    if error.is_final() {
                        return false;
                    }
                    tokio::time::sleep(self.backoff(failures)).await;
                }
            }
        }
    }

    /// Brings to the database all that was published when the round began.
    async fn round(&self) -> Result<(), FlushError> {
        let began = self.clock.monotonic();
        // A range that is not full reaches to its shard's tail, and shards take turns. So this many of them in a
        // row have emptied every shard; what came meanwhile is the next round's, in larger ranges.
        let mut short = 0;
        while short < self.journal.shards() {
            match self.flush_next().await? {
                None => break,
                Some(bytes) if bytes < self.settings.batch_bytes / 2 => short += 1,
                Some(_) => short = 0,
            }
        }
        self.meters.complete(began);
        Ok(())
    }

    /// One range; answers its length in bytes, or `None` if there is nothing.
    async fn flush_next(&self) -> Result<Option<u32>, FlushError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (journal, settings) = (Arc::clone(&self.journal), self.settings);
        let (turn, taken) = blocking(turn, move || take(&journal, &settings)).await;
        let Some(Taken { cut, fold }) = taken? else { return Ok(None) };
        self.note_damage(&cut, &fold);
        self.insert(&cut, &fold).await?;
        self.used.note(fold.keys_used());
        self.meters.add_batch(fold.records());
        let (journal, till) = (Arc::clone(&self.journal), Arc::clone(&self.till));
        let (_turn, settled) = blocking(turn, move || settle(&journal, &till, cut, &fold)).await;
        settled?;
        Ok(Some(cut.to - cut.from))
    }

    async fn insert(&self, cut: &Cut, fold: &Fold) -> Result<(), FlushError> {
        let batch = self.batch(cut, fold);
        match self.store.insert_usage(&batch).await {
            Ok(Inserted::Now) => Ok(()),
            Ok(Inserted::Before) => {
                tracing::info!(range = %batch.range, "the range {} had reached the database already", batch.range);
                Ok(())
            }
            Err(error) if error.fault() == Fault::Poison => self.insert_without_poison(cut, &error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Parks the records that the database refuses, and inserts the others.
    async fn insert_without_poison(&self, cut: &Cut, first: &StoreError) -> Result<(), FlushError> {
        let poison = self.find_poison(cut).await?;
        let mut fold = Fold::of(&self.journal, cut, self.settings.detail, |at| !poison.contains(&at))?;
        fold.park(&self.journal, cut, &poison, &with_causes(first))?;
        self.store.insert_usage(&self.batch(cut, &fold)).await?;
        self.meters.add_quarantined(poison.len());
        tracing::error!(
            shard = cut.shard,
            segment = cut.sequence,
            records = poison.len(),
            error = %with_causes(first),
            "the database refuses {} records; they are in usage_quarantine",
            poison.len(),
        );
        Ok(())
    }

    /// Which records the database refuses by themselves: halves the range until it is found in single ones.
    async fn find_poison(&self, cut: &Cut) -> Result<Vec<u64>, FlushError> {
        let all = Fold::of(&self.journal, cut, self.settings.detail, |_| true)?;
        let mut suspects: Vec<_> = std::iter::once(0..all.records()).collect();
        let mut poison = Vec::new();
        while let Some(range) = suspects.pop() {
            let part = Fold::of(&self.journal, cut, self.settings.detail, |at| range.contains(&at))?;
            match self.store.try_usage(&self.batch(cut, &part)).await {
                Ok(()) => {}
                Err(error) if error.fault() != Fault::Poison => return Err(error.into()),
                Err(_) if range.end - range.start == 1 => poison.push(range.start),
                Err(_) => {
                    let middle = range.start + (range.end - range.start) / 2;
                    suspects.extend([middle..range.end, range.start..middle]);
                }
            }
        }
        Ok(poison)
    }

    fn batch(&self, cut: &Cut, fold: &Fold) -> UsageBatch {
        let now = self.clock.now();
        let range = JournalRange {
            journal: self.journal.id().0,
            shard: cut.shard,
            sequence: cut.sequence,
            from: cut.from,
            to: cut.to,
        };
        fold.batch(new_id(now), range, now, || new_id(now))
    }

    async fn forget_batches(&self, forgotten_at: &mut Monotonic) {
        let now = self.clock.monotonic();
        if now.since(*forgotten_at) < FORGET_INTERVAL {
            return;
        }
        *forgotten_at = now;
        if let Err(error) = self.store.forget_batches(self.clock.now().minus(BATCHES_KEPT)).await {
            tracing::warn!(error = %with_causes(&error), "old ranges could not be forgotten: {}", with_causes(&error));
        }
    }

    /// A failure costs no more than a note: a key that is used again is written again.
    async fn write_keys_used(&self, used: &[(ApiKeyId, Timestamp)]) {
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.set_keys_used(used).await {
            let error = with_causes(&error);
            tracing::warn!(error, "when {} keys were last used could not be written", used.len());
        }
    }

    /// Doubles from failure to failure. Where in the upper half of it, depends on who waits, so that gateways that
    /// lost the same database don't come back all at once.
    fn backoff(&self, failures: u32) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << failures.clamp(1, 16).saturating_sub(1)).min(BACKOFF_MAX);
        let (node, _) = self.till.id().0.as_u64_pair();
        let scattered = (node ^ u64::from(failures)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        let part = u32::try_from(scattered).unwrap_or(0);
        full / 2 + full / 2 * part / 1_024
    }

    fn note_success(&self, failures: u32) {
        if failures > 0 {
            tracing::info!(failures, "the flush goes on after {failures} failures");
        }
    }

    fn note_failure(&self, error: &FlushError, failures: u32) {
        self.meters.add_failure();
        let what = with_causes(error);
        if error.is_final() {
            self.meters.stop();
            tracing::error!(error = %what, "the flush stops, the journal keeps everything: {what}");
        } else if failures == 1 {
            tracing::warn!(error = %what, "the flush failed and tries again: {what}");
        }
    }

    fn note_damage(&self, cut: &Cut, fold: &Fold) {
        let bytes = fold.damaged_bytes();
        if bytes == 0 {
            return;
        }
        self.meters.add_damaged(bytes);
        let (shard, segment) = (cut.shard, cut.sequence);
        tracing::error!(shard, segment, bytes, "{bytes} bytes of the journal are damaged: records are lost");
    }

    // --- meters ---

    /// Ranges that the database has taken since the start.
    pub fn batches(&self) -> u64 {
        self.meters.batches()
    }

    /// Records in them.
    pub fn records(&self) -> u64 {
        self.meters.records()
    }

    /// Attempts that failed.
    pub fn failures(&self) -> u64 {
        self.meters.failures()
    }

    /// Records that the database refused.
    pub fn quarantined(&self) -> u64 {
        self.meters.quarantined()
    }

    /// Bytes of ranges that verified as no record.
    pub fn damaged_bytes(&self) -> u64 {
        self.meters.damaged_bytes()
    }

    /// How old the database's knowledge is: it has everything that was published before so long ago.
    pub fn lag(&self) -> Duration {
        self.meters.lag(self.clock.monotonic())
    }

    /// Whether the flush has given up, see [`StoreError::RangeDiffers`]: an operator has to look.
    pub fn has_stopped(&self) -> bool {
        self.meters.has_stopped()
    }
}

/// Runs `job` where it may block, holding the turn until it is done even if nobody waits for it any more.
async fn blocking<T: Send + 'static>(turn: Turn, job: impl FnOnce() -> T + Send + 'static) -> (Turn, T) {
    match spawn_blocking(move || (turn, job())).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The range that was begun, or else the next one, which is then begun.
fn take(journal: &Journal, settings: &FlushSettings) -> Result<Option<Taken>, FlushError> {
    let cut = match journal.unfinished_cut() {
        Some(cut) => cut,
        None => {
            let bytes = settings.range_bytes(journal.depth().pending_bytes, journal.shards());
            let Some(cut) = journal.next_cut(bytes) else { return Ok(None) };
            journal.begin_cut(cut)?;
            cut
        }
    };
    match Fold::of(journal, &cut, settings.detail, |_| true) {
        Ok(fold) => Ok(Some(Taken { cut, fold })),
        Err(gone @ JournalError::Gone(_)) => {
            tracing::error!(error = %gone, "{gone}");
            journal.finish_cut(cut, Vec::new())?;
            take(journal, settings)
        }
        Err(error) => Err(error.into()),
    }
}

/// The database has the range: moves the cursor, then tells the till.
fn settle(journal: &Journal, till: &Till, cut: Cut, fold: &Fold) -> Result<(), FlushError> {
    let journalled = if fold.till() == till.id().0 { fold.journalled(till) } else { Vec::new() };
    journal.finish_cut(cut, journalled.clone())?;
    for (account, units) in &journalled {
        till.set_journalled(account, *units);
    }
    Ok(())
}

fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.seconds()).unwrap_or_default();
    let nanos = u32::try_from(now.micros().rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

// === impl FlushError ===

impl FlushError {
    /// Whether trying again would be wrong.
    fn is_final(&self) -> bool {
        matches!(self, FlushError::Store(StoreError::RangeDiffers { .. }))
    }
}

#[cfg(test)]
mod tests;
