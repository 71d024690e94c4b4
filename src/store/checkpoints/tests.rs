use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::{Actor, AuditRow, TenantId};
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::secret::ed25519::SigningKey;
use crate::store::sql::query;
use crate::store::testing::{TestStore, at, audit_row, on_both};
use crate::store::{AuditVerdict, Evidence, PRUNED};

on_both! {
    rows_that_were_cut_off_with_the_chains_own_end_are_noticed_by_a_checkpoint,
    a_chain_that_was_written_anew_is_noticed_where_a_checkpoint_stands,
    a_checkpoint_that_was_forged_is_named,
    a_checkpoint_of_an_unknown_signer_says_nothing,
    chains_that_have_moved_are_found_and_no_others,
    a_pruned_log_begins_behind_a_checkpoint_and_stays_verifiable,
    a_log_that_begins_later_without_saying_so_is_broken,
    what_is_young_or_unattested_is_never_pruned,
    one_keeper_at_a_time,
}

const ACME: Option<TenantId> = Some(TenantId(Uuid::max()));

fn key() -> SigningKey {
    SigningKey::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap()
}

fn now() -> Timestamp {
    at("2026-11-23T06:00:00Z")
}

async fn add_rows(store: &TestStore, rows: i64) {
    let mut tx = store.begin().await.unwrap();
    for number in 0..rows {
        tx.audit(&audit_row(ACME, &format!("test.{number}"))).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Signs the chain's newest place, at an instant.
async fn attest(store: &TestStore, instant: Timestamp) -> SignedCheckpoint {
    let place = store.read().await.unwrap().audit_checkpoint(ACME).await.unwrap();
    let signed = SignedCheckpoint::sign(&key(), ACME, place, instant);
    insert(store, &signed).await;
    signed
}

async fn insert(store: &TestStore, signed: &SignedCheckpoint) {
    let mut tx = store.begin().await.unwrap();
    tx.insert_checkpoint(signed).await.unwrap();
    tx.commit().await.unwrap();
}

async fn verdict(store: &TestStore, places: &[Checkpoint]) -> AuditVerdict {
    let keys = [key().public()];
    let mut snapshot = store.read().await.unwrap();
    snapshot.verify_audit(ACME, Evidence { keys: &keys, places }).await.unwrap()
}

fn whole(rows: i64, pruned: i64, checkpoints: u64) -> AuditVerdict {
    AuditVerdict::Whole { rows, pruned, checkpoints }
}

/// Does what only somebody with the database in hand can do.
async fn tamper(store: &TestStore, statements: &[&'static str]) {
    let on = if store.is_postgres() { " ON tenant_audit_logs" } else { "" };
    for trigger in ["updated", "deleted"] {
        let mut drop = query("DROP TRIGGER IF EXISTS tenant_audit_logs_are_not_");
        drop.push(trigger).push(on);
        store.do_as_owner(drop).await.unwrap();
    }
    for sql in statements {
        assert!(store.do_as_owner(query(sql).bind(Uuid::max())).await.unwrap() > 0, "{sql}");
    }
}

/// The newest row is gone, and the chain's own end says that it was never there.
const CUT_OFF: [&str; 2] = [
    "DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 5",
    "UPDATE audit_chains SET seq = 4, hash = (SELECT hash FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 4)
     WHERE tenant_id = $1",
];
const MISSING: AuditVerdict = AuditVerdict::Broken { seq: 5, fault: "rows are missing at the end" };

async fn rows_that_were_cut_off_with_the_chains_own_end_are_noticed_by_a_checkpoint(store: TestStore) {
    add_rows(&store, 5).await;
    let signed = attest(&store, now()).await;
    assert_eq!(verdict(&store, &[]).await, whole(5, 0, 1));
    tamper(&store, &CUT_OFF).await;
    assert_eq!(verdict(&store, &[]).await, MISSING);
    // Who has the database deletes that as well; then it takes a copy from elsewhere.
    tamper(&store, &["DELETE FROM audit_checkpoints WHERE tenant_id = $1"]).await;
    assert_eq!(verdict(&store, &[]).await, whole(4, 0, 0));
    assert_eq!(verdict(&store, &[signed.place]).await, MISSING);
}

async fn a_chain_that_was_written_anew_is_noticed_where_a_checkpoint_stands(store: TestStore) {
    add_rows(&store, 3).await;
    let first = attest(&store, now()).await;
    add_rows(&store, 2).await;
    attest(&store, now()).await;
    assert_eq!(verdict(&store, &[]).await, whole(5, 0, 2));
    tamper(
        &store,
        &[
            "DELETE FROM tenant_audit_logs WHERE tenant_id = $1",
            "DELETE FROM audit_chains WHERE tenant_id = $1",
        ],
    )
    .await;
    let anew =
        |number| AuditRow { actor: Actor::system("eve"), ..audit_row(ACME, &format!("test.{number}")) };
    let mut tx = store.begin().await.unwrap();
    for number in 0..5 {
        tx.audit(&anew(number)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let fault = "it is not the row of the checkpoint";
    assert_eq!(verdict(&store, &[]).await, AuditVerdict::Broken { seq: 3, fault });
    tamper(&store, &["DELETE FROM audit_checkpoints WHERE tenant_id = $1"]).await;
    assert_eq!(verdict(&store, &[first.place]).await, AuditVerdict::Broken { seq: 3, fault });
}

async fn a_checkpoint_that_was_forged_is_named(store: TestStore) {
    add_rows(&store, 2).await;
    let mut forged = attest(&store, now()).await;
    add_rows(&store, 1).await;
    forged.place = store.read().await.unwrap().audit_checkpoint(ACME).await.unwrap();
    insert(&store, &forged).await;
    let fault = "its checkpoint was not signed by who it says";
    assert_eq!(verdict(&store, &[]).await, AuditVerdict::Broken { seq: 3, fault });
}

async fn a_checkpoint_of_an_unknown_signer_says_nothing(store: TestStore) {
    add_rows(&store, 2).await;
    let place = Checkpoint { seq: 2, hash: "00".repeat(32) };
    let stranger = SigningKey::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    insert(&store, &SignedCheckpoint::sign(&stranger, ACME, place, now())).await;
    assert_eq!(verdict(&store, &[]).await, whole(2, 0, 0));
}

async fn chains_that_have_moved_are_found_and_no_others(store: TestStore) {
    let moved = async || {
        let chains = store.read().await.unwrap().unattested_chains(10).await.unwrap();
        chains.into_iter().map(|(tenant, place)| (tenant, place.seq)).collect::<Vec<_>>()
    };
    add_rows(&store, 2).await;
    let mut tx = store.begin().await.unwrap();
    tx.audit(&audit_row(None, "test.platform")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(moved().await, [(None, 1), (ACME, 2)]);
    attest(&store, now()).await;
    assert_eq!(moved().await, [(None, 1)]);
    add_rows(&store, 1).await;
    assert_eq!(moved().await, [(None, 1), (ACME, 3)]);
}

/// Five rows, attested after the third and the fifth by an old checkpoint, and the log pruned up to the third.
async fn pruned(store: &TestStore, says: &Checkpoint) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let after = Some(serde_json::json!({ "up_to": says.seq, "hash": says.hash }));
    tx.audit(&AuditRow { after, ..audit_row(ACME, PRUNED) }).await.unwrap();
    let gone = tx.prune_audit(ACME, 3, now()).await.unwrap();
    tx.commit().await.unwrap();
    gone
}

async fn a_pruned_log_begins_behind_a_checkpoint_and_stays_verifiable(store: TestStore) {
    add_rows(&store, 3).await;
    let place = attest(&store, at("2024-01-01T00:00:00Z")).await.place;
    add_rows(&store, 2).await;
    attest(&store, at("2026-11-22T00:00:00Z")).await;
    let prunable = async |before: &str| {
        let mut snapshot = store.read().await.unwrap();
        let oldest = at("2026-11-23T06:00:01Z");
        snapshot.prunable_audit(at(before), oldest, 10).await.unwrap()
    };
    assert_eq!(prunable("2023-01-01T00:00:00Z").await, []);
    assert_eq!(prunable("2025-01-01T00:00:00Z").await, [(ACME, place.clone())]);
    assert_eq!(pruned(&store, &place).await, 3);
    assert_eq!(verdict(&store, std::slice::from_ref(&place)).await, whole(3, 3, 2));
    // The last of what is left is pruned no second time.
    assert_eq!(prunable("2025-01-01T00:00:00Z").await, []);
    let elsewhere = Checkpoint { hash: "00".repeat(32), ..place };
    let fault = "it is not the row of the checkpoint";
    assert_eq!(verdict(&store, &[elsewhere]).await, AuditVerdict::Broken { seq: 3, fault });
    // Nobody can take more and say that it was retention.
    tamper(&store, &["DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq = 4"]).await;
    assert_eq!(verdict(&store, &[]).await, AuditVerdict::Broken { seq: 1, fault: "a row is missing" });
}

async fn a_log_that_begins_later_without_saying_so_is_broken(store: TestStore) {
    add_rows(&store, 3).await;
    attest(&store, at("2024-01-01T00:00:00Z")).await;
    add_rows(&store, 2).await;
    tamper(&store, &["DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq <= 3"]).await;
    let fault = "it and all before it are gone, and no row says that they were pruned";
    assert_eq!(verdict(&store, &[]).await, AuditVerdict::Broken { seq: 3, fault });
}

async fn what_is_young_or_unattested_is_never_pruned(store: TestStore) {
    add_rows(&store, 3).await;
    attest(&store, at("2024-01-01T00:00:00Z")).await;
    if !store.is_postgres() {
        return;
    }
    let refused = async |up_to: i64, as_of: &str| {
        let mut tx = store.begin().await.unwrap();
        tx.prune_audit(ACME, up_to, at(as_of)).await.unwrap_err()
    };
    for (up_to, as_of) in [(3, "2024-01-30T00:00:00Z"), (2, "2026-11-23T06:00:00Z")] {
        let error = refused(up_to, as_of).await;
        assert!(format!("{error:?}").contains("more than 30 days ago only"), "{error:?}");
    }
    // Who serves may not delete, whatever it says of itself, and a tenant's reach may not even ask.
    let mut tx = store.begin().await.unwrap();
    let set = query("SELECT COUNT(*) FROM (SELECT set_config('tollgate.prunes', 'on', true)) AS set");
    set.fetch_number(tx.connection()).await.unwrap();
    let error = query("DELETE FROM tenant_audit_logs").execute(tx.connection()).await.unwrap_err();
    assert!(format!("{error:?}").contains("permission denied"), "{error:?}");
    let mut tx = store.begin_as(crate::store::Reach::Tenant(ACME.unwrap())).await.unwrap();
    let error = tx.prune_audit(ACME, 3, now()).await.unwrap_err();
    assert!(format!("{error:?}").contains("permission denied"), "{error:?}");
}

async fn one_keeper_at_a_time(store: TestStore) {
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let keeps =
        async |holder, now: &str, until: &str| store.keep_audit(holder, at(now), at(until)).await.unwrap();
    assert!(keeps(one, "2026-11-23T06:00:00Z", "2026-11-23T06:03:00Z").await);
    assert!(!keeps(other, "2026-11-23T06:02:00Z", "2026-11-23T06:05:00Z").await);
    assert!(keeps(one, "2026-11-23T06:02:00Z", "2026-11-23T06:05:00Z").await);
    assert!(keeps(other, "2026-11-23T06:05:00Z", "2026-11-23T06:08:00Z").await);
    assert!(!keeps(one, "2026-11-23T06:06:00Z", "2026-11-23T06:09:00Z").await);
    // It ends, and says so.
    assert!(keeps(other, "2026-11-23T06:07:00Z", "2026-11-23T06:07:00Z").await);
    assert!(keeps(one, "2026-11-23T06:07:00Z", "2026-11-23T06:10:00Z").await);
}
