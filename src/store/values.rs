//! How the values of `domain` look in SQL, said once.
//!
//! Ids are bound as UUIDs, amounts as 64-bit integers, enums as their text. Reading checks: a value that this
//! program can't have written is [`StoreError::Corrupt`] and names its column.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteRow, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Row, Sqlite, Type};

use super::StoreError;
use crate::clock::Timestamp;
use crate::domain::Limit;

/// The value of a column, of a type that the database knows.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column).map_err(|error| corrupt(column, error.to_string()))
}

/// The value of a text column, understood by `parse`.
pub(super) fn parsed<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| corrupt(column, format!("`{text}`")))
}

/// The value of a text column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| corrupt(column, error.to_string()))
}

pub(super) fn json_or_null<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    if get::<Option<&str>>(row, column)?.is_none() { Ok(None) } else { json(row, column).map(Some) }
}

pub(super) fn limit(row: &SqliteRow, column: &'static str) -> Result<Limit, StoreError> {
    Limit::from_sql(get(row, column)?).map_err(|error| corrupt(column, error.to_string()))
}

/// A column of 32 bytes.
pub(super) fn digest(row: &SqliteRow, column: &'static str) -> Result<[u8; 32], StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| corrupt(column, format!("{} bytes instead of 32", bytes.len())))
}

/// `value` as a JSON column holds it.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    // Lists of text, and values that are JSON already: nothing in them can't be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

pub(super) fn corrupt(column: &'static str, what: String) -> StoreError {
    StoreError::Corrupt { column, what }
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

impl<'q> Encode<'q, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<'q, Sqlite>>::encode(self.to_string(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = <&str as Decode<'r, Sqlite>>::decode(value)?;
        Timestamp::parse(text).ok_or_else(|| format!("`{text}` is no instant").into())
    }
}
