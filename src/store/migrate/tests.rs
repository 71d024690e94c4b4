use super::{MIGRATIONS, Migration};
use crate::store::StoreError;
use crate::store::testing::{open, temporary};

const BROKEN: &[Migration] =
    &[Migration { number: 1, name: "0001_broken", sql: "CREATE TABLE kept (a TEXT); CREATE TABLE (" }];

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let (_directory, store) = temporary().await;
    let before = store.latest_change().await.unwrap();
    store.migrate().await.unwrap();
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

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    let error = tx.apply(BROKEN).await.unwrap_err();
    assert!(matches!(error, StoreError::Migration { number: 1, name: "0001_broken", .. }), "{error}");
    drop(tx);
    store.migrate().await.unwrap();
}

#[tokio::test]
async fn a_migration_whose_text_was_edited_is_refused() {
    let (_directory, store) = temporary().await;
    let first = |migration: &Migration| if migration.number == 1 { "SELECT 1" } else { migration.sql };
    let edited = MIGRATIONS.iter().map(|migration| Migration {
        number: migration.number,
        name: migration.name,
        sql: first(migration),
    });
    let edited: &'static [Migration] = edited.collect::<Vec<_>>().leak();
    let error = store.begin().await.unwrap().apply(edited).await.unwrap_err();
    assert!(matches!(error, StoreError::MigrationChanged { number: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let (_directory, store) = temporary().await;
    let sql = "INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'later', zeroblob(32))";
    sqlx::query(sql).execute(&store.writer).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::TooNew(9999)), "{error}");
}
