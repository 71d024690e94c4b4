//! How often a password may be tried: for one account, and from one source.
//!
//! Kept in memory, per gateway: guessing over N gateways is N times as fast, which is nothing against a password of
//! twelve letters. Who is tried is a digest, so that accounts that do not exist are throttled like those that do.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::ControlError;
use crate::clock::Clock;
use crate::till::{Rate, RateLimits, source};

/// Accounts and sources that are remembered. One that falls out begins anew.
const REMEMBERED_MAX: u64 = 100_000;

/// Somebody who does not remember which password it was tries some; from then on there are 8,640 guesses a day.
const OF_ACCOUNT: Rate = Rate {
    id: 0,
    requests: NonZeroU32::new(1).expect("not zero"),
    window: Duration::from_secs(10),
    burst: NonZeroU32::new(10).expect("not zero"),
};

/// An office behind one address comes to work in the morning.
const OF_SOURCE: Rate = Rate {
    id: 1,
    requests: NonZeroU32::new(1).expect("not zero"),
    window: Duration::from_secs(1),
    burst: NonZeroU32::new(30).expect("not zero"),
};

pub(super) struct Throttle {
    limits: RateLimits,
}

// === impl Throttle ===

impl Throttle {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Throttle {
        Throttle { limits: RateLimits::new(REMEMBERED_MAX, clock) }
    }

    /// Lets one attempt pass. The source is asked first: who is held back there costs no account its attempts.
    ///
    /// # Errors
    /// [`ControlError::Throttled`]
    pub(super) fn admit(&self, account: Uuid, from: Option<IpAddr>) -> Result<(), ControlError> {
        let held = |again_after| ControlError::Throttled { again_after };
        if let Some(address) = from {
            self.limits.check(&OF_SOURCE, source(address)).map_err(held)?;
        }
        self.limits.check(&OF_ACCOUNT, account).map_err(held)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use uuid::Uuid;

    use super::{OF_ACCOUNT, OF_SOURCE, Throttle};
    use crate::clock::TestClock;

    #[test]
    fn an_account_is_tried_so_often_and_then_again_after_a_while() {
        let clock = TestClock::default();
        let throttle = Throttle::new(Arc::new(clock.clone()));
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for _ in 0..OF_ACCOUNT.burst.get() {
            throttle.admit(ann, None).unwrap();
        }
        assert!(throttle.admit(ann, None).is_err());
        throttle.admit(bob, None).unwrap();
        clock.advance(Duration::from_secs(10));
        throttle.admit(ann, None).unwrap();
        assert!(throttle.admit(ann, None).is_err());
    }

    #[test]
    fn a_source_that_tries_many_accounts_is_held_back() {
        let throttle = Throttle::new(Arc::new(TestClock::default()));
        let from = Some("192.0.2.1".parse().unwrap());
        for account in 0..OF_SOURCE.burst.get() {
            throttle.admit(Uuid::from_u128(account.into()), from).unwrap();
        }
        assert!(throttle.admit(Uuid::max(), from).is_err());
        throttle.admit(Uuid::max(), Some("192.0.2.2".parse().unwrap())).unwrap();
    }
}
