use super::{MIGRATIONS, Migration};
use crate::store::StoreError;
use crate::store::sql::{Dialect, query};
use crate::store::testing::{TestStore, on_both, open};

on_both! {
    migrating_again_changes_nothing,
    a_migration_that_fails_leaves_nothing_behind,
    a_migration_whose_text_was_edited_is_refused,
    a_database_of_a_newer_program_is_refused,
    a_database_that_was_migrated_is_ready_to_serve,
}

/// A step that no database takes, after those that it has.
fn broken() -> &'static [Migration] {
    let sql = "CREATE TABLE kept (a TEXT); CREATE TABLE (";
    let next = Migration { number: 9_999, name: "9999_broken", postgres: sql, sqlite: sql };
    MIGRATIONS.iter().map(Migration::again).chain([next]).collect::<Vec<_>>().leak()
}

async fn migrating_again_changes_nothing(store: TestStore) {
    let before = store.latest_change().await.unwrap();
    store.owner.migrate().await.unwrap();
    assert_eq!(store.latest_change().await.unwrap(), before);
}

#[tokio::test]
async fn two_that_migrate_at_once_both_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path()).await, open(directory.path()).await);
    let (one, other) = tokio::join!(one.migrate(), other.migrate());
    one.unwrap();
    other.unwrap();
}

async fn a_migration_that_fails_leaves_nothing_behind(store: TestStore) {
    let mut tx = store.owner.begin_migration().await.unwrap();
    let error = tx.apply(broken()).await.unwrap_err();
    assert!(matches!(error, StoreError::Migration { number: 9_999, name: "9999_broken", .. }), "{error}");
    drop(tx);
    store.owner.migrate().await.unwrap();
    store.raw("CREATE TABLE kept (a TEXT)").await;
}

async fn a_migration_whose_text_was_edited_is_refused(store: TestStore) {
    let edited = MIGRATIONS.iter().map(|migration| match migration.number {
        1 => Migration { postgres: "SELECT 1", sqlite: "SELECT 1", ..migration.again() },
        _ => migration.again(),
    });
    let edited: &'static [Migration] = edited.collect::<Vec<_>>().leak();
    let error = store.owner.begin_migration().await.unwrap().apply(edited).await.unwrap_err();
    assert!(matches!(error, StoreError::MigrationChanged { number: 1, .. }), "{error}");
}

async fn a_database_of_a_newer_program_is_refused(store: TestStore) {
    let sql = match store.is_postgres() {
        true => "INSERT INTO tollgate_migrations (number, name, checksum) VALUES (9999, 'later', $1)",
        false => "INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'later', $1)",
    };
    store.do_as_owner(query(sql).bind(&[0_u8; 32][..])).await.unwrap();
    for refused in [store.owner.migrate().await, store.prepare().await] {
        assert!(matches!(refused, Err(StoreError::TooNew(9999))), "{refused:?}");
    }
}

async fn a_database_that_was_migrated_is_ready_to_serve(store: TestStore) {
    store.prepare().await.unwrap();
}

impl Migration {
    fn again(&self) -> Migration {
        let Migration { number, name, .. } = *self;
        let text = |dialect| self.text(dialect);
        Migration { number, name, postgres: text(Dialect::Postgres), sqlite: text(Dialect::Sqlite) }
    }
}

mod postgres;
