//! What the authority is told about its servers.

use std::fmt;
use std::time::Duration;

/// How Redis is reached, and how it is used.
#[derive(Clone)]
pub struct RedisSettings {
    pub servers: Servers,
    pub tls: Option<Tls>,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Always 0 in a cluster.
    pub database: u8,
    /// What all keys and the channel begin with. Fleets that share a server need different ones. No braces.
    pub prefix: String,
    /// No call takes longer.
    pub timeout: Duration,
    /// How long a book with a new life collects claims and grants nothing. The same for all gateways.
    pub learn_for: Duration,
    /// How many replicas must have a large grant before it is handed out; 0 asks none.
    pub wait_replicas: u32,
    /// What a large grant is, in units.
    pub wait_units: u64,
}

/// Which servers there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Servers {
    /// One, or a name that leads to whoever is the master now.
    Single(Address),
    /// Sentinels, who know the master of this name.
    Sentinel { sentinels: Vec<Address>, master: String },
    /// Some nodes of a cluster, who know the others.
    Cluster(Vec<Address>),
}

/// A host by name or number, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tls {
    /// Certificates (PEM) that servers must descend from; the system's if there are none.
    pub roots: Option<Vec<u8>>,
}

/// Settings that can't work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRedisSettings {
    #[error("no Redis server is named")]
    NoServers,
    #[error("`{0}` can't begin keys: 1 to 64 of a-z, A-Z, 0-9, `_`, `-`, `.` and `:`")]
    Prefix(String),
    #[error("the certificates that Redis is trusted by can't be read: {0}")]
    Roots(String),
}

// === impl RedisSettings ===

impl RedisSettings {
    pub const PREFIX: &'static str = "tg";
    pub const TIMEOUT: Duration = Duration::from_millis(25);
    /// Every till hears of a new life and claims what it holds in far less.
    pub const LEARN_FOR: Duration = Duration::from_secs(1);
    pub const WAIT_UNITS: u64 = 1_000;

    pub fn new(servers: Servers) -> Self {
        RedisSettings {
            servers,
            tls: None,
            user: None,
            password: None,
            database: 0,
            prefix: RedisSettings::PREFIX.to_owned(),
            timeout: RedisSettings::TIMEOUT,
            learn_for: RedisSettings::LEARN_FOR,
            wait_replicas: 0,
            wait_units: RedisSettings::WAIT_UNITS,
        }
    }

    /// # Errors
    /// [`BadRedisSettings`]; roots are only read when they are needed.
    pub(super) fn check(&self) -> Result<(), BadRedisSettings> {
        if self.servers.named().is_empty() {
            return Err(BadRedisSettings::NoServers);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        // Braces would decide which part of a key says where it is kept.
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.chars().all(is_plain) {
            return Err(BadRedisSettings::Prefix(self.prefix.clone()));
        }
        Ok(())
    }
}

// === impl Servers ===

impl Servers {
    /// The servers that the settings name.
    pub(super) fn named(&self) -> &[Address] {
        match self {
            Servers::Single(address) => std::slice::from_ref(address),
            Servers::Sentinel { sentinels, .. } => sentinels,
            Servers::Cluster(nodes) => nodes,
        }
    }
}

// === impl Address ===

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Address { host: host.into(), port }
    }

    /// `host:port`, as servers write it in redirections; an IPv6 host need not be in brackets. Without a host, it is
    /// that of who wrote it.
    pub(super) fn parse(text: &str, writer: &Address) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() || host == "?" { &writer.host } else { host };
        Some(Address::new(host, port.parse().ok()?))
    }

    /// Whether what is sent there stays on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let number: Option<std::net::IpAddr> = self.host.parse().ok();
        number.map_or(self.host == "localhost", |number| number.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
