//! One account's counters, and the atomic steps between them.
//!
//! Knows only atomics and bare integers: it is compiled a second time against loom, which runs it through every
//! interleaving (`tests/loom.rs`).
//!
//! # The balance
//! `granted - returned - (spent - refunded)`, and never more than `limit - base - overage - (spent - refunded)`:
//! a limit that was lowered holds from the very next compare-and-swap. Only `spent` reduces it, and `spent` only
//! rises, so a compare-and-swap that succeeds has seen every reduction. All else is read in an order in which an
//! older value makes the balance look smaller: `refunded` before `returned`, `over_returned` before `over`.
//!
//! # Units that come back
//! A refund raises `refunded`. Giving units back to the authority takes them like a request would, then raises
//! `returned`, then `refunded`: at each point in between the balance looks smaller than it is. A process that
//! is killed in between leaves units that are spent and recorded nowhere; recovery refunds those like any others.

use super::atomic::{AtomicU64, Ordering};

/// Words of a slot's key.
pub(super) const KEY_WORDS: usize = 9;

/// The limit of an account that has none.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// The counters of one account, as one thread saw them; not all in the same instant. Everything is in units and
/// only rises.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// G: granted by the authority.
    pub granted: u64,
    /// S: taken from the balance.
    pub spent: u64,
    /// R: given back to the authority.
    pub returned: u64,
    /// F: given back to the balance.
    pub refunded: u64,
    /// Admitted above the balance: soft and monitored quotas, unlimited accounts.
    pub over: u64,
    /// What was given back of `over`.
    pub over_returned: u64,
    /// J: units whose records the database has committed.
    pub journalled: u64,
}

/// The counters of one account, in memory that the file shares. Three cache lines: what an admission reads, what
/// it does not, and the key.
#[cfg_attr(test, derive(Default))]
#[repr(C, align(64))]
pub(super) struct Slot {
    spent: AtomicU64,
    granted: AtomicU64,
    refunded: AtomicU64,
    returned: AtomicU64,
    over: AtomicU64,
    over_returned: AtomicU64,
    limit: AtomicU64,
    /// Units that other tills used.
    base: AtomicU64,

    journalled: AtomicU64,
    /// Raised after whatever may let the authority grant more.
    changes: AtomicU64,
    /// `changes` as they were when the authority had no more than `left`.
    spent_at: AtomicU64,
    /// Whether the slot is in use, and the checksum of its key: see `file.rs`.
    seal: AtomicU64,
    key: [AtomicU64; KEY_WORDS],
    /// Units that could still be had as of `spent_at`, too few for who asked.
    left: AtomicU64,
    /// Units that other tills have used, as far as the authority has told: for showing only.
    elsewhere: AtomicU64,
    spare: AtomicU64,
}

/// What becomes of units that the balance can't pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Above {
    /// Nothing is taken.
    Deny,
    /// They are counted, once the authority has nothing left to grant.
    Count,
    /// They are counted, as long as no more than so many are in all.
    CountUpTo(u64),
}

/// How units were paid.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Payment {
    pub(super) balance: u64,
    /// Counted above the balance.
    pub(super) over: u64,
    /// How many of `over` were above a limit; the rest were unlimited.
    pub(super) above_limit: u64,
}

// === impl Counters ===

impl Counters {
    /// S - F + O: what was used through this till.
    pub const fn used(&self) -> u64 {
        self.spent.saturating_sub(self.refunded) + self.overage()
    }

    /// O: what was admitted above the balance and not given back.
    pub const fn overage(&self) -> u64 {
        self.over.saturating_sub(self.over_returned)
    }

    /// G - R: what this till may use, the used part included.
    pub const fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// The newer of each.
    #[must_use]
    pub fn merged(&self, other: &Counters) -> Counters {
        Counters {
            granted: self.granted.max(other.granted),
            spent: self.spent.max(other.spent),
            returned: self.returned.max(other.returned),
            refunded: self.refunded.max(other.refunded),
            over: self.over.max(other.over),
            over_returned: self.over_returned.max(other.over_returned),
            journalled: self.journalled.max(other.journalled),
        }
    }

    /// What is left of [`Counters::held`].
    pub const fn balance(&self) -> u64 {
        self.held().saturating_sub(self.spent.saturating_sub(self.refunded))
    }
}

// === impl Payment ===

impl Payment {
    pub(super) const fn total(self) -> u64 {
        self.balance + self.over
    }

    /// The part of it that comes back first: what is above the balance, and then of the balance.
    pub(super) fn last(self, units: u64) -> Payment {
        let over = self.over.min(units);
        Payment { balance: self.balance.min(units - over), over, above_limit: 0 }
    }

