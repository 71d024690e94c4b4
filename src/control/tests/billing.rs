//! Subscriptions and invoices, through the door.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{House, by_id, fields, limit, named, of_tenant, quota, resource};
use crate::clock::{Clock, Timestamp};
use crate::control::{CapInForce, ControlError, NewSpendCap, NewTenant, QuotaChange, TenantChange, TierWhen};
use crate::domain::billing::{AtCap, ChargeBy, Invoice, InvoiceStatus, Item, UnitPrice};
use crate::domain::{
    AccountKey, AlertKind, Enforcement, Limit, LossPolicy, Owner, Period, Role, Tenant, TenantStatus,
};
use crate::store::testing::{TestStore, on_both};
use crate::store::usage_testing::batch;
use crate::store::{AccountUse, Page};

on_both! {
    an_upgrade_is_at_once_and_costs_the_rest_of_the_period,
    a_downgrade_waits_for_the_periods_end_and_can_be_withdrawn,
    a_change_is_of_the_preview_that_was_seen_or_refused,
    an_invoice_is_what_the_ledger_says_to_the_unit_and_is_finalized_once,
    what_comes_late_is_corrected_in_the_next_invoice_and_charged_once,
    a_finalized_invoice_can_not_be_changed_by_anybody,
    an_invoice_that_is_void_is_drawn_up_again_and_one_that_was_paid_stays,
    a_tenant_from_before_is_billed_from_its_present_month_on,
    whoever_is_not_charged_gets_no_invoice,
    a_gauge_is_charged_by_what_was_held_to_the_microsecond,
    a_gauge_is_charged_by_each_tier_for_its_own_time,
    an_invoice_stays_made_out_to_a_tenant_that_is_erased,
    a_spend_cap_is_told_of_at_80_and_100_percent_once_per_period,
    a_cap_that_stops_limits_each_resource_to_what_it_pays_for,
    whatever_moves_what_a_cap_leaves_moves_it_at_once_and_a_new_period_frees,
    a_cap_is_divided_among_what_is_sold_and_gauges_are_held_within_their_share,
    a_month_that_began_anew_with_another_zone_is_billed_and_capped_with_the_one_before,
    whoever_may_read_invoices_may_not_finalize_them,
    what_a_child_costs_is_told_to_its_reseller_and_not_to_the_child,
}

const DAY: Duration = Duration::from_secs(86_400);

impl House {
    async fn subscriber(&self, tier: &str) -> Tenant {
        let new = NewTenant { tier: Some(tier.to_owned()), ..named("Acme") };
        self.control.create_tenant(&self.owner, new).await.unwrap()
    }

    async fn retier(&self, tenant: &Tenant, tier: &str, when: Option<TierWhen>) -> Tenant {
        let change = TenantChange { tier: Some(tier.to_owned()), tier_when: when, ..TenantChange::default() };
        self.control.change_tenant(&self.owner, &by_id(tenant), change).await.unwrap()
    }

    /// A version of the tier that sells calls above its limit.
    async fn sell_overage(&self, tier: &str, price: &str) {
        self.sell(tier, "api_calls", price, None).await;
    }

    async fn sell(&self, tier: &str, sold: &str, price: &str, charge_by: Option<ChargeBy>) {
        let tiers = self.control.tiers(&self.owner).await.unwrap();
        let mut tier = tiers.into_iter().find(|known| known.slug == tier).unwrap();
        for quota in &mut tier.quotas {
            if quota.resource == resource(sold) {
                quota.enforcement = Enforcement::Soft;
                quota.overage = Some(price.parse::<UnitPrice>().unwrap());
                quota.charge_by = charge_by;
            }
        }
        self.control.set_tier(&self.owner, tier).await.unwrap();
    }

