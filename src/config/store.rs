//! `[store]`: the database of tenants, keys, quotas, usage and audit.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::text::{FromText, One};

/// Where tenants, keys, quotas, usage and audit are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite:PATH`, or `postgres://user:password@host/database`.
    #[serde(with = "One::<StoreUrl>")]
    pub url: StoreUrl,
    /// Most connections to the database at a time.
    pub connections: u32,
    /// Longest wait for a free connection.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
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
        }
    }
}

impl StoreConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("connections").within(self.connections, 1, 1_000);
        at.key("timeout").positive(self.timeout);
    }
}

// === impl StoreUrl ===

impl StoreUrl {
    pub const fn is_postgres(&self) -> bool {
        matches!(self, StoreUrl::Postgres(_))
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
