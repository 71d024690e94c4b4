//! The exporter, from what gateways brought to what Stripe and Lago have, by a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Exporter, ExporterSettings};
use crate::clock::{Clock, TestClock, Timestamp};
use crate::collector::testing::{Collectors, Mood, SECRET};
use crate::collector::{Collector, CollectorSettings};
use crate::control::{Control, ControlError, NewSetting, NewTenant, Principal, TenantRef};
use crate::domain::billing::{
    BillingEvent, BillingEventState, CollectorKind, Invoice, InvoiceStatus, Settled,
};
use crate::domain::{Actor, AuditRow, Tenant, TenantId};
use crate::secret::hash::Pepper;
use crate::store::testing::{TestStore, on_both};
use crate::store::usage_testing::{batch, resource};
use crate::store::{AuditFilter, Page, Rollup, RollupPeriod, UsageSums};
use crate::telemetry::readiness::Readiness;

on_both! {
    every_hour_arrives_once_though_stripe_fails_for_two_days_and_forgets_identifiers,
    what_comes_late_for_an_hour_is_the_difference_and_arrives_once,
    two_exporters_take_and_send_every_hour_once,
    what_a_killed_exporter_had_sent_is_known_by_its_identifier_and_after_a_day_by_the_meter,
    what_is_in_doubt_and_can_not_be_told_is_left_to_people,
    what_is_refused_is_a_dead_letter_and_the_others_go_on,
    a_collector_that_answers_nobody_is_left_alone_for_as_long_as_it_wants,
    a_batch_that_lago_refuses_for_what_it_knows_arrives_once_all_the_same,
    what_is_too_old_for_stripe_is_a_dead_letter,
    an_invoice_is_exported_once_all_of_its_period_is_there,
    what_was_given_up_is_settled_by_people_for_a_reason_and_no_invoice_waits_for_it,
    who_is_called_nothing_is_not_billed_and_a_child_is_billed_to_its_reseller,
    only_the_platform_says_what_a_tenant_is_called_and_no_two_are_called_the_same,
}

const HOUR: Duration = Duration::from_secs(3_600);

struct House {
    store: TestStore,
    control: Control,
    clock: TestClock,
    owner: Principal,
    collectors: Collectors,
    batches: AtomicU32,
}

impl House {
    fn on(store: TestStore) -> House {
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let pepper = Pepper::new(1, &[7; 32]);
        let control =
            Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), Arc::new(Notify::new()));
        let owner = Principal::platform(Actor::system("test"), Uuid::max());
        let time = clock.clone();
        let collectors = Collectors::start(move || time.now().seconds());
        House { store, control, clock, owner, collectors, batches: AtomicU32::new(0) }
    }

    fn exporter(&self, kind: CollectorKind) -> Exporter {
        let settings = CollectorSettings {
            kind,
            url: self.collectors.url(),
            secret: SECRET.to_owned(),
            meters: BTreeMap::from([(resource("api_calls"), "calls".to_owned())]),
            timeout: Duration::from_secs(5),
            ca: None,
        };
        let collector = Arc::new(Collector::new(settings).unwrap());
        let (store, clock) = ((*self.store).clone(), Arc::new(self.clock.clone()));
        let settings = ExporterSettings { interval: Duration::from_secs(1), delay: Duration::from_secs(300) };
        Exporter::new(store, clock, collector, settings, &Registry::new(), Readiness::default())
    }

    /// One that has looked once, so that hours from now on are taken.
    async fn begun(&self, kind: CollectorKind) -> Exporter {
        let exporter = self.exporter(kind);
        exporter.take_hours().await.unwrap();
        exporter
    }

    async fn tenant(&self, name: &str) -> Tenant {
        let new = NewTenant { name: name.to_owned(), ..NewTenant::default() };
        self.control.create_tenant(&self.owner, new).await.unwrap()
    }

    async fn call(&self, who: &Principal, tenant: TenantId, account: &str) -> Result<(), ControlError> {
        let new = NewSetting { value: account.into(), is_encrypted: None };
        let named = TenantRef::Id(tenant);
        self.control.set_setting(who, &named, "billing_account", new).await.map(drop)
    }

    async fn customer(&self, name: &str) -> Tenant {
        let tenant = self.tenant(name).await;
        self.call(&self.owner, tenant.id, &format!("cus_{name}")).await.unwrap();
        tenant
    }

    /// What a gateway brings now of an hour.
    async fn uses(&self, tenant: TenantId, units: u64, hour: Timestamp) {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let mut brought = batch(number, number + 1, Vec::new());
        brought.id = Uuid::from_u128(u128::from(number) + 10_000);
        brought.at = self.clock.now();
        brought.rollups = vec![Rollup {
            tenant,
            period: RollupPeriod::Hour,
            start: hour,
            resource: resource("api_calls"),
            key: None,
            route: format!("r{}", number % 2),
            sums: UsageSums { units, requests: 1, ..UsageSums::default() },
        }];
        self.store.insert_usage(&brought).await.unwrap();
    }

    async fn events(&self, state: Option<BillingEventState>) -> Vec<BillingEvent> {
        let page = Page::new(Some(1_000), None, None).unwrap();
        self.control.billing_events(&self.owner, None, state, &page).await.unwrap().items
    }

    fn taken(&self) -> Vec<(String, u64)> {
        let taken = self.collectors.taken();
        taken.into_iter().map(|taken| (taken.account, taken.units)).collect()
    }
}

