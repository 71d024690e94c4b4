//! What the authority counts. Read without locks; each number only rises.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fault::Class;

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Renew,
    Seed,
    Life,
}

/// Calls by kind and by what came of them.
#[derive(Debug, Default)]
pub struct Meters {
    kinds: [OfKind; Kind::ALL.len()],
    unreplicated: AtomicU64,
}

/// How long answered calls of one kind took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latency {
    /// How many took at most [`Meters::BOUNDS`] of the same place; the last counts all.
    pub buckets: [u64; Meters::BOUNDS.len() + 1],
    pub sum: Duration,
}

#[derive(Debug, Default)]
struct OfKind {
    faults: [AtomicU64; Class::ALL.len()],
    /// Not cumulated.
    buckets: [AtomicU64; Meters::BOUNDS.len() + 1],
    nanos: AtomicU64,
}

// === impl Kind ===

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Renew, Kind::Seed, Kind::Life];

    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Renew => "renew",
            Kind::Seed => "seed",
            Kind::Life => "life",
        }
    }
}

// === impl Meters ===

impl Meters {
    /// From a server beside us (a tenth of a millisecond) to a deadline that is longer than anyone should set.
    pub const BOUNDS: [Duration; 10] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(100),
        Duration::from_secs(1),
    ];

    /// How many calls were answered.
    pub fn answered(&self, kind: Kind) -> u64 {
        self.of(kind).buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// How many calls were lost for that reason.
    pub fn lost(&self, kind: Kind, class: Class) -> u64 {
        self.of(kind).faults[class as usize].load(Ordering::Relaxed)
    }

    pub fn latency(&self, kind: Kind) -> Latency {
        let of = self.of(kind);
        let mut sum = 0;
        let buckets = std::array::from_fn(|at| {
            sum += of.buckets[at].load(Ordering::Relaxed);
            sum
        });
        Latency { buckets, sum: Duration::from_nanos(of.nanos.load(Ordering::Relaxed)) }
    }

    /// Large grants that were handed out before as many replicas had them as should.
    pub fn unreplicated(&self) -> u64 {
        self.unreplicated.load(Ordering::Relaxed)
    }

    pub(super) fn add_answer(&self, kind: Kind, took: Duration) {
        let of = self.of(kind);
        let bucket = Meters::BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(Meters::BOUNDS.len());
        of.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        of.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn add_loss(&self, kind: Kind, class: Class) {
        self.of(kind).faults[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_unreplicated(&self) {
        self.unreplicated.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, kind: Kind) -> &OfKind {
        &self.kinds[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Meters};
    use crate::authority::redis::fault::Class;
    use std::time::Duration;

    #[test]
    fn each_kind_and_class_is_counted_by_itself() {
        let meters = Meters::default();
        for (at, class) in Class::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| meters.add_loss(Kind::Seed, class));
        }
        let counted: Vec<u64> = Class::ALL.into_iter().map(|class| meters.lost(Kind::Seed, class)).collect();
        assert_eq!(counted, (1..=Class::ALL.len() as u64).collect::<Vec<_>>());
        assert!(Class::ALL.into_iter().all(|class| meters.lost(Kind::Renew, class) == 0));
    }

    #[test]
    fn buckets_of_a_latency_hold_what_took_less_as_well() {
        let meters = Meters::default();
        for micros in [100, 101, 2_000_000] {
            meters.add_answer(Kind::Renew, Duration::from_micros(micros));
        }
        let latency = meters.latency(Kind::Renew);
        assert_eq!(latency.buckets, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!(latency.sum, Duration::from_micros(2_000_201));
        assert_eq!(meters.answered(Kind::Renew), 3);
    }
}
