//! Many charges, all or nothing.
//!
//! A request may have to pay several accounts: a key's calls, its tenant's calls, bytes. [`reserve`] takes from
//! all of them or from none, and hands out the only proof of payment there is, a [`Reservation`].
//!
//! # Why nothing is locked for it
//! The charges are first looked at and then taken, one compare-and-swap each. So a denied request touches no
//! counter, except when another thread takes the last units between the look and the take: then what was taken
//! already is given back, and use is what it was.

use smallvec::SmallVec;

use super::slot::{Above, Payment};
use super::table::Account;
use crate::domain::{Enforcement, LossPolicy, RecordedCharge, Units, UsageRecord};

/// What one request has to pay to one account.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    pub account: &'a Account,
    pub units: Units,
    pub when_dry: WhenDry,
    /// For whoever asks the authority and gets no answer. [`reserve`] does not look at it.
    pub on_loss: LossPolicy,
}

/// What becomes of units that the balance can't pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenDry {
    /// They are not admitted: hard quotas.
    Deny,
    /// They are overage as soon as the authority has nothing left: soft and monitored quotas.
    CountOnceSpent,
    /// They are overage at once, as long as no more than so many are in all: when the authority can't be asked.
    CountUpTo(Units),
}

/// A charge can't be paid, so none was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dry {
    /// The first charge whose account can't pay it.
    pub index: usize,
    /// The authority has nothing left either: deny. Otherwise ask it ([`super::refill`]) and reserve again. Never
    /// true for a charge that may be overage: once its account is spent, it is.
    pub is_spent: bool,
}

/// Proof that a request is paid for.
///
/// Dropping it before [`Reservation::sent`] gives everything back; after it, the units stay used.
#[must_use = "dropping a reservation gives its units back"]
pub struct Reservation<'a> {
    /// Each door that it passes copies what is held here, so that is what most requests have.
    paid: SmallVec<[Paid<'a>; 4]>,
    state: State,
}

struct Paid<'a> {
    account: &'a Account,
    payment: Payment,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Reserved,
    Sent,
    GivenBack,
}

/// Takes all charges or none; at most [`UsageRecord::CHARGES_MAX`]. No system call, no lock, and up to four charges no heap.
///
/// Each charge is paid from its account's balance; what that can't pay becomes what [`WhenDry`] says. Charges of
/// unlimited accounts are only counted.
///
/// # Errors
/// [`Dry`]: no use has changed.
#[inline]
pub fn reserve<'a>(charges: &[Charge<'a>]) -> Result<Reservation<'a>, Dry> {
    debug_assert!(charges.len() <= UsageRecord::CHARGES_MAX, "{} charges", charges.len());
    if charges.len() > 1 {
        look(charges)?;
    }
    let mut reservation = Reservation { paid: SmallVec::new(), state: State::Reserved };
    for (index, charge) in charges.iter().enumerate() {
        // Dropping the reservation gives back what the charges before this one took.
        let payment = charge.take().ok_or_else(|| charge.dry(index))?;
        reservation.paid.push(Paid { account: charge.account, payment });
    }
    Ok(reservation)
}

fn look(charges: &[Charge<'_>]) -> Result<(), Dry> {
    let can_take = |charge: &Charge<'_>| charge.account.slot().can_take(charge.units.get(), charge.above());
    match charges.iter().position(|charge| !can_take(charge)) {
        Some(index) => Err(charges[index].dry(index)),
        None => Ok(()),
    }
}

// === impl Charge ===

impl<'a> Charge<'a> {
    pub fn new(account: &'a Account, units: Units, enforcement: Enforcement) -> Charge<'a> {
        Charge { account, units, when_dry: enforcement.into(), on_loss: LossPolicy::default() }
    }
}

impl Charge<'_> {
    #[inline]
    fn take(&self) -> Option<Payment> {
        self.account.slot().take(self.units.get(), self.above())
    }

    #[inline]
    /// The fewest units that help: of a charge that may be overage any part, of others all of it.
    pub fn least(&self) -> Units {
        match self.when_dry {
            WhenDry::Deny => self.units,
            WhenDry::CountOnceSpent | WhenDry::CountUpTo(_) => self.units.min(Units::ONE),
        }
    }

    fn above(&self) -> Above {
        match self.when_dry {
            WhenDry::Deny => Above::Deny,
            WhenDry::CountOnceSpent => Above::Count,
            WhenDry::CountUpTo(most) => Above::CountUpTo(most.get()),
        }
    }

    fn dry(&self, index: usize) -> Dry {
        let is_denied = self.when_dry == WhenDry::Deny;
        Dry { index, is_spent: is_denied && self.account.slot().can_never_pay(self.units.get()) }
    }
}

// === impl WhenDry ===

impl From<Enforcement> for WhenDry {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Hard => WhenDry::Deny,
            Enforcement::Soft | Enforcement::Monitor => WhenDry::CountOnceSpent,
        }
    }
}

// === impl Reservation ===

impl Reservation<'_> {
    /// The request is about to reach the upstream: from now on dropping keeps the units.
    pub fn sent(&mut self) {
        if self.state == State::Reserved {
            self.state = State::Sent;
        }
    }

    /// Gives all units back, in the window they were taken from. At most once: a second call does nothing.
    pub fn refund(&mut self) {
        if self.state != State::GivenBack {
            self.give_back();
        }
    }

    /// Sets what charge `index` really cost, when that is only known at the end. Fewer units than were taken: the
    /// rest is given back. More: the rest is taken, and what the balance can't pay is counted as overage, since it
    /// is used already. After [`Reservation::refund`] it does nothing.
    ///
    /// # Panics
    /// If there is no charge `index`.
    pub fn settle(&mut self, index: usize, units: Units) {
        if self.state != State::GivenBack {
            self.paid[index].settle(units.get());
        }
    }

    /// What the request has used, as things stand: after a refund nothing, in as many charges.
    pub fn charged(&self) -> SmallVec<[RecordedCharge; 4]> {
        let mut charged = SmallVec::new();
        self.paid.iter().for_each(|paid| charged.push(paid.recorded()));
        charged
    }

    fn give_back(&mut self) {
        self.state = State::GivenBack;
        for paid in &mut self.paid {
            paid.settle(0);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.state == State::Reserved {
            self.give_back();
        }
    }
}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("state", &self.state).field("charged", &self.charged()).finish()
    }
}

// === impl Paid ===

impl Paid<'_> {
    fn settle(&mut self, units: u64) {
        let slot = self.account.slot();
        let total = self.payment.total();
        if units > total {
            self.payment = self.payment.plus(slot.take_all(units - total));
        } else if units < total {
            let put_back = slot.put_back(self.payment.last(total - units));
            self.payment = self.payment.less(put_back);
        }
    }

    fn recorded(&self) -> RecordedCharge {
        RecordedCharge {
            account: *self.account.key(),
            units: Units::saturating(self.payment.total()),
            overage: Units::saturating(self.payment.above_limit),
        }
    }
}
