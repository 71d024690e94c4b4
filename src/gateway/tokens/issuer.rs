//! One trusted issuer: its rules, and its keys, which change while the gateway runs.
//!
//! A task of its own follows the keys; workers only look at what it found. They are read anew every five minutes and
//! whenever a token names a key that is not among them, but for that at most once in 30 seconds, so that nobody can
//! make the gateway hammer an issuer. When an issuer can't be reached its last keys go on working for 24 hours.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::Rejected;
use super::fetch::{BODY_BYTES_MAX, BadTrust, FetchError, Fetcher, SendError, are_of_one_host};
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::gateway::meters::registered;
use crate::secret::jwt::{Algorithm, BadKeys, Claims, KeySet, Rules, Token};
use crate::telemetry::log::with_causes;

/// Keys are read again this often: a key that was withdrawn works at most so much longer.
const RENEWED_EVERY: Duration = Duration::from_secs(300);
/// A file costs nothing to read.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(10);
/// After a failure sooner, since a later failure would matter more.
const RETRIED_EVERY: Duration = Duration::from_secs(10);
/// Asking for a key that is not there, in the hope that it is new.
const FORCED_EVERY: Duration = Duration::from_secs(30);
/// How long keys work that can't be renewed.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a request waits for new keys.
const WAITED_MAX: Duration = Duration::from_secs(6);

/// An issuer that is trusted.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    pub rules: Rules,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    pub keys: KeySource,
    /// Certificates (PEM) that vouch for the server of the keys, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether upstreams are sent the token.
    pub passes_on: bool,
}

/// Where an issuer's keys are.
#[derive(Clone)]
pub enum KeySource {
    Secret(Vec<u8>),
    File(PathBuf),
    /// A JWK set at an `https:` URL, or an `http:` URL of this machine.
    Url(String),
    /// At the URL that `/.well-known/openid-configuration` of the issuer names, on the issuer's own host.
    Discovery,
}

/// An issuer whose tokens can never be verified.
#[derive(Debug, thiserror::Error)]
#[error("the tokens of `{issuer}` can't be verified")]
pub struct BadIssuer {
    issuer: String,
    source: BadIssuerCause,
}

#[derive(Debug, thiserror::Error)]
enum BadIssuerCause {
    #[error(transparent)]
    Keys(BadKeys),
    #[error(transparent)]
    Trust(BadTrust),
}

/// What is counted of issuers.
#[derive(Clone, Debug)]
pub(super) struct IssuerMetrics {
    readings: IntCounterVec,
    read_at: IntGaugeVec,
}

pub(super) struct Issuer {
    settings: IssuerSettings,
    fetcher: Option<Fetcher>,
    held: watch::Sender<Held>,
    /// Counts the sets of keys that differed from the one before.
    generation: Arc<AtomicU64>,
    wanted: Notify,
    metrics: IssuerMetrics,
    clock: Arc<dyn Clock>,
}

/// Which of an issuer's sets of keys; tells when there is a newer one.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    number: u64,
    latest: Arc<AtomicU64>,
}

/// What is known of an issuer's keys.
#[derive(Default)]
struct Held {
    keys: Option<Arc<KeySet>>,
    document: Vec<u8>,
    /// When the keys were last known to be the issuer's; `None` for a secret, which is ours to know.
    read_at: Option<Monotonic>,
    /// When they were last asked for because a token named a key that is not among them.
    forced_at: Option<Monotonic>,
    /// Someone is about to know more.
    is_reading: bool,
}

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
enum ReadFailed {
    #[error("reading {0}")]
    File(PathBuf, #[source] io::Error),
    #[error("fetching {0}")]
    Fetch(String, #[source] FetchError),
    #[error("{0} is no description of an OpenID provider: `issuer` and `jwks_uri` are expected")]
    Description(String),
    #[error("{0} describes the issuer `{1}`")]
    OtherIssuer(String, String),
    #[error(
        "its keys are said to be at {0}, which is not on the issuer's own host; set `jwks` if that is right"
    )]
    OtherHost(String),
    #[error("using the keys of {0}")]
    Keys(String, #[source] BadKeys),
}

// === impl KeySource ===

impl KeySource {
    /// `None` for what never changes.
    const fn renewed_every(&self) -> Option<Duration> {
        match self {
            KeySource::Secret(_) => None,
            KeySource::File(_) => Some(LOOKED_AT_EVERY),
            KeySource::Url(_) | KeySource::Discovery => Some(RENEWED_EVERY),
        }
    }
}

/// Without the secret.
impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeySource::Secret(_) => f.write_str("Secret(***)"),
            KeySource::File(path) => f.debug_tuple("File").field(path).finish(),
            KeySource::Url(url) => f.debug_tuple("Url").field(url).finish(),
            KeySource::Discovery => f.write_str("Discovery"),
        }
    }
}

// === impl IssuerMetrics ===

