//! The gateways, in plain words: whether this one serves, whether its books balance, and who else works on this store.
//!
//! A gateway knows the others only by what they bring to the store; so what `/readyz` and `/metrics` tell is told of the
//! gateway that answers.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};

use super::filters;
use super::layout::Layout;
use super::page::html;
use super::refusal::Refusal;
use super::router::Console;
use super::session::Visit;
use crate::control::{Books, ControlError, GatewaySeen};
use crate::telemetry::readiness::{Check, Readiness};

/// What the process tells of itself.
#[derive(Clone, Default)]
pub struct Process {
    pub readiness: Readiness,
    pub registry: Registry,
}

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    layout: Layout,
    is_ready: bool,
    checks: Vec<Check>,
    facts: Vec<Fact>,
    /// `None` where no gateway runs.
    books: Option<Books>,
    gateways: Vec<GatewaySeen>,
}

/// A number, and what it says.
struct Fact {
    name: &'static str,
    value: String,
}

/// In what a metric is counted.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Bytes,
    Seconds,
}

/// What of the metrics is told here: those that an operator looks at first.
const FACTS: [(&str, Unit, &str); 14] = [
    ("tollgate_requests_total", Unit::Count, "Requests since this process began"),
    ("tollgate_connections", Unit::Count, "Connections of clients now"),
    ("tollgate_till_accounts", Unit::Count, "Accounts that the till holds"),
    ("tollgate_authority_granted_units_total", Unit::Count, "Units that the authority has granted"),
    (
        "tollgate_authority_withheld_total",
        Unit::Count,
        "Times that the authority could not be asked, or refused",
    ),
    ("tollgate_journal_pending_bytes", Unit::Bytes, "In the journal, not yet in the database"),
    ("tollgate_journal_capacity_bytes", Unit::Bytes, "What the journal may hold while the database is away"),
    ("tollgate_flush_failures_total", Unit::Count, "Failed attempts to bring usage to the database"),
    (
        "tollgate_directory_staleness_seconds",
        Unit::Seconds,
        "How far what it knows of keys and tenants is behind",
    ),
    ("tollgate_outbox_dead", Unit::Count, "Alerts that could not be delivered"),
    ("tollgate_billing_events_pending", Unit::Count, "Hours of usage that wait to be billed"),
    ("tollgate_billing_events_oldest_seconds", Unit::Seconds, "For how long the oldest of them waits"),
    ("tollgate_billing_events_dead", Unit::Count, "Hours of usage that could not be billed"),
    ("tollgate_memory_resident_bytes", Unit::Bytes, "Memory in use"),
];

/// `GET /console/fleet`
pub(super) async fn show(visit: Visit, State(console): State<Console>) -> Result<Response, Refusal> {
    let gateways = visit.control.gateways(&visit.principal).await?;
    let books = match visit.control.reconcile(&visit.principal).await {
        Ok(books) => Some(books),
        Err(ControlError::Conflict(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let Process { readiness, registry } = &console.process;
    let report = readiness.report();
    html(&FleetPage {
        layout: visit.layout("Fleet"),
        is_ready: report.ready,
        checks: report.checks,
        facts: facts(&registry.gather()),
        books,
        gateways,
    })
}

/// Those that there are: what is not configured has no metrics.
fn facts(families: &[MetricFamily]) -> Vec<Fact> {
    let told = |&(metric, unit, name): &(&'static str, Unit, &'static str)| {
        let family = families.iter().find(|family| family.name() == metric)?;
        let sum = family.get_metric().iter().map(value).sum();
        Some(Fact { name, value: unit.told(sum) })
    };
    FACTS.iter().filter_map(told).collect()
}

/// A metric is of one kind, and the others are 0.
fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

// === impl Unit ===

impl Unit {
    fn told(self, value: f64) -> String {
        match self {
            Unit::Count => format!("{value:.0}"),
            Unit::Bytes if value >= 1e9 => format!("{:.1} GB", value / 1e9),
            Unit::Bytes if value >= 1e6 => format!("{:.1} MB", value / 1e6),
            Unit::Bytes => format!("{:.1} kB", value / 1e3),
            Unit::Seconds => format!("{value:.1} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

    use super::{Unit, facts};

    #[test]
    fn a_metric_of_many_series_is_told_as_one_number_and_what_is_not_there_is_not_told() {
        let registry = Registry::new();
        let requests =
            IntCounterVec::new(Opts::new("tollgate_requests_total", "Requests."), &["route"]).unwrap();
        registry.register(Box::new(requests.clone())).unwrap();
        requests.with_label_values(&["a"]).inc_by(40);
        requests.with_label_values(&["b"]).inc_by(2);
        let pending = IntGauge::new("tollgate_journal_pending_bytes", "Pending.").unwrap();
        registry.register(Box::new(pending.clone())).unwrap();
        pending.set(1_500_000);
        let told = facts(&registry.gather());
        let told: Vec<_> = told.iter().map(|fact| (fact.name, fact.value.as_str())).collect();
        let expected = [
            ("Requests since this process began", "42"),
            ("In the journal, not yet in the database", "1.5 MB"),
        ];
        assert_eq!(told, expected);
        assert_eq!(Unit::Seconds.told(0.25), "0.2 s");
    }
}
