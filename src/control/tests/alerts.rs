//! What tenants are told of, each happening once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::{House, QuotaChange, by_id, limit, named, quota, resource, ring};
use crate::clock::{Clock, Timestamp};
use crate::control::{
    Control, ControlError, KeyChange, NewAlertRule, NewChannel, NewKey, NewTenant, Principal, RuleInForce,
};
use crate::domain::{
    AccountKey, Alert, AlertKind, ChannelKind, Health, KeyLimits, KeySeen, Owner, Period, Severity,
    Sightings, Tenant, TenantStatus, network_of,
};
use crate::secret::hash::Pepper;
use crate::store::testing::{TestStore, on_both};
use crate::store::{
    AccountUse, AlertFilter, AuditFilter, JournalRange, Page, Rollup, RollupPeriod, UsageBatch, UsageSums,
};

on_both! {
    each_threshold_is_told_of_once_however_often_and_by_whomever_it_is_looked_at,
    another_limit_and_another_window_are_told_of_anew,
    a_tenant_sets_its_own_thresholds_and_turns_others_off,
    a_keys_quota_is_told_of_as_the_keys,
    a_threshold_is_told_through_every_channel_that_wants_it,
    a_change_of_health_is_told_of_when_it_was_seen_twice,
    who_is_refused_again_and_again_is_told_of_once_an_hour,
    a_key_that_may_administer_is_told_of,
    a_member_that_may_do_more_and_a_role_that_lets_do_more_are_told_of,
    a_key_in_a_network_where_it_never_was_is_told_of_once_by_however_many_gateways,
    many_bad_keys_from_one_network_are_told_to_whose_they_were_and_else_to_the_platform,
    denials_are_a_warning_from_more_than_one_in_a_hundred_on,
    a_quota_that_is_foreseen_to_run_out_is_a_warning,
    far_more_requests_than_usual_are_told_of,
    a_broken_audit_log_is_told_of,
    an_alert_is_acknowledged_by_the_first_who_does,
    a_clock_that_was_wrong_for_a_while_does_not_end_the_watch,
}

impl House {
    /// Uses so many units, as a flush of that gateway brings them.
    pub(super) async fn uses(&self, tenant: &Tenant, till: u128, units: u64) {
        let window = Period::Month.window(tenant.anchor, &tenant.timezone, self.clock.now());
        let account = AccountKey { owner: Owner::Tenant(tenant.id), resource: resource("api_calls"), window };
        self.flushes(till, Vec::new(), vec![AccountUse { account, units, overage: 0 }]).await;
    }

    pub(super) async fn flushes(&self, till: u128, rollups: Vec<Rollup>, accounts: Vec<AccountUse>) {
        let journal = Uuid::now_v7();
        let range = JournalRange { journal, shard: 0, sequence: 1, from: 0, to: 1 };
        let batch = UsageBatch {
            id: journal,
            range,
            till: Uuid::from_u128(till),
            records: 1,
            units: accounts.iter().map(|used| used.units).sum(),
            checksum: 1,
            at: self.clock.now(),
            logs: Vec::new(),
            rollups,
            accounts,
            parked: Vec::new(),
        };
        self.store.insert_usage(&batch).await.unwrap();
    }

    /// Another gateway's, on the same store.
    pub(super) fn another_control(&self) -> Control {
        let (pepper, changed) = (Pepper::new(1, &[7; 32]).into(), Arc::new(Notify::new()));
        let control = Control::new((*self.store).clone(), Arc::new(self.clock.clone()), pepper, changed);
        control.with_secrets(ring(&[1]))
    }

    /// What is new when the next round of looking is over.
    pub(super) async fn looks(&self) -> Vec<Alert> {
        self.clock.advance(Duration::from_secs(60));
        self.control.watch().await.unwrap()
    }

    pub(super) async fn alerts(&self, tenant: &Tenant) -> Vec<Alert> {
        let filter = AlertFilter::default();
        self.control.alerts(&self.owner, &by_id(tenant), &filter, &Page::default()).await.unwrap().items
    }

    pub(super) async fn requests(
        &self,
        tenant: &Tenant,
        period: RollupPeriod,
        start: Timestamp,
        requests: u64,
        errors: u64,
    ) {
        let sums = UsageSums { requests, errors, ..UsageSums::default() };
        let (key, route) = (None, "orders".to_owned());
        let rollup =
            Rollup { tenant: tenant.id, period, start, resource: resource("api_calls"), key, route, sums };
        self.flushes(1, vec![rollup], Vec::new()).await;
    }
}

