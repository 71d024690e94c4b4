//! How many retries an upstream is expected to bear: a share of its requests, so that retries never multiply an outage.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::recent::{Counts, Recent};
use crate::clock::Monotonic;

/// Requests and retries of this time are compared.
const SPAN: Duration = Duration::from_secs(10);

/// So many in [`SPAN`] are free, or the first failure of a quiet upstream could never be made good.
const FREE: u64 = 3;

#[derive(Debug)]
pub(super) struct Budget(Mutex<Recent>);

// === impl Budget ===

impl Budget {
    pub(super) fn new() -> Self {
        Budget(Mutex::new(Recent::new(SPAN)))
    }

    /// Adds what a worker has counted since its last tick.
    pub(super) fn count(&self, now: Monotonic, requests: u64) {
        self.change(|recent| recent.add(now, Counts { requests, ..Counts::default() }));
    }

    /// Takes one retry, if `percent` of the requests allow it.
    pub(super) fn take(&self, now: Monotonic, percent: u32) -> bool {
        self.change(|recent| {
            let Counts { requests, retries, .. } = recent.sum(now);
            let may = percent > 0 && retries < FREE + requests * u64::from(percent) / 100;
            if may {
                recent.add(now, Counts { retries: 1, ..Counts::default() });
            }
            may
        })
    }

    /// Counts are whole under the lock, so those that a panicking thread left are as good as any.
    fn change<T>(&self, change: impl FnOnce(&mut Recent) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, FREE};
    use crate::clock::Monotonic;

    #[test]
    fn retries_are_a_share_of_recent_requests_and_a_few() {
        let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
        let taken = |budget: &Budget, now| (0..1000).filter(|_| budget.take(now, 10)).count() as u64;
        let budget = Budget::new();
        assert_eq!(taken(&budget, at(1)), FREE);
        budget.count(at(1), 500);
        assert_eq!(taken(&budget, at(2)), 50);
        assert_eq!(taken(&budget, at(30)), FREE, "requests of long ago pay for none");
        assert!(!budget.take(at(60), 0), "0 percent are none");
    }
}
