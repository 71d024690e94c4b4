use std::num::NonZeroU32;
use std::time::Duration;

use super::*;

fn rate(requests: u32, burst: u32) -> Rate {
    let number = |number| NonZeroU32::new(number).unwrap();
    Rate { id: 1, requests: number(requests), window: Duration::from_secs(1), burst: number(burst) }
}

fn passed(limits: &RateLimits, rate: &Rate, owner: u128) -> usize {
    (0..1_000).take_while(|_| limits.check(rate, Uuid::from_u128(owner)).is_ok()).count()
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let clock = TestClock::default();
    let limits = RateLimits::new(100, Arc::new(clock.clone()));
    let rate = rate(50, 100);
    assert_eq!(passed(&limits, &rate, 1), 100);
    assert_eq!(limits.check(&rate, Uuid::from_u128(1)), Err(Duration::from_millis(20)));
    assert_eq!(passed(&limits, &rate, 2), 100, "another owner has a burst of its own");
    clock.advance(Duration::from_millis(100));
    assert_eq!(passed(&limits, &rate, 1), 5);
    clock.advance(Duration::from_secs(60));
    assert_eq!(passed(&limits, &rate, 1), 100);
}

#[test]
fn a_rate_that_was_changed_is_another_one() {
    let limits = RateLimits::new(100, Arc::new(TestClock::default()));
    assert_eq!(passed(&limits, &rate(50, 3), 1), 3);
    assert_eq!(passed(&limits, &rate(50, 5), 1), 5);
}
