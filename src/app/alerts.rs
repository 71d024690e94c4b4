//! What tenants are told of, looked for again and again.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::clock::{Clock, Timestamp};
use crate::control::Control;
use crate::domain::{Alert, AlertKind};
use crate::store::Store;
use crate::telemetry::log::with_causes;

/// Has the watch look, and forgets what is old.
pub(super) struct AlertKeeper {
    control: Control,
    store: Store,
    clock: Arc<dyn Clock>,
    interval: Duration,
    told: IntCounterVec,
    looked_at: IntGauge,
}

/// Alerts are kept so long, and deliveries that have ended.
const ALERTS_KEPT: Duration = Duration::from_secs(400 * 86_400);
const DELIVERIES_KEPT: Duration = Duration::from_secs(90 * 86_400);
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);

impl AlertKeeper {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(super) fn register(
        registry: &Registry,
        control: Control,
        store: Store,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> AlertKeeper {
        let told =
            Opts::new("tollgate_alerts_total", "Alerts that this gateway wrote down, by kind and severity.");
        let told = IntCounterVec::new(told, &["kind", "severity"]).expect("a literal name");
        let looked_at = IntGauge::new(
            "tollgate_alerts_looked_timestamp_seconds",
            "When this gateway last saw to it that somebody looks for what tenants are to be told of, in seconds since \
             1970; 0 before the first time.",
        );
        let looked_at = looked_at.expect("a literal name");
        registry.register(Box::new(told.clone())).expect("registered once");
        registry.register(Box::new(looked_at.clone())).expect("registered once");
        for kind in AlertKind::ALL.into_iter().filter(|kind| kind.is_watched()) {
            told.with_label_values(&[kind.as_str(), "warning"]);
        }
        AlertKeeper { control, store, clock, interval, told, looked_at }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut forgotten_at = Timestamp::default();
        loop {
            tokio::time::sleep(self.interval).await;
            match self.control.watch().await {
                Ok(told) => {
                    self.looked_at.set(self.clock.now().seconds());
                    told.iter().for_each(|alert| self.count(alert));
                }
                Err(error) => {
                    tracing::warn!(
                        "what tenants are to be told of can't be looked for: {}",
                        with_causes(&error)
                    );
                }
            }
            if self.clock.now().since(forgotten_at) >= FORGET_INTERVAL {
                forgotten_at = self.clock.now();
                self.forget().await;
            }
        }
    }

    fn count(&self, alert: &Alert) {
        let Alert { id, tenant, kind, severity, summary, .. } = alert;
        self.told.with_label_values(&[kind.as_str(), severity.as_str()]).inc();
        tracing::info!(tenant.id = %tenant, alert.id = %id, alert.kind = kind.as_str(), "alert: {summary}");
    }

    async fn forget(&self) {
        let now = self.clock.now();
        let forgotten = self.store.forget_alerts(now.minus(ALERTS_KEPT), now.minus(DELIVERIES_KEPT)).await;
        if let Err(error) = forgotten {
            tracing::warn!("old alerts can't be forgotten: {}", with_causes(&error));
        }
    }
}