/// No threshold, and no address.
const NONE: [u64; 0] = [];
const NOBODY: [&str; 0] = [];

pub(super) async fn of_acme(store: TestStore) -> (House, Tenant) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    (house, acme)
}

/// The thresholds of alerts about quotas, in order.
fn thresholds(alerts: &[Alert]) -> Vec<u64> {
    let of_quotas = alerts.iter().filter(|alert| alert.kind == AlertKind::Quota);
    let mut thresholds: Vec<_> =
        of_quotas.map(|alert| alert.details["threshold"].as_u64().unwrap()).collect();
    thresholds.sort_unstable();
    thresholds
}

fn kinds(alerts: &[Alert]) -> Vec<(AlertKind, Severity)> {
    alerts.iter().map(|alert| (alert.kind, alert.severity)).collect()
}

async fn each_threshold_is_told_of_once_however_often_and_by_whomever_it_is_looked_at(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(1_000))).await.unwrap();
    house.uses(&acme, 1, 799).await;
    assert_eq!(thresholds(&house.looks().await), NONE);
    house.uses(&acme, 2, 1).await;
    assert_eq!(thresholds(&house.looks().await), [80]);
    house.uses(&acme, 3, 200).await;
    // Another gateway that has noted nothing, at the very same time.
    let other = house.another_control();
    house.clock.advance(Duration::from_secs(60));
    let (one, two) = tokio::join!(house.control.watch(), other.watch());
    assert_eq!(thresholds(&[one.unwrap(), two.unwrap()].concat()), [95, 100]);
    for _ in 0..3 {
        assert_eq!(thresholds(&house.looks().await), NONE);
    }
    // A process that was killed and begins anew forgets its rounds, too.
    let begun_anew = house.another_control();
    house.store.raw("DELETE FROM rounds").await;
    assert_eq!(thresholds(&begun_anew.watch().await.unwrap()), NONE);
    let all = house.alerts(&acme).await;
    assert_eq!(thresholds(&all), [80, 95, 100]);
    let out = all.iter().find(|alert| alert.details["threshold"] == 100).unwrap();
    assert_eq!(out.severity, Severity::Critical);
    assert!(
        out.summary.starts_with(
            "100 % of API calls per month are used: 1,000 of 1,000 until 23 Dec 2026, 00:00 UTC."
        ),
        "{}",
        out.summary
    );
}

async fn another_limit_and_another_window_are_told_of_anew(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let set = async |units| {
        house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(units))).await.unwrap();
    };
    set(1_000).await;
    house.uses(&acme, 1, 850).await;
    assert_eq!(thresholds(&house.looks().await), [80]);
    set(2_000).await;
    assert_eq!(thresholds(&house.looks().await), NONE);
    set(1_000).await;
    assert_eq!(thresholds(&house.looks().await), [80], "as many units, but another limit");
    house.clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(thresholds(&house.looks().await), NONE, "nothing is used in this month");
    house.uses(&acme, 1, 960).await;
    assert_eq!(thresholds(&house.looks().await), [80, 95]);
}

async fn a_tenant_sets_its_own_thresholds_and_turns_others_off(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let rule = |threshold, enabled| NewAlertRule {
        kind: AlertKind::Quota,
        resource: Some(resource("api_calls")),
        threshold: Some(threshold),
        enabled,
    };
    let create = async |new| house.control.create_alert_rule(&house.owner, &by_id(&acme), new).await;
    let own = create(rule(50, true)).await.unwrap();
    create(rule(80, false)).await.unwrap();
    assert!(matches!(create(rule(50, false)).await, Err(ControlError::Conflict(_))));
    for bad in [
        NewAlertRule { threshold: None, ..rule(1, true) },
        NewAlertRule { threshold: Some(0), ..rule(1, true) },
        NewAlertRule { kind: AlertKind::Health, resource: None, threshold: None, enabled: true },
        NewAlertRule { resource: Some(resource("nothing")), ..rule(1, true) },
    ] {
        assert!(matches!(create(bad.clone()).await, Err(ControlError::Invalid(_))), "{bad:?}");
    }
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(100))).await.unwrap();
    house.uses(&acme, 1, 96).await;
    assert_eq!(thresholds(&house.looks().await), [50, 95]);
    let (id, off) = (own.id, false);
    house.control.change_alert_rule(&house.owner, &by_id(&acme), id, off).await.unwrap();
    let rules = house.control.alert_rules(&house.owner, &by_id(&acme)).await.unwrap();
    let own: Vec<_> = rules.iter().filter(|rule| matches!(rule, RuleInForce::Own(_))).collect();
    assert_eq!(own.len(), 2);
    house.control.remove_alert_rule(&house.owner, &by_id(&acme), id).await.unwrap();
    let again = house.control.remove_alert_rule(&house.owner, &by_id(&acme), id).await;
    assert!(matches!(again, Err(ControlError::NotFound { .. })));
}

