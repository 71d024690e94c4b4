//! The watch: what tenants are told of without having asked.
//!
//! Looks at all tenants at once and writes down what happened, each happening once: it has a name of its own (its
//! occasion), which the store takes once per tenant. So any number of gateways may look, and one that is killed in
//! the middle, or looks again, adds nothing. To spare the database they take turns: a round of looking is done by
//! whoever takes it first.
//!
//! # Why it looks at the store and not at the till
//! What all gateways used is known there and nowhere else, a flush (a second) later; and where the store can't be
//! asked nothing could be written down either.
//!
//! # What it can't see
//! Who only reads what is not theirs leaves no audit row. A key with a wrong checksum is nobody's and is guessed by
//! nobody: it stands in `tollgate_refusals_total` alone. Keys that are nobody's belong to no tenant that could be told:
//! the platform's audit log says where many of them came from.
//!
//! # When a network is new
//! A key is at home in the networks of the first day that it was seen: whoever is given a key tries it here and there,
//! and where a database is new to this, or a key's networks were forgotten since it rested for months, every network
//! would be new at once. After that day each further one is told of, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::health::{HealthReason, TenantHealthSettings, assessed, counted};
use super::permissions::Operation;
use super::quotas::percent;
use super::roles::permissions_of;
use super::{Control, ControlError, Permissions};
use crate::clock::Timestamp;
use crate::domain::{
    Actor, Alert, AlertId, AlertKind, AlertRule, Anchor, AuditOutcome, AuditRow, Enforcement, Health, Owner,
    Period, Resource, ResourceNames, Severity, Tenant, TenantId, TenantStatus, Units, UserId, Zone,
};
use crate::store::{
    AuditVerdict, BadKeys, Evidence, Exhaustion, Granted, KnownHealth, NearLimit, NewNetwork, Page,
    RecentRequests, Refused, Snapshot, TenantFilter, TenantSort, TenantSortBy, Visible,
};

/// What is looked for.
#[derive(Clone, PartialEq, Debug)]
pub struct WatchSettings {
    /// Thresholds that every tenant has, in percent.
    pub thresholds: Vec<u32>,
    /// How often use is looked at.
    pub interval: Duration,
    /// How often health, and what may be an attack, are looked at.
    pub slow_interval: Duration,
    /// How often all audit logs are verified.
    pub audit_interval: Duration,
    pub health: TenantHealthSettings,
    /// So many refusals of one actor within ten minutes are told of.
    pub refusals_min: u64,
    /// So many times as many requests as usual are told of,
    pub surge_factor: u64,
    /// from so many within five minutes on.
    pub surge_requests_min: u64,
    /// So many keys that don't work, from one network within an hour, are told of.
    pub bad_keys_min: u64,
    /// How often it is foreseen which quotas will be used up.
    pub forecast_interval: Duration,
}

/// Something to be told of.
pub(super) struct Happening {
    /// Names it, within its tenant.
    pub(super) occasion: String,
    pub(super) kind: AlertKind,
    pub(super) severity: Severity,
    pub(super) resource: Option<Resource>,
    pub(super) summary: String,
    pub(super) details: Value,
}

/// What was seen of a tenant that may not be well.
#[derive(Default)]
struct Seen {
    status: Option<TenantStatus>,
    recent: RecentRequests,
    near: Vec<NearLimit>,
    foreseen: Vec<Exhaustion>,
    known: Option<KnownHealth>,
}

/// What is looked at of requests.
const RECENT: Duration = Duration::from_secs(300);
const REFUSALS_WITHIN: Duration = Duration::from_secs(600);
/// Rows of audit logs are looked at again for so long: no gateway may have been there when they were written.
const GRANTS_WITHIN: Duration = Duration::from_secs(3_600);
/// What is usual is learned from so long at most, and at least.
const USUAL_WITHIN: Duration = Duration::from_secs(7 * 86_400);
const USUAL_MIN: Duration = Duration::from_secs(86_400);
/// A change of health is told of when it was seen so often in a row.
const SEEN_TIMES: i64 = 2;
/// In percent.
const USED_UP: u32 = 100;
/// How `audit_interval` and the others name their rounds.
const QUOTAS: &str = "watch_quotas";
const SLOW: &str = "watch_slow";
const AUDIT: &str = "watch_audit";
const FORECASTS: &str = "watch_forecasts";
/// In percent. Of a quota of which less is used nothing is foreseen: what will be is mostly what was before it began.
const FORESEEN_FROM: u32 = 25;
/// A key is at home where it was used within so long of its first use; what comes later is somewhere new.
const SETTLES_WITHIN: Duration = Duration::from_secs(86_400);

