//! What reported usage is counted with: the till and the journal of the gateway beside us.
//!
//! Units that are reported through the API are taken like those of a request: from the tenant's accounts in the till,
//! all or nothing, and written down in the journal, from where they reach the database once. So a limit holds for both
//! planes together. The journal has a shard of its own for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::oneshot;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ControlError;
use crate::authority::{Admission, Short};
use crate::clock::Timestamp;
use crate::directory::{Directory, Entitled, Entitlements};
use crate::domain::{
    ApiKeyId, Outcome, Period, RecordedCharge, RequestId, Resource, TenantId, Units, UsageRecord,
};
use crate::journal::{Ticket, Writer};
use crate::till::{Charge, Reservation};

/// Beside a running gateway. Shared by all operations.
pub struct Counting {
    pub(super) directory: Arc<Directory>,
    admission: Admission,
    writer: Mutex<Writer>,
    pub(super) held: Mutex<HashMap<Uuid, Held>>,
}

/// A reservation that waits for its end.
pub(super) struct Held {
    pub(super) tenant: TenantId,
    pub(super) units: Units,
    pub(super) decide: oneshot::Sender<Decision>,
}

/// How a reservation ends, and who wants to know how things stand then.
pub(super) struct Decision {
    /// What was used of it; none gives everything back.
    pub(super) units: Units,
    pub(super) told: oneshot::Sender<Standing>,
}

/// How a resource of a tenant stands: of several quotas the one that is nearest to its limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// `None` is unlimited.
    pub limit: Option<Units>,
    pub used: Units,
    pub remaining: Option<Units>,
    /// `None` where nothing is reset.
    pub resets_at: Option<Timestamp>,
}

/// A quota that has too little left; nothing was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exceeded {
    pub resource_type: Resource,
    pub requested: Units,
    /// `None` where the quota is that of a tenant above, which does not show how it stands.
    pub standing: Option<Standing>,
    pub resets_at: Option<Timestamp>,
    /// Whether the limit is what the tenant's spend cap leaves.
    #[serde(default)]
    pub is_capped: bool,
    /// Where more can be bought, if that is set.
    pub upgrade_url: Option<String>,
}

/// What is to be taken, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    pub(super) tenant: TenantId,
    /// The key that reports it.
    pub(super) key: Option<ApiKeyId>,
    pub(super) resource: Resource,
    pub(super) units: Units,
    pub(super) request: RequestId,
    pub(super) at: Timestamp,
}

/// Units that are taken and not yet written down. Dropping it gives them back.
pub(super) struct Taken<'p> {
    counting: &'p Counting,
    taking: Taking,
    reservation: Reservation<'p>,
    /// `None` once the record is written.
    ticket: Option<Ticket>,
}

/// Reservations at a time, over all tenants: each keeps a place of the journal's.
pub(super) const HELD_MAX: usize = 4_096;

/// How the usage log calls the route by which such units came.
const ROUTE: &str = "reported";

// === impl Counting ===

impl Counting {
    /// `writer` is of a shard that nobody else writes to.
    pub fn new(directory: Arc<Directory>, admission: Admission, writer: Writer) -> Arc<Counting> {
        Arc::new(Counting { directory, admission, writer: Mutex::new(writer), held: Mutex::default() })
    }

    /// See [`Writer::tick`].
    pub fn tick(&self) {
        self.writer().tick();
    }

