//! How an endpoint stands: what all workers know of it. Atomics that are read for each request and written when
//! something changes.
//!
//! Three things can be wrong with an endpoint. It **rests** when it could not be reached: it is tried last. It is
//! **ejected** when requests to it failed one after the other: it is not tried until its time is over, and then one
//! more failure ejects it again, for twice as long. It is **unhealthy** while its health checks say so.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

/// However often an endpoint was ejected, it is tried again after this.
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// One endpoint's standing. Outlives reloads that keep the endpoint.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// 0: never.
    rests_until: AtomicU64,
    /// 0: never.
    ejected_until: AtomicU64,
    /// How long it was ejected the last time, in nanoseconds.
    ejected_for: AtomicU64,
    /// Requests in a row that failed.
    failures: AtomicU32,
    is_unhealthy: AtomicBool,
    /// Health checks in a row that found it as they did: positive for well, negative for not.
    checks: AtomicI32,
    /// Requests under way, where somebody asks.
    busy: AtomicUsize,
}

// === impl Standing ===

impl Standing {
    /// Whether requests may go there.
    pub(super) fn serves(&self, now: Monotonic) -> bool {
        !self.is_unhealthy() && !self.is_ejected(now)
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.is_unhealthy.load(Ordering::Relaxed)
    }

    pub(super) fn is_ejected(&self, now: Monotonic) -> bool {
        now.nanos() < self.ejected_until.load(Ordering::Relaxed)
    }

    pub(super) fn rests(&self, now: Monotonic) -> bool {
        now.nanos() < self.rests_until.load(Ordering::Relaxed)
    }

    /// Tried last for so long.
    pub(super) fn rest(&self, now: Monotonic, time: Duration) {
        self.rests_until.store(now.plus(time).nanos(), Ordering::Relaxed);
    }

    /// A connection came about.
    pub(super) fn reached(&self) {
        clear(&self.rests_until);
    }

    /// A request was answered as it should be.
    pub(super) fn answered(&self) {
        // Written only when it changes something: the workers share the line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed; gives how many did in a row.
    pub(super) fn failed(&self) -> u32 {
        let before = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |failures| Some(failures.saturating_add(1)));
        before.unwrap_or_else(|before| before).saturating_add(1)
    }

    /// No request goes there for `base`, or for twice as long as the last time, if that was not long ago.
    pub(super) fn eject(&self, now: Monotonic, base: Duration) -> Duration {
        let last_end = Monotonic::from_nanos(self.ejected_until.load(Ordering::Relaxed));
        let last_time = Duration::from_nanos(self.ejected_for.load(Ordering::Relaxed));
        let is_again = last_time > Duration::ZERO && now.since(last_end) <= last_time;
        let time = if is_again { (last_time * 2).min(EJECTION_MAX).max(base) } else { base };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ejected_for.store(nanos, Ordering::Relaxed);
        self.ejected_until.store(now.plus(time).nanos(), Ordering::Relaxed);
        time
    }

    /// A health check has ended. Gives whether it changed how the endpoint stands.
    pub(super) fn checked(&self, is_well: bool, healthy_after: u32, unhealthy_after: u32) -> bool {
        let before = self.checks.load(Ordering::Relaxed);
        let streak = match is_well {
            true => before.max(0).saturating_add(1),
            false => before.min(0).saturating_sub(1),
        };
        self.checks.store(streak, Ordering::Relaxed);
        let enough = if is_well { healthy_after } else { unhealthy_after };
        let changes = streak.unsigned_abs() >= enough && self.is_unhealthy() == is_well;
        if changes {
            self.is_unhealthy.store(!is_well, Ordering::Relaxed);
        }
        changes
    }

    /// Nobody checks it any more.
    pub(super) fn unchecked(&self) {
        self.checks.store(0, Ordering::Relaxed);
        self.is_unhealthy.store(false, Ordering::Relaxed);
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn clear(instant: &AtomicU64) {
    if instant.load(Ordering::Relaxed) != 0 {
        instant.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{EJECTION_MAX, Standing};
    use crate::clock::Monotonic;

    const BASE: Duration = Duration::from_secs(10);

    #[test]
    fn who_is_ejected_soon_again_is_ejected_for_twice_as_long_up_to_a_bound() {
        let standing = Standing::default();
        let mut now = Monotonic::from_nanos(1);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let time = standing.eject(now, BASE);
            assert_eq!(time, Duration::from_secs(expected));
            assert!(standing.is_ejected(now) && !standing.serves(now));
            now = now.plus(time);
            assert!(standing.serves(now));
        }
        now = now.plus(EJECTION_MAX + Duration::from_nanos(1));
        assert_eq!(standing.eject(now, BASE), BASE, "that was long ago");
    }

    #[test]
    fn one_good_answer_ends_a_row_of_failures() {
        let standing = Standing::default();
        assert_eq!([standing.failed(), standing.failed()], [1, 2]);
        standing.answered();
        assert_eq!(standing.failed(), 1);
    }

    #[test]
    fn checks_must_agree_so_often_in_a_row() {
        let standing = Standing::default();
        let check = |is_well| (standing.checked(is_well, 2, 3), standing.is_unhealthy());
        assert_eq!([check(false), check(false), check(true)], [(false, false); 3]);
        assert_eq!([check(false), check(false)], [(false, false); 2]);
        assert_eq!(check(false), (true, true));
        assert_eq!([check(true), check(false), check(true)], [(false, true); 3]);
        assert_eq!(check(true), (true, false));
    }
}
