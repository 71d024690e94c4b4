//! Tenants: made, found, changed, suspended, deleted, listed.

use std::time::Duration;

use super::{House, by_id, fields, limit, named, quota};
use crate::clock::Clock;
use crate::control::{ControlError, NewKey, NewTenant, TenantChange};
use crate::domain::{Period, Tenant, TenantStatus, Units};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditFilter, Page, QuotaSource, TenantFilter, TenantSort};

on_both! {
    a_new_tenant_is_active_on_the_free_tier_and_has_its_quotas,
    a_tenant_is_found_by_id_and_by_slug,
    tier_aliases_are_understood,
    concurrent_tenants_of_one_name_get_distinct_slugs,
    a_slug_that_was_asked_for_and_is_taken_is_a_conflict,
    all_faults_are_named_at_once_and_nothing_is_left_behind,
    only_a_resellers_tier_may_have_tenants_below_it,
    a_change_touches_what_it_names_and_raises_the_version,
    a_change_of_an_older_version_is_refused,
    a_tier_change_is_in_force_at_once_and_keeps_overrides,
    a_tenant_is_suspended_for_a_reason_only,
    a_deleted_tenant_is_a_tombstone,
    lists_are_filtered_sorted_and_paged,
    another_lists_cursor_is_refused,
}

async fn a_new_tenant_is_active_on_the_free_tier_and_has_its_quotas(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme & Sons").await;
    assert_eq!(
        (acme.slug.as_str(), acme.status, acme.tier.as_str()),
        ("acme-sons", TenantStatus::Active, "free")
    );
    let quotas = house.control.quotas(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(quotas.len(), 5);
    let calls = house.quota(&acme, "api_calls").await;
    assert_eq!(
        (calls.limit, calls.used, calls.remaining),
        (limit(1_000), Units::ZERO, Units::new(1_000).ok())
    );
    assert_eq!((calls.percent, calls.source, calls.period), (Some(0.0), QuotaSource::Tier, Period::Month));
    assert_eq!(calls.window.start.to_string(), "2026-11-23T00:00:00.000000Z");
    assert_eq!(calls.window.end.to_string(), "2026-12-23T00:00:00.000000Z");
}

async fn a_tenant_is_found_by_id_and_by_slug(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    for name in [acme.id.to_string(), "acme".to_owned()] {
        let found = house.control.tenant(&house.owner, &name.parse().unwrap()).await.unwrap();
        assert_eq!(found, acme);
    }
}

async fn tier_aliases_are_understood(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { tier: Some("professional".to_owned()), ..named("Acme") };
    assert_eq!(house.control.create_tenant(&house.owner, new).await.unwrap().tier, "pro");
}

async fn concurrent_tenants_of_one_name_get_distinct_slugs(store: TestStore) {
    let house = House::on(store);
    let made = (0..12).map(|_| {
        let (control, owner) = (house.control.clone(), house.owner.clone());
        tokio::spawn(async move { control.create_tenant(&owner, named("Acme")).await })
    });
    let mut slugs = Vec::new();
    for made in made.collect::<Vec<_>>() {
        slugs.push(made.await.unwrap().unwrap().slug.to_string());
    }
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 12, "{slugs:?}");
    assert!(slugs.contains(&"acme".to_owned()) && slugs.contains(&"acme-2".to_owned()), "{slugs:?}");
}

async fn a_slug_that_was_asked_for_and_is_taken_is_a_conflict(store: TestStore) {
    let house = House::on(store);
    house.tenant("Acme").await;
    let new = NewTenant { slug: Some("acme".to_owned()), ..named("Other") };
    let error = house.control.create_tenant(&house.owner, new).await.unwrap_err();
    assert!(matches!(&error, ControlError::Conflict(_)), "{error:?}");
}

