//! The authority of a gateway that is alone: the process itself.
//!
//! It begins empty on each start and learns the accounts from the till, whose counters survived. Every answer is
//! ready at once: there is no I/O, and the lock is held for less than a microsecond, once per account and window
//! as a rule, since a till that is alone gets all that is left.
//!
//! # Why it keeps books of its own
//! A grant is committed here before the till hears of it. Two threads that ask at once therefore get one grant
//! between them, and a limit that is lowered in between does not make the first answer wrong.
//!
//! # Accounts with ancestors
//! A grant to the leaf is committed on each level of its path, so no level exceeds its limit. When a level has
//! nothing left while another leaf below it holds idle units, they are recalled on the spot: it is the same memory.
//! After a start the other leaves are unknown until they have asked; assert them with a question that asks for
//! nothing before the first grant.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Timestamp};
use crate::domain::{AccountKey, Limit, Units};
use crate::till::protocol::{AccountPath, Answer, Answers, Authority, AuthorityLost, Init, Renew, Renewed};
use crate::till::{Counters, Till, TillId};

/// Grants units to the till of its own process.
pub struct Embedded {
    till: Arc<Till>,
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

/// What was granted.
#[derive(Default)]
struct Books {
    accounts: HashMap<AccountKey, Ledger>,
    claims: HashMap<(AccountKey, TillId), Claim>,
}

/// One account, its descendants included.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    limit: Limit,
    version: u64,
    /// Units that nobody here claims.
    base: u64,
    /// C: what tills may use or have used.
    committed: u64,
    /// U: what they have used of it.
    used: u64,
    /// How many claims there are on it.
    claims: u64,
}

/// What one till has of one leaf.
#[derive(Clone, Debug, Default)]
struct Claim {
    path: AccountPath,
    counters: Counters,
}

// === impl Embedded ===

impl Embedded {
    pub fn new(till: Arc<Till>, clock: Arc<dyn Clock>) -> Self {
        Embedded { till, clock, books: Mutex::default() }
    }

    /// [`Authority::renew`] without the future.
    pub fn renew_now(&self, batch: &[Renew]) -> Answers {
        let mut books = self.lock();
        batch.iter().map(|renew| self.answer(&mut books, renew)).collect()
    }

    /// Forgets accounts that the till has forgotten and whose window has ended. Answers how many.
    pub fn forget_ended(&self, now: Timestamp) -> usize {
        let ended = now.minus(Till::REUSE_GRACE);
        let is_over = |key: &AccountKey| key.window.end <= ended && self.till.find(key).is_none();
        let mut books = self.lock();
        let before = books.accounts.len();
        books.claims.retain(|(leaf, _), _| !is_over(leaf));
        books.accounts.retain(|key, _| !is_over(key));
        before - books.accounts.len()
    }

    fn answer(&self, books: &mut Books, renew: &Renew) -> Answer {
        for level in &renew.path {
            if !self.learn(books, level) {
                return Answer::NoAccount(*level);
            }
        }
        books.merge(renew.till, &renew.path, &renew.claim);
        self.recall(books, renew);
        let granted = books.grant(renew);
        Answer::Renewed(Renewed {
            granted,
            remaining: Units::saturating(books.remaining(&renew.path)),
            idle_elsewhere: Units::saturating(books.idle_elsewhere(renew)),
            learning: false,
            at: self.clock.now(),
            version: renew.path.first().map_or(0, |leaf| books.accounts[leaf].version),
            asked_at: renew.asked_at,
        })
    }

    /// Whether the account is known, from the till if from nobody else. The till's limit is the limit.
    fn learn(&self, books: &mut Books, key: &AccountKey) -> bool {
        let Some(account) = self.till.find(key) else { return books.accounts.contains_key(key) };
        let ledger = books.accounts.entry(*key).or_insert_with(|| Ledger::new(account.limit()));
        ledger.set_limit(account.limit());
        ledger.base = ledger.base.max(account.base().get());
        true
    }

    /// Takes back what other leaves do not use, as far as the question needs it.
    fn recall(&self, books: &mut Books, renew: &Renew) {
        for level in renew.path.iter().skip(1) {
            let missing = books.wanted(renew).saturating_sub(books.accounts[level].remaining());
            self.recall_below(books, level, renew.path.first(), missing);
        }
    }

    /// Takes back at most `missing` units of a level's leaves, except those of `asking`.
    fn recall_below(&self, books: &mut Books, level: &AccountKey, asking: Option<&AccountKey>, missing: u64) {
        let mut missing = missing;
        for leaf in books.leaves_below(level, self.till.id()) {
            if missing == 0 {
                return;
            }
            if Some(&leaf) == asking {
                continue;
            }
            let Some(account) = self.till.find(&leaf) else { continue };
            missing = missing.saturating_sub(account.give_back(Units::saturating(missing)).get());
            let path = books.claims[&(leaf, self.till.id())].path.clone();
            books.merge(self.till.id(), &path, &account.counters());
        }
    }

