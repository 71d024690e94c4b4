//! Numbers of deliveries.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::clock::Timestamp;
use crate::store::{Attempt, OutboxDepth};

pub(super) struct Meters {
    attempts: IntCounterVec,
    pending: IntGauge,
    dead: IntGauge,
    oldest_seconds: IntGauge,
}

impl Meters {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(super) fn register(registry: &Registry) -> Meters {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a literal name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        let attempts = Opts::new(
            "tollgate_alert_deliveries_total",
            "Attempts of this gateway to deliver an alert, by what they came to: delivered, failed (there will be \
             another) or dead.",
        );
        let attempts = IntCounterVec::new(attempts, &["outcome"]).expect("a literal name");
        registry.register(Box::new(attempts.clone())).expect("registered once");
        for outcome in ["delivered", "failed", "dead"] {
            attempts.with_label_values(&[outcome]);
        }
        Meters {
            attempts,
            pending: gauge("tollgate_outbox_pending", "Deliveries of alerts that wait, of the whole fleet."),
            dead: gauge("tollgate_outbox_dead", "Deliveries that were given up and not sent again since."),
            oldest_seconds: gauge(
                "tollgate_outbox_oldest_seconds",
                "Age of the oldest delivery that waits; 0 if none does.",
            ),
        }
    }

    pub(super) fn count(&self, attempt: &Attempt) {
        self.attempts.with_label_values(&[attempt.as_str()]).inc();
    }

    pub(super) fn set_depth(&self, depth: OutboxDepth, now: Timestamp) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.pending.set(number(depth.pending));
        self.dead.set(number(depth.dead));
        self.oldest_seconds.set(number(depth.age(now).as_secs()));
    }
}
