//! One statement text for two databases: statements with their values, and the rows that come back.
//!
//! A [`Query`] is written once and run on whichever [`Connection`] it is given; its values know their own form in
//! each dialect ([`Value`], and `values.rs` for what `sqlx` does not know). Where dialects can't agree the text is
//! chosen by [`Dialect`], in the few places that need it.
//!
//! # Why not `sqlx::Any`
//! It knows neither UUIDs nor instants nor JSON, and forgets which kind of NULL it binds.

use std::borrow::Cow;

use sqlx::database::HasStatementCache;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Database, Encode, PgConnection, Postgres, Sqlite, SqliteConnection, Type};
use uuid::Uuid;

use super::StoreError;
use super::values::scalar;
use crate::clock::Timestamp;
use crate::domain::AccountKey;

/// What a store speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// Where a statement runs.
pub(super) enum Connection<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
}

/// A row as it comes from the database; read by [`super::values`].
pub(super) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

/// JSON as text; a column of a type of its own on Postgres.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Json(pub(super) String);

/// A value that a statement is given.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Integer(i64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
    Instant(Timestamp),
    Json(Json),
    /// Many of one kind; for Postgres only.
    Array(Kind, Vec<Value>),
    /// Of that kind: Postgres decides a parameter's type without its value.
    Null(Kind),
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Integer,
    Bool,
    Text,
    Bytes,
    Id,
    Instant,
    Json,
}

/// What can be given to a statement.
pub(super) trait Bind {
    const KIND: Kind;

    fn value(self) -> Value;
}

/// A statement and the values of its `$1`, `$2`, …
pub(super) struct Query {
    text: Cow<'static, str>,
    values: Vec<Value>,
    is_kept: bool,
}

/// A statement whose values are to be bound.
pub(super) const fn query(text: &'static str) -> Query {
    Query { text: Cow::Borrowed(text), values: Vec::new(), is_kept: true }
}

/// `SELECT columns rest`. Columns are named rather than asked for by `*`: a statement that Postgres keeps prepared may
/// not answer others one day, and a newer program may add some while this one runs.
pub(super) fn select(columns: &'static str, rest: &'static str) -> Query {
    let mut query = query("SELECT ");
    query.push(columns).push(" ").push(rest);
    query
}

// === impl Connection ===

impl Connection<'_> {
    pub(super) const fn dialect(&self) -> Dialect {
        match self {
            Connection::Postgres(_) => Dialect::Postgres,
            Connection::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The same, lent for one statement.
    pub(super) fn again(&mut self) -> Connection<'_> {
        match self {
            Connection::Postgres(connection) => Connection::Postgres(connection),
            Connection::Sqlite(connection) => Connection::Sqlite(connection),
        }
    }

    /// Runs statements that have no values and whose rows nobody reads, as many as the text has.
    pub(super) async fn run(self, text: impl Into<Cow<'static, str>>) -> Result<(), sqlx::Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(text.into()));
        match self {
            Connection::Postgres(connection) => statements.execute(connection).await.map(drop),
            Connection::Sqlite(connection) => statements.execute(connection).await.map(drop),
        }
    }
}

// === impl Query ===

impl Query {
    /// The value of the next `$n`.
    pub(super) fn bind(mut self, value: impl Bind) -> Query {
        self.values.push(value.value());
        self
    }

    /// The values of the next six `$n`, which are an account in the order of its columns: owner_kind, owner_id,
    /// resource_type, period, window_start, window_end.
    pub(super) fn bind_account(self, account: &AccountKey) -> Query {
        let AccountKey { owner, resource, window } = account;
        self.bind(owner.kind())
            .bind(owner.uuid())
            .bind(resource.as_str())
            .bind(window.period.as_str())
            .bind(window.start)
            .bind(window.end)
    }

    /// The values of the next `$n`, which is an array. For Postgres only.
    pub(super) fn bind_all<T: Bind>(mut self, values: impl Iterator<Item = T>) -> Query {
        self.values.push(Value::Array(T::KIND, values.map(T::value).collect()));
        self
    }

    /// Goes on with `text`.
    pub(super) fn push(&mut self, text: &str) -> &mut Query {
        self.text.to_mut().push_str(text);
        self
    }

    /// Goes on with the next `$n`, which is `value`.
    pub(super) fn push_bind(&mut self, value: impl Bind) -> &mut Query {
        self.push_value(value.value())
    }

    pub(super) fn push_value(&mut self, value: Value) -> &mut Query {
        self.values.push(value);
        let number = self.values.len();
        self.push("$").push(&number.to_string())
    }

