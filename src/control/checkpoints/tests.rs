//! The audit log attested, over real stores and a real file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Attesting, CheckpointFile, Taken};
use crate::clock::TestClock;
use crate::control::{Control, ControlError, NewTenant, Principal, TenantRef};
use crate::domain::Actor;
use crate::secret::checkpoint::SignedCheckpoint;
use crate::secret::ed25519::SigningKey;
use crate::secret::hash::Pepper;
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditVerdict, Store};

on_both! {
    a_deleted_newest_row_is_noticed_by_the_file_even_if_the_database_forgets_everything,
    a_chain_is_signed_once_for_each_time_that_it_moved,
    of_two_gateways_one_signs_until_it_ends,
    what_can_not_be_written_to_the_file_is_not_in_the_database,
    old_rows_go_and_leave_a_row_that_says_so,
    checkpoints_that_nobody_known_has_signed_are_refused,
}

struct Gateway {
    control: Control,
    clock: TestClock,
    owner: Principal,
    path: PathBuf,
    directory: TempDir,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Gateway {
    fn on(store: &Store, holder: u128) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints.ndjson");
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let control = Control::new(
            store.clone(),
            Arc::new(clock.clone()),
            Pepper::new(1, &[7; 32]).into(),
            Arc::new(Notify::new()),
        )
        .with_attesting(Attesting {
            key: SigningKey::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap(),
            trusted: Vec::new(),
            file: CheckpointFile::new(path.clone()),
            kept_for: Duration::from_secs(180),
            retention: 60 * DAY,
            holder: Uuid::from_u128(holder),
        });
        Gateway {
            control,
            clock,
            owner: Principal::platform(Actor::system("test"), Uuid::max()),
            path,
            directory,
        }
    }

    async fn tenant(&self, name: &str) -> TenantRef {
        let new = NewTenant { name: name.to_owned(), ..NewTenant::default() };
        TenantRef::Id(self.control.create_tenant(&self.owner, new).await.unwrap().id)
    }

    async fn renamed(&self, tenant: &TenantRef, name: &str) {
        let change = crate::control::TenantChange { name: Some(name.to_owned()), ..Default::default() };
        self.control.change_tenant(&self.owner, tenant, change).await.unwrap();
    }

    async fn verdict(&self, tenant: &TenantRef) -> AuditVerdict {
        self.control.verify_audit(&self.owner, Some(tenant), None).await.unwrap().0
    }

    async fn taken(&self) -> u64 {
        self.control.keep_audit().await.unwrap().checkpoints
    }

    fn lines(&self) -> Vec<SignedCheckpoint> {
        let mut lines = Vec::new();
        CheckpointFile::new(self.path.clone()).each(|line| lines.push(line)).unwrap();
        lines
    }
}

async fn a_deleted_newest_row_is_noticed_by_the_file_even_if_the_database_forgets_everything(
    store: TestStore,
) {
    let gateway = Gateway::on(&store, 1);
    let acme = gateway.tenant("Acme").await;
    gateway.renamed(&acme, "Acme Inc").await;
    assert_eq!(gateway.taken().await, 1);
    let whole = AuditVerdict::Whole { rows: 2, pruned: 0, checkpoints: 2 };
    assert_eq!(gateway.verdict(&acme).await, whole, "that of the database, and that of the file");
    let on = if store.is_postgres() { " ON tenant_audit_logs" } else { "" };
    store.raw(format!("DROP TRIGGER tenant_audit_logs_are_not_deleted{on}").leak()).await;
    store
        .raw(
            "DELETE FROM tenant_audit_logs WHERE seq = 2; DELETE FROM audit_checkpoints;
             UPDATE audit_chains SET seq = 1, hash = (SELECT hash FROM tenant_audit_logs)",
        )
        .await;
    let missing = AuditVerdict::Broken { seq: 2, fault: "rows are missing at the end" };
    assert_eq!(gateway.verdict(&acme).await, missing);
    // Who reads the lines elsewhere finds the same, of a log whose tenant is gone as well.
    std::fs::rename(&gateway.path, gateway.directory.path().join("elsewhere")).unwrap();
    assert_eq!(gateway.verdict(&acme).await, AuditVerdict::Whole { rows: 1, pruned: 0, checkpoints: 0 });
    let elsewhere = CheckpointFile::new(gateway.directory.path().join("elsewhere"));
    let mut lines = Vec::new();
    elsewhere.each(|line| lines.push(line)).unwrap();
    let chains = gateway.control.verify_chains(&gateway.owner, lines).await.unwrap();
    assert_eq!(chains.iter().map(|chain| &chain.verdict).collect::<Vec<_>>(), [&missing]);
}

