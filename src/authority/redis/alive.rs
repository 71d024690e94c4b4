//! Which nodes of a cluster are known to be alive: what tells a book that was moved from one that lost writes.
//!
//! A book names the node that wrote it last. When another node finds it, either the book was moved, and its former
//! node lives, or its former node is gone, and writes may be with it. The names of living nodes go with every call.
//! They must never be stale: a name is only said while nothing has happened since every node was asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The replication ids of the masters, as long as nothing is in doubt.
#[derive(Default)]
pub(super) struct Alive {
    known: Mutex<Known>,
    doubted: Notify,
}

/// What was not yet in doubt when it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket(u64);

#[derive(Default)]
struct Known {
    doubts: u64,
    ids: Option<Arc<str>>,
}

// === impl Alive ===

impl Alive {
    /// The ids, or nothing.
    pub(super) fn ids(&self) -> Option<Arc<str>> {
        self.lock().ids.clone()
    }

    /// Something failed: forgets the ids at once, and whatever is being asked is stale too.
    pub(super) fn doubt(&self) {
        let mut known = self.lock();
        known.doubts += 1;
        known.ids = None;
        self.doubted.notify_one();
    }

    /// To be taken before the masters are asked.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.lock().doubts)
    }

    /// All masters have answered. In vain if something failed since the ticket was taken.
    pub(super) fn confirm(&self, ticket: Ticket, ids: &str) {
        let mut known = self.lock();
        if Ticket(known.doubts) == ticket && known.ids.as_deref() != Some(ids) {
            known.ids = Some(ids.into());
        }
    }

    /// Waits for a doubt that nobody has waited for yet.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Alive;

    #[test]
    fn ids_are_known_until_something_fails() {
        let alive = Alive::default();
        alive.confirm(alive.ticket(), "a b");
        assert_eq!(alive.ids().as_deref(), Some("a b"));
        alive.doubt();
        assert_eq!(alive.ids(), None);
    }

    #[test]
    fn answers_from_before_a_failure_count_for_nothing() {
        let alive = Alive::default();
        let before = alive.ticket();
        alive.doubt();
        alive.confirm(before, "a b");
        assert_eq!(alive.ids(), None);
    }
}