async fn a_keys_quota_is_told_of_as_the_keys(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let new = NewKey { name: "ci".to_owned(), ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().key;
    let own = QuotaChange { key: Some(key.id.0), ..quota("api_calls", limit(10)) };
    house.control.set_quota(&house.owner, &by_id(&acme), own).await.unwrap();
    let window = Period::Month.window(acme.anchor, &acme.timezone, house.clock.now());
    let account = AccountKey { owner: Owner::Key(key.id), resource: resource("api_calls"), window };
    house.flushes(1, Vec::new(), vec![AccountUse { account, units: 9, overage: 0 }]).await;
    let told = house.looks().await;
    assert_eq!(thresholds(&told), [80]);
    assert_eq!(told[0].details["key_id"], key.id.to_string());
    // A key that is revoked is of no interest any more.
    house.flushes(2, Vec::new(), vec![AccountUse { account, units: 1, overage: 0 }]).await;
    house.control.revoke_key(&house.owner, key.id).await.unwrap();
    assert_eq!(thresholds(&house.looks().await), NONE);
}

async fn a_threshold_is_told_through_every_channel_that_wants_it(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    for (name, kinds) in
        [("all", vec![]), ("quotas", vec![AlertKind::Quota]), ("health", vec![AlertKind::Health])]
    {
        let new = NewChannel {
            name: name.to_owned(),
            kind: ChannelKind::Webhook,
            target: "https://example.com/in".to_owned(),
            kinds,
        };
        house.control.create_channel(&house.owner, &by_id(&acme), new).await.unwrap();
    }
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(100))).await.unwrap();
    house.uses(&acme, 1, 80).await;
    assert_eq!(thresholds(&house.looks().await), [80]);
    house.looks().await;
    let sent =
        house.control.deliveries(&house.owner, &by_id(&acme), None, None, &Page::default()).await.unwrap();
    let of_quota =
        house.alerts(&acme).await.into_iter().find(|alert| alert.kind == AlertKind::Quota).unwrap();
    assert_eq!(sent.items.iter().filter(|delivery| delivery.alert == of_quota.id).count(), 2);
}

async fn a_change_of_health_is_told_of_when_it_was_seen_twice(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let fails =
        async |errors| house.requests(&acme, RollupPeriod::Minute, house.clock.now(), 100, errors).await;
    fails(20).await;
    assert_eq!(kinds(&house.looks().await), []);
    assert_eq!(kinds(&house.looks().await), [(AlertKind::Health, Severity::Critical)]);
    assert_eq!(kinds(&house.looks().await), []);
    // Five minutes later the errors are over; a single bad look is no news.
    house.clock.advance(Duration::from_secs(400));
    assert_eq!(kinds(&house.looks().await), []);
    fails(20).await;
    assert_eq!(kinds(&house.looks().await), [], "it is as bad as it was told to be");
    house.clock.advance(Duration::from_secs(400));
    assert_eq!(kinds(&house.looks().await), []);
    let well = house.looks().await;
    assert_eq!(kinds(&well), [(AlertKind::Health, Severity::Info)]);
    assert_eq!(well[0].summary, "The tenant's health is healthy and was critical: all is well.");
    house
        .control
        .set_status(&house.owner, &by_id(&acme), TenantStatus::Suspended, Some("unpaid".to_owned()))
        .await
        .unwrap();
    house.looks().await;
    let suspended = house.looks().await;
    assert_eq!(suspended[0].details["reasons"][0]["kind"], "status");
}

