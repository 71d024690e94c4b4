//! Numbers that the flush counts and telemetry reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

#[derive(Default)]
pub(super) struct Meters {
    batches: AtomicU64,
    records: AtomicU64,
    failures: AtomicU64,
    quarantined: AtomicU64,
    damaged_bytes: AtomicU64,
    /// When the last round that got to its end began, in nanoseconds.
    completed: AtomicU64,
    has_stopped: AtomicBool,
}

impl Meters {
    pub(super) fn begun_at(now: Monotonic) -> Meters {
        Meters { completed: AtomicU64::new(now.nanos()), ..Meters::default() }
    }

    pub(super) fn add_batch(&self, records: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn add_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_quarantined(&self, records: usize) {
        self.quarantined.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn add_damaged(&self, bytes: u64) {
        self.damaged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn complete(&self, began: Monotonic) {
        self.completed.store(began.nanos(), Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    pub(super) fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn lag(&self, now: Monotonic) -> Duration {
        now.since(Monotonic::from_nanos(self.completed.load(Ordering::Relaxed)))
    }
}
