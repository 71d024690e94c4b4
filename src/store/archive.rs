//! A tenant's rows, table by table, as an export holds them.
//!
//! Which tables and columns those are is said once, in [`PARTS`], and both databases read and write the same: ids and
//! instants as text, bytes in base64, JSON as it is. A row says nothing of whose it is: who imports it gives it to one
//! tenant. What is secret, what belongs to this installation (ranges of journals, grants, notes of changes), what is
//! made anew (checkpoints, the chain's end) and what is on its way to somebody (channels of alerts, deliveries) is in no
//! part.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value as JsonValue};
use uuid::Uuid;

use super::audit::chain_id;
use super::rows::Rows;
use super::sql::{Dialect, Json, Kind, Query, Row, Value, query};
use super::usage::RETENTION_CLASS;
use super::values::{corrupt, get};
use super::{Changed, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, TenantId};
use crate::secret::checkpoint::Checkpoint;
use crate::secret::hex;

/// A table's part of an export.
#[derive(Debug)]
pub struct Part {
    pub name: &'static str,
    table: &'static str,
    /// Of a tenant's rows; the first of them tell the rows apart and give their order.
    columns: &'static [(&'static str, Kind)],
    key: usize,
    whose: Whose,
    /// Who may insert into the table.
    by: By,
}

/// Which rows of a table are a tenant's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    /// They have a tenant_id.
    TenantId,
    /// Their owner is the tenant, or one of its keys.
    Owner,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Platform,
    Ingest,
}

/// Where the reading of a part goes on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Position(Vec<Value>);

/// A row that is not of its part: of which column it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRow(pub &'static str);

