use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Store, StoreUrl};
use crate::store::StoreError;
use crate::store::sql::query;
use crate::store::testing::{TestStore, on_both, temporary, tenant};
use crate::store::values::scalar;

on_both! {
    readers_cannot_write,
    a_snapshot_does_not_see_what_is_committed_after_its_first_look,
    two_stores_on_one_database_write_in_turns,
}

#[test]
fn a_stores_address_names_its_kind() {
    for (url, path) in [
        ("sqlite:data/tollgate.db", "data/tollgate.db"),
        ("sqlite:///var/lib/tollgate.db", "/var/lib/tollgate.db"),
        ("sqlite:/var/lib/tollgate.db", "/var/lib/tollgate.db"),
    ] {
        assert_eq!(url.parse::<StoreUrl>().unwrap(), StoreUrl::Sqlite(path.into()));
    }
    for url in ["postgres://tollgate@db/tollgate", "postgresql:///tollgate?host=/run"] {
        assert_eq!(url.parse::<StoreUrl>().unwrap(), StoreUrl::Postgres(url.to_owned()));
    }
    for bad in ["", "sqlite:", "data/tollgate.db", "mysql://x"] {
        assert!(matches!(bad.parse::<StoreUrl>(), Err(StoreError::Url(url)) if url == bad), "{bad}");
    }
}

#[tokio::test]
async fn a_store_makes_its_directory_and_files_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/tollgate.db");
    let store = Store::open(&StoreUrl::Sqlite(path.clone())).await.unwrap();
    store.migrate().await.unwrap();
    for file in ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm"] {
        let mode = path.with_file_name(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_store_that_cant_be_made_names_its_path() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let path = directory.path().join("file/tollgate.db");
    let error = Store::open(&StoreUrl::Sqlite(path)).await.unwrap_err();
    assert!(error.to_string().contains("/file can't be opened or made"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    let text = "dear diary, ".repeat(1_000);
    std::fs::write(&path, &text).unwrap();
    assert!(Store::open(&StoreUrl::Sqlite(path.clone())).await.is_err());
    assert_eq!(std::fs::read_to_string(Path::new(&path)).unwrap(), text);
}

async fn readers_cannot_write(store: TestStore) {
    let mut snapshot = store.read().await.unwrap();
    let error = query("DELETE FROM tier_quotas").execute(snapshot.connection()).await.unwrap_err();
    let reasons = ["readonly", "read-only", "permission denied"];
    assert!(reasons.iter().any(|reason| format!("{error:?}").contains(reason)), "{error:?}");
}

async fn a_snapshot_does_not_see_what_is_committed_after_its_first_look(store: TestStore) {
    let acme = tenant("acme");
    let mut snapshot = store.read().await.unwrap();
    assert_eq!(snapshot.tenant(acme.id).await.unwrap(), None);
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(snapshot.tenant(acme.id).await.unwrap(), None);
    assert_eq!(store.read().await.unwrap().tenant(acme.id).await.unwrap(), Some(acme));
}

#[tokio::test]
async fn every_commit_is_synced() {
    let (_directory, store) = temporary().await;
    let full = 2;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(query("PRAGMA synchronous").fetch_number(tx.connection()).await.unwrap(), full);
    let mode = query("PRAGMA journal_mode").fetch_one(tx.connection()).await.unwrap();
    assert_eq!(scalar::<&str>(&mode).unwrap(), "wal");
}

async fn two_stores_on_one_database_write_in_turns(store: TestStore) {
    let other = store.another().await;
    let start = store.latest_change().await.unwrap();
    let write = async |store: &Store, prefix: &str| {
        for number in 0..20 {
            let mut tx = store.begin().await.unwrap();
            tx.insert_tenant(&tenant(&format!("{prefix}-{number}")), 30).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    tokio::join!(write(&store, "one"), write(&other, "other"));
    assert_eq!(store.latest_change().await.unwrap(), start + 40);
}
