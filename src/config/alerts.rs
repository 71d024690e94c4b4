//! `[alerts]`: what tenants are told in time, and how it reaches them.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::text::{Many, One, is_host};

/// What tenants are told in time, and how it reaches them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Of how much of a quota every tenant is told, in percent of the limit. A tenant may turn them off and set its own.
    pub thresholds: Vec<u32>,
    /// How often use is looked at, by one gateway of the fleet.
    #[serde(with = "One::<Duration>")]
    pub interval: Duration,
    /// How often health, and what may be an attack, are looked at. A change of health is told of when it was seen twice.
    #[serde(with = "One::<Duration>")]
    pub slow_interval: Duration,
    /// How often the audit logs of all tenants are verified.
    #[serde(with = "One::<Duration>")]
    pub audit_interval: Duration,
    /// How often it is foreseen, from what was used in the weeks before, which quotas will be used up.
    #[serde(with = "One::<Duration>")]
    pub forecast_interval: Duration,
    pub health: TenantHealthConfig,
    /// So many refusals of one actor within ten minutes are told of.
    pub refusals_min: u64,
    /// So many times as many requests as usual are told of, from `surge_requests_min` within five minutes on.
    pub surge_factor: u64,
    pub surge_requests_min: u64,
    /// So many uses of keys that don't work, from one network within an hour, are told of.
    pub bad_keys_min: u64,
    /// How often the outbox is looked at.
    #[serde(with = "One::<Duration>")]
    pub delivery_interval: Duration,
    /// The pause after each attempt to deliver that failed; after the last of them a delivery is a dead letter. Up to a
    /// fifth is added by chance.
    #[serde(with = "Many::<Duration>")]
    pub retries: Vec<Duration>,
    /// The longest attempt.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
    /// Whether tenants' webhooks may be `http:`, without TLS.
    pub allow_http: bool,
    /// Networks that are not of the public internet and that tenants' webhooks may lead to all the same.
    #[serde(with = "Many::<IpNet>")]
    pub networks: Vec<IpNet>,
    /// Certificates (PEM) that those of tenants' webhooks must descend from; the system's if absent.
    pub ca: Option<PathBuf>,
    /// The server that takes mail. Absent: channels of kind `email` are refused.
    pub smtp: Option<SmtpConfig>,
}

/// What is called unwell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantHealthConfig {
    /// A tenant that has used so many percent of a quota.
    pub quota_warning: u32,
    /// A tenant that has used so many percent of a hard quota.
    pub quota_critical: u32,
    /// A tenant of whose requests of the last five minutes more than so many percent failed.
    pub errors_warning: u32,
    pub errors_critical: u32,
    /// A tenant of whose requests of the last five minutes more than so many percent were denied for want of units.
    pub denials_warning: u32,
    /// Of fewer requests nothing is said.
    pub requests_min: u64,
}

/// The server that takes mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    pub host: String,
    /// 465 with `tls`, 587 with `starttls` and 25 with `none` if absent.
    pub port: Option<u16>,
    #[serde(default)]
    pub security: SmtpSecurity,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Who mail is from, for example `Tollgate <alerts@example.com>`.
    pub from: String,
    /// Certificates (PEM) that the server's must descend from; the system's if absent.
    pub ca: Option<PathBuf>,
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmtpSecurity {
    /// TLS from the first byte on.
    #[default]
    Tls,
    /// Plain until TLS is agreed on, which must be before anything else.
    Starttls,
    /// Not at all: for a server on this machine or in this network. No password is sent that way.
    None,
}

// === impl AlertsConfig ===

impl Default for AlertsConfig {
    fn default() -> Self {
        AlertsConfig {
            thresholds: vec![80, 95, 100],
            interval: Duration::from_secs(5),
            slow_interval: Duration::from_secs(60),
            audit_interval: Duration::from_secs(86_400),
            forecast_interval: Duration::from_secs(3_600),
            health: TenantHealthConfig::default(),
            refusals_min: 10,
            surge_factor: 10,
            surge_requests_min: 500,
            bad_keys_min: 100,
            delivery_interval: Duration::from_secs(1),
            // As Standard Webhooks suggests: ten attempts within about three days.
            retries: [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
                .map(Duration::from_secs)
                .to_vec(),
            timeout: Duration::from_secs(15),
            allow_http: false,
            networks: Vec::new(),
            ca: None,
            smtp: None,
        }
    }
}

impl AlertsConfig {
    const RETRIES_MAX: usize = 32;

    pub(super) fn validate(&self, at: &Check<'_>) {
        let thresholds = at.key("thresholds");
        for (index, percent) in self.thresholds.iter().enumerate() {
            thresholds.item(index).within(*percent, 1, 1_000);
        }
        thresholds.distinct(&self.thresholds);
        at.key("interval").positive(self.interval);
        at.key("slow_interval").positive(self.slow_interval);
        at.key("audit_interval").positive(self.audit_interval);
        at.key("forecast_interval").positive(self.forecast_interval);
        at.key("bad_keys_min").within(self.bad_keys_min, 1, 1_000_000_000);
        at.key("refusals_min").within(self.refusals_min, 1, 1_000_000);
        at.key("surge_factor").within(self.surge_factor, 2, 1_000_000);
        self.health.validate(&at.key("health"));
        at.key("delivery_interval").positive(self.delivery_interval);
        at.key("timeout").positive(self.timeout);
        let retries = at.key("retries");
        retries.ensure(self.retries.len() <= Self::RETRIES_MAX, "must be at most 32");
        for (index, pause) in self.retries.iter().enumerate() {
            retries.item(index).positive(*pause);
        }
        if let Some(smtp) = &self.smtp {
            smtp.validate(&at.key("smtp"));
        }
    }
}

// === impl TenantHealthConfig ===

impl Default for TenantHealthConfig {
    fn default() -> Self {
        TenantHealthConfig {
            quota_warning: 80,
            quota_critical: 100,
            errors_warning: 2,
            errors_critical: 10,
            denials_warning: 1,
            requests_min: 50,
        }
    }
}

impl TenantHealthConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("quota_warning").within(self.quota_warning, 1, 1_000);
        at.key("quota_critical").within(self.quota_critical, self.quota_warning, 1_000);
        at.key("errors_warning").within(self.errors_warning, 0, 100);
        at.key("denials_warning").within(self.denials_warning, 0, 100);
        at.key("errors_critical").within(self.errors_critical, self.errors_warning, 100);
    }
}

// === impl SmtpConfig ===

impl SmtpConfig {
    /// As configured, or that of the protection.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            SmtpSecurity::Tls => 465,
            SmtpSecurity::Starttls => 587,
            SmtpSecurity::None => 25,
        })
    }

    fn validate(&self, at: &Check<'_>) {
        at.key("host").ensure(is_host(&self.host), "must be a name or an address");
        at.key("from").ensure(self.from.contains('@'), "must be an e-mail address");
        let is_whole = self.username.is_some() == self.password.is_some();
        at.key("password").ensure(is_whole, "`username` and `password` belong together");
        let is_protected = self.security != SmtpSecurity::None || self.password.is_none();
        at.key("security").ensure(is_protected, "must protect the password: \"tls\" or \"starttls\"");
    }
}
