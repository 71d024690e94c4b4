//! Usage that is reported through the API: many events at once, each counted in full or not at all, and each once.
//!
//! # In which order, and what a crash leaves
//! Units are taken from the till first, then the events are committed to the store, then the journal records them.
//! Units that were taken and not committed go back, at once or at the next start. An event that the store has is never
//! counted again. The only moment that a kill can cost anything is the one between the store's answer and the
//! journal's next instruction: then the event is known and its units are not counted, in favour of the tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::counting::{Counting, Exceeded, Standing, Taken, Taking, standing};
use super::principal::Operation;
use super::validate::Faults;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::directory::{Entitlements, LookupFailed};
use crate::domain::{
    AccountKey, ActorKind, ApiKeyId, Enforcement, Limit, Owner, Period, Quota, RequestId, Resource,
    ResourceKind, ResourceType, Tenant, TenantId, Units,
};
use crate::store::{Snapshot, Tx, UsageEvent};

/// Usage to be counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEvent {
    pub resource: Resource,
    /// Below 0 gives units of a gauge back.
    pub amount: i64,
    pub description: Option<String>,
    /// What its reporter calls it: an event of that name counts once.
    pub event_id: Option<String>,
    /// When it was used, if not now. Units are taken from the present window all the same: a window that has ended may
    /// be billed already.
    pub occurred_at: Option<Timestamp>,
}

/// An event that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedEvent {
    pub event_id: String,
    pub resource: Resource,
    pub amount: i64,
    /// Whether it was counted before, and nothing was counted now. Then the standing is that of then.
    pub duplicate: bool,
    pub standing: Standing,
}

/// What became of one event.
pub type EventOutcome = Result<CountedEvent, ControlError>;

/// The most events of one call.
pub const EVENTS_MAX: usize = 1_000;
/// Clocks differ a little.
const AHEAD_MAX: Duration = Duration::from_secs(300);
const EVENT_ID_LENGTH_MAX: usize = 128;
const DESCRIPTION_LENGTH_MAX: usize = 500;

/// One call's events on their way.
struct Round<'r> {
    control: &'r Control,
    tenant: &'r Tenant,
    key: Option<ApiKeyId>,
    events: &'r [NewEvent],
    /// The resources that are gauges.
    gauges: Vec<Resource>,
    outcomes: Vec<Option<EventOutcome>>,
    now: Timestamp,
}

/// An event of a counter whose units are taken.
struct Paid<'p> {
    at: usize,
    id: RequestId,
    standing: Standing,
    taken: Taken<'p>,
}

impl Control {
    /// How long the name of a reported event is remembered. Older events are refused: they might count twice.
    pub const EVENTS_KEPT: Duration = Duration::from_secs(35 * 24 * 3_600);

    /// Counts an event.
    ///
    /// Dropping the future leaves it open whether it is counted; with an `event_id` it may be sent again.
    ///
    /// # Errors
    /// [`ControlError::Exceeded`]: nothing was counted. [`ControlError::Invalid`] names all faults;
    /// [`ControlError::Conflict`] for an event id that another event has; [`ControlError::NoGateway`];
    /// [`ControlError::Stopped`] for a tenant that is not served.
    pub async fn increment(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        event: NewEvent,
    ) -> EventOutcome {
        let counted = self.increments(principal, tenant, vec![event]).await?;
        counted.into_iter().next().unwrap_or(Err(ControlError::Unanswered("the gateway")))
    }

    /// Counts each of the events, or says why not, in their order.
    ///
    /// # Errors
    /// As [`Control::increment`], for what concerns all of them: then none was counted, or, if the store failed, those
    /// with an `event_id` may be sent again.
    pub async fn increments(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        events: Vec<NewEvent>,
    ) -> Result<Vec<EventOutcome>, ControlError> {
        let tenant = self.tenant_to_count_for(principal, tenant).await?;
        let counting = self.counting()?;
        if events.len() > EVENTS_MAX {
            let mut faults = Faults::default();
            faults.add("events", format!("more than {EVENTS_MAX}"));
            return Err(faults.refusal());
        }
        let key = principal.key();
        let control = self.clone();
        // A task of its own: what is committed is written down, even if the caller goes away in that moment.
        let round = tokio::spawn(async move { control.count(&counting, &tenant, key, &events).await });
        round.await.unwrap_or(Err(ControlError::Unanswered("the gateway")))
    }

