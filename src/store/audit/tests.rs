use serde_json::json;

use super::{AuditFilter, AuditVerdict, Evidence, Link, canonical};
use crate::domain::TenantId;
use crate::store::Page;
use crate::store::sql::query;
use crate::store::testing::{TestStore, audit_row, on_both};
use uuid::Uuid;

on_both! {
    a_chain_that_nobody_touched_is_whole,
    a_changed_row_is_named,
    a_removed_row_is_named,
    rows_that_are_missing_at_the_end_are_noticed,
    a_row_that_was_written_anew_with_its_hash_breaks_the_next,
    the_log_is_append_only,
    entries_come_newest_first_and_page_by_page,
}

const NONE: Evidence<'_> = Evidence { keys: &[], places: &[] };
const ACME: Option<TenantId> = Some(TenantId(Uuid::max()));

async fn add_rows(store: &TestStore, rows: i64) {
    let mut tx = store.begin().await.unwrap();
    for number in 1..=rows {
        tx.audit(&audit_row(ACME, &format!("test.{number}"))).await.unwrap();
        tx.audit(&audit_row(None, "test.other_chain")).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn verdict(store: &TestStore) -> AuditVerdict {
    store.read().await.unwrap().verify_audit(ACME, NONE).await.unwrap()
}

/// Does to the log what only somebody with the database in hand can do.
async fn tamper(store: &TestStore, sql: &'static str) {
    let on = if store.is_postgres() { " ON tenant_audit_logs" } else { "" };
    for trigger in ["updated", "deleted"] {
        let mut drop = query("DROP TRIGGER IF EXISTS tenant_audit_logs_are_not_");
        drop.push(trigger).push(on);
        store.do_as_owner(drop).await.unwrap();
    }
    let tenant = ACME.map(|tenant| tenant.0);
    assert!(store.do_as_owner(query(sql).bind(tenant)).await.unwrap() > 0);
}

async fn a_chain_that_nobody_touched_is_whole(store: TestStore) {
    add_rows(&store, 5).await;
    assert_eq!(verdict(&store).await, AuditVerdict::Whole { rows: 5, pruned: 0, checkpoints: 0 });
    assert_eq!(
        store.read().await.unwrap().verify_audit(Some(TenantId(Uuid::from_u128(1))), NONE).await.unwrap(),
        AuditVerdict::Whole { rows: 0, pruned: 0, checkpoints: 0 }
    );
}

async fn a_changed_row_is_named(store: TestStore) {
    add_rows(&store, 5).await;
    // Each change is before the one before it, and so the first that is found.
    for (seq, column) in [
        (5, "actor_name = 'eve'"),
        (4, "after_json = '{}'"),
        (3, "at = '2026-11-23T06:00:00.000002Z'"),
        (2, "outcome = 'denied'"),
    ] {
        let sql = format!("UPDATE tenant_audit_logs SET {column} WHERE tenant_id = $1 AND seq = {seq}");
        tamper(&store, sql.leak()).await;
        let broken = AuditVerdict::Broken { seq, fault: "it is not what was written" };
        assert_eq!(verdict(&store).await, broken, "{column}");
    }
}

async fn a_removed_row_is_named(store: TestStore) {
    add_rows(&store, 5).await;
    tamper(&store, "DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 3").await;
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 3, fault: "a row is missing" });
}

async fn rows_that_are_missing_at_the_end_are_noticed(store: TestStore) {
    add_rows(&store, 5).await;
    tamper(&store, "DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq >= 4").await;
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 4, fault: "rows are missing at the end" });
}

async fn a_row_that_was_written_anew_with_its_hash_breaks_the_next(store: TestStore) {
    add_rows(&store, 3).await;
    let forged = Link::ROOT.next(&audit_row(ACME, "forged"));
    assert_ne!(forged, Link::ROOT.next(&audit_row(ACME, "test.1")));
    let sql = "UPDATE tenant_audit_logs SET prev_hash =
        (SELECT hash FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 3) WHERE tenant_id = $1 AND seq = 2";
    tamper(&store, sql).await;
    let fault = "it does not follow the row before it";
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 2, fault });
}

async fn the_log_is_append_only(store: TestStore) {
    add_rows(&store, 1).await;
    for sql in ["UPDATE tenant_audit_logs SET reason = 'x'", "DELETE FROM tenant_audit_logs"] {
        let error = store.do_as_owner(query(sql)).await.unwrap_err();
        assert!(format!("{error:?}").contains("append-only"), "{error:?}");
    }
}

async fn entries_come_newest_first_and_page_by_page(store: TestStore) {
    add_rows(&store, 5).await;
    let mut snapshot = store.read().await.unwrap();
    let first = Page::new(Some(2), None, None).unwrap();
    let listed = snapshot.audit_entries(ACME, &AuditFilter::default(), &first).await.unwrap().unwrap();
    assert_eq!(listed.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [5, 4]);
    let next = Page::new(Some(4), None, listed.next_cursor.as_deref()).unwrap();
    let rest = snapshot.audit_entries(ACME, &AuditFilter::default(), &next).await.unwrap().unwrap();
    assert_eq!(rest.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(rest.next_cursor, None);
    let written = audit_row(ACME, "test.5");
    let read = &listed.items[0].row;
    assert_eq!((&read.actor, &read.before, read.at), (&written.actor, &written.before, written.at));
}

#[test]
fn canonical_json_sorts_by_utf_16_and_escapes_as_little_as_it_may() {
    let value =
        json!({"\u{fb33}": 1, "\u{1f600}": 2, "a": {"z": [1, "\u{7}\n\""], "b": null}, "\u{80}": true});
    assert_eq!(
        canonical(&value),
        "{\"a\":{\"b\":null,\"z\":[1,\"\\u0007\\n\\\"\"]},\"\u{80}\":true,\"\u{1f600}\":2,\"\u{fb33}\":1}"
    );
}
