//! `[billing]`: how what is owed is computed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::text::One;

/// How what is owed is computed. An invoice that was finalized keeps the way in which it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BillingConfig {
    /// An invoice is finalized so long after its period's end: what gateways still hold arrives in that time. What comes
    /// later is corrected in the next one.
    #[serde(with = "One::<Duration>")]
    pub grace: Duration,
    /// What the parts of a price are counted in when a tier changes within a period.
    pub proration: ProrationConfig,
    /// What happens to half a cent.
    pub rounding: RoundingConfig,
}

/// What the parts of a price are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProrationConfig {
    /// Days of the tenant's zone, each of which belongs to the tier that it ends with.
    #[default]
    Day,
    Second,
}

/// What happens to half a minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundingConfig {
    /// It goes to the even neighbour.
    #[default]
    HalfEven,
    /// It goes away from zero.
    HalfUp,
}

const GRACE_MAX: Duration = Duration::from_secs(30 * 86_400);

// === impl BillingConfig ===

impl Default for BillingConfig {
    fn default() -> Self {
        BillingConfig {
            grace: Duration::from_secs(3_600),
            proration: ProrationConfig::default(),
            rounding: RoundingConfig::default(),
        }
    }
}

impl BillingConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("grace").ensure(self.grace <= GRACE_MAX, "must be 30 days at most");
    }
}