    /// What is left of it without its [last](Payment::last) `units`.
    pub(super) fn less(self, units: u64) -> Payment {
        let last = self.last(units);
        let over = self.over - last.over;
        Payment { balance: self.balance - last.balance, over, above_limit: self.above_limit.min(over) }
    }

    pub(super) fn plus(self, more: Payment) -> Payment {
        Payment {
            balance: self.balance + more.balance,
            over: self.over + more.over,
            above_limit: self.above_limit + more.above_limit,
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Takes `units`, or nothing. `None`: the balance can't pay them, and `above` does not let them be counted.
    ///
    /// Units of an unlimited account are only counted.
    #[inline]
    pub(super) fn take(&self, units: u64, above: Above) -> Option<Payment> {
        if self.is_unlimited() {
            return Some(self.count_unlimited(units));
        }
        let mut spent = self.spent.load(Ordering::Acquire);
        loop {
            let balance = self.payable(units, spent, above)?;
            match self.raise_spent(spent, balance) {
                Ok(()) => return self.pay_rest(balance, units - balance, above),
                Err(now) => spent = now,
            }
        }
    }

    /// Whether [`Slot::take`] would succeed now.
    #[inline]
    pub(super) fn can_take(&self, units: u64, above: Above) -> bool {
        self.is_unlimited() || self.payable(units, self.spent.load(Ordering::Acquire), above).is_some()
    }

    /// Takes `units` that are used already: what the balance can't pay is counted above it.
    pub(super) fn take_all(&self, units: u64) -> Payment {
        if self.is_unlimited() {
            return self.count_unlimited(units);
        }
        let balance = self.take_up_to(units, Slot::available);
        // The till may hold less than the limit still allows.
        let within = self.headroom().min(units - balance);
        let payment = self.count_above(balance, units - balance);
        Payment { above_limit: payment.over - within, ..payment }
    }

    /// Puts a payment back where it came from, and answers how many units that were. Fewer than the payment only
    /// if they were released meanwhile: use never falls below zero.
    pub(super) fn put_back(&self, payment: Payment) -> u64 {
        let over_left = payment.over - self.lower_overage(payment.over);
        let wanted = payment.balance + over_left;
        let left = wanted - self.raise_refunded(wanted);
        payment.total() - (left - self.lower_overage(left))
    }

    /// Lowers use by `units`, the overage first; by nothing, and `false`, if that many are not in use.
    pub(super) fn release(&self, units: u64) -> bool {
        let lowered = self.lower_overage(units);
        if self.raise_refunded_by(units - lowered) {
            return true;
        }
        self.count(lowered);
        false
    }

    /// Gives at most `units` of the balance back to the authority, and answers how many.
    pub(super) fn give_back(&self, units: u64) -> u64 {
        let units = self.take_up_to(units, Slot::balance);
        if units > 0 {
            self.returned.fetch_add(units, Ordering::AcqRel);
            self.refunded.fetch_add(units, Ordering::AcqRel);
            self.changed();
        }
        units
    }

    /// Copies an authority's answer: everything it ever granted to this till. Answers whether that was news.
    pub(super) fn grant(&self, granted: u64) -> bool {
        self.granted.fetch_max(granted, Ordering::AcqRel) < granted
    }

    /// Notes what the database has committed.
    pub(super) fn set_journalled(&self, units: u64) {
        self.journalled.fetch_max(units, Ordering::AcqRel);
    }

    /// The new limit holds for every [`Slot::take`] that begins after this returned. What is out above it goes
    /// back to the authority. Answers whether it was another one.
    pub(super) fn set_limit(&self, limit: u64) -> bool {
        let is_other = self.limit.swap(limit, Ordering::AcqRel) != limit;
        if is_other {
            self.changed();
            self.give_back(self.held_above(limit));
        }
        is_other
    }

    /// Notes that other tills used at least `units`.
    pub(super) fn raise_base(&self, units: u64) {
        self.base.fetch_max(units, Ordering::AcqRel);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    pub(super) fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.limit() == UNLIMITED
    }

    /// Where [`Slot::note_spent`] must have begun: read it before the counters that the authority is told.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Notes that at `changes` the authority had no more than `left`. A change since then has already undone it.
    pub(super) fn note_spent(&self, changes: u64, left: u64) {
        self.left.store(left, Ordering::Release);
        self.spent_at.store(changes, Ordering::Release);
    }

    /// Whether the authority has nothing left to grant, as far as is known.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent_for(1)
    }

    /// Whether the authority can't grant `units`, as far as is known. A note that is being replaced by another of the
    /// same change may be read in halves: both are as old as that change.
    pub(super) fn is_spent_for(&self, units: u64) -> bool {
        self.spent_at.load(Ordering::Acquire) == self.changes() && units > self.left.load(Ordering::Acquire)
    }

    /// Whether neither the balance nor the authority can pay `units`, as far as is known.
    pub(super) fn can_never_pay(&self, units: u64) -> bool {
        let available = self.available(self.spent.load(Ordering::Acquire));
        units > available && (self.is_spent_for(units - available) || self.headroom() < units)
    }

    /// Forgets that the authority had too little: it may have more by now.
    pub(super) fn forget_denial(&self) {
        self.changed();
    }

    #[inline]
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Relaxed)
    }

    pub(super) fn set_elsewhere(&self, units: u64) {
        self.elsewhere.store(units, Ordering::Relaxed);
    }

    /// What was returned is read before what was taken: sums of use come out too large rather than too small.
    pub(super) fn counters(&self) -> Counters {
        let refunded = self.refunded.load(Ordering::Acquire);
        let over_returned = self.over_returned.load(Ordering::Acquire);
        let returned = self.returned.load(Ordering::Acquire);
        Counters {
            refunded,
            over_returned,
            returned,
            granted: self.granted.load(Ordering::Acquire),
            spent: self.spent.load(Ordering::Acquire),
            over: self.over.load(Ordering::Acquire),
            journalled: self.journalled.load(Ordering::Acquire),
        }
    }

    /// Begins an account in a slot that nobody uses. [`Slot::set_seal`] makes it count.
    pub(super) fn begin(&self, key: &[u64; KEY_WORDS], limit: u64, base: u64) {
        for counter in [
            &self.spent,
            &self.granted,
            &self.refunded,
            &self.returned,
            &self.over,
            &self.over_returned,
            &self.journalled,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        for (word, value) in self.key.iter().zip(key) {
            word.store(*value, Ordering::Relaxed);
        }
        self.limit.store(limit, Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
        self.elsewhere.store(0, Ordering::Relaxed);
        self.forget_spent();
    }

    /// Forgets what an earlier process knew of the authority.
    pub(super) fn forget_spent(&self) {
        self.changes.store(1, Ordering::Relaxed);
        self.spent_at.store(0, Ordering::Relaxed);
    }

    pub(super) fn key(&self) -> [u64; KEY_WORDS] {
        std::array::from_fn(|word| self.key[word].load(Ordering::Relaxed))
    }

    pub(super) fn seal(&self) -> u64 {
        self.seal.load(Ordering::Acquire)
    }

    pub(super) fn set_seal(&self, seal: u64) {
        self.seal.store(seal, Ordering::Release);
    }

    /// How much of `units` the balance pays when `spent` is what was spent; `None` if that is not enough.
    #[inline]
    fn payable(&self, units: u64, spent: u64, above: Above) -> Option<u64> {
        let available = self.available(spent);
        if available >= units {
            return Some(units);
        }
        let is_counted = match above {
            Above::Deny => false,
            Above::Count => self.is_spent_for(units - available) || self.holds_all_it_may(),
            Above::CountUpTo(most) => self.has_room_above(units - available, most),
        };
        is_counted.then_some(available)
    }

    /// Whether the limit leaves no room for another grant.
    fn holds_all_it_may(&self) -> bool {
        self.held() >= self.allowed()
    }

    /// Counts what the balance did not pay. `None`, and everything put back, if others were faster to the most that
    /// may be counted.
    #[inline]
    fn pay_rest(&self, balance: u64, rest: u64, above: Above) -> Option<Payment> {
        let Above::CountUpTo(most) = above else { return Some(self.count_above(balance, rest)) };
        if self.count_up_to(rest, most) {
            return Some(Payment { balance, over: rest, above_limit: rest });
        }
        self.raise_refunded(balance);
        None
    }

    /// What may be taken when `spent` is what was spent. The order of the loads matters: see the module's page.
    #[inline]
    fn available(&self, spent: u64) -> u64 {
        let refunded = self.refunded.load(Ordering::Acquire);
        let left = self.held().min(self.allowed()) - difference(spent, refunded);
        u64::try_from(left).unwrap_or(0)
    }

    /// What of the granted units is left when `spent` is what was spent, whatever the limit is by now.
    fn balance(&self, spent: u64) -> u64 {
        let refunded = self.refunded.load(Ordering::Acquire);
        u64::try_from(self.held() - difference(spent, refunded)).unwrap_or(0)
    }

    /// What the limit leaves, whatever was granted.
    fn headroom(&self) -> u64 {
        let used = difference(self.spent.load(Ordering::Acquire), self.refunded.load(Ordering::Acquire));
        u64::try_from(self.allowed() - used).unwrap_or(0)
    }

    #[inline]
    fn held(&self) -> i64 {
        let returned = self.returned.load(Ordering::Acquire);
        difference(self.granted.load(Ordering::Acquire), returned)
    }

    /// What the limit leaves to this till's balance, the used part included. Negative while unlimited.
    #[inline]
    fn allowed(&self) -> i64 {
        let over_returned = self.over_returned.load(Ordering::Acquire);
        let overage = difference(self.over.load(Ordering::Acquire), over_returned);
        difference(self.limit(), self.base()) - overage
    }

    #[inline]
    fn raise_spent(&self, spent: u64, units: u64) -> Result<(), u64> {
        let raised = spent.wrapping_add(units);
        self.spent.compare_exchange_weak(spent, raised, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    /// Takes at most `units` of what `left` says is left, and answers how many.
    fn take_up_to(&self, units: u64, left: impl Fn(&Slot, u64) -> u64) -> u64 {
        let mut spent = self.spent.load(Ordering::Acquire);
        loop {
            let taken = left(self, spent).min(units);
            match self.raise_spent(spent, taken) {
                Ok(()) => return taken,
                Err(now) => spent = now,
            }
        }
    }

    #[inline]
    fn count_unlimited(&self, units: u64) -> Payment {
        self.count(units);
        Payment { balance: 0, over: units, above_limit: 0 }
    }

    #[inline]
    fn count_above(&self, balance: u64, over: u64) -> Payment {
        self.count(over);
        Payment { balance, over, above_limit: over }
    }

    #[inline]
    fn count(&self, units: u64) {
        if units > 0 {
            self.over.fetch_add(units, Ordering::AcqRel);
        }
    }

    /// Counts `units`, or nothing if the overage would then be above `most`.
    fn count_up_to(&self, units: u64, most: u64) -> bool {
        let mut over = self.over.load(Ordering::Acquire);
        while self.is_room_above(over, units, most) {
            let raised = over.wrapping_add(units);
            match self.over.compare_exchange_weak(over, raised, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => over = now,
            }
        }
        units == 0
    }

    fn has_room_above(&self, units: u64, most: u64) -> bool {
        self.is_room_above(self.over.load(Ordering::Acquire), units, most)
    }

    fn is_room_above(&self, over: u64, units: u64, most: u64) -> bool {
        let overage = difference(over, self.over_returned.load(Ordering::Acquire));
        u64::try_from(overage).unwrap_or(0).saturating_add(units) <= most
    }

    /// Lowers the overage by at most `units`, and answers by how many.
    fn lower_overage(&self, units: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        let lowered = raise_within(&self.over_returned, &self.over, units, Short::Part);
        if lowered > 0 {
            self.changed();
        }
        lowered
    }

    /// Raises the refunds by at most `units`, and answers by how many.
    fn raise_refunded(&self, units: u64) -> u64 {
        raise_within(&self.refunded, &self.spent, units, Short::Part)
    }

    /// Raises the refunds by `units` or by nothing.
    fn raise_refunded_by(&self, units: u64) -> bool {
        raise_within(&self.refunded, &self.spent, units, Short::Nothing) == units
    }

    /// What of the balance is above `limit`. Of an unlimited account all of it, since nothing is paid from it.
    fn held_above(&self, limit: u64) -> u64 {
        let counters = self.counters();
        if limit == UNLIMITED {
            return counters.balance();
        }
        (self.base() + counters.held() + counters.overage()).saturating_sub(limit)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// What happens when there is not room for all units.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Short {
    Part,
    Nothing,
}

/// Raises `counter` by at most `units` and never above `ceiling`, which only rises; answers by how many.
fn raise_within(counter: &AtomicU64, ceiling: &AtomicU64, units: u64, short: Short) -> u64 {
    if units == 0 {
        return 0;
    }
    let mut now = counter.load(Ordering::Acquire);
    loop {
        let room = u64::try_from(difference(ceiling.load(Ordering::Acquire), now)).unwrap_or(0);
        let by = if room < units && short == Short::Nothing { 0 } else { room.min(units) };
        match counter.compare_exchange_weak(now, now.wrapping_add(by), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return by,
            Err(other) => now = other,
        }
    }
}

/// `up - down` of two counters that only rise. Correct even across an overflow of both.
const fn difference(up: u64, down: u64) -> i64 {
    up.wrapping_sub(down).cast_signed()
}
