//! What goes on beside the requests.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::authority::Embedded;
use crate::clock::{Clock, Monotonic};
use crate::journal::{Journal, SyncPolicy};
use crate::telemetry::readiness::Readiness;
use crate::till::Till;

/// How often slots of ended windows are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Segments and pages are made ready this often, before workers need them.
const JOURNAL_TICK: Duration = Duration::from_millis(50);

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