// === impl WatchSettings ===

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings {
            thresholds: vec![80, 95, USED_UP],
            interval: Duration::from_secs(5),
            slow_interval: Duration::from_secs(60),
            audit_interval: Duration::from_secs(86_400),
            health: TenantHealthSettings::default(),
            refusals_min: 10,
            surge_factor: 10,
            surge_requests_min: 500,
            bad_keys_min: 100,
            forecast_interval: Duration::from_secs(3_600),
        }
    }
}

// === impl Control ===

impl Control {
    /// Looks at everything that is due and that nobody else of the fleet has taken; answers what is new.
    ///
    /// Dropping the future leaves the rest for the next round.
    ///
    /// # Errors
    /// [`ControlError::Store`]; what was not looked at then is looked at in the next round.
    pub async fn watch(&self) -> Result<Vec<Alert>, ControlError> {
        let mut told = Vec::new();
        let settings = self.watch_settings();
        if self.take_round(QUOTAS, settings.interval).await? {
            self.watch_quotas(&mut told).await?;
        }
        if self.take_round(FORECASTS, settings.forecast_interval).await? {
            self.foresee().await?;
        }
        if self.take_round(SLOW, settings.slow_interval).await? {
            self.watch_health(&mut told).await?;
            self.watch_refusals(&mut told).await?;
            self.watch_grants(&mut told).await?;
            self.watch_surges(&mut told).await?;
            self.watch_networks(&mut told).await?;
            self.watch_bad_keys(&mut told).await?;
            self.watch_spending(&mut told).await?;
        }
        if self.take_round(AUDIT, settings.audit_interval).await? {
            self.watch_audit(&mut told).await?;
        }
        Ok(told)
    }

