//! What changed, in order: how gateways learn that they must read something again.

use uuid::Uuid;

use super::postgres::notify;
use super::sql::{Dialect, Row, query};
use super::values::{corrupt, get};
use super::{Snapshot, Store, StoreError, Tx};
use crate::domain::{ApiKeyId, TenantId};

/// One row of `directory_changes`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Ever rising; a reader asks for what is beyond the last it saw.
    pub version: i64,
    pub what: Changed,
}

/// What gateways know and must forget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    /// The tenant, its quotas, and so what all its keys may use.
    Tenant(TenantId),
    Key(ApiKeyId),
    /// All tenants of that tier.
    Tier(String),
}

/// A gateway that polls every few seconds is never so far behind; one that is forgets everything it knows.
pub(super) const CHANGES_KEPT: i64 = 10_000;

// === impl Store ===

impl Store {
    /// At most `limit` changes beyond `version`, oldest first.
    ///
    /// The oldest of many changes are pruned. A reader whose `version` is below [`Store::oldest_change`] - 1 has
    /// missed some and must forget everything it knows.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn changes_after(&self, version: i64, limit: u32) -> Result<Vec<Change>, StoreError> {
        let rows = query(
            "SELECT version, kind, id FROM directory_changes WHERE version > $1 ORDER BY version LIMIT $2",
        )
        .bind(version)
        .bind(limit)
        .fetch_all(self.read().await?.connection())
        .await?;
        rows.iter().map(change).collect()
    }

    /// The version of the latest change; 0 when there never was one.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn latest_change(&self) -> Result<i64, StoreError> {
        self.read().await?.latest_change().await
    }

    /// The version of the oldest change that is still known; 0 when there never was one.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn oldest_change(&self) -> Result<i64, StoreError> {
        query("SELECT COALESCE(MIN(version), 0) FROM directory_changes")
            .fetch_number(self.read().await?.connection())
            .await
    }
}

fn change(row: &Row) -> Result<Change, StoreError> {
    let (kind, id): (&str, &str) = (get(row, "kind")?, get(row, "id")?);
    let what = Changed::read(kind, id).ok_or_else(|| corrupt("id", format!("{kind} `{id}`")))?;
    Ok(Change { version: get(row, "version")?, what })
}

// === impl Changed ===

impl Changed {
    fn read(kind: &str, id: &str) -> Option<Changed> {
        match kind {
            "tenant" => Uuid::try_parse(id).ok().map(|id| Changed::Tenant(TenantId(id))),
            "key" => Uuid::try_parse(id).ok().map(|id| Changed::Key(ApiKeyId(id))),
            "tier" => Some(Changed::Tier(id.to_owned())),
            _ => None,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Changed::Tenant(_) => "tenant",
            Changed::Key(_) => "key",
            Changed::Tier(_) => "tier",
        }
    }

    fn id(&self) -> String {
        match self {
            Changed::Tenant(id) => id.to_string(),
            Changed::Key(id) => id.to_string(),
            Changed::Tier(slug) => slug.clone(),
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The version of the latest change that is in the snapshot; 0 when there never was one.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn latest_change(&mut self) -> Result<i64, StoreError> {
        let latest = "SELECT COALESCE(MAX(version), 0) FROM directory_changes";
        query(latest).fetch_number(self.connection()).await
    }
}

// === impl Tx ===

impl Tx {
    /// Last in the transaction, whose turn it is: so versions rise in the order of commits.
    pub(super) async fn insert_changes(&mut self, changes: &[Changed]) -> Result<(), StoreError> {
        for what in changes {
            let version = query("INSERT INTO directory_changes (kind, id) VALUES ($1, $2) RETURNING version")
                .bind(what.kind())
                .bind(what.id())
                .fetch_number(self.connection())
                .await?;
            query("DELETE FROM directory_changes WHERE version <= $1")
                .bind(version - CHANGES_KEPT)
                .execute(self.connection())
                .await?;
        }
        if !changes.is_empty() && self.connection().dialect() == Dialect::Postgres {
            notify(self.connection()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
