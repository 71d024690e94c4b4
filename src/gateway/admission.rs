//! The fourth door: units for the request, or a denial. The async shell around the till.
//!
//! While the till can pay, nothing here waits. When a slot runs dry the authority is asked, once for all who wait;
//! when the authority has nothing left either, the denial is remembered in the slot and costs nothing more.

use std::sync::Arc;

use super::policy::Charges;
use super::refusal::{Denial, Refusal, Shortage};
use crate::authority::Embedded;
use crate::clock::{Clock, Timestamp};
use crate::domain::Period;
use crate::till::protocol::{Answer, Authority, Init};
use crate::till::refill::{self, Refilled};
use crate::till::{Charge, Reservation, reserve};

/// How often one request asks the authority before it is told to come back. Each round ends with a grant that
/// somebody took, so only a crowd on the last units ever needs more than two.
const ROUNDS_MAX: usize = 64;

/// Where units come from. Shared by all workers.
#[derive(Clone)]
pub struct Admission {
    authority: Arc<Embedded>,
    clock: Arc<dyn Clock>,
}

// === impl Admission ===

impl Admission {
    pub fn new(authority: Arc<Embedded>, clock: Arc<dyn Clock>) -> Self {
        Admission { authority, clock }
    }

    /// All charges or none. Ready at once while the till can pay, and when the denial is known.
    ///
    /// Dropping the future takes nothing.
    pub(super) async fn reserve<'c>(
        &self,
        charges: &Charges<'c>,
        now: Timestamp,
    ) -> Result<Reservation<'c>, Refusal> {
        for _ in 0..ROUNDS_MAX {
            match reserve(charges) {
                Ok(reservation) => return Ok(reservation),
                Err(dry) if dry.is_spent => return Err(denied(&charges[dry.index], now)),
                Err(dry) => self.refill(&charges[dry.index]).await?,
            }
        }
        Err(Refusal::ReducedCapacity(Shortage::Authority))
    }

    async fn refill(&self, charge: &Charge<'_>) -> Result<(), Refusal> {
        let lost = |error| {
            tracing::warn!(error = %error, "the authority could not be asked for units");
            Refusal::ReducedCapacity(Shortage::Authority)
        };
        let ask = refill::ask(charge.account, charge.units, self.clock.monotonic());
        let answers = self.authority.renew(std::slice::from_ref(&ask)).await.map_err(lost)?;
        match answers.into_iter().next() {
            Some(Answer::Renewed(renewed)) => match refill::apply(charge.account, &renewed) {
                // Spent: the next attempt to reserve finds it so.
                Refilled::Granted | Refilled::Spent => Ok(()),
                Refilled::Waiting => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
            },
            Some(Answer::NoAccount(account)) => {
                debug_assert_eq!(account, *charge.account.key(), "paths of one level");
                let init = Init { account, limit: charge.account.limit(), base: charge.account.base() };
                self.authority.init(&[init]).await.map_err(lost)
            }
            None => Err(Refusal::ReducedCapacity(Shortage::Authority)),
        }
    }
}

fn denied(charge: &Charge<'_>, now: Timestamp) -> Refusal {
    let account = charge.account;
    let key = account.key();
    let resets_at = (key.window.period != Period::Forever).then_some(key.window.end);
    Refusal::Exceeded(Box::new(Denial {
        resource: key.resource,
        policy: key.policy_name(),
        limit: account.limit(),
        used: account.used(),
        wanted: charge.units,
        wait: resets_at.map(|at| at.since(now)),
        resets_at,
    }))
}
