//! `[listen]`: addresses, workers, TLS, and what a client may do to a connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::text::{Bytes, HostPattern, Many, MaybeBytes, One, OneOrMany};

/// Where Tollgate listens, and what it bears from clients.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Addresses of the data plane: one, or a list. Port 0 takes a free one.
    #[serde(with = "OneOrMany::<SocketAddr>")]
    pub proxy: Vec<SocketAddr>,
    /// Address of the REST API, the console, `/metrics`, `/healthz` and `/readyz`. Never on the proxy's port.
    #[serde(with = "One::<SocketAddr>")]
    pub admin: SocketAddr,
    /// Addresses where other proxies ask whether a request may pass (`GET /.tollgate/authorize`): one, or a list. Only
    /// those of `trust.proxies` may ask. Empty: nobody can.
    #[serde(with = "OneOrMany::<SocketAddr>")]
    pub authorize: Vec<SocketAddr>,
    /// Worker threads of the data plane. 0: one per core.
    pub workers: usize,
    /// After SIGTERM, how long requests that have begun may take to end.
    #[serde(with = "One::<Duration>")]
    pub drain_timeout: Duration,
    /// Absent: no TLS.
    pub tls: Option<TlsConfig>,
    pub limits: LimitsConfig,
    pub trust: TrustConfig,
}

/// TLS on the data plane. Files are read again when they change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["address", "certificates"]))]
pub struct TlsConfig {
    /// Addresses that speak TLS: one, or a list.
    #[serde(with = "OneOrMany::<SocketAddr>")]
    pub address: Vec<SocketAddr>,
    /// The first one answers clients that name no known server.
    pub certificates: Vec<CertificateConfig>,
    /// PEM file of the authorities of client certificates. Absent: none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate, where there is a `client_ca`.
    pub client_certificate: ClientCertificate,
}

/// Whether clients must have a certificate. One that is shown must be good in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    #[default]
    Required,
    Optional,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["cert", "key"]))]
pub struct CertificateConfig {
    /// PEM file of the certificate and its chain.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    /// Server names that it serves. Empty: those that the certificate lists.
    #[serde(with = "Many::<HostPattern>")]
    pub names: Vec<HostPattern>,
}

/// Bounds on what one client may send and hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Largest head of a request: request line and headers. Beyond it: 431.
    #[serde(with = "Bytes")]
    pub header_bytes: u64,
    /// Most header lines of a request, at most 128. Beyond it: 431.
    pub headers: usize,
    /// Longest target of a request. Beyond it: 414.
    #[serde(with = "Bytes")]
    pub target_bytes: u64,
    /// Largest body of a request. Beyond it: 413. 0: unlimited.
    #[serde(with = "Bytes")]
    pub body_bytes: u64,
    /// Within this time from its first byte a head must have come.
    #[serde(with = "One::<Duration>")]
    pub header_timeout: Duration,
    /// Longest pause between two pieces of a request's body.
    #[serde(with = "One::<Duration>")]
    pub body_idle_timeout: Duration,
    /// Slowest bodies that are borne, in bytes per second, measured after the first 10 s. 0: any.
    pub body_min_rate: u64,
    /// Longest time for which a client may not take any byte of an answer.
    #[serde(with = "One::<Duration>")]
    pub write_timeout: Duration,
    /// How long a connection may stay open between two requests.
    #[serde(with = "One::<Duration>")]
    pub idle_timeout: Duration,
    /// Most open client connections of the process. Beyond it new ones wait in the backlog.
    pub connections: usize,
    /// Most open connections of one client address. 0: unlimited, as for trusted proxies; behind the PROXY protocol it
    /// is the client's address that counts.
    pub connections_per_ip: usize,
    /// Memory that the process may have in use, without mapped files. From 80 % on caches shrink and connections end
    /// after their answers; from 95 % on requests get 503. Absent: the memory limit of its cgroup, if there is one.
    /// 0: not watched.
    #[serde(with = "MaybeBytes")]
    pub memory_bytes: Option<u64>,
}

/// Whose word about the client's address is taken.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// Networks of proxies in front of Tollgate: their `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    #[serde(with = "Many::<IpNet>")]
    pub proxies: Vec<IpNet>,
    pub proxy_protocol: ProxyProtocol,
}

/// The PROXY protocol (versions 1 and 2), before TLS, on the addresses `proxy` and `tls.address`. Only trusted proxies are
/// believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Never read.
    #[default]
    Off,
    /// Read when a trusted proxy's connection begins with it.
    Optional,
    /// A connection without it, or from anybody else, is closed.
    Required,
}

// === impl ListenConfig ===

impl Default for ListenConfig {
    fn default() -> Self {
        ListenConfig {
            proxy: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            admin: SocketAddr::from(([127, 0, 0, 1], 9090)),
            authorize: Vec::new(),
            workers: 0,
            drain_timeout: Duration::from_secs(30),
            tls: None,
            limits: LimitsConfig::default(),
            trust: TrustConfig::default(),
        }
    }
}

