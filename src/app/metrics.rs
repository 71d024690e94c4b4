//! Metrics of the whole process: read from the rooms when Prometheus asks, at no cost in between.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::directory::Directory;
use crate::domain::{Owner, Resource, TenantId};
use crate::flush::Flush;
use crate::journal::{Journal, Pressure};
use crate::till::Till;

/// The name that stands for all tenants that have no series of their own.
const OTHER: &str = "other";

/// What is read at each scrape.
pub(super) struct ProcessMetrics {
    rooms: Rooms,
    accounts: IntGauge,
    used: IntGaugeVec,
    keys: IntGauge,
    lookups: IntCounter,
    staleness: Gauge,
    pending: IntGauge,
    journal_files: IntGauge,
    journal_capacity: IntGauge,
    journal_pressure: IntGauge,
    suspect_files: IntGauge,
    rewritten_files: IntCounter,
    details_dropped: IntCounter,
    flushed: IntCounter,
    flush_failures: IntCounter,
    quarantined: IntCounter,
    /// Tenants with series of their own: those that use most.
    tenants_max: usize,
}

/// Where the numbers come from.
pub(super) struct Rooms {
    pub(super) till: Arc<Till>,
    pub(super) journal: Arc<Journal>,
    pub(super) flush: Arc<Flush>,
    pub(super) directory: Arc<Directory>,
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(super) fn register(registry: &Registry, rooms: Rooms, tenants_max: usize) {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("a literal name");
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a literal name");
        let used = Opts::new(
            "tollgate_quota_used_units",
            "Units used in the current windows, by tenant and resource; `other` sums the tenants without a series.",
        );
        let metrics = ProcessMetrics {
            rooms,
            accounts: gauge("tollgate_till_accounts", "Accounts that the till holds."),
            used: IntGaugeVec::new(used, &["tenant", "resource"]).expect("a literal name"),
            keys: gauge(
                "tollgate_directory_keys",
                "API keys, and tenants of tokens, whose entitlements are cached, about.",
            ),
            lookups: counter(
                "tollgate_directory_lookups_total",
                "Times that the store was asked for a key, or a token's tenant, that was not cached.",
            ),
            staleness: Gauge::new(
                "tollgate_directory_staleness_seconds",
                "How far behind the store what is cached may be. About 1 at most, unless the store can't be read.",
            )
            .expect("a literal name"),
            pending: gauge(
                "tollgate_journal_pending_bytes",
                "Journal records that the database does not have yet.",
            ),
            journal_files: gauge(
                "tollgate_journal_file_bytes",
                "Bytes that the journal's files take on the disk.",
            ),
            journal_capacity: gauge(
                "tollgate_journal_capacity_bytes",
                "Bytes that the journal's files may take.",
            ),
            journal_pressure: gauge(
                "tollgate_journal_pressure",
                "How full the journal is: 0 little, 1 from 50 %, 2 from 80 % or no next segment, 3 no space left.",
            ),
            suspect_files: gauge(
                "tollgate_journal_suspect_files",
                "Journal files that could not be synced and are not written anew yet; above 0 the node is not ready.",
            ),
            rewritten_files: counter(
                "tollgate_journal_rewritten_files_total",
                "Journal files that were written anew because the disk failed to sync them.",
            ),
            details_dropped: counter(
                "tollgate_journal_details_dropped_total",
                "Requests that a full journal counted without their details; no unit of theirs is lost.",
            ),
            flushed: counter(
                "tollgate_flush_records_total",
                "Journal records that were brought to the database.",
            ),
            flush_failures: counter(
                "tollgate_flush_failures_total",
                "Attempts to flush that failed and are repeated.",
            ),
            quarantined: counter(
                "tollgate_flush_quarantined_total",
                "Records that the database refused and that were set aside.",
            ),
            tenants_max,
        };
        registry.register(Box::new(metrics)).expect("each metric is registered once");
    }

    fn parts(&self) -> [&dyn Collector; 15] {
        [
            &self.accounts,
            &self.used,
            &self.keys,
            &self.lookups,
            &self.staleness,
            &self.pending,
            &self.journal_files,
            &self.journal_capacity,
            &self.journal_pressure,
            &self.suspect_files,
            &self.rewritten_files,
            &self.details_dropped,
            &self.flushed,
            &self.flush_failures,
            &self.quarantined,
        ]
    }

    fn read(&self) {
        let Rooms { till, journal, flush, directory } = &self.rooms;
        self.accounts.set(saturated(till.len() as u64));
        self.keys.set(saturated(directory.len()));
        raise(&self.lookups, directory.asked());
        self.staleness.set(directory.staleness().as_secs_f64());
        let depth = journal.depth();
        self.pending.set(saturated(depth.pending_bytes));
        self.journal_files.set(saturated(depth.file_bytes));
        self.journal_capacity.set(saturated(depth.capacity_bytes));
        self.journal_pressure.set(match depth.pressure() {
            Pressure::Low => 0,
            Pressure::Half => 1,
            Pressure::High => 2,
            Pressure::Full => 3,
        });
        self.suspect_files.set(saturated(depth.suspect_files as u64));
        raise(&self.rewritten_files, depth.rewritten_files);
        raise(&self.details_dropped, depth.details_dropped);
        raise(&self.flushed, flush.records());
        raise(&self.flush_failures, flush.failures());
        raise(&self.quarantined, flush.quarantined());
        self.read_use();
    }

    fn read_use(&self) {
        let mut tenants: HashMap<TenantId, HashMap<Resource, u64>> = HashMap::new();
        for (account, counters) in self.rooms.till.counters() {
            if let Owner::Tenant(tenant) = account.owner {
                *tenants.entry(tenant).or_default().entry(account.resource).or_default() += counters.used();
            }
        }
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants
            .sort_by_key(|(tenant, resources)| (std::cmp::Reverse(resources.values().sum::<u64>()), *tenant));
        self.used.reset();
        for (rank, (tenant, resources)) in tenants.into_iter().enumerate() {
            let tenant = if rank < self.tenants_max { tenant.to_string() } else { OTHER.to_owned() };
            for (resource, used) in resources {
                self.used.with_label_values(&[tenant.as_str(), resource.as_str()]).add(saturated(used));
            }
        }
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Scrapes may overlap; a counter never goes back.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
