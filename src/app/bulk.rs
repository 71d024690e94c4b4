//! Operations over many tenants, worked off by and by.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};

use crate::clock::{Clock, Timestamp};
use crate::control::Control;
use crate::domain::BulkItemState;
use crate::store::Store;
use crate::telemetry::log::with_causes;

/// Works off what there is, one tenant at a time, and forgets what is old.
pub(super) struct BulkKeeper {
    control: Control,
    store: Store,
    clock: Arc<dyn Clock>,
    items: IntCounterVec,
}

/// How often an operation is looked for while there is none.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Operations that have ended are kept so long.
const KEPT: Duration = Duration::from_secs(90 * 86_400);
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);

impl BulkKeeper {
    /// # Panics
    /// If the registry has a metric of this name already.
    pub(super) fn register(
        registry: &Registry,
        control: Control,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> BulkKeeper {
        let items = Opts::new(
            "tollgate_bulk_items_total",
            "Tenants that this gateway came to in operations over many, by what came of it.",
        );
        let items = IntCounterVec::new(items, &["outcome"]).expect("a literal name");
        registry.register(Box::new(items.clone())).expect("registered once");
        for state in BulkItemState::ALL.into_iter().filter(|state| *state != BulkItemState::Pending) {
            items.with_label_values(&[state.as_str()]);
        }
        BulkKeeper { control, store, clock, items }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut forgotten_at = Timestamp::default();
        loop {
            let states = self.control.work_off_bulk().await.unwrap_or_else(|error| {
                tracing::warn!("operations over many tenants rest: {}", with_causes(&error));
                Vec::new()
            });
            for state in &states {
                self.items.with_label_values(&[state.as_str()]).inc();
            }
            if !states.is_empty() {
                continue;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
            if self.clock.now().since(forgotten_at) >= FORGET_INTERVAL {
                forgotten_at = self.clock.now();
                self.forget().await;
            }
        }
    }

    async fn forget(&self) {
        if let Err(error) = self.store.forget_bulk_operations(self.clock.now().minus(KEPT)).await {
            tracing::warn!("old operations over many tenants can't be forgotten: {}", with_causes(&error));
        }
    }
}
