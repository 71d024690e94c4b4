//! Who is idle, and who has more than is needed.

use std::time::Duration;

use super::{House, named};
use crate::clock::Clock;
use crate::control::{ControlError, LookBack, NewKey, NewTenant};
use crate::domain::{AccountKey, Owner, Period, Role, Tenant, TenantStatus, Units, Zone};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AccountUse, Page, Rollup, RollupPeriod, UsageSums};

on_both! {
    who_has_used_nothing_for_a_while_is_idle,
    a_key_that_nobody_used_is_idle_until_somebody_does,
    a_tier_is_too_large_if_a_cheaper_one_would_have_left_room_in_the_busiest_month,
    reports_are_the_platforms_and_look_back_two_years_at_most,
}

const DAY: Duration = Duration::from_secs(86_400);

impl House {
    /// So many calls today, as a flush brings them.
    async fn calls(&self, tenant: &Tenant, units: u64) {
        let sums = UsageSums { units, requests: 1, ..UsageSums::default() };
        let rollup = |period, of: Period| Rollup {
            tenant: tenant.id,
            period,
            start: of.window(crate::domain::Anchor::Calendar, &Zone::UTC, self.clock.now()).start,
            resource: super::resource("api_calls"),
            key: None,
            route: "all".to_owned(),
            sums,
        };
        let rollups =
            vec![rollup(RollupPeriod::Day, Period::Day), rollup(RollupPeriod::Month, Period::Month)];
        self.flushes(1, rollups, Vec::new()).await;
    }

    /// So many devices are held.
    async fn holds(&self, tenant: &Tenant, devices: u64) {
        let window = Period::Forever.window(tenant.anchor, &tenant.timezone, self.clock.now());
        let account =
            AccountKey { owner: Owner::Tenant(tenant.id), resource: super::resource("devices"), window };
        let units = devices;
        self.flushes(1, Vec::new(), vec![AccountUse { account, units, overage: 0 }]).await;
    }

    async fn idle(&self) -> Vec<String> {
        let idle = self.control.idle_tenants(&self.owner, LookBack(30), &Page::default()).await.unwrap();
        idle.items.into_iter().map(|idle| idle.slug.to_string()).collect()
    }

    async fn of(&self, tier: &str, name: &str) -> Tenant {
        let new = NewTenant { tier: Some(tier.to_owned()), ..named(name) };
        self.control.create_tenant(&self.owner, new).await.unwrap()
    }
}

async fn who_has_used_nothing_for_a_while_is_idle(store: TestStore) {
    let house = House::on(store);
    let (never, once, busy) =
        (house.tenant("Never").await, house.tenant("Once").await, house.tenant("Busy").await);
    let stopped = house.tenant("Stopped").await;
    let cancelled = TenantStatus::Cancelled;
    house.control.set_status(&house.owner, &super::by_id(&stopped), cancelled, None).await.unwrap();
    house.calls(&once, 1).await;
    assert!(house.idle().await.is_empty(), "all are new");
    house.clock.advance(DAY * 31);
    house.calls(&busy, 1).await;
    house.tenant("New").await;
    assert_eq!(house.idle().await, ["once", "never"]);
    let page = Page::new(Some(1), None, None).unwrap();
    let first = house.control.idle_tenants(&house.owner, LookBack(30), &page).await.unwrap();
    assert_eq!(
        first.items[0].last_used_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-23T00:00:00.000000Z")
    );
    let page = Page::new(Some(1), None, first.next_cursor.as_deref()).unwrap();
    let second = house.control.idle_tenants(&house.owner, LookBack(30), &page).await.unwrap();
    assert_eq!((second.items[0].tenant_id, second.items[0].last_used_at), (never.id, None));
    assert_eq!(second.next_cursor, None);
}

async fn a_key_that_nobody_used_is_idle_until_somebody_does(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let key = async |name: &str| {
        let new = NewKey { name: name.to_owned(), ..NewKey::default() };
        house.control.create_key(&house.owner, &super::by_id(&acme), new).await.unwrap().key.id
    };
    let (used, idle, gone) = (key("used").await, key("idle").await, key("gone").await);
    house.control.revoke_key(&house.owner, gone).await.unwrap();
    house.clock.advance(DAY * 31);
    house.store.set_keys_used(&[(used, house.clock.now())]).await.unwrap();
    key("new").await;
    let found = house.control.idle_keys(&house.owner, LookBack(30), &Page::default()).await.unwrap().items;
    assert_eq!(found.iter().map(|found| found.key_id).collect::<Vec<_>>(), [idle]);
    assert_eq!(
        (found[0].slug.as_str(), found[0].name.as_str(), found[0].last_used_at),
        ("acme", "idle", None)
    );
}

async fn a_tier_is_too_large_if_a_cheaper_one_would_have_left_room_in_the_busiest_month(store: TestStore) {
    let house = House::on(store);
    let (small, medium) = (house.of("business", "Small").await, house.of("business", "Medium").await);
    let (large, holds) = (house.of("business", "Large").await, house.of("business", "Holds").await);
    house.of("free", "Free").await;
    house.of("msp", "Reseller").await;
    house.clock.advance(DAY * 91);
    house.of("business", "New").await;
    house.calls(&small, 700).await;
    // Four fifths of what the free tier has leave no room.
    house.calls(&medium, 800).await;
    house.calls(&large, 8_000).await;
    house.holds(&holds, 80).await;
    let all = house.control.oversized(&house.owner, LookBack(90), &Page::default()).await.unwrap();
    let found: Vec<_> =
        all.items.iter().map(|found| (found.slug.as_str(), found.smaller_tier.as_str())).collect();
    assert_eq!(found, [("medium", "pro"), ("small", "free")], "the newest first");
    let first = &all.items[0];
    assert_eq!(
        (first.price_minor, first.smaller_price_minor, first.currency.as_str()),
        (79_900, 29_900, "USD")
    );
    let calls = first.peaks.iter().find(|peak| peak.resource_type.as_str() == "api_calls").unwrap();
    assert_eq!((calls.used, calls.smaller_limit), (Units::new(800).unwrap(), super::limit(10_000)));
    let page = Page::new(Some(1), Some(1), None).unwrap();
    let second = house.control.oversized(&house.owner, LookBack(90), &page).await.unwrap();
    assert_eq!((second.items, second.next_cursor), (vec![all.items[1].clone()], None));
}

async fn reports_are_the_platforms_and_look_back_two_years_at_most(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let (owner, page) = (super::of_tenant(&acme, Role::Owner), Page::default());
    let refused = house.control.idle_tenants(&owner, LookBack(30), &page).await;
    assert!(matches!(refused, Err(ControlError::Forbidden { .. })));
    for days in [0, 731] {
        let refused = house.control.oversized(&house.owner, LookBack(days), &page).await.unwrap_err();
        assert_eq!(super::fields(&refused), ["days"]);
    }
}