    pub(super) async fn take_round(&self, work: &str, every: Duration) -> Result<bool, ControlError> {
        let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1);
        let round = self.now().micros().div_euclid(every);
        Ok(self.parts.store.take_round(work, round).await?)
    }

    /// Tells of thresholds that were passed: each once per account, limit and window.
    async fn watch_quotas(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let now = self.now();
        let built_in = &self.watch_settings().thresholds;
        let mut snapshot = self.read().await?;
        let lowest = snapshot.lowest_threshold().await?.into_iter().chain(built_in.iter().copied()).min();
        let Some(lowest) = lowest else { return Ok(()) };
        let names = ResourceNames::of(snapshot.resource_types().await?);
        let mut by_tenant = BTreeMap::<TenantId, Vec<NearLimit>>::new();
        for near in snapshot.near_limit(lowest, now).await? {
            by_tenant.entry(near.tenant).or_default().push(near);
        }
        for (id, near) in by_tenant {
            let Some(tenant) = snapshot.tenant(id).await? else { continue };
            let rules = snapshot.alert_rules(id).await?;
            let mut happenings = Vec::new();
            for near in near.iter().filter(|near| near.is_current(&tenant, now)) {
                let thresholds = AlertRule::thresholds(built_in, &rules, near.account.resource);
                let passed = thresholds.into_iter().filter(|threshold| near.has_passed(*threshold));
                happenings.extend(passed.map(|threshold| near.happening(threshold, &tenant, &names, now)));
            }
            happenings.retain(|happening| self.is_news(id, happening));
            self.recommend(&mut snapshot, &tenant, &mut happenings).await?;
            told.extend(self.note(&mut snapshot, id, happenings, None).await?);
        }
        Ok(())
    }

    /// Tells of changes of health that have lasted.
    async fn watch_health(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let now = self.now();
        let mut snapshot = self.read().await?;
        let names = ResourceNames::of(snapshot.resource_types().await?);
        for (id, seen) in self.seen(&mut snapshot, now).await? {
            let reasons = seen.reasons(&names, &self.watch_settings().health);
            let before = seen.known.unwrap_or(KnownHealth::unknown(id, now));
            let after = before.having_seen(assessed(&reasons), now);
            if after == before {
                continue;
            }
            let changed =
                (after.health != before.health).then(|| Happening::health(&before, &after, &reasons));
            told.extend(self.note(&mut snapshot, id, changed.into_iter().collect(), Some(&after)).await?);
        }
        Ok(())
    }

    /// All tenants of which there is something to say; the others are well, and were.
    async fn seen(
        &self,
        snapshot: &mut Snapshot,
        now: Timestamp,
    ) -> Result<BTreeMap<TenantId, Seen>, ControlError> {
        let TenantHealthSettings { quota_warning, requests_min, .. } = self.watch_settings().health;
        let mut all = BTreeMap::<TenantId, Seen>::new();
        for known in snapshot.known_health().await? {
            all.entry(known.tenant).or_default().known = Some(known);
        }
        for (id, status) in snapshot.unserved_tenants().await? {
            all.entry(id).or_default().status = Some(status);
        }
        for (id, recent) in snapshot.busy_tenants(now.minus(RECENT), requests_min).await? {
            if recent.errors + recent.denied > 0 {
                all.entry(id).or_default().recent = recent;
            }
        }
        for near in snapshot.near_limit(FORESEEN_FROM.min(quota_warning), now).await? {
            all.entry(near.tenant).or_default().near.push(near);
        }
        for foreseen in snapshot.exhaustions(None, now).await? {
            all.entry(foreseen.tenant).or_default().foreseen.push(foreseen);
        }
        Ok(all)
    }

    /// Writes down which quotas will be used up before they begin anew. Those that are near their limits are told of
    /// anyway.
    async fn foresee(&self) -> Result<(), ControlError> {
        let now = self.now();
        let near_from = self.watch_settings().health.quota_warning;
        let mut snapshot = self.read().await?;
        let mut foreseen = Vec::new();
        for used in snapshot.near_limit(FORESEEN_FROM, now).await? {
            if used.has_passed(near_from) || !matches!(used.account.owner, Owner::Tenant(_)) {
                continue;
            }
            let Some(tenant) = snapshot.tenant(used.tenant).await? else { continue };
            if used.is_current(&tenant, now) && self.runs_out(&mut snapshot, &used).await? {
                foreseen.push(used.exhaustion());
            }
        }
        let mut tx = self.parts.store.begin().await?;
        tx.set_exhaustions(&foreseen).await?;
        Ok(tx.commit().await?)
    }

    /// Tells of those who were refused again and again, once an hour each.
    async fn watch_refusals(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let now = self.now();
        let mut snapshot = self.read().await?;
        let times_min = self.watch_settings().refusals_min;
        for refused in snapshot.often_refused(now.minus(REFUSALS_WITHIN), times_min).await? {
            let happening = Happening::probing(&refused, now);
            told.extend(self.note(&mut snapshot, refused.tenant, vec![happening], None).await?);
        }
        Ok(())
    }

    /// Tells of keys, members and roles that may do what they could not before.
    async fn watch_grants(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let mut snapshot = self.read().await?;
        for granted in snapshot.granted(self.now().minus(GRANTS_WITHIN)).await? {
            if let Some(what) = granted.gained(&mut snapshot).await? {
                let happening = Happening::escalation(&granted, &what);
                told.extend(self.note(&mut snapshot, granted.tenant, vec![happening], None).await?);
            }
        }
        Ok(())
    }

    /// Tells of keys that are used from a network where they never were: each network of each key once.
    async fn watch_networks(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let mut snapshot = self.read().await?;
        for new in snapshot.new_networks(self.now().minus(GRANTS_WITHIN)).await? {
            if new.known_since.plus(SETTLES_WITHIN) <= new.first_seen_at {
                let happening = Happening::network(&new);
                told.extend(self.note(&mut snapshot, new.tenant, vec![happening], None).await?);
            }
        }
        Ok(())
    }

    /// Tells of many keys that don't work from one network, once an hour: whose they were, or else the platform.
    async fn watch_bad_keys(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let mut snapshot = self.read().await?;
        let times_min = self.watch_settings().bad_keys_min;
        for bad in snapshot.bad_keys(self.now().minus(GRANTS_WITHIN), times_min).await? {
            match bad.tenant {
                Some(tenant) => {
                    let happening = Happening::bad_keys(&bad);
                    told.extend(self.note(&mut snapshot, tenant, vec![happening], None).await?);
                }
                None => self.tell_platform(&bad).await?,
            }
        }
        Ok(())
    }

    /// Keys that are nobody's belong to no tenant that could be told: it stands in the platform's audit log.
    async fn tell_platform(&self, bad: &BadKeys) -> Result<(), ControlError> {
        let mut tx = self.parts.store.begin().await?;
        if !tx.tell_bad_keys(bad).await? {
            return Ok(());
        }
        tx.audit(&AuditRow {
            at: self.now(),
            tenant: None,
            actor: Actor::system("watch"),
            action: "key.guess".to_owned(),
            target_kind: "network".to_owned(),
            target_id: bad.network.to_string(),
            outcome: AuditOutcome::Denied,
            before: None,
            after: Some(json!({ "times": bad.times, "hour": bad.hour })),
            reason: Some("keys that are nobody's".to_owned()),
            correlation: self.new_id(),
        })
        .await?;
        tx.commit().await?;
        tracing::warn!(network = %bad.network, times = bad.times, "{} keys that are nobody's came from {}", bad.times, bad.network);
        Ok(())
    }

    /// Tells of far more requests than are usual, once a day.
    async fn watch_surges(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let WatchSettings { surge_factor, surge_requests_min, .. } = *self.watch_settings();
        let now = self.now();
        let mut snapshot = self.read().await?;
        for (id, recent) in snapshot.busy_tenants(now.minus(RECENT), surge_requests_min).await? {
            let hour = Period::Hour.window(Anchor::Calendar, &Zone::UTC, now);
            let (requests, first) = snapshot.hourly_requests(id, now.minus(USUAL_WITHIN), hour.start).await?;
            let known_for = first.map_or(Duration::ZERO, |first| hour.start.since(first));
            if known_for < USUAL_MIN {
                continue;
            }
            let spans = (known_for.as_secs() / RECENT.as_secs()).max(1);
            let usual = requests.div_ceil(spans);
            if recent.requests >= surge_requests_min.max(surge_factor.saturating_mul(usual)) {
                let happening = Happening::surge(recent.requests, usual, now);
                told.extend(self.note(&mut snapshot, id, vec![happening], None).await?);
            }
        }
        Ok(())
    }

    /// Verifies the audit logs of all tenants, and tells of each row that is not what was written.
    async fn watch_audit(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let sort = TenantSort { by: TenantSortBy::CreatedAt, descending: false };
        let mut page = Page::new(Some(Page::LIMIT_MAX.into()), None, None)?;
        let keys = self.believed_keys();
        loop {
            let tenants =
                self.read().await?.tenants(Visible::All, &TenantFilter::default(), sort, &page).await??;
            for tenant in &tenants.items {
                // Each in a snapshot of its own: a long log must not hold on to old rows for all of them.
                let mut snapshot = self.read().await?;
                let evidence = Evidence { keys: &keys, places: &[] };
                if let AuditVerdict::Broken { seq, fault } =
                    snapshot.verify_audit(Some(tenant.id), evidence).await?
                {
                    let happening = Happening::broken_chain(seq, fault);
                    told.extend(self.note(&mut snapshot, tenant.id, vec![happening], None).await?);
                }
            }
            match tenants.next_cursor {
                Some(cursor) => page = Page::new(Some(Page::LIMIT_MAX.into()), None, Some(&cursor))?,
                None => return Ok(()),
            }
        }
    }

    /// Writes down what happened to a tenant and who is to be told, as far as that is new; answers what is.
    pub(super) async fn note(
        &self,
        snapshot: &mut Snapshot,
        tenant: TenantId,
        happenings: Vec<Happening>,
        health: Option<&KnownHealth>,
    ) -> Result<Vec<Alert>, ControlError> {
        let mut happenings = happenings;
        happenings.retain(|happening| self.is_news(tenant, happening));
        if !happenings.is_empty() {
            let rules = snapshot.alert_rules(tenant).await?;
            happenings.retain(|happening| !AlertRule::silences(&rules, happening.kind));
        }
        if happenings.is_empty() && health.is_none() {
            return Ok(Vec::new());
        }
        let channels = snapshot.channels(tenant).await?;
        let (now, mut told) = (self.now(), Vec::new());
        let mut tx = self.parts.store.begin().await?;
        if let Some(health) = health {
            tx.set_known_health(health).await?;
        }
        let occasions: Vec<_> = happenings.iter().map(|happening| happening.occasion.clone()).collect();
        for happening in happenings {
            let occasion = happening.occasion.clone();
            let alert = happening.into_alert(AlertId(self.new_id()), tenant, now);
            let to = channels.iter().filter(|channel| channel.takes(alert.kind)).map(|channel| channel.id);
            if self.tell(&mut tx, &alert, &occasion, to).await?.is_some() {
                told.push(alert);
            }
        }
        tx.commit().await?;
        occasions.into_iter().for_each(|occasion| self.parts.noted.insert((tenant, occasion), ()));
        Ok(told)
    }

    /// Whether it is not known here to be written down.
    fn is_news(&self, tenant: TenantId, happening: &Happening) -> bool {
        !self.parts.noted.contains_key(&(tenant, happening.occasion.clone()))
    }

    /// Says in what is told of quotas which tier would do, and where more can be bought.
    async fn recommend(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        happenings: &mut [Happening],
    ) -> Result<(), ControlError> {
        if happenings.is_empty() {
            return Ok(());
        }
        let found = self.recommendation(snapshot, tenant).await?;
        for happening in happenings {
            happening.details["recommended_tier"] = json!(found.recommended_tier);
            happening.details["upgrade_url"] = json!(found.upgrade_url);
            if let Some(name) = &found.recommended_name {
                happening.summary.push_str(&format!(" The tier {name} would do."));
            }
        }
        Ok(())
    }
}

