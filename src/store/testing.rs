//! A store of one test: a real SQLite file that goes away with it.

use std::path::Path;

use tempfile::TempDir;
use uuid::Uuid;

use super::{Store, StoreUrl};
use crate::clock::Timestamp;
use crate::domain::{
    Actor, Anchor, ApiKey, ApiKeyId, AuditOutcome, AuditRow, KeyLimits, Slug, Tenant, TenantId, TenantStatus,
    Zone,
};

/// Keep the directory as long as the store.
pub(crate) async fn temporary() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    store.migrate().await.unwrap();
    (directory, store)
}

/// Not migrated.
pub(crate) async fn open(directory: &Path) -> Store {
    Store::open(&StoreUrl::Sqlite(directory.join("tollgate.db"))).await.unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// An active tenant on the free tier.
pub(crate) fn tenant(slug: &str) -> Tenant {
    let created_at = at("2026-11-23T06:00:00Z");
    Tenant {
        id: TenantId(Uuid::now_v7()),
        name: slug.to_owned(),
        slug: slug.parse::<Slug>().unwrap(),
        status: TenantStatus::Active,
        tier: "free".to_owned(),
        tier_version: 1,
        parent: None,
        billing_email: None,
        contact_phone: None,
        timezone: Zone::UTC,
        locale: "en".to_owned(),
        anchor: Anchor::Anniversary(created_at),
        created_at,
        updated_at: created_at,
        version: 1,
    }
}

pub(crate) fn key(tenant: &Tenant, name: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId(Uuid::now_v7()),
        tenant: tenant.id,
        name: name.to_owned(),
        prefix: "tg_live_0123456789".to_owned(),
        limits: KeyLimits::default(),
        enabled: true,
        created_at: tenant.created_at,
        revoked_at: None,
        last_used_at: None,
    }
}

pub(crate) fn audit_row(tenant: Option<TenantId>, action: &str) -> AuditRow {
    AuditRow {
        at: at("2026-11-23T06:00:00.000001Z"),
        tenant,
        actor: Actor {
            ip: Some("2001:db8::1".parse().unwrap()),
            user_agent: Some("curl/8".to_owned()),
            ..Actor::system("test")
        },
        action: action.to_owned(),
        target_kind: "tenant".to_owned(),
        target_id: "acme".to_owned(),
        outcome: AuditOutcome::Done,
        before: Some(serde_json::json!({"b": 1, "a": [null, true, "\u{1F600} \"quoted\"\n"]})),
        after: None,
        reason: None,
        correlation: Uuid::now_v7(),
    }
}
