use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{AuditVerdict, Link, canonical};
use crate::domain::TenantId;
use crate::store::testing::{audit_row, temporary};
use crate::store::{Page, Store};
use uuid::Uuid;

const ACME: Option<TenantId> = Some(TenantId(Uuid::max()));

async fn with_rows(rows: i64) -> (tempfile::TempDir, Store) {
    let (directory, store) = temporary().await;
    let mut tx = store.begin().await.unwrap();
    for number in 1..=rows {
        tx.audit(&audit_row(ACME, &format!("test.{number}"))).await.unwrap();
        tx.audit(&audit_row(None, "test.other_chain")).await.unwrap();
    }
    tx.commit().await.unwrap();
    (directory, store)
}

async fn verdict(store: &Store) -> AuditVerdict {
    store.read().await.unwrap().verify_audit(ACME).await.unwrap()
}

/// Does to the log what only somebody with the database in hand can do.
async fn tamper(store: &Store, sql: &'static str) {
    for trigger in ["updated", "deleted"] {
        let drop = format!("DROP TRIGGER IF EXISTS tenant_audit_logs_are_not_{trigger}");
        sqlx::query(AssertSqlSafe(drop)).execute(&store.writer).await.unwrap();
    }
    let tenant = ACME.map(|tenant| tenant.0);
    assert!(sqlx::query(sql).bind(tenant).execute(&store.writer).await.unwrap().rows_affected() > 0);
}

#[tokio::test]
async fn a_chain_that_nobody_touched_is_whole() {
    let (_directory, store) = with_rows(5).await;
    assert_eq!(verdict(&store).await, AuditVerdict::Whole { rows: 5 });
    assert_eq!(
        store.read().await.unwrap().verify_audit(Some(TenantId(Uuid::from_u128(1)))).await.unwrap(),
        AuditVerdict::Whole { rows: 0 }
    );
}

#[tokio::test]
async fn a_changed_row_is_named() {
    for column in [
        "actor_name = 'eve'",
        "after_json = '{}'",
        "at = '2026-11-23T06:00:00.000002Z'",
        "outcome = 'denied'",
    ] {
        let (_directory, store) = with_rows(5).await;
        let sql = format!("UPDATE tenant_audit_logs SET {column} WHERE tenant_id = $1 AND seq = 3");
        tamper(&store, sql.leak()).await;
        let broken = AuditVerdict::Broken { seq: 3, fault: "it is not what was written" };
        assert_eq!(verdict(&store).await, broken, "{column}");
    }
}

#[tokio::test]
async fn a_removed_row_is_named() {
    let (_directory, store) = with_rows(5).await;
    tamper(&store, "DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 3").await;
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 3, fault: "a row is missing" });
}

#[tokio::test]
async fn rows_that_are_missing_at_the_end_are_noticed() {
    let (_directory, store) = with_rows(5).await;
    tamper(&store, "DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq >= 4").await;
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 4, fault: "rows are missing at the end" });
}

#[tokio::test]
async fn a_row_that_was_written_anew_with_its_hash_breaks_the_next() {
    let (_directory, store) = with_rows(3).await;
    let forged = Link::ROOT.next(&audit_row(ACME, "forged"));
    assert_ne!(forged, Link::ROOT.next(&audit_row(ACME, "test.1")));
    tamper(&store, "UPDATE tenant_audit_logs SET prev_hash = zeroblob(32) WHERE tenant_id = $1 AND seq = 2")
        .await;
    let fault = "it does not follow the row before it";
    assert_eq!(verdict(&store).await, AuditVerdict::Broken { seq: 2, fault });
}

#[tokio::test]
async fn the_log_is_append_only() {
    let (_directory, store) = with_rows(1).await;
    for sql in ["UPDATE tenant_audit_logs SET reason = 'x'", "DELETE FROM tenant_audit_logs"] {
        let error = sqlx::query(sql).execute(&store.writer).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn entries_come_newest_first_and_page_by_page() {
    let (_directory, store) = with_rows(5).await;
    let mut snapshot = store.read().await.unwrap();
    let first = Page::new(Some(2), None, None).unwrap();
    let listed = snapshot.audit_entries(ACME, &first).await.unwrap().unwrap();
    assert_eq!(listed.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [5, 4]);
    let next = Page::new(Some(4), None, listed.next_cursor.as_deref()).unwrap();
    let rest = snapshot.audit_entries(ACME, &next).await.unwrap().unwrap();
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