// === impl NearLimit ===

impl NearLimit {
    fn has_passed(&self, threshold: u32) -> bool {
        u128::from(self.used.get()) * 100 >= u128::from(self.limit.get()) * u128::from(threshold)
    }

    fn exhaustion(&self) -> Exhaustion {
        Exhaustion {
            tenant: self.tenant,
            resource: self.account.resource,
            period: self.account.window.period,
            limit: self.limit,
            window_end: self.account.window.end,
        }
    }

    /// Not of an account whose windows were moved since.
    pub(super) fn is_current(&self, tenant: &Tenant, now: Timestamp) -> bool {
        self.account.window == self.account.window.period.window(tenant.anchor, &tenant.timezone, now)
    }

    fn happening(&self, threshold: u32, tenant: &Tenant, names: &ResourceNames, now: Timestamp) -> Happening {
        let window = self.account.window;
        // A window that never ends would be told of once and never again: once in each month of the tenant.
        let month = match window.period {
            Period::Forever => Period::Month.window(tenant.anchor, &tenant.timezone, now).start.to_string(),
            _ => String::new(),
        };
        let whose = match self.account.owner {
            Owner::Tenant(_) => String::new(),
            Owner::Key(key) => format!(" of the key {key}"),
        };
        let (resource, period) = (self.account.resource, window.period);
        let resets_at = (period != Period::Forever).then_some(window.end);
        let resets = resets_at.map_or(String::new(), |end| format!(" until {}", tenant.timezone.told(end)));
        let told = |units: Units| names.told(resource, units.get());
        let is_out = threshold >= USED_UP && self.enforcement == Enforcement::Hard;
        Happening {
            occasion: format!("quota:{}:{threshold}:{}:{month}", self.account, self.limit_version),
            kind: AlertKind::Quota,
            severity: if is_out { Severity::Critical } else { Severity::Warning },
            resource: Some(resource),
            summary: format!(
                "{threshold} % of {}{whose} are used: {} of {}{resets}.",
                counted(resource, period, names),
                told(self.used),
                told(self.limit)
            ),
            details: json!({
                "threshold": threshold,
                "used": self.used,
                "limit": self.limit,
                "limit_version": self.limit_version,
                "percent": percent(self.used, self.limit),
                "period": period,
                "window": window,
                "resets_at": resets_at,
                "enforcement": self.enforcement,
                "key_id": match self.account.owner {
                    Owner::Tenant(_) => None,
                    Owner::Key(key) => Some(key),
                },
            }),
        }
    }
}

