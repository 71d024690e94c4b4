//! When and how much to ask of the authority, and what its answer means. Decides only: who asks is the caller's
//! business.
//!
//! The loop around it: [`reserve`](super::reserve()) → [`Dry`](super::Dry) → spent? deny : [`ask`] →
//! [`Authority::renew`](super::Authority::renew) → [`apply`] → reserve again, unless it is [`Refilled::Waiting`].
//!
//! # Denying from memory
//! When the authority has nothing left and no other till holds idle units, the account is marked as spent *as of
//! the change counter that was read before asking*. Limit changes and units that come back raise that counter
//! after their effect, so an answer that did not see them can't hide them, and until then a denied request asks
//! nobody.

use std::time::Duration;

use smallvec::smallvec;

use super::atomic::{AtomicU64, Ordering};
use super::protocol::{Epoch, Renew, Renewed};
use super::table::Account;
use crate::clock::Monotonic;
use crate::domain::Units;

/// What an answer means for a request that waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refilled {
    /// There are units: reserve again.
    Granted,
    /// There are none anywhere: reserve again, which says for each charge whether to deny it.
    Spent,
    /// Other tills hold idle units, or the authority is learning: wait a little, then ask again.
    Waiting,
}

/// How fast an account is used, as seen from one refill to the next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    asked_at: AtomicU64,
    spent: AtomicU64,
}

/// A grant lasts about this long at the recent rate: few enough questions, and not too much in one till's hands.
const GRANT_LASTS: Duration = Duration::from_millis(100);

/// At most this part of the limit is asked for beyond what is wanted at once.
const GRANT_PART: u64 = 4;

/// The question that gets the account a balance of at least `wanted`, and some more at its recent rate.
pub fn ask(account: &Account, wanted: Units, now: Monotonic) -> Renew {
    // Before the counters: a change after this may not be in them, and so must outdate the answer.
    let asked_at = account.slot().changes();
    let claim = account.counters();
    let shortfall = wanted.get().saturating_sub(claim.balance());
    let ahead = account.pace().ahead(claim.spent, now).min(most_ahead(account));
    Renew {
        path: smallvec![*account.key()],
        till: account.till(),
        epoch: Epoch::default(),
        claim,
        granted_target: claim.granted.saturating_add(shortfall.max(ahead)),
        asked_at,
    }
}

/// Takes the answer into the till. May be called late, twice and from many threads.
pub fn apply(account: &Account, answer: &Renewed) -> Refilled {
    let is_more = account.slot().grant(answer.granted);
    if answer.is_nothing_left() {
        account.slot().note_spent(answer.asked_at);
        // What is there may be another thread's grant, and enough.
        return if account.counters().balance() > 0 { Refilled::Granted } else { Refilled::Spent };
    }
    let is_there = !answer.learning && !answer.remaining.is_zero();
    if is_more || is_there { Refilled::Granted } else { Refilled::Waiting }
}

fn most_ahead(account: &Account) -> u64 {
    account.limit().units().map_or(0, |limit| limit.get() / GRANT_PART)
}

// === impl Pace ===

impl Pace {
    /// Units that [`GRANT_LASTS`] takes at the rate since the last question. Two threads that ask at once may
    /// both be told too little: they then ask again sooner.
    fn ahead(&self, spent: u64, now: Monotonic) -> u64 {
        let since = Monotonic::from_nanos(self.asked_at.swap(now.nanos(), Ordering::Relaxed));
        let units = spent.saturating_sub(self.spent.swap(spent, Ordering::Relaxed));
        let elapsed = now.since(since).max(Duration::from_millis(1)).as_nanos();
        u64::try_from(u128::from(units) * GRANT_LASTS.as_nanos() / elapsed).unwrap_or(u64::MAX)
    }
}