    pub(super) fn counting(&self) -> Result<Arc<Counting>, ControlError> {
        self.parts.counting.clone().ok_or(ControlError::NoGateway)
    }

    /// The tenant, if the caller may report its usage. Refusals are noted.
    pub(super) async fn tenant_to_count_for(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        Ok(self.read_tenant(principal, Operation::ReportUsage, tenant).await?.1)
    }

    /// What the tenant pays from, if it is served.
    pub(super) async fn payer(
        &self,
        counting: &Counting,
        tenant: TenantId,
        resources: &[Resource],
    ) -> Result<Entitlements, ControlError> {
        let paying = counting.directory.paying(tenant, resources).await.map_err(|error| match error {
            LookupFailed::Till(_) => ControlError::Unanswered("the till, which is full,"),
            LookupFailed::Store(_) | LookupFailed::Busy => ControlError::Unanswered("the store"),
        })?;
        let gone = || ControlError::NotFound { what: "tenant", which: tenant.to_string() };
        let payer = paying.ok_or_else(gone)?;
        match payer.stopped_by() {
            Some((_, status)) => Err(ControlError::Stopped(status)),
            None => Ok(payer),
        }
    }

    async fn count(
        &self,
        counting: &Counting,
        tenant: &Tenant,
        key: Option<ApiKeyId>,
        events: &[NewEvent],
    ) -> Result<Vec<EventOutcome>, ControlError> {
        let outcomes = events.iter().map(|_| None).collect();
        let mut snapshot = self.read().await?;
        let known = snapshot.resource_types().await?;
        let of_gauge = |known: &ResourceType| (known.kind == ResourceKind::Gauge).then_some(known.slug);
        let gauges = known.iter().filter_map(of_gauge).collect();
        let mut round = Round { control: self, tenant, key, events, gauges, outcomes, now: self.now() };
        round.check(&known);
        round.find_duplicates(&mut snapshot).await?;
        drop(snapshot);
        let counters = round.counters();
        let payer = self.payer(counting, tenant.id, &counters).await?;
        let paid = round.take(counting, &payer).await;
        round.commit(paid).await?;
        let mut outcomes: Vec<_> = round.outcomes.into_iter().flatten().collect();
        self.tell_where_more_is(tenant, outcomes.iter_mut().filter_map(|outcome| outcome.as_mut().err()))
            .await?;
        Ok(outcomes)
    }
}

// === impl Round ===

