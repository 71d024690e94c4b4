//! `[[upstream]]`: the services behind the gate.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::authority::host_and_port;
use super::check::Check;
use super::text::{Bytes, FromText, Maybe, One, is_host};

/// A service behind the gate.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "urls"]))]
pub struct UpstreamConfig {
    /// How routes call it.
    pub name: String,
    /// Its endpoints: `http://`, `https://` or `h2c://`, host and port; or `{ url, weight }`.
    pub urls: Vec<EndpointConfig>,
    pub balance: Balance,
    pub health: HealthConfig,
    pub timeouts: TimeoutsConfig,
    pub retry: RetryConfig,
    pub breaker: BreakerConfig,
    pub pool: PoolConfig,
    pub dns: DnsConfig,
    pub tls: UpstreamTlsConfig,
}

/// One endpoint of an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointConfig {
    pub url: UpstreamUrl,
    /// Its share of requests in proportion to the others'.
    pub weight: u32,
}

/// Where an endpoint listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UpstreamUrl {
    pub scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address in brackets; in lower case.
    pub host: String,
    pub port: u16,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, as the endpoint prefers.
    Https,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
}

/// Which endpoint gets a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The less busy one of two that are chosen at random.
    LeastRequest,
    /// A tenant's requests to the same endpoint, as long as it is healthy.
    #[serde(rename = "hash(tenant)")]
    HashTenant,
}

/// How it is found out which endpoints are healthy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// What is asked for with GET. Absent: endpoints are not asked.
    pub path: Option<String>,
    /// The `Host` of the question. Absent: the endpoint's host and port.
    pub host: Option<String>,
    /// Good answers. Empty: 200 to 299.
    pub statuses: Vec<u16>,
    /// Time between two questions, give or take a tenth.
    #[serde(with = "One::<Duration>")]
    pub interval: Duration,
    /// Longest wait for a connection and the answer.
    #[serde(with = "One::<Duration>")]
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint is healthy again.
    pub healthy_after: u32,
    /// Failures in a row after which it is not healthy, and gets no requests.
    pub unhealthy_after: u32,
    /// Requests that fail in a row (no connection, reset, timeout, or an answer of 502, 503 or 504) after which an
    /// endpoint is ejected: it gets no requests for a while. 0: never.
    pub eject_after: u32,
    /// For how long the first time; each time soon after is twice as long, up to five minutes.
    #[serde(with = "One::<Duration>")]
    pub eject_for: Duration,
    /// Most endpoints that may be ejected at a time, in percent. 100: all, which is answered with 503.
    pub eject_percent_max: u32,
}

/// How long an upstream may take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsConfig {
    /// To a connection, TLS included.
    #[serde(with = "One::<Duration>")]
    pub connect: Duration,
    /// From the request's last byte to the answer's first.
    #[serde(with = "One::<Duration>")]
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    #[serde(with = "One::<Duration>")]
    pub idle: Duration,
    /// From admission to the answer's last byte. Absent: unlimited, so that streams may run.
    #[serde(with = "Maybe::<Duration>")]
    pub total: Option<Duration>,
}

/// When a request is tried again, with another endpoint if there is one: if nothing was sent of it; or if its method is
/// idempotent, its body at hand, and nothing of an answer has come. It is charged once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Tries after the first.
    pub attempts: u32,
    /// Most retries, in percent of the requests of the last ten seconds; three are free. 0: none.
    pub budget_percent: u32,
    /// Answers that are not passed on while the request can be tried again, such as 503.
    pub statuses: Vec<u16>,
    /// Longest wait for the first byte of an answer while the request can be tried again. Absent: what is late is not
    /// tried again.
    #[serde(with = "Maybe::<Duration>")]
    pub try_timeout: Option<Duration>,
    /// Largest body that is kept to be sent again.
    #[serde(with = "Bytes")]
    pub body_bytes: u64,
}

/// When an upstream as a whole is spared: requests are answered with 503 and `Retry-After`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failed requests (no connection, reset, timeout, or an answer of 502, 503 or 504), in percent, at which no more
    /// are sent. 0: never.
    pub failures_percent: u32,
    /// Fewest requests in `window` that are judged.
    pub requests_min: u32,
    /// How far back is looked.
    #[serde(with = "One::<Duration>")]
    pub window: Duration,
    /// How long nothing is sent before one request tries.
    #[serde(with = "One::<Duration>")]
    pub open_for: Duration,
}

