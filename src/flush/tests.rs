use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::{Balanced, Detail, Flush, FlushSettings, recover, settle, take};
use crate::clock::{Clock, TestClock, Timestamp};
use crate::domain::{
    AccountKey, Anchor, ApiKeyId, Enforcement, Limit, Outcome, Owner, Period, RecordedCharge, RequestId,
    TenantId, Units, UsageRecord, Zone,
};
use crate::journal::{Cut, Journal, JournalSettings, SyncPolicy, Writer};
use crate::store::testing::{TestStore, on_both};
use crate::store::{Inserted, Page, Snapshot, Store, StoreError, UsageFilter, UsageRow};
use crate::till::{Charge, Opening, Till, TillSettings, reserve};

const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const KEY: ApiKeyId = ApiKeyId(Uuid::from_u128(2));

on_both! {
    what_was_used_is_in_the_database_once_in_every_table,
    a_range_that_is_sent_twice_counts_once,
    killed_between_any_two_steps_the_books_agree_after_the_next_start,
    a_future_that_is_dropped_anywhere_loses_and_repeats_nothing,
    units_of_requests_that_were_never_sent_are_given_back,
    a_refunded_request_is_a_row_of_no_units,
    a_request_that_is_charged_nothing_is_counted_as_such,
    a_record_that_the_database_refuses_is_parked_and_the_others_go_on,
    what_is_parked_is_a_book_of_its_own,
    a_database_that_is_away_costs_nothing_but_time,
    a_range_that_was_cut_differently_stops_the_flush,
    details_are_kept_where_they_are_asked_for,
    shards_that_are_gone_are_flushed_too,
    other_tills_are_what_the_store_knows_beyond_the_own,
    small_ranges_and_many_segments_come_to_the_same,
    what_has_waited_long_is_caught_up_in_larger_ranges,
    the_lag_is_the_time_since_a_round_began_that_got_everything,
    while_the_cursor_can_not_be_written_the_till_is_told_nothing,
    settling_twice_tells_the_till_the_same,
}

/// A gateway's books: what there is without its network.
struct Books {
    till: Arc<Till>,
    journal: Arc<Journal>,
    writers: Vec<Writer>,
    store: Store,
    clock: TestClock,
    flush: Flush,
    balanced: Balanced,
}

impl Books {
    async fn open(directory: &Path, store: &TestStore) -> Books {
        Books::open_with(directory, store, FlushSettings::default(), 2).await
    }

    async fn open_with(directory: &Path, store: &TestStore, settings: FlushSettings, shards: usize) -> Books {
        let clock = TestClock::at("2026-11-23T06:00:03Z");
        let till = Arc::new(Till::open(directory, &TillSettings { accounts_max: 100 }).unwrap());
        let journal_settings = JournalSettings {
            segment_bytes: 16_384,
            sync: SyncPolicy::Never,
            in_flight_max: 4,
            capacity_bytes: 1 << 24,
            ..JournalSettings::default()
        };
        let opened = Journal::open(directory, &journal_settings, shards, till.id().0, clock.now());
        let (journal, writers) = opened.unwrap();
        let journal = Arc::new(journal);
        let store = store.another().await;
        let balanced = recover(&till, &journal);
        let flush =
            Flush::new(journal.clone(), till.clone(), store.clone(), Arc::new(clock.clone()), settings);
        Books { till, journal, writers, store, clock, flush, balanced }
    }

    /// As `kill -9` does: nothing is closed in an orderly way.
    fn kill(self) {
        drop(self);
    }

    fn account(&self, owner: Owner) -> crate::till::Account {
        let opening = Opening { terms: Limit::Unlimited.into(), base: Units::ZERO };
        self.till.account(&account(owner, &self.clock), opening).unwrap()
    }

    /// A request that is charged one call of the tenant's and one of the key's.
    fn pass(&self, number: u128) {
        self.pass_on("orders", number);
    }

    fn pass_on(&self, route: &str, number: u128) {
        let (tenant, key) = (self.account(Owner::Tenant(TENANT)), self.account(Owner::Key(KEY)));
        let charge = |account| Charge::new(account, Units::ONE, Enforcement::Hard);
        let mut reservation = reserve(&[charge(&tenant), charge(&key)]).unwrap();
        let charges = reservation.charged();
        let record = record(number, route, &charges, self.clock.now());
        let writer = &self.writers[usize::try_from(number).unwrap() % self.writers.len()];
        let ticket = writer.begin(&record).unwrap();
        writer.sent(&ticket);
        reservation.sent();
        writer.finish(ticket, &record);
    }

