//! `[data]`: the directory of the till and the journal.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;

/// What this gateway keeps on its own disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Where the till and the journal live. One gateway per directory: it is locked.
    pub directory: PathBuf,
    /// Most accounts (owner, resource, window) that the till holds at a time. Its file grows up to that.
    pub accounts_max: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { directory: "data".into(), accounts_max: 1 << 20 }
    }
}

impl DataConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("directory").ensure(!self.directory.as_os_str().is_empty(), "must not be empty");
        at.key("accounts_max").within(self.accounts_max, 1_024, 1 << 28);
    }
}
