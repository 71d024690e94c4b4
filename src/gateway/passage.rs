//! One admitted request, from its reservation to its record: what was charged and what is written down are one fact.
//!
//! # Why in this order
//! The journal is told of the request before the upstream is (`begin`, then `sent` right before the first byte leaves),
//! and of a refund before the till is. So after a kill at any point the books can be balanced: a request that was
//! charged and never sent gets its units back, one that was sent has a record, and none has two.

use std::rc::Rc;

use smallvec::SmallVec;

use super::identity::Caller;
use super::policy::ChargeSettings;
use super::refusal::{Refusal, Shortage};
use super::route::ChargeOn;
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::domain::{Outcome, RecordedCharge, RequestId, Units, UsageRecord};
use crate::journal::{Position, Ticket, Writer};
use crate::till::Reservation;

/// An admitted request. Dropping it before it was sent gives its units back; dropping it afterwards records that the
/// client went away.
pub(super) struct Passage<'c> {
    reservation: Reservation<'c>,
    caller: &'c Caller,
    route: &'c str,
    on: ChargeOn,
    writer: Rc<Writer>,
    clock: &'c dyn Clock,
    /// `None` once the record is written.
    ticket: Option<Ticket>,
    is_sent: bool,
    request: RequestId,
    admitted_at: Timestamp,
    began: Monotonic,
    pub(super) status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What a passage begins with.
pub(super) struct Admitted<'c> {
    pub(super) reservation: Reservation<'c>,
    pub(super) caller: &'c Caller,
    pub(super) route: &'c str,
    pub(super) on: ChargeOn,
    pub(super) writer: Rc<Writer>,
    pub(super) clock: &'c dyn Clock,
    pub(super) request: RequestId,
    pub(super) admitted_at: Timestamp,
    pub(super) began: Monotonic,
}

// === impl Passage ===

impl<'c> Passage<'c> {
    /// Makes sure that there will be room for the record.
    ///
    /// # Errors
    /// The journal is full: the units are given back.
    pub(super) fn begin(admitted: Admitted<'c>) -> Result<Passage<'c>, Refusal> {
        let Admitted { reservation, caller, route, on, writer, clock, request, admitted_at, began } =
            admitted;
        let mut passage = Passage {
            reservation,
            caller,
            route,
            on,
            writer,
            clock,
            ticket: None,
            is_sent: false,
            request,
            admitted_at,
            began,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        let charges = passage.reservation.charged();
        let ticket = passage.writer.begin(&passage.record(&charges, Outcome::Crashed, 0));
        passage.ticket = Some(ticket.map_err(|_| Refusal::ReducedCapacity(Shortage::Journal))?);
        Ok(passage)
    }

    /// The first byte is about to leave for the upstream: from now on the units stay used.
    pub(super) fn sent(&mut self) {
        if self.is_sent {
            return;
        }
        self.is_sent = true;
        self.reservation.sent();
        // Last, because it is what a crash finds.
        if let Some(ticket) = &self.ticket {
            self.writer.sent(ticket);
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Nothing reached the upstream after all: the units go back and nothing is recorded.
    pub(super) fn unsent(mut self) {
        if let Some(ticket) = self.ticket.take() {
            if self.is_sent {
                self.writer.refunding(&ticket);
            }
            self.reservation.refund();
            self.writer.abandon(ticket);
        }
    }

    /// The request has ended: settles what is only known now, refunds if the route says so, writes the record.
    ///
    /// The answer may end when the future is done, which holds nothing of the passage: see [`Writer::synced`].
    pub(super) fn end(
        mut self,
        ended: Monotonic,
        outcome: Outcome,
        charges: &[ChargeSettings],
        said: &[Option<Units>],
    ) -> impl Future<Output = ()> + use<> {
        self.settle(charges, said);
        let written = self.record_end(ended, outcome).map(|position| self.writer.synced(position));
        async {
            if let Some(synced) = written {
                synced.await;
            }
        }
    }

    /// Whether the record has to be on the disk before the answer's last byte leaves.
    pub(super) fn must_sync(&self) -> bool {
        self.writer.answers_wait()
    }

    /// The reservation's charges are in the route's order, several per charge when several quotas are concerned.
    fn settle(&mut self, charges: &[ChargeSettings], said: &[Option<Units>]) {
        let mut index = 0;
        for (at, charge) in charges.iter().enumerate() {
            let accounts = self.caller.entitlements().quotas(charge.resource).count();
            let said = said.get(at).copied().flatten();
            if let Some(units) = charge.units.at_end(self.bytes_in, self.bytes_out, said) {
                for index in index..index + accounts {
                    self.settle_one(index, units);
                }
            }
            index += accounts;
        }
    }

    /// The journal first: units that come back must not be counted by a crash.
    fn settle_one(&mut self, index: usize, units: Units) {
        let taken = self.reservation.charged()[index].units;
        if let Some(ticket) = &self.ticket
            && units < taken
        {
            self.writer.lowering(ticket, index, units);
        }
        self.reservation.settle(index, units);
    }

    /// Answers where the record ends, if there was one to write.
    fn record_end(&mut self, ended: Monotonic, outcome: Outcome) -> Option<Position> {
        let ticket = self.ticket.take()?;
        if self.on == ChargeOn::Success && self.has_failed(outcome) {
            self.writer.refunding(&ticket);
            self.reservation.refund();
        }
        let charges: SmallVec<[RecordedCharge; 4]> = self.reservation.charged();
        let latency = ended.since(self.began).as_micros();
        let latency = u32::try_from(latency).unwrap_or(u32::MAX);
        Some(self.writer.finish(ticket, &self.record(&charges, outcome, latency)))
    }

    fn has_failed(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::UpstreamBroke | Outcome::UpstreamTimeout => true,
            Outcome::Answered | Outcome::ClientGone | Outcome::Crashed | Outcome::Reported => {
                self.status >= 500
            }
        }
    }

    fn record<'r>(
        &'r self,
        charges: &'r [RecordedCharge],
        outcome: Outcome,
        latency_micros: u32,
    ) -> UsageRecord<'r> {
        let entitlements = self.caller.entitlements();
        UsageRecord {
            request: self.request,
            tenant: entitlements.tenant(),
            key: entitlements.key(),
            route: self.route,
            charges,
            outcome,
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            latency_micros,
            admitted_at: self.admitted_at,
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.is_sent {
            self.record_end(self.clock.monotonic(), Outcome::ClientGone);
        } else if let Some(ticket) = self.ticket.take() {
            // The reservation, dropped after this, gives the units back.
            self.writer.abandon(ticket);
        }
    }
}