impl ListenConfig {
    const WORKERS_MAX: usize = 1_024;

    pub(super) fn validate(&self, at: &Check<'_>) {
        let proxy = at.key("proxy");
        proxy.ensure(!self.proxy.is_empty(), "must have at least one address");
        distinct(&self.proxy, &proxy);
        at.key("workers").within(self.workers, 0, Self::WORKERS_MAX);
        at.key("drain_timeout").positive(self.drain_timeout);
        if let Some(proxy) = self.proxy.iter().find(|proxy| collide(**proxy, self.admin)) {
            at.key("admin").fault(format_args!("is on the proxy's port ({proxy}): the two must be apart"));
        }
        self.validate_authorize(&at.key("authorize"));
        if let Some(tls) = &self.tls {
            tls.validate(&at.key("tls"));
            self.validate_tls_addresses(tls, &at.key("tls").key("address"));
        }
        self.limits.validate(&at.key("limits"));
        self.trust.validate(&at.key("trust"));
    }

    fn validate_authorize(&self, at: &Check<'_>) {
        distinct(&self.authorize, at);
        let others: Vec<SocketAddr> = self.proxy.iter().copied().chain([self.admin]).collect();
        for address in &self.authorize {
            if let Some(other) = others.iter().find(|other| collide(**other, *address)) {
                at.fault(format_args!("{address} is on the port of {other}: the two must be apart"));
            }
        }
        at.ensure(
            self.authorize.is_empty() || !self.trust.proxies.is_empty(),
            "needs `trust.proxies`: the networks of the proxies that may ask",
        );
    }

    fn validate_tls_addresses(&self, tls: &TlsConfig, at: &Check<'_>) {
        let others = self.proxy.iter().chain(&self.authorize).copied().chain([self.admin]);
        let others: Vec<SocketAddr> = others.collect();
        for address in &tls.address {
            if let Some(other) = others.iter().find(|other| collide(**other, *address)) {
                at.fault(format_args!("{address} is on the port of {other}, which speaks no TLS"));
            }
        }
    }
}

/// Each address once; port 0 is another one each time.
fn distinct(addresses: &[SocketAddr], at: &Check<'_>) {
    for (index, address) in addresses.iter().enumerate() {
        let is_repeated = address.port() != 0 && addresses[..index].contains(address);
        at.item(index).ensure(!is_repeated, format_args!("`{address}` is there already"));
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_host
}

// === impl TlsConfig, CertificateConfig ===

impl TlsConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("address").ensure(!self.address.is_empty(), "is missing: an address to speak TLS on");
        distinct(&self.address, &at.key("address"));
        let certificates = at.key("certificates");
        certificates.ensure(!self.certificates.is_empty(), "is missing: at least one `{ cert, key }`");
        for (index, certificate) in self.certificates.iter().enumerate() {
            certificate.validate(&certificates.item(index));
        }
        let asks = self.client_ca.is_some() || self.client_certificate == ClientCertificate::default();
        at.key("client_certificate")
            .ensure(asks, "needs `client_ca`: the authorities of client certificates");
    }
}

impl CertificateConfig {
    fn validate(&self, at: &Check<'_>) {
        for (key, path) in [("cert", &self.cert), ("key", &self.key)] {
            at.key(key).ensure(!path.as_os_str().is_empty(), "is missing: a PEM file");
        }
    }
}

// === impl LimitsConfig ===

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            header_bytes: 32 << 10,
            headers: 100,
            target_bytes: 8 << 10,
            body_bytes: 64 << 20,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            body_min_rate: 240,
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            connections: 50_000,
            connections_per_ip: 0,
            memory_bytes: None,
        }
    }
}

impl LimitsConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("header_bytes").within(self.header_bytes, 1 << 10, 1 << 20);
        at.key("headers").within(self.headers, 8, 128);
        at.key("target_bytes").within(self.target_bytes, 64, self.header_bytes.max(64));
        at.key("header_timeout").positive(self.header_timeout);
        at.key("body_idle_timeout").positive(self.body_idle_timeout);
        at.key("write_timeout").positive(self.write_timeout);
        at.key("idle_timeout").positive(self.idle_timeout);
        at.key("connections").ensure(self.connections > 0, "must be at least 1");
    }
}

// === impl TrustConfig ===

impl TrustConfig {
    fn validate(&self, at: &Check<'_>) {
        let believes_anyone = self.proxies.is_empty() && self.proxy_protocol != ProxyProtocol::Off;
        at.key("proxy_protocol").ensure(
            !believes_anyone,
            "needs `proxies`: the networks whose PROXY headers are believed, or any client could choose its address",
        );
    }
}
