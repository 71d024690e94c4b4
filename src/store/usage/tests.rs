use std::time::Duration;

use uuid::Uuid;

use super::testing::{TENANT, batch, log, resource, start};
use super::{Fault, UsageBatch, UsageFilter, UsageLog, UsageRow};
use crate::domain::{ApiKeyId, TenantId};
use crate::store::testing::{TestStore, on_both};
use crate::store::{BadPage, Inserted, Listed, Page, Store, StoreError};

on_both! {
    pages_follow_each_other_from_the_newest_row_to_the_oldest,
    each_filter_leaves_its_own_rows,
    the_cursor_of_another_list_is_refused,
    a_range_counts_once_and_is_known_by_its_end_and_contents,
    trying_a_batch_changes_nothing,
    more_rows_than_a_statement_holds_are_one_batch,
    old_ranges_are_forgotten_and_their_usage_is_kept,
}

async fn rows(store: &Store, filter: &UsageFilter, page: &Page) -> Listed<UsageRow> {
    store.read().await.unwrap().usage_rows(TENANT, filter, page).await.unwrap().unwrap()
}

fn units(rows: &Listed<UsageRow>) -> Vec<u64> {
    rows.items.iter().map(|row| row.usage_amount.get()).collect()
}

async fn pages_follow_each_other_from_the_newest_row_to_the_oldest(store: TestStore) {
    let mut foreign = log(3);
    foreign.tenant = TenantId(Uuid::from_u128(9));
    foreign.id = Uuid::from_u128(9);
    let logs = (0..10).map(log).chain([foreign]).collect();
    store.insert_usage(&batch(128, 256, logs)).await.unwrap();
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = Page::new(Some(3), None, cursor.as_deref()).unwrap();
        let listed = rows(&store, &UsageFilter::default(), &page).await;
        found.extend(units(&listed));
        cursor = listed.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let skipped = rows(&store, &UsageFilter::default(), &Page::new(Some(2), Some(4), None).unwrap()).await;
    assert_eq!(units(&skipped), [5, 4]);
}

async fn each_filter_leaves_its_own_rows(store: TestStore) {
    store.insert_usage(&batch(128, 256, (0..10).map(log).collect())).await.unwrap();
    let none = UsageFilter::default;
    for (filter, expected) in [
        (UsageFilter { resource: Some(resource("bytes")), ..none() }, vec![9, 6, 3, 0]),
        (UsageFilter { key: Some(ApiKeyId(Uuid::from_u128(2))), ..none() }, vec![8, 6, 4, 2, 0]),
        (UsageFilter { route: Some("search".to_owned()), ..none() }, vec![9, 8, 7, 6, 5]),
        (UsageFilter { from: Some(log(6).date), ..none() }, vec![9, 8, 7, 6]),
        (UsageFilter { to: Some(log(2).date), ..none() }, vec![1, 0]),
        (UsageFilter { from: Some(log(2).date), to: Some(log(4).date), ..none() }, vec![3, 2]),
    ] {
        assert_eq!(units(&rows(&store, &filter, &Page::default()).await), expected, "{filter:?}");
    }
}

async fn the_cursor_of_another_list_is_refused(store: TestStore) {
    let cursor = crate::store::Cursor { after: "5".to_owned(), id: String::new() }.to_string();
    let page = Page::new(None, None, Some(&cursor)).unwrap();
    let listed = store.read().await.unwrap().usage_rows(TENANT, &UsageFilter::default(), &page).await;
    assert_eq!(listed.unwrap(), Err(BadPage::Cursor));
}

async fn a_range_counts_once_and_is_known_by_its_end_and_contents(store: TestStore) {
    let first = batch(128, 256, vec![log(1)]);
    assert_eq!(store.insert_usage(&first).await.unwrap(), Inserted::Now);
    assert_eq!(store.insert_usage(&first).await.unwrap(), Inserted::Before);
    let longer = batch(128, 512, vec![log(1), log(2)]);
    assert!(matches!(store.insert_usage(&longer).await, Err(StoreError::RangeDiffers { .. })));
    let other = UsageBatch { checksum: 6, ..first };
    assert!(matches!(store.insert_usage(&other).await, Err(StoreError::RangeDiffers { .. })));
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [1]);
}

async fn trying_a_batch_changes_nothing(store: TestStore) {
    store.try_usage(&batch(128, 256, vec![log(1)])).await.unwrap();
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [0_u64; 0]);
    assert_eq!(store.insert_usage(&batch(128, 256, vec![log(1)])).await.unwrap(), Inserted::Now);
}

async fn more_rows_than_a_statement_holds_are_one_batch(store: TestStore) {
    store.insert_usage(&batch(128, 256, (0..4_100).map(log).collect())).await.unwrap();
    let newest = rows(&store, &UsageFilter::default(), &Page::default()).await;
    assert_eq!(newest.items[0].usage_amount.get(), 4_099);
}

async fn old_ranges_are_forgotten_and_their_usage_is_kept(store: TestStore) {
    store.insert_usage(&batch(128, 256, vec![log(1)])).await.unwrap();
    assert_eq!(store.forget_batches(start()).await.unwrap(), 0);
    assert_eq!(store.forget_batches(start().plus(Duration::from_secs(1))).await.unwrap(), 1);
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [1]);
}

#[tokio::test]
async fn text_that_postgres_cant_hold_is_no_reason_to_stop() {
    let store = TestStore::postgres().await;
    let poison = UsageLog { route: "a\0b".to_owned(), ..log(1) };
    let error = store.insert_usage(&batch(128, 256, vec![poison])).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Poison, "{error:?}");
}

#[test]
fn what_passes_is_tried_again_and_what_needs_people_waits_for_them() {
    for (states, fault) in [
        (["08006", "40001", "40P01", "53300", "57P01", "55P03", "25006", "XX000"].as_slice(), Fault::Again),
        (&["22003", "22021", "23502", "23514"], Fault::Poison),
        (&["42501", "42P01", "0A000", "28P01", "3D000", "P0001"], Fault::Broken),
    ] {
        for state in states {
            assert_eq!(Fault::of_postgres(state), fault, "{state}");
        }
    }
}
