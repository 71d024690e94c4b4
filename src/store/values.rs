//! How the values of `domain` look in SQL, said once.
//!
//! Ids are UUIDs, amounts 64-bit integers, enums their text. Instants are fixed-width RFC 3339 text on SQLite, so
//! that text order is time order, and `timestamptz` on Postgres, which counts the same microseconds. JSON is text on
//! SQLite and `jsonb` on Postgres. Reading checks: a value that this program can't have written is
//! [`StoreError::Corrupt`] and names its column.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Postgres, Row as _, Sqlite, Type};

use super::StoreError;
use super::sql::{Json, Kind, Row, Value};
use crate::clock::Timestamp;
use crate::domain::Limit;

/// What a column can be read as, from either database.
pub(super) trait Column<'r>:
    Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

impl<'r, T> Column<'r> for T where T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{}

/// What a binary `jsonb` begins with.
const JSONB_VERSION: u8 = 1;
/// Postgres counts from 2000-01-01T00:00:00Z.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The value of a column, of a type that both databases know.
pub(super) fn get<'r, T: Column<'r>>(row: &'r Row, column: &'static str) -> Result<T, StoreError> {
    let value = match row {
        Row::Postgres(row) => row.try_get(column),
        Row::Sqlite(row) => row.try_get(column),
    };
    value.map_err(|error| corrupt(column, error.to_string()))
}

/// The value of the first column.
pub(super) fn scalar<'r, T: Column<'r>>(row: &'r Row) -> Result<T, StoreError> {
    let value = match row {
        Row::Postgres(row) => row.try_get(0),
        Row::Sqlite(row) => row.try_get(0),
    };
    value.map_err(|error| corrupt("1", error.to_string()))
}

/// The value of a text column, understood by `parse`.
pub(super) fn parsed<T>(
    row: &Row,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| corrupt(column, format!("`{text}`")))
}

/// The value of a column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, StoreError> {
    understood(column, &get(row, column)?)
}

pub(super) fn json_or_null<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    get::<Option<Json>>(row, column)?.map(|json| understood(column, &json)).transpose()
}

fn understood<T: serde::de::DeserializeOwned>(column: &'static str, json: &Json) -> Result<T, StoreError> {
    serde_json::from_str(&json.0).map_err(|error| corrupt(column, error.to_string()))
}

pub(super) fn limit(row: &Row, column: &'static str) -> Result<Limit, StoreError> {
    Limit::from_sql(get(row, column)?).map_err(|error| corrupt(column, error.to_string()))
}

/// A column that counts something: the schema keeps it from being negative.
pub(super) fn whole(row: &Row, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = get(row, column)?;
    u64::try_from(number).map_err(|_| corrupt(column, number.to_string()))
}

/// A column of 32 bytes.
pub(super) fn digest(row: &Row, column: &'static str) -> Result<[u8; 32], StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| corrupt(column, format!("{} bytes instead of 32", bytes.len())))
}

/// `value` as a JSON column holds it.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Json {
    // Lists of text, and values that are JSON already: nothing in them can't be written.
    Json(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()))
}

pub(super) fn corrupt(column: &'static str, what: String) -> StoreError {
    StoreError::Corrupt { column, what }
}

// === impl Kind ===

impl Kind {
    /// What Postgres calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Integer => "bigint",
            Kind::Bool => "boolean",
            Kind::Text => "text",
            Kind::Bytes => "bytea",
            Kind::Id => "uuid",
            Kind::Instant => "timestamptz",
            Kind::Json => "jsonb",
        }
    }

    /// What Postgres numbers it, and an array of it: the same in every database.
    const fn oids(self) -> (Oid, Oid) {
        match self {
            Kind::Integer => (Oid(20), Oid(1016)),
            Kind::Bool => (Oid(16), Oid(1000)),
            Kind::Text => (Oid(25), Oid(1009)),
            Kind::Bytes => (Oid(17), Oid(1001)),
            Kind::Id => (Oid(2950), Oid(2951)),
            Kind::Instant => (Oid(1184), Oid(1185)),
            Kind::Json => (Oid(3802), Oid(3807)),
        }
    }
}

// === impl Value ===

