//! `[authority]`: who grants units, and what happens when nobody answers.

use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::LossPolicy;

use super::Secret;
use super::check::Check;
use super::text::{FromText, One, is_host};

/// Who grants units to this gateway's till.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorityConfig {
    /// `embedded` (one gateway), `redis://host:6379`, `redis-sentinel://a:26379,b:26379/master`,
    /// `redis-cluster://a:6379,b:6379`, the same with `rediss` for TLS, or `store` (strict: grants by Postgres).
    #[serde(with = "One::<AuthorityUrl>")]
    pub url: AuthorityUrl,
    /// No request waits longer than this for a grant.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
    /// What happens to requests that the till can't pay while the authority can't be reached, unless their
    /// quota says otherwise. `till`: deny with 503. `open`: allow up to `open_percent`. `closed`: deny even what
    /// the till holds. `share`: allow this gateway's share of the limit.
    #[schemars(schema_with = "loss_policies")]
    pub on_loss: LossPolicy,
    /// With `open`: how far above the limit, in percent of it.
    pub open_percent: u32,
    /// With `share`: among how many gateways a limit is divided.
    pub fleet_size: u32,
    /// Longest wait for units that lie idle in other gateways' tills.
    #[serde(with = "One::<Duration>")]
    pub recall_wait: Duration,
    /// What all keys in Redis begin with: fleets that share a server need different ones.
    pub prefix: String,
    /// Certificates (PEM) that Redis's must descend from; the system's if absent.
    pub ca: Option<PathBuf>,
    /// How many replicas of Redis should have a large grant before it is used; 0 asks none.
    pub wait_replicas: u32,
}

/// Which authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorityUrl {
    /// This process: there is one gateway.
    Embedded,
    /// The database, with synchronous commits.
    Store,
    Redis(RedisUrl),
}

/// Redis, in one of its forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisUrl {
    pub tls: bool,
    pub form: RedisForm,
    /// Host and port. Of a single server exactly one; of Sentinels, theirs.
    pub nodes: Vec<(String, u16)>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Always 0 in a cluster.
    pub database: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedisForm {
    Single,
    /// Sentinels know the master of this name.
    Sentinel {
        master: String,
    },
    Cluster,
}

// === impl AuthorityConfig ===

impl Default for AuthorityConfig {
    fn default() -> Self {
        AuthorityConfig {
            url: AuthorityUrl::Embedded,
            timeout: Duration::from_millis(25),
            on_loss: LossPolicy::Till,
            open_percent: 10,
            fleet_size: 1,
            recall_wait: Duration::from_millis(20),
            prefix: "tg".to_owned(),
            ca: None,
            wait_replicas: 0,
        }
    }
}

impl AuthorityConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("timeout").positive(self.timeout);
        at.key("open_percent").within(self.open_percent, 1, 1_000);
        at.key("fleet_size").within(self.fleet_size, 1, 10_000);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        let is_prefix = (1..=64).contains(&self.prefix.len()) && self.prefix.chars().all(is_plain);
        at.key("prefix").ensure(is_prefix, "must be 1 to 64 of a-z, A-Z, 0-9, `_`, `-`, `.` and `:`");
    }
}

fn loss_policies(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["till", "open", "closed", "share"] })
}

// === impl AuthorityUrl, RedisUrl ===

impl FromText for AuthorityUrl {
    const NAME: &'static str = "AuthorityUrl";
    const EXPECTED: &'static str = "\"embedded\", \"store\", \"redis://host:6379\", \"redis-sentinel://a:26379/master\" or \"redis-cluster://a:6379,b:6379\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "embedded" => Some(AuthorityUrl::Embedded),
            "store" => Some(AuthorityUrl::Store),
            url => RedisUrl::parse(url).map(AuthorityUrl::Redis),
        }
    }

    fn to_text(&self) -> String {
        match self {
            AuthorityUrl::Embedded => "embedded".to_owned(),
            AuthorityUrl::Store => "store".to_owned(),
            AuthorityUrl::Redis(redis) => redis.without_credentials(),
        }
    }
}

impl RedisUrl {
    const PORT: u16 = 6379;
    const SENTINEL_PORT: u16 = 26379;

    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, tls) = match scheme.strip_prefix("rediss") {
            Some(form) => (form, true),
            None => (scheme.strip_prefix("redis")?, false),
        };
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(c, rest)| (Some(c), rest));
        let (nodes, path) = rest.split_once('/').unwrap_or((rest, ""));
        let form = match scheme {
            "" => RedisForm::Single,
            "-sentinel" if !path.is_empty() => RedisForm::Sentinel { master: path.to_owned() },
            "-cluster" if path.is_empty() => RedisForm::Cluster,
            _ => return None,
        };
        let (port, path) = match form {
            RedisForm::Sentinel { .. } => (Self::SENTINEL_PORT, ""),
            RedisForm::Single | RedisForm::Cluster => (Self::PORT, path),
        };
        let nodes = nodes.split(',').map(|node| host_and_port(node, port)).collect::<Option<Vec<_>>>()?;
        let database: u8 = if path.is_empty() { 0 } else { path.parse().ok()? };
        let (username, password) = credentials.map_or((None, None), credentials_of);
        let is_sound = form != RedisForm::Single || nodes.len() == 1;
        is_sound.then_some(RedisUrl { tls, form, nodes, username, password, database })
    }

    /// The URL, fit for logs.
    pub fn without_credentials(&self) -> String {
        let tls = if self.tls { "s" } else { "" };
        let (form, path) = match &self.form {
            RedisForm::Single if self.database == 0 => ("", String::new()),
            RedisForm::Single => ("", format!("/{}", self.database)),
            RedisForm::Sentinel { master } => ("-sentinel", format!("/{master}")),
            RedisForm::Cluster => ("-cluster", String::new()),
        };
        let nodes: Vec<String> = self.nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("redis{tls}{form}://{}{path}", nodes.join(","))
    }
}

fn credentials_of(text: &str) -> (Option<String>, Option<Secret>) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (some(user), some(password).map(Secret::new))
}

/// `host`, `host:port` or `[v6]:port`.
pub(super) fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
        _ => (text, default_port),
    };
    is_host(host).then(|| (host.to_ascii_lowercase(), port))
}
