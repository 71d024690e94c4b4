//! Balancing the till against the journal, before anything is served.

use std::cmp::Ordering;

use crate::domain::{AccountKey, Period, Units};
use crate::journal::Journal;
use crate::till::Till;

/// What [`recover`] found. All zero after an orderly stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balanced {
    /// Accounts with units that were taken for requests which were never sent.
    pub accounts: usize,
    /// Those units: given back.
    pub units: u64,
    /// Accounts of which more is recorded than the till has as used. That would be a fault of this program.
    pub overdrawn: usize,
}

/// Makes the till's books and the journal's agree. To be called once, after both were opened and before the first
/// request.
///
/// For each account, what the till has as used is what the database has (J), what published records beyond the
/// cursor claim, and a rest. The rest was taken for requests that a crash ended before they were sent: it is given
/// back. The till is first told again what the last batch told it, since a crash may have come between.
pub fn recover(till: &Till, journal: &Journal) -> Balanced {
    for (account, units) in journal.journalled() {
        till.set_journalled(&account, units);
    }
    let mut recorded = journal.sums_beyond_cursor();
    let mut balanced = Balanced::default();
    for (account, counters) in till.counters() {
        let claimed = counters.journalled + recorded.remove(&account).unwrap_or(0);
        balance(till, &account, counters.used(), claimed, &mut balanced);
    }
    for (account, units) in recorded {
        balance(till, &account, 0, units, &mut balanced);
    }
    balanced
}

fn balance(till: &Till, account: &AccountKey, used: u64, claimed: u64, balanced: &mut Balanced) {
    match used.cmp(&claimed) {
        Ordering::Equal => {}
        Ordering::Greater => {
            let rest = used - claimed;
            till.write_back(account, Units::saturating(rest));
            balanced.accounts += 1;
            balanced.units += rest;
        }
        // Gauges are released without a record, so less may be held than was ever taken.
        Ordering::Less if account.window.period == Period::Forever => {}
        Ordering::Less => {
            balanced.overdrawn += 1;
            tracing::error!(
                owner = %account.owner.uuid(),
                resource = %account.resource,
                used,
                claimed,
                "the journal claims {claimed} units of {} where the till has {used}",
                account.resource,
            );
        }
    }
}