/// The type of a value is that of its kind: [`Encode::produces`] says which.
impl Type<Postgres> for Value {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Value {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Value::Integer(number) => buffer.extend_from_slice(&number.to_be_bytes()),
            Value::Bool(is) => buffer.push((*is).into()),
            Value::Text(text) => buffer.extend_from_slice(text.as_bytes()),
            Value::Bytes(bytes) => buffer.extend_from_slice(bytes),
            Value::Id(id) => buffer.extend_from_slice(id.as_bytes()),
            Value::Instant(instant) => {
                let micros = instant.micros().saturating_sub(POSTGRES_EPOCH_MICROS);
                buffer.extend_from_slice(&micros.to_be_bytes());
            }
            Value::Json(Json(text)) => {
                buffer.push(JSONB_VERSION);
                buffer.extend_from_slice(text.as_bytes());
            }
            Value::Array(kind, values) => push_array(*kind, values, buffer)?,
            Value::Null(_) => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        let (element, array) = self.kind().oids();
        Some(PgTypeInfo::with_oid(if matches!(self, Value::Array(..)) { array } else { element }))
    }
}

/// Postgres' binary form of an array: dimensions, whether there are NULLs, the elements' type; the dimension's
/// length and first index; then the elements, each behind its length, which is -1 for NULL.
fn push_array(kind: Kind, values: &[Value], buffer: &mut PgArgumentBuffer) -> Result<(), BoxDynError> {
    let has_nulls = values.iter().any(|value| matches!(value, Value::Null(_)));
    buffer.extend_from_slice(&1_i32.to_be_bytes());
    buffer.extend_from_slice(&i32::from(has_nulls).to_be_bytes());
    buffer.extend_from_slice(&kind.oids().0.0.to_be_bytes());
    buffer.extend_from_slice(&i32::try_from(values.len())?.to_be_bytes());
    buffer.extend_from_slice(&1_i32.to_be_bytes());
    for value in values {
        let at = buffer.len();
        buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        if let IsNull::No = Encode::<Postgres>::encode_by_ref(value, buffer)? {
            let length = i32::try_from(buffer.len() - at - 4)?;
            buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

/// SQLite types values and not parameters.
impl Type<Sqlite> for Value {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Value {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Value::Integer(number) => Encode::<Sqlite>::encode_by_ref(number, buffer),
            Value::Bool(is) => Encode::<Sqlite>::encode_by_ref(is, buffer),
            Value::Text(text) | Value::Json(Json(text)) => Encode::<Sqlite>::encode_by_ref(text, buffer),
            Value::Bytes(bytes) => Encode::<Sqlite>::encode_by_ref(bytes, buffer),
            Value::Id(id) => Encode::<Sqlite>::encode_by_ref(id, buffer),
            Value::Instant(instant) => Encode::<Sqlite>::encode(instant.to_string(), buffer),
            Value::Array(..) => Err("SQLite has no arrays".into()),
            Value::Null(_) => Ok(IsNull::Yes),
        }
    }
}

// === impl Timestamp ===

impl Type<Sqlite> for Timestamp {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }

    fn compatible(info: &SqliteTypeInfo) -> bool {
        <str as Type<Sqlite>>::compatible(info)
    }
}

impl<'r> Decode<'r, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = <&str as Decode<'r, Sqlite>>::decode(value)?;
        Timestamp::parse(text).ok_or_else(|| format!("`{text}` is no instant").into())
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Kind::Instant.oids().0)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<'r, Postgres>>::decode(value)?;
        Ok(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS)))
    }
}

// === impl Json ===

impl Type<Sqlite> for Json {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }

    fn compatible(info: &SqliteTypeInfo) -> bool {
        <str as Type<Sqlite>>::compatible(info)
    }
}

impl<'r> Decode<'r, Sqlite> for Json {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <String as Decode<'r, Sqlite>>::decode(value).map(Json)
    }
}

impl Type<Postgres> for Json {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Kind::Json.oids().0)
    }
}

impl<'r> Decode<'r, Postgres> for Json {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = match value.format() {
            PgValueFormat::Text => value.as_str()?.to_owned(),
            PgValueFormat::Binary => match value.as_bytes()? {
                [JSONB_VERSION, text @ ..] => String::from_utf8(text.to_vec())?,
                other => return Err(format!("{} bytes of another jsonb", other.len()).into()),
            },
        };
        Ok(Json(text))
    }
}