/// All that is due now, once.
async fn send(exporter: &Exporter) -> usize {
    let mut sent = 0;
    loop {
        let batches = exporter.take(super::AT_ONCE).await;
        if batches.is_empty() {
            return sent;
        }
        for batch in batches {
            sent += batch.len();
            exporter.send(batch).await;
        }
    }
}

async fn look_and_send(exporter: &Exporter) -> usize {
    exporter.take_hours().await.unwrap();
    send(exporter).await
}

fn reason(event: &BillingEvent) -> &str {
    event.last_error.as_deref().unwrap_or_default()
}

async fn every_hour_arrives_once_though_stripe_fails_for_two_days_and_forgets_identifiers(store: TestStore) {
    const MOODS: [Mood; 5] = [
        Mood::FailsAfterTaking,
        Mood::HangsUpAfterTaking,
        Mood::Down,
        Mood::Busy(60),
        Mood::FailsAfterTaking,
    ];
    let house = House::on(store);
    let tenants = [house.customer("acme").await, house.customer("beta").await];
    let exporter = house.begun(CollectorKind::Stripe).await;
    let began = house.clock.now();
    let mut used = BTreeMap::<(String, i64), u64>::new();
    for step in 0..160_u32 {
        let hour = super::hour_of(house.clock.now());
        let (number, is_late) = (u64::from(step), step % 23 == 22);
        // Now and then a gateway comes back with what it had kept.
        let hour = if is_late { hour.minus(HOUR * 9) } else { hour };
        let tenant = &tenants[step as usize % 2];
        house.uses(tenant.id, number + 1, hour).await;
        *used.entry((format!("cus_{}", tenant.name), hour.seconds())).or_default() += number + 1;
        // It fails for two days, each half hour in its own way.
        let is_failing = (20..116).contains(&step);
        house.collectors.fares(if is_failing { MOODS[step as usize % MOODS.len()] } else { Mood::Well });
        look_and_send(&exporter).await;
        house.clock.advance(HOUR / 2);
    }
    house.collectors.fares(Mood::Well);
    let arrived = || house.collectors.sums();
    for _ in 0..48 {
        house.clock.advance(HOUR / 2);
        look_and_send(&exporter).await;
    }
    assert_eq!(house.events(Some(BillingEventState::Pending)).await, []);
    assert_eq!(house.events(Some(BillingEventState::Dead)).await, []);
    assert_eq!(arrived(), used);
    let events = house.events(None).await;
    assert!(events.iter().any(|event| event.revision > 0), "something came late");
    let asked = house.collectors.asked();
    assert!(asked.iter().any(|line| line.contains("event_summaries")), "after a day it is asked first");
    assert!(house.clock.now().since(began) > HOUR * 100);
}