async fn a_chain_is_signed_once_for_each_time_that_it_moved(store: TestStore) {
    let gateway = Gateway::on(&store, 1);
    let acme = gateway.tenant("Acme").await;
    gateway.tenant("Beta").await;
    assert_eq!((gateway.taken().await, gateway.taken().await), (2, 0));
    gateway.renamed(&acme, "Acme Inc").await;
    gateway.renamed(&acme, "Acme Ltd").await;
    assert_eq!(gateway.taken().await, 1);
    let mut seqs: Vec<_> = gateway.lines().iter().map(|line| line.place.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 1, 3]);
}

async fn of_two_gateways_one_signs_until_it_ends(store: TestStore) {
    let (one, other) = (Gateway::on(&store, 1), Gateway::on(&store, 2));
    let acme = one.tenant("Acme").await;
    assert_eq!((one.taken().await, other.taken().await), (1, 0));
    other.renamed(&acme, "Acme Inc").await;
    assert_eq!(other.taken().await, 0);
    assert_eq!(one.control.end_audit().await.unwrap().checkpoints, 1);
    other.renamed(&acme, "Acme Ltd").await;
    assert_eq!(other.taken().await, 1);
    // One that dies is followed when its time is over.
    one.renamed(&acme, "Acme").await;
    one.clock.advance(Duration::from_secs(181));
    assert_eq!(one.taken().await, 1);
}

async fn what_can_not_be_written_to_the_file_is_not_in_the_database(store: TestStore) {
    let gateway = Gateway::on(&store, 1);
    let acme = gateway.tenant("Acme").await;
    let kept = gateway.path.clone();
    std::os::unix::fs::symlink("/nowhere/at/all", &kept).unwrap();
    let failed = gateway.control.keep_audit().await;
    assert!(matches!(failed, Err(ControlError::Checkpoints(..))), "{failed:?}");
    std::fs::remove_file(&kept).unwrap();
    assert_eq!(gateway.verdict(&acme).await, AuditVerdict::Whole { rows: 1, pruned: 0, checkpoints: 0 });
    assert_eq!((gateway.taken().await, gateway.lines().len()), (1, 1));
}

async fn old_rows_go_and_leave_a_row_that_says_so(store: TestStore) {
    let gateway = Gateway::on(&store, 1);
    // By the database's clock they are old as well.
    gateway.clock.set("2024-01-01T00:00:00Z");
    let acme = gateway.tenant("Acme").await;
    gateway.renamed(&acme, "Acme Inc").await;
    assert_eq!(gateway.control.keep_audit().await.unwrap(), Taken { checkpoints: 1, pruned: 0 });
    gateway.clock.advance(61 * DAY);
    gateway.renamed(&acme, "Acme Ltd").await;
    assert_eq!(gateway.control.keep_audit().await.unwrap().pruned, 0, "a month at a time");
    gateway.clock.advance(30 * DAY);
    assert_eq!(gateway.control.keep_audit().await.unwrap(), Taken { checkpoints: 0, pruned: 2 });
    assert_eq!(gateway.taken().await, 1);
    let verdict = gateway.verdict(&acme).await;
    assert!(matches!(verdict, AuditVerdict::Whole { rows: 2, pruned: 2, .. }), "{verdict:?}");
    let log =
        gateway.control.audit_logs(&gateway.owner, &acme, &Default::default(), &Default::default()).await;
    let actions: Vec<_> = log.unwrap().items.into_iter().map(|entry| entry.row.action).collect();
    assert_eq!(actions, ["audit.prune", "tenant.change"]);
    assert_eq!(gateway.control.keep_audit().await.unwrap().pruned, 0);
}

async fn checkpoints_that_nobody_known_has_signed_are_refused(store: TestStore) {
    let gateway = Gateway::on(&store, 1);
    gateway.tenant("Acme").await;
    gateway.taken().await;
    let mut lines = gateway.lines();
    lines[0].signer = "somebody".to_owned();
    let refused = gateway.control.verify_chains(&gateway.owner, lines).await.unwrap_err();
    let ControlError::Invalid(faults) = refused else { panic!("{refused:?}") };
    assert_eq!(faults[0].field, "checkpoints[0]");
}