    /// What was reported to be held from now on, or given back.
    async fn hold(&self, tenant: &Tenant, gauge: &str, amount: i64) {
        let now = self.clock.now();
        let window = Period::Forever.window(tenant.anchor, &tenant.timezone, now);
        let account = AccountKey { owner: Owner::Tenant(tenant.id), resource: resource(gauge), window };
        let mut tx = self.store.begin().await.unwrap();
        tx.add_held_units(&account, amount, now).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// What a gateway's journal brings of the month that holds `at`.
    async fn use_calls(&self, tenant: &Tenant, number: u32, units: u64, at: Timestamp) {
        let window = Period::Month.window(tenant.anchor, &tenant.timezone, at);
        let owner = Owner::Tenant(tenant.id);
        let account = AccountKey { owner, resource: resource("api_calls"), window };
        let mut brought = batch(number, number + 1, Vec::new());
        brought.id = Uuid::from_u128(u128::from(number) + 10_000);
        brought.accounts = vec![AccountUse { account, units, overage: 0 }];
        self.store.insert_usage(&brought).await.unwrap();
    }

    async fn finalize(&self, tenant: &Tenant) -> Result<Invoice, ControlError> {
        self.control.finalize_invoice(&self.owner, &by_id(tenant)).await
    }

    async fn agrees(&self, tenant: &Tenant, invoice: &Invoice) -> bool {
        let verified = self.control.verify_invoice(&self.owner, &by_id(tenant), invoice.id).await.unwrap();
        verified.agrees
    }

    async fn invoices(&self, tenant: &Tenant) -> Vec<Invoice> {
        self.control.invoices(&self.owner, &by_id(tenant), None, &Page::default()).await.unwrap().items
    }
}

fn amounts(invoice: &Invoice) -> Vec<i64> {
    invoice.bill.lines.iter().map(|line| line.amount_minor).filter(|minor| *minor != 0).collect()
}

async fn an_upgrade_is_at_once_and_costs_the_rest_of_the_period(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.clock.advance(DAY * 10);
    let preview = house.control.tier_change_preview(&house.owner, &by_id(&acme), "business").await.unwrap();
    // 20 of 30 days of 799.00 and 10 of 299.00, each rounded, less 299.00.
    assert_eq!((preview.when, preview.prorated_minor), (TierWhen::Now, 33_334));
    assert_eq!((preview.price_now_minor, preview.price_then_minor), (29_900, 79_900));
    assert_eq!((preview.effective_at, preview.version), (house.clock.now(), acme.version));
    let calls = preview.changes.iter().find(|change| change.resource_type == resource("api_calls")).unwrap();
    assert_eq!((calls.limit_now, calls.limit_then), (Some(limit(10_000)), Some(limit(100_000))));
    let before = house.control.running_invoice(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(before.total_minor, 29_900);
    assert_eq!(house.retier(&acme, "business", None).await.tier, "business");
    let after = house.control.running_invoice(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(after.total_minor - before.total_minor, preview.prorated_minor);
}

async fn a_downgrade_waits_for_the_periods_end_and_can_be_withdrawn(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("business").await;
    let period_end = Timestamp::parse("2026-12-23T00:00:00Z").unwrap();
    let still = house.retier(&acme, "pro", None).await;
    assert_eq!((still.tier.as_str(), still.version), ("business", acme.version + 1));
    let subscription = || async { house.control.subscription(&house.owner, &by_id(&acme)).await.unwrap() };
    let scheduled = subscription().await.scheduled.unwrap();
    assert_eq!((scheduled.tier.as_str(), scheduled.effective_at), ("pro", period_end));
    assert_eq!(house.audit(&acme).await[0].row.after.as_ref().unwrap()["scheduled_tier"]["tier"], "pro");

    house.retier(&acme, "business", None).await;
    assert_eq!(subscription().await.scheduled, None);
    house.retier(&acme, "free", Some(TierWhen::PeriodEnd)).await;
    let kept = house.control.keep_billing().await.unwrap();
    assert_eq!((kept.changed, kept.finalized), (0, 0));
    house.clock.advance(DAY * 30);
    assert_eq!(house.control.keep_billing().await.unwrap().changed, 1);
    assert_eq!(house.control.keep_billing().await.unwrap().changed, 0);
    let free = house.control.tenant(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(free.tier, "free");
    let segments = subscription().await.segments;
    assert_eq!(segments.last().map(|segment| segment.starts_at), Some(period_end));
    let invoice = house.finalize(&acme).await.unwrap();
    assert_eq!((invoice.bill.period.end, invoice.bill.total_minor), (period_end, 79_900));

    let now = house.retier(&acme, "pro", None).await;
    assert_eq!(house.retier(&now, "free", Some(TierWhen::Now)).await.tier, "free");
}

async fn a_change_is_of_the_preview_that_was_seen_or_refused(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    let seen = house.control.tier_change_preview(&house.owner, &by_id(&acme), "business").await.unwrap();
    house.control.set_quota(&house.owner, &by_id(&acme), quota("alerts", limit(7))).await.unwrap();
    let change = TenantChange { tier: Some("business".to_owned()), ..TenantChange::default() };
    let change =
        house.control.expecting(Some(seen.version)).change_tenant(&house.owner, &by_id(&acme), change).await;
    assert!(matches!(change, Err(ControlError::Stale { .. })), "{change:?}");
    let error = house.control.tier_change_preview(&house.owner, &by_id(&acme), "gold").await.unwrap_err();
    assert_eq!(fields(&error), ["tier"]);
}

async fn an_invoice_is_what_the_ledger_says_to_the_unit_and_is_finalized_once(store: TestStore) {
    let house = House::on(store);
    house.sell_overage("pro", "0.40 per 1000").await;
    let acme = house.subscriber("pro").await;
    house.use_calls(&acme, 1, 9_000, house.clock.now()).await;
    house.use_calls(&acme, 2, 4_217, house.clock.now()).await;
    let error = house.finalize(&acme).await.unwrap_err();
    assert!(matches!(error, ControlError::Conflict(_)), "{error}");
    let estimate = house.control.running_invoice(&house.owner, &by_id(&acme)).await.unwrap();
    house.clock.advance(DAY * 30);
    let invoice = house.finalize(&acme).await.unwrap();
    assert_eq!(invoice.bill, estimate, "the same document");
    let used = invoice.bill.lines.iter().find_map(|line| match line.item {
        Item::Usage { resource_type, used, overage, .. } if resource_type == resource("api_calls") => {
            Some((used.get(), overage.get()))
        }
        _ => None,
    });
    assert_eq!(used, Some((13_217, 3_217)));
    // 3,217 at 0.40 per 1,000 are 1.2868.
    assert_eq!((amounts(&invoice), invoice.bill.total_minor), (vec![29_900, 129], 30_029));
    assert!(house.agrees(&acme, &invoice).await);
    assert_eq!(house.finalize(&acme).await.unwrap(), invoice);
    let (one, other) = tokio::join!(house.control.keep_billing(), house.control.keep_billing());
    assert_eq!((one.unwrap().finalized, other.unwrap().finalized), (0, 0));
    assert_eq!(house.invoices(&acme).await, [invoice]);
}

async fn what_comes_late_is_corrected_in_the_next_invoice_and_charged_once(store: TestStore) {
    let house = House::on(store);
    house.sell_overage("pro", "0.40 per 1000").await;
    let acme = house.subscriber("pro").await;
    let november = house.clock.now();
    house.use_calls(&acme, 1, 12_000, november).await;
    house.clock.advance(DAY * 31);
    assert_eq!(house.control.keep_billing().await.unwrap().finalized, 1);
    let first = house.invoices(&acme).await.remove(0);
    assert_eq!(amounts(&first), [29_900, 80]);
    house.use_calls(&acme, 2, 500, november).await;
    assert!(!house.agrees(&acme, &first).await, "it is not hidden that something came late");

    house.clock.advance(DAY * 31);
    let second = house.finalize(&acme).await.unwrap();
    assert_eq!(amounts(&second), [29_900, 20]);
    let Some(Item::Correction { corrects, used_before, used, .. }) =
        second.bill.lines.last().map(|line| line.item.clone())
    else {
        panic!("no correction: {second:?}");
    };
    assert_eq!((corrects, used_before.get(), used.get()), (first.id, 12_000, 12_500));
    assert!(house.agrees(&acme, &first).await && house.agrees(&acme, &second).await);
    house.clock.advance(DAY * 31);
    assert_eq!(amounts(&house.finalize(&acme).await.unwrap()), [29_900], "nothing is corrected twice");
    let void = house.control.void_invoice(&house.owner, &by_id(&acme), first.id, Some("wrong")).await;
    assert!(matches!(void, Err(ControlError::Conflict(_))), "{void:?}");
}

async fn a_finalized_invoice_can_not_be_changed_by_anybody(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.clock.advance(DAY * 30);
    let invoice = house.finalize(&acme).await.unwrap();
    let is_refused = async |sql: &'static str| house.store.tried(sql).await.is_err();
    for sql in [
        "UPDATE invoices SET total_minor = 1",
        "UPDATE invoices SET period_end = period_start",
        "UPDATE invoice_lines SET amount_minor = 1",
        "DELETE FROM invoice_lines",
        "DELETE FROM invoices",
    ] {
        assert!(is_refused(sql).await, "{sql}");
    }
    assert_eq!(house.invoices(&acme).await, [invoice]);
}

async fn an_invoice_that_is_void_is_drawn_up_again_and_one_that_was_paid_stays(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.clock.advance(DAY * 30);
    let (first, control) = (house.finalize(&acme).await.unwrap(), &house.control);
    let void = control.void_invoice(&house.owner, &by_id(&acme), first.id, None).await.unwrap_err();
    assert_eq!(fields(&void), ["reason"]);
    let void = control.void_invoice(&house.owner, &by_id(&acme), first.id, Some("wrong name")).await.unwrap();
    assert_eq!((void.status, void.status_reason.as_deref()), (InvoiceStatus::Void, Some("wrong name")));
    let again = house.finalize(&acme).await.unwrap();
    assert_eq!((again.bill == first.bill, again.id == first.id), (true, false));
    let paid = control.pay_invoice(&house.owner, &by_id(&acme), again.id).await.unwrap();
    assert_eq!(paid.status, InvoiceStatus::Paid);
    let audit = house.audit(&acme).await;
    assert_eq!(audit[0].row.action, "invoice.pay");
    assert_eq!(audit[0].row.after, Some(json!({ "status": "paid" })));
    for (id, refused) in [(again.id, "void"), (first.id, "paid")] {
        let outcome = match refused {
            "void" => control.void_invoice(&house.owner, &by_id(&acme), id, Some("late")).await,
            _ => control.pay_invoice(&house.owner, &by_id(&acme), id).await,
        };
        assert!(matches!(outcome, Err(ControlError::Conflict(_))), "{refused}: {outcome:?}");
    }
}

async fn a_tenant_from_before_is_billed_from_its_present_month_on(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.store.raw("DELETE FROM subscription_segments").await;
    house.clock.advance(DAY * 100);
    assert_eq!(house.control.keep_billing().await.unwrap().begun, 1);
    let kept = house.control.keep_billing().await.unwrap();
    assert_eq!((kept.begun, kept.finalized), (0, 0));
    let subscription = house.control.subscription(&house.owner, &by_id(&acme)).await.unwrap();
    let month = Period::Month.window(acme.anchor, &acme.timezone, house.clock.now());
    assert_eq!(subscription.segments[0].starts_at, month.start);
    assert_eq!(subscription.period.map(|period| (period.start, period.end)), Some((month.start, month.end)));
}

async fn whoever_is_not_charged_gets_no_invoice(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.clock.advance(DAY * 10);
    let (owner, at) = (&house.owner, by_id(&acme));
    house.control.set_status(owner, &at, TenantStatus::Cancelled, None).await.unwrap();
    house.clock.advance(DAY * 100);
    assert_eq!(house.control.keep_billing().await.unwrap().finalized, 1);
    // Ten of thirty days, and the day that it was cancelled on belongs to what came after.
    assert_eq!(house.invoices(&acme).await[0].bill.total_minor, 9_967);
    let error = house.control.running_invoice(owner, &at).await.unwrap_err();
    assert!(matches!(error, ControlError::Conflict(_)), "{error}");
    house.control.set_status(owner, &at, TenantStatus::Active, None).await.unwrap();
    assert!(house.control.running_invoice(owner, &at).await.unwrap().total_minor > 0);
}

async fn a_gauge_is_charged_by_what_was_held_to_the_microsecond(store: TestStore) {
    let house = House::on(store);
    house.sell("pro", "users", "5.00 per 1", Some(ChargeBy::Average)).await;
    house.sell("pro", "devices", "1.00 per 1", Some(ChargeBy::Maximum)).await;
    let acme = house.subscriber("pro").await;
    house.hold(&acme, "users", 60).await;
    house.hold(&acme, "devices", 120).await;
    house.clock.advance(Duration::from_secs(1));
    house.hold(&acme, "devices", -100).await;
    // Of 30 days without the six hours before it subscribed, half.
    house.clock.advance(Duration::from_secs(357 * 3_600 - 1));
    house.hold(&acme, "users", -10).await;
    let estimate = house.control.running_invoice(&house.owner, &by_id(&acme)).await.unwrap();
    house.clock.advance(DAY * 20);
    house.hold(&acme, "users", 1_000).await;
    let invoice = house.finalize(&acme).await.unwrap();
    assert_eq!(invoice.bill, estimate, "what is held is estimated to be held until the end");
    // 20 devices above 100, and 55 users on average above 50.
    assert_eq!(amounts(&invoice), [29_900, 2_000, 2_500]);
    assert!(house.agrees(&acme, &invoice).await);
    house.store.raw("UPDATE gauge_levels SET units = units + 1 WHERE resource_type = 'users'").await;
    assert!(!house.agrees(&acme, &invoice).await, "another history is another invoice");
}

async fn a_gauge_is_charged_by_each_tier_for_its_own_time(store: TestStore) {
    let house = House::on(store);
    house.sell("pro", "users", "5.00 per 1", Some(ChargeBy::Average)).await;
    let acme = house.subscriber("pro").await;
    house.hold(&acme, "users", 60).await;
    house.clock.advance(DAY * 10);
    house.retier(&acme, "business", None).await;
    house.hold(&acme, "users", 10_000).await;
    house.clock.advance(DAY * 20);
    let invoice = house.finalize(&acme).await.unwrap();
    // The third line: 10 above 50 for 10 of 30 days; business sells none.
    assert_eq!(amounts(&invoice), [9_967, 53_267, 1_667]);
    assert!(house.agrees(&acme, &invoice).await);
    let mut pro = house.control.tiers(&house.owner).await.unwrap();
    let mut pro = pro.remove(pro.iter().position(|tier| tier.slug == "pro").unwrap());
    let users = pro.quotas.iter().position(|quota| quota.resource == resource("users")).unwrap();
    pro.quotas[users].charge_by = None;
    let error = house.control.set_tier(&house.owner, pro.clone()).await.unwrap_err();
    assert_eq!(fields(&error), [format!("quotas[{users}]")], "a gauge that is sold says by what");
    pro.quotas[users].overage = None;
    house.control.set_tier(&house.owner, pro).await.unwrap();
}

async fn a_spend_cap_is_told_of_at_80_and_100_percent_once_per_period(store: TestStore) {
    let house = House::on(store);
    house.sell_overage("pro", "1.00 per 1").await;
    let acme = house.subscriber("pro").await;
    let (control, owner, at) = (&house.control, &house.owner, by_id(&acme));
    for bad in ["", "0", "-5", "1.234", "much"] {
        let error = control.set_spend_cap(owner, &at, &told_at(bad)).await.unwrap_err();
        assert_eq!(fields(&error), ["amount"], "{bad}");
    }
    let set = control.set_spend_cap(owner, &at, &told_at("500")).await.unwrap();
    assert_eq!((set.cap.amount.to_string().as_str(), set.leaves), ("500.00 USD", vec![]));
    let told = async || {
        house.clock.advance(Duration::from_secs(60));
        let told = control.watch().await.unwrap();
        let told = told.into_iter().filter(|alert| alert.kind == AlertKind::Billing);
        told.map(|alert| alert.details["threshold"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert!(told().await.is_empty(), "299 of 500");
    house.use_calls(&acme, 1, 10_100, house.clock.now()).await;
    assert!(told().await.is_empty(), "399");
    house.use_calls(&acme, 2, 1, house.clock.now()).await;
    assert_eq!((told().await, told().await), (vec![80], vec![]), "400, once");
    house.use_calls(&acme, 3, 100, house.clock.now()).await;
    assert_eq!((told().await, told().await), (vec![100], vec![]));
    control.set_spend_cap(owner, &at, &told_at("600")).await.unwrap();
    assert_eq!((told().await, told().await), (vec![80], vec![]), "another cap");
    house.clock.advance(DAY * 30);
    assert!(told().await.is_empty(), "another period");
    house.use_calls(&acme, 4, 20_000, house.clock.now()).await;
    assert_eq!((told().await, told().await), (vec![80, 100], vec![]));
    control.remove_spend_cap(owner, &at).await.unwrap();
    assert_eq!(control.spend_cap(owner, &at).await.unwrap(), None);
    let again = control.remove_spend_cap(owner, &at).await;
    assert!(matches!(again, Err(ControlError::NotFound { .. })), "{again:?}");
    let theirs = control.set_spend_cap(&of_tenant(&acme, Role::Owner), &at, &told_at("1")).await;
    assert!(matches!(theirs, Err(ControlError::Forbidden { .. })), "{theirs:?}");
    let audit = house.audit(&acme).await;
    let actions: Vec<_> = audit.iter().map(|entry| entry.row.action.as_str()).collect();
    assert!(actions.contains(&"spend_cap.remove") && actions.contains(&"spend_cap.set"), "{actions:?}");
}

fn told_at(amount: &str) -> NewSpendCap {
    NewSpendCap { amount: amount.to_owned(), ..NewSpendCap::default() }
}

fn stops_at(amount: &str) -> NewSpendCap {
    NewSpendCap { then: AtCap::Stop, ..told_at(amount) }
}

impl House {
    async fn cap(&self, tenant: &Tenant, new: NewSpendCap) -> CapInForce {
        self.control.set_spend_cap(&self.owner, &by_id(tenant), &new).await.unwrap()
    }

    /// The limit, how it is enforced, and whether it is what a spend cap leaves: as gateways have it.
    async fn in_force(&self, tenant: &Tenant, of: &str) -> (Limit, Enforcement, bool) {
        let profile = self.store.tenant_profile(&by_id(tenant), self.clock.now()).await.unwrap().unwrap();
        let quota = profile.quotas.iter().find(|quota| quota.resource == resource(of)).unwrap();
        let shown = self.quota(tenant, of).await;
        assert_eq!(
            (shown.limit, shown.enforcement, shown.is_capped),
            (quota.limit, quota.enforcement, quota.is_capped)
        );
        (quota.limit, quota.enforcement, quota.is_capped)
    }
}

fn capped(units: u64) -> (Limit, Enforcement, bool) {
    (limit(units), Enforcement::Hard, true)
}

async fn a_cap_that_stops_limits_each_resource_to_what_it_pays_for(store: TestStore) {
    let house = House::on(store);
    house.sell_overage("pro", "1.00 per 1").await;
    let acme = house.subscriber("pro").await;
    let open = (limit(10_000), Enforcement::Soft, false);
    assert_eq!(house.in_force(&acme, "api_calls").await, open);
    house.cap(&acme, told_at("350")).await;
    assert_eq!(house.in_force(&acme, "api_calls").await, open, "it tells");
    // 299.00 are the subscription.
    let set = house.cap(&acme, stops_at("350")).await;
    assert_eq!(set.leaves.iter().map(|ceiling| ceiling.limit.get()).collect::<Vec<_>>(), [10_051]);
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_051));
    assert_eq!(house.in_force(&acme, "alerts").await, (limit(1_000), Enforcement::Hard, false), "not sold");
    let profile = house.store.tenant_profile(&by_id(&acme), house.clock.now()).await.unwrap().unwrap();
    assert_eq!(profile.good_until, Timestamp::parse("2026-12-23T00:00:00Z"));
    assert_eq!(profile.quotas.iter().find(|quota| quota.is_capped).unwrap().on_loss, Some(LossPolicy::Till));

    house.use_calls(&acme, 1, 10_051, house.clock.now()).await;
    house.clock.advance(Duration::from_secs(60));
    let told = house.control.watch().await.unwrap();
    let told =
        told.iter().filter(|alert| alert.kind == AlertKind::Billing).map(|alert| alert.summary.as_str());
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].contains("More api_calls are refused") && told[2].contains("pays for 10051"), "{told:?}");
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_051));
    let estimate = house.control.running_invoice(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(estimate.total_minor, 35_000, "all of it, and no more");

    house.cap(&acme, stops_at("400.50")).await;
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_101), "raised");
    house.cap(&acme, stops_at("310")).await;
    assert_eq!(
        house.in_force(&acme, "api_calls").await,
        capped(10_051),
        "what was used stays, and no more is had"
    );
    house.control.remove_spend_cap(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(house.in_force(&acme, "api_calls").await, open);
    assert_eq!(house.store.read().await.unwrap().ceilings(acme.id).await.unwrap(), []);
    let audit = house.audit(&acme).await;
    let set = audit.iter().find(|entry| entry.row.action == "spend_cap.set").unwrap();
    assert_eq!(set.row.after.as_ref().unwrap()["then"], "stop");
}

async fn whatever_moves_what_a_cap_leaves_moves_it_at_once_and_a_new_period_frees(store: TestStore) {
    let house = House::on(store);
    house.sell_overage("pro", "1.00 per 1").await;
    house.sell_overage("business", "0.50 per 1").await;
    let acme = house.subscriber("pro").await;
    house.cap(&acme, stops_at("1000")).await;
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_701));
    let own = |of: u64| quota("api_calls", limit(of));
    house.control.set_quota(&house.owner, &by_id(&acme), own(20_000)).await.unwrap();
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(20_701), "a limit of its own is included");
    house.clock.advance(Duration::from_secs(60));
    let until = QuotaChange { expires_at: Some(house.clock.now().plus(DAY)), ..own(20_000) };
    house.control.set_quota(&house.owner, &by_id(&acme), until).await.unwrap();
    assert_eq!(
        house.in_force(&acme, "api_calls").await,
        capped(10_701),
        "at the period's end it is not any more"
    );
    house.control.remove_quota(&house.owner, &by_id(&acme), resource("api_calls"), None, None).await.unwrap();
    // At the beginning of the period: 799.00 for all of it.
    house.retier(&acme, "business", None).await;
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(100_402));
    house
        .control
        .set_quota(
            &house.owner,
            &by_id(&acme),
            QuotaChange { enforcement: Some(Enforcement::Hard), ..own(90_000) },
        )
        .await
        .unwrap();
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(90_000), "a hard limit is sold by nobody");
    house.control.remove_quota(&house.owner, &by_id(&acme), resource("api_calls"), None, None).await.unwrap();
    house.use_calls(&acme, 1, 100_402, house.clock.now()).await;

    // Nobody keeps billing when the period turns: what the next one leaves is known by then.
    house.clock.set("2026-12-22T12:00:00Z");
    house.control.watch().await.unwrap();
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(100_402));
    house.clock.set("2026-12-23T00:00:00Z");
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(100_402), "the same money, and nothing used");
    let leaves = house.control.spend_cap(&house.owner, &by_id(&acme)).await.unwrap().unwrap().leaves;
    assert_eq!(leaves.len(), 2);
    // Weeks without anybody: nothing above the limit is had until somebody has looked.
    house.clock.set("2027-01-25T00:00:00Z");
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(100_000));
    house.control.watch().await.unwrap();
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(100_402));
    house
        .control
        .set_status(&house.owner, &by_id(&acme), TenantStatus::Cancelled, Some("bye".to_owned()))
        .await
        .unwrap();
    let closed = house.in_force(&acme, "api_calls").await;
    assert_eq!(closed, (limit(100_000), Enforcement::Soft, false), "who is not charged is not capped");
}