    async fn drain(&self) {
        assert!(self.flush.drain(Duration::from_secs(60)).await);
    }

    async fn read(&self) -> Snapshot {
        self.store.read().await.unwrap()
    }

    async fn rows(&self) -> Vec<UsageRow> {
        let page = Page::new(Some(1_000), None, None).unwrap();
        let listed = self.read().await.usage_rows(TENANT, &UsageFilter::default(), &page).await;
        listed.unwrap().unwrap().items
    }

    async fn requests(&self) -> u64 {
        self.rows().await.iter().map(|row| row.requests).sum()
    }

    /// Units of the tenant's account: used in the till, journalled in the till, and in the database.
    async fn units(&self) -> (u64, u64, u64) {
        let counters = self.account(Owner::Tenant(TENANT)).counters();
        let accounts = [account(Owner::Tenant(TENANT), &self.clock)];
        let units = self.read().await.account_units(&accounts).await.unwrap();
        (counters.used(), counters.journalled, units[0].get())
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.read().await.scalar(sql).await
    }
}

fn account(owner: Owner, clock: &TestClock) -> AccountKey {
    let window = Period::Month.window(Anchor::Calendar, &Zone::UTC, clock.now());
    AccountKey { owner, resource: "api_calls".parse().unwrap(), window }
}

fn record<'a>(number: u128, route: &'a str, charges: &'a [RecordedCharge], at: Timestamp) -> UsageRecord<'a> {
    UsageRecord {
        request: RequestId(Uuid::from_u128(number)),
        tenant: TENANT,
        key: Some(KEY),
        route,
        charges,
        outcome: Outcome::Answered,
        status: 200,
        bytes_in: 10,
        bytes_out: 100,
        latency_micros: 1_000,
        admitted_at: at,
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn what_was_used_is_in_the_database_once_in_every_table(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..50).for_each(|number| books.pass(number));
    books.clock.advance(Duration::from_secs(10));
    (50..60).for_each(|number| books.pass(number));
    books.drain().await;
    books.drain().await;
    assert_eq!(books.units().await, (60, 60, 60));
    assert_eq!(books.requests().await, 60, "a request that two accounts were charged for is one");
    let newest = books.rows().await.remove(0);
    assert_eq!(newest.usage_date, Timestamp::parse("2026-11-23T06:00:10Z").unwrap());
    assert_eq!((newest.key, newest.route.as_str(), newest.outcome), (Some(KEY), "orders", Outcome::Answered));
    for sums in [
        "SELECT CAST(SUM(units) AS BIGINT) FROM usage_rollups WHERE period = 'minute'",
        "SELECT CAST(SUM(requests) AS BIGINT) FROM usage_rollups WHERE period = 'hour'",
        "SELECT units FROM usage_rollups WHERE period = 'month'",
        "SELECT CAST(SUM(units) AS BIGINT) FROM current_usage WHERE owner_kind = 'key'",
        "SELECT CAST(SUM(records) AS BIGINT) FROM usage_batches",
        "SELECT CAST(SUM(bytes_out) / 100 AS BIGINT) FROM usage_rollups WHERE period = 'day'",
    ] {
        assert_eq!(books.count(sums).await, 60, "{sums}");
    }
    assert_eq!((books.flush.records(), books.flush.failures()), (60, 0));
}

async fn a_range_that_is_sent_twice_counts_once(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..10).for_each(|number| books.pass(number));
    let taken = take(&books.journal, &FlushSettings::default()).unwrap().unwrap();
    let batch = books.flush.batch(&taken.cut, &taken.fold);
    assert_eq!(books.store.insert_usage(&batch).await.unwrap(), Inserted::Now);
    assert_eq!(books.store.insert_usage(&batch).await.unwrap(), Inserted::Before);
    books.drain().await;
    assert_eq!(books.units().await, (10, 10, 10));
    assert_eq!(books.requests().await, 10);
}

