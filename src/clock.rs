//! Time as a value, and the only place that reads the machine's clocks.
//!
//! Windows and records use [`Timestamp`] (wall clock, UTC); waiting and latency use [`Monotonic`], which no
//! administrator can set back. Everything below `app` gets its time from a [`Clock`] that was handed to it, so
//! that tests and the simulation decide what time it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// An instant of the wall clock: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Timestamp(i64);

/// An instant of the monotonic clock: nanoseconds since the process began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Monotonic(u64);

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump either way; never used to measure a duration.
    fn now(&self) -> Timestamp;
    /// The monotonic clock. Never goes back.
    fn monotonic(&self) -> Monotonic;
}

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

/// A clock that stands still until it is told to move. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
    nanos: Arc<AtomicU64>,
}

// === impl Timestamp ===

impl Timestamp {
    /// The end of a window that never ends: 9999-12-30T22:00:00.999999Z, the last instant that every calendar
    /// function accepts in every time zone.
    pub const MAX: Timestamp = Timestamp(253_402_207_200_999_999);

    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    pub const fn from_seconds(seconds: i64) -> Self {
        Timestamp(seconds * 1_000_000)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros).min(Timestamp::MAX.0))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The same instant as a `jiff` timestamp; instants outside its range are clamped to it.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let micros = self.0.min(Timestamp::MAX.0);
        // Not from microseconds: there jiff takes no part of its last second.
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        jiff::Timestamp::new(micros.div_euclid(1_000_000), nanos).unwrap_or(jiff::Timestamp::MIN)
    }

    pub fn from_jiff(timestamp: jiff::Timestamp) -> Self {
        Timestamp(timestamp.as_microsecond())
    }

    /// Parses RFC 3339, for example `2026-11-23T06:00:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Timestamp::from_jiff)
    }
}

/// RFC 3339 in UTC with exactly six decimals, so that text order is time order.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an RFC 3339 instant")))
    }
}

// === impl Monotonic ===

impl Monotonic {
    pub const fn from_nanos(nanos: u64) -> Self {
        Monotonic(nanos)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

// === impl SystemClock ===

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

// === impl TestClock ===

impl TestClock {
    /// A clock that shows `text` (RFC 3339).
    ///
    /// # Panics
    /// If `text` is not an instant: a fault in the test.
    pub fn at(text: &str) -> Self {
        let clock = TestClock::default();
        clock.set(text);
        clock
    }

    /// # Panics
    /// If `text` is not an instant: a fault in the test.
    pub fn set(&self, text: &str) {
        let to = Timestamp::parse(text).expect("an RFC 3339 instant");
        self.micros.store(to.0, Ordering::SeqCst);
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.micros.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn instants_survive_their_text_to_the_last_one() {
        for (micros, text) in [
            (Timestamp::MAX.micros(), "9999-12-30T22:00:00.999999Z"),
            (1_800_000_000_000_001, "2027-01-15T08:00:00.000001Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(instant.to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(instant));
        }
    }
}
