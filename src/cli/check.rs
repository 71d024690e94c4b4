//! `check` and `schema`: the configuration, looked at without running anything.

use std::path::Path;

use serde_json::json;

use super::Found;
use crate::config::{Config, Loaded};

/// All faults of the configuration, or that it has none.
pub(super) fn check(file: Option<&Path>) -> Found {
    match Config::load(file) {
        Ok(Loaded { source, .. }) => Found {
            json: json!({ "ok": true, "source": source.to_string(), "faults": [] }).to_string(),
            text: format!("{source}: the configuration is good\n"),
            status: 0,
        },
        Err(faults) => {
            let count = faults.len();
            let plural = if count == 1 { "fault" } else { "faults" };
            Found {
                json: json!({ "ok": false, "faults": &faults }).to_string(),
                text: format!("{faults}\n{count} {plural}\n"),
                status: 1,
            }
        }
    }
}
