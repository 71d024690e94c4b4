//! What became of requests lately: counts over a span of time that moves along, in ten steps.

use std::time::Duration;

use crate::clock::Monotonic;

/// The span moves on by a tenth of it.
const STEPS: usize = 10;

/// Counts of the last `span`.
#[derive(Debug)]
pub(super) struct Recent {
    span: Duration,
    steps: [(u64, Counts); STEPS],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) retries: u64,
}

// === impl Recent ===

impl Recent {
    pub(super) fn new(span: Duration) -> Self {
        Recent { span, steps: Default::default() }
    }

    pub(super) fn add(&mut self, now: Monotonic, counts: Counts) {
        let step = self.step(now);
        let place = usize::try_from(step).unwrap_or_default() % STEPS;
        let (own, sum) = &mut self.steps[place];
        if *own != step {
            (*own, *sum) = (step, Counts::default());
        }
        sum.add(counts);
    }

    pub(super) fn sum(&self, now: Monotonic) -> Counts {
        let step = self.step(now);
        let mut sum = Counts::default();
        let recent = self.steps.iter().filter(|(own, _)| own + STEPS as u64 > step);
        recent.for_each(|(_, counts)| sum.add(*counts));
        sum
    }

    pub(super) fn forget(&mut self) {
        self.steps = Default::default();
    }

    /// Which tenth of a span it is, counted from 1.
    fn step(&self, now: Monotonic) -> u64 {
        let length = u64::try_from(self.span.as_nanos()).unwrap_or(u64::MAX) / STEPS as u64;
        now.nanos() / length.max(1) + 1
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, other: Counts) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.retries += other.retries;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, Recent};
    use crate::clock::Monotonic;

    #[test]
    fn what_is_older_than_the_span_no_longer_counts() {
        let mut recent = Recent::new(Duration::from_secs(10));
        let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
        for second in 0..30 {
            recent.add(at(second), Counts { requests: 2, failures: 1, retries: 0 });
        }
        assert_eq!(recent.sum(at(29)), Counts { requests: 20, failures: 10, retries: 0 });
        assert_eq!(recent.sum(at(35)), Counts { requests: 8, failures: 4, retries: 0 });
        assert_eq!(recent.sum(at(40)), Counts::default());
        recent.forget();
        assert_eq!(recent.sum(at(29)), Counts::default());
    }
}
