//! The room through its door, over a real store.

mod alerts;
mod analytics;
mod apply;
mod billing;
mod billing_news;
mod bulk;
mod glance;
mod keys;
mod people;
mod pepper;
mod quotas;
mod reports;
mod rights;
mod sessions;
mod settings;
mod tenants;

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Control, ControlError, DryRun, Manifest, NewTenant, Permissions, Principal, QuotaChange, QuotaUse,
    Rights, TenantRef,
};
use crate::clock::{Clock, TestClock};
use crate::domain::{Actor, ActorKind, Limit, Resource, Role, Tenant, TenantId, Units};
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Page};

on_both! {
    every_change_is_audited_told_and_verifiable,
    ids_are_in_the_order_of_their_making_within_one_instant,
}

struct House {
    control: Control,
    store: TestStore,
    clock: TestClock,
    changed: Arc<Notify>,
    owner: Principal,
    directory: TempDir,
}

impl House {
    fn on(store: TestStore) -> House {
        let directory = tempfile::tempdir().unwrap();
        let (clock, changed) = (TestClock::at("2026-11-23T06:00:00Z"), Arc::new(Notify::new()));
        let pepper = Pepper::new(1, &[7; 32]);
        let control = Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), changed.clone());
        let control = control.with_secrets(ring(&[1]));
        let owner = Principal::platform(Actor::system("test"), Uuid::max());
        House { control, store, clock, changed, owner, directory }
    }

    async fn tenant(&self, name: &str) -> Tenant {
        self.control.create_tenant(&self.owner, named(name)).await.unwrap()
    }

    async fn audit(&self, tenant: &Tenant) -> Vec<AuditEntry> {
        self.control
            .audit_logs(&self.owner, &by_id(tenant), &AuditFilter::default(), &Page::default())
            .await
            .unwrap()
            .items
    }

    async fn quota(&self, tenant: &Tenant, resource: &str) -> QuotaUse {
        let quotas = self.control.quotas(&self.owner, &by_id(tenant)).await.unwrap();
        quotas.into_iter().find(|quota| quota.resource_type.as_str() == resource).unwrap()
    }

    async fn apply(&self, manifest: &str, dry_run: DryRun) -> Vec<super::Planned> {
        let manifest: Manifest = toml::from_str(manifest).unwrap();
        self.control.apply(&self.owner, manifest, dry_run).await.unwrap()
    }

    /// How often the store has changed for gateways.
    async fn changes(&self) -> i64 {
        self.store.latest_change().await.unwrap()
    }
}

/// A ring of these versions.
fn ring(versions: &[i64]) -> KeyRing {
    let texts: Vec<_> = versions.iter().map(|version| format!("{version:064x}")).collect();
    KeyRing::parse(versions.iter().copied().zip(texts.iter().map(String::as_str))).unwrap()
}

fn named(name: &str) -> NewTenant {
    NewTenant { name: name.to_owned(), ..NewTenant::default() }
}

fn by_id(tenant: &Tenant) -> TenantRef {
    TenantRef::Id(tenant.id)
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

fn limit(units: u64) -> Limit {
    Limit::Of(Units::new(units).unwrap())
}

fn quota(name: &str, limit: Limit) -> QuotaChange {
    QuotaChange {
        resource: resource(name),
        limit,
        period: None,
        enforcement: None,
        on_loss: None,
        key: None,
        reason: None,
        expires_at: None,
    }
}

fn of_tenant(tenant: &Tenant, role: Role) -> Principal {
    let actor = Actor { kind: ActorKind::ApiKey, name: "ci".to_owned(), ..Actor::system("") };
    let rights = Rights::in_tenant(tenant.id, Permissions::of(role));
    Principal { actor, rights, correlation: Uuid::nil() }
}

fn fields(error: &ControlError) -> Vec<&str> {
    let ControlError::Invalid(faults) = error else { panic!("not invalid: {error:?}") };
    faults.iter().map(|fault| fault.field.as_str()).collect()
}

async fn every_change_is_audited_told_and_verifiable(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.changed.notified().await;
    let before = house.changes().await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("users", limit(6))).await.unwrap();
    house.changed.notified().await;
    assert_eq!(house.changes().await, before + 1);
    let log = house.audit(&acme).await;
    let entry = &log[0].row;
    assert_eq!((entry.action.as_str(), entry.target_id.as_str()), ("quota.set", "users/forever"));
    assert_eq!((entry.correlation, entry.at), (Uuid::max(), house.clock.now()));
    assert_eq!(entry.after.as_ref().unwrap()["limit"], 6);
    let verdict = house.control.verify_audit(&house.owner, Some(&by_id(&acme)), None).await.unwrap();
    assert_eq!(verdict.0, AuditVerdict::Whole { rows: 2, pruned: 0, checkpoints: 0 });
}

async fn ids_are_in_the_order_of_their_making_within_one_instant(store: TestStore) {
    let house = House::on(store);
    let ids: Vec<_> = (0..1_000).map(|_| TenantId(house.control.new_id())).collect();
    assert!(ids.is_sorted() && ids[0] < ids[999]);
}