/// The steps of a flush, each followed by a kill.
async fn killed_between_any_two_steps_the_books_agree_after_the_next_start(store: TestStore) {
    for steps in 0..4 {
        let directory = directory();
        let books = Books::open(directory.path(), &store).await;
        (0..10).for_each(|number| books.pass(number));
        if steps > 0 {
            let taken = take(&books.journal, &FlushSettings::default()).unwrap().unwrap();
            if steps > 1 {
                books.store.insert_usage(&books.flush.batch(&taken.cut, &taken.fold)).await.unwrap();
            }
            if steps > 2 {
                let journalled = taken.fold.journalled(&books.till);
                books.journal.finish_cut(taken.cut, journalled).unwrap();
            }
        }
        (10..15).for_each(|number| books.pass(number));
        books.kill();
        let books = Books::open(directory.path(), &store).await;
        assert_eq!(books.balanced, Balanced::default(), "killed after step {steps}");
        books.drain().await;
        // Each step's gateway adds to the same database.
        let all = 15 * (steps + 1);
        assert_eq!(books.units().await, (15, 15, all), "killed after step {steps}");
        assert_eq!(books.requests().await, all, "killed after step {steps}");
    }
}

async fn a_future_that_is_dropped_anywhere_loses_and_repeats_nothing(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    for number in 0..40 {
        books.pass(number);
        // Dropped at its first wait, its second, and so on, wherever that is.
        let mut flushing = Box::pin(books.flush.flush_next());
        for _ in 0..number % 20 {
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            if flushing.as_mut().poll(&mut context).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
        drop(flushing);
    }
    books.drain().await;
    assert_eq!(books.units().await, (40, 40, 40));
    assert_eq!(books.requests().await, 40);
}

async fn units_of_requests_that_were_never_sent_are_given_back(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..3).for_each(|number| books.pass(number));
    books.drain().await;
    books.pass(3);
    let account = books.account(Owner::Tenant(TENANT));
    let charge = Charge::new(&account, Units::saturating(5), Enforcement::Hard);
    for number in 10..12 {
        let mut reservation = reserve(&[charge]).unwrap();
        let charges = reservation.charged();
        let ticket = books.writers[0].begin(&record(number, "orders", &charges, books.clock.now())).unwrap();
        if number == 11 {
            books.writers[0].sent(&ticket);
        }
        // Keeps the units when it is dropped, as a process does that is killed.
        reservation.sent();
    }
    drop(account);
    books.kill();
    let books = Books::open(directory.path(), &store).await;
    assert_eq!(books.balanced, Balanced { accounts: 1, units: 5, overdrawn: 0 });
    assert_eq!(books.journal.recovery().crashed, 1);
    books.drain().await;
    assert_eq!(books.units().await, (9, 9, 9), "four requests, and one that crashed on its way");
    let crashed = books.rows().await.into_iter().filter(|row| row.outcome == Outcome::Crashed);
    assert_eq!(crashed.map(|row| (row.requests, row.usage_amount.get())).collect::<Vec<_>>(), [(1, 5)]);
}

async fn a_refunded_request_is_a_row_of_no_units(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    let account = books.account(Owner::Tenant(TENANT));
    let charge = Charge::new(&account, Units::ONE, Enforcement::Hard);
    let mut reservation = reserve(&[charge]).unwrap();
    let charges = reservation.charged();
    let ticket = books.writers[0].begin(&record(1, "orders", &charges, books.clock.now())).unwrap();
    books.writers[0].sent(&ticket);
    reservation.sent();
    books.writers[0].refunding(&ticket);
    reservation.refund();
    let charges = reservation.charged();
    books.writers[0].finish(ticket, &record(1, "orders", &charges, books.clock.now()));
    books.drain().await;
    let row = books.rows().await.remove(0);
    assert_eq!((row.requests, row.usage_amount), (1, Units::ZERO));
    assert_eq!(books.units().await, (0, 0, 0));
}

async fn a_request_that_is_charged_nothing_is_counted_as_such(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    let uncharged = record(1, "open", &[], books.clock.now());
    let ticket = books.writers[0].begin(&uncharged).unwrap();
    books.writers[0].sent(&ticket);
    books.writers[0].finish(ticket, &uncharged);
    books.drain().await;
    let row = books.rows().await.remove(0);
    assert_eq!((row.resource.as_str(), row.requests), (UsageRow::UNCHARGED, 1));
}

