//! Whether this process can serve, and why not: the value behind `/readyz`.
//!
//! Each part of the process keeps one named check up to date; the process is ready when all of them are. A check
//! that nobody has answered yet counts as not ready, so a gateway is never ready by omission.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The checks of one process. Clones are the same checks.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<&'static str, Standing>>>,
}

/// What all checks say at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    pub ready: bool,
    /// In order of their names.
    pub checks: Vec<Check>,
}

/// One part of the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ready: bool,
    /// Why it is not ready, or what an operator should know though it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Debug)]
struct Standing {
    ready: bool,
    detail: Option<String>,
}

// === impl Readiness ===

impl Readiness {
    /// Announces a check that is not ready until it says so.
    pub fn expect(&self, name: &'static str) {
        self.set(name, false, Some("not started yet".to_owned()));
    }

    /// The part serves.
    pub fn ready(&self, name: &'static str) {
        self.set(name, true, None);
    }

    /// The part serves, and an operator should know something, for example that a reload was refused.
    pub fn ready_but(&self, name: &'static str, detail: impl Into<String>) {
        self.set(name, true, Some(detail.into()));
    }

    /// The part can't serve.
    pub fn unready(&self, name: &'static str, detail: impl Into<String>) {
        self.set(name, false, Some(detail.into()));
    }

    pub fn report(&self) -> Report {
        let checks: Vec<_> = self
            .standings()
            .iter()
            .map(|(&name, standing)| Check { name, ready: standing.ready, detail: standing.detail.clone() })
            .collect();
        Report { ready: !checks.is_empty() && checks.iter().all(|check| check.ready), checks }
    }

    fn set(&self, name: &'static str, ready: bool, detail: Option<String>) {
        self.standings().insert(name, Standing { ready, detail });
    }

    /// Whole entries are exchanged under the lock, so one that a panicking thread left is as good as any.
    fn standings(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Standing>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn a_process_is_ready_when_every_announced_part_is() {
        let readiness = Readiness::default();
        assert!(!readiness.report().ready, "nobody has said anything yet");

        readiness.expect("store");
        readiness.ready("listener");
        assert!(!readiness.report().ready);

        readiness.ready("store");
        assert!(readiness.report().ready);

        readiness.unready("listener", "draining");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.checks[0].detail.as_deref(), Some("draining"));
    }
}
