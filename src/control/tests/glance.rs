//! Many tenants at a glance: found by how they fare, with what they use most.

use std::time::Duration;

use super::alerts::of_acme;
use super::{House, by_id, limit, named, of_tenant, quota};
use crate::clock::{Clock, Timestamp};
use crate::control::{Glance, GlanceSpan, NewTenant};
use crate::domain::{Health, Role, Tenant, TenantStatus};
use crate::store::testing::{TestStore, on_both};
use crate::store::{Listed, Page, RollupPeriod, TenantFilter, TenantSort};

on_both! {
    tenants_are_found_and_sorted_by_how_they_were_told_to_fare,
    the_quota_of_which_most_is_used_and_the_hours_of_requests_are_shown,
    a_reseller_sees_how_those_below_fare_and_nobody_else,
}

impl House {
    async fn glances(&self, filter: &TenantFilter, sort: &str, page: &Page) -> Listed<Glance> {
        let sort = TenantSort::parse(sort).unwrap();
        let span = Some(GlanceSpan::Day);
        self.control.tenants_at_a_glance(&self.owner, filter, sort, page, span).await.unwrap()
    }

    /// Until it was told.
    async fn is_suspended(&self, tenant: &Tenant) {
        let why = Some("unpaid".to_owned());
        self.control.set_status(&self.owner, &by_id(tenant), TenantStatus::Suspended, why).await.unwrap();
        self.looks().await;
        self.looks().await;
    }
}

fn names(listed: &Listed<Glance>) -> Vec<(&str, Health)> {
    listed.items.iter().map(|glance| (glance.tenant.name.as_str(), glance.health)).collect()
}

async fn tenants_are_found_and_sorted_by_how_they_were_told_to_fare(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let (big, calm) = (house.tenant("Big").await, house.tenant("Calm").await);
    house.control.set_quota(&house.owner, &by_id(&big), quota("api_calls", limit(100))).await.unwrap();
    house.uses(&big, 1, 85).await;
    house.looks().await;
    let warned = TenantFilter { health: Some(Health::Warning), ..TenantFilter::default() };
    assert_eq!(names(&house.glances(&warned, "name", &Page::default()).await), [], "seen once is no news");
    house.is_suspended(&acme).await;
    let all = TenantFilter::default();
    let worst_first = [("Acme", Health::Critical), ("Big", Health::Warning), ("Calm", Health::Healthy)];
    assert_eq!(names(&house.glances(&all, "-health", &Page::default()).await), worst_first);
    let best_first: Vec<_> = worst_first.into_iter().rev().collect();
    assert_eq!(names(&house.glances(&all, "health", &Page::default()).await), best_first);
    for (name, health) in worst_first {
        let filter = TenantFilter { health: Some(health), ..TenantFilter::default() };
        let listed = house.glances(&filter, "name", &Page::default()).await;
        assert_eq!((names(&listed), listed.total), (vec![(name, health)], Some(1)));
    }
    // Page by page.
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page::new(Some(1), None, cursor.as_deref()).unwrap();
        let listed = house.glances(&all, "-health", &page).await;
        seen.extend(listed.items.into_iter().map(|glance| glance.tenant.name));
        cursor = listed.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["Acme", "Big", "Calm"]);
    // Whoever is well again is found as such.
    house.control.set_quota(&house.owner, &by_id(&big), quota("api_calls", limit(1_000))).await.unwrap();
    house.looks().await;
    house.looks().await;
    assert_eq!(names(&house.glances(&warned, "name", &Page::default()).await), []);
    drop(calm);
}

async fn the_quota_of_which_most_is_used_and_the_hours_of_requests_are_shown(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let at = |back: u64| {
        let hour = Timestamp::from_seconds(house.clock.now().seconds().div_euclid(3_600) * 3_600);
        hour.minus(Duration::from_secs(back * 3_600))
    };
    let all = TenantFilter::default();
    let idle = house.glances(&all, "name", &Page::default()).await.items.remove(0);
    assert_eq!((idle.largest_quota, idle.requests), (None, Some(vec![0; 24])));
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(1_000))).await.unwrap();
    house.uses(&acme, 1, 500).await;
    house.uses(&acme, 2, 123).await;
    house.requests(&acme, RollupPeriod::Hour, at(0), 7, 0).await;
    house.requests(&acme, RollupPeriod::Hour, at(23), 5, 0).await;
    house.requests(&acme, RollupPeriod::Hour, at(24), 1_000, 0).await;
    let glance = house.glances(&all, "name", &Page::default()).await.items.remove(0);
    let largest = glance.largest_quota.unwrap();
    assert_eq!(
        (largest.resource_type.as_str(), largest.used.get(), largest.percent),
        ("api_calls", 623, 62.3)
    );
    let requests = glance.requests.unwrap();
    assert_eq!((requests[0], requests[23], requests.iter().sum::<u64>()), (5, 7, 12));
    // In the next month nothing is used of it.
    house.clock.advance(Duration::from_secs(40 * 86_400));
    let glance = house.glances(&all, "name", &Page::default()).await.items.remove(0);
    assert_eq!((glance.largest_quota, glance.requests), (None, Some(vec![0; 24])));
}

async fn a_reseller_sees_how_those_below_fare_and_nobody_else(store: TestStore) {
    let (house, _) = of_acme(store).await;
    let msp = NewTenant { tier: Some("msp".to_owned()), ..named("Seller") };
    let seller = house.control.create_tenant(&house.owner, msp).await.unwrap();
    let child = NewTenant { parent: Some("seller".to_owned()), ..named("Child") };
    let child = house.control.create_tenant(&house.owner, child).await.unwrap();
    house.is_suspended(&child).await;
    let mut reseller = of_tenant(&seller, Role::Owner);
    reseller.rights.resells = true;
    let (all, sort) = (TenantFilter::default(), TenantSort::parse("-health").unwrap());
    let (page, span) = (Page::default(), Some(GlanceSpan::Month));
    let listed = house.control.tenants_at_a_glance(&reseller, &all, sort, &page, span);
    let listed = listed.await.unwrap();
    assert_eq!(names(&listed), [("Child", Health::Critical), ("Seller", Health::Healthy)]);
    assert_eq!(listed.items[0].requests, Some(vec![0; 30]));
}