impl Round<'_> {
    /// The events that nothing was said of yet.
    fn open(&self) -> impl Iterator<Item = (usize, &NewEvent)> {
        let open = |(at, _): &(usize, &NewEvent)| self.outcomes[*at].is_none();
        self.events.iter().enumerate().filter(open)
    }

    fn is_gauge(&self, event: &NewEvent) -> bool {
        self.gauges.contains(&event.resource)
    }

    /// The counters of those, each once.
    fn counters(&self) -> Vec<Resource> {
        let counters = self.open().filter(|(_, event)| !self.is_gauge(event));
        let mut resources: Vec<_> = counters.map(|(_, event)| event.resource).collect();
        resources.sort_unstable();
        resources.dedup();
        resources
    }

    fn check(&mut self, known: &[ResourceType]) {
        for (at, event) in self.events.iter().enumerate() {
            if let Err(error) = checked(event, known, self.now) {
                self.outcomes[at] = Some(Err(error));
            }
        }
        // The same name twice in one call: the first counts.
        let mut names = HashMap::new();
        for (at, event) in self.events.iter().enumerate() {
            let Some(name) = event.event_id.as_deref().filter(|_| self.outcomes[at].is_none()) else {
                continue;
            };
            if let Some(first) = names.insert(name, at) {
                names.insert(name, first);
                let why = format!("event `{name}` is in this call twice");
                self.outcomes[at] = Some(Err(ControlError::Conflict(why)));
            }
        }
    }

    async fn find_duplicates(&mut self, snapshot: &mut Snapshot) -> Result<(), ControlError> {
        let names: Vec<_> = self.open().filter_map(|(_, event)| event.event_id.as_deref()).collect();
        let there = snapshot.usage_events(self.tenant.id, &names).await?;
        for event in there {
            let is_same = |new: &NewEvent| new.event_id.as_deref() == Some(&event.event);
            if let Some(at) = self.events.iter().position(is_same) {
                self.outcomes[at] = Some(duplicate(&self.events[at], event));
            }
        }
        Ok(())
    }

    /// Takes the units of counters.
    async fn take<'p>(&mut self, counting: &'p Counting, payer: &'p Entitlements) -> Vec<Paid<'p>> {
        let mut paid = Vec::new();
        let open: Vec<_> = self.open().map(|(at, _)| at).collect();
        for at in open {
            let event = &self.events[at];
            if self.is_gauge(event) {
                continue;
            }
            let (tenant, key, resource) = (self.tenant.id, self.key, event.resource);
            let units = Units::saturating(event.amount.unsigned_abs());
            let request = RequestId(self.control.new_id());
            let taking = Taking { tenant, key, resource, units, request, at: self.now };
            match counting.take(payer, taking).await {
                Ok(taken) => {
                    let standing = standing(payer, resource);
                    paid.push(Paid { at, id: request, standing, taken });
                }
                Err(error) => self.outcomes[at] = Some(Err(error)),
            }
        }
        paid
    }

    /// Makes permanent what has a name or a description, and what gauges hold; then writes down the rest.
    async fn commit(&mut self, mut paid: Vec<Paid<'_>>) -> Result<(), ControlError> {
        let has_gauges = self.open().any(|(_, event)| self.is_gauge(event));
        let is_named = |event: &NewEvent| event.event_id.is_some() || event.description.is_some();
        if has_gauges || paid.iter().any(|paid| is_named(&self.events[paid.at])) {
            let mut tx = self.control.parts.store.begin().await?;
            self.insert(&mut tx, &mut paid).await?;
            self.hold(&mut tx).await?;
            if let Err(error) = tx.commit().await {
                self.must_be_there(&paid).await.map_err(|()| error)?;
            }
        }
        let mut synced = Vec::new();
        for Paid { at, id, standing, taken } in paid {
            let event = &self.events[at];
            self.outcomes[at] = Some(Ok(counted(event, event.name(id.0), standing)));
            synced.push(taken.finish());
        }
        for synced in synced {
            synced.await;
        }
        Ok(())
    }

    /// Whose name is taken meanwhile is dropped from `paid`, which gives its units back.
    async fn insert(&mut self, tx: &mut Tx, paid: &mut Vec<Paid<'_>>) -> Result<(), ControlError> {
        let mut beaten = Vec::new();
        for paid in paid.iter() {
            let event = &self.events[paid.at];
            if event.event_id.is_none() && event.description.is_none() {
                continue;
            }
            let row = self.row(event, paid.id.0, &paid.standing);
            if !tx.insert_usage_event(&row).await? {
                beaten.push(paid.at);
            }
        }
        paid.retain(|paid| !beaten.contains(&paid.at));
        self.find_duplicates(tx).await
    }

    fn row(&self, event: &NewEvent, request: Uuid, standing: &Standing) -> UsageEvent {
        UsageEvent {
            tenant: self.tenant.id,
            event: event.name(request),
            request,
            resource: event.resource,
            amount: event.amount,
            description: event.description.clone(),
            answer: serde_json::to_value(standing).unwrap_or(Value::Null),
            at: self.now,
        }
    }

    /// Takes from gauges and gives back to them, in the transaction.
    async fn hold(&mut self, tx: &mut Tx) -> Result<(), ControlError> {
        let gauges = self.open().filter(|(_, event)| self.is_gauge(event));
        let gauges: Vec<usize> = gauges.map(|(at, _)| at).collect();
        if gauges.is_empty() {
            return Ok(());
        }
        let above = tx.tenants_above(self.tenant).await?;
        for at in gauges {
            let event = &self.events[at];
            let mut accounts = held_accounts(tx, self.tenant, event.resource, self.now).await?;
            let own = accounts.len();
            for tenant in &above {
                accounts.extend(limits_of(tx, tenant, event.resource, self.now).await?);
            }
            self.outcomes[at] = Some(self.hold_one(tx, event, &accounts, own).await?);
        }
        Ok(())
    }

    async fn hold_one(
        &self,
        tx: &mut Tx,
        event: &NewEvent,
        accounts: &[(AccountKey, Quota)],
        own: usize,
    ) -> Result<EventOutcome, ControlError> {
        let keys: Vec<_> = accounts.iter().map(|(account, _)| *account).collect();
        let used = tx.account_units(&keys).await?;
        let mut after = Vec::new();
        for (index, ((_, quota), used)) in accounts.iter().zip(used).enumerate() {
            match held_after(event, quota, used) {
                Ok(units) => after.push(gauge_standing(quota.limit, units)),
                Err(HeldError::TooMuch) => {
                    let standing = (index < own).then(|| gauge_standing(quota.limit, used));
                    return Ok(Err(ControlError::Exceeded(Box::new(Exceeded {
                        resource_type: event.resource,
                        requested: Units::saturating(event.amount.unsigned_abs()),
                        standing,
                        resets_at: None,
                        is_capped: quota.is_capped && index < own,
                        upgrade_url: None,
                    }))));
                }
                Err(HeldError::NotHeld) => {
                    let mut faults = Faults::default();
                    faults.add("amount", format!("only {used} are held"));
                    return Ok(Err(faults.refusal()));
                }
            }
        }
        let standing = Standing::tightest(after.into_iter().take(own));
        let request = self.control.new_id();
        // Before anything is added: a name that is taken must add nothing.
        if !tx.insert_usage_event(&self.row(event, request, &standing)).await? {
            let there = tx.usage_events(self.tenant.id, event.event_id.as_deref().as_slice()).await?;
            let there = there.into_iter().next();
            return Ok(there.map_or_else(
                || Err(ControlError::Conflict("the event's id is taken".to_owned())),
                |there| duplicate(event, there),
            ));
        }
        for account in &keys {
            tx.add_held_units(account, event.amount, self.now).await?;
        }
        Ok(Ok(counted(event, event.name(request), standing)))
    }

    /// A commit whose answer was lost may have been done.
    async fn must_be_there(&self, paid: &[Paid<'_>]) -> Result<(), ()> {
        let mut snapshot = self.control.read().await.map_err(drop)?;
        let named = paid.iter().map(|paid| (self.events[paid.at].name(paid.id.0), paid.id.0));
        let named: HashMap<String, Uuid> = named.collect();
        let names: Vec<&str> = named.keys().map(String::as_str).collect();
        let there = snapshot.usage_events(self.tenant.id, &names).await.map_err(drop)?;
        let ours = there.iter().filter(|there| named.get(&there.event) == Some(&there.request)).count();
        // One transaction: one of them is as good as all.
        if ours > 0 { Ok(()) } else { Err(()) }
    }
}

