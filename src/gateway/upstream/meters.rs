//! What is counted of upstreams. What happens to each request is counted by workers; how endpoints stand is told by the
//! keeper.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::gateway::meters::registered;

/// Metrics of all upstreams.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct UpstreamMetrics {
    unreachable: IntCounterVec,
    failures: IntCounterVec,
    ejections: IntCounterVec,
    healthy: IntGaugeVec,
    checks: IntCounterVec,
    retries: IntCounterVec,
    retries_denied: IntCounterVec,
    under_way: IntGaugeVec,
    breaker_open: IntGaugeVec,
    openings: IntCounterVec,
    lookups: IntCounterVec,
}

/// Those of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct EndpointMeters {
    pub(super) unreachable: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) ejections: IntCounter,
}

/// Those of one upstream.
#[derive(Clone, Debug)]
pub(super) struct UpstreamMeters {
    pub(super) retries: IntCounter,
    pub(super) retries_denied: IntCounter,
    pub(super) under_way: IntGauge,
    pub(super) openings: IntCounter,
}

// === impl UpstreamMetrics ===

impl UpstreamMetrics {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(in crate::gateway) fn register(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let (upstream, endpoint) = (&["upstream"][..], &["upstream", "endpoint"][..]);
        UpstreamMetrics {
            unreachable: counters(
                "tollgate_upstream_connect_failures_total",
                "Attempts to connect to an endpoint of an upstream that failed.",
                endpoint,
            ),
            failures: counters(
                "tollgate_upstream_failures_total",
                "Requests that failed at an endpoint: no connection, a broken or late answer, or one of 502, 503, 504.",
                endpoint,
            ),
            ejections: counters(
                "tollgate_upstream_ejections_total",
                "How often an endpoint was ejected because requests to it failed in a row.",
                endpoint,
            ),
            healthy: gauges(
                "tollgate_upstream_endpoint_healthy",
                "Whether requests go to the endpoint (1), or it is unhealthy or ejected (0).",
                endpoint,
            ),
            checks: counters(
                "tollgate_upstream_health_checks_total",
                "Health checks by their result, passed or failed.",
                &["upstream", "endpoint", "result"],
            ),
            retries: counters(
                "tollgate_upstream_retries_total",
                "Requests that were sent again, to another endpoint where there is one.",
                upstream,
            ),
            retries_denied: counters(
                "tollgate_upstream_retries_denied_total",
                "Requests that would have been sent again if the budget of retries had allowed it.",
                upstream,
            ),
            under_way: gauges(
                "tollgate_upstream_requests_under_way",
                "Requests between their first try and their answer's end.",
                upstream,
            ),
            breaker_open: gauges(
                "tollgate_upstream_breaker_open",
                "Whether the upstream is spared because too many requests failed (1).",
                upstream,
            ),
            openings: counters(
                "tollgate_upstream_breaker_openings_total",
                "How often the breaker has opened.",
                upstream,
            ),
            lookups: counters(
                "tollgate_upstream_lookups_total",
                "Questions to DNS for the addresses of an upstream's name, by result: found or failed.",
                &["upstream", "name", "result"],
            ),
        }
    }

    pub(super) fn of_endpoint(&self, upstream: &str, endpoint: &str) -> EndpointMeters {
        let labels = [upstream, endpoint];
        EndpointMeters {
            unreachable: self.unreachable.with_label_values(&labels),
            failures: self.failures.with_label_values(&labels),
            ejections: self.ejections.with_label_values(&labels),
        }
    }

    pub(super) fn of_upstream(&self, upstream: &str) -> UpstreamMeters {
        UpstreamMeters {
            retries: self.retries.with_label_values(&[upstream]),
            retries_denied: self.retries_denied.with_label_values(&[upstream]),
            under_way: self.under_way.with_label_values(&[upstream]),
            openings: self.openings.with_label_values(&[upstream]),
        }
    }

    pub(super) fn checked(&self, upstream: &str, endpoint: &str, is_well: bool) {
        let result = if is_well { "passed" } else { "failed" };
        self.checks.with_label_values(&[upstream, endpoint, result]).inc();
    }

    pub(super) fn looked_up(&self, upstream: &str, name: &str, is_found: bool) {
        let result = if is_found { "found" } else { "failed" };
        self.lookups.with_label_values(&[upstream, name, result]).inc();
    }

    pub(super) fn stands(&self, upstream: &str, endpoint: &str, is_serving: bool) {
        self.healthy.with_label_values(&[upstream, endpoint]).set(i64::from(is_serving));
    }

    pub(super) fn breaker(&self, upstream: &str, is_open: bool) {
        self.breaker_open.with_label_values(&[upstream]).set(i64::from(is_open));
    }

    /// The endpoint is gone, and so is what was counted of it: addresses come and go without end.
    pub(super) fn forget(&self, upstream: &str, endpoint: &str) {
        let labels = [upstream, endpoint];
        // What was never counted need not be forgotten.
        let _ = self.healthy.remove_label_values(&labels);
        for counters in [&self.unreachable, &self.failures, &self.ejections] {
            let _ = counters.remove_label_values(&labels);
        }
        for result in ["passed", "failed"] {
            let _ = self.checks.remove_label_values(&[upstream, endpoint, result]);
        }
    }
}