async fn what_comes_late_for_an_hour_is_the_difference_and_arrives_once(store: TestStore) {
    let house = House::on(store);
    let acme = house.customer("acme").await;
    let exporter = house.begun(CollectorKind::Stripe).await;
    let six = house.clock.now();
    house.uses(acme.id, 10, six).await;
    house.clock.advance(HOUR + Duration::from_secs(299));
    assert_eq!(look_and_send(&exporter).await, 0, "gateways may hold some of it");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(look_and_send(&exporter).await, 1);
    house.clock.advance(HOUR * 30);
    assert_eq!(look_and_send(&exporter).await, 0);
    house.uses(acme.id, 3, six).await;
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(look_and_send(&exporter).await, 1);
    for _ in 0..3 {
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(look_and_send(&exporter).await, 0);
    }
    assert_eq!(house.taken(), [("cus_acme".to_owned(), 10), ("cus_acme".to_owned(), 3)]);
    let ids: Vec<_> = house.collectors.taken().into_iter().map(|taken| taken.identifier).collect();
    let identifier = |revision| format!("tg:{}:api_calls:{}:{revision}", acme.id, six.seconds());
    assert_eq!(ids, [identifier(0), identifier(1)]);
    assert!(house.collectors.taken().iter().all(|taken| taken.at == six.seconds()));
}

async fn two_exporters_take_and_send_every_hour_once(store: TestStore) {
    let house = House::on(store);
    let tenants = [house.customer("a").await, house.customer("b").await, house.customer("c").await];
    let one = house.begun(CollectorKind::Stripe).await;
    let other = house.exporter(CollectorKind::Stripe);
    let mut used = BTreeMap::new();
    for step in 1..=6_u64 {
        let hour = super::hour_of(house.clock.now());
        for tenant in &tenants {
            house.uses(tenant.id, step, hour).await;
            used.insert((format!("cus_{}", tenant.name), hour.seconds()), step);
        }
        house.clock.advance(HOUR);
        // Both take the hour, whoever's round it is.
        let progress = house.store.begin_export(CollectorKind::Stripe, house.clock.now()).await.unwrap();
        let (first, end) = one.hours(progress, house.clock.now().plus(HOUR)).await.unwrap();
        assert!(first < end);
        let hour = end.minus(HOUR);
        let taken = tokio::join!(one.take_hour(hour), other.take_hour(hour));
        taken.0.unwrap();
        taken.1.unwrap();
        tokio::join!(send(&one), send(&other));
    }
    assert_eq!(house.collectors.sums(), used);
    assert_eq!(house.collectors.taken().len(), 18, "none was even sent twice");
}

async fn what_a_killed_exporter_had_sent_is_known_by_its_identifier_and_after_a_day_by_the_meter(
    store: TestStore,
) {
    let house = House::on(store);
    let acme = house.customer("acme").await;
    for (units, away) in [(10, HOUR), (11, HOUR * 47)] {
        let exporter = house.begun(CollectorKind::Stripe).await;
        house.uses(acme.id, units, super::hour_of(house.clock.now())).await;
        house.clock.advance(HOUR * 2);
        exporter.take_hours().await.unwrap();
        let batches = exporter.take(super::AT_ONCE).await;
        assert_eq!(batches.len(), 1);
        exporter.collector.send(&batches[0]).await;
        // Killed here: what became of it was never written down.
        drop(exporter);
        house.clock.advance(away);
        let another = house.exporter(CollectorKind::Stripe);
        assert_eq!(look_and_send(&another).await, 1);
    }
    assert_eq!(house.taken(), [("cus_acme".to_owned(), 10), ("cus_acme".to_owned(), 11)]);
    let events = house.events(None).await;
    assert!(events.iter().all(|event| event.state == BillingEventState::Delivered), "{events:?}");
    // One that had not even been sent is: the meter has not counted it.
    let exporter = house.begun(CollectorKind::Stripe).await;
    house.uses(acme.id, 12, super::hour_of(house.clock.now())).await;
    house.clock.advance(HOUR * 2);
    exporter.take_hours().await.unwrap();
    assert_eq!(exporter.take(super::AT_ONCE).await.len(), 1);
    house.clock.advance(HOUR * 47);
    send(&house.exporter(CollectorKind::Stripe)).await;
    assert_eq!(house.taken().last(), Some(&("cus_acme".to_owned(), 12)));
}

