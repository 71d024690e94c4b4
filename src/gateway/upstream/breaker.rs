//! When an upstream as a whole is spared: too many of the last requests failed.
//!
//! Workers count by themselves and add up once per tick; then it is judged. So a request pays for the breaker by
//! reading one number that hardly ever changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recent::{Counts, Recent};
use crate::clock::Monotonic;

/// When an upstream is spared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Failed requests, in percent, at which no more are sent. 0: never.
    pub failures_percent: u32,
    /// Fewest requests in `window` that are judged.
    pub requests_min: u32,
    /// How far back is looked.
    pub window: Duration,
    /// How long nothing is sent before one request tries.
    pub open_for: Duration,
}

#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    /// Nothing is sent before; afterwards one request is, as a probe. 0: closed.
    open_until: AtomicU64,
    recent: Mutex<Recent>,
}

/// A request that may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passed {
    Closed,
    /// The breaker is open, and this request finds out whether it should be.
    Probe,
}

// === impl BreakerSettings ===

impl Default for BreakerSettings {
    /// Off: half an outage is better than a whole one, unless one knows the upstream.
    fn default() -> Self {
        BreakerSettings {
            failures_percent: 0,
            requests_min: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Breaker { settings, open_until: AtomicU64::new(0), recent: Mutex::new(Recent::new(settings.window)) }
    }

    pub(super) fn settings(&self) -> BreakerSettings {
        self.settings
    }

    pub(super) fn is_open(&self) -> bool {
        self.open_until.load(Ordering::Relaxed) != 0
    }

    /// Whether a request may be sent; if not, how long to wait.
    pub(super) fn pass(&self, now: Monotonic) -> Result<Passed, Duration> {
        match self.open_until.load(Ordering::Relaxed) {
            0 => Ok(Passed::Closed),
            until if now.nanos() < until => Err(Monotonic::from_nanos(until).since(now)),
            until => self.probe(now, until),
        }
    }

    /// Whoever probes keeps the breaker open for another while: if nothing is heard of that request, the next one
    /// probes then.
    fn probe(&self, now: Monotonic, until: u64) -> Result<Passed, Duration> {
        let again = now.plus(self.settings.open_for).nanos();
        match self.open_until.compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(Passed::Probe),
            Err(0) => Ok(Passed::Closed),
            Err(_) => Err(self.settings.open_for),
        }
    }

    /// The probe came through: what was before no longer counts.
    pub(super) fn close(&self) {
        self.lock().forget();
        self.open_until.store(0, Ordering::Relaxed);
    }

    /// Adds what a worker has counted, and judges. True if that opened the breaker.
    pub(super) fn count(&self, now: Monotonic, requests: u64, failures: u64) -> bool {
        let BreakerSettings { failures_percent, requests_min, open_for, .. } = self.settings;
        if failures_percent == 0 || requests == 0 {
            return false;
        }
        let mut recent = self.lock();
        recent.add(now, Counts { requests, failures, retries: 0 });
        let sum = recent.sum(now);
        let is_bad = sum.requests >= u64::from(requests_min)
            && sum.failures * 100 >= sum.requests * u64::from(failures_percent);
        is_bad
            && self
                .open_until
                .compare_exchange(0, now.plus(open_for).nanos(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Counts are whole under the lock, so those that a panicking thread left are as good as any.
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Breaker, BreakerSettings, Passed};
    use crate::clock::Monotonic;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings { failures_percent: 50, ..BreakerSettings::default() })
    }

    #[test]
    fn it_opens_at_the_share_of_failures_and_not_for_a_few_requests() {
        let breaker = breaker();
        assert!(!breaker.count(at(1), 19, 19), "too few to judge");
        assert!(breaker.count(at(2), 1, 0));
        assert_eq!(breaker.pass(at(3)), Err(Duration::from_secs(4)));
        let breaker = self::breaker();
        assert!(!breaker.count(at(1), 100, 49));
        assert_eq!(breaker.pass(at(1)), Ok(Passed::Closed));
        assert!(!breaker.count(at(12), 19, 19), "what was before the window is forgotten");
    }

    #[test]
    fn one_request_probes_and_closes_it_or_the_next_one_does_later() {
        let breaker = breaker();
        assert!(breaker.count(at(1), 20, 20));
        assert_eq!(breaker.pass(at(6)), Ok(Passed::Probe));
        assert_eq!(breaker.pass(at(7)), Err(Duration::from_secs(4)), "one at a time");
        assert_eq!(breaker.pass(at(11)), Ok(Passed::Probe), "of the first nothing was heard");
        breaker.close();
        assert_eq!(breaker.pass(at(11)), Ok(Passed::Closed));
        assert!(!breaker.count(at(11), 1, 1), "it begins anew");
    }

    #[test]
    fn it_can_be_turned_off() {
        let breaker = Breaker::new(BreakerSettings::default());
        assert!(!breaker.count(at(1), 1000, 1000));
        assert_eq!(breaker.pass(at(1)), Ok(Passed::Closed));
    }
}