// === impl KnownHealth ===

impl KnownHealth {
    /// Of a tenant that was never unwell.
    const fn unknown(tenant: TenantId, now: Timestamp) -> KnownHealth {
        let health = Health::Healthy;
        KnownHealth { tenant, health, seen: health, seen_times: 0, since: now }
    }

    /// What is known after another look.
    fn having_seen(self, health: Health, now: Timestamp) -> KnownHealth {
        if health == self.health {
            return KnownHealth { seen: health, seen_times: 0, ..self };
        }
        let seen_times = if health == self.seen { self.seen_times + 1 } else { 1 };
        if seen_times >= SEEN_TIMES {
            return KnownHealth { health, seen: health, seen_times: 0, since: now, ..self };
        }
        KnownHealth { seen: health, seen_times, ..self }
    }
}

// === impl Seen ===

impl Seen {
    /// The worst first.
    fn reasons(&self, names: &ResourceNames, settings: &TenantHealthSettings) -> Vec<HealthReason> {
        let of_near = |near: &NearLimit| {
            let (resource, period) = (near.account.resource, near.account.window.period);
            HealthReason::of_share(
                resource,
                period,
                percent(near.used, near.limit),
                near.enforcement,
                names,
                settings,
            )
        };
        let mut reasons: Vec<_> = self.near.iter().filter_map(of_near).collect();
        let to_come = self.near.iter().filter(|near| {
            matches!(near.account.owner, Owner::Tenant(_))
                && self.foreseen.contains(&near.exhaustion())
                && of_near(near).is_none()
        });
        let of_forecast = |near: &NearLimit| {
            HealthReason::of_forecast(near.account.resource, near.account.window.period, names)
        };
        reasons.extend(to_come.map(of_forecast));
        reasons.extend(self.status.and_then(HealthReason::of_status));
        reasons.extend(HealthReason::of_errors(self.recent, settings));
        reasons.extend(HealthReason::of_denials(self.recent, settings));
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        reasons
    }
}

