//! What a till promises, through its door.

mod file;
mod model;
mod process;
mod rate;
mod reserve;
mod threads;

use std::sync::Arc;

use tempfile::TempDir;
use uuid::Uuid;

use super::file::BootId;
use super::refill::{Ask, Refilled};
use super::*;
use crate::authority::Embedded;
use crate::clock::{Monotonic, TestClock, Timestamp};
use crate::domain::{AccountKey, Enforcement, Limit, Owner, Period, TenantId, Units, Window};

const SETTINGS: TillSettings = TillSettings { accounts_max: 10_000 };
const BOOT: BootId = BootId(Uuid::from_u128(1));
const OTHER_BOOT: BootId = BootId(Uuid::from_u128(2));

/// A till of its own with its authority.
struct Gate {
    till: Arc<Till>,
    authority: Embedded,
    directory: Arc<TempDir>,
}

impl Gate {
    fn new() -> Gate {
        Gate::open(Arc::new(TempDir::new().unwrap()), BOOT)
    }

    fn open(directory: Arc<TempDir>, boot: BootId) -> Gate {
        let till = Arc::new(Till::open_in(directory.path(), SETTINGS, boot).unwrap());
        Gate { authority: Embedded::new(till.clone()), till, directory }
    }

    /// As after `kill -9`: nothing is closed.
    fn killed(self) -> Gate {
        self.killed_and_booted(BOOT)
    }

    fn killed_and_booted(self, boot: BootId) -> Gate {
        let directory = self.directory.clone();
        drop(self);
        Gate::open(directory, boot)
    }

    fn account(&self, number: u128, limit: impl Into<Option<u64>>) -> Account {
        self.till.account(&key(number), opening(limit)).unwrap()
    }

    /// As the gateway does it: reserve, and ask the authority while it may help.
    fn admit<'a>(&self, charges: &[Charge<'a>]) -> Result<Reservation<'a>, Dry> {
        loop {
            let dry = match reserve(charges) {
                Ok(reservation) => return Ok(reservation),
                Err(dry) if dry.is_spent => return Err(dry),
                Err(dry) => dry,
            };
            let charge = &charges[dry.index];
            assert_ne!(self.refill(charge), Refilled::Waiting);
        }
    }

    fn refill(&self, charge: &Charge<'_>) -> Refilled {
        let ask = Ask::new(charge.account, charge.into(), Monotonic::default());
        ask.answered(charge.account, &self.authority.renew_now(&ask.renew))
    }

    /// Admits one request and sends it.
    fn spend(&self, account: &Account, units: u64) -> bool {
        self.admit(&[hard(account, units)]).map(|mut reservation| reservation.sent()).is_ok()
    }
}

fn key(number: u128) -> AccountKey {
    let window = Window {
        period: Period::Hour,
        start: Timestamp::from_seconds(0),
        end: Timestamp::from_seconds(3_600),
    };
    AccountKey {
        owner: Owner::Tenant(TenantId(Uuid::from_u128(number))),
        resource: "api_calls".parse().unwrap(),
        window,
    }
}

fn opening(limit: impl Into<Option<u64>>) -> Opening {
    Opening { terms: Limit::from(limit.into().map(units)).into(), base: Units::ZERO }
}

fn limit(limit: impl Into<Option<u64>>) -> Limit {
    limit.into().map(units).into()
}

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn hard(account: &Account, amount: u64) -> Charge<'_> {
    Charge::new(account, units(amount), Enforcement::Hard)
}

fn soft(account: &Account, amount: u64) -> Charge<'_> {
    Charge::new(account, units(amount), Enforcement::Soft)
}

fn monitor(account: &Account, amount: u64) -> Charge<'_> {
    Charge::new(account, units(amount), Enforcement::Monitor)
}
