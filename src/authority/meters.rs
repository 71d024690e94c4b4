//! What there is to see of an authority elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};

use crate::till::supply::SupplyMeters;

/// Counted by the till's side, read at each scrape.
#[derive(Clone)]
pub struct AuthorityMeters {
    pub(super) supply: Arc<SupplyMeters>,
    latency: Histogram,
    over_admitted: IntCounter,
    learning: IntGauge,
    counters: Arc<[(IntCounter, Of)]>,
}

/// Where a number is.
type Of = fn(&SupplyMeters) -> &AtomicU64;

/// Seconds. From a server beside us to a deadline that is longer than anyone should set.
const BUCKETS: [f64; 10] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0];

/// Names, what they say, and where the numbers are.
const COUNTERS: [(&str, &str, Of); 9] = [
    ("tollgate_authority_renewals_total", "Questions about accounts that went to the authority.", |of| {
        &of.questions
    }),
    ("tollgate_authority_lost_total", "Questions that had no answer in time.", |of| &of.lost),
    ("tollgate_authority_granted_units_total", "Units that the authority granted to this till.", |of| {
        &of.granted_units
    }),
    ("tollgate_authority_returned_units_total", "Idle units that this till gave back.", |of| {
        &of.returned_units
    }),
    ("tollgate_authority_waits_total", "Requests that waited for the authority.", |of| &of.waits),
    ("tollgate_authority_recalls_total", "Recalls by other tills that concerned this one.", |of| &of.recalls),
    (
        "tollgate_authority_withheld_total",
        "Answers without a grant, because the authority was learning.",
        |of| &of.learning,
    ),
    (
        "tollgate_authority_lives_total",
        "New lives of books that were heard of, the first ones included.",
        |of| &of.lives,
    ),
    (
        "tollgate_authority_stranded_total",
        "Requests whose units other tills held and did not give back in time.",
        |of| &of.stranded,
    ),
];

// === impl AuthorityMeters ===

impl Default for AuthorityMeters {
    fn default() -> Self {
        let latency = HistogramOpts::new(
            "tollgate_authority_renewal_duration_seconds",
            "How long batches of questions to the authority took.",
        );
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a literal name");
        AuthorityMeters {
            supply: Arc::default(),
            latency: Histogram::with_opts(latency.buckets(BUCKETS.to_vec())).expect("literal options"),
            over_admitted: counter(
                "tollgate_over_admitted_units_total",
                "Units that were admitted without a grant while the authority could not be asked.",
            ),
            learning: IntGauge::new(
                "tollgate_authority_learning",
                "Books of the authority that collect claims and grant nothing yet, of 64.",
            )
            .expect("a literal name"),
            counters: COUNTERS.map(|(name, help, of)| (counter(name, help), of)).into(),
        }
    }
}

impl AuthorityMeters {
    /// Units that no grant covers were admitted.
    pub fn over_admitted(&self, units: u64) {
        self.over_admitted.inc_by(units);
    }

    /// So many books are learning.
    pub(super) fn learning(&self, books: usize) {
        self.learning.set(i64::try_from(books).unwrap_or(i64::MAX));
    }

    pub(super) fn renewed(&self, took: Duration) {
        self.latency.observe(took.as_secs_f64());
    }

    fn parts(&self) -> impl Iterator<Item = &dyn Collector> {
        let counters = self.counters.iter().map(|(counter, _)| counter as &dyn Collector);
        counters.chain([&self.latency as &dyn Collector, &self.over_admitted, &self.learning])
    }
}

impl Collector for AuthorityMeters {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (counter, of) in &*self.counters {
            // Scrapes may overlap; a counter never goes back.
            counter.inc_by(of(&self.supply).load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
        self.parts().flat_map(Collector::collect).collect()
    }
}