async fn a_cap_is_divided_among_what_is_sold_and_gauges_are_held_within_their_share(store: TestStore) {
    let house = House::on(store);
    for (sold, price, by) in [
        ("api_calls", "1.00 per 1", None),
        ("alerts", "2.00 per 1", None),
        ("users", "5.00 per 1", Some(ChargeBy::Maximum)),
    ] {
        house.sell("pro", sold, price, by).await;
    }
    let acme = house.subscriber("pro").await;
    house.cap(&acme, stops_at("599")).await;
    // 300.00 are left: 100.00 for each.
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_100));
    assert_eq!(house.in_force(&acme, "alerts").await, capped(1_050));
    assert_eq!(house.in_force(&acme, "users").await, capped(70));
    let shares = |text: &str| NewSpendCap { shares: Some(text.parse().unwrap()), ..stops_at("599") };
    house.cap(&acme, shares("api_calls=2,alerts=1")).await;
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_200));
    assert_eq!(house.in_force(&acme, "alerts").await, capped(1_050));
    assert_eq!(house.in_force(&acme, "users").await, capped(50), "without a share");
    let error =
        house.control.set_spend_cap(&house.owner, &by_id(&acme), &shares("devices=1")).await.unwrap_err();
    assert_eq!(fields(&error), ["shares"], "nobody sells devices");

    house.cap(&acme, stops_at("599")).await;
    house.hold(&acme, "users", 80).await;
    house.clock.advance(Duration::from_secs(60));
    house.control.watch().await.unwrap();
    // It was held when nobody looked: 150.00 of its 100.00, so 75.00 are left for each of the others.
    assert_eq!(house.in_force(&acme, "users").await, capped(80));
    assert_eq!(house.in_force(&acme, "api_calls").await, capped(10_075));
    house.hold(&acme, "users", -70).await;
    house.clock.advance(Duration::from_secs(60));
    house.control.watch().await.unwrap();
    assert_eq!(house.in_force(&acme, "users").await, capped(80), "the most that was held is charged for");
}

