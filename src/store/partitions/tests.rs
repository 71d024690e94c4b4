use std::time::Duration;

use super::Partitions;
use crate::store::testing::{TestStore, at};
use crate::store::usage::testing::{batch, log_of, start};
use crate::store::{Page, UsageFilter};

const DAY: Duration = Duration::from_secs(86_400);

async fn partitions(store: &TestStore) -> i64 {
    let leaves = "SELECT COUNT(*) FROM pg_partition_tree('tenant_usage_logs') WHERE isleaf";
    store.read().await.unwrap().scalar(leaves).await
}

#[tokio::test]
async fn months_are_made_ahead_once() {
    let store = TestStore::postgres().await;
    let (now, before) = (at("2031-05-31T23:00:00Z"), partitions(&store).await);
    let kept = store.keep_partitions(now).await.unwrap();
    assert_eq!(kept.made, 16, "four classes, from the month before to two months ahead");
    assert_eq!(partitions(&store).await, before + 16);
    assert_eq!(store.keep_partitions(now).await.unwrap(), Partitions::default());
}

#[tokio::test]
async fn two_gateways_make_them_beside_each_other() {
    let store = TestStore::postgres().await;
    let (other, now) = (store.another().await, at("2031-05-31T23:00:00Z"));
    let (one, other) = tokio::join!(store.keep_partitions(now), other.keep_partitions(now));
    assert_eq!(one.unwrap().made + other.unwrap().made, 16);
}

#[tokio::test]
async fn a_month_is_dropped_when_its_last_row_is_older_than_its_class_keeps_it() {
    let store = TestStore::postgres().await;
    // Long gone by the server's clock: what is dropped is up to the time that is asked for.
    store.keep_partitions(at("2020-02-15T00:00:00Z")).await.unwrap();
    let (before, moment) = (partitions(&store).await, |text| store.keep_partitions(at(text)));
    let dropped_at = async |text| moment(text).await.unwrap().dropped;
    // January to April 2020 are there. January's last row of the class of 30 days is too old from 1 March at 24:00 on.
    assert_eq!(dropped_at("2020-03-01T23:59:59Z").await, 0);
    assert_eq!(dropped_at("2020-03-02T00:00:00Z").await, 1);
    assert_eq!(
        dropped_at("2020-05-02T00:00:00Z").await,
        1 + 1 + 1,
        "February and March of 30 days, January of 90"
    );
    assert!(partitions(&store).await > before - 4);
}

#[tokio::test]
async fn nothing_is_dropped_that_is_young_by_the_servers_clock() {
    let store = TestStore::postgres().await;
    store
        .insert_usage(&batch(0, 1, vec![log_of(crate::domain::TenantId(uuid::Uuid::nil()), 1)]))
        .await
        .unwrap();
    let before = partitions(&store).await;
    assert_eq!(store.keep_partitions(at("2099-01-01T00:00:00Z")).await.unwrap().dropped, 0);
    assert_eq!(partitions(&store).await, before + 16);
}

#[tokio::test]
async fn rows_of_a_month_without_a_partition_are_kept_and_reported() {
    let store = TestStore::postgres().await;
    let tenant = crate::domain::TenantId(uuid::Uuid::from_u128(7));
    let mut early = log_of(tenant, 1);
    early.date = start().plus(DAY * 1_000);
    store.insert_usage(&batch(0, 1, vec![early.clone()])).await.unwrap();
    let kept = store.keep_partitions(early.date).await.unwrap();
    assert_eq!((kept.made, kept.stray_rows), (15, 1), "the row's own month can't be made");
    let listed =
        store.read().await.unwrap().usage_rows(tenant, &UsageFilter::default(), &Page::default()).await;
    assert_eq!(listed.unwrap().unwrap().items.len(), 1);
}
