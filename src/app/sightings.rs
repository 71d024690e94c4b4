//! What workers saw beside what they charge, brought to the store.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::clock::{Clock, Timestamp};
use crate::domain::{KeySeen, Sightings};
use crate::gateway::GatewayShared;
use crate::store::Store;
use crate::telemetry::log::with_causes;

/// Brings it, and forgets what is old.
pub(super) struct SightingsKeeper {
    gateway: Arc<GatewayShared>,
    store: Store,
    clock: Arc<dyn Clock>,
    /// What the store was told lately.
    known: Cache<KeySeen, ()>,
    /// What it could not be told yet.
    waiting: Sightings,
    failed: bool,
}

const INTERVAL: Duration = Duration::from_secs(1);
/// Networks of keys that the store need not be told of again, and for how long.
const KNOWN_MAX: u64 = 100_000;
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
/// While the store is away no more than that is kept.
const WAITING_MAX: usize = 100_000;
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);
const COUNTS_KEPT: Duration = Duration::from_secs(2 * 86_400);
/// A network that a key was not seen in for so long is new again.
const NETWORKS_KEPT: Duration = Duration::from_secs(90 * 86_400);

// === impl SightingsKeeper ===

impl SightingsKeeper {
    pub(super) fn new(gateway: Arc<GatewayShared>, store: Store, clock: Arc<dyn Clock>) -> SightingsKeeper {
        let known = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(KNOWN_FOR).build();
        SightingsKeeper { gateway, store, clock, known, waiting: Sightings::default(), failed: false }
    }

    /// Runs until it is dropped: what was taken and not brought by then is lost.
    pub(super) async fn run(mut self) {
        let mut forgotten_at = Timestamp::default();
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.bring().await;
            let now = self.clock.now();
            if now.since(forgotten_at) >= FORGET_INTERVAL {
                forgotten_at = now;
                self.forget(now).await;
            }
        }
    }

    async fn bring(&mut self) {
        let mut seen = self.gateway.sightings.take();
        seen.networks.retain(|key| !self.known.contains_key(key));
        if self.waiting.len() < WAITING_MAX {
            self.waiting.add(seen);
        }
        if self.waiting.is_empty() {
            return;
        }
        match self.store.note_sightings(&self.waiting, self.clock.now()).await {
            Ok(()) => {
                let brought = std::mem::take(&mut self.waiting);
                brought.networks.into_iter().for_each(|key| self.known.insert(key, ()));
                self.failed = false;
            }
            Err(error) if !self.failed => {
                self.failed = true;
                let error = with_causes(&error);
                tracing::warn!(
                    error,
                    "denials and networks of keys can't be written down, and wait: {error}"
                );
            }
            Err(_) => {}
        }
    }

    async fn forget(&self, now: Timestamp) {
        let forgotten = self.store.forget_sightings(now.minus(COUNTS_KEPT), now.minus(NETWORKS_KEPT)).await;
        if let Err(error) = forgotten {
            let error = with_causes(&error);
            tracing::warn!(error, "old denials and networks can't be forgotten: {error}");
        }
    }
}
