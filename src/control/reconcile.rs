//! Comparing the books: what the till says was used, what the journal holds of it, and what the database has.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::principal::Operation;
use super::{Control, ControlError, Principal};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Period, Resource};
use crate::journal::Journal;
use crate::till::Till;

/// Requests on their way and batches being written make the books differ for a moment: they are compared again.
const ATTEMPTS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Accounts that differ and are named, at most.
const NAMED_MAX: usize = 100;

/// The books of this gateway's till, in units over all its accounts.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Books {
    /// The sum of what the accounts differ by; 0 is how it should be.
    pub difference: u64,
    /// Accounts that were compared.
    pub accounts: usize,
    /// Used, as the till says.
    pub till_units: u64,
    /// Recorded in the journal and not yet in the database.
    pub journal_units: u64,
    /// In the database.
    pub database_units: u64,
    /// Accounts that differ, at most 100.
    pub differing: Vec<AccountBooks>,
    pub as_of: Timestamp,
}

/// The books of one account.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AccountBooks {
    pub owner_kind: &'static str,
    pub owner_id: Uuid,
    pub resource_type: Resource,
    pub period: Period,
    pub window_start: Timestamp,
    pub till_units: u64,
    pub journal_units: u64,
    pub database_units: u64,
}

/// Units of one account: of the till, the journal, the database.
type Units3 = [u64; 3];

impl Control {
    /// Compares till, journal and database, account by account. Waits up to two seconds for requests on their way.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] where no gateway runs: only a running one holds a till and a journal.
    pub async fn reconcile(&self, principal: &Principal) -> Result<Books, ControlError> {
        principal.authorize(Operation::Reconcile)?;
        let (Some(till), Some(journal)) = (&self.parts.till, &self.parts.journal) else {
            let why = "reconcile compares what a running gateway holds, and none runs on this data directory";
            return Err(ControlError::Conflict(why.to_owned()));
        };
        let mut books = self.books(till, journal).await?;
        for _ in 1..ATTEMPTS_MAX {
            if books.difference == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            books = self.books(till, journal).await?;
        }
        Ok(books)
    }

    async fn books(&self, till: &Till, journal: &Journal) -> Result<Books, ControlError> {
        let database = self.read().await?.till_units(till.id().0).await?;
        let mut accounts: HashMap<AccountKey, Units3> = HashMap::new();
        for (account, counters) in till.counters() {
            accounts.entry(account).or_default()[0] = counters.used();
        }
        for (account, units) in journal.sums_beyond_cursor() {
            accounts.entry(account).or_default()[1] += units;
        }
        for (account, units) in journal.counted() {
            accounts.entry(account).or_default()[1] += units;
        }
        // What the database has of accounts that the till holds no more was balanced when they were let go.
        for (account, units) in database {
            if let Some(books) = accounts.get_mut(&account) {
                books[2] = units.get();
            }
        }
        Ok(Books::of(&accounts, self.now()))
    }
}

// === impl Books ===

impl Books {
    fn of(accounts: &HashMap<AccountKey, Units3>, as_of: Timestamp) -> Books {
        let sum = |book: usize| accounts.values().map(|books| books[book]).sum();
        let apart = |[till, journal, database]: Units3| till.abs_diff(journal + database);
        let mut differing: Vec<_> = accounts.iter().filter(|(_, books)| apart(**books) > 0).collect();
        differing.sort_by_key(|(account, _)| **account);
        Books {
            difference: accounts.values().map(|books| apart(*books)).sum(),
            accounts: accounts.len(),
            till_units: sum(0),
            journal_units: sum(1),
            database_units: sum(2),
            differing: differing.into_iter().take(NAMED_MAX).map(AccountBooks::of).collect(),
            as_of,
        }
    }
}

// === impl AccountBooks ===

impl AccountBooks {
    fn of((account, books): (&AccountKey, &Units3)) -> AccountBooks {
        let [till_units, journal_units, database_units] = *books;
        AccountBooks {
            owner_kind: account.owner.kind(),
            owner_id: account.owner.uuid(),
            resource_type: account.resource,
            period: account.window.period,
            window_start: account.window.start,
            till_units,
            journal_units,
            database_units,
        }
    }
}
