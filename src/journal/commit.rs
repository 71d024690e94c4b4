//! Group commit: whoever must not go on before its record is on the disk waits here, and one sync wakes all whose
//! records it reached.
//!
//! Knows no runtime: a waiting task is a [`Waker`], the thread that syncs waits at the [`Bell`]. While one sync is
//! under way the next one's records gather, so the disk's speed decides how many share it, and no timer does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::cursor::Position;
use super::segment::Shard;

/// Tasks of one shard that wait for a sync.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Vec<(u64, Waker)>>);

/// Rung by those who wait, for the thread that syncs.
#[derive(Default)]
pub(super) struct Bell {
    is_rung: Mutex<bool>,
    rings: Condvar,
}

// === impl Waiters ===

impl Waiters {
    fn add(&self, position: Position, waker: &Waker) {
        let mut waiting = self.lock();
        let position = position.to_bits();
        if !waiting.iter().any(|(other, known)| *other == position && known.will_wake(waker)) {
            waiting.push((position, waker.clone()));
        }
    }

    /// Wakes those whose records end at or before `synced`. Not under the lock: a task may run at once.
    pub(super) fn wake(&self, synced: Position) {
        let reached = |(position, _): &mut (u64, Waker)| *position <= synced.to_bits();
        let woken: Vec<_> = self.lock().extract_if(.., reached).collect();
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Bell ===

impl Bell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rings.notify_one();
    }

    /// Returns when it was rung since the last call, or after `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rings.wait_timeout_while(rung, patience, |is_rung| !*is_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// Done when a power loss can't take what `shard`'s writer published below `position`.
///
/// Dropping it at any point costs nothing.
pub(super) fn synced(
    shard: Arc<Shard>,
    bell: Arc<Bell>,
    position: Position,
) -> impl Future<Output = ()> + 'static {
    std::future::poll_fn(move |context: &mut Context<'_>| {
        if shard.is_synced(position) {
            return Poll::Ready(());
        }
        shard.waiters.add(position, context.waker());
        // A sync may have ended between the two lines above, and then nobody would wake this task.
        if shard.is_synced(position) {
            return Poll::Ready(());
        }
        bell.ring();
        Poll::Pending
    })
}