async fn a_month_that_began_anew_with_another_zone_is_billed_and_capped_with_the_one_before(
    store: TestStore,
) {
    let house = House::on(store);
    house.sell_overage("pro", "1.00 per 1").await;
    let acme = house.subscriber("pro").await;
    house.cap(&acme, stops_at("350")).await;
    house.use_calls(&acme, 1, 10_001, house.clock.now()).await;
    let zone = TenantChange { timezone: Some("America/New_York".to_owned()), ..TenantChange::default() };
    let moved = house.control.change_tenant(&house.owner, &by_id(&acme), zone).await.unwrap();
    assert_eq!(house.in_force(&moved, "api_calls").await, capped(50), "of 10051");
    house.use_calls(&moved, 2, 50, house.clock.now()).await;
    let bill = house.control.running_invoice(&house.owner, &by_id(&moved)).await.unwrap();
    assert_eq!(bill.total_minor, 35_000);
    let used = bill.lines.iter().find_map(|line| match line.item {
        Item::Usage { resource_type, used, .. } if resource_type == resource("api_calls") => Some(used.get()),
        _ => None,
    });
    assert_eq!(used, Some(10_051));
}

async fn an_invoice_stays_made_out_to_a_tenant_that_is_erased(store: TestStore) {
    let house = House::on(store);
    let acme = house.subscriber("pro").await;
    house.clock.advance(DAY * 30);
    let invoice = house.finalize(&acme).await.unwrap();
    let (owner, at) = (&house.owner, by_id(&acme));
    house.control.set_status(owner, &at, TenantStatus::Deleted, None).await.unwrap();
    assert_eq!(house.control.erase_tenant(owner, &at).await.unwrap().name, "Erased tenant");
    assert_eq!(house.invoices(&acme).await, std::slice::from_ref(&invoice));
    assert_eq!((invoice.bill.bill_to.as_str(), house.agrees(&acme, &invoice).await), ("Acme", true));
}