// === impl Granted ===

impl Granted {
    /// What somebody may do now and could not before, as far as that is worth telling: a key to administer, somebody who
    /// came in to change who belongs here, a member more than before, and whoever has a role what was added to it.
    async fn gained(&self, snapshot: &mut Snapshot) -> Result<Option<String>, ControlError> {
        let Granted { target_id, .. } = self;
        Ok(match self.action.as_str() {
            "member.join" => {
                let (email, role) = self.member();
                let may = self.may(snapshot, self.after.as_ref()).await?;
                may.contains(Operation::ChangeMember).then(|| format!("{email} came in as {role}"))
            }
            "member.change" => {
                let (email, role) = (self.email(snapshot).await?, self.member().1);
                let before = self.may(snapshot, self.before.as_ref()).await?;
                let after = self.may(snapshot, self.after.as_ref()).await?;
                (!after.is_within(before)).then(|| format!("made {email} {role}"))
            }
            "role.set" => {
                let of = |shown: &Option<Value>| {
                    let names = shown.as_ref().and_then(|shown| shown["permissions"].as_array());
                    let names = names.into_iter().flatten().filter_map(Value::as_str);
                    names.map(str::to_owned).collect::<BTreeSet<_>>()
                };
                let gained: Vec<_> = of(&self.after).difference(&of(&self.before)).cloned().collect();
                let was_there = self.before.is_some() && !gained.is_empty();
                was_there.then(|| {
                    format!("let everybody with the role {target_id} do more: {}", gained.join(", "))
                })
            }
            _ => self.administers_now().then(|| format!("gave the key {target_id} the right to administer")),
        })
    }

    /// Whether the key may administer and could not before.
    fn administers_now(&self) -> bool {
        let may = |shown: &Option<Value>| {
            let scopes = shown.as_ref().and_then(|shown| shown["limits"]["scopes"].as_array());
            scopes.is_some_and(|scopes| scopes.iter().any(|scope| scope == "admin"))
        };
        may(&self.after) && !may(&self.before)
    }

    /// Who it is about, and what they are now.
    fn member(&self) -> (&str, &str) {
        let of = |name| self.after.as_ref().and_then(|shown| shown[name].as_str()).unwrap_or_default();
        (of("email"), of("role"))
    }

    /// Of a member whose row tells only what was changed.
    async fn email(&self, snapshot: &mut Snapshot) -> Result<String, ControlError> {
        let user = Uuid::try_parse(&self.target_id).map(UserId);
        let member = match user {
            Ok(user) => snapshot.member(self.tenant, user).await?,
            Err(_) => None,
        };
        Ok(member.map_or_else(|| self.target_id.clone(), |member| member.email))
    }

    /// What the member of the row may do; a role that is gone does nothing.
    async fn may(&self, snapshot: &mut Snapshot, shown: Option<&Value>) -> Result<Permissions, ControlError> {
        let role = shown.and_then(|shown| shown["role"].as_str()).and_then(|role| role.parse().ok());
        let Some(role) = role else { return Ok(Permissions::NONE) };
        Ok(permissions_of(snapshot, self.tenant, &role).await?.unwrap_or(Permissions::NONE))
    }
}