impl IssuerMetrics {
    /// # Panics
    /// If the registry has metrics of these names already.
    pub(super) fn register(registry: &Registry) -> Self {
        let readings = Opts::new(
            "tollgate_issuer_key_readings_total",
            "Attempts to read an issuer's keys, by issuer and outcome (ok, failed).",
        );
        let read_at = Opts::new(
            "tollgate_issuer_keys_read_timestamp_seconds",
            "When an issuer's keys were last read, in seconds since the epoch.",
        );
        IssuerMetrics {
            readings: registered(registry, IntCounterVec::new(readings, &["issuer", "outcome"])),
            read_at: registered(registry, IntGaugeVec::new(read_at, &["issuer"])),
        }
    }
}

// === impl Generation ===

impl Generation {
    /// Whether the issuer's keys are still these.
    pub(super) fn is_current(&self) -> bool {
        self.latest.load(Ordering::Acquire) == self.number
    }
}

// === impl Held ===

impl Held {
    fn may_be_forced(&self, now: Monotonic) -> bool {
        self.forced_at.is_none_or(|at| now.since(at) >= FORCED_EVERY)
    }
}

// === impl Issuer ===

impl Issuer {
    /// # Errors
    /// [`BadIssuer`] for a secret that is too short, and certificates that are none.
    pub(super) fn new(
        settings: IssuerSettings,
        metrics: &IssuerMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Issuer, BadIssuer> {
        let bad = |source| BadIssuer { issuer: settings.rules.issuer.clone(), source };
        let keys = match &settings.keys {
            KeySource::Secret(secret) => {
                let keys = KeySet::of_secret(secret, &settings.algorithms);
                Some(Arc::new(keys.map_err(|error| bad(BadIssuerCause::Keys(error)))?))
            }
            KeySource::File(_) | KeySource::Url(_) | KeySource::Discovery => None,
        };
        let fetcher = match &settings.keys {
            KeySource::Secret(_) | KeySource::File(_) => None,
            KeySource::Url(_) | KeySource::Discovery => {
                let fetcher = Fetcher::new(settings.ca.as_deref());
                Some(fetcher.map_err(|error| bad(BadIssuerCause::Trust(error)))?)
            }
        };
        // The first requests wait for the first reading.
        let held = Held { is_reading: keys.is_none(), keys, ..Held::default() };
        Ok(Issuer {
            settings,
            fetcher,
            held: watch::Sender::new(held),
            generation: Arc::default(),
            wanted: Notify::new(),
            metrics: metrics.clone(),
            clock,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.rules.issuer
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name() == name
    }

    pub(super) fn is_passed_on(&self) -> bool {
        self.settings.passes_on
    }

    /// What the token claims, if it holds by the keys as they are known now.
    pub(super) fn check(&self, token: &Token<'_>, now: Timestamp) -> Result<(Claims, Generation), Rejected> {
        // Before the keys: a generation may be too old for them, never too new.
        let generation =
            Generation { number: self.generation.load(Ordering::Acquire), latest: self.generation.clone() };
        let keys = self.keys().ok_or(Rejected::NoKeys)?;
        let claims = self.settings.rules.check(token, &keys, now).map_err(Rejected::Bad)?;
        Ok((claims, generation))
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        let held = self.held.borrow();
        let is_too_old = |read_at| self.clock.monotonic().since(read_at) > STALE_MAX;
        if held.read_at.is_some_and(is_too_old) {
            return None;
        }
        held.keys.clone()
    }

    /// Waits for newer keys, if there may be some: whether it is worth another try.
    ///
    /// Dropping the future leaves a reading that has begun to go on.
    pub(super) async fn renewed(&self) -> bool {
        if self.settings.keys.renewed_every().is_none() {
            return false;
        }
        let mut held = self.held.subscribe();
        let (is_reading, may_ask) = {
            let held = held.borrow_and_update();
            (held.is_reading, held.may_be_forced(self.clock.monotonic()))
        };
        if !is_reading && may_ask {
            self.wanted.notify_one();
        }
        (is_reading || may_ask) && matches!(timeout(WAITED_MAX, held.changed()).await, Ok(Ok(())))
    }

    /// Reads the keys again and again. Runs until it is dropped.
    pub(super) async fn follow(&self) {
        let Some(renewed_every) = self.settings.keys.renewed_every() else { return };
        let mut is_failing = false;
        loop {
            let read = self.read_once().await;
            self.report(&read, is_failing);
            is_failing = read.is_err();
            let pause = if is_failing { RETRIED_EVERY } else { renewed_every };
            // Either way it is time to read again.
            let _ = timeout(pause, self.forced()).await;
        }
    }

    fn report(&self, read: &Result<(), ReadFailed>, was_failing: bool) {
        let issuer = self.name();
        let outcome = if read.is_ok() { "ok" } else { "failed" };
        self.metrics.readings.with_label_values(&[issuer, outcome]).inc();
        match read {
            Ok(()) => {
                self.metrics.read_at.with_label_values(&[issuer]).set(self.clock.now().seconds());
                if was_failing {
                    tracing::info!(issuer, "the issuer's keys can be read again");
                }
            }
            Err(error) if was_failing => {
                tracing::debug!(issuer, error = with_causes(error), "the issuer's keys still can't be read");
            }
            Err(error) => {
                tracing::warn!(
                    issuer,
                    error = with_causes(error),
                    "the issuer's keys can't be read; going on with those that are known, for a day at most"
                );
            }
        }
    }

    /// Done when a token wants a key that is not there, and it is not too soon to ask.
    async fn forced(&self) {
        loop {
            self.wanted.notified().await;
            let now = self.clock.monotonic();
            if self.held.borrow().may_be_forced(now) {
                self.held.send_if_modified(|held| {
                    held.forced_at = Some(now);
                    false
                });
                return;
            }
        }
    }

    async fn read_once(&self) -> Result<(), ReadFailed> {
        self.held.send_if_modified(|held| {
            held.is_reading = true;
            false
        });
        let began = self.clock.monotonic();
        let taken = match self.read().await {
            Ok((place, document)) => self.take(&place, document, began),
            Err(error) => Err(error),
        };
        // Whoever waits looks again, whatever came of it.
        self.held.send_modify(|held| held.is_reading = false);
        taken
    }

    /// Uses these keys from now on. The keys first, then their number: see [`Issuer::check`].
    fn take(&self, place: &str, document: Vec<u8>, read_at: Monotonic) -> Result<(), ReadFailed> {
        let is_new = self.held.borrow().document != document;
        let parse = || KeySet::parse(&document, &self.settings.algorithms).map(Arc::new);
        let keys =
            is_new.then(parse).transpose().map_err(|error| ReadFailed::Keys(place.to_owned(), error))?;
        self.held.send_if_modified(|held| {
            held.read_at = Some(read_at);
            if keys.is_some() {
                (held.keys, held.document) = (keys, document);
            }
            false
        });
        if is_new {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The keys' document, and where it was.
    async fn read(&self) -> Result<(String, Vec<u8>), ReadFailed> {
        match &self.settings.keys {
            KeySource::Secret(_) => Ok((String::new(), Vec::new())),
            KeySource::File(path) => {
                let read = read_file(path).map_err(|error| ReadFailed::File(path.clone(), error))?;
                Ok((path.display().to_string(), read))
            }
            KeySource::Url(url) => self.fetched(url.clone()).await,
            KeySource::Discovery => {
                let url = self.discovered().await?;
                self.fetched(url).await
            }
        }
    }

    async fn discovered(&self) -> Result<String, ReadFailed> {
        let issuer = self.name();
        let described = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let (described, document) = self.fetched(described).await?;
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap_or_default();
        let (Some(named), Some(keys)) = (document["issuer"].as_str(), document["jwks_uri"].as_str()) else {
            return Err(ReadFailed::Description(described));
        };
        // OpenID Connect Discovery, section 4.3: otherwise one provider could stand in for another.
        if named != issuer {
            return Err(ReadFailed::OtherIssuer(described, named.to_owned()));
        }
        if !are_of_one_host(keys, issuer) {
            return Err(ReadFailed::OtherHost(keys.to_owned()));
        }
        Ok(keys.to_owned())
    }

    async fn fetched(&self, url: String) -> Result<(String, Vec<u8>), ReadFailed> {
        let fetched = match &self.fetcher {
            Some(fetcher) => fetcher.get(&url).await,
            None => Err(SendError::Url.into()),
        };
        match fetched {
            Ok(document) => Ok((url, document)),
            Err(error) => Err(ReadFailed::Fetch(url, error)),
        }
    }
}

/// The whole file, if it is no longer than an answer may be.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BODY_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::Registry;

    use super::{Issuer, IssuerMetrics, IssuerSettings, KeySource};
    use crate::clock::TestClock;
    use crate::secret::jwt::{Algorithm, Claim, Rules};

    #[tokio::test]
    async fn nobody_waits_for_another_secret() {
        let settings = IssuerSettings {
            rules: Rules {
                issuer: "here".into(),
                audiences: vec![],
                leeway: Duration::ZERO,
                tenant: Claim::new("tenant"),
                subject: Claim::new("sub"),
                scopes: Claim::new("scope"),
                tier: None,
            },
            algorithms: vec![Algorithm::HS256],
            keys: KeySource::Secret(vec![7; 32]),
            ca: None,
            passes_on: false,
        };
        let metrics = IssuerMetrics::register(&Registry::new());
        let issuer = Issuer::new(settings, &metrics, Arc::new(TestClock::default())).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(500), issuer.renewed());
        assert!(!waited.await.expect("no waiting"));
    }
}