async fn what_is_in_doubt_and_can_not_be_told_is_left_to_people(store: TestStore) {
    let house = House::on(store);
    let acme = house.customer("acme").await;
    let exporter = house.begun(CollectorKind::Stripe).await;
    let hour = super::hour_of(house.clock.now());
    house.uses(acme.id, 10, hour).await;
    house.clock.advance(HOUR * 2);
    exporter.take_hours().await.unwrap();
    let batches = exporter.take(super::AT_ONCE).await;
    // Somebody else counts on the same meter.
    let mut others = batches[0][0].clone();
    (others.revision, others.units) = (99, crate::domain::Units::new(4).unwrap());
    exporter.collector.send(&[others]).await;
    house.clock.advance(HOUR * 47);
    look_and_send(&exporter).await;
    let dead = house.events(Some(BillingEventState::Dead)).await;
    assert_eq!(dead.len(), 1);
    let expected = "nobody knows whether it arrived: of that hour Stripe's meter has counted 4, 0 are known to have \
                    arrived, and 10 if all that is in doubt had";
    assert_eq!(reason(&dead[0]), expected);
}

async fn what_is_refused_is_a_dead_letter_and_the_others_go_on(store: TestStore) {
    let house = House::on(store);
    let (acme, beta) = (house.customer("acme").await, house.customer("beta").await);
    house.collectors.knows("cus_acme", false);
    let exporter = house.begun(CollectorKind::Stripe).await;
    for tenant in [&acme, &beta] {
        house.uses(tenant.id, 5, super::hour_of(house.clock.now())).await;
    }
    house.clock.advance(HOUR * 2);
    assert_eq!(look_and_send(&exporter).await, 2);
    assert_eq!(house.taken(), [("cus_beta".to_owned(), 5)]);
    let dead = house.events(Some(BillingEventState::Dead)).await;
    assert_eq!(dead.iter().map(reason).collect::<Vec<_>>(), ["400: No such customer: 'cus_acme'"]);
    exporter.measure().await;
    let report = exporter.readiness.report();
    let told = report.checks.iter().find(|check| check.name == "billing").unwrap();
    assert!(told.detail.as_deref().is_some_and(|detail| detail.contains("1 events")), "{told:?}");
    // The cause is mended, and it is sent again.
    house.call(&house.owner, acme.id, "cus_acme_2").await.unwrap();
    house.control.resend_billing_event(&house.owner, dead[0].id).await.unwrap();
    let again = house.control.resend_billing_event(&house.owner, dead[0].id).await;
    assert!(matches!(again, Err(ControlError::Conflict(_))), "{again:?}");
    assert_eq!(look_and_send(&exporter).await, 1);
    assert_eq!(house.taken().last(), Some(&("cus_acme_2".to_owned(), 5)));
    exporter.measure().await;
    assert!(exporter.readiness.report().checks.iter().all(|check| check.detail.is_none()));
}