async fn a_record_that_the_database_refuses_is_parked_and_the_others_go_on(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    store
        .raw(if store.is_postgres() {
            "ALTER TABLE tenant_usage_logs ADD CONSTRAINT no_poison CHECK (route <> 'poison')"
        } else {
            "CREATE TRIGGER refuse BEFORE INSERT ON tenant_usage_logs WHEN NEW.route = 'poison'
             BEGIN SELECT RAISE(ABORT, 'poison'); END"
        })
        .await;
    (0..20).for_each(|number| books.pass_on(if number % 7 == 3 { "poison" } else { "orders" }, number));
    books.drain().await;
    assert_eq!(books.requests().await, 17);
    assert_eq!(books.flush.quarantined(), 3);
    assert_eq!(books.count("SELECT COUNT(*) FROM usage_quarantine").await, 3);
    let parked = r#"SELECT COUNT(*) FROM usage_quarantine
                    WHERE record LIKE '%"route":"poison"%' AND reason LIKE '%poison%'"#;
    assert_eq!(books.count(parked).await, 3);
    assert_eq!(books.units().await, (20, 20, 17), "nothing will bring the parked ones again");
    books.kill();
    assert_eq!(Books::open(directory.path(), &store).await.balanced, Balanced::default());
}

async fn what_is_parked_is_a_book_of_its_own(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..3).for_each(|number| books.pass(number));
    let taken = take(&books.journal, &FlushSettings::default()).unwrap().unwrap();
    let mut fold =
        super::Fold::of(&books.journal, &taken.cut, Detail::Aggregate, |ordinal| ordinal != 0).unwrap();
    fold.park(&books.journal, &taken.cut, &[0], "refused").unwrap();
    books.store.insert_usage(&books.flush.batch(&taken.cut, &fold)).await.unwrap();
    let mut snapshot = books.read().await;
    let mut parked = snapshot.quarantined_units(books.till.id().0).await.unwrap();
    parked.sort();
    let accounts = [account(Owner::Tenant(TENANT), &books.clock), account(Owner::Key(KEY), &books.clock)];
    assert_eq!(parked, accounts.map(|account| (account, Units::ONE)));
    assert_eq!(snapshot.quarantined_units(Uuid::from_u128(9)).await.unwrap(), []);
}

async fn a_database_that_is_away_costs_nothing_but_time(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..10).for_each(|number| books.pass(number));
    store.raw("ALTER TABLE tenant_usage_logs RENAME TO away").await;
    assert!(!books.flush.drain(Duration::from_millis(200)).await);
    assert!(books.flush.failures() > 0 && !books.flush.has_stopped());
    assert_eq!(books.flush.quarantined(), 0, "that a table is not there is no record's fault");
    store.raw("ALTER TABLE away RENAME TO tenant_usage_logs").await;
    books.drain().await;
    assert_eq!(books.units().await, (10, 10, 10));
}

async fn a_range_that_was_cut_differently_stops_the_flush(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..10).for_each(|number| books.pass(number));
    let whole = books.journal.next_cut(u32::MAX).unwrap();
    let shorter = Cut { to: whole.from + (whole.to - whole.from) / 5, ..whole };
    let fold = super::Fold::of(&books.journal, &shorter, Detail::Aggregate, |_| true).unwrap();
    books.store.insert_usage(&books.flush.batch(&shorter, &fold)).await.unwrap();
    books.journal.begin_cut(whole).unwrap();
    assert!(matches!(
        books.flush.flush_next().await,
        Err(super::FlushError::Store(StoreError::RangeDiffers { .. }))
    ));
    assert!(!books.flush.drain(Duration::from_secs(60)).await);
    assert!(books.flush.has_stopped());
    assert_eq!(books.journal.unfinished_cut(), Some(whole), "the journal keeps everything");
}

async fn details_are_kept_where_they_are_asked_for(store: TestStore) {
    let directory = directory();
    let settings = FlushSettings { detail: Detail::Request, ..FlushSettings::default() };
    let books = Books::open_with(directory.path(), &store, settings, 1).await;
    (0..5).for_each(|number| books.pass(number));
    books.drain().await;
    let rows = books.rows().await;
    assert_eq!((rows.len(), rows[0].usage_date), (5, books.clock.now()));
    assert_eq!(
        books.count("SELECT CAST(SUM(requests) AS BIGINT) FROM usage_rollups WHERE period = 'day'").await,
        5
    );
}