async fn who_is_refused_again_and_again_is_told_of_once_an_hour(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let other = house.tenant("Other").await;
    let new = NewKey {
        name: "admin".to_owned(),
        limits: KeyLimits { scopes: vec!["admin".to_owned()], ..KeyLimits::default() },
        test: false,
    };
    let text = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().text;
    let (rights, actor) = house.control.authenticate(&text).await.unwrap().unwrap();
    let prober = Principal { actor, rights, correlation: Uuid::max() };
    let probe = async || {
        let foreign = house.control.create_key(&prober, &by_id(&other), NewKey::default()).await;
        assert!(matches!(foreign, Err(ControlError::NotFound { .. })));
    };
    for _ in 0..9 {
        probe().await;
    }
    let of_probing =
        |alerts: Vec<Alert>| alerts.into_iter().filter(|it| it.kind == AlertKind::Probing).count();
    assert_eq!(of_probing(house.looks().await), 0);
    probe().await;
    assert_eq!(of_probing(house.looks().await), 1);
    probe().await;
    assert_eq!(of_probing(house.looks().await), 0);
    let told = house.alerts(&acme).await;
    let told = told.iter().find(|alert| alert.kind == AlertKind::Probing).unwrap();
    assert_eq!(
        (told.details["times"].as_u64(), &told.details["actor"]["kind"]),
        (Some(10), &"api_key".into())
    );
    assert!(house.alerts(&other).await.is_empty(), "whom it did not reach is not told who tried");
}

async fn a_key_that_may_administer_is_told_of(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let new = |scopes: &[&str]| NewKey {
        name: "ci".to_owned(),
        limits: KeyLimits {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..KeyLimits::default()
        },
        test: false,
    };
    let plain = house.control.create_key(&house.owner, &by_id(&acme), new(&["orders"])).await.unwrap();
    assert_eq!(kinds(&house.looks().await), []);
    let admin = KeyChange { scopes: Some(vec!["admin".to_owned()]), ..KeyChange::default() };
    house.control.change_key(&house.owner, plain.key.id, admin).await.unwrap();
    house.control.create_key(&house.owner, &by_id(&acme), new(&["admin"])).await.unwrap();
    let told = house.looks().await;
    assert_eq!(kinds(&told), [(AlertKind::Escalation, Severity::Warning); 2]);
    let renamed = KeyChange { name: Some("cd".to_owned()), ..KeyChange::default() };
    house.control.change_key(&house.owner, plain.key.id, renamed).await.unwrap();
    assert_eq!(kinds(&house.looks().await), []);
}

async fn a_member_that_may_do_more_and_a_role_that_lets_do_more_are_told_of(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { tier: Some("enterprise".to_owned()), ..named("Acme") };
    let acme = house.control.create_tenant(&house.owner, new).await.unwrap();
    let summaries = |alerts: Vec<Alert>| alerts.into_iter().map(|alert| alert.summary).collect::<Vec<_>>();
    let ann = house.joined(&acme, "ann@example.com", "viewer").await.user;
    assert_eq!(kinds(&house.looks().await), [], "who comes in to look is no news");
    let becomes = async |role: &str| {
        house.control.change_member(&house.owner, &by_id(&acme), ann, role).await.unwrap();
    };
    becomes("admin").await;
    assert_eq!(summaries(house.looks().await), ["test made ann@example.com admin."]);
    becomes("viewer").await;
    assert_eq!(kinds(&house.looks().await), [], "less is no news either");
    house.joined(&acme, "bob@example.com", "owner").await;
    assert_eq!(summaries(house.looks().await), ["bob@example.com came in as owner."]);

    let sets = async |permissions: &[&str]| {
        let permissions: Vec<_> = permissions.iter().map(|&name| name.to_owned()).collect();
        house.control.set_role(&house.owner, &by_id(&acme), "on-call", &permissions).await.unwrap();
    };
    sets(&["alert.read"]).await;
    assert_eq!(kinds(&house.looks().await), [], "nobody has it yet");
    sets(&["alert.read", "key.create"]).await;
    let told = house.looks().await;
    assert_eq!(kinds(&told), [(AlertKind::Escalation, Severity::Warning)]);
    assert_eq!(told[0].summary, "test let everybody with the role on-call do more: key.create.");
    sets(&["alert.read"]).await;
    assert_eq!(kinds(&house.looks().await), []);
}

