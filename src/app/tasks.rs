//! What goes on beside the requests.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::time::{MissedTickBehavior, interval};

use crate::authority::Embedded;
use crate::clock::{Clock, Monotonic};
use crate::config::AuditConfig;
use crate::control::{Books, Control, ControlError, Counting, Taken};
use crate::journal::{Journal, JournalError, OnFull, Pressure, SyncPolicy};
use crate::store::{Partitions, RollupPeriod, Store};
use crate::telemetry::readiness::Readiness;
use crate::till::Till;

/// How often slots of ended windows are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How often partitions of the usage log are looked at: months are made two ahead.
const PARTITIONS: Duration = Duration::from_secs(3_600);

/// Rollups that are too fine to be kept for ever, and how long they are.
const ROLLUPS_KEPT: [(RollupPeriod, Duration); 2] = [
    (RollupPeriod::Minute, Duration::from_secs(48 * 3_600)),
    (RollupPeriod::Hour, Duration::from_secs(90 * 86_400)),
];

/// The books are compared this often, if that is quick.
const COMPARED_EVERY: Duration = Duration::from_secs(5);

/// Segments and pages are made ready this often, before workers need them.
const JOURNAL_TICK: Duration = Duration::from_millis(50);

/// Makes the store's partitions ahead and drops old ones.
pub(super) struct PartitionKeeper {
    store: Store,
    clock: Arc<dyn Clock>,
    stray_rows: IntGauge,
}

/// Has the audit log attested and pruned.
#[derive(Clone)]
pub(super) struct AuditKeeper {
    control: Control,
    interval: Duration,
    readiness: Readiness,
    checkpoints: IntCounter,
    pruned: IntCounter,
    failures: IntCounter,
}

/// Compares till, journal and database again and again.
pub(super) struct BooksKeeper {
    control: Control,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    difference: IntGauge,
    accounts: IntGauge,
    quarantined: IntGauge,
    compared_at: IntGauge,
}

/// Frees what ended windows held. Runs until it is dropped.
pub(super) async fn keep_house(till: Arc<Till>, authority: Option<Arc<Embedded>>, clock: Arc<dyn Clock>) {
    let mut ticks = interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if let Some(authority) = &authority {
            authority.forget_ended(clock.now());
        }
        let freed = till.reuse_ended(clock.now());
        if freed > 0 {
            tracing::debug!(slots = freed, "slots of ended windows are free again");
        }
    }
}

/// Does for the writer of reports what workers do for theirs. Runs until it is dropped.
pub(super) async fn keep_reports(counting: Arc<Counting>) {
    let mut ticks = interval(JOURNAL_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        counting.tick();
    }
}

/// Prepares and syncs the journal on a thread of its own, which may wait for the disk; ends when `stop` is closed.
pub(super) fn keep_journal(journal: &Journal, clock: &dyn Clock, readiness: &Readiness, stop: &Receiver<()>) {
    let every = match journal.settings().sync {
        SyncPolicy::Every(interval) => Some(interval),
        // Records are synced as soon as somebody waits; this is for the rest.
        SyncPolicy::Always => Some(JOURNAL_TICK),
        SyncPolicy::Never => None,
    };
    let half = every.unwrap_or(JOURNAL_TICK).clamp(Duration::from_millis(2), JOURNAL_TICK) / 2;
    let [mut prepared_at, mut committed_at, mut lingering_at] = [Monotonic::default(); 3];
    let (mut prepared, mut synced, mut told) = (Ok(()), Ok(()), JournalStanding::Good);
    while goes_on(journal, half, stop) {
        let now = clock.monotonic();
        let is_due = |last: Monotonic| every.is_some_and(|every| now.since(last) >= every);
        if is_due(committed_at) || journal.settings().sync == SyncPolicy::Always {
            committed_at = now;
            synced = journal.commit();
        }
        // Looked at twice per interval, so that none is in flight for longer than one and not on the disk.
        if is_due(lingering_at) && synced.is_ok() {
            match journal.sync_lingering(clock.now().minus(half)) {
                Ok(true) => lingering_at = now,
                Ok(false) => {}
                Err(error) => synced = Err(error),
            }
        }
        // After the sync, which makes pages clean that the writers are in.
        if now.since(prepared_at) >= 2 * half {
            prepared_at = now;
            prepared = journal.prepare();
        }
        let standing = JournalStanding::of(journal, &prepared, &synced);
        if standing != told {
            standing.tell(readiness);
            told = standing;
        }
    }
}

// === impl BooksKeeper ===

