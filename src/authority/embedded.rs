//! The authority of a gateway that is alone: the process itself.
//!
//! It begins empty on each start and learns the accounts from the till, whose counters survived. Every answer is
//! ready at once: there is no I/O, and the lock is held for less than a microsecond, once per account and window
//! as a rule, since a till that is alone gets all that is left.
//!
//! # Why it keeps books of its own
//! A grant is committed here before the till hears of it. Two threads that ask at once therefore get one grant
//! between them, and a limit that is lowered in between does not make the first answer wrong.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::domain::{AccountKey, Limit, Units};
use crate::till::protocol::{
    Answer, Answers, Authority, AuthorityLost, BOOKS, Book, Life, Renew, Renewed, Seed, Terms,
};
use crate::till::{Counters, Till, TillId};

/// Grants units to the till of its own process.
pub struct Embedded {
    till: Arc<Till>,
    books: Mutex<Books>,
}

/// What was granted.
#[derive(Default)]
struct Books {
    accounts: HashMap<AccountKey, Ledger>,
}

/// One account.
#[derive(Clone, Debug)]
struct Ledger {
    terms: Terms,
    /// Units that nobody here claims.
    base: u64,
    claims: HashMap<TillId, Counters>,
}

/// It forgets only with its process.
const LIFE: Life = Life(1);

const UNLIMITED: u64 = u64::MAX;

// === impl Embedded ===

impl Embedded {
    pub fn new(till: Arc<Till>) -> Self {
        Embedded { till, books: Mutex::default() }
    }

    /// [`Authority::renew`] of one question, without the future.
    pub fn renew_now(&self, renew: &Renew) -> Renewed {
        let mut books = self.lock();
        let ledger = books.accounts.entry(renew.account).or_insert_with(|| Ledger::new(renew.terms));
        if let Some(account) = self.till.find(&renew.account) {
            ledger.base = ledger.base.max(account.base().get());
        }
        ledger.renew(renew)
    }

    /// Forgets accounts that the till has forgotten and whose window has ended. Answers how many.
    pub fn forget_ended(&self, now: Timestamp) -> usize {
        let ended = now.minus(Till::REUSE_GRACE);
        let is_over = |key: &AccountKey| key.window.end <= ended && self.till.find(key).is_none();
        let mut books = self.lock();
        let before = books.accounts.len();
        books.accounts.retain(|key, _| !is_over(key));
        before - books.accounts.len()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ready at once, and never lost.
impl Authority for Embedded {
    fn renew(&self, batch: &[Renew]) -> impl Future<Output = Answers> + Send {
        ready(batch.iter().map(|renew| Answer::Renewed(self.renew_now(renew))).collect())
    }

    /// Does nothing: accounts are never unseeded, since the till brings what others used.
    fn seed(&self, _seeds: &[Seed]) -> impl Future<Output = Result<(), AuthorityLost>> + Send {
        ready(Ok(()))
    }

    fn lives(&self) -> impl Future<Output = Result<Vec<Book>, AuthorityLost>> + Send {
        ready(Ok(vec![Book { life: LIFE, learning: false }; usize::from(BOOKS)]))
    }
}

// === impl Ledger ===

impl Ledger {
    fn new(terms: Terms) -> Self {
        Ledger { terms, base: 0, claims: HashMap::new() }
    }

    fn renew(&mut self, renew: &Renew) -> Renewed {
        self.agree(renew.terms);
        let mut claim = self.claims.get(&renew.till).copied().unwrap_or_default().merged(&renew.claim);
        self.claims.insert(renew.till, claim);
        claim.granted += self.portion(renew, &claim);
        self.claims.insert(renew.till, claim);
        let others = || self.claims.iter().filter(|(till, _)| **till != renew.till).map(|(_, claim)| claim);
        Renewed {
            life: LIFE,
            granted: claim.granted,
            remaining: Units::saturating(self.remaining()),
            idle_elsewhere: Units::saturating(others().map(Counters::balance).sum()),
            used_elsewhere: Units::saturating(self.base + others().map(Counters::used).sum::<u64>()),
            learning: false,
        }
    }

    /// The newer terms hold. Of the same version, the ones that came last: a limit may end by the clock.
    fn agree(&mut self, terms: Terms) {
        if terms.version >= self.terms.version {
            self.terms = terms;
        }
    }

    /// A till that is alone on an account gets all that is left of it. Several share: grants halve toward the end,
    /// so that the last unit goes out exactly once and small limits do not lie idle.
    fn portion(&self, renew: &Renew, claim: &Counters) -> u64 {
        let wanted = renew.granted_target.saturating_sub(claim.granted);
        let least = renew.granted_least.saturating_sub(claim.granted).max(1);
        let remaining = self.remaining();
        let is_alone = self.claims.len() == 1;
        match self.terms.limit {
            Limit::Unlimited => 0,
            Limit::Of(_) if wanted == 0 => 0,
            Limit::Of(_) if is_alone => remaining,
            Limit::Of(_) if remaining < least => 0,
            Limit::Of(_) => wanted.min(remaining / (2 * self.claims.len() as u64)).max(least).min(remaining),
        }
    }

    /// L - C. Overage counts against the limit: what was used above it is not there for anybody else.
    fn remaining(&self) -> u64 {
        let committed: u64 = self.claims.values().map(|claim| claim.held() + claim.overage()).sum();
        self.terms.limit.units().map_or(UNLIMITED, |limit| limit.get().saturating_sub(self.base + committed))
    }
}

#[cfg(test)]
mod tests;