    /// The same for SQLite alone, without a number: it looks for a numbered parameter among all before it, which makes
    /// a statement with thousands of them take seconds.
    pub(super) fn push_unnumbered(&mut self, value: Value) -> &mut Query {
        self.values.push(value);
        self.push("?")
    }

    /// Not kept prepared: its text will hardly come again.
    pub(super) fn once(mut self) -> Query {
        self.is_kept = false;
        self
    }

    /// Answers how many rows were changed.
    pub(super) async fn execute(self, connection: Connection<'_>) -> Result<u64, StoreError> {
        Ok(match connection {
            Connection::Postgres(on) => self.bound::<Postgres>().execute(on).await?.rows_affected(),
            Connection::Sqlite(on) => self.bound::<Sqlite>().execute(on).await?.rows_affected(),
        })
    }

    pub(super) async fn fetch_all(self, connection: Connection<'_>) -> Result<Vec<Row>, StoreError> {
        Ok(match connection {
            Connection::Postgres(on) => {
                self.bound::<Postgres>().fetch_all(on).await?.into_iter().map(Row::Postgres).collect()
            }
            Connection::Sqlite(on) => {
                self.bound::<Sqlite>().fetch_all(on).await?.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    pub(super) async fn fetch_optional(self, connection: Connection<'_>) -> Result<Option<Row>, StoreError> {
        Ok(match connection {
            Connection::Postgres(on) => self.bound::<Postgres>().fetch_optional(on).await?.map(Row::Postgres),
            Connection::Sqlite(on) => self.bound::<Sqlite>().fetch_optional(on).await?.map(Row::Sqlite),
        })
    }

    pub(super) async fn fetch_one(self, connection: Connection<'_>) -> Result<Row, StoreError> {
        self.fetch_optional(connection).await?.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
    }

    /// The number in the first column of the only row.
    pub(super) async fn fetch_number(self, connection: Connection<'_>) -> Result<i64, StoreError> {
        scalar(&self.fetch_one(connection).await?)
    }

    fn bound<DB: Database + HasStatementCache>(self) -> sqlx::query::Query<'static, DB, DB::Arguments>
    where
        Value: Encode<'static, DB> + Type<DB>,
        DB::Arguments: sqlx::IntoArguments<DB>,
    {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(self.is_kept);
        self.values.into_iter().fold(query, sqlx::query::Query::bind)
    }
}

// === impl Value ===

impl Value {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Value::Integer(_) => Kind::Integer,
            Value::Bool(_) => Kind::Bool,
            Value::Text(_) => Kind::Text,
            Value::Bytes(_) => Kind::Bytes,
            Value::Id(_) => Kind::Id,
            Value::Instant(_) => Kind::Instant,
            Value::Json(_) => Kind::Json,
            Value::Array(kind, _) | Value::Null(kind) => *kind,
        }
    }
}

// === impl Bind ===

impl Bind for i64 {
    const KIND: Kind = Kind::Integer;

    fn value(self) -> Value {
        Value::Integer(self)
    }
}

impl Bind for u32 {
    const KIND: Kind = Kind::Integer;

    fn value(self) -> Value {
        Value::Integer(self.into())
    }
}

impl Bind for bool {
    const KIND: Kind = Kind::Bool;

    fn value(self) -> Value {
        Value::Bool(self)
    }
}

impl Bind for String {
    const KIND: Kind = Kind::Text;

    fn value(self) -> Value {
        Value::Text(self)
    }
}

impl Bind for &str {
    const KIND: Kind = Kind::Text;

    fn value(self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl Bind for &[u8] {
    const KIND: Kind = Kind::Bytes;

    fn value(self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

impl Bind for Uuid {
    const KIND: Kind = Kind::Id;

    fn value(self) -> Value {
        Value::Id(self)
    }
}

impl Bind for Timestamp {
    const KIND: Kind = Kind::Instant;

    fn value(self) -> Value {
        Value::Instant(self)
    }
}

impl Bind for Json {
    const KIND: Kind = Kind::Json;

    fn value(self) -> Value {
        Value::Json(self)
    }
}

impl<T: Bind> Bind for Option<T> {
    const KIND: Kind = T::KIND;

    fn value(self) -> Value {
        self.map_or(Value::Null(T::KIND), T::value)
    }
}

impl<T: Bind + Clone> Bind for &T {
    const KIND: Kind = T::KIND;

    fn value(self) -> Value {
        self.clone().value()
    }
}