async fn a_collector_that_answers_nobody_is_left_alone_for_as_long_as_it_wants(store: TestStore) {
    let house = House::on(store);
    let exporter = house.begun(CollectorKind::Stripe).await;
    for number in 0..5 {
        let tenant = house.customer(&format!("t{number}")).await;
        house.uses(tenant.id, 1, super::hour_of(house.clock.now())).await;
    }
    house.clock.advance(HOUR * 2);
    house.collectors.fares(Mood::Busy(900));
    exporter.take_hours().await.unwrap();
    let batches = exporter.take(1).await;
    exporter.send(batches[0].clone()).await;
    house.collectors.fares(Mood::Well);
    for _ in 0..14 {
        house.clock.advance(Duration::from_secs(60));
        assert_eq!(send(&exporter).await, 0, "it wants to be left alone for a quarter of an hour");
    }
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(exporter.take(super::AT_ONCE).await.len(), 1, "one question tells whether it is back");
    house.clock.advance(HOUR);
    while send(&exporter).await > 0 {
        house.clock.advance(HOUR);
    }
    assert_eq!(house.taken().len(), 5);
}

async fn a_batch_that_lago_refuses_for_what_it_knows_arrives_once_all_the_same(store: TestStore) {
    let house = House::on(store);
    let exporter = house.begun(CollectorKind::Lago).await;
    let mut used = BTreeMap::new();
    for number in 0..7_u64 {
        let tenant = house.customer(&format!("t{number}")).await;
        let hour = super::hour_of(house.clock.now());
        house.uses(tenant.id, number + 1, hour).await;
        if number != 5 {
            used.insert((format!("cus_t{number}"), hour.seconds()), number + 1);
        }
    }
    house.collectors.knows("cus_t5", false);
    house.clock.advance(HOUR * 2);
    exporter.take_hours().await.unwrap();
    let batches = exporter.take(super::AT_ONCE).await;
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [7]);
    // Two of them arrive, and the exporter is killed before it can write that down.
    exporter.collector.send(&batches[0][2..4]).await;
    house.clock.advance(HOUR * 50);
    look_and_send(&exporter).await;
    assert_eq!(house.collectors.sums(), used);
    let dead = house.events(Some(BillingEventState::Dead)).await;
    assert_eq!(dead.iter().map(|event| event.account.as_str()).collect::<Vec<_>>(), ["cus_t5"]);
    assert_eq!(house.events(Some(BillingEventState::Delivered)).await.len(), 6);
}

async fn what_is_too_old_for_stripe_is_a_dead_letter(store: TestStore) {
    let house = House::on(store);
    let acme = house.customer("acme").await;
    let exporter = house.begun(CollectorKind::Stripe).await;
    let hour = super::hour_of(house.clock.now());
    house.clock.advance(HOUR * 24 * 36);
    house.uses(acme.id, 5, hour).await;
    look_and_send(&exporter).await;
    let dead = house.events(Some(BillingEventState::Dead)).await;
    assert_eq!(
        dead.iter().map(reason).collect::<Vec<_>>(),
        ["Stripe takes nothing that is older than 35 days"]
    );
    assert_eq!(house.taken(), []);
}

