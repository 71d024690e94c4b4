//! The third door: whether this caller may take this route, and what the request costs.
//!
//! Everything that can forbid is checked before a unit is taken.

use smallvec::SmallVec;

use super::handle::Call;
use super::identity::Caller;
use super::refusal::{Forbidden, Refusal, Shortage, Unauthenticated};
use super::route::Route;
use crate::clock::Timestamp;
use crate::domain::{Resource, Units, UsageRecord};
use crate::listener::http1::{BodyLength, Head};
use crate::till::Charge;

/// What a route charges of one resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargeSettings {
    pub resource: Resource,
    pub units: UnitsOf,
}

/// How many units a request takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnitsOf {
    Fixed(Units),
    /// Bytes of the request's body. Sized bodies are taken before they are sent, others when they have ended.
    RequestBytes,
    /// Bytes of the answer's body, taken when it has ended; one unit must be there beforehand.
    ResponseBytes,
    /// What the upstream says in this header of its answer, at most `max`: `max` is taken beforehand and the rest
    /// given back. An upstream that does not say keeps `max`.
    Header {
        name: String,
        max: Units,
    },
}

/// The charges of one request, in the order of the route's charges; each may concern several accounts.
pub(super) type Charges<'c> = SmallVec<[Charge<'c>; 4]>;

/// Whether the caller may pass.
pub(super) fn permit(caller: &Caller, route: &Route, call: &Call, now: Timestamp) -> Result<(), Refusal> {
    let entitlements = caller.entitlements();
    if !entitlements.key_is_usable(now) {
        return Err(Refusal::Unauthenticated(Unauthenticated::Unusable));
    }
    if let Some((tenant, status)) = entitlements.stopped_by() {
        return Err(Refusal::Suspended(tenant, status));
    }
    if !entitlements.allows_address(call.client) {
        return Err(Refusal::Forbidden(Forbidden::Address));
    }
    if !entitlements.allows_route(&route.settings.name) {
        return Err(Refusal::Forbidden(Forbidden::Route));
    }
    if !caller.has_scopes(&route.settings.scopes) {
        return Err(Refusal::Forbidden(Forbidden::Scope));
    }
    Ok(())
}

/// What the request takes at its admission, from each account of each charged resource.
///
/// # Errors
/// [`Shortage::Charges`] if the tenant has more quotas of the route's resources than one record holds.
pub(super) fn charges<'c>(caller: &'c Caller, route: &Route, call: &Call) -> Result<Charges<'c>, Refusal> {
    let mut charges = Charges::new();
    for charge in &route.settings.charges {
        let units = charge.units.at_admission(call.body);
        for entitled in caller.entitlements().quotas(charge.resource) {
            charges.push(Charge {
                account: &entitled.account,
                units,
                when_dry: entitled.enforcement.into(),
                on_loss: entitled.on_loss,
            });
        }
    }
    if charges.len() > UsageRecord::CHARGES_MAX {
        return Err(Refusal::ReducedCapacity(Shortage::Charges));
    }
    Ok(charges)
}

// === impl UnitsOf ===

impl UnitsOf {
    pub(super) fn at_admission(&self, body: BodyLength) -> Units {
        match self {
            UnitsOf::Fixed(units) => *units,
            UnitsOf::RequestBytes => match body {
                BodyLength::Sized(bytes) => Units::saturating(bytes),
                BodyLength::Empty => Units::ZERO,
                BodyLength::Chunked | BodyLength::UntilClose => Units::ONE,
            },
            UnitsOf::ResponseBytes => Units::ONE,
            UnitsOf::Header { max, .. } => *max,
        }
    }

    /// What it came to in the end; `None` where the admission's amount stands.
    pub(super) fn at_end(&self, bytes_in: u64, bytes_out: u64, said: Option<Units>) -> Option<Units> {
        match self {
            UnitsOf::Fixed(_) => None,
            UnitsOf::RequestBytes => Some(Units::saturating(bytes_in)),
            UnitsOf::ResponseBytes => Some(Units::saturating(bytes_out)),
            UnitsOf::Header { max, .. } => said.map(|said| said.min(*max)),
        }
    }

    pub(super) fn header(&self) -> Option<&str> {
        match self {
            UnitsOf::Header { name, .. } => Some(name),
            UnitsOf::Fixed(_) | UnitsOf::RequestBytes | UnitsOf::ResponseBytes => None,
        }
    }
}

/// Whether all that the route charges is known before the request is made.
pub(super) fn is_askable(route: &Route) -> bool {
    route.settings.charges.iter().all(|charge| matches!(charge.units, UnitsOf::Fixed(_)))
}

/// Whether a request with this head has a body that is declared larger than the limit.
pub(super) fn is_too_large(head: &Head<'_>, bytes_max: u64) -> bool {
    matches!(head.body, BodyLength::Sized(bytes) if bytes > bytes_max)
}