/// Connections that are kept, and how many requests may be under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Most idle connections per worker and endpoint.
    pub idle_max: usize,
    /// How long a connection is kept without a request. Shorter than the upstream's own limit.
    #[serde(with = "One::<Duration>")]
    pub idle_timeout: Duration,
    /// Most requests of this gateway under way to this upstream; more are answered with 503. 0: unlimited.
    pub requests_max: usize,
    /// Most of one tenant; more are answered with 429. 0: unlimited.
    pub requests_per_tenant_max: usize,
}

/// Where names are. Each address is an endpoint with the weight of its URL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// How often names are looked up. One that is not found keeps the addresses it had.
    #[serde(with = "One::<Duration>")]
    pub interval: Duration,
}

/// TLS to `https` endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTlsConfig {
    /// PEM file of the authorities that are trusted. Absent: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of a client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// The name that is asked for and verified. Absent: the URL's host.
    pub server_name: Option<String>,
}

// === impl UpstreamConfig ===

impl UpstreamConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("name").ensure(!self.name.is_empty(), "is missing: a name that routes can refer to");
        self.validate_urls(&at.key("urls"));
        self.health.validate(&at.key("health"));
        self.timeouts.validate(&at.key("timeouts"));
        self.retry.validate(&at.key("retry"));
        self.breaker.validate(&at.key("breaker"));
        self.pool.validate(&at.key("pool"));
        at.key("dns").key("interval").positive(self.dns.interval);
        self.tls.validate(&at.key("tls"));
        let has_tls = self.urls.iter().any(|endpoint| endpoint.url.scheme == Scheme::Https);
        let needs_tls = self.tls != UpstreamTlsConfig::default();
        at.key("tls").ensure(has_tls || !needs_tls, "is of no use: no URL of this upstream is https");
    }

    fn validate_urls(&self, at: &Check<'_>) {
        at.ensure(!self.urls.is_empty(), "is missing: for example [\"http://127.0.0.1:3000\"]");
        let urls: Vec<UpstreamUrl> = self.urls.iter().map(|endpoint| endpoint.url.clone()).collect();
        at.distinct(&urls);
        for (index, endpoint) in self.urls.iter().enumerate() {
            at.item(index).key("weight").within(endpoint.weight, 1, EndpointConfig::WEIGHT_MAX);
        }
    }
}

// === impl EndpointConfig ===

impl EndpointConfig {
    const WEIGHT_MAX: u32 = 1_000;
}

/// The written form with a weight.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedEndpoint {
    #[serde(with = "One::<UpstreamUrl>")]
    url: UpstreamUrl,
    #[serde(default = "one")]
    weight: u32,
}

const fn one() -> u32 {
    1
}

