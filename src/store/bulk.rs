//! Operations over many tenants, and what came of each of them.
//!
//! # Why an item needs no lease
//! Writers of the store take turns, and an item's state changes in the transaction that changes its tenant. Who takes the
//! next item that is pending is alone with it until both are permanent, or neither is.

use super::sql::{Row, query, select};
use super::tenants::push_filter;
use super::values::{get, json, json_or_null, parsed, to_json, whole};
use super::{BadPage, Cursor, Listed, Page, Snapshot, Store, StoreError, TenantFilter, Tx, Visible};
use crate::clock::Timestamp;
use crate::domain::{BulkId, BulkItem, BulkItemState, BulkOperation, BulkState, TenantId};

const OPERATION: &str = "operation_id, state, filter, action, actor, total, changed, unchanged, failed, created_at, \
     finished_at";
const ITEM: &str = "item.tenant_id, slug, item.state, before_json, after_json, error, item.at";

// === impl Store ===

impl Store {
    /// Forgets operations that ended before `at`; answers how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_bulk_operations(&self, at: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let old = query("DELETE FROM bulk_operations WHERE finished_at < $1").bind(at);
        let forgotten = old.execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn bulk_operations(
        &mut self,
        page: &Page,
    ) -> Result<Result<Listed<BulkOperation>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let query = select(OPERATION, "FROM bulk_operations WHERE operation_id < $1").bind(below);
        let cursor = |last: &BulkOperation| Cursor::behind(last.id, last.created_at);
        self.listed(query, "operation_id DESC", page, operation, cursor).await.map(Ok)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn bulk_operation(&mut self, id: BulkId) -> Result<Option<BulkOperation>, StoreError> {
        let row = select(OPERATION, "FROM bulk_operations WHERE operation_id = $1")
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(operation).transpose()
    }

    /// The oldest operation that is not finished.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn running_bulk_operation(&mut self) -> Result<Option<BulkOperation>, StoreError> {
        let rest = "FROM bulk_operations WHERE finished_at IS NULL ORDER BY operation_id LIMIT 1";
        let row = select(OPERATION, rest).fetch_optional(self.connection()).await?;
        row.as_ref().map(operation).transpose()
    }

    /// What came of the tenants of an operation, the newest tenants first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn bulk_items(
        &mut self,
        id: BulkId,
        state: Option<BulkItemState>,
        page: &Page,
    ) -> Result<Result<Listed<BulkItem>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let rest = "FROM bulk_items AS item JOIN organizations AS tenant ON tenant.tenant_id = item.tenant_id
             WHERE operation_id = $1 AND item.tenant_id < $2";
        let mut query = select(ITEM, rest).bind(id.0).bind(below);
        if let Some(state) = state {
            query.push(" AND item.state = ").push_bind(state.as_str());
        }
        let cursor = |last: &BulkItem| Cursor::behind(last.tenant_id, last.at.unwrap_or_default());
        self.listed(query, "item.tenant_id DESC", page, item, cursor).await.map(Ok)
    }
}