    /// Takes the units from all accounts that pay, or from none.
    ///
    /// Dropping the future takes nothing.
    pub(super) async fn take<'p>(
        &'p self,
        payer: &'p Entitlements,
        taking: Taking,
    ) -> Result<Taken<'p>, ControlError> {
        let entitled: SmallVec<[&Entitled; 4]> = payer.quotas(taking.resource).collect();
        if entitled.len() > UsageRecord::CHARGES_MAX {
            let why = format!("{} has more than {} quotas", taking.resource, UsageRecord::CHARGES_MAX);
            return Err(ControlError::Conflict(why));
        }
        let charges: SmallVec<[Charge<'p>; 4]> = entitled
            .iter()
            .map(|entitled| Charge {
                account: &entitled.account,
                units: taking.units,
                when_dry: entitled.enforcement.into(),
                on_loss: entitled.on_loss,
            })
            .collect();
        let reservation = self.admission.reserve(&charges).await.map_err(|short| match short {
            Short::Exceeded { index } => ControlError::Exceeded(Box::new(exceeded(entitled[index], taking))),
            Short::Unanswered => ControlError::Unanswered("the authority that grants units"),
        })?;
        let mut taken = Taken { counting: self, taking, reservation, ticket: None };
        let charged = taken.reservation.charged();
        let ticket = self.writer().begin(&taken.record(&charged));
        taken.ticket = Some(ticket.map_err(|_| ControlError::Unanswered("the journal, which is full,"))?);
        Ok(taken)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the tenant's own quotas of a resource stand.
pub(super) fn standing(payer: &Entitlements, resource: Resource) -> Standing {
    let own = payer.quotas(resource).filter(|entitled| !entitled.is_pool).map(Standing::of);
    Standing::tightest(own)
}

fn exceeded(entitled: &Entitled, taking: Taking) -> Exceeded {
    let standing = Standing::of(entitled);
    let (resource_type, requested, resets_at) = (taking.resource, taking.units, standing.resets_at);
    let standing = (!entitled.is_pool).then_some(standing);
    let is_capped = entitled.is_capped && !entitled.is_pool;
    Exceeded { resource_type, requested, resets_at, standing, is_capped, upgrade_url: None }
}

// === impl Standing ===

impl Standing {
    fn of(entitled: &Entitled) -> Standing {
        let (account, window) = (&entitled.account, &entitled.window);
        Standing {
            limit: account.limit().units(),
            used: account.used(),
            remaining: account.remaining(),
            resets_at: (window.period != Period::Forever).then_some(window.end),
        }
    }

    /// The one with the least left; what is unlimited only if there is no other.
    pub(super) fn tightest(standings: impl Iterator<Item = Standing>) -> Standing {
        let least = standings.min_by_key(|standing| standing.remaining.unwrap_or(Units::MAX));
        least.unwrap_or(Standing { limit: None, used: Units::ZERO, remaining: None, resets_at: None })
    }
}

// === impl Taken ===

impl Taken<'_> {
    /// Used are so many of the units; the rest goes back. The journal is told first: units that come back must not be
    /// counted by a crash.
    pub(super) fn settle(&mut self, units: Units) {
        if units >= self.taking.units {
            return;
        }
        for index in 0..self.reservation.charged().len() {
            if let Some(ticket) = &self.ticket {
                self.counting.writer().lowering(ticket, index, units);
            }
            self.reservation.settle(index, units);
        }
    }

    /// Writes it down: from now on the units are used. The future is done when a power loss can't undo that, as far as
    /// the journal's settings ask for it; dropping it undoes nothing.
    pub(super) fn finish(mut self) -> impl Future<Output = ()> + Send + use<> {
        let written = self.ticket.take().map(|ticket| {
            self.reservation.sent();
            let charged = self.reservation.charged();
            let writer = self.counting.writer();
            writer.sent(&ticket);
            let position = writer.finish(ticket, &self.record(&charged));
            writer.synced(position)
        });
        async {
            if let Some(synced) = written {
                synced.await;
            }
        }
    }

    fn record<'r>(&self, charges: &'r [RecordedCharge]) -> UsageRecord<'r> {
        let Taking { tenant, key, request, at, .. } = self.taking;
        UsageRecord {
            request,
            tenant,
            key,
            route: ROUTE,
            charges,
            outcome: Outcome::Reported,
            status: 200,
            bytes_in: 0,
            bytes_out: 0,
            latency_micros: 0,
            admitted_at: at,
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // The reservation, dropped after this, gives the units back.
            self.counting.writer().abandon(ticket);
        }
    }
}
