//! What a worker sees of callers that nobody charges: the network that a key comes from, denials, and keys that don't work.
//!
//! Each worker notes for itself and hands over what is new at its tick, so that a request touches no memory that another
//! core writes. Whoever keeps the store [takes](SightingsShared::take) what all of them saw.
//!
//! # What a request costs
//! One look at a place of this worker's own, where the key stands with this network if it was there lately: no lock, no
//! allocation, no system call. Only what is new there is noted, and denials and bad keys, whose answers cost more. A key
//! whose place another one has taken meanwhile is noted again, which is no news to whoever knows it already.
//!
//! # What is lost
//! What was seen in the last second before a process is killed. A network is seen again with the key's next request.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::identity::Caller;
use super::refusal::{Refusal, Unauthenticated};
use crate::clock::Timestamp;
use crate::domain::{KeySeen, Sightings, TenantId, network_of};

/// What all workers saw since it was taken last.
#[derive(Default)]
pub struct SightingsShared(Mutex<Sightings>);

/// What one worker saw.
pub(super) struct SightingsOfWorker {
    hasher: RandomState,
    /// By key and network: which was seen there last. Who comes to a place takes it.
    places: Box<[Cell<Option<KeySeen>>]>,
    new: RefCell<Sightings>,
    forgotten_at: Cell<Timestamp>,
}

/// Keys and networks that are remembered; a power of two. Each takes 56 bytes.
const PLACES: usize = 1_024;

/// What one worker notes between two ticks, and what waits for the store: what is beyond it is noted when it is seen again,
/// or not at all.
const NOTED_MAX: usize = 1_024;
const WAITING_MAX: usize = 65_536;

/// Then every network is noted again, so that whoever keeps them knows which are in use.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

// === impl SightingsShared ===

impl SightingsShared {
    /// What was seen since the last call.
    pub fn take(&self) -> Sightings {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, seen: Sightings) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.add(seen);
        }
    }
}

// === impl SightingsOfWorker ===

impl SightingsOfWorker {
    /// A key was used from there and may be.
    pub(super) fn passes(&self, caller: &Caller, client: IpAddr) {
        let entitlements = caller.entitlements();
        let Some(key) = entitlements.key() else { return };
        let seen = KeySeen { tenant: entitlements.tenant(), key, network: network_of(client) };
        let place = self.place(&seen);
        if place.get() == Some(seen) {
            return;
        }
        let mut new = self.new.borrow_mut();
        if new.len() < NOTED_MAX {
            new.networks.insert(seen);
            place.set(Some(seen));
        }
    }

    /// A request of that tenant's was denied for want of units.
    pub(super) fn denied(&self, tenant: TenantId) {
        let mut new = self.new.borrow_mut();
        if new.len() < NOTED_MAX || new.denied.contains_key(&tenant) {
            *new.denied.entry(tenant).or_default() += 1;
        }
    }

    /// Somebody was refused whose key is `of` that tenant, or nobody's.
    pub(super) fn refused(&self, refusal: &Refusal, of: Option<TenantId>, client: IpAddr) {
        let is_bad_key = matches!(
            refusal,
            Refusal::Unauthenticated(Unauthenticated::Unknown | Unauthenticated::Unusable)
                | Refusal::Strange { .. }
        );
        if !is_bad_key {
            return;
        }
        let source = (of, network_of(client));
        let mut new = self.new.borrow_mut();
        if new.len() < NOTED_MAX || new.bad_keys.contains_key(&source) {
            *new.bad_keys.entry(source).or_default() += 1;
        }
    }

    /// Hands over what is new.
    pub(super) fn tick(&self, shared: &SightingsShared, now: Timestamp) {
        if !self.new.borrow().is_empty() {
            shared.add(self.new.take());
        }
        if now.since(self.forgotten_at.get()) >= FORGET_EVERY {
            self.forgotten_at.set(now);
            self.places.iter().for_each(|place| place.set(None));
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are as good as any")]
    fn place(&self, seen: &KeySeen) -> &Cell<Option<KeySeen>> {
        &self.places[self.hasher.hash_one((seen.key, seen.network)) as usize % PLACES]
    }
}

impl Default for SightingsOfWorker {
    fn default() -> Self {
        SightingsOfWorker {
            hasher: RandomState::default(),
            places: vec![Cell::new(None); PLACES].into(),
            new: RefCell::default(),
            forgotten_at: Cell::default(),
        }
    }
}
