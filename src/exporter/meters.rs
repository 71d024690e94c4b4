//! Numbers of what is brought to the collector.

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
            "tollgate_billing_events_total",
            "Attempts of this gateway to bring an hour's usage to whoever collects what is owed, by what they came to: \
             delivered, failed (there will be another) or dead.",
        );
        let attempts = IntCounterVec::new(attempts, &["outcome"]).expect("a literal name");
        registry.register(Box::new(attempts.clone())).expect("registered once");
        for outcome in ["delivered", "failed", "dead"] {
            attempts.with_label_values(&[outcome]);
        }
        Meters {
            attempts,
            pending: gauge(
                "tollgate_billing_events_pending",
                "Hours of usage that wait to be billed, of the whole fleet.",
            ),
            dead: gauge(
                "tollgate_billing_events_dead",
                "Hours of usage that could not be billed and that nobody had sent again since; should be 0.",
            ),
            oldest_seconds: gauge(
                "tollgate_billing_events_oldest_seconds",
                "For how long the oldest hour of usage waits to be billed; 0 if none does.",
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