enum HeldError {
    TooMuch,
    NotHeld,
}

fn held_after(event: &NewEvent, quota: &Quota, used: Units) -> Result<Units, HeldError> {
    let units = used.to_i64().checked_add(event.amount).ok_or(HeldError::TooMuch)?;
    let units = Units::try_from(units)
        .map_err(|_| if event.amount < 0 { HeldError::NotHeld } else { HeldError::TooMuch })?;
    let is_over = quota.limit.units().is_some_and(|limit| units > limit);
    // What is above a limit that was lowered may stay and be given back; it may not grow.
    let is_denied = event.amount > 0 && is_over && quota.enforcement == Enforcement::Hard;
    if is_denied { Err(HeldError::TooMuch) } else { Ok(units) }
}

fn gauge_standing(limit: Limit, used: Units) -> Standing {
    let limit = limit.units();
    Standing { limit, used, remaining: limit.map(|limit| limit.saturating_sub(used)), resets_at: None }
}

/// The tenant's accounts of a gauge: of its quotas, or where it has none one without a limit.
async fn held_accounts(
    tx: &mut Tx,
    tenant: &Tenant,
    resource: Resource,
    now: Timestamp,
) -> Result<Vec<(AccountKey, Quota)>, ControlError> {
    let mut own = limits_of(tx, tenant, resource, now).await?;
    if own.is_empty() {
        let unlimited = Quota {
            owner: Owner::Tenant(tenant.id),
            resource,
            period: Period::Forever,
            limit: Limit::Unlimited,
            enforcement: Enforcement::Monitor,
            on_loss: None,
            is_capped: false,
        };
        own.push((super::quotas::account(tenant, &unlimited, now), unlimited));
    }
    Ok(own)
}

