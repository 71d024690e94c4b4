//! How a tenant fares.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Healthy,
    Warning,
    Critical,
}

impl Health {
    pub const ALL: [Health; 3] = [Health::Healthy, Health::Warning, Health::Critical];

    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Warning => "warning",
            Health::Critical => "critical",
        }
    }

    /// The worse, the higher: by what lists are sorted.
    pub const fn level(self) -> i64 {
        match self {
            Health::Healthy => 0,
            Health::Warning => 1,
            Health::Critical => 2,
        }
    }

    pub fn of_level(level: i64) -> Option<Self> {
        Health::ALL.into_iter().find(|health| health.level() == level)
    }

    pub fn parse(text: &str) -> Option<Self> {
        Health::ALL.into_iter().find(|health| health.as_str() == text)
    }
}
