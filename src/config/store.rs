//! `[store]`: the database of tenants, keys, quotas, usage and audit.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::outside::{Outside, environment};
use super::text::{FromText, One};

/// Where tenants, keys, quotas, usage and audit are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite:PATH`, or `postgres://user:password@host/database` of a role that owns no table.
    #[serde(with = "One::<StoreUrl>")]
    pub url: StoreUrl,
    /// Most connections to the database at a time, on Postgres; the flush has two more, and one listens for changes.
    pub connections: u32,
    /// Longest wait for a free connection.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
    /// Longest statement, on Postgres.
    #[serde(with = "One::<Duration>")]
    pub statement_timeout: Duration,
    /// Longest wait for a lock that another transaction holds, and longest pause within one, on Postgres.
    #[serde(with = "One::<Duration>")]
    pub lock_timeout: Duration,
}

/// Which database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreUrl {
    /// A file, created when it is missing.
    Sqlite(PathBuf),
    /// The URL as written: it may hold a password.
    Postgres(Secret),
}

// === impl StoreConfig ===

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            url: StoreUrl::Sqlite("data/tollgate.db".into()),
            connections: 16,
            timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
        }
    }
}

impl StoreConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("connections").within(self.connections, 1, 1_000);
        at.key("timeout").positive(self.timeout);
        at.key("statement_timeout").positive(self.statement_timeout);
        at.key("lock_timeout").positive(self.lock_timeout);
    }
}

// === impl StoreUrl ===

impl StoreUrl {
    pub const fn is_postgres(&self) -> bool {
        matches!(self, StoreUrl::Postgres(_))
    }

    /// A URL that was given outside a configuration, itself or as `env:NAME` or `file:PATH`.
    ///
    /// # Errors
    /// A sentence that does not show the URL.
    pub fn given(text: &str) -> Result<StoreUrl, String> {
        let outside = Outside::new(&environment);
        let referred = outside.reference(text).map(|reference| outside.resolve(&reference)).transpose()?;
        let url = StoreUrl::from_text(referred.as_deref().unwrap_or(text));
        url.ok_or_else(|| format!("expected {}", StoreUrl::EXPECTED))
    }
}

impl FromText for StoreUrl {
    const NAME: &'static str = "StoreUrl";
    const EXPECTED: &'static str = "\"sqlite:PATH\" or \"postgres://user@host/database\"";

    fn from_text(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            // SQLite's name for a database that is gone with the process.
            let is_file = !path.is_empty() && path != ":memory:";
            return is_file.then(|| StoreUrl::Sqlite(path.into()));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))?;
        (!rest.is_empty()).then(|| StoreUrl::Postgres(Secret::new(text)))
    }

    fn to_text(&self) -> String {
        match self {
            StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            StoreUrl::Postgres(_) => "postgres://***".to_owned(),
        }
    }
}