struct EndpointVisitor;

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = EndpointConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(UpstreamUrl::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<EndpointConfig, E> {
        let url = UpstreamUrl::from_text(text);
        let url = url.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(EndpointConfig { url, weight: 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointConfig, A::Error> {
        let WeightedEndpoint { url, weight } =
            Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(EndpointConfig { url, weight })
    }
}

impl Serialize for EndpointConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.weight == 1 {
            return serializer.collect_str(&self.url);
        }
        WeightedEndpoint { url: self.url.clone(), weight: self.weight }.serialize(serializer)
    }
}

impl JsonSchema for EndpointConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<One<UpstreamUrl>>();
        json_schema!({
            "description": "An endpoint: its URL, or its URL and its weight (1 if not said).",
            "anyOf": [
                url,
                {
                    "type": "object",
                    "properties": {
                        "url": url,
                        "weight": { "type": "integer", "minimum": 1, "maximum": EndpointConfig::WEIGHT_MAX, "default": 1 },
                    },
                    "required": ["url"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

// === impl UpstreamUrl ===

impl UpstreamUrl {
    /// `host:port`, as connections and `Host` headers have it.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromText for UpstreamUrl {
    const NAME: &'static str = "UpstreamUrl";
    const EXPECTED: &'static str =
        "a URL without a path, such as \"http://127.0.0.1:3000\", \"https://…\" or \"h2c://…\"";

    fn from_text(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, port) = match scheme {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "h2c" => (Scheme::H2c, 80),
            _ => return None,
        };
        let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest), port)?;
        Some(UpstreamUrl { scheme, host, port })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::H2c => "h2c",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

// === impl HealthConfig ===

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig {
            path: None,
            host: None,
            statuses: Vec::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
            eject_after: 5,
            eject_for: Duration::from_secs(10),
            eject_percent_max: 50,
        }
    }
}

impl HealthConfig {
    fn validate(&self, at: &Check<'_>) {
        if let Some(path) = &self.path {
            at.key("path").ensure(path.starts_with('/'), "must start with `/`");
            at.key("path")
                .ensure(path.bytes().all(|byte| byte.is_ascii_graphic()), "must be as it is in a request");
        }
        if let Some(host) = &self.host {
            at.key("host").ensure(is_authority(host), "expected a host, with a port or without");
        }
        check_statuses(&at.key("statuses"), &self.statuses);
        at.key("interval").positive(self.interval);
        at.key("timeout").positive(self.timeout);
        at.key("healthy_after").ensure(self.healthy_after > 0, "must be at least 1");
        at.key("unhealthy_after").ensure(self.unhealthy_after > 0, "must be at least 1");
        at.key("eject_for").positive(self.eject_for);
        at.key("eject_percent_max").within(self.eject_percent_max, 0, 100);
    }
}

// === impl TimeoutsConfig ===

impl Default for TimeoutsConfig {
    fn default() -> Self {
        TimeoutsConfig {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: None,
        }
    }
}

impl TimeoutsConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("connect").positive(self.connect);
        at.key("first_byte").positive(self.first_byte);
        at.key("idle").positive(self.idle);
        if let Some(total) = self.total {
            at.key("total").positive(total);
        }
    }
}

// === impl RetryConfig ===

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            attempts: 1,
            budget_percent: 10,
            statuses: Vec::new(),
            try_timeout: None,
            body_bytes: 64 << 10,
        }
    }
}

impl RetryConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("attempts").within(self.attempts, 0, 10);
        at.key("budget_percent").within(self.budget_percent, 0, 100);
        at.key("body_bytes").within(self.body_bytes, 0, 16 << 20);
        check_statuses(&at.key("statuses"), &self.statuses);
        if let Some(time) = self.try_timeout {
            at.key("try_timeout").positive(time);
        }
    }
}

// === impl BreakerConfig ===

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            failures_percent: 0,
            requests_min: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

impl BreakerConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("failures_percent").within(self.failures_percent, 0, 100);
        at.key("requests_min").ensure(self.requests_min > 0, "must be at least 1");
        at.key("window").positive(self.window);
        at.key("open_for").positive(self.open_for);
    }
}

// === impl PoolConfig ===

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            idle_max: 64,
            idle_timeout: Duration::from_secs(30),
            requests_max: 0,
            requests_per_tenant_max: 0,
        }
    }
}

impl PoolConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("idle_timeout").positive(self.idle_timeout);
    }
}

// === impl DnsConfig ===

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig { interval: Duration::from_secs(10) }
    }
}

// === impl UpstreamTlsConfig ===

impl UpstreamTlsConfig {
    fn validate(&self, at: &Check<'_>) {
        match (&self.cert, &self.key) {
            (Some(_), None) => at.key("key").fault("is missing: the key of `cert`"),
            (None, Some(_)) => at.key("cert").fault("is missing: the certificate of `key`"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(name) = &self.server_name {
            at.key("server_name").ensure(is_host(name), "expected the name of a host");
        }
    }
}

fn check_statuses(at: &Check<'_>, statuses: &[u16]) {
    let all = statuses.iter().all(|status| (200..=599).contains(status));
    at.ensure(all, "expected statuses from 200 to 599");
}

/// A host with a port or without.
fn is_authority(text: &str) -> bool {
    host_and_port(text, 80).is_some()
}
