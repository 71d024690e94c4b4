//! The fourth door: units for the request, or a denial. The async shell around the till.
//!
//! While the till can pay, nothing here waits. When a slot runs dry the authority is asked, once for all who wait;
//! when the authority has nothing left either, the denial is remembered in the slot and costs nothing more.
//!
//! # When the authority does not answer
//! What the till holds is spent as always. For what it does not hold, each quota says what happens ([`LossPolicy`]);
//! soft and monitored ones count on. No request waits longer than [`AdmissionSettings::timeout`] in all.

use std::sync::Arc;
use std::time::Duration;

use super::policy::Charges;
use super::refusal::{Denial, Refusal, Shortage};
use crate::authority::{AuthorityMeters, Embedded, Refiller};
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::domain::{LossPolicy, Period, Units};
use crate::till::refill::{Ask, Refilled};
use crate::till::supply::{Verdict, Want};
use crate::till::{Charge, Dry, Reservation, WhenDry, reserve};

/// How often one request asks before it is told to come back. Each round ends with a grant that somebody took, so
/// only a crowd on the last units ever needs more than two.
const ROUNDS_MAX: usize = 64;

/// Where units come from. Shared by all workers.
#[derive(Clone)]
pub struct Admission {
    source: Source,
    settings: AdmissionSettings,
    meters: AuthorityMeters,
    clock: Arc<dyn Clock>,
}

/// Who is asked when the till is dry.
#[derive(Clone)]
pub enum Source {
    /// This process: it answers at once.
    Embedded(Arc<Embedded>),
    /// An authority elsewhere, through the task that talks to it.
    Elsewhere(Refiller),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdmissionSettings {
    /// The longest that a request waits for units.
    pub timeout: Duration,
    /// With [`LossPolicy::Open`]: how much may be admitted without a grant, in percent of the limit.
    pub open_percent: u32,
    /// With [`LossPolicy::Share`]: among how many gateways a limit is divided.
    pub fleet_size: u32,
}

// === impl Admission ===

impl Admission {
    pub fn new(
        source: Source,
        settings: AdmissionSettings,
        meters: AuthorityMeters,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Admission { source, settings, meters, clock }
    }

    /// All charges or none. Ready at once while the till can pay, and when the denial is known.
    ///
    /// Dropping the future takes nothing.
    pub(super) async fn reserve<'c>(
        &self,
        charges: &Charges<'c>,
        now: Timestamp,
    ) -> Result<Reservation<'c>, Refusal> {
        self.refuse_closed(charges)?;
        match reserve(charges) {
            Ok(reservation) => {
                self.top_up(charges);
                Ok(reservation)
            }
            Err(dry) if dry.is_spent => Err(denied(&charges[dry.index], now)),
            Err(dry) => self.fetch(charges, dry, now).await,
        }
    }

    /// What the till does not hold is asked for, as often as it may help.
    async fn fetch<'c>(
        &self,
        charges: &Charges<'c>,
        dry: Dry,
        now: Timestamp,
    ) -> Result<Reservation<'c>, Refusal> {
        let deadline = self.clock.monotonic().plus(self.settings.timeout);
        let mut charges = charges.clone();
        let mut dry = dry;
        for _ in 0..ROUNDS_MAX {
            self.refill(&mut charges[dry.index], deadline).await?;
            match reserve(&charges) {
                Ok(reservation) => {
                    self.note_over_admission(&charges, &reservation);
                    return Ok(reservation);
                }
                Err(again) if again.is_spent => return Err(denied(&charges[again.index], now)),
                Err(again) => dry = again,
            }
        }
        Err(Refusal::ReducedCapacity(Shortage::Authority))
    }

    /// Changes something about a charge that could not be paid: its account's balance, or what happens without one.
    async fn refill(&self, charge: &mut Charge<'_>, deadline: Monotonic) -> Result<(), Refusal> {
        let refiller = match &self.source {
            Source::Embedded(authority) => {
                let ask = Ask::new(charge.account, (&*charge).into(), self.clock.monotonic());
                if ask.answered(charge.account, &authority.renew_now(&ask.renew)) == Refilled::Waiting {
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
            Source::Elsewhere(refiller) => refiller,
        };
        let (least, units) = (charge.least(), charge.units);
        match refiller.wait_for(Want { account: charge.account.clone(), least, units, deadline }).await {
            Verdict::TryAgain => Ok(()),
            verdict => {
                charge.when_dry = self.without_grant(charge, verdict)?;
                Ok(())
            }
        }
    }

    /// What becomes of a charge that no grant will pay.
    fn without_grant(&self, charge: &Charge<'_>, verdict: Verdict) -> Result<WhenDry, Refusal> {
        let short = Refusal::ReducedCapacity(Shortage::Authority);
        match charge.when_dry {
            // It is counted already, as far as it may be.
            WhenDry::CountUpTo(_) => Err(short),
            WhenDry::CountOnceSpent => Ok(WhenDry::CountUpTo(Units::MAX)),
            // Others hold the units: nobody is lost.
            WhenDry::Deny if verdict == Verdict::Stranded => Err(short),
            WhenDry::Deny => self.on_loss(charge).map(WhenDry::CountUpTo).ok_or(short),
        }
    }

    /// How much may be admitted without a grant in all; `None` if nothing.
    fn on_loss(&self, charge: &Charge<'_>) -> Option<Units> {
        let limit = charge.account.limit().units()?.get();
        match charge.on_loss {
            LossPolicy::Till | LossPolicy::Closed => None,
            LossPolicy::Open => {
                let most = u128::from(limit) * u128::from(self.settings.open_percent) / 100;
                Some(Units::saturating(u64::try_from(most).unwrap_or(u64::MAX)))
            }
            LossPolicy::Share => {
                let share = limit / u64::from(self.settings.fleet_size.max(1));
                Some(Units::saturating(share.saturating_sub(charge.account.counters().held())))
            }
        }
    }

    /// Quotas that are closed while the authority is away are so even for what the till holds.
    fn refuse_closed(&self, charges: &Charges<'_>) -> Result<(), Refusal> {
        let Source::Elsewhere(refiller) = &self.source else { return Ok(()) };
        if charges.iter().any(|charge| charge.on_loss == LossPolicy::Closed) && refiller.is_lost() {
            return Err(Refusal::ReducedCapacity(Shortage::Authority));
        }
        Ok(())
    }

    /// Accounts that run low are filled up before anybody has to wait.
    fn top_up(&self, charges: &Charges<'_>) {
        let Source::Elsewhere(refiller) = &self.source else { return };
        for charge in charges.iter().filter(|charge| charge.account.runs_low()) {
            refiller.top_up(charge.account);
        }
    }

    fn note_over_admission(&self, charges: &Charges<'_>, reservation: &Reservation<'_>) {
        let is_hard =
            |charge: &Charge<'_>| matches!(charge.when_dry, WhenDry::CountUpTo(most) if most != Units::MAX);
        let over = charges.iter().zip(reservation.charged()).filter(|(charge, _)| is_hard(charge));
        self.meters.over_admitted(over.map(|(_, charged)| charged.overage.get()).sum());
    }
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
        wanted: charge.units,
        wait: resets_at.map(|at| at.since(now)),
        resets_at,
    }))
}
