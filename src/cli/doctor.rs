//! `doctor`: can this configuration reach everything that it names, and is that set up safely?
//!
//! Looks and changes nothing, whether a gateway runs or not: a database that would be made or migrated at the start
//! only gets a word about it. Each finding is one line that says what to do.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use super::{Found, gateway, session, waited_for};
use crate::app;
use crate::authority::Postgres;
use crate::authority::finding::{Finding, Severity};
use crate::authority::redis::Redis;
use crate::clock::{Clock, SystemClock};
use crate::config::{ApiKeyConfig, AuthorityUrl, Config, Loaded, RedisUrl, StoreUrl};
use crate::store::{GrantSettings, Peppered, Store, StoreError};
use crate::telemetry::log::with_causes;

/// What was found, and of which section of the configuration.
#[derive(Default)]
struct Examined(Vec<(&'static str, Finding)>);

/// An operator waits this long for what a request would not wait for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Examines everything. Status 1 when there is a fault.
pub(super) fn doctor(config: Option<&Path>) -> Result<Found, Failure> {
    let Loaded { config, source } = Config::load(config).map_err(|faults| gateway::faulty(&faults))?;
    let mut examined = Examined::default();
    examined.good("config", format!("{source} is sound"));
    waited_for(async {
        examined.examine(&config).await;
        Ok(())
    })?;
    Ok(examined.found())
}

// === impl Examined ===

impl Examined {
    async fn examine(&mut self, config: &Config) {
        self.examine_data(config);
        let store = self.examine_store(config).await;
        self.examine_authority(config, store.as_ref()).await;
        self.examine_upstreams(config).await;
        self.examine_certificates(config);
    }

    fn examine_data(&mut self, config: &Config) {
        let data = &config.data.directory;
        let name = data.display();
        if !data.exists() {
            return self.good("data", format!("{name} is not there yet; the gateway makes it"));
        }
        match session::is_held(data) {
            Ok(true) => self.good("data", format!("a gateway runs on {name}")),
            Ok(false) => self.good("data", format!("{name} is free: no gateway runs on it")),
            Err(error) => {
                self.fault(
                    "data",
                    format!("the lock in {name} can't be read: {error}; be the gateway's user"),
                );
            }
        }
        if let Err(error) = tempfile::tempfile_in(data) {
            self.fault("data", format!("{name} can't be written to: {error}; give it to the gateway's user"));
        }
        self.examine_space(config);
    }

    /// The journal may grow to its capacity before it blocks.
    fn examine_space(&mut self, config: &Config) {
        let (data, needed) = (&config.data.directory, config.journal.capacity_bytes);
        match rustix::fs::statvfs(data) {
            Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) < needed => self.warn(
                "data",
                format!(
                    "{} has {} MiB free, less than the {} MiB that the journal may take while the store is away: free \
                     some, or lower journal.capacity_bytes",
                    data.display(),
                    space.f_bavail.saturating_mul(space.f_frsize) >> 20,
                    needed >> 20
                ),
            ),
            Ok(_) => {}
            Err(error) => self.fault("data", format!("the space of {} can't be told: {error}", data.display())),
        }
    }

    async fn examine_store(&mut self, config: &Config) -> Option<Store> {
        if let StoreUrl::Sqlite(path) = &config.store.url
            && !path.exists()
        {
            self.good("store", format!("{} is not there yet; the gateway makes it", path.display()));
            return None;
        }
        let settings = app::store_settings(&config.store);
        let store = match timeout(PATIENCE, Store::open_with(&settings)).await {
            Ok(Ok(store)) => store,
            Ok(Err(error)) => {
                self.fault("store", format!("{}; see to it that store.url is right", with_causes(&error)));
                return None;
            }
            Err(_) => {
                self.fault("store", format!("no answer in {PATIENCE:?}; see to it that store.url is right"));
                return None;
            }
        };
        match store.inspect().await {
            Ok(()) => {
                self.good("store", "reachable, and of this version's schema");
                self.examine_peppers(&store, &config.identity.api_key).await;
            }
            Err(error) => self.fault("store", with_causes(&error)),
        }
        if let Some(grants) = store.grants(GrantSettings { timeout: PATIENCE, ..GrantSettings::default() }) {
            let findings = Postgres::new(grants).inspect(SystemClock::default().now()).await;
            self.judged("store", findings.map_err(|error| error.to_string()));
        }
        Some(store)
    }

    /// Under which peppers credentials are stored, if there is more than one.
    async fn examine_peppers(&mut self, store: &Store, config: &ApiKeyConfig) {
        let stored = match peppered(store).await {
            Ok(stored) => stored,
            Err(error) => return self.fault("identity", with_causes(&error)),
        };
        let is_known = |stored: &&Peppered| pepper_versions(config).any(|version| version == stored.version);
        for unusable in stored.iter().filter(|stored| !is_known(stored)) {
            let what = format!(
                "{}, which is not configured, so that nobody can use them: add it to identity.api_key.old_peppers, or issue \
                 them anew",
                credentials(unusable)
            );
            self.fault("identity", what);
        }
        if config.old_peppers.is_empty() && config.next_pepper.is_none() {
            return;
        }
        let current = i64::from(config.pepper_version);
        for version in pepper_versions(config) {
            let found = stored.iter().find(|stored| stored.version == version);
            let unused = Peppered { version, keys: 0, platform_tokens: 0 };
            let what = credentials(found.unwrap_or(&unused));
            let what = match (version.cmp(&current), found) {
                (Ordering::Less, Some(_)) => {
                    format!("{what}, which must stay: each is renewed when it is used")
                }
                (Ordering::Less, None) => format!("{what}: take it out of identity.api_key.old_peppers"),
                (Ordering::Equal, _) => format!("{what}, the current one"),
                (Ordering::Greater, _) => format!("{what}, the next one"),
            };
            self.good("identity", what);
        }
    }

    async fn examine_authority(&mut self, config: &Config, store: Option<&Store>) {
        match &config.authority.url {
            AuthorityUrl::Embedded => self.good("authority", "this gateway alone grants units"),
            AuthorityUrl::Store if store.is_some() => self.good("authority", "the store grants units"),
            AuthorityUrl::Store => self.fault("authority", "the store grants units, and it can't be asked"),
            AuthorityUrl::Redis(url) => {
                let findings = inspect_redis(url, config).await;
                self.judged("authority", findings);
            }
        }
    }

    async fn examine_upstreams(&mut self, config: &Config) {
        for upstream in &config.upstreams {
            for endpoint in &upstream.urls {
                let address = endpoint.url.authority();
                let connected = timeout(upstream.timeouts.connect, TcpStream::connect(&address)).await;
                let failed = match connected {
                    Ok(Ok(_)) => {
                        self.good("upstream", format!("`{}` answers at {address}", upstream.name));
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("not within {:?}", upstream.timeouts.connect),
                };
                let what = format!(
                    "`{}` can't be reached at {address}: {failed}; start it, or correct urls",
                    upstream.name
                );
                self.fault("upstream", what);
            }
        }
    }

    fn examine_certificates(&mut self, config: &Config) {
        let Some(tls) = app::tls_settings(config) else { return };
        match tls.load() {
            Ok(_) => self.good("listen.tls", "certificates and keys can be read, and belong together"),
            Err(error) => self.fault("listen.tls", with_causes(&error)),
        }
    }

    fn judged(&mut self, about: &'static str, findings: Result<Vec<Finding>, String>) {
        match findings {
            Ok(findings) => self.0.extend(findings.into_iter().map(|finding| (about, finding))),
            Err(error) => self.fault(about, error),
        }
    }

    fn good(&mut self, about: &'static str, what: impl Into<String>) {
        self.0.push((about, Finding { severity: Severity::Good, what: what.into() }));
    }

    fn warn(&mut self, about: &'static str, what: impl Into<String>) {
        self.0.push((about, Finding { severity: Severity::Warning, what: what.into() }));
    }

    fn fault(&mut self, about: &'static str, what: impl Into<String>) {
        self.0.push((about, Finding { severity: Severity::Refusal, what: what.into() }));
    }

    fn found(self) -> Found {
        let is_faulty = self.0.iter().any(|(_, finding)| finding.severity == Severity::Refusal);
        let findings: Vec<_> = self
            .0
            .iter()
            .map(|(about, finding)| json!({ "about": about, "severity": word(finding.severity), "what": finding.what }))
            .collect();
        let text = self
            .0
            .iter()
            .map(|(about, finding)| format!("{:<8} {about}: {}\n", word(finding.severity), finding.what))
            .collect();
        Found {
            json: json!({ "ok": !is_faulty, "findings": findings }).to_string(),
            text,
            status: u8::from(is_faulty),
        }
    }
}

async fn inspect_redis(url: &RedisUrl, config: &Config) -> Result<Vec<Finding>, String> {
    let settings = app::redis_settings(url, config).map_err(|error| with_causes(&error))?;
    let redis = Redis::connect(settings, Arc::new(SystemClock::default())).await;
    Ok(redis.map_err(|error| error.to_string())?.inspect().await)
}

async fn peppered(store: &Store) -> Result<Vec<Peppered>, StoreError> {
    store.read().await?.peppered().await
}

/// The configured ones. One that was made is version 1, whatever is said of another.
fn pepper_versions(config: &ApiKeyConfig) -> impl Iterator<Item = i64> {
    let current = if config.pepper.is_some() { config.pepper_version } else { 1 };
    let others = config.old_peppers.iter().chain(&config.next_pepper).map(|other| other.version);
    std::iter::once(current).chain(others).map(i64::from)
}

fn credentials(Peppered { version, keys, platform_tokens }: &Peppered) -> String {
    let (keys, tokens) = (counted(*keys, "key"), counted(*platform_tokens, "platform token"));
    format!("{keys} and {tokens} are stored under pepper {version}")
}

fn counted(count: i64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Good => "ok",
        Severity::Warning => "warning",
        Severity::Refusal => "fault",
    }
}