    fn change_limit(&self, key: &AccountKey, limit: Limit) {
        if let Some(account) = self.till.find(key) {
            account.set_limit(limit);
        }
        let mut books = self.lock();
        let Some(ledger) = books.accounts.get_mut(key) else { return };
        ledger.set_limit(limit);
        let above = ledger.above_limit();
        self.recall_below(&mut books, key, None, above);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authority for Embedded {
    /// Ready at once, and never an error.
    fn renew(&self, batch: &[Renew]) -> impl Future<Output = Result<Answers, AuthorityLost>> + Send {
        std::future::ready(Ok(self.renew_now(batch)))
    }

    async fn init(&self, accounts: &[Init]) -> Result<(), AuthorityLost> {
        let mut books = self.lock();
        for init in accounts {
            let ledger = books.accounts.entry(init.account).or_insert_with(|| Ledger::new(init.limit));
            ledger.base = ledger.base.max(init.base.get());
        }
        Ok(())
    }

    async fn set_limit(&self, account: &AccountKey, limit: Limit) -> Result<(), AuthorityLost> {
        self.change_limit(account, limit);
        Ok(())
    }
}

// === impl Books ===

impl Books {
    /// Takes in what a till says of a leaf. Each counter only rises, so an old message changes nothing.
    fn merge(&mut self, till: TillId, path: &AccountPath, counters: &Counters) {
        let Some(leaf) = path.first() else { return };
        let mut claim = self.claims.remove(&(*leaf, till)).unwrap_or_default();
        self.book(&claim, -1);
        claim = Claim { path: path.clone(), counters: claim.counters.merged(counters) };
        self.book(&claim, 1);
        self.claims.insert((*leaf, till), claim);
    }

    /// Grants what is asked for, as far as every level allows it. Answers everything that was ever granted.
    fn grant(&mut self, renew: &Renew) -> u64 {
        let Some(leaf) = renew.path.first() else { return 0 };
        let units = self.portion(renew, self.wanted(renew));
        let Some(mut claim) = self.claims.remove(&(*leaf, renew.till)) else { return 0 };
        self.book(&claim, -1);
        claim.counters.granted += units;
        self.book(&claim, 1);
        let granted = claim.counters.granted;
        self.claims.insert((*leaf, renew.till), claim);
        granted
    }

    /// A till that is alone on an account gets all that is left of it. Several share: grants halve toward the end,
    /// so that the last unit goes out exactly once and small limits do not lie idle.
    fn portion(&self, renew: &Renew, wanted: u64) -> u64 {
        let remaining = self.remaining(&renew.path);
        let claims = renew.path.iter().map(|level| self.accounts[level].claims).max().unwrap_or(1);
        match (wanted, remaining) {
            (0, _) | (_, 0) => 0,
            (_, UNLIMITED) => wanted,
            (_, _) if claims == 1 => remaining,
            (_, _) => (remaining / (2 * claims)).clamp(1, wanted),
        }
    }

    /// What is still to be granted to reach the question's target.
    fn wanted(&self, renew: &Renew) -> u64 {
        let claim = renew.path.first().and_then(|leaf| self.claims.get(&(*leaf, renew.till)));
        renew.granted_target.saturating_sub(claim.map_or(0, |claim| claim.counters.granted))
    }

    /// What every level allows.
    fn remaining(&self, path: &AccountPath) -> u64 {
        path.iter().map(|level| self.accounts[level].remaining()).min().unwrap_or(0)
    }

    /// What others hold and do not use, on the level where nothing is left.
    fn idle_elsewhere(&self, renew: &Renew) -> u64 {
        let own = renew.path.first().and_then(|leaf| self.claims.get(&(*leaf, renew.till)));
        let own = own.map_or(0, |claim| claim.counters.balance());
        let dry =
            renew.path.iter().map(|level| &self.accounts[level]).filter(|ledger| ledger.remaining() == 0);
        dry.map(|ledger| ledger.committed.saturating_sub(ledger.used).saturating_sub(own)).min().unwrap_or(0)
    }

    fn leaves_below(&self, level: &AccountKey, till: TillId) -> Vec<AccountKey> {
        let is_below = |claim: &Claim| claim.path.contains(level);
        let mine = self.claims.iter().filter(|((_, id), claim)| *id == till && is_below(claim));
        mine.map(|((leaf, _), _)| *leaf).collect()
    }

    /// Adds a claim to each level of its path, or takes it away.
    fn book(&mut self, claim: &Claim, sign: i64) {
        for level in &claim.path {
            if let Some(ledger) = self.accounts.get_mut(level) {
                ledger.committed = ledger.committed.wrapping_add_signed(sign * claim.committed());
                ledger.used = ledger.used.wrapping_add_signed(sign * claim.used());
                ledger.claims = ledger.claims.wrapping_add_signed(sign);
            }
        }
    }
}

const UNLIMITED: u64 = u64::MAX;

// === impl Claim ===

impl Claim {
    /// Overage counts against the limit: what was used above it is not there for anybody else.
    fn committed(&self) -> i64 {
        (self.counters.held() + self.counters.overage()).cast_signed()
    }

    fn used(&self) -> i64 {
        self.counters.used().cast_signed()
    }
}

// === impl Ledger ===

impl Ledger {
    fn new(limit: Limit) -> Self {
        Ledger { limit, version: 1, base: 0, committed: 0, used: 0, claims: 0 }
    }

    fn set_limit(&mut self, limit: Limit) {
        if self.limit != limit {
            self.limit = limit;
            self.version += 1;
        }
    }

    /// L - C.
    fn remaining(&self) -> u64 {
        match self.limit {
            Limit::Of(limit) => limit.get().saturating_sub(self.base + self.committed),
            Limit::Unlimited => UNLIMITED,
        }
    }

    fn above_limit(&self) -> u64 {
        self.limit.units().map_or(0, |limit| (self.base + self.committed).saturating_sub(limit.get()))
    }
}

#[cfg(test)]
mod tests;
