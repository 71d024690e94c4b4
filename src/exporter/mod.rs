//! Brings usage to whoever collects what is owed, hour by hour, each hour once.
//!
//! Every gateway has one where a collector is configured. One of the fleet at a time looks for hours that are over and
//! takes what was used in them: an event per tenant and resource, in the transaction that compares the hour with what was
//! taken of it. All of them send what is due. A gateway that dies in the middle has sent an event or not; another one
//! sends it again under the same identifier, by which the collector knows it. Usage that comes late for an hour is in the
//! hour's next event: that is the difference.
//!
//! Knows the store and the collector; no gateway, and nothing of prices.
//!
//! # Why an identifier alone is not enough
//! Stripe knows identifiers for a day. An event of which nobody knows for a day whether it arrived (Stripe may have
//! answered with a fault after it had taken it) is not sent blindly any more: first Stripe is asked what its meter has
//! counted of that hour. Where that can mean two things, nobody guesses: the event is a dead letter, and somebody decides.
//!
//! # Why one tenant does not stall the others
//! What is refused for good is a dead letter at once. What meets a fault waits by itself, longer each time; the collector
//! as a whole is left alone while it answers nobody, but for one question now and then, each of another event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use uuid::{ContextV7, Uuid};

use crate::clock::{Clock, Timestamp};
use crate::collector::{Collector, Fate, Setback};
use crate::domain::Resource;
use crate::domain::billing::{BillingEvent, BillingEventId, BillingEventState, CollectorKind};
use crate::outbox::{MeterNames, Meters, Pace, every, growing, keep_sending};
use crate::store::{Attempt, EndedAttempt, ExportProgress, SentBeside, Store, StoreError, Untaken};
use crate::telemetry::log::with_causes;
use crate::telemetry::readiness::Readiness;

/// When usage is taken and sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExporterSettings {
    /// How often it is looked for hours that are over.
    pub interval: Duration,
    /// An hour is taken so long after its end: what gateways still hold of it arrives in that time.
    pub delay: Duration,
}

/// The one exporter of a gateway.
pub struct Exporter {
    store: Store,
    clock: Arc<dyn Clock>,
    collector: Arc<Collector>,
    settings: ExporterSettings,
    meters: Meters,
    readiness: Readiness,
    rest: Mutex<Rest>,
    /// What was told last of how it goes.
    told: Mutex<Option<String>>,
    ids: Mutex<ContextV7>,
}

/// How long a collector that answers nobody is left alone.
#[derive(Clone, Debug, Default)]
struct Rest {
    /// Attempts that failed since the last that did not.
    failures: u32,
    until: Timestamp,
    why: String,
}

/// What is known of an event that nobody knows whether it arrived, after its collector was asked.
enum Found {
    Missing,
    There,
    Unclear(String),
    Waits(Setback),
}

/// How the rounds of looking are called.
const LOOK: &str = "billing_look";
/// Questions that are asked beside each other.
const AT_ONCE: usize = 16;
/// How often the outbox is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How often it is counted.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
const METERS: MeterNames = MeterNames {
    attempts: (
        "tollgate_billing_events_total",
        "Attempts of this gateway to bring an hour's usage to whoever collects what is owed, by what they came to: \
         delivered, failed (there will be another) or dead.",
    ),
    pending: (
        "tollgate_billing_events_pending",
        "Hours of usage that wait to be billed, of the whole fleet.",
    ),
    dead: (
        "tollgate_billing_events_dead",
        "Hours of usage that could not be billed and that nobody had sent again since; should be 0.",
    ),
    oldest_seconds: (
        "tollgate_billing_events_oldest_seconds",
        "For how long the oldest hour of usage waits to be billed; 0 if none does.",
    ),
};
/// Batches are looked at for so long: a transaction takes as long as the store is patient, and clocks differ.
const BATCHES_LOOKED_BACK: Duration = Duration::from_secs(600);
/// Rollups of hours are kept for 90 days; what comes for an hour before that has none to be taken from.
const LOOKED_BACK_MAX: Duration = Duration::from_secs(88 * 86_400);
/// What arrived is kept for longer than its rollups: an hour whose events are gone would be taken again.
const KEPT: Duration = Duration::from_secs(120 * 86_400);
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);
/// Stripe takes nothing that is older than 35 days. An attempt takes a while.
const STRIPE_AGE_MAX: Duration = Duration::from_secs(35 * 86_400 - 3_600);
/// Stripe knows identifiers for at least a day.
const STRIPE_KNOWS: Duration = Duration::from_secs(23 * 3_600);
/// What Stripe's meters tell is behind by minutes.
const STRIPE_COUNTS_WITHIN: Duration = Duration::from_secs(3_600);
/// The first pause of an event that met a fault, and the longest. It doubles.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// The same of a collector that answers nobody.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// However long it wants to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// What is kept of why an attempt failed.
const ERROR_CHARS_MAX: usize = 300;
const HOUR: Duration = Duration::from_secs(3_600);

fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds().div_euclid(3_600) * 3_600)
}

// === impl Exporter ===

impl Exporter {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        collector: Arc<Collector>,
        settings: ExporterSettings,
        registry: &Registry,
        readiness: Readiness,
    ) -> Exporter {
        let meters = Meters::register(registry, METERS);
        let (rest, told) = (Mutex::default(), Mutex::default());
        Exporter { store, clock, collector, settings, meters, readiness, rest, told, ids: Mutex::default() }
    }

    /// Takes and sends for ever. May be dropped at any point: what was under way is sent again, by whichever gateway is
    /// there.
    pub async fn run(&self) {
        let pace = Pace { at_once: AT_ONCE, interval: POLL };
        tokio::join!(
            every(MEASURED_EVERY, || self.measure()),
            every(FORGET_INTERVAL, || self.forget()),
            every(POLL, || self.look()),
            keep_sending(pace, |free| self.take(free), |batch| self.send(batch)),
        );
    }

    async fn look(&self) {
        if let Err(error) = self.take_hours().await {
            tracing::warn!("hours that are over can't be taken for billing: {}", with_causes(&error));
        }
    }

    /// Takes the hours that are over, and those that have grown since they were taken; if no other gateway has this round.
    async fn take_hours(&self) -> Result<(), StoreError> {
        let (now, kind) = (self.clock.now(), self.collector.kind());
        let every = i64::try_from(self.settings.interval.as_micros()).unwrap_or(i64::MAX).max(1);
        if !self.store.take_round(LOOK, now.micros().div_euclid(every)).await? {
            return Ok(());
        }
        let progress = self.store.begin_export(kind, now).await?;
        let (mut hour, end) = self.hours(progress, now).await?;
        while hour < end {
            self.take_hour(hour).await?;
            hour = hour.plus(HOUR);
        }
        self.store.note_look(kind, now, end).await
    }

    /// The hours to be looked at: from the first that was not over at the last look, or that batches since have added to,
    /// to the last that is over.
    async fn hours(
        &self,
        progress: ExportProgress,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp), StoreError> {
        let ExportProgress { began_at, looked_at, .. } = progress;
        let since = looked_at.minus(BATCHES_LOOKED_BACK);
        let grown = self.store.read().await?.first_hour_brought(since).await?;
        let end = hour_of(now.minus(self.settings.delay));
        let first = hour_of(looked_at.minus(self.settings.delay)).min(grown.unwrap_or(end));
        Ok((first.max(hour_of(began_at)).max(end.minus(LOOKED_BACK_MAX)), end))
    }

    /// Takes what no event has taken of an hour.
    async fn take_hour(&self, hour: Timestamp) -> Result<(), StoreError> {
        let resources = self.collector.settings().resources();
        // Hardly ever is there anything in an hour that was looked at before: that needs no turn to write.
        if self.store.read().await?.untaken(hour, &resources).await?.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let untaken = tx.untaken(hour, &resources).await?;
        let accounts = tx.billing_accounts().await?;
        let mut events = Vec::new();
        for one in untaken {
            let Some(billed) = tx.billed_as(&accounts, one.tenant).await? else { continue };
            // What was used before the tenant was called anything is not billed there, but for what was begun.
            if one.revision > 0 || hour.plus(HOUR) > billed.since {
                events.push(self.event(hour, one, billed.account));
            }
        }
        tx.insert_billing_events(&events).await?;
        tx.commit().await
    }

    fn event(&self, bucket: Timestamp, untaken: Untaken, account: String) -> BillingEvent {
        let now = self.clock.now();
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(&self.ids, seconds, 0));
        BillingEvent {
            id: BillingEventId(id),
            tenant: untaken.tenant,
            resource: untaken.resource,
            bucket,
            revision: untaken.revision,
            units: untaken.units,
            collector: self.collector.kind(),
            account,
            state: BillingEventState::Pending,
            attempts: 0,
            next_at: now,
            doubtful_since: None,
            last_error: None,
            created_at: now,
            finished_at: None,
            settled_reason: None,
        }
    }

    /// What is due, in batches of which at most `free` may be sent now.
    async fn take(&self, free: usize) -> Vec<Vec<BillingEvent>> {
        let now = self.clock.now();
        let batch = self.collector.batch_max();
        let batches = match &*self.rest() {
            rest if now < rest.until => 0,
            rest if rest.failures > 0 => free.min(1),
            _ => free,
        };
        if batches == 0 {
            return Vec::new();
        }
        // Long enough for a question or two, for each event of a batch, and for writing down what came of it.
        let until = now.plus(self.collector.settings().timeout * 4 + Duration::from_secs(30));
        let limit = u32::try_from(batches * batch).unwrap_or(u32::MAX);
        let taken = self.store.take_billing_events(self.collector.kind(), now, until, limit).await;
        let taken = taken.unwrap_or_else(|error| {
            tracing::warn!("usage to be billed can't be looked at: {}", with_causes(&error));
            Vec::new()
        });
        taken.chunks(batch).map(<[_]>::to_vec).collect()
    }

    async fn send(&self, batch: Vec<BillingEvent>) {
        let began_at = self.clock.now();
        let (mut ended, mut unsent) = (Vec::new(), Vec::new());
        for event in batch {
            match self.known_before(&event).await {
                Some(fate) => ended.push((event, fate)),
                None => unsent.push(event),
            }
        }
        if !unsent.is_empty() {
            let fates = self.collector.send(&unsent).await;
            self.rest_after(&fates);
            ended.extend(unsent.into_iter().zip(fates));
        }
        let ended: Vec<_> =
            ended.into_iter().map(|(event, fate)| self.ended(event, fate, began_at)).collect();
        ended.iter().for_each(|ended| self.meters.count(&ended.attempt));
        if let Err(error) = self.store.end_billing_attempts(&ended, self.clock.now()).await {
            tracing::warn!(
                "what became of usage to be billed can't be written down, so it is sent again: {}",
                with_causes(&error)
            );
        }
    }

    /// What becomes of an event that must not be sent as things are.
    async fn known_before(&self, event: &BillingEvent) -> Option<Fate> {
        if self.collector.kind() != CollectorKind::Stripe {
            return None;
        }
        let now = self.clock.now();
        let doubted_for = event.doubtful_since.map_or(Duration::ZERO, |since| now.since(since));
        let is_too_old = now.since(event.bucket) >= STRIPE_AGE_MAX;
        if doubted_for < STRIPE_KNOWS && !is_too_old {
            return None;
        }
        // Of what is too old it may still turn out that it is there.
        let found = if doubted_for < STRIPE_KNOWS { Found::Missing } else { self.look_up(event).await };
        match found {
            Found::There => Some(Fate::Arrived),
            Found::Missing if is_too_old => {
                Some(Fate::Refused("Stripe takes nothing that is older than 35 days".to_owned()))
            }
            Found::Missing => None,
            Found::Unclear(why) => Some(Fate::Refused(why)),
            Found::Waits(setback) => Some(Fate::Waits(setback)),
        }
    }

    /// Whether Stripe has an event, by what its meter has counted of the hour.
    async fn look_up(&self, event: &BillingEvent) -> Found {
        let resources = self.collector.counted_with(event.resource);
        let beside = match self.sent_beside(event, &resources).await {
            Ok(beside) => beside,
            Err(error) => return Found::Waits(Setback::surely(with_causes(&error))),
        };
        let SentBeside { delivered, delivered_at, doubtful } = beside;
        // What arrived a moment ago may not be counted, and would be taken for what is looked for.
        if delivered_at.is_some_and(|at| self.clock.now().since(at) < STRIPE_COUNTS_WITHIN) {
            return Found::Waits(Setback::surely("Stripe's meter may be behind".to_owned()));
        }
        let counted = match self.collector.counted(&event.account, event.resource, event.bucket).await {
            Ok(counted) => counted,
            Err(setback) => {
                self.rest_after(&[Fate::Waits(setback.clone())]);
                return Found::Waits(setback);
            }
        };
        let all = delivered.saturating_add(doubtful).saturating_add(event.units);
        if counted == delivered {
            return Found::Missing;
        }
        if counted == all {
            return Found::There;
        }
        Found::Unclear(format!(
            "nobody knows whether it arrived: of that hour Stripe's meter has counted {counted}, {delivered} are known to \
             have arrived, and {all} if all that is in doubt had"
        ))
    }

    async fn sent_beside(
        &self,
        event: &BillingEvent,
        resources: &[Resource],
    ) -> Result<SentBeside, StoreError> {
        self.store.read().await?.sent_beside(event, resources).await
    }

    fn ended(&self, event: BillingEvent, fate: Fate, began_at: Timestamp) -> EndedAttempt {
        let shortened = |why: &str| why.chars().take(ERROR_CHARS_MAX).collect::<String>();
        match fate {
            Fate::Arrived => EndedAttempt { event, attempt: Attempt::Delivered, doubtful_since: None },
            Fate::Refused(why) => {
                tracing::warn!(
                    tenant.id = %event.tenant,
                    billing_event.id = %event.id,
                    "usage could not be billed: {}: {why}", event.identifier()
                );
                let doubtful_since = event.doubtful_since;
                EndedAttempt { event, attempt: Attempt::Dead { error: shortened(&why) }, doubtful_since }
            }
            Fate::Waits(Setback { why, may_have_arrived, retry_after }) => {
                let pause = growing(PAUSE_MIN, PAUSE_MAX, event.attempts);
                let pause = pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
                let next_at = self.clock.now().plus(pause);
                let attempt = Attempt::Failed { error: shortened(&why), next_at };
                let doubtful_since = event.doubtful_since.or(may_have_arrived.then_some(began_at));
                EndedAttempt { event, attempt, doubtful_since }
            }
        }
    }

    /// A collector that answers nobody is left alone for a while.
    fn rest_after(&self, fates: &[Fate]) {
        let setback = fates.iter().find_map(|fate| match fate {
            Fate::Waits(setback) => Some(setback),
            Fate::Arrived | Fate::Refused(_) => None,
        });
        let mut rest = self.rest();
        let Some(setback) = setback else {
            *rest = Rest::default();
            return;
        };
        // Questions that were asked beside each other fail together: that is one failure.
        if self.clock.now() >= rest.until {
            rest.failures = rest.failures.saturating_add(1);
        }
        let pause = growing(REST_MIN, REST_MAX, rest.failures);
        let asked = setback.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        rest.until = rest.until.max(self.clock.now().plus(pause.max(asked)));
        rest.why.clone_from(&setback.why);
    }

    async fn measure(&self) {
        let Ok(depth) = self.store.billing_depth(self.collector.kind()).await else { return };
        self.meters.set_depth(depth, self.clock.now());
        let away = Some(self.rest().clone()).filter(|rest| rest.failures > 1).map(|rest| rest.why);
        let kind = self.collector.kind();
        let away = away.map(|why| format!("usage can't be brought to {kind}: {why}"));
        let dead = (depth.dead > 0).then(|| {
            let dead = depth.dead;
            format!(
                "{dead} events could not be brought to {kind}: see `tollgate billing events --state dead`"
            )
        });
        let what: Vec<_> = [away, dead].into_iter().flatten().collect();
        self.tell((!what.is_empty()).then(|| what.join("; ")));
    }

    /// Tells an operator what is new.
    fn tell(&self, what: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == what {
            return;
        }
        match &what {
            Some(what) => {
                tracing::error!("{what}");
                self.readiness.ready_but("billing", what.clone());
            }
            None => {
                tracing::info!("usage is brought to {} again", self.collector.kind());
                self.readiness.ready("billing");
            }
        }
        *told = what;
    }

    async fn forget(&self) {
        let before = self.clock.now().minus(KEPT);
        if let Err(error) = self.store.forget_billing_events(before).await {
            tracing::warn!("what was billed long ago can't be forgotten: {}", with_causes(&error));
        }
    }

    /// Whole values are exchanged under the lock.
    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
