//! `[telemetry]`: logs and metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;

/// Logs and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by module, for example `info,tollgate::flush=debug`.
    pub log_filter: String,
    /// Log each request.
    pub access_log: bool,
    /// How many tenants have metrics of their own, the busiest first. The rest are summed as `other`.
    pub tenants_max: usize,
}

/// The form of log lines, on standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Json,
    Text,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        TelemetryConfig {
            log_format: LogFormat::Auto,
            log_filter: "info".to_owned(),
            access_log: false,
            tenants_max: 100,
        }
    }
}

impl TelemetryConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("log_filter").not_empty(&self.log_filter);
        // Each tenant has about twenty series, and a scrape carries them all.
        at.key("tenants_max").within(self.tenants_max, 0, 10_000);
    }
}
