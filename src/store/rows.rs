//! Many rows of one table in one statement.
//!
//! # Why arrays and not COPY on Postgres
//! Postgres refuses to copy into a table that has row-level security, and a staging table beside it would have to be
//! written and read as well. An array per column is as compact as a binary COPY, its statement stays prepared
//! whatever the number of rows, and it can do what COPY can't: `ON CONFLICT`.

use super::StoreError;
use super::sql::{Connection, Dialect, Kind, Query, Value, query};

/// Rows to insert. Those of the same table have the same columns, in the same order.
pub(super) struct Rows<R> {
    table: &'static str,
    columns: Vec<(&'static str, Kind)>,
    looked_up: Option<LookedUp>,
    rows: Vec<R>,
}

/// A further column, whose value the database looks up for each row, which it knows as `new`.
#[derive(Clone, Copy)]
pub(super) struct LookedUp {
    pub(super) column: &'static str,
    pub(super) value: &'static str,
    pub(super) join: &'static str,
}

/// SQLite takes 32,766 values in a statement; no row here has more than 19.
const ROWS_MAX: usize = 1_500;

/// A row is an array of values, or a vector where only its table says how many there are.
impl<R: AsRef<[Value]> + IntoIterator<Item = Value>> Rows<R> {
    pub(super) fn of(
        table: &'static str,
        columns: impl Into<Vec<(&'static str, Kind)>>,
        rows: impl Iterator<Item = R>,
    ) -> Rows<R> {
        Rows { table, columns: columns.into(), looked_up: None, rows: rows.collect() }
    }

    pub(super) fn looking_up(self, column: LookedUp) -> Rows<R> {
        Rows { looked_up: Some(column), ..self }
    }

    /// Inserts them in their order; `then` follows the statement, for example with `ON CONFLICT`.
    ///
    /// # Errors
    /// [`StoreError`]; some of them may be inserted then, as far as the transaction is committed all the same.
    pub(super) async fn insert(
        self,
        then: &'static str,
        mut connection: Connection<'_>,
    ) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if connection.dialect() == Dialect::Postgres {
            return self.into_arrays(then).execute(connection).await.map(drop);
        }
        for rows in self.rows.chunks(ROWS_MAX) {
            // Statements differ in their number of rows, so keeping them prepared would not pay.
            self.as_values(rows, then).once().execute(connection.again()).await?;
        }
        Ok(())
    }

    fn into_arrays(self, then: &str) -> Query {
        let looked_up = self.looked_up.unwrap_or(LookedUp { column: "", value: "", join: "" });
        let comma = if self.looked_up.is_some() { ", " } else { "" };
        let mut query = self.begun();
        query.push(comma).push(looked_up.column).push(") SELECT ").push(&self.names("new."));
        query.push(comma).push(looked_up.value).push(" FROM UNNEST(");
        let names = self.names("");
        let mut values: Vec<_> = self.rows.into_iter().map(R::into_iter).collect();
        for (number, (_, kind)) in self.columns.into_iter().enumerate() {
            query.push(if number > 0 { ", " } else { "" });
            let column = values.iter_mut().filter_map(Iterator::next).collect();
            query.push_value(Value::Array(kind, column)).push("::").push(kind.name()).push("[]");
        }
        query.push(") AS new (").push(&names).push(") ").push(looked_up.join).push(" ").push(then);
        query
    }

    fn as_values(&self, rows: &[R], then: &str) -> Query {
        let mut query = self.begun();
        query.push(") VALUES ");
        for (number, row) in rows.iter().enumerate() {
            query.push(if number > 0 { ", (" } else { "(" });
            for (number, value) in row.as_ref().iter().enumerate() {
                query.push(if number > 0 { ", " } else { "" }).push_unnumbered(value.clone());
            }
            query.push(")");
        }
        query.push(" ").push(then);
        query
    }

    fn begun(&self) -> Query {
        let mut query = query("INSERT INTO ");
        query.push(self.table).push(" (").push(&self.names(""));
        query
    }

    fn names(&self, prefix: &str) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
        names.join(", ")
    }
}
