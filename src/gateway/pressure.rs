//! How short of memory the process is, as the data plane acts on it.
//!
//! Knows neither the process nor its limit: whoever watches them says how it stands, and each worker looks once per
//! tick. A request pays for a look into a cell of its own worker.

use std::sync::atomic::{AtomicU8, Ordering};

/// How near the process is to the end of its memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum MemoryPressure {
    #[default]
    Low,
    /// Nothing is held that is not needed: connections end after their answers, spare buffers go.
    High,
    /// New requests are refused, too; those under way go on.
    Critical,
}

/// How it stands, for all workers to see.
#[derive(Debug, Default)]
pub struct MemoryStanding(AtomicU8);

// === impl MemoryStanding ===

impl MemoryStanding {
    /// Seen by each worker at its next tick.
    pub fn set(&self, pressure: MemoryPressure) {
        self.0.store(pressure as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> MemoryPressure {
        match self.0.load(Ordering::Relaxed) {
            0 => MemoryPressure::Low,
            1 => MemoryPressure::High,
            _ => MemoryPressure::Critical,
        }
    }
}
