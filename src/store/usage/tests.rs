use std::time::Duration;

use uuid::Uuid;

use super::{JournalRange, UsageBatch, UsageFilter, UsageLog, UsageRow, UsageSums};
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, Outcome, Resource, TenantId};
use crate::store::{BadPage, Inserted, Listed, Page, Store, StoreError};

const TENANT: TenantId = TenantId(Uuid::from_u128(1));

async fn store(directory: &tempfile::TempDir) -> Store {
    let url = format!("sqlite:{}", directory.path().join("test.db").display()).parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn start() -> Timestamp {
    Timestamp::parse("2026-11-23T06:00:00Z").unwrap()
}

fn log(number: u64) -> UsageLog {
    UsageLog {
        id: Uuid::from_u128(1_000 + u128::from(number)),
        tenant: TENANT,
        // Two rows each have the same date, so that a page may end between them.
        date: start().plus(Duration::from_secs(number / 2 * 10)),
        resource: if number.is_multiple_of(3) { resource("bytes") } else { resource("api_calls") },
        key: number.is_multiple_of(2).then_some(ApiKeyId(Uuid::from_u128(2))),
        route: if number < 5 { "orders".to_owned() } else { "search".to_owned() },
        outcome: Outcome::Answered,
        sums: UsageSums { units: number, requests: 1, ..UsageSums::default() },
    }
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

fn batch(from: u32, to: u32, logs: Vec<UsageLog>) -> UsageBatch {
    UsageBatch {
        id: Uuid::from_u128(u128::from(from)),
        range: JournalRange { journal: Uuid::from_u128(3), shard: 0, sequence: 1, from, to },
        till: Uuid::from_u128(4),
        records: logs.len() as u64,
        units: 0,
        checksum: 5,
        at: start(),
        logs,
        rollups: Vec::new(),
        accounts: Vec::new(),
        parked: Vec::new(),
    }
}

async fn rows(store: &Store, filter: &UsageFilter, page: &Page) -> Listed<UsageRow> {
    store.read().await.unwrap().usage_rows(TENANT, filter, page).await.unwrap().unwrap()
}

fn units(rows: &Listed<UsageRow>) -> Vec<u64> {
    rows.items.iter().map(|row| row.usage_amount.get()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_from_the_newest_row_to_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
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

#[tokio::test]
async fn each_filter_leaves_its_own_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
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

#[tokio::test]
async fn the_cursor_of_another_list_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let cursor = crate::store::Cursor { after: "5".to_owned(), id: String::new() }.to_string();
    let page = Page::new(None, None, Some(&cursor)).unwrap();
    let listed = store.read().await.unwrap().usage_rows(TENANT, &UsageFilter::default(), &page).await;
    assert_eq!(listed.unwrap(), Err(BadPage::Cursor));
}

#[tokio::test]
async fn a_range_counts_once_and_is_known_by_its_end_and_contents() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let first = batch(128, 256, vec![log(1)]);
    assert_eq!(store.insert_usage(&first).await.unwrap(), Inserted::Now);
    assert_eq!(store.insert_usage(&first).await.unwrap(), Inserted::Before);
    let longer = batch(128, 512, vec![log(1), log(2)]);
    assert!(matches!(store.insert_usage(&longer).await, Err(StoreError::RangeDiffers { .. })));
    let other = UsageBatch { checksum: 6, ..first };
    assert!(matches!(store.insert_usage(&other).await, Err(StoreError::RangeDiffers { .. })));
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [1]);
}

#[tokio::test]
async fn trying_a_batch_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    store.try_usage(&batch(128, 256, vec![log(1)])).await.unwrap();
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [0_u64; 0]);
    assert_eq!(store.insert_usage(&batch(128, 256, vec![log(1)])).await.unwrap(), Inserted::Now);
}

#[tokio::test]
async fn more_rows_than_a_statement_holds_are_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    store.insert_usage(&batch(128, 256, (0..4_100).map(log).collect())).await.unwrap();
    let newest = rows(&store, &UsageFilter::default(), &Page::default()).await;
    assert_eq!(newest.items[0].usage_amount.get(), 4_099);
}

#[tokio::test]
async fn old_ranges_are_forgotten_and_their_usage_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    store.insert_usage(&batch(128, 256, vec![log(1)])).await.unwrap();
    assert_eq!(store.forget_batches(start()).await.unwrap(), 0);
    assert_eq!(store.forget_batches(start().plus(Duration::from_secs(1))).await.unwrap(), 1);
    assert_eq!(units(&rows(&store, &UsageFilter::default(), &Page::default()).await), [1]);
}

/// Doors for the tests of the rooms above, which speak no SQL themselves.
impl Store {
    pub(crate) async fn raw(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.writer).await.unwrap();
    }
}

impl crate::store::Snapshot {
    pub(crate) async fn scalar(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.connection()).await.unwrap()
    }
}