impl BooksKeeper {
    /// # Panics
    /// If the registry has a metric of one of these names already.
    pub(super) fn register(
        registry: &Registry,
        control: Control,
        clock: Arc<dyn Clock>,
        readiness: Readiness,
    ) -> BooksKeeper {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a literal name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        BooksKeeper {
            control,
            clock,
            readiness,
            difference: gauge(
                "tollgate_reconcile_difference_units",
                "What till, journal and database differ by in the sum over accounts; should be 0.",
            ),
            accounts: gauge("tollgate_reconcile_accounts", "Accounts that were compared."),
            quarantined: gauge(
                "tollgate_reconcile_quarantined_units",
                "Units of this till's records that the database refused and that were set aside.",
            ),
            compared_at: gauge(
                "tollgate_reconcile_timestamp_seconds",
                "When the books were last compared, in seconds since 1970; 0 before the first time.",
            ),
        }
    }

    /// Runs until it is dropped. As long as the books agree it takes one part in fifty of the time at most, however much
    /// there is to read.
    pub(super) async fn run(self) {
        loop {
            let began = self.clock.monotonic();
            self.compare().await;
            let took = self.clock.monotonic().since(began);
            let agree = self.difference.get() == 0;
            let pause = if agree { COMPARED_EVERY.max(took * 50) } else { COMPARED_EVERY };
            tokio::time::sleep(pause).await;
        }
    }

    /// While the database is away there is nothing to compare with, as the age of the last comparison tells.
    async fn compare(&self) {
        let Ok(books) = self.control.compare_books().await else { return };
        let number = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
        let before = self.difference.get();
        self.difference.set(number(books.difference));
        self.accounts.set(number(books.accounts as u64));
        self.quarantined.set(number(books.quarantined_units));
        self.compared_at.set(books.as_of.seconds());
        if self.difference.get() != before {
            self.tell(&books);
        }
    }

    fn tell(&self, books: &Books) {
        let difference = books.difference;
        if difference == 0 {
            tracing::info!("till, journal and database agree again");
            return self.readiness.ready("books");
        }
        let what = format!(
            "till, journal and database differ by {difference} units in {} of {} accounts: see `tollgate reconcile`",
            books.differing.len(),
            books.accounts
        );
        tracing::error!(difference, first = ?books.differing.first(), "{what}");
        self.readiness.ready_but("books", what);
    }
}

// === impl AuditKeeper ===

impl AuditKeeper {
    /// # Panics
    /// If the registry has a metric of one of these names already.
    pub(super) fn register(
        registry: &Registry,
        control: Control,
        config: &AuditConfig,
        readiness: Readiness,
    ) -> AuditKeeper {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a literal name");
            registry.register(Box::new(counter.clone())).expect("registered once");
            counter
        };
        AuditKeeper {
            control,
            interval: config.interval,
            readiness,
            checkpoints: counter(
                "tollgate_audit_checkpoints_total",
                "Checkpoints of audit chains that this gateway signed and wrote to its file.",
            ),
            pruned: counter("tollgate_audit_pruned_rows_total", "Rows of audit logs that retention took."),
            failures: counter(
                "tollgate_audit_checkpoint_failures_total",
                "Attempts at checkpoints that failed: what happens meanwhile is attested by the next one.",
            ),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut is_told = false;
        loop {
            tokio::time::sleep(self.interval).await;
            is_told = self.told(self.control.keep_audit().await, is_told);
        }
    }

    /// What happened since the last checkpoints is attested before the gateway is gone.
    pub(super) async fn end(&self) {
        self.told(self.control.end_audit().await, false);
    }

    /// Answers whether there is a fault. A fault is told when it begins and not again.
    fn told(&self, outcome: Result<Taken, ControlError>, is_told: bool) -> bool {
        match outcome {
            Ok(Taken { checkpoints, pruned }) => {
                self.checkpoints.inc_by(checkpoints);
                self.pruned.inc_by(pruned);
                if is_told {
                    tracing::info!("the audit log is attested again");
                    self.readiness.ready("audit");
                }
                false
            }
            Err(error) => {
                self.failures.inc();
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                if !is_told {
                    tracing::error!(error = %cause, "the audit log can't be attested: {error}: {cause}");
                    self.readiness.ready_but("audit", format!("{error}: {cause}"));
                }
                true
            }
        }
    }
}

// === impl PartitionKeeper ===