/// In the order in which they are imported: what others refer to comes first.
pub static PARTS: [Part; 12] = [
    Part {
        name: "tenant",
        table: "organizations",
        columns: &[
            ("slug", Kind::Text),
            ("name", Kind::Text),
            ("status", Kind::Text),
            ("tier", Kind::Text),
            ("tier_version", Kind::Integer),
            ("parent_id", Kind::Id),
            ("subscription_id", Kind::Text),
            ("billing_email", Kind::Text),
            ("contact_phone", Kind::Text),
            ("timezone", Kind::Text),
            ("locale", Kind::Text),
            ("anchored_at", Kind::Instant),
            ("retention_class", Kind::Integer),
            ("home_region", Kind::Text),
            ("version", Kind::Integer),
            ("created_at", Kind::Instant),
            ("updated_at", Kind::Instant),
            ("deleted_at", Kind::Instant),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "keys",
        table: "api_keys",
        columns: &[
            ("key_id", Kind::Id),
            ("name", Kind::Text),
            ("prefix", Kind::Text),
            ("digest", Kind::Bytes),
            ("pepper_version", Kind::Integer),
            ("scopes", Kind::Json),
            ("routes", Kind::Json),
            ("networks", Kind::Json),
            ("expires_at", Kind::Instant),
            ("enabled", Kind::Bool),
            ("created_at", Kind::Instant),
            ("revoked_at", Kind::Instant),
            ("last_used_at", Kind::Instant),
            ("version", Kind::Integer),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "roles",
        table: "roles",
        columns: &[
            ("role", Kind::Text),
            ("permissions", Kind::Json),
            ("created_at", Kind::Instant),
            ("updated_at", Kind::Instant),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "quotas",
        table: "tenant_resource_quotas",
        columns: &[
            ("owner_kind", Kind::Text),
            ("owner_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("period", Kind::Text),
            ("limit_amount", Kind::Integer),
            ("enforcement", Kind::Text),
            ("on_loss", Kind::Text),
            ("version", Kind::Integer),
            ("reason", Kind::Text),
            ("expires_at", Kind::Instant),
            ("created_at", Kind::Instant),
            ("updated_at", Kind::Instant),
        ],
        key: 4,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "quota_changes",
        table: "quota_changes",
        columns: &[
            ("owner_kind", Kind::Text),
            ("owner_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("period", Kind::Text),
            ("version", Kind::Integer),
            ("change", Kind::Text),
            ("limit_amount", Kind::Integer),
            ("enforcement", Kind::Text),
            ("on_loss", Kind::Text),
            ("reason", Kind::Text),
            ("expires_at", Kind::Instant),
            ("changed_at", Kind::Instant),
        ],
        key: 5,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "alert_rules",
        table: "alert_rules",
        columns: &[
            ("rule_id", Kind::Id),
            ("kind", Kind::Text),
            ("resource_type", Kind::Text),
            ("threshold", Kind::Integer),
            ("enabled", Kind::Bool),
            ("created_at", Kind::Instant),
            ("updated_at", Kind::Instant),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "events",
        table: "usage_events",
        columns: &[
            ("event_id", Kind::Text),
            ("request_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("amount", Kind::Integer),
            ("description", Kind::Text),
            ("answer", Kind::Json),
            ("created_at", Kind::Instant),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "audit_log",
        table: "tenant_audit_logs",
        columns: &[
            ("seq", Kind::Integer),
            ("at", Kind::Instant),
            ("actor_kind", Kind::Text),
            ("actor_id", Kind::Id),
            ("actor_name", Kind::Text),
            ("actor_ip", Kind::Text),
            ("actor_user_agent", Kind::Text),
            ("action", Kind::Text),
            ("target_kind", Kind::Text),
            ("target_id", Kind::Text),
            ("outcome", Kind::Text),
            ("before_json", Kind::Json),
            ("after_json", Kind::Json),
            ("reason", Kind::Text),
            ("correlation", Kind::Id),
            ("prev_hash", Kind::Bytes),
            ("hash", Kind::Bytes),
        ],
        key: 1,
        whose: Whose::TenantId,
        by: By::Platform,
    },
    Part {
        name: "usage_log",
        table: "tenant_usage_logs",
        columns: &[
            ("usage_date", Kind::Instant),
            ("log_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("usage_amount", Kind::Integer),
            ("overage_amount", Kind::Integer),
            ("description", Kind::Text),
            ("key_id", Kind::Id),
            ("route", Kind::Text),
            ("outcome", Kind::Text),
            ("requests", Kind::Integer),
            ("errors", Kind::Integer),
            ("bytes_in", Kind::Integer),
            ("bytes_out", Kind::Integer),
            ("latency_sum_micros", Kind::Integer),
            ("batch_id", Kind::Id),
        ],
        key: 2,
        whose: Whose::TenantId,
        by: By::Ingest,
    },
    Part {
        name: "usage_rollups",
        table: "usage_rollups",
        columns: &[
            ("period", Kind::Text),
            ("bucket_start", Kind::Instant),
            ("resource_type", Kind::Text),
            ("key_id", Kind::Id),
            ("route", Kind::Text),
            ("units", Kind::Integer),
            ("overage", Kind::Integer),
            ("requests", Kind::Integer),
            ("errors", Kind::Integer),
            ("bytes_in", Kind::Integer),
            ("bytes_out", Kind::Integer),
            ("latency_sum_micros", Kind::Integer),
            ("status_2xx", Kind::Integer),
            ("status_3xx", Kind::Integer),
            ("status_4xx", Kind::Integer),
            ("status_5xx", Kind::Integer),
        ],
        key: 5,
        whose: Whose::TenantId,
        by: By::Ingest,
    },
    Part {
        name: "counters",
        table: "account_units",
        columns: &[
            ("owner_kind", Kind::Text),
            ("owner_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("period", Kind::Text),
            ("window_start", Kind::Instant),
            ("window_end", Kind::Instant),
            ("till", Kind::Id),
            ("units", Kind::Integer),
            ("overage", Kind::Integer),
            ("updated_at", Kind::Instant),
        ],
        key: 7,
        whose: Whose::Owner,
        by: By::Ingest,
    },
    Part {
        name: "gauge_levels",
        table: "gauge_levels",
        columns: &[("resource_type", Kind::Text), ("since", Kind::Instant), ("units", Kind::Integer)],
        key: 2,
        whose: Whose::TenantId,
        by: By::Platform,
    },
];

/// Rows that are read, or inserted, at once: bounds the memory.
pub const ROWS_AT_ONCE: usize = 500;

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's next rows of a part, in their order; none at its end. `position` begins as its default.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn part_rows(
        &mut self,
        part: &'static Part,
        tenant: TenantId,
        position: &mut Position,
    ) -> Result<Vec<JsonValue>, StoreError> {
        let rows = part.next(tenant, position).fetch_all(self.connection()).await?;
        if let Some(last) = rows.last() {
            let key = part.columns[..part.key].iter();
            position.0 = key.map(|column| value(last, *column)).collect::<Result<_, _>>()?;
        }
        rows.iter().map(|row| part.read(row)).collect()
    }

    /// Whether there is anything of that tenant, also where the tenant itself is gone.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_rows_of(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        for part in &PARTS {
            if !self.part_rows(part, tenant, &mut Position::default()).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(self.audit_checkpoint(Some(tenant)).await?.seq > 0)
    }
}

/// Its value in `row`, as it can be given to a statement.
fn value(row: &Row, (column, kind): (&'static str, Kind)) -> Result<Value, StoreError> {
    let value = match kind {
        Kind::Integer => get::<Option<i64>>(row, column)?.map(Value::Integer),
        Kind::Bool => get::<Option<bool>>(row, column)?.map(Value::Bool),
        Kind::Text => get::<Option<String>>(row, column)?.map(Value::Text),
        Kind::Bytes => get::<Option<Vec<u8>>>(row, column)?.map(Value::Bytes),
        Kind::Id => get::<Option<Uuid>>(row, column)?.map(Value::Id),
        Kind::Instant => get::<Option<Timestamp>>(row, column)?.map(Value::Instant),
        Kind::Json => get::<Option<Json>>(row, column)?.map(Value::Json),
    };
    Ok(value.unwrap_or(Value::Null(kind)))
}

fn to_json(column: &'static str, value: Value) -> Result<JsonValue, StoreError> {
    Ok(match value {
        Value::Integer(number) => number.into(),
        Value::Bool(is) => is.into(),
        Value::Text(text) => text.into(),
        Value::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
        Value::Id(id) => id.to_string().into(),
        Value::Instant(instant) => instant.to_string().into(),
        Value::Json(Json(text)) => {
            serde_json::from_str(&text).map_err(|error| corrupt(column, error.to_string()))?
        }
        Value::Array(..) | Value::Null(_) => JsonValue::Null,
    })
}

fn from_json(kind: Kind, json: &JsonValue) -> Option<Value> {
    if json.is_null() {
        return Some(Value::Null(kind));
    }
    match kind {
        Kind::Integer => json.as_i64().map(Value::Integer),
        Kind::Bool => json.as_bool().map(Value::Bool),
        Kind::Text => json.as_str().map(|text| Value::Text(text.to_owned())),
        Kind::Bytes => BASE64_STANDARD.decode(json.as_str()?).ok().map(Value::Bytes),
        Kind::Id => Uuid::try_parse(json.as_str()?).ok().map(Value::Id),
        Kind::Instant => Timestamp::parse(json.as_str()?).map(Value::Instant),
        Kind::Json => Some(Value::Json(Json(super::audit::canonical(json)))),
    }
}

// === impl Part ===

impl Part {
    pub fn named(name: &str) -> Option<&'static Part> {
        PARTS.iter().find(|part| part.name == name)
    }

    fn next(&self, tenant: TenantId, position: &Position) -> Query {
        let names =
            |columns: &[(&str, Kind)]| columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let key = names(&self.columns[..self.key]);
        let mut query = query("SELECT ");
        query.push(&names(self.columns)).push(" FROM ").push(self.table).push(" WHERE ");
        match self.whose {
            Whose::TenantId => query.push("tenant_id = ").push_bind(tenant.0),
            Whose::Owner => query
                .push("(owner_id = ")
                .push_bind(tenant.0)
                .push(" OR owner_id IN (SELECT key_id FROM api_keys WHERE tenant_id = ")
                .push_bind(tenant.0)
                .push("))"),
        };
        if !position.0.is_empty() {
            query.push(" AND (").push(&key).push(") > (");
            for (at, value) in position.0.iter().enumerate() {
                query.push(if at > 0 { ", " } else { "" }).push_value(value.clone());
            }
            query.push(")");
        }
        query.push(" ORDER BY ").push(&key).push(" LIMIT ");
        query.push_value(Value::Integer(i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX)));
        query
    }

    fn read(&self, row: &Row) -> Result<JsonValue, StoreError> {
        let mut object = Map::new();
        for &(name, kind) in self.columns {
            object.insert(name.to_owned(), to_json(name, value(row, (name, kind))?)?);
        }
        Ok(object.into())
    }

    /// The row's values, and first whose it is.
    fn values(&self, tenant: TenantId, row: &JsonValue) -> Result<Vec<Value>, BadRow> {
        let mut values = Vec::with_capacity(self.columns.len() + 1);
        if self.whose == Whose::TenantId {
            values.push(Value::Id(tenant.0));
        }
        for &(name, kind) in self.columns {
            let value = row.get(name).and_then(|json| from_json(kind, json));
            values.push(value.ok_or(BadRow(name))?);
        }
        Ok(values)
    }

    fn inserted(&self) -> Vec<(&'static str, Kind)> {
        let own = self.columns.iter().copied();
        match self.whose {
            Whose::TenantId => std::iter::once(("tenant_id", Kind::Id)).chain(own).collect(),
            Whose::Owner => own.collect(),
        }
    }
}

// === impl Tx ===

impl Tx {
    /// Inserts rows of a part as that tenant's.
    ///
    /// # Errors
    /// [`StoreError`], also for rows that are there already, or that the schema refuses; `Ok(Err(BadRow))` for one that is
    /// not of this part.
    pub async fn insert_part(
        &mut self,
        part: &'static Part,
        tenant: TenantId,
        rows: &[JsonValue],
    ) -> Result<Result<(), BadRow>, StoreError> {
        let rows: Result<Vec<_>, _> = rows.iter().map(|row| part.values(tenant, row)).collect();
        let rows = match rows {
            Ok(rows) => rows,
            Err(bad) => return Ok(Err(bad)),
        };
        if part.name == "usage_log" {
            self.make_room_for(&rows).await?;
        }
        let key = |row: &Vec<Value>| match row.get(1) {
            Some(Value::Id(key)) if part.name == "keys" => Some(ApiKeyId(*key)),
            _ => None,
        };
        let keys: Vec<_> = rows.iter().filter_map(key).collect();
        self.work_by(part.by).await?;
        let rows = Rows::of(part.table, part.inserted(), rows.into_iter());
        let rows = match part.name {
            "usage_log" => rows.looking_up(RETENTION_CLASS),
            _ => rows,
        };
        rows.insert("", self.connection()).await?;
        self.work_by(By::Platform).await?;
        self.changed(Changed::Tenant(tenant));
        // Gateways may remember that there is no such key.
        keys.into_iter().for_each(|key| self.changed(Changed::Key(key)));
        Ok(Ok(()))
    }

    /// On Postgres: whose rights the transaction has from now on.
    async fn work_by(&mut self, by: By) -> Result<(), StoreError> {
        if self.connection().dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let role = match by {
            By::Platform => "SET LOCAL ROLE tollgate_platform",
            By::Ingest => "SET LOCAL ROLE tollgate_ingest",
        };
        Ok(self.connection().run(role).await?)
    }

    /// On Postgres: rows of months that are over need partitions, which retention then drops in their time.
    async fn make_room_for(&mut self, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        if self.connection().dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let mut months: Vec<(String, Timestamp)> = Vec::new();
        for row in rows {
            if let Some(&Value::Instant(date)) = row.get(1) {
                let month: String = date.to_string().chars().take("2026-11".len()).collect();
                if !months.iter().any(|(made, _)| *made == month) {
                    months.push((month, date));
                }
            }
        }
        self.work_by(By::Ingest).await?;
        for (_, date) in months {
            let make = query("SELECT tollgate_make_partitions($1)").bind(date);
            make.fetch_number(self.connection()).await?;
        }
        self.work_by(By::Platform).await
    }

    /// Sets the end of a chain whose rows were inserted.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_audit_end(&mut self, tenant: TenantId, end: &Checkpoint) -> Result<(), StoreError> {
        let hash = hex::decoded(&end.hash).ok_or_else(|| corrupt("hash", end.hash.clone()))?;
        query("INSERT INTO audit_chains (tenant_id, seq, hash) VALUES ($1, $2, $3)")
            .bind(chain_id(Some(tenant)))
            .bind(end.seq)
            .bind(hash.as_slice())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
