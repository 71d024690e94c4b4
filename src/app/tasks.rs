//! What goes on beside the requests.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use tokio::time::{MissedTickBehavior, interval};

use crate::authority::Embedded;
use crate::clock::{Clock, Monotonic};
use crate::journal::{Journal, SyncPolicy};
use crate::store::{Partitions, Store};
use crate::telemetry::readiness::Readiness;
use crate::till::Till;

/// How often slots of ended windows are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How often partitions of the usage log are looked at: months are made two ahead.
const PARTITIONS: Duration = Duration::from_secs(3_600);

/// Segments and pages are made ready this often, before workers need them.
const JOURNAL_TICK: Duration = Duration::from_millis(50);

/// Makes the store's partitions ahead and drops old ones.
pub(super) struct PartitionKeeper {
    store: Store,
    clock: Arc<dyn Clock>,
    stray_rows: IntGauge,
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

/// Prepares and syncs the journal on a thread of its own, which may wait for the disk; ends when `stop` is closed.
pub(super) fn keep_journal(journal: &Journal, clock: &dyn Clock, readiness: &Readiness, stop: &Receiver<()>) {
    let every = match journal.settings().sync {
        SyncPolicy::Every(interval) => Some(interval),
        SyncPolicy::Always => Some(JOURNAL_TICK),
        SyncPolicy::Never => None,
    };
    let tick = every.unwrap_or(JOURNAL_TICK).clamp(Duration::from_millis(1), JOURNAL_TICK);
    let mut synced_at = Monotonic::default();
    let mut is_failing = false;
    while stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let prepared = journal.prepare();
        let now = clock.monotonic();
        let due = every.is_some_and(|every| now.since(synced_at) >= every);
        let kept = if due {
            synced_at = now;
            prepared.and_then(|()| journal.sync())
        } else {
            prepared
        };
        match kept {
            Ok(()) if is_failing && !journal.is_damaged() => {
                is_failing = false;
                readiness.ready("journal");
            }
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(error = %error, "the journal can't be kept: {error}");
                readiness.unready("journal", error.to_string());
            }
            Ok(()) | Err(_) => {}
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

    /// Once, and forgets grants of ended windows. An error is told and left to the next attempt: months are made long before they begin.
    pub(super) async fn keep(&self) {
        match self.store.keep_partitions(self.clock.now()).await {
            Ok(partitions) => self.tell(partitions),
            Err(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::error!(error = %cause, "partitions of the usage log can't be kept: {error}: {cause}");
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