async fn shards_that_are_gone_are_flushed_too(store: TestStore) {
    let directory = directory();
    let books = Books::open_with(directory.path(), &store, FlushSettings::default(), 3).await;
    (0..9).for_each(|number| books.pass(number));
    books.kill();
    let books = Books::open_with(directory.path(), &store, FlushSettings::default(), 1).await;
    books.drain().await;
    assert_eq!(books.units().await, (9, 9, 9));
    assert_eq!(books.requests().await, 9);
}

async fn other_tills_are_what_the_store_knows_beyond_the_own(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    (0..4).for_each(|number| books.pass(number));
    books.drain().await;
    let accounts = [account(Owner::Tenant(TENANT), &books.clock), account(Owner::Key(KEY), &books.clock)];
    let mut snapshot = books.read().await;
    let own = books.till.id().0;
    let others = snapshot.other_tills_units(&accounts, own).await.unwrap();
    assert_eq!(others, [Units::ZERO; 2]);
    let others = snapshot.other_tills_units(&accounts, Uuid::from_u128(9)).await.unwrap();
    assert_eq!(others, [Units::saturating(4); 2]);
    let mut till: Vec<_> = snapshot.till_units(own).await.unwrap();
    till.sort();
    assert_eq!(till, accounts.map(|account| (account, Units::saturating(4))));
}

async fn small_ranges_and_many_segments_come_to_the_same(store: TestStore) {
    let directory = directory();
    let settings = FlushSettings { batch_bytes: 1_000, catch_up_bytes: 1_000, ..FlushSettings::default() };
    let books = Books::open_with(directory.path(), &store, settings, 2).await;
    for number in 0..500 {
        books.pass(number);
        books.journal.prepare().unwrap();
    }
    books.flush.round().await.unwrap();
    assert_eq!(books.journal.depth().pending_bytes, 0);
    assert_eq!(books.units().await, (500, 500, 500));
    assert!(books.flush.batches() > 50, "{}", books.flush.batches());
}

async fn what_has_waited_long_is_caught_up_in_larger_ranges(store: TestStore) {
    let directory = directory();
    let settings = FlushSettings { batch_bytes: 1_000, catch_up_bytes: 8_000, ..FlushSettings::default() };
    let books = Books::open_with(directory.path(), &store, settings, 2).await;
    for number in 0..500 {
        books.pass(number);
        books.journal.prepare().unwrap();
    }
    books.drain().await;
    assert_eq!(books.units().await, (500, 500, 500));
    // 80 KB in ranges of 8,000 bytes, and what is left at the end in smaller ones.
    assert!((10..40).contains(&books.flush.batches()), "{}", books.flush.batches());
    assert_eq!(settings.range_bytes(900, 1), 1_000);
    let detailed = FlushSettings { detail: Detail::Request, ..settings };
    assert_eq!(detailed.range_bytes(1 << 30, 1), 1_000, "rows of their own are as many in any range");
}

#[test]
fn who_has_much_to_write_comes_less_often_but_not_too_late() {
    let settings = FlushSettings { interval: Duration::from_secs(1), ..FlushSettings::default() };
    let pauses = [10, 111, 200, 5_000].map(|took| settings.pause(Duration::from_millis(took)).as_millis());
    assert_eq!(pauses, [1_000, 1_000, 1_800, 10_000]);
    let detailed = FlushSettings { detail: Detail::Request, ..settings };
    assert_eq!(
        detailed.pause(Duration::from_secs(5)),
        settings.interval,
        "it has as many rows to write later"
    );
}

async fn the_lag_is_the_time_since_a_round_began_that_got_everything(store: TestStore) {
    let directory = directory();
    let books = Books::open(directory.path(), &store).await;
    books.clock.advance(Duration::from_secs(5));
    assert_eq!(books.flush.lag(), Duration::from_secs(5));
    books.pass(1);
    books.flush.round().await.unwrap();
    assert_eq!(books.flush.lag(), Duration::ZERO);
}