impl PartitionKeeper {
    /// # Panics
    /// If the registry has a metric of this name already.
    pub(super) fn register(registry: &Registry, store: Store, clock: Arc<dyn Clock>) -> PartitionKeeper {
        let stray_rows = IntGauge::new(
            "tollgate_store_stray_usage_rows",
            "Usage rows outside all months' partitions, where retention does not reach them; should be 0.",
        );
        let stray_rows = stray_rows.expect("a literal name");
        registry.register(Box::new(stray_rows.clone())).expect("registered once");
        PartitionKeeper { store, clock, stray_rows }
    }

    /// Hour by hour, beginning in an hour. Runs until it is dropped.
    pub(super) async fn run(self) {
        loop {
            tokio::time::sleep(PARTITIONS).await;
            self.keep().await;
        }
    }

    /// Once, and forgets grants of ended windows, and reported events and fine rollups that are too old. An error is told and left to the next attempt: months are made
    /// long before they begin.
    pub(super) async fn keep(&self) {
        match self.store.keep_partitions(self.clock.now()).await {
            Ok(partitions) => self.tell(partitions),
            Err(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::error!(error = %cause, "partitions of the usage log can't be kept: {error}: {cause}");
            }
        }
        let too_old = self.clock.now().minus(Control::EVENTS_KEPT);
        if let Err(error) = self.store.forget_usage_events(too_old).await {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(error = %cause, "old reported events can't be forgotten: {error}: {cause}");
        }
        for (period, kept) in ROLLUPS_KEPT {
            if let Err(error) = self.store.forget_rollups(period, self.clock.now().minus(kept)).await {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(error = %cause, "old rollups can't be forgotten: {error}: {cause}");
            }
        }
        if let Err(error) = self.store.forget_grants(self.clock.now()).await {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(error = %cause, "grants of ended windows can't be forgotten: {error}: {cause}");
        }
    }

    fn tell(&self, Partitions { made, dropped, stray_rows }: Partitions) {
        self.stray_rows.set(stray_rows);
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions of the usage log: {made} made, {dropped} dropped");
        }
        if stray_rows > 0 {
            tracing::error!(
                rows = stray_rows,
                "{stray_rows} usage rows lie in default partitions, where retention does not reach them: move them \
                 by hand, then their months get partitions of their own"
            );
        }
    }
}

/// What an operator should know of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
enum JournalStanding {
    Good,
    /// It serves, but the database should come back, or the disk have more space.
    Pressed(String),
    /// A sync failed, and what was in that file is in no other one yet.
    Failing(String),
}

impl JournalStanding {
    fn of(
        journal: &Journal,
        prepared: &Result<(), JournalError>,
        synced: &Result<(), JournalError>,
    ) -> JournalStanding {
        let depth = journal.depth();
        if depth.suspect_files > 0 {
            // Syncs go on to fail until all is written anew, and the first one says why.
            let why = synced.as_ref().and(prepared.as_ref()).err().map(describe).unwrap_or_default();
            return JournalStanding::Failing(format!(
                "what a file holds that can't be synced is written anew: {why}"
            ));
        }
        let pressed = match (depth.pressure(), prepared) {
            (Pressure::Low, Ok(())) => return JournalStanding::Good,
            (Pressure::Half, Ok(())) => "half of its capacity waits for the database".to_owned(),
            (Pressure::High, Ok(())) => "it is nearly full of what waits for the database".to_owned(),
            (Pressure::Full, _) => match journal.settings().on_full {
                OnFull::Block => "it is full: charged requests are refused".to_owned(),
                OnFull::CountOnly => "it is full: units are counted, details are dropped".to_owned(),
            },
            (_, Err(error)) => format!("the next segment can't be made: {}", describe(error)),
        };
        JournalStanding::Pressed(pressed)
    }

    fn tell(&self, readiness: &Readiness) {
        match self {
            JournalStanding::Good => {
                tracing::info!("the journal is well again");
                readiness.ready("journal");
            }
            JournalStanding::Pressed(detail) => {
                tracing::warn!("the journal: {detail}");
                readiness.ready_but("journal", detail);
            }
            JournalStanding::Failing(detail) => {
                tracing::error!("the journal can't be kept: {detail}");
                readiness.unready("journal", detail);
            }
        }
    }
}

fn describe(error: &JournalError) -> String {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

/// Waits for the next tick, or until an answer waits for a sync. False once `stop` is closed.
fn goes_on(journal: &Journal, tick: Duration, stop: &Receiver<()>) -> bool {
    if journal.settings().sync == SyncPolicy::Always {
        journal.wait_for_commit(tick);
        return stop.try_recv() == Err(TryRecvError::Empty);
    }
    stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout)
}
