//! Bursts below a window: so many requests per second and no more at once, per route and key or tenant.
//!
//! Smoothing, not accounting: it is kept in memory, per gateway, and forgotten with the process. GCRA by
//! `governor`; the limiters are in a bounded cache, where one that has been idle for its whole window has nothing
//! left to remember.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use moka::sync::Cache;
use uuid::Uuid;

use crate::clock::Clock;

/// How many requests may pass in a time, and how many of them at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rate {
    /// Tells one configured rate from another.
    pub id: u32,
    pub requests: NonZeroU32,
    pub window: Duration,
    pub burst: NonZeroU32,
}

/// The rates' state for every owner that was seen lately. Shared by all threads.
pub struct RateLimits {
    limiters: Cache<(Rate, Uuid), Arc<Limiter>>,
    clock: Arc<dyn Clock>,
}

type Limiter = governor::RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;

/// The process's clock, as governor reads it.
struct Ticks(Arc<dyn Clock>);

/// The owner of what comes from an address: an IPv4 address, or the network of an IPv6 address: whoever has one address of a /64 has all.
pub fn source(address: IpAddr) -> Uuid {
    match address.to_canonical() {
        IpAddr::V4(address) => Uuid::from_u128(address.to_ipv6_mapped().to_bits()),
        IpAddr::V6(address) => Uuid::from_u128(address.to_bits() >> 64 << 64),
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// Remembers at most `owners_max` pairs of a rate and an owner. One that falls out begins with a full burst.
    pub fn new(owners_max: u64, clock: Arc<dyn Clock>) -> Self {
        RateLimits { limiters: Cache::new(owners_max), clock }
    }

    /// Lets one request of the owner pass.
    ///
    /// # Errors
    /// How long to wait until it would.
    pub fn check(&self, rate: &Rate, owner: Uuid) -> Result<(), Duration> {
        let limiter = self.limiters.get_with((*rate, owner), || Arc::new(self.limiter(rate)));
        limiter.check().map_err(|not_until| not_until.wait_time_from(self.ticks().now()))
    }

    fn limiter(&self, rate: &Rate) -> Limiter {
        // A rate of more than one request per nanosecond is none.
        let interval = (rate.window / rate.requests.get()).max(Duration::from_nanos(1));
        let quota = governor::Quota::with_period(interval)
            .unwrap_or_else(|| governor::Quota::per_second(NonZeroU32::MAX))
            .allow_burst(rate.burst);
        Limiter::direct_with_clock(quota, self.ticks())
    }

    fn ticks(&self) -> Ticks {
        Ticks(self.clock.clone())
    }
}

// === impl Ticks ===

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic().nanos())
    }
}
