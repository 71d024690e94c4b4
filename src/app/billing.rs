//! What is due, looked for again and again: subscriptions, tiers that are to change, invoices, graces that are over.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};

use crate::clock::Clock;
use crate::control::{BillingKept, Control};
use crate::telemetry::log::with_causes;

/// Has what is due done.
pub(super) struct BillingKeeper {
    control: Control,
    clock: Arc<dyn Clock>,
    finalized: IntCounter,
    changed: IntCounter,
    exported: IntCounter,
    kept_at: IntGauge,
}

/// Tiers change within so long after they are to; invoices wait for their grace anyway.
const INTERVAL: Duration = Duration::from_secs(60);

impl BillingKeeper {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(super) fn register(registry: &Registry, control: Control, clock: Arc<dyn Clock>) -> BillingKeeper {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a literal name");
            registry.register(Box::new(counter.clone())).expect("registered once");
            counter
        };
        let kept_at = IntGauge::new(
            "tollgate_billing_timestamp_seconds",
            "When this gateway last saw to it that nothing is due, in seconds since 1970; 0 before the first time.",
        );
        let kept_at = kept_at.expect("a literal name");
        registry.register(Box::new(kept_at.clone())).expect("registered once");
        BillingKeeper {
            control,
            clock,
            finalized: counter("tollgate_invoices_finalized_total", "Invoices that this gateway finalized."),
            changed: counter(
                "tollgate_scheduled_tier_changes_total",
                "Changes of tier that this gateway made because they were due.",
            ),
            exported: counter(
                "tollgate_invoices_exported_total",
                "Invoices of which this gateway saw that everything has reached its collector.",
            ),
            kept_at,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        loop {
            match self.control.keep_billing().await {
                Ok(kept) => self.count(kept),
                Err(error) => tracing::warn!("what is due can't be billed: {}", with_causes(&error)),
            }
            if let Err(error) = self.control.end_graces().await {
                tracing::warn!("whose grace is over can't be looked for: {}", with_causes(&error));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn count(&self, BillingKept { begun, changed, finalized, exported }: BillingKept) {
        self.kept_at.set(self.clock.now().seconds());
        self.finalized.inc_by(finalized);
        self.changed.inc_by(changed);
        self.exported.inc_by(exported);
        if begun + changed + finalized + exported > 0 {
            tracing::info!(
                begun,
                changed,
                finalized,
                exported,
                "billing: {begun} subscriptions begun, {changed} tiers changed, {finalized} invoices finalized, \
                 {exported} exported"
            );
        }
    }
}
