//! `[billing]`: how what is owed is computed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::identity::is_safe_url;
use super::text::One;
use crate::domain::Resource;

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
    /// For so many days a tenant is served that has not paid; then it is suspended.
    pub grace_days: u32,
    /// Who collects what is owed, and is brought what was used. Absent: nobody.
    pub export: Option<BillingExportConfig>,
}

/// Who collects what is owed: hour by hour it is brought what tenants used, each hour once. A tenant's setting
/// `billing_account` says what it is called there; usage of one that is called nothing is brought nowhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["kind", "secret", "meters"]))]
pub struct BillingExportConfig {
    /// `stripe`, where a tenant's `billing_account` is its customer's id (`cus_…`), or `lago`, where it is its
    /// subscription's external id.
    pub kind: CollectorConfig,
    /// Absent: where Stripe or Lago serves everybody.
    pub url: Option<String>,
    /// The API key that is shown there. For Stripe one that may write meter events, and read meters and subscriptions.
    pub secret: Secret,
    /// Which resources are brought there, and what each is called: the event name of a meter of Stripe's that sums, or
    /// the code of a billable metric of Lago's that sums the field `units`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub meters: BTreeMap<Resource, String>,
    /// How often it is looked for hours that are over, by one gateway of the fleet.
    #[serde(with = "One::<Duration>")]
    pub interval: Duration,
    /// An hour is taken so long after its end: what gateways still hold of it arrives in that time. What comes later is
    /// brought there by itself.
    #[serde(with = "One::<Duration>")]
    pub delay: Duration,
    /// The longest question.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
    /// Certificates (PEM) that the collector's must descend from; the system's if absent.
    pub ca: Option<PathBuf>,
    /// What Stripe signs its messages with (`whsec_…`), two of them while one takes the other's place. With them it is
    /// heard at POST /api/billing/stripe/events of what becomes of subscriptions.
    pub webhook_secrets: Vec<Secret>,
    /// Which tier a price of Stripe's is of, by the price's id (`price_…`): a subscription's price is its tenant's tier.
    pub tiers: BTreeMap<String, String>,
    /// What becomes of a tenant whose subscription at Stripe is over.
    pub on_end: OnEndConfig,
}

/// What becomes of a tenant whose subscription is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnEndConfig {
    /// It is suspended until it has another one.
    #[default]
    Suspend,
    Cancel,
    /// Nothing.
    Keep,
}

/// Who collects what is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CollectorConfig {
    #[default]
    Stripe,
    Lago,
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
            grace_days: 7,
            export: None,
        }
    }
}

impl BillingConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("grace").ensure(self.grace <= GRACE_MAX, "must be 30 days at most");
        at.key("grace_days").within(self.grace_days, 0, 365);
        if let Some(export) = &self.export {
            export.validate(&at.key("export"));
        }
    }
}

// === impl BillingExportConfig ===

impl Default for BillingExportConfig {
    fn default() -> Self {
        BillingExportConfig {
            kind: CollectorConfig::default(),
            url: None,
            secret: Secret::default(),
            meters: BTreeMap::new(),
            interval: Duration::from_secs(60),
            delay: Duration::from_secs(300),
            timeout: Duration::from_secs(15),
            ca: None,
            webhook_secrets: Vec::new(),
            tiers: BTreeMap::new(),
            on_end: OnEndConfig::default(),
        }
    }
}

impl BillingExportConfig {
    /// Uniqueness at Stripe ends a day after an hour was sent first.
    const DELAY_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// What Stripe calls meters by.
    const METER_LENGTH_MAX: usize = 100;

    /// As configured, or where everybody is served.
    pub fn url(&self) -> &str {
        self.url.as_deref().unwrap_or(match self.kind {
            CollectorConfig::Stripe => "https://api.stripe.com",
            CollectorConfig::Lago => "https://api.getlago.com",
        })
    }

    fn validate(&self, at: &Check<'_>) {
        let is_good = is_safe_url(self.url()) && !self.url().contains('?');
        at.key("url").ensure(is_good, "must be an https URL without a query");
        let secret = self.secret.expose();
        let is_good = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        at.key("secret").ensure(is_good, "must be an API key, in printable ASCII without blanks");
        at.key("meters").ensure(!self.meters.is_empty(), "is missing: without it nothing is brought there");
        for (resource, meter) in &self.meters {
            let is_good = (1..=Self::METER_LENGTH_MAX).contains(&meter.chars().count())
                && !meter.contains(char::is_control);
            at.key("meters").key(resource.as_str()).ensure(is_good, "must have 1 to 100 characters");
        }
        at.key("interval").positive(self.interval);
        at.key("delay").ensure(self.delay <= Self::DELAY_MAX, "must be 24 hours at most");
        at.key("timeout").positive(self.timeout);
        self.validate_news(at);
    }

    fn validate_news(&self, at: &Check<'_>) {
        let is_told = !self.webhook_secrets.is_empty() || !self.tiers.is_empty();
        let is_good = self.kind == CollectorConfig::Stripe || !is_told;
        at.key("kind").ensure(is_good, "must be \"stripe\" for `webhook_secrets` and `tiers`");
        let secrets = at.key("webhook_secrets");
        for (index, secret) in self.webhook_secrets.iter().enumerate() {
            secrets.item(index).not_empty(secret.expose());
        }
    }
}
