//! The fourth door: units for the request, or a denial.
//!
//! The waiting is [`Admission`]'s, which both planes go through; here its answer becomes the request's.

use super::policy::Charges;
use super::refusal::{Denial, Refusal, Shortage};
use crate::authority::{Admission, Short};
use crate::clock::Timestamp;
use crate::domain::Period;
use crate::till::{Charge, Reservation};

/// All charges or none. Ready at once while the till can pay, and when the denial is known.
///
/// Dropping the future takes nothing.
pub(super) async fn reserve<'c>(
    admission: &Admission,
    charges: &Charges<'c>,
    now: Timestamp,
) -> Result<Reservation<'c>, Refusal> {
    admission.reserve(charges).await.map_err(|short| match short {
        Short::Exceeded { index } => denied(&charges[index], now),
        Short::Unanswered => Refusal::ReducedCapacity(Shortage::Authority),
    })
}

fn denied(charge: &Charge<'_>, now: Timestamp) -> Refusal {
    let account = charge.account;
    let key = account.key();
    let resets_at = (key.window.period != Period::Forever).then_some(key.window.end);
    Refusal::Exceeded(Box::new(Denial {
        owner: key.owner,
        resource: key.resource,
        policy: key.policy_name(),
        counts: Some((account.limit(), account.used())),
        is_capped: false,
        wanted: charge.units,
        wait: resets_at.map(|at| at.since(now)),
        resets_at,
        upgrade_url: None,
    }))
}
