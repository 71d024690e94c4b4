//! When and how much to ask of the authority, and what its answer means. Decides only: who asks is the caller's
//! business.
//!
//! The loop around it: [`reserve`](super::reserve()) → [`Dry`](super::Dry) → spent? deny : [`Ask::new`] →
//! [`Authority::renew`](super::Authority::renew) → [`Ask::answered`] → reserve again, unless it is [`Refilled::Waiting`].
//!
//! # Denying from memory
//! When the authority and all other tills together have less than is wanted, that is noted *as of the change counter
//! that was read before asking*. Limit changes and units that come back raise that counter after their effect, so an
//! answer that did not see them can't hide them, and until then a denied request asks nobody.

use std::time::Duration;

use super::atomic::{AtomicU64, Ordering};
use super::protocol::{Renew, Renewed};
use super::reserve::Charge;
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

/// A question to the authority, and what the till knew when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    pub renew: Renew,
    changes: u64,
    is_claim: bool,
}

/// What a balance is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// A balance of less is of no use.
    pub least: Units,
    pub units: Units,
    /// For how long it should last at the recent rate.
    pub lasts: Duration,
}

/// How fast an account is used, as seen from one refill to the next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    asked_at: AtomicU64,
    spent: AtomicU64,
}

/// A grant lasts about this long at the recent rate: few enough questions, and not too much in one till's hands.
pub(super) const GRANT_LASTS: Duration = Duration::from_millis(100);

/// What is asked for ahead at any rate, and at most this part of the limit: so that of a limit of 10,000 and above
/// fewer than one request in a hundred asks, however slowly they come.
const AHEAD_LEAST: u64 = 312;
const AHEAD_PART: u64 = 32;

/// At most this part of the limit is asked for ahead.
const GRANT_PART: u64 = 4;

// === impl Need ===

impl From<&Charge<'_>> for Need {
    fn from(charge: &Charge<'_>) -> Self {
        Need { least: charge.least(), units: charge.units, lasts: GRANT_LASTS }
    }
}

// === impl Ask ===

impl Ask {
    /// Nothing but the till's claim.
    pub fn claim(account: &Account) -> Ask {
        // Before the counters: a change after this may not be in them, and so must outdate the answer.
        let changes = account.slot().changes();
        let claim = account.counters();
        let renew = Renew {
            account: *account.key(),
            till: account.till(),
            terms: account.terms(),
            claim,
            granted_target: claim.granted,
            granted_least: claim.granted,
            more: false,
        };
        Ask { renew, changes, is_claim: true }
    }

    /// The question that gets the account a balance of what is needed, and some more at its recent rate.
    pub fn new(account: &Account, need: Need, now: Monotonic) -> Ask {
        let Ask { renew, changes, .. } = Ask::claim(account);
        let (Renew { claim, .. }, Need { least, units, lasts }) = (renew, need);
        let pace = account.pace().ahead(claim.spent, lasts, now);
        let ahead = pace.max(AHEAD_LEAST.min(part(account, AHEAD_PART)));
        let balance = units.get().max(ahead.min(part(account, GRANT_PART)));
        let short_of = |balance: u64| claim.granted.saturating_add(balance.saturating_sub(claim.balance()));
        // Whoever asks could not be paid, whatever the balance looks like by now.
        let granted_least = short_of(least.get()).max(claim.granted.saturating_add(1));
        let granted_target = short_of(balance).max(granted_least);
        Ask { renew: Renew { granted_target, granted_least, ..renew }, changes, is_claim: false }
    }

    /// Takes the answer into the till. May be called late, twice and from many threads.
    pub fn answered(&self, account: &Account, answer: &Renewed) -> Refilled {
        let slot = account.slot();
        slot.grant(answer.granted);
        slot.set_elsewhere(answer.used_elsewhere.get());
        if self.is_claim {
            return Refilled::Waiting;
        }
        if answer.granted >= self.renew.granted_least {
            account.refill_at((!answer.remaining.is_zero()).then(|| half_spent(account)));
            return Refilled::Granted;
        }
        let least = self.renew.granted_least.saturating_sub(self.renew.claim.granted);
        let left = answer.remaining.get().saturating_add(answer.idle_elsewhere.get());
        if !answer.learning && left < least {
            slot.note_spent(self.changes, left);
            return Refilled::Spent;
        }
        Refilled::Waiting
    }

    /// Notes that what other tills hold can't be had: only what the authority itself still had is left.
    pub(super) fn give_up(&self, account: &Account, answer: &Renewed) {
        account.slot().note_spent(self.changes, answer.remaining.get());
    }

    /// Whether it asks for nothing.
    pub const fn is_claim(&self) -> bool {
        self.is_claim
    }
}

/// How much will be spent when half of the balance is.
fn half_spent(account: &Account) -> u64 {
    let counters = account.counters();
    counters.spent.saturating_add(counters.balance().div_ceil(2))
}

fn part(account: &Account, part: u64) -> u64 {
    account.limit().units().map_or(0, |limit| limit.get() / part)
}

// === impl Pace ===

impl Pace {
    /// Units that `lasts` takes at the rate since the last question. Two threads that ask at once may both be told too
    /// little: they then ask again sooner.
    fn ahead(&self, spent: u64, lasts: Duration, now: Monotonic) -> u64 {
        let since = Monotonic::from_nanos(self.asked_at.swap(now.nanos(), Ordering::Relaxed));
        let units = spent.saturating_sub(self.spent.swap(spent, Ordering::Relaxed));
        let elapsed = now.since(since).max(Duration::from_millis(1)).as_nanos();
        u64::try_from(u128::from(units) * lasts.as_nanos() / elapsed).unwrap_or(u64::MAX)
    }
}
