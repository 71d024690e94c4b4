//! Events and gauges, on both databases.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::billing::BillingPeriod;
use crate::domain::{AccountKey, Anchor, Owner, Period, TenantId, Zone};
use crate::store::testing::{TestStore, on_both, tenant};
use crate::store::{Page, UsageEvent};

on_both! {
    an_events_name_is_taken_once_and_may_be_forgotten,
    a_gauge_holds_what_was_added_and_never_less_than_nothing,
    what_a_gauge_held_is_known_ever_after_in_the_order_of_its_changes,
}

fn at() -> Timestamp {
    Timestamp::parse("2026-11-23T06:00:00Z").unwrap()
}

fn event(tenant: TenantId, name: &str, amount: i64) -> UsageEvent {
    UsageEvent {
        tenant,
        event: name.to_owned(),
        request: Uuid::now_v7(),
        resource: "api_calls".parse().unwrap(),
        amount,
        description: Some("nightly import".to_owned()),
        answer: json!({ "used": 1 }),
        at: at(),
    }
}

async fn some_tenant(store: &TestStore) -> TenantId {
    let tenant = tenant("acme");
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&tenant, 30).await.unwrap();
    tx.commit().await.unwrap();
    tenant.id
}

async fn an_events_name_is_taken_once_and_may_be_forgotten(store: TestStore) {
    let tenant = some_tenant(&store).await;
    let first = event(tenant, "a", 1);
    for (event, is_new) in [(&first, true), (&event(tenant, "a", 2), false)] {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.insert_usage_event(event).await.unwrap(), is_new);
        tx.commit().await.unwrap();
    }
    let there = async || store.read().await.unwrap().usage_events(tenant, &["a", "b"]).await.unwrap();
    assert_eq!(there().await, [first]);
    assert_eq!(store.forget_usage_events(at()).await.unwrap(), 0);
    assert_eq!(store.forget_usage_events(at().plus(Duration::from_secs(1))).await.unwrap(), 1);
    assert_eq!(there().await, []);
}

async fn a_gauge_holds_what_was_added_and_never_less_than_nothing(store: TestStore) {
    let tenant = some_tenant(&store).await;
    let window = Period::Forever.window(Anchor::Calendar, &Zone::UTC, at());
    let account = AccountKey { owner: Owner::Tenant(tenant), resource: "users".parse().unwrap(), window };
    for (amount, held) in [(5, 5), (-3, 2), (1, 3)] {
        let mut tx = store.begin().await.unwrap();
        tx.add_held_units(&account, amount, at()).await.unwrap();
        tx.commit().await.unwrap();
        let units = store.read().await.unwrap().account_units(&[account]).await.unwrap();
        assert_eq!(units[0].get(), held);
    }
    let mut tx = store.begin().await.unwrap();
    assert!(tx.add_held_units(&account, -4, at()).await.is_err());
}

async fn what_a_gauge_held_is_known_ever_after_in_the_order_of_its_changes(store: TestStore) {
    let tenant = some_tenant(&store).await;
    let window = Period::Forever.window(Anchor::Calendar, &Zone::UTC, at());
    let resource = "users".parse().unwrap();
    let account = AccountKey { owner: Owner::Tenant(tenant), resource, window };
    let second = |seconds| at().plus(Duration::from_secs(seconds));
    // The clock of the third gateway is late.
    for (amount, seconds) in [(5, 10), (3, 20), (-6, 15), (1, 30)] {
        let mut tx = store.begin().await.unwrap();
        tx.add_held_units(&account, amount, second(seconds)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = store.begin().await.unwrap();
    tx.add_held_units(&account, 100, second(40)).await.unwrap();
    drop(tx);
    let levels = async |from, to, limit| {
        let page = Page::new(Some(limit), None, None).unwrap();
        let period = BillingPeriod { start: second(from), end: second(to) };
        let mut snapshot = store.read().await.unwrap();
        let first = snapshot.levels(tenant, resource, period, &page).await.unwrap().unwrap();
        let mut items = first.items;
        if let Some(cursor) = first.next_cursor {
            let page = Page::new(None, None, Some(&cursor)).unwrap();
            items.extend(snapshot.levels(tenant, resource, period, &page).await.unwrap().unwrap().items);
        }
        items.iter().map(|level| (level.since, level.units.get())).collect::<Vec<_>>()
    };
    let all = [(second(10), 5), (second(20), 2), (second(30), 3)];
    for limit in [1, 10] {
        assert_eq!(
            levels(0, 100, limit).await,
            all,
            "what was taken back, or held for no time, is in no level"
        );
        assert_eq!(levels(12, 30, limit).await, all[..2], "it begins with what was held already");
    }
    assert_eq!(levels(0, 10, 10).await, []);
}
