//! Keys that nobody has, held back by their source.
//!
//! A key with a wrong checksum is refused without a question. One with a right checksum, or of another system's making,
//! has to be looked up before it is known to be nobody's: whoever invents such keys would make the gateway ask the
//! store as fast as it can send. So each source may be wrong so often; then what comes from it and is not known
//! already waits. Keys that are known go on working from there, so a tenant behind the same address is not cut off.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use uuid::Uuid;

use crate::clock::Clock;
use crate::till::{Rate, RateLimits, source};

/// Sources that are remembered. One that falls out begins anew.
const SOURCES_MAX: u64 = 100_000;

/// How long a source waits that was wrong too often.
const HELD_FOR: Duration = Duration::from_secs(1);

/// A client with an old key tries it some times a second; a hundred at once is a fleet that starts with one.
const WRONG: Rate = Rate {
    id: 0,
    requests: NonZeroU32::new(10).expect("not zero"),
    window: Duration::from_secs(1),
    burst: NonZeroU32::new(100).expect("not zero"),
};

/// Which sources brought unknown keys too often. Shared by all workers.
pub struct Strangers {
    wrong: RateLimits,
    held: Cache<Uuid, ()>,
}

// === impl Strangers ===

impl Strangers {
    pub fn new(clock: Arc<dyn Clock>) -> Strangers {
        Strangers {
            wrong: RateLimits::new(SOURCES_MAX, clock),
            held: Cache::builder().max_capacity(SOURCES_MAX).time_to_live(HELD_FOR).build(),
        }
    }

    /// Whether an unknown key from there may be looked up.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        if self.held.contains_key(&source(address)) { Err(HELD_FOR) } else { Ok(()) }
    }

    /// A key from there was nobody's.
    pub(super) fn note(&self, address: IpAddr) {
        let source = source(address);
        if self.wrong.check(&WRONG, source).is_err() {
            self.held.insert(source, ());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::{Strangers, WRONG};
    use crate::clock::TestClock;

    #[test]
    fn a_source_that_is_wrong_too_often_waits_and_no_other_does() {
        let strangers = Strangers::new(Arc::new(TestClock::default()));
        let at = |address: &str| address.parse::<IpAddr>().unwrap();
        for _ in 0..WRONG.burst.get() {
            strangers.note(at("2001:db8::1"));
            assert!(strangers.admit(at("2001:db8::1")).is_ok());
        }
        strangers.note(at("2001:db8::2"));
        assert!(strangers.admit(at("2001:db8::3")).is_err(), "the network is one source");
        assert!(strangers.admit(at("2001:db8:0:1::1")).is_ok());
        for _ in 0..=WRONG.burst.get() {
            strangers.note(at("::ffff:192.0.2.1"));
        }
        assert!(strangers.admit(at("192.0.2.1")).is_err(), "mapped or not, it is one source");
        assert!(strangers.admit(at("192.0.2.2")).is_ok());
    }
}
