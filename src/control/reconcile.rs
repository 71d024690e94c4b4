//! Comparing the books: what the till says was used, what the journal holds of it, and what the database has.
//!
//! # Why requests may go on meanwhile
//! What is in flight is a book of its own, and the till is read before and after it: what the others say has to lie
//! between. A request that changes books at that very moment may be missed, or a range that is just being committed
//! be seen twice; so an account differs only if it does in twenty comparisons.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use uuid::Uuid;

use super::principal::Operation;
use super::work::Target;
use super::{Control, ControlError, Principal};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Period, Resource};
use crate::journal::Journal;
use crate::till::Till;

/// A comparison under load sees some requests in two books or in none: what differs is compared again.
const ATTEMPTS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Accounts that differ and are named, at most.
const NAMED_MAX: usize = 100;

/// The books of this gateway's till, in units over all its accounts.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Books {
    /// The sum of what the accounts differ by; 0 is how it should be.
    pub difference: u64,
    /// Accounts that were compared.
    pub accounts: usize,
    /// Used, as the till says.
    pub till_units: u64,
    /// Taken by requests that have not ended yet, and by reservations.
    pub in_flight_units: u64,
    /// Recorded in the journal and not yet in the database.
    pub journal_units: u64,
    /// In the database.
    pub database_units: u64,
    /// Of records that the database refused and that were set aside.
    pub quarantined_units: u64,
    /// Accounts that differ, at most 100.
    pub differing: Vec<AccountBooks>,
    pub as_of: Timestamp,
}

/// The books of one account.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct AccountBooks {
    pub owner_kind: &'static str,
    pub owner_id: Uuid,
    pub resource_type: Resource,
    pub period: Period,
    pub window_start: Timestamp,
    pub till_units: u64,
    pub in_flight_units: u64,
    pub journal_units: u64,
    pub database_units: u64,
    pub quarantined_units: u64,
}

/// Units of one account.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Before and after the others were looked at.
    till: [u64; 2],
    in_flight: u64,
    journal: u64,
    database: u64,
    quarantined: u64,
}

type Entries = HashMap<AccountKey, Entry>;

impl Control {
    /// Compares till, journal and database, account by account, while requests go on. Takes up to two seconds.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] where no gateway runs: only a running one holds a till and a journal.
    pub async fn reconcile(&self, principal: &Principal) -> Result<Books, ControlError> {
        self.allow(principal, Operation::Reconcile, &Target::platform("books")).await?;
        self.compare_books().await
    }

    /// The same for the gateway itself, which compares them all the time.
    ///
    /// # Errors
    /// See [`Control::reconcile`].
    pub async fn compare_books(&self) -> Result<Books, ControlError> {
        let (Some(till), Some(journal)) = (&self.parts.till, &self.parts.journal) else {
            let why = "reconcile compares what a running gateway holds, and none runs on this data directory";
            return Err(ControlError::Conflict(why.to_owned()));
        };
        let mut entries = self.entries(till, journal).await?;
        for _ in 1..ATTEMPTS_MAX {
            if entries.iter().all(|(account, entry)| entry.apart(account) == 0) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            entries = nearest(entries, self.entries(till, journal).await?);
        }
        Ok(Books::of(&entries, self.now()))
    }

    async fn entries(&self, till: &Arc<Till>, journal: &Arc<Journal>) -> Result<Entries, ControlError> {
        let mut snapshot = self.read().await?;
        let database = snapshot.till_units(till.id().0).await?;
        let quarantined = snapshot.quarantined_units(till.id().0).await?;
        drop(snapshot);
        let (till, journal) = (till.clone(), journal.clone());
        let local = spawn_blocking(move || local_entries(&till, &journal)).await;
        let mut entries = match local {
            Ok(entries) => entries,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // What the database has of accounts that the till holds no more was balanced when they were let go.
        for (account, units) in database {
            entries.entry(account).and_modify(|entry| entry.database += units.get());
        }
        for (account, units) in quarantined {
            entries.entry(account).and_modify(|entry| entry.quarantined += units.get());
        }
        Ok(entries)
    }
}

/// The books that this process holds. Reads every record that the database does not have.
fn local_entries(till: &Till, journal: &Journal) -> Entries {
    let mut entries = Entries::new();
    let before = till.counters();
    let moment = journal.moment();
    let (after, counted) = (till.counters(), journal.counted());
    for (side, counters) in [before, after].into_iter().enumerate() {
        for (account, counters) in counters {
            let entry = entries.entry(account).or_default();
            entry.till[side] = counters.used();
        }
    }
    for (account, units) in journal.sums_until(&moment) {
        entries.entry(account).or_default().journal += units;
    }
    // Sums of what was only counted are in the table of requests in flight, too.
    for (account, units) in &moment.in_flight {
        let counted = counted.get(account).copied().unwrap_or(0);
        entries.entry(*account).or_default().in_flight += units.saturating_sub(counted);
    }
    for (account, units) in counted {
        entries.entry(account).or_default().journal += units;
    }
    entries
}

/// Of two comparisons the one that differs less, account by account.
fn nearest(before: Entries, mut now: Entries) -> Entries {
    for (account, entry) in before {
        if let Some(newer) = now.get_mut(&account)
            && entry.apart(&account) < newer.apart(&account)
        {
            *newer = entry;
        }
    }
    now
}

// === impl Entry ===

impl Entry {
    /// How many units the books differ by, whatever went on while they were looked at.
    fn apart(&self, account: &AccountKey) -> u64 {
        let [before, after] = self.till;
        let recorded = self.in_flight + self.journal + self.database + self.quarantined;
        // Gauges are released without a record, so less may be held than was ever taken.
        let too_many = if account.window.period == Period::Forever {
            0
        } else {
            recorded.saturating_sub(before.max(after))
        };
        too_many + before.min(after).saturating_sub(recorded)
    }
}

// === impl Books ===

impl Books {
    fn of(entries: &Entries, as_of: Timestamp) -> Books {
        let sum = |of: fn(&Entry) -> u64| entries.values().map(of).sum();
        let apart = |(account, entry): &(&AccountKey, &Entry)| entry.apart(account);
        let mut differing: Vec<_> = entries.iter().filter(|entry| apart(entry) > 0).collect();
        differing.sort_by_key(|(account, _)| **account);
        Books {
            difference: differing.iter().map(apart).sum(),
            accounts: entries.len(),
            till_units: sum(|entry| entry.till[1]),
            in_flight_units: sum(|entry| entry.in_flight),
            journal_units: sum(|entry| entry.journal),
            database_units: sum(|entry| entry.database),
            quarantined_units: sum(|entry| entry.quarantined),
            differing: differing.into_iter().take(NAMED_MAX).map(AccountBooks::of).collect(),
            as_of,
        }
    }
}

// === impl AccountBooks ===

impl AccountBooks {
    fn of((account, entry): (&AccountKey, &Entry)) -> AccountBooks {
        AccountBooks {
            owner_kind: account.owner.kind(),
            owner_id: account.owner.uuid(),
            resource_type: account.resource,
            period: account.window.period,
            window_start: account.window.start,
            till_units: entry.till[1],
            in_flight_units: entry.in_flight,
            journal_units: entry.journal,
            database_units: entry.database,
            quarantined_units: entry.quarantined,
        }
    }
}
