//! Units for a request of either plane, or why there are none. The async shell around the till.
//!
//! While the till can pay, nothing here waits. When a slot runs dry the authority is asked, once for all who wait;
//! when the authority has nothing left either, the denial is remembered in the slot and costs nothing more.
//!
//! # When the authority does not answer
//! What the till holds is spent as always. For what it does not hold, each quota says what happens ([`LossPolicy`]);
//! soft and monitored ones count on. No request waits longer than [`AdmissionSettings::timeout`] in all.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{AuthorityMeters, Embedded, Refiller};
use crate::clock::{Clock, Monotonic};
use crate::domain::{LossPolicy, Units};
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

/// Why nothing was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Short {
    /// The account of this charge has not enough left.
    Exceeded { index: usize },
    /// Nobody can tell whether there is enough: the authority does not answer.
    Unanswered,
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
    ///
    /// # Errors
    /// [`Short`]: no unit was taken.
    pub async fn reserve<'c>(&self, charges: &[Charge<'c>]) -> Result<Reservation<'c>, Short> {
        self.refuse_closed(charges)?;
        match reserve(charges) {
            Ok(reservation) => {
                self.top_up(charges);
                Ok(reservation)
            }
            Err(dry) if dry.is_spent => Err(Short::Exceeded { index: dry.index }),
            Err(dry) => self.fetch(charges, dry).await,
        }
    }

    /// What the till does not hold is asked for, as often as it may help.
    async fn fetch<'c>(&self, charges: &[Charge<'c>], dry: Dry) -> Result<Reservation<'c>, Short> {
        let deadline = self.clock.monotonic().plus(self.settings.timeout);
        let mut charges: SmallVec<[Charge<'c>; 4]> = SmallVec::from_slice(charges);
        let mut dry = dry;
        for _ in 0..ROUNDS_MAX {
            self.refill(&mut charges[dry.index], deadline).await?;
            match reserve(&charges) {
                Ok(reservation) => {
                    self.note_over_admission(&charges, &reservation);
                    return Ok(reservation);
                }
                Err(again) if again.is_spent => return Err(Short::Exceeded { index: again.index }),
                Err(again) => dry = again,
            }
        }
        Err(Short::Unanswered)
    }

    /// Changes something about a charge that could not be paid: its account's balance, or what happens without one.
    async fn refill(&self, charge: &mut Charge<'_>, deadline: Monotonic) -> Result<(), Short> {
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
    fn without_grant(&self, charge: &Charge<'_>, verdict: Verdict) -> Result<WhenDry, Short> {
        let short = Short::Unanswered;
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
    fn refuse_closed(&self, charges: &[Charge<'_>]) -> Result<(), Short> {
        let Source::Elsewhere(refiller) = &self.source else { return Ok(()) };
        if charges.iter().any(|charge| charge.on_loss == LossPolicy::Closed) && refiller.is_lost() {
            return Err(Short::Unanswered);
        }
        Ok(())
    }

    /// Accounts that run low are filled up before anybody has to wait.
    fn top_up(&self, charges: &[Charge<'_>]) {
        let Source::Elsewhere(refiller) = &self.source else { return };
        for charge in charges.iter().filter(|charge| charge.account.runs_low()) {
            refiller.top_up(charge.account);
        }
    }

    fn note_over_admission(&self, charges: &[Charge<'_>], reservation: &Reservation<'_>) {
        let is_hard =
            |charge: &Charge<'_>| matches!(charge.when_dry, WhenDry::CountUpTo(most) if most != Units::MAX);
        let over = charges.iter().zip(reservation.charged()).filter(|(charge, _)| is_hard(charge));
        self.meters.over_admitted(over.map(|(_, charged)| charged.overage.get()).sum());
    }
}