// === impl Happening ===

impl Happening {
    fn health(before: &KnownHealth, after: &KnownHealth, reasons: &[HealthReason]) -> Happening {
        let severity = match after.health {
            Health::Healthy => Severity::Info,
            Health::Warning => Severity::Warning,
            Health::Critical => Severity::Critical,
        };
        let why = reasons.first().map_or("all is well".to_owned(), |reason| reason.message.clone());
        let (from, to) = (before.health.as_str(), after.health.as_str());
        Happening {
            occasion: format!("health:{}:{to}", after.since.micros()),
            kind: AlertKind::Health,
            severity,
            resource: reasons.first().and_then(|reason| reason.resource_type),
            summary: format!("The tenant's health is {to} and was {from}: {why}."),
            details: json!({ "from": before.health, "to": after.health, "reasons": reasons }),
        }
    }

    fn probing(refused: &Refused, now: Timestamp) -> Happening {
        let Refused { actor_kind, actor_id, actor_name, times, .. } = refused;
        let (kind, id) = (actor_kind.as_str(), actor_id.map(|id| id.to_string()));
        let hour = now.seconds().div_euclid(3_600);
        Happening {
            occasion: format!("probing:{kind}:{}:{hour}", id.as_ref().unwrap_or(actor_name)),
            kind: AlertKind::Probing,
            severity: Severity::Warning,
            resource: None,
            summary: format!("{actor_name} was refused {times} times within ten minutes."),
            details: json!({ "actor": { "kind": kind, "id": id, "name": actor_name }, "times": times }),
        }
    }

    fn escalation(granted: &Granted, what: &str) -> Happening {
        let Granted { seq, at, actor_name, action, target_id, .. } = granted;
        let target = if action.starts_with("key.") { "key_id" } else { "target_id" };
        Happening {
            occasion: format!("escalation:{seq}"),
            kind: AlertKind::Escalation,
            severity: Severity::Warning,
            resource: None,
            summary: if action == "member.join" {
                format!("{what}.")
            } else {
                format!("{actor_name} {what}.")
            },
            details: json!({ "audit_seq": seq, "at": at, "action": action, target: target_id }),
        }
    }

    fn network(new: &NewNetwork) -> Happening {
        let NewNetwork { key, key_name, network, first_seen_at, known_since, .. } = new;
        Happening {
            occasion: format!("network:{key}:{network}"),
            kind: AlertKind::Network,
            severity: Severity::Warning,
            resource: None,
            summary: format!("The key {key_name} is used from {network}, where it never was."),
            details: json!({
                "key_id": key, "key": key_name, "network": network, "at": first_seen_at, "known_since": known_since,
            }),
        }
    }

    fn bad_keys(bad: &BadKeys) -> Happening {
        let BadKeys { network, hour, times, .. } = bad;
        Happening {
            occasion: format!("bad_keys:{network}:{}", hour.seconds()),
            kind: AlertKind::BadKeys,
            severity: Severity::Warning,
            resource: None,
            summary: format!(
                "Keys that are revoked, expired or turned off were used {times} times within an hour from {network}."
            ),
            details: json!({ "network": network, "hour": hour, "times": times }),
        }
    }

    fn surge(requests: u64, usual: u64, now: Timestamp) -> Happening {
        Happening {
            occasion: format!("surge:{}", now.seconds().div_euclid(86_400)),
            kind: AlertKind::Surge,
            severity: Severity::Warning,
            resource: None,
            summary: format!("{requests} requests within five minutes; {usual} are usual."),
            details: json!({ "requests": requests, "usual": usual, "within_seconds": RECENT.as_secs() }),
        }
    }

    fn broken_chain(seq: i64, fault: &str) -> Happening {
        Happening {
            occasion: format!("audit_chain:{seq}"),
            kind: AlertKind::AuditChain,
            severity: Severity::Critical,
            resource: None,
            summary: format!("The audit log is broken at row {seq}: {fault}."),
            details: json!({ "audit_seq": seq, "fault": fault }),
        }
    }

    fn into_alert(self, id: AlertId, tenant: TenantId, at: Timestamp) -> Alert {
        let Happening { kind, severity, resource, summary, details, .. } = self;
        let (acknowledged_at, acknowledged_by) = (None, None);
        Alert { id, tenant, kind, severity, resource, summary, details, at, acknowledged_at, acknowledged_by }
    }
}
