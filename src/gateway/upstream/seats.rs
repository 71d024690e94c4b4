//! How many requests are under way to an upstream: in all and of each tenant. Exact over all workers.
//!
//! There is no queue behind the seats: whoever finds none is refused at once and can come back, and a slow upstream
//! holds no more of the gateway's memory than its seats do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::TenantId;
use crate::gateway::random::hash_of;

/// Tenants are spread over so many locks, so that two workers hardly ever want the same one. They are only taken where
/// a cap per tenant is configured.
const SHARDS: usize = 64;

/// Most requests under way to an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapSettings {
    /// 0: unlimited.
    pub requests: usize,
    /// Of one tenant. 0: unlimited.
    pub requests_per_tenant: usize,
}

#[derive(Debug)]
pub(super) struct Seats {
    taken: AtomicUsize,
    tenants: [Mutex<HashMap<TenantId, usize>>; SHARDS],
}

// === impl Seats ===

impl Seats {
    pub(super) fn new() -> Self {
        Seats { taken: AtomicUsize::new(0), tenants: std::array::from_fn(|_| Mutex::default()) }
    }

    /// One more, if there are fewer than `max`. Given back by [`Seats::leave`].
    pub(super) fn take(&self, max: usize) -> bool {
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < max).then_some(taken + 1));
        taken.is_ok()
    }

    pub(super) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more of the tenant's, if it has fewer than `max`. Given back by [`Seats::leave_of`].
    pub(super) fn take_of(&self, tenant: TenantId, max: usize) -> bool {
        let mut shard = self.shard(tenant);
        let taken = shard.entry(tenant).or_default();
        let may = *taken < max;
        *taken += usize::from(may);
        may
    }

    pub(super) fn leave_of(&self, tenant: TenantId) {
        let mut shard = self.shard(tenant);
        let Some(taken) = shard.get_mut(&tenant) else { return };
        *taken -= 1;
        if *taken == 0 {
            shard.remove(&tenant);
        }
    }

    /// Entries are whole under the lock, so those that a panicking thread left are as good as any.
    fn shard(&self, tenant: TenantId) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        let place = usize::try_from(hash_of(tenant.0.as_bytes()) % SHARDS as u64).unwrap_or_default();
        self.tenants[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
