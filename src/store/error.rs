//! What can go wrong between the store and its database.

use std::path::PathBuf;

/// The database did not do what it was asked. Not finding something is no error here.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("`{0}` is no store's address: sqlite:PATH or postgres://user@host/database")]
    Url(String),
    /// The URL itself is not shown: it may hold a password.
    #[error("store.url is no address of a Postgres database")]
    PostgresUrl(#[source] sqlx::Error),
    #[error("{0} can't be opened or made")]
    File(PathBuf, #[source] std::io::Error),
    /// The statement failed or the connection was lost; a later attempt may succeed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    #[error("migration {number} ({name}) failed")]
    Migration { number: i64, name: &'static str, source: sqlx::Error },
    /// A migration that was applied is not the one of this program.
    #[error(
        "migration {number} was applied in another form than this program's {name}; was the file edited?"
    )]
    MigrationChanged { number: i64, name: &'static str },
    /// The database is newer than the program.
    #[error("the database has migration {0}, which this program does not know: start a newer one")]
    TooNew(i64),
    /// Serving changes no schema on Postgres: its login may not.
    #[error("the database lacks migration {number} ({name}): run `tollgate migrate`")]
    NotMigrated { number: i64, name: &'static str },
    #[error(
        "there is no role {0:?} to serve with: create it (CREATE ROLE … LOGIN NOINHERIT), then migrate again"
    )]
    NoLogin(String),
    /// The database would let one tenant see another's rows. Each is a sentence that says what to do.
    #[error("the database does not keep tenants apart:\n  {}", .0.join("\n  "))]
    NotIsolated(Vec<String>),
    /// A range of a journal was committed before with another end or other contents.
    #[error("the journal's range {range} was committed up to {committed_to} before: a fault of this program")]
    RangeDiffers { range: String, committed_to: i64 },
    /// A row that this program can't have written.
    #[error("column {column} holds what it can't hold: {what}")]
    Corrupt { column: &'static str, what: String },
    /// The shipped tier file is wrong: a fault of this program.
    #[error("config/tiers.toml is wrong")]
    Tiers(#[source] toml::de::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error)
    }
}

impl StoreError {
    /// Whether a row was refused because there is one of its key.
    pub fn is_taken(&self) -> bool {
        let StoreError::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation()
    }
}
