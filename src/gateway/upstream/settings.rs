//! What an operator says of an upstream.

use std::time::Duration;

use super::balance::Balance;
use super::breaker::BreakerSettings;
use super::seats::CapSettings;
use super::tls::UpstreamTlsSettings;

/// One upstream, as configured.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub name: String,
    pub endpoints: Vec<EndpointSettings>,
    pub balance: Balance,
    pub health: HealthSettings,
    pub retry: RetrySettings,
    pub breaker: BreakerSettings,
    pub caps: CapSettings,
    pub tls: UpstreamTlsSettings,
    pub timeouts: UpstreamTimeouts,
    /// Idle connections that each worker keeps open to each endpoint.
    pub idle_per_worker_max: usize,
    /// An idle connection older than this is not used again: many servers close theirs after a minute.
    pub idle_for: Duration,
    /// How often DNS is asked for the addresses of names.
    pub look_up_interval: Duration,
}

/// One endpoint of an upstream, as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSettings {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    /// Its share of requests in proportion to the others'; 0 counts as 1.
    pub weight: u32,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Http,
    /// As the endpoint prefers: HTTP/2 or HTTP/1.1.
    Https,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
}

/// How it is found out which endpoints can serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthSettings {
    /// What is asked for with GET. Absent: endpoints are not asked.
    pub path: Option<String>,
    /// The `Host` of that question. Absent: the endpoint's.
    pub host: Option<String>,
    /// Good answers. Empty: 200 to 299.
    pub statuses: Vec<u16>,
    /// Between two questions, give or take a tenth.
    pub interval: Duration,
    /// For connecting and answering.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint is healthy again.
    pub healthy_after: u32,
    /// Others in a row after which it is not.
    pub unhealthy_after: u32,
    /// Failed requests in a row after which an endpoint is ejected. 0: never.
    pub eject_after: u32,
    /// For how long, the first time.
    pub eject_for: Duration,
    /// Most endpoints that may be ejected at a time, in percent.
    pub eject_percent_max: u32,
}

/// When a request is tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetrySettings {
    /// Tries after the first.
    pub attempts: u32,
    /// Most retries, in percent of requests.
    pub budget_percent: u32,
    /// Largest body that is kept to be sent again.
    pub body_bytes: usize,
    /// Answers that count as none.
    pub statuses: Vec<u16>,
    /// Longest wait for the first byte of an answer that may still be asked for elsewhere.
    pub try_timeout: Option<Duration>,
}

/// How long an upstream may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    /// From the request's end to the answer's head.
    pub first_byte: Duration,
    /// Between two parts of an answer's body.
    pub idle: Duration,
}

// === impl UpstreamSettings ===

impl Default for UpstreamSettings {
    /// Without a name and without endpoints.
    fn default() -> Self {
        UpstreamSettings {
            name: String::new(),
            endpoints: Vec::new(),
            balance: Balance::default(),
            health: HealthSettings::default(),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            caps: CapSettings::default(),
            tls: UpstreamTlsSettings::default(),
            timeouts: UpstreamTimeouts::default(),
            idle_per_worker_max: 64,
            idle_for: Duration::from_secs(30),
            look_up_interval: Duration::from_secs(10),
        }
    }
}

// === impl HealthSettings ===

impl Default for HealthSettings {
    fn default() -> Self {
        HealthSettings {
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

impl HealthSettings {
    pub(super) fn is_good(&self, status: u16) -> bool {
        match &self.statuses[..] {
            [] => (200..300).contains(&status),
            good => good.contains(&status),
        }
    }
}

// === impl RetrySettings ===

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            attempts: 1,
            budget_percent: 10,
            body_bytes: 64 * 1024,
            statuses: Vec::new(),
            try_timeout: None,
        }
    }
}

// === impl EndpointSettings ===

impl EndpointSettings {
    /// `host:port`
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn is_secured(&self) -> bool {
        self.protocol == Protocol::Https
    }
}

// === impl UpstreamTimeouts ===

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        UpstreamTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}
