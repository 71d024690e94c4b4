//! `[journal]`: the durable record of what was used.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::text::{Bytes, FromText, One};

/// The durable record of what was used, and its way to the database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// How much a power loss may cost: a duration, `always` (group commit before the answer) or `never`.
    /// `kill -9` costs nothing in any case.
    #[serde(with = "One::<JournalSync>")]
    pub sync: JournalSync,
    pub on_full: OnFull,
    /// Size of one file.
    #[serde(with = "Bytes")]
    pub segment_bytes: u64,
    /// Most bytes that may wait for the database.
    #[serde(with = "Bytes")]
    pub capacity_bytes: u64,
    /// How often records go to the database.
    #[serde(with = "One::<Duration>")]
    pub flush: Duration,
    pub detail: Detail,
}

/// When journal pages are forced to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalSync {
    Every(Duration),
    Always,
    Never,
}

/// What happens when the journal is full, since the database has been away for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Refuse charged requests with 503.
    #[default]
    Block,
    /// Keep exact sums per account; drop and count the details.
    CountOnly,
}

/// How many rows a request makes in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// One row per tenant, key, resource, route, outcome and 10 s.
    #[default]
    Aggregate,
    /// One row per request.
    Request,
}

// === impl JournalConfig ===

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig {
            sync: JournalSync::Every(Duration::from_millis(50)),
            on_full: OnFull::Block,
            segment_bytes: 64 << 20,
            capacity_bytes: 8 << 30,
            flush: Duration::from_secs(1),
            detail: Detail::Aggregate,
        }
    }
}

impl JournalConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        if let JournalSync::Every(interval) = self.sync {
            at.key("sync").ensure(!interval.is_zero(), "must be longer than zero, or \"always\"");
        }
        at.key("segment_bytes").within(self.segment_bytes, 1 << 20, 1 << 30);
        at.key("capacity_bytes").ensure(
            self.capacity_bytes / 2 >= self.segment_bytes,
            "must hold at least two segments (`segment_bytes`)",
        );
        at.key("flush").positive(self.flush);
    }
}

// === impl JournalSync ===

impl FromText for JournalSync {
    const NAME: &'static str = "JournalSync";
    const EXPECTED: &'static str = "a duration such as \"50ms\", or \"always\" or \"never\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "always" => Some(JournalSync::Always),
            "never" => Some(JournalSync::Never),
            interval => Duration::from_text(interval).map(JournalSync::Every),
        }
    }

    fn to_text(&self) -> String {
        match self {
            JournalSync::Every(interval) => interval.to_text(),
            JournalSync::Always => "always".to_owned(),
            JournalSync::Never => "never".to_owned(),
        }
    }
}
