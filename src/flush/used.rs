//! When keys were last used. Collected as ranges are flushed, and written by and by: whoever cleans up keys looks at
//! days, and a row that changes with each request would cost more than the request's own.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Monotonic, Timestamp};
use crate::domain::ApiKeyId;

/// Between two writings.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// Keys that wait to be written; more are noted when they are used again.
const PENDING_MAX: usize = 10_000;

/// The keys that were used since the last writing.
#[derive(Default)]
pub(super) struct KeysUsed(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    latest: HashMap<ApiKeyId, Timestamp>,
    written_at: Option<Monotonic>,
}

// === impl KeysUsed ===

impl KeysUsed {
    pub(super) fn note(&self, used: impl Iterator<Item = (ApiKeyId, Timestamp)>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, at) in used {
            if pending.latest.len() < PENDING_MAX || pending.latest.contains_key(&key) {
                let latest = pending.latest.entry(key).or_insert(at);
                *latest = at.max(*latest);
            }
        }
    }

    /// Those to be written now, which are then forgotten; none while the last writing is recent.
    pub(super) fn due(&self, now: Monotonic) -> Vec<(ApiKeyId, Timestamp)> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = pending.written_at.is_some_and(|at| now.since(at) < WRITTEN_EVERY);
        if is_recent || pending.latest.is_empty() {
            return Vec::new();
        }
        pending.written_at = Some(now);
        mem::take(&mut pending.latest).into_iter().collect()
    }

    /// All that are left, for the end of the process.
    pub(super) fn rest(&self) -> Vec<(ApiKeyId, Timestamp)> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut pending.latest).into_iter().collect()
    }
}