async fn while_the_cursor_can_not_be_written_the_till_is_told_nothing(store: TestStore) {
    let directory = directory();
    let books = Books::open_with(directory.path(), &store, FlushSettings::default(), 1).await;
    (0..3).for_each(|number| books.pass(number));
    let cut = books.journal.next_cut(u32::MAX).unwrap();
    books.journal.begin_cut(cut).unwrap();
    let journal = directory.path().join("journal").join(books.journal.id().0.to_string());
    let obstacle = journal.join("cursor.unfinished");
    std::fs::create_dir(&obstacle).unwrap();
    assert!(books.flush.flush_next().await.is_err());
    assert_eq!(books.units().await, (3, 0, 3), "the database has them, and the till will be told once");
    std::fs::remove_dir(&obstacle).unwrap();
    books.drain().await;
    assert_eq!(books.units().await, (3, 3, 3));
}

async fn settling_twice_tells_the_till_the_same(store: TestStore) {
    let directory = directory();
    let books = Books::open_with(directory.path(), &store, FlushSettings::default(), 1).await;
    (0..3).for_each(|number| books.pass(number));
    let taken = take(&books.journal, &FlushSettings::default()).unwrap().unwrap();
    books.store.insert_usage(&books.flush.batch(&taken.cut, &taken.fold)).await.unwrap();
    settle(&books.journal, &books.till, taken.cut, &taken.fold).unwrap();
    books.kill();
    let books = Books::open(directory.path(), &store).await;
    assert_eq!(books.units().await, (3, 3, 3));
    books.drain().await;
    assert_eq!(books.units().await, (3, 3, 3));
}

#[tokio::test]
async fn backends_that_are_terminated_at_any_moment_lose_and_repeat_nothing() {
    let store = TestStore::postgres().await;
    let directory = directory();
    // A few records in each batch, so that there are many commits to fall into.
    let settings = FlushSettings { batch_bytes: 256, catch_up_bytes: 256, ..FlushSettings::default() };
    let books = Books::open_with(directory.path(), &store, settings, 2).await;
    (0..40).for_each(|number| books.pass(number));
    let terminate = async {
        let at_work = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'tollgate flush' AND state <> 'idle'";
        loop {
            let failures = books.flush.failures();
            while books.flush.failures() == failures {
                store.raw(at_work).await;
            }
            // Then one batch gets through, or it would never end.
            let batches = books.flush.batches();
            while books.flush.batches() == batches {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        () = books.drain() => {}
        () = terminate => {}
    }
    assert!(books.flush.failures() > 3, "no terminations fell into a flush");
    assert_eq!(books.units().await, (40, 40, 40));
    assert_eq!(books.requests().await, 40);
    assert_eq!(books.count("SELECT CAST(SUM(records) AS BIGINT) FROM usage_batches").await, 40);
}

#[tokio::test]
async fn a_lock_that_somebody_holds_delays_the_flush_and_no_longer_than_its_limit() {
    let store = TestStore::postgres().await;
    let directory = directory();
    let mut books = Books::open(directory.path(), &store).await;
    let hasty = store.with(|settings| settings.lock_timeout = Duration::from_millis(20)).await;
    let clock = Arc::new(books.clock.clone());
    let settings = FlushSettings::default();
    books.flush = Flush::new(books.journal.clone(), books.till.clone(), hasty, clock, settings);
    (0..5).for_each(|number| books.pass(number));
    let holder = store.under_way("LOCK TABLE account_units IN EXCLUSIVE MODE").await;
    let gives_up = async {
        while books.flush.failures() < 2 {
            tokio::task::yield_now().await;
        }
        holder.rollback().await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = books.drain() => {}
        () = gives_up => {}
    }
    assert!(books.flush.failures() >= 2 && !books.flush.has_stopped());
    assert_eq!(books.units().await, (5, 5, 5));
}

#[tokio::test]
async fn commits_whose_answers_are_swallowed_count_once() {
    let store = TestStore::postgres().await;
    let directory = directory();
    let settings = FlushSettings { batch_bytes: 256, catch_up_bytes: 256, ..FlushSettings::default() };
    let mut books = Books::open_with(directory.path(), &store, settings, 2).await;
    let line = store.behind_a_line_that_swallows_commits().await;
    let clock = Arc::new(books.clock.clone());
    books.flush = Flush::new(books.journal.clone(), books.till.clone(), line, clock, settings);
    (0..20).for_each(|number| books.pass(number));
    books.drain().await;
    assert!(books.flush.failures() > 3, "no answers were swallowed");
    assert_eq!(books.units().await, (20, 20, 20));
    assert_eq!(books.requests().await, 20);
}
