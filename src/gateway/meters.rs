//! What the gateway counts. Each worker has cells of its own and adds them to the process's metrics once per tick, so
//! that counting a request touches no memory that another core writes.

use std::cell::RefCell;
use std::time::Duration;

use super::policy::ChargeSettings;
use super::route::{Route, RouteSettings};
use super::upstream::UpstreamMetrics;
use crate::domain::Units;

use prometheus::core::Collector;
use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds. From what a gateway adds (tens of microseconds) to what a slow upstream takes.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];

/// Classes of statuses, 1xx to 5xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The gateway's metrics of the whole process.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    requests: IntCounterVec,
    refusals: IntCounterVec,
    duration: HistogramVec,
    added: HistogramVec,
    charged: IntCounterVec,
    permitted: IntCounterVec,
    denied: IntCounterVec,
    bytes: IntCounterVec,
    pub(super) upstreams: UpstreamMetrics,
    pub(super) connections: IntGauge,
    pub(super) handshake_failures: IntCounter,
    pub(super) http2_failures: IntCounter,
}

/// One worker's cells for one route.
#[derive(Debug)]
struct RouteMeters {
    answered: [LocalIntCounter; 5],
    duration: LocalHistogram,
    added: LocalHistogram,
    bytes_in: LocalIntCounter,
    bytes_out: LocalIntCounter,
    permitted: LocalIntCounter,
    /// In the order of the route's charges.
    charged: Vec<LocalIntCounter>,
}

/// What one answered request adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) duration: Duration,
    /// Time that was the upstream's and not ours.
    pub(super) upstream: Duration,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// One worker's cells for all routes, in the table's order.
#[derive(Debug, Default)]
pub(super) struct Meters {
    routes: Vec<RefCell<RouteMeters>>,
}

// === impl GatewayMetrics ===

impl GatewayMetrics {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let histograms = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            registered(registry, HistogramVec::new(options, &["route"]))
        };
        GatewayMetrics {
            requests: counters(
                "tollgate_requests_total",
                "Requests that an upstream answered, by route and class of status.",
                &["route", "status_class"],
            ),
            refusals: counters(
                "tollgate_refusals_total",
                "Requests that the gateway answered itself, by route (empty before one was found) and reason.",
                &["route", "reason", "status"],
            ),
            duration: histograms(
                "tollgate_request_duration_seconds",
                "Time from a request's head to its answer's end.",
            ),
            added: histograms(
                "tollgate_added_duration_seconds",
                "The part of a request's time that was not spent waiting for the upstream's first byte.",
            ),
            charged: counters(
                "tollgate_charged_units_total",
                "Units taken by admitted requests, before refunds, by route and resource.",
                &["route", "resource"],
            ),
            permitted: counters(
                "tollgate_permissions_total",
                "Requests of which other proxies were told that they may pass, by route.",
                &["route"],
            ),
            denied: counters(
                "tollgate_denied_requests_total",
                "Requests denied for want of units, by route and resource.",
                &["route", "resource"],
            ),
            bytes: counters(
                "tollgate_body_bytes_total",
                "Bytes of bodies, by route and direction (in: from the client).",
                &["route", "direction"],
            ),
            upstreams: UpstreamMetrics::register(registry),
            connections: registered(
                registry,
                IntGauge::new("tollgate_connections", "Open connections of clients."),
            ),
            handshake_failures: registered(
                registry,
                IntCounter::new(
                    "tollgate_handshake_failures_total",
                    "Connections of clients that ended before their first request could follow: no TLS came about, or no PROXY protocol.",
                ),
            ),
            http2_failures: registered(
                registry,
                IntCounter::new(
                    "tollgate_http2_failures_total",
                    "HTTP/2 connections of clients that were broken off: by them, or for what they sent.",
                ),
            ),
        }
    }

    fn route(&self, settings: &RouteSettings) -> RouteMeters {
        let route = settings.name.as_str();
        RouteMeters {
            answered: CLASSES.map(|class| self.requests.with_label_values(&[route, class]).local()),
            duration: self.duration.with_label_values(&[route]).local(),
            added: self.added.with_label_values(&[route]).local(),
            bytes_in: self.bytes.with_label_values(&[route, "in"]).local(),
            bytes_out: self.bytes.with_label_values(&[route, "out"]).local(),
            permitted: self.permitted.with_label_values(&[route]).local(),
            charged: settings
                .charges
                .iter()
                .map(|charge| self.charged.with_label_values(&[route, charge.resource.as_str()]).local())
                .collect(),
        }
    }

    /// Refusals are rarer than answers, and counted where they happen.
    pub(super) fn refused(&self, route: &str, reason: &str, status: u16) {
        let mut digits = itoa::Buffer::new();
        self.refusals.with_label_values(&[route, reason, digits.format(status)]).inc();
    }

    pub(super) fn denied(&self, route: &str, resource: &str) {
        self.denied.with_label_values(&[route, resource]).inc();
    }
}

/// # Panics
/// If the registry has a metric of that name already.
pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names and labels of metrics are literals");
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

// === impl RouteMeters ===

impl RouteMeters {
    fn answered(&mut self, answered: Answered) {
        let class = usize::from(answered.status / 100).clamp(1, CLASSES.len()) - 1;
        self.answered[class].inc();
        self.duration.observe(answered.duration.as_secs_f64());
        self.added.observe(answered.duration.saturating_sub(answered.upstream).as_secs_f64());
        self.bytes_in.inc_by(answered.bytes_in);
        self.bytes_out.inc_by(answered.bytes_out);
    }

    fn flush(&mut self) {
        self.answered.iter_mut().for_each(|counter| counter.flush());
        self.duration.flush();
        self.added.flush();
        self.bytes_in.flush();
        self.bytes_out.flush();
        self.permitted.flush();
        self.charged.iter_mut().for_each(|counter| counter.flush());
    }
}

// === impl Meters ===

impl Meters {
    pub(super) fn new(routes: &[Route], metrics: &GatewayMetrics) -> Self {
        Meters { routes: routes.iter().map(|route| RefCell::new(metrics.route(&route.settings))).collect() }
    }

    pub(super) fn answered(&self, route: usize, answered: Answered) {
        self.routes[route].borrow_mut().answered(answered);
    }

    pub(super) fn permitted(&self, route: usize) {
        self.routes[route].borrow_mut().permitted.inc();
    }

    /// The tenant's units that the route's charges take, each resource once however many quotas it has.
    pub(super) fn charged(
        &self,
        route: usize,
        charges: &[ChargeSettings],
        units: impl Fn(&ChargeSettings) -> Units,
    ) {
        let mut meters = self.routes[route].borrow_mut();
        for (counter, charge) in meters.charged.iter_mut().zip(charges) {
            counter.inc_by(units(charge).get());
        }
    }

    pub(super) fn flush(&self) {
        for route in &self.routes {
            route.borrow_mut().flush();
        }
    }
}
