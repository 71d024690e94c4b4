//! Callers whose keys came lately to this worker: recognized by the text of the key alone.
//!
//! A key's digest, and the look-up by it in the cache that all workers share, cost more than all other steps of an
//! admission together, and the next request is often of a key that was just here. An entry is used only while the
//! [directory](crate::directory) holds it to be true, so what is changed, suspended or revoked is known here as soon
//! as there.
//!
//! # Why the text may be kept
//! It lies in the read buffers of the same connections; here it is for as long as the key is used. Comparing takes the
//! same time wherever two texts begin to differ, and the place to look at comes from a hash with a key of this
//! process: how long an answer takes tells nothing of the keys of others.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::clock::Timestamp;
use crate::directory::{Entitlements, Subject};
use crate::secret::hash::KeyText;

/// Callers that are remembered; a power of two. Each takes 150 bytes here and holds entitlements of about 5 KB, most of
/// which the directory has cached anyway.
const PLACES: usize = 256;

pub(super) struct Regulars {
    hasher: RandomState,
    /// By the hash of the key. Who comes to a place takes it.
    places: Box<[RefCell<Option<Regular>>]>,
}

struct Regular {
    key: KeyText,
    subject: Subject,
    entitlements: Arc<Entitlements>,
}

// === impl Regulars ===

impl Regulars {
    /// Whose key that is, if it came lately and nothing has changed since.
    pub(super) fn find(&self, text: &[u8], now: Timestamp) -> Option<(Subject, Arc<Entitlements>)> {
        let place = self.place(text).borrow();
        let Regular { subject, entitlements, .. } = place.as_ref().filter(|regular| regular.key.is(text))?;
        entitlements.holds(now).then(|| (subject.clone(), entitlements.clone()))
    }

    pub(super) fn remember(&self, key: KeyText, subject: Subject, entitlements: Arc<Entitlements>) {
        *self.place(key.as_bytes()).borrow_mut() = Some(Regular { key, subject, entitlements });
    }

    /// Lets go of what no longer holds, and of the accounts that it keeps.
    pub(super) fn tick(&self, now: Timestamp) {
        for place in &self.places {
            let mut place = place.borrow_mut();
            if place.as_ref().is_some_and(|regular| !regular.entitlements.holds(now)) {
                *place = None;
            }
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        self.places.iter().for_each(|place| *place.borrow_mut() = None);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are as good as any")]
    fn place(&self, text: &[u8]) -> &RefCell<Option<Regular>> {
        &self.places[self.hasher.hash_one(text) as usize % PLACES]
    }
}

impl Default for Regulars {
    fn default() -> Self {
        Regulars { hasher: RandomState::default(), places: (0..PLACES).map(|_| RefCell::default()).collect() }
    }
}