async fn limits_of(
    tx: &mut Tx,
    tenant: &Tenant,
    resource: Resource,
    now: Timestamp,
) -> Result<Vec<(AccountKey, Quota)>, ControlError> {
    let quotas = tx.quotas(tenant, now).await?.into_iter().map(|quota| quota.quota);
    let of_tenant = Owner::Tenant(tenant.id);
    let own = quotas.filter(|quota| quota.resource == resource && quota.owner == of_tenant);
    Ok(own.map(|quota| (super::quotas::account(tenant, &quota, now), quota)).collect())
}

fn checked(event: &NewEvent, known: &[ResourceType], now: Timestamp) -> Result<(), ControlError> {
    let mut faults = Faults::default();
    let kind = known.iter().find(|known| known.slug == event.resource).map(|known| known.kind);
    if kind.is_none() {
        faults.unknown_resource(known);
    }
    check_amount(&mut faults, event.amount, kind);
    if let Some(name) = &event.event_id {
        let is_name = (1..=EVENT_ID_LENGTH_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        let expected = format!("1 to {EVENT_ID_LENGTH_MAX} printable ASCII characters are expected");
        faults.check("event_id", is_name.then_some(()), expected);
    }
    if let Some(text) = &event.description {
        let is_short = text.chars().count() <= DESCRIPTION_LENGTH_MAX && !text.contains('\0');
        faults.check(
            "description",
            is_short.then_some(()),
            format!("more than {DESCRIPTION_LENGTH_MAX} characters"),
        );
    }
    if let Some(at) = event.occurred_at {
        if at < now.minus(Control::EVENTS_KEPT) {
            faults.add("occurred_at", "events older than 35 days are not taken: they might count twice");
        } else if at > now.plus(AHEAD_MAX) {
            faults.add("occurred_at", "it lies in the future");
        }
    }
    faults.finish()
}

fn check_amount(faults: &mut Faults, amount: i64, kind: Option<ResourceKind>) {
    if amount < 0 && kind == Some(ResourceKind::Counter) {
        faults.add("amount", "only of gauges may units be given back: what a counter has counted was used");
    } else if amount.unsigned_abs() > Units::MAX.get() {
        faults.add("amount", format!("at most {}", Units::MAX));
    } else if amount == 0 {
        faults.add("amount", "0 changes nothing");
    }
}

/// What an event is told that was counted before.
fn duplicate(event: &NewEvent, there: UsageEvent) -> EventOutcome {
    if (there.resource, there.amount) != (event.resource, event.amount) {
        let why = format!("event `{}` was another one: {} of {}", there.event, there.amount, there.resource);
        return Err(ControlError::Conflict(why));
    }
    let standing = serde_json::from_value(there.answer).unwrap_or(Standing::tightest(std::iter::empty()));
    Ok(CountedEvent { duplicate: true, ..counted(event, there.event, standing) })
}

fn counted(event: &NewEvent, event_id: String, standing: Standing) -> CountedEvent {
    let NewEvent { resource, amount, .. } = *event;
    CountedEvent { event_id, resource, amount, duplicate: false, standing }
}

// === impl NewEvent ===

impl NewEvent {
    /// What it is called: as its reporter says, or else by the id of its record.
    fn name(&self, request: Uuid) -> String {
        self.event_id.clone().unwrap_or_else(|| request.to_string())
    }
}

// === impl Principal ===

impl Principal {
    /// The key that asks, if it is one.
    pub(super) fn key(&self) -> Option<ApiKeyId> {
        self.actor.id.filter(|_| self.actor.kind == ActorKind::ApiKey).map(ApiKeyId)
    }
}
