use super::{CHANGES_KEPT, Change, Changed};
use crate::secret::hash::KeyDigest;
use crate::store::sql::query;
use crate::store::testing::{TestStore, audit_row, key, on_both, tenant};
use crate::store::{AuditVerdict, Evidence};

on_both! {
    each_commit_tells_what_it_changed_once_and_in_order,
    the_shipped_tiers_are_the_first_changes,
    a_transaction_that_is_dropped_leaves_no_change_and_no_audit_row,
    old_changes_are_pruned_and_versions_never_come_twice,
}

async fn each_commit_tells_what_it_changed_once_and_in_order(store: TestStore) {
    let start = store.latest_change().await.unwrap();
    let (acme, mut tx) = (tenant("acme"), store.begin().await.unwrap());
    let ci = key(&acme, "ci");
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.touch_tenant(acme.id, acme.created_at).await.unwrap();
    tx.insert_key(&ci, &KeyDigest([1; 32]), 1).await.unwrap();
    tx.commit().await.unwrap();
    let expected = [
        Change { version: start + 1, what: Changed::Tenant(acme.id) },
        Change { version: start + 2, what: Changed::Key(ci.id) },
    ];
    assert_eq!(store.changes_after(start, 10).await.unwrap(), expected);
    assert_eq!(store.changes_after(start, 1).await.unwrap(), expected[..1]);
    assert_eq!(store.latest_change().await.unwrap(), start + 2);
}

async fn the_shipped_tiers_are_the_first_changes(store: TestStore) {
    let changes = store.changes_after(0, 100).await.unwrap();
    assert_eq!(changes.len(), 5);
    assert!(changes.contains(&Change { version: 1, what: Changed::Tier("free".to_owned()) }));
    assert_eq!(store.oldest_change().await.unwrap(), 1);
}

async fn a_transaction_that_is_dropped_leaves_no_change_and_no_audit_row(store: TestStore) {
    let start = store.latest_change().await.unwrap();
    let (acme, mut tx) = (tenant("acme"), store.begin().await.unwrap());
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.audit(&audit_row(Some(acme.id), "tenant.create")).await.unwrap();
    drop(tx);
    assert_eq!(store.latest_change().await.unwrap(), start);
    let mut snapshot = store.read().await.unwrap();
    assert_eq!(snapshot.tenant(acme.id).await.unwrap(), None);
    assert_eq!(
        snapshot.verify_audit(Some(acme.id), Evidence { keys: &[], places: &[] }).await.unwrap(),
        AuditVerdict::Whole { rows: 0, pruned: 0, checkpoints: 0 }
    );
}

async fn old_changes_are_pruned_and_versions_never_come_twice(store: TestStore) {
    let far = query("INSERT INTO directory_changes (version, kind, id) VALUES ($1, 'tier', 'far')");
    store.do_as_owner(far.bind(CHANGES_KEPT + 2)).await.unwrap();
    if store.is_postgres() {
        // SQLite goes on behind the highest version that there is, Postgres behind the last that it gave.
        let go_on = query("ALTER TABLE directory_changes ALTER COLUMN version RESTART WITH 10003");
        store.do_as_owner(go_on).await.unwrap();
    }
    let mut tx = store.begin().await.unwrap();
    tx.changed(Changed::Tier("next".to_owned()));
    tx.commit().await.unwrap();
    assert_eq!(store.oldest_change().await.unwrap(), 4, "the newest {CHANGES_KEPT} versions are kept");
    store.do_as_owner(query("DELETE FROM directory_changes")).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.changed(Changed::Tier("after".to_owned()));
    tx.commit().await.unwrap();
    assert_eq!(store.latest_change().await.unwrap(), CHANGES_KEPT + 4);
}