async fn all_faults_are_named_at_once_and_nothing_is_left_behind(store: TestStore) {
    let house = House::on(store);
    let before = house.changes().await;
    let new = NewTenant {
        name: " ".to_owned(),
        slug: Some("Not A Slug".to_owned()),
        tier: Some("gold".to_owned()),
        billing_email: Some("nobody".to_owned()),
        contact_phone: Some("call me".to_owned()),
        timezone: Some("Mars/Olympus".to_owned()),
        locale: Some("en_US".to_owned()),
        parent: Some("nobody".to_owned()),
    };
    let error = house.control.create_tenant(&house.owner, new).await.unwrap_err();
    let expected = ["name", "slug", "tier", "billing_email", "contact_phone", "timezone", "locale", "parent"];
    assert_eq!(fields(&error), expected);
    assert_eq!(house.changes().await, before);
    let log = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(log.items, []);
}

async fn only_a_resellers_tier_may_have_tenants_below_it(store: TestStore) {
    let house = House::on(store);
    house.tenant("Plain").await;
    let msp = NewTenant { tier: Some("msp_bundle".to_owned()), ..named("Seller") };
    let msp = house.control.create_tenant(&house.owner, msp).await.unwrap();
    let child = |parent: &str| NewTenant { parent: Some(parent.to_owned()), ..named("Child") };
    let made = house.control.create_tenant(&house.owner, child("seller")).await.unwrap();
    assert_eq!(made.parent, Some(msp.id));
    let error = house.control.create_tenant(&house.owner, child("plain")).await.unwrap_err();
    assert_eq!(fields(&error), ["parent"]);
}

async fn a_change_touches_what_it_names_and_raises_the_version(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { billing_email: Some("a@example.com".to_owned()), ..named("Acme") };
    let acme = house.control.create_tenant(&house.owner, new).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    let change = TenantChange {
        name: Some("Acme Inc".to_owned()),
        billing_email: Some(String::new()),
        locale: Some("de-CH".to_owned()),
        ..TenantChange::default()
    };
    let changed = house
        .control
        .expecting(Some(1))
        .change_tenant(&house.owner, &by_id(&acme), change.clone())
        .await
        .unwrap();
    let expected = Tenant {
        name: "Acme Inc".to_owned(),
        billing_email: None,
        locale: "de-CH".to_owned(),
        updated_at: house.clock.now(),
        version: 2,
        ..acme.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(house.control.tenant(&house.owner, &by_id(&acme)).await.unwrap(), expected);
    let again = house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    assert_eq!(again.version, 2, "what is so already is no change");
    assert_eq!(house.audit(&acme).await.len(), 2);
}

async fn a_change_of_an_older_version_is_refused(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let change = TenantChange { name: Some("B".to_owned()), ..TenantChange::default() };
    let error = house
        .control
        .expecting(Some(7))
        .change_tenant(&house.owner, &by_id(&acme), change)
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::Stale { expected: 7, actual: 1 }), "{error:?}");
}

async fn a_tier_change_is_in_force_at_once_and_keeps_overrides(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("alerts", limit(7))).await.unwrap();
    let change = TenantChange { tier: Some("pro".to_owned()), ..TenantChange::default() };
    house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    let calls = house.quota(&acme, "api_calls").await;
    assert_eq!((calls.limit, calls.source), (limit(10_000), QuotaSource::Tier));
    let alerts = house.quota(&acme, "alerts").await;
    assert_eq!((alerts.limit, alerts.source), (limit(7), QuotaSource::Override));
}

async fn a_tenant_is_suspended_for_a_reason_only(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let suspend = async |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        house.control.set_status(&house.owner, &by_id(&acme), TenantStatus::Suspended, reason).await
    };
    for missing in [None, Some("  ")] {
        assert_eq!(fields(&suspend(missing).await.unwrap_err()), ["reason"]);
    }
    assert_eq!(suspend(Some("unpaid")).await.unwrap().status, TenantStatus::Suspended);
    let log = house.audit(&acme).await;
    assert_eq!(
        (log[0].row.action.as_str(), log[0].row.reason.as_deref()),
        ("tenant.set_status", Some("unpaid"))
    );
    assert_eq!(log[0].row.before, Some(serde_json::json!({"status": "active"})));
    let changes = house.changes().await;
    suspend(None).await.unwrap();
    assert_eq!(
        (house.changes().await, house.audit(&acme).await.len()),
        (changes, log.len()),
        "staying is no change"
    );
}