fn operation(row: &Row) -> Result<BulkOperation, StoreError> {
    Ok(BulkOperation {
        id: BulkId(get(row, "operation_id")?),
        state: parsed(row, "state", BulkState::parse)?,
        filter: json(row, "filter")?,
        action: json(row, "action")?,
        actor: json(row, "actor")?,
        total: whole(row, "total")?,
        changed: whole(row, "changed")?,
        unchanged: whole(row, "unchanged")?,
        failed: whole(row, "failed")?,
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

fn item(row: &Row) -> Result<BulkItem, StoreError> {
    Ok(BulkItem {
        tenant_id: TenantId(get(row, "tenant_id")?),
        slug: parsed(row, "slug", |text| text.parse().ok())?,
        state: parsed(row, "state", BulkItemState::parse)?,
        before: json_or_null(row, "before_json")?,
        after: json_or_null(row, "after_json")?,
        error: get(row, "error")?,
        at: get(row, "at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds an operation over the tenants that the filter lets through now; answers how many they are.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_bulk_operation(
        &mut self,
        new: &BulkOperation,
        filter: &TenantFilter,
    ) -> Result<u64, StoreError> {
        query(
            "INSERT INTO bulk_operations (operation_id, state, filter, action, actor, total, created_at)
             VALUES ($1, $2, $3, $4, $5, 0, $6)",
        )
        .bind(new.id.0)
        .bind(BulkState::Running.as_str())
        .bind(to_json(&new.filter))
        .bind(to_json(&new.action))
        .bind(to_json(&new.actor))
        .bind(new.created_at)
        .execute(self.connection())
        .await?;
        let mut items = query(
            "INSERT INTO bulk_items (operation_id, tenant_id, state)
             SELECT operation_id, tenant_id, 'pending' FROM organizations, bulk_operations
             WHERE operation_id = $1 AND ",
        )
        .bind(new.id.0);
        push_filter(&mut items, Visible::All, filter);
        let total = items.execute(self.connection()).await?;
        query("UPDATE bulk_operations SET total = $2 WHERE operation_id = $1")
            .bind(new.id.0)
            .bind(i64::try_from(total).unwrap_or(i64::MAX))
            .execute(self.connection())
            .await?;
        Ok(total)
    }

    /// A tenant of the operation to which nothing was done yet; `None` also if the operation is not running.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn next_bulk_item(&mut self, id: BulkId) -> Result<Option<TenantId>, StoreError> {
        let row = query(
            "SELECT item.tenant_id FROM bulk_items AS item
             JOIN bulk_operations AS operation ON operation.operation_id = item.operation_id
             WHERE item.operation_id = $1 AND item.state = 'pending' AND operation.state = 'running'
             ORDER BY item.tenant_id DESC LIMIT 1",
        )
        .bind(id.0)
        .fetch_optional(self.connection())
        .await?;
        row.map(|row| get(&row, "tenant_id").map(TenantId)).transpose()
    }

    /// Notes what came of a tenant. Answers false, and changes nothing, if that is noted already.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn end_bulk_item(
        &mut self,
        id: BulkId,
        item: &BulkItem,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = query(
            "UPDATE bulk_items SET state = $3, before_json = $4, after_json = $5, error = $6, at = $7
             WHERE operation_id = $1 AND tenant_id = $2 AND state = 'pending'",
        )
        .bind(id.0)
        .bind(item.tenant_id.0)
        .bind(item.state.as_str())
        .bind(item.before.as_ref().map(to_json))
        .bind(item.after.as_ref().map(to_json))
        .bind(&item.error)
        .bind(at)
        .execute(self.connection())
        .await?;
        if changed == 0 {
            return Ok(false);
        }
        let count = |state| i64::from(item.state == state);
        query(
            "UPDATE bulk_operations SET changed = changed + $2, unchanged = unchanged + $3, failed = failed + $4
             WHERE operation_id = $1",
        )
        .bind(id.0)
        .bind(count(BulkItemState::Changed))
        .bind(count(BulkItemState::Unchanged))
        .bind(count(BulkItemState::Failed))
        .execute(self.connection())
        .await?;
        Ok(true)
    }

    /// Ends the operation, if it is running. It is done only once nothing is left to do.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn end_bulk_operation(
        &mut self,
        id: BulkId,
        state: BulkState,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut end = query(
            "UPDATE bulk_operations SET state = $2, finished_at = $3 WHERE operation_id = $1 AND state = 'running'",
        );
        if state == BulkState::Done {
            end.push(
                " AND NOT EXISTS (SELECT 1 FROM bulk_items WHERE bulk_items.operation_id = $1
                     AND bulk_items.state = 'pending')",
            );
        }
        Ok(end.bind(id.0).bind(state.as_str()).bind(at).execute(self.connection()).await? > 0)
    }

    /// Has the operation go on: with what was not done when it was cancelled, and with what was refused.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn resume_bulk_operation(&mut self, id: BulkId) -> Result<(), StoreError> {
        query(
            "UPDATE bulk_items SET state = 'pending', error = NULL, at = NULL
             WHERE operation_id = $1 AND state = 'failed'",
        )
        .bind(id.0)
        .execute(self.connection())
        .await?;
        query(
            "UPDATE bulk_operations SET state = 'running', failed = 0, finished_at = NULL WHERE operation_id = $1",
        )
        .bind(id.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