async fn a_key_in_a_network_where_it_never_was_is_told_of_once_by_however_many_gateways(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let new = NewKey { name: "ci".to_owned(), ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().key;
    let is_seen = async |address: &str| {
        let network = network_of(address.parse().unwrap());
        let networks = [KeySeen { tenant: acme.id, key: key.id, network }].into();
        let seen = Sightings { networks, ..Sightings::default() };
        house.store.note_sightings(&seen, house.clock.now()).await.unwrap();
    };
    let day = Duration::from_secs(86_400);
    house.clock.advance(day * 7);
    is_seen("192.0.2.1").await;
    is_seen("198.51.100.1").await;
    assert_eq!(kinds(&house.looks().await), [], "where it is at home is learned within a day");
    house.clock.advance(day);
    is_seen("192.0.2.99").await;
    assert_eq!(kinds(&house.looks().await), [], "the network is known");
    is_seen("203.0.113.7").await;
    let other = house.another_control();
    house.clock.advance(Duration::from_secs(60));
    let (one, two) = tokio::join!(house.control.watch(), other.watch());
    let told = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(kinds(&told), [(AlertKind::Network, Severity::Warning)]);
    assert_eq!(told[0].summary, "The key ci is used from 203.0.113.0/24, where it never was.");
    is_seen("203.0.113.8").await;
    house.store.raw("DELETE FROM rounds").await;
    assert_eq!(kinds(&house.another_control().watch().await.unwrap()), []);
    for third in 0..70 {
        is_seen(&format!("100.64.{third}.1")).await;
    }
    assert_eq!(house.looks().await.len(), 64 - 3, "one that is used from everywhere has no new networks");
    // What was not seen for long is forgotten, and where the key is at home is learned anew.
    house.store.forget_sightings(Timestamp::default(), house.clock.now().plus(day)).await.unwrap();
    is_seen("203.0.113.8").await;
    is_seen("100.127.0.1").await;
    assert_eq!(kinds(&house.looks().await), []);
}

async fn many_bad_keys_from_one_network_are_told_to_whose_they_were_and_else_to_the_platform(
    store: TestStore,
) {
    let (house, acme) = of_acme(store).await;
    let network = network_of("192.0.2.1".parse().unwrap());
    let are_tried = async |whose, times| {
        let seen = Sightings { bad_keys: [((whose, network), times)].into(), ..Sightings::default() };
        house.store.note_sightings(&seen, house.clock.now()).await.unwrap();
    };
    let guesses = async || {
        let filter = AuditFilter { action: Some("key.guess".to_owned()), ..AuditFilter::default() };
        let page = Page::default();
        let listed = house.control.platform_audit_logs(&house.owner, &filter, &page).await.unwrap();
        listed.items.into_iter().map(|entry| entry.row.target_id).collect::<Vec<_>>()
    };
    are_tried(Some(acme.id), 99).await;
    are_tried(None, 99).await;
    assert_eq!(kinds(&house.looks().await), []);
    assert_eq!(guesses().await, NOBODY);
    are_tried(Some(acme.id), 1).await;
    are_tried(None, 1).await;
    let other = house.another_control();
    house.clock.advance(Duration::from_secs(60));
    let (one, two) = tokio::join!(house.control.watch(), other.watch());
    let told = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(kinds(&told), [(AlertKind::BadKeys, Severity::Warning)]);
    assert_eq!(
        told[0].summary,
        "Keys that are revoked, expired or turned off were used 100 times within an hour from 192.0.2.0/24."
    );
    house.store.raw("DELETE FROM rounds").await;
    assert_eq!(kinds(&house.another_control().watch().await.unwrap()), []);
    assert_eq!(guesses().await, ["192.0.2.0/24"]);
}

async fn denials_are_a_warning_from_more_than_one_in_a_hundred_on(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let is_denied = async |times| {
        let seen = Sightings { denied: [(acme.id, times)].into(), ..Sightings::default() };
        house.store.note_sightings(&seen, house.clock.now()).await.unwrap();
    };
    house.requests(&acme, RollupPeriod::Minute, house.clock.now(), 990, 0).await;
    is_denied(10).await;
    house.looks().await;
    assert_eq!(kinds(&house.looks().await), []);
    is_denied(1).await;
    let health = house.control.health(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!((health.health, health.denied), (Health::Warning, 11));
    assert_eq!(kinds(&house.looks().await), [], "a single look is no news");
    let told = house.looks().await;
    assert_eq!(kinds(&told), [(AlertKind::Health, Severity::Warning)]);
    assert_eq!(told[0].details["reasons"][0]["kind"], "denials");
}

async fn a_quota_that_is_foreseen_to_run_out_is_a_warning(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    house.clock.set("2026-12-10T00:00:00Z");
    let set = async |units| {
        house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(units))).await.unwrap();
    };
    set(1_000).await;
    let units = |back: u64| {
        let start = house.clock.now().minus(Duration::from_secs(back * 3_600));
        let sums = UsageSums { units: 2, requests: 2, ..UsageSums::default() };
        let (key, route, period) = (None, "orders".to_owned(), RollupPeriod::Hour);
        Rollup { tenant: acme.id, period, start, resource: resource("api_calls"), key, route, sums }
    };
    house.flushes(1, (1..=9 * 24).map(units).collect(), Vec::new()).await;
    // Two an hour until the month ends.
    house.uses(&acme, 1, 432).await;
    house.looks().await;
    let told = house.looks().await;
    let of_health = told.iter().find(|alert| alert.kind == AlertKind::Health).expect("a change of health");
    assert_eq!(of_health.details["reasons"][0]["kind"], "forecast");
    let health = house.control.health(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(health.health, Health::Warning);
    // Of another limit nothing was foreseen.
    set(1_700).await;
    let health = house.control.health(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(health.health, Health::Healthy, "{:?}", health.reasons);
    house.looks().await;
    assert_eq!(kinds(&house.looks().await), [(AlertKind::Health, Severity::Info)]);
}

async fn far_more_requests_than_usual_are_told_of(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let hour = |back: u64| {
        let this = Timestamp::from_seconds(house.clock.now().seconds().div_euclid(3_600) * 3_600);
        this.minus(Duration::from_secs(back * 3_600))
    };
    for back in 1..=48 {
        // A hundred in five minutes.
        house.requests(&acme, RollupPeriod::Hour, hour(back), 1_200, 0).await;
    }
    house.requests(&acme, RollupPeriod::Minute, house.clock.now(), 999, 0).await;
    assert_eq!(kinds(&house.looks().await), []);
    house.requests(&acme, RollupPeriod::Minute, house.clock.now(), 1, 0).await;
    let told = house.looks().await;
    assert_eq!(kinds(&told), [(AlertKind::Surge, Severity::Warning)]);
    assert_eq!(told[0].summary, "1000 requests within five minutes; 100 are usual.");
    assert_eq!(kinds(&house.looks().await), []);
}

async fn a_broken_audit_log_is_told_of(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let of_chains = |alerts: Vec<Alert>| {
        let of_chains = alerts.into_iter().filter(|alert| alert.kind == AlertKind::AuditChain);
        of_chains.map(|alert| alert.details["audit_seq"].as_i64()).collect::<Vec<_>>()
    };
    assert_eq!(of_chains(house.looks().await), []);
    if house.store.is_postgres() {
        house.store.raw("ALTER TABLE tenant_audit_logs DISABLE TRIGGER USER").await;
    } else {
        house.store.raw("DROP TRIGGER tenant_audit_logs_are_not_updated").await;
    }
    house
        .store
        .raw("UPDATE tenant_audit_logs SET actor_name = 'nobody' WHERE action = 'tenant.create'")
        .await;
    assert_eq!(of_chains(house.looks().await), [], "not before the next day");
    house.clock.advance(Duration::from_secs(86_400));
    assert_eq!(of_chains(house.looks().await), [Some(1)]);
    assert_eq!(house.alerts(&acme).await[0].severity, Severity::Critical);
}

async fn a_clock_that_was_wrong_for_a_while_does_not_end_the_watch(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(100))).await.unwrap();
    house.clock.set("2036-11-23T06:00:00Z");
    house.control.watch().await.unwrap();
    house.clock.set("2026-11-23T07:00:00Z");
    house.uses(&acme, 1, 80).await;
    assert_eq!(thresholds(&house.looks().await), [80]);
}

async fn an_alert_is_acknowledged_by_the_first_who_does(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(100))).await.unwrap();
    house.uses(&acme, 1, 80).await;
    let told = house.looks().await;
    let seen = house.control.acknowledge_alert(&house.owner, &by_id(&acme), told[0].id).await.unwrap();
    assert_eq!(
        (seen.acknowledged_at, seen.acknowledged_by.as_deref()),
        (Some(house.clock.now()), Some("test"))
    );
    house.clock.advance(Duration::from_secs(60));
    let again = house.control.acknowledge_alert(&house.owner, &by_id(&acme), told[0].id).await.unwrap();
    assert_eq!(again, seen);
    let unseen = AlertFilter { acknowledged: Some(false), ..AlertFilter::default() };
    let unseen = house.control.alerts(&house.owner, &by_id(&acme), &unseen, &Page::default()).await.unwrap();
    assert!(unseen.items.iter().all(|alert| alert.id != seen.id));
}
