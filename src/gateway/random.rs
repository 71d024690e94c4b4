//! Chance without a system call each time, and request ids made of it: UUIDv7 from the clock and the worker's own
//! generator.
//!
//! Ids must be unique, not secret. The generator is seeded once by the operating system with 128 bits; SplitMix64
//! (Steele, Lea, Flood 2014) then gives each id 74 bits that no other worker's sequence shares in practice.

use std::cell::Cell;

use uuid::Builder;

use crate::clock::Timestamp;
use crate::domain::RequestId;

#[derive(Debug)]
pub(super) struct RequestIds {
    chance: Chance,
    stream: u64,
}

/// A sequence of numbers that nobody need guess: SplitMix64.
#[derive(Debug)]
pub(super) struct Chance(Cell<u64>);

// === impl RequestIds ===

impl RequestIds {
    /// # Panics
    /// If the operating system has no random numbers to give: then no key could be made either.
    pub(super) fn seeded() -> Self {
        RequestIds { chance: Chance::seeded(), stream: seed() }
    }

    pub(super) fn next(&self, now: Timestamp) -> RequestId {
        let millis = u64::try_from(now.millis()).unwrap_or_default();
        let (high, low) = (self.chance.next(), self.chance.next() ^ self.stream);
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high.to_le_bytes());
        bytes[8..].copy_from_slice(&low.to_le_bytes()[..2]);
        RequestId(Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }
}

// === impl Chance ===

impl Chance {
    /// # Panics
    /// If the operating system has no random numbers to give: then no key could be made either.
    pub(super) fn seeded() -> Self {
        Chance(Cell::new(seed()))
    }

    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        mixed(state)
    }

    /// One of the numbers below `bound`, which is not 0. Numbers differ in likelihood by less than `bound` ÷ 2⁶⁴.
    pub(super) fn below(&self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }
}

/// Each bit of the result depends on all bits of `number`.
pub(super) const fn mixed(number: u64) -> u64 {
    let mut mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number for these bytes that is the same everywhere and at all times: FNV-1a, mixed.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    mixed(
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        }),
    )
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).expect("the operating system gives random numbers");
    u64::from_le_bytes(seed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::RequestIds;
    use crate::clock::Timestamp;

    #[test]
    fn ids_are_version_7_unique_and_ordered_by_time() {
        let (one, two) = (RequestIds::seeded(), RequestIds::seeded());
        let now = Timestamp::from_seconds(1_800_000_000);
        let ids: HashSet<_> = (0..1000).flat_map(|_| [one.next(now), two.next(now)]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.0.get_version_num() == 7));
        let later = one.next(Timestamp::from_seconds(1_800_000_001));
        assert!(ids.iter().all(|id| *id < later));
    }
}