async fn who_is_called_nothing_is_not_billed_and_a_child_is_billed_to_its_reseller(store: TestStore) {
    let house = House::on(store);
    let reseller = NewTenant { tier: Some("msp".to_owned()), name: "msp".to_owned(), ..NewTenant::default() };
    let reseller = house.control.create_tenant(&house.owner, reseller).await.unwrap();
    let child = |name: &str| NewTenant {
        name: name.to_owned(),
        parent: Some(reseller.slug.to_string()),
        ..NewTenant::default()
    };
    let child = house.control.create_tenant(&house.owner, child("child")).await.unwrap();
    let nobody = house.tenant("nobody").await;
    let unbilled = || async {
        let listed = house.control.unbilled_tenants(&house.owner, &Page::default()).await.unwrap();
        listed.items.into_iter().map(|tenant| tenant.slug.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(unbilled().await, ["nobody", "child", "msp"]);
    let exporter = house.begun(CollectorKind::Stripe).await;
    house.call(&house.owner, reseller.id, "cus_msp").await.unwrap();
    assert_eq!(unbilled().await, ["nobody"]);
    let hour = super::hour_of(house.clock.now());
    house.uses(child.id, 5, hour).await;
    house.uses(nobody.id, 7, hour).await;
    house.clock.advance(HOUR * 2);
    assert_eq!(look_and_send(&exporter).await, 1);
    assert_eq!(house.taken(), [("cus_msp".to_owned(), 5)]);
    // What was used before somebody was called anything is not billed.
    house.call(&house.owner, nobody.id, "cus_late").await.unwrap();
    house.uses(nobody.id, 1, hour).await;
    house.clock.advance(HOUR);
    assert_eq!(look_and_send(&exporter).await, 0);
}

async fn only_the_platform_says_what_a_tenant_is_called_and_no_two_are_called_the_same(store: TestStore) {
    let house = House::on(store);
    let (acme, beta) = (house.customer("acme").await, house.tenant("beta").await);
    let taken = house.call(&house.owner, beta.id, "cus_acme").await;
    assert!(matches!(taken, Err(ControlError::Invalid(_))), "{taken:?}");
    house.call(&house.owner, acme.id, "cus_acme").await.unwrap();
    let rights = crate::control::Rights::in_tenant(
        beta.id,
        crate::control::Permissions::of(crate::domain::Role::Owner),
    );
    let their_owner = Principal { rights, ..house.owner.clone() };
    let refused = house.call(&their_owner, beta.id, "cus_mine").await;
    assert!(matches!(refused, Err(ControlError::Forbidden { .. })), "{refused:?}");
    let listed = house.control.billing_events(&their_owner, None, None, &Page::default()).await;
    assert!(matches!(listed, Err(ControlError::Forbidden { .. })), "{listed:?}");
}

impl House {
    /// What is due is billed, at the next round.
    async fn kept(&self) -> (u64, u64) {
        self.clock.advance(Duration::from_secs(600));
        let kept = self.control.keep_billing().await.unwrap();
        (kept.finalized, kept.exported)
    }

    async fn invoice(&self, tenant: &Tenant) -> Invoice {
        let named = TenantRef::Id(tenant.id);
        self.control.invoices(&self.owner, &named, None, &Page::default()).await.unwrap().items.remove(0)
    }

    /// What was done to the tenant, newest first.
    async fn audit(&self, tenant: &Tenant) -> Vec<AuditRow> {
        let (named, filter) = (TenantRef::Id(tenant.id), AuditFilter::default());
        let logs = self.control.audit_logs(&self.owner, &named, &filter, &Page::default()).await.unwrap();
        logs.items.into_iter().map(|entry| entry.row).collect()
    }

    async fn in_state(&self, tenant: &Tenant, state: InvoiceStatus) -> usize {
        let named = TenantRef::Id(tenant.id);
        self.control.invoices(&self.owner, &named, Some(state), &Page::default()).await.unwrap().items.len()
    }
}

async fn an_invoice_is_exported_once_all_of_its_period_is_there(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.customer("acme").await, house.tenant("other").await);
    let exporter = house.begun(CollectorKind::Stripe).await;
    let last = Timestamp::parse("2026-12-22T23:00:00Z").unwrap();
    house.clock.set("2026-12-23T00:10:00Z");
    for tenant in [&acme, &other] {
        house.uses(tenant.id, 10, last).await;
    }
    house.clock.set("2026-12-23T01:00:00Z");
    assert_eq!(house.kept().await, (2, 0), "nobody has looked since the period was over");
    exporter.take_hours().await.unwrap();
    assert_eq!(house.kept().await, (0, 0), "it is on its way");
    house.collectors.fares(Mood::Down);
    assert_eq!(send(&exporter).await, 1);
    assert_eq!(house.kept().await, (0, 0), "it is not there");
    house.collectors.fares(Mood::Well);
    assert_eq!(send(&exporter).await, 1);
    assert_eq!((house.kept().await, house.kept().await), ((0, 1), (0, 0)));
    let exported = house.invoice(&acme).await;
    assert_eq!(exported.status, InvoiceStatus::Exported);
    assert_eq!(exported.exported.map(|exported| exported.collector), Some(CollectorKind::Stripe));
    assert_eq!(
        (
            house.in_state(&acme, InvoiceStatus::Exported).await,
            house.in_state(&acme, InvoiceStatus::Finalized).await
        ),
        (1, 0)
    );
    assert_eq!(house.invoice(&other).await.status, InvoiceStatus::Finalized, "it is called nothing there");
    let row = house.audit(&acme).await.remove(0);
    assert_eq!(
        (row.action.as_str(), row.after.unwrap()["collector"].as_str()),
        ("invoice.export", Some("stripe"))
    );

    // What comes late is on its way, and a correction of the next.
    house.uses(acme.id, 3, last).await;
    exporter.take_hours().await.unwrap();
    assert_eq!(house.kept().await, (0, 0));
    let named = TenantRef::Id(acme.id);
    let paid = house.control.pay_invoice(&house.owner, &named, exported.id).await.unwrap();
    assert_eq!((paid.status, paid.exported), (InvoiceStatus::Paid, exported.exported), "it stays known");
    let other = house.invoice(&other).await;
    let named = TenantRef::Id(other.bill.tenant);
    house.control.void_invoice(&house.owner, &named, other.id, Some("a mistake")).await.unwrap();
}

async fn what_was_given_up_is_settled_by_people_for_a_reason_and_no_invoice_waits_for_it(store: TestStore) {
    let house = House::on(store);
    let acme = house.customer("acme").await;
    let exporter = house.begun(CollectorKind::Stripe).await;
    house.clock.set("2026-12-23T00:10:00Z");
    for hour in ["2026-12-22T20:00:00Z", "2026-12-22T21:00:00Z"] {
        house.uses(acme.id, 10, Timestamp::parse(hour).unwrap()).await;
    }
    house.clock.set("2026-12-23T01:00:00Z");
    house.collectors.knows("cus_acme", false);
    look_and_send(&exporter).await;
    let dead = house.events(Some(BillingEventState::Dead)).await;
    assert_eq!((dead.len(), house.kept().await), (2, (1, 0)));
    let settle = async |event: &BillingEvent, settled, reason| {
        house.control.settle_billing_event(&house.owner, event.id, settled, reason).await
    };
    let without = settle(&dead[0], Settled::Abandoned, Some(" ")).await;
    assert!(matches!(without, Err(ControlError::Invalid(_))), "{without:?}");
    let settled = settle(&dead[0], Settled::Abandoned, Some("a test")).await.unwrap();
    assert_eq!(
        (settled.state, settled.settled_reason.as_deref()),
        (BillingEventState::Abandoned, Some("a test"))
    );
    assert_eq!(house.kept().await, (0, 0), "one more");
    settle(&dead[1], Settled::Delivered, Some("by hand")).await.unwrap();
    let again = settle(&dead[1], Settled::Abandoned, Some("no")).await;
    assert!(matches!(again, Err(ControlError::Conflict(_))), "{again:?}");
    assert_eq!(house.events(Some(BillingEventState::Delivered)).await[0].id, dead[1].id);
    assert_eq!(house.kept().await, (0, 1));
    house.collectors.knows("cus_acme", true);
    house.clock.advance(HOUR);
    assert_eq!(look_and_send(&exporter).await, 0, "nothing is taken or sent again");
    let depth = house.store.billing_depth(CollectorKind::Stripe).await.unwrap();
    assert_eq!((depth.pending, depth.dead), (0, 0));
    let settled = house.audit(&acme).await.into_iter().filter(|row| row.action == "billing_event.settle");
    let reasons: Vec<_> = settled.map(|row| row.reason).collect();
    assert_eq!(reasons, [Some("by hand".to_owned()), Some("a test".to_owned())]);
}
