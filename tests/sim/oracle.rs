//! What must hold, checked after every step.
//!
//! For each account, with the sums over all tills, those included that are dead:
//! 1. In each till the balance is never negative, no counter falls, and what is used is exactly what requests were
//!    charged: so a denied request has changed nothing.
//! 2. A till holds no more than an authority has granted to it.
//! 3. Of a hard quota, Σ (G − R) + O is at most the limit, or what was out when the limit was lowered, plus what was
//!    counted while a till knew of no limit, plus the *deficit*: what tills held that could not claim it before a new
//!    life granted, and what the servers had forgotten of it. It is 0 if all tills claimed in time.
//!
//! # Why the deficit is the largest, and not the sum, over all lives
//! A life grants only while what it has recorded is below the limit. What is out is what it has recorded and the deficit
//! of that life; what earlier lives granted is in either.

use std::collections::BTreeMap;

use tollgate::domain::AccountKey;
use tollgate::till::Counters;
use tollgate::till::protocol::Life;

use super::plan::{Kind, Micros};

/// What happened to one account.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    pub(crate) quota: usize,
    pub(crate) is_hard: bool,
    /// The highest limit that held so far, or what was out when limits had settled.
    pub(crate) ceiling: Option<u64>,
    /// Counted without a limit.
    pub(crate) unlimited: u64,
    pub(crate) deficit: u64,
    pub(crate) lines: BTreeMap<usize, Line>,
    /// The newest life that was seen to grant.
    pub(crate) granting: Life,
    /// Since when at least one unit could have been had.
    pub(crate) available_since: Option<Micros>,
}

/// What one till has of an account.
#[derive(Default, Debug)]
pub(crate) struct Line {
    pub(crate) last: Counters,
    /// What requests were charged.
    pub(crate) charged: u64,
    /// What the authority has answered at most, and when.
    pub(crate) promised: u64,
    pub(crate) promised_at: Micros,
    pub(crate) is_dead: bool,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) ledgers: BTreeMap<AccountKey, Ledger>,
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn open(&mut self, key: AccountKey, quota: usize, kind: Kind, limit: Option<u64>) {
        self.ledgers.entry(key).or_insert_with(|| Ledger {
            quota,
            is_hard: kind != Kind::Soft,
            ceiling: limit,
            ..Ledger::default()
        });
    }

    pub(crate) fn line(&mut self, key: &AccountKey, till: usize) -> &mut Line {
        self.ledgers.get_mut(key).unwrap().lines.entry(till).or_default()
    }

    /// Looks at the counters of a till.
    pub(crate) fn observe(&mut self, till: usize, all: &[(AccountKey, Counters)]) -> Result<(), String> {
        for (key, counters) in all {
            let Some(ledger) = self.ledgers.get_mut(key) else { continue };
            let line = ledger.lines.entry(till).or_default();
            let is_same = Counters { journalled: line.last.journalled, ..*counters } == line.last;
            let is_exact = counters.used() == line.charged;
            if is_same && is_exact {
                continue;
            }
            line.check(counters).map_err(|what| format!("till {till}, quota {}: {what}", ledger.quota))?;
            line.last = *counters;
            ledger.check()?;
        }
        Ok(())
    }
}

// === impl Ledger ===

impl Ledger {
    pub(crate) fn used(&self) -> u64 {
        self.lines.values().map(|line| line.last.used()).sum()
    }

    /// Σ (G − R) + O; what the dead hold and have not used can't be used any more.
    pub(crate) fn committed(&self) -> u64 {
        self.lines.values().map(Line::committed).sum()
    }

    fn check(&self) -> Result<(), String> {
        let Some(ceiling) = self.ceiling.filter(|_| self.is_hard) else { return Ok(()) };
        let (committed, most) = (self.committed(), ceiling + self.unlimited + self.deficit);
        if committed > most {
            return Err(format!(
                "quota {}: {committed} units are out, {most} may be ({} of them counted without a limit, {} the deficit)",
                self.quota, self.unlimited, self.deficit
            ));
        }
        Ok(())
    }
}

// === impl Line ===

impl Line {
    pub(crate) fn committed(&self) -> u64 {
        if self.is_dead { self.last.used() } else { self.last.held() + self.last.overage() }
    }

    fn check(&self, now: &Counters) -> Result<(), String> {
        let last = &self.last;
        let merged = last.merged(now);
        if merged != (Counters { journalled: merged.journalled, ..*now }) {
            return Err(format!("a counter fell: {last:?}, then {now:?}"));
        }
        if now.spent < now.refunded || now.granted < now.returned || now.spent - now.refunded > now.held() {
            return Err(format!("more is spent than was granted: {now:?}"));
        }
        if now.granted > self.promised {
            return Err(format!(
                "{} units were granted, and {} taken for granted",
                self.promised, now.granted
            ));
        }
        if now.used() != self.charged {
            return Err(format!("requests were charged {} units: {now:?}", self.charged));
        }
        Ok(())
    }
}