async fn whoever_may_read_invoices_may_not_finalize_them(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.subscriber("pro").await, house.tenant("Other").await);
    house.clock.advance(DAY * 30);
    for role in [Role::Owner, Role::Billing] {
        let reader = of_tenant(&acme, role);
        assert!(house.control.running_invoice(&reader, &by_id(&acme)).await.is_ok(), "{role:?}");
        let finalize = house.control.finalize_invoice(&reader, &by_id(&acme)).await;
        assert!(matches!(finalize, Err(ControlError::Forbidden { .. })), "{finalize:?}");
        let foreign = house.control.invoices(&reader, &by_id(&other), None, &Page::default()).await;
        assert!(matches!(foreign, Err(ControlError::NotFound { .. })), "{foreign:?}");
    }
    let developer = of_tenant(&acme, Role::Developer);
    let read = house.control.invoices(&developer, &by_id(&acme), None, &Page::default()).await;
    assert!(matches!(read, Err(ControlError::Forbidden { .. })), "{read:?}");
}

async fn what_a_child_costs_is_told_to_its_reseller_and_not_to_the_child(store: TestStore) {
    let house = House::on(store);
    let seller = house.subscriber("msp").await;
    let new = NewTenant { parent: Some(seller.slug.to_string()), ..named("Child") };
    let child = house.control.create_tenant(&house.owner, new).await.unwrap();
    let own = of_tenant(&child, Role::Owner);
    let read = house.control.running_invoice(&own, &by_id(&child)).await;
    assert!(matches!(read, Err(ControlError::Forbidden { .. })), "{read:?}");
    let preview = house.control.tier_change_preview(&own, &by_id(&child), "pro").await;
    assert!(matches!(preview, Err(ControlError::Forbidden { .. })), "{preview:?}");
    let mut agent = of_tenant(&seller, Role::Owner);
    agent.rights.resells = true;
    for tenant in [&seller, &child] {
        let bill = house.control.running_invoice(&agent, &by_id(tenant)).await.unwrap();
        assert_eq!(bill.tenant, tenant.id);
    }
}
