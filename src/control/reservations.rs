//! Units set aside for a job that knows only at its end what it used.
//!
//! A reservation is held by the gateway that made it, like the units of a request that is on its way: nobody else can
//! spend them, and if the gateway is killed, or nobody ends the reservation in time, they go back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::counting::{Counting, Decision, HELD_MAX, Held, Standing, Taking, standing};
use super::validate::Faults;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::directory::Entitlements;
use crate::domain::{RequestId, Resource, ResourceKind, TenantId, Units};

/// Units to be set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewReservation {
    pub resource: Resource,
    pub units: Units,
    /// After this the units go back by themselves.
    pub lasts: Duration,
}

/// Units that are set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservedUnits {
    pub id: Uuid,
    pub resource: Resource,
    pub units: Units,
    pub expires_at: Timestamp,
    pub standing: Standing,
}

/// Longer jobs commit what they have used, and reserve again.
const LASTS_MAX: Duration = Duration::from_secs(3_600);

impl Control {
    /// Sets units of a counter aside.
    ///
    /// Dropping the future leaves it open whether they are; then they go back in time.
    ///
    /// # Errors
    /// As [`Control::increment`].
    pub async fn reserve_units(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewReservation,
    ) -> Result<ReservedUnits, ControlError> {
        let tenant = self.tenant_to_count_for(principal, tenant).await?;
        let counting = self.counting()?;
        self.check_reservation(&new).await?;
        let payer = self.payer(&counting, tenant.id, &[new.resource]).await?;
        let (now, id) = (self.now(), self.new_id());
        let NewReservation { resource, units, lasts } = new;
        let key = principal.key();
        let taking = Taking { tenant: tenant.id, key, resource, units, request: RequestId(id), at: now };
        let (told, standing) = oneshot::channel();
        tokio::spawn(hold(counting, payer, taking, lasts, told));
        let mut standing = standing.await.unwrap_or(Err(ControlError::Unanswered("the gateway")));
        self.tell_where_more_is(&tenant, standing.as_mut().err()).await?;
        let standing = standing?;
        Ok(ReservedUnits { id, resource, units, expires_at: now.plus(lasts), standing })
    }

    /// Ends a reservation: `units` of it were used, all of them if `None`. The rest goes back.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] for one that has ended, or that another gateway holds; [`ControlError::Invalid`] for
    /// more than was reserved.
    pub async fn commit_units(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: Uuid,
        units: Option<Units>,
    ) -> Result<Standing, ControlError> {
        let tenant = self.tenant_to_count_for(principal, tenant).await?;
        let counting = self.counting()?;
        let (told, standing) = oneshot::channel();
        counting.decide(tenant.id, id, units, told)?;
        standing.await.map_err(|_| no_reservation(id))
    }

    /// Ends a reservation of which nothing was used.
    ///
    /// # Errors
    /// As [`Control::commit_units`].
    pub async fn release_units(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: Uuid,
    ) -> Result<Standing, ControlError> {
        self.commit_units(principal, tenant, id, Some(Units::ZERO)).await
    }

    async fn check_reservation(&self, new: &NewReservation) -> Result<(), ControlError> {
        let mut faults = Faults::default();
        let known = self.read().await?.resource_types().await?;
        match known.iter().find(|known| known.slug == new.resource).map(|known| known.kind) {
            None => faults.unknown_resource(&known),
            Some(ResourceKind::Gauge) => {
                let why =
                    "a gauge holds units until they are given back anyway: increment it, then by less than 0";
                faults.add("resource_type", why);
            }
            Some(ResourceKind::Counter) => {}
        }
        if new.units.is_zero() {
            faults.add("amount", "0 reserves nothing");
        }
        if new.lasts.is_zero() || new.lasts > LASTS_MAX {
            faults.add("ttl_seconds", format!("1 to {} are expected", LASTS_MAX.as_secs()));
        }
        faults.finish()
    }
}

/// Takes the units and waits for the reservation's end.
async fn hold(
    counting: Arc<Counting>,
    payer: Entitlements,
    taking: Taking,
    lasts: Duration,
    told: oneshot::Sender<Result<Standing, ControlError>>,
) {
    let RequestId(id) = taking.request;
    let mut taken = match counting.take(&payer, taking).await {
        Ok(taken) => taken,
        Err(error) => return drop(told.send(Err(error))),
    };
    let (decide, decision) = oneshot::channel();
    let held = Held { tenant: taking.tenant, units: taking.units, decide };
    if !counting.keep(id, held) {
        return drop(
            told.send(Err(ControlError::Unanswered("the gateway, which holds too many reservations,"))),
        );
    }
    let decided = match told.send(Ok(standing(&payer, taking.resource))) {
        Ok(()) => tokio::time::timeout(lasts, decision).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    counting.held().remove(&id);
    let Some(Decision { units, told }) = decided else { return };
    if units.is_zero() {
        drop(taken);
    } else {
        taken.settle(units);
        taken.finish().await;
    }
    // Who has gone away needs no answer.
    let _ = told.send(standing(&payer, taking.resource));
}

fn no_reservation(id: Uuid) -> ControlError {
    ControlError::NotFound { what: "reservation", which: id.to_string() }
}

// === impl Counting ===

impl Counting {
    /// False if there are too many already.
    fn keep(&self, id: Uuid, held: Held) -> bool {
        let mut all = self.held();
        if all.len() >= HELD_MAX {
            return false;
        }
        all.insert(id, held);
        true
    }

    fn decide(
        &self,
        tenant: TenantId,
        id: Uuid,
        units: Option<Units>,
        told: oneshot::Sender<Standing>,
    ) -> Result<(), ControlError> {
        let mut all = self.held();
        let held = all.get(&id).filter(|held| held.tenant == tenant).ok_or_else(|| no_reservation(id))?;
        let units = units.unwrap_or(held.units);
        if units > held.units {
            let mut faults = Faults::default();
            faults.add("amount", format!("only {} are reserved", held.units));
            return Err(faults.refusal());
        }
        let Some(held) = all.get_mut(&id) else { return Err(no_reservation(id)) };
        let (closed, _) = oneshot::channel();
        let decide = std::mem::replace(&mut held.decide, closed);
        decide.send(Decision { units, told }).map_err(|_| no_reservation(id))
    }
}