async fn a_deleted_tenant_is_a_tombstone(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let tenant = by_id(&acme);
    house.control.set_status(&house.owner, &tenant, TenantStatus::Deleted, None).await.unwrap();
    assert_eq!(house.control.tenant(&house.owner, &tenant).await.unwrap().status, TenantStatus::Deleted);
    let list = async |status| {
        let filter = TenantFilter { status, ..TenantFilter::default() };
        house
            .control
            .tenants(&house.owner, &filter, TenantSort::default(), &Page::default())
            .await
            .unwrap()
            .items
            .len()
    };
    assert_eq!((list(None).await, list(Some(TenantStatus::Deleted)).await), (0, 1));
    assert_eq!(house.audit(&acme).await.len(), 2);
    assert_eq!(house.tenant("Acme").await.slug.as_str(), "acme-2");
    let key = house
        .control
        .create_key(&house.owner, &tenant, NewKey { name: "x".to_owned(), ..NewKey::default() })
        .await;
    assert!(matches!(key, Err(ControlError::Conflict(_))));
    let error =
        house.control.set_status(&house.owner, &tenant, TenantStatus::Active, None).await.unwrap_err();
    assert!(matches!(error, ControlError::IllegalMove(_)), "{error:?}");
}

async fn lists_are_filtered_sorted_and_paged(store: TestStore) {
    let house = House::on(store);
    for name in ["Delta", "Alpha", "Charlie", "Bravo_1", "Bravo%2"] {
        house.tenant(name).await;
        house.clock.advance(Duration::from_secs(1));
    }
    let names = async |q: &str, sort: &str| {
        let filter = TenantFilter { q: Some(q.to_owned()), ..TenantFilter::default() };
        let (sort, mut names, mut cursor) = (TenantSort::parse(sort).unwrap(), Vec::new(), None);
        loop {
            let page = Page::new(Some(2), None, cursor.as_deref()).unwrap();
            let listed = house.control.tenants(&house.owner, &filter, sort, &page).await.unwrap();
            assert_eq!(listed.total.is_some(), cursor.is_none(), "the first page counts");
            names.extend(listed.items.into_iter().map(|tenant| tenant.name));
            cursor = listed.next_cursor;
            if cursor.is_none() {
                return names.join(" ");
            }
        }
    };
    assert_eq!(names("", "-created_at").await, "Bravo%2 Bravo_1 Charlie Alpha Delta");
    assert_eq!(names("", "name").await, "Alpha Bravo%2 Bravo_1 Charlie Delta");
    assert_eq!(names("", "-slug").await, "Delta Charlie Bravo%2 Bravo_1 Alpha");
    assert_eq!(names("BRAVO", "name").await, "Bravo%2 Bravo_1");
    assert_eq!(names("%", "name").await, "Bravo%2", "wildcards mean themselves");
    assert_eq!(names("o_1", "name").await, "Bravo_1");
}

async fn another_lists_cursor_is_refused(store: TestStore) {
    let house = House::on(store);
    let (acme, page) = (house.tenant("Acme").await, Page::new(Some(1), None, None).unwrap());
    let change = TenantChange { name: Some("B".to_owned()), ..TenantChange::default() };
    house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    let log =
        house.control.audit_logs(&house.owner, &by_id(&acme), &AuditFilter::default(), &page).await.unwrap();
    let page = Page::new(None, None, log.next_cursor.as_deref()).unwrap();
    let (filter, sort) = (TenantFilter::default(), TenantSort::default());
    let error = house.control.tenants(&house.owner, &filter, sort, &page).await.unwrap_err();
    assert_eq!(fields(&error), ["cursor"]);
    for bad in ["zz", "0", "7b7d", &"00".repeat(2_000)] {
        assert!(Page::new(None, None, Some(bad)).is_err(), "{bad}");
    }
}
