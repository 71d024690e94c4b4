//! Reading the configuration again while the gateway serves.
//!
//! Routes, upstreams, charges, certificates and the limit of memory are swapped whole; requests and connections on their way keep what they
//! began with. What is bound to sockets and files at the start can't change without a restart, and a reload that asks
//! for it says so.
//!
//! The files of certificates are watched like the configuration itself: whoever renews them need not tell anybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::settings;
use crate::config::{Config, ListenConfig, Source, TlsConfig, UpstreamTlsConfig};
use crate::directory::Directory;
use crate::gateway::{GatewayShared, Table};
use crate::listener::Tls;
use crate::telemetry::readiness::Readiness;

/// What a reload needs.
pub(super) struct Reload {
    source: Source,
    config: Config,
    shared: Arc<GatewayShared>,
    tls: Option<Arc<Tls>>,
    directory: Arc<Directory>,
    memory_limit: watch::Sender<Option<u64>>,
    readiness: Readiness,
    /// Of all files, when they were last read: compared, never read as times.
    modified: Vec<Option<SystemTime>>,
}

// === impl Reload ===

impl Reload {
    /// How often the files are looked at.
    pub(super) const WATCH: Duration = Duration::from_secs(1);

    pub(super) fn new(
        source: Source,
        config: Config,
        shared: Arc<GatewayShared>,
        tls: Option<Arc<Tls>>,
        directory: Arc<Directory>,
        memory_limit: watch::Sender<Option<u64>>,
        readiness: Readiness,
    ) -> Self {
        let modified = modified(&source, &config);
        Reload { source, config, shared, tls, directory, memory_limit, readiness, modified }
    }

    /// Reloads if a file is another one than at the last look.
    pub(super) fn if_changed(&mut self) {
        if modified(&self.source, &self.config) != self.modified {
            self.now();
        }
    }

    /// Reloads. A faulty configuration changes nothing and is told in the log and by `/readyz`.
    pub(super) fn now(&mut self) {
        self.modified = modified(&self.source, &self.config);
        let Source::File(path) = &self.source else {
            tracing::info!("there is no configuration file to read again");
            return;
        };
        let faults = match Config::load(Some(path)) {
            Ok(loaded) => match self.take(loaded.config) {
                Ok(()) => {
                    tracing::info!("the configuration was read again");
                    self.readiness.ready("configuration");
                    return;
                }
                Err(faults) => faults,
            },
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        for fault in &faults {
            tracing::error!(fault = %fault, "the configuration has a fault and is not taken: {fault}");
        }
        self.readiness.ready_but(
            "configuration",
            format!("the file has faults and was not taken: {}", faults.join("; ")),
        );
    }

    fn take(&mut self, config: Config) -> Result<(), Vec<String>> {
        let table = Table::build_after(&self.shared.table.load(), settings::table(&config));
        let table = table.map_err(|error| vec![error.to_string()])?;
        let tls = settings::tls(&config).map(|settings| settings.load()).transpose();
        let tls = tls.map_err(|error| vec![format!("listen.tls: {error}")])?;
        if let (Some(tls), Some(ready)) = (&self.tls, tls) {
            tls.exchange(ready);
        }
        self.directory.set_charged(table.charged().into());
        self.shared.table.store(Arc::new(table));
        self.memory_limit.send_replace(config.listen.limits.memory_bytes);
        self.warn_of_restarts(&config);
        self.modified = modified(&self.source, &config);
        self.config = config;
        Ok(())
    }

    fn warn_of_restarts(&self, config: &Config) {
        let old = &self.config;
        let sections = [
            ("listen", bound(&old.listen) != bound(&config.listen)),
            ("store", old.store != config.store),
            ("authority", old.authority != config.authority),
            ("data", old.data != config.data),
            ("journal", old.journal != config.journal),
            ("identity", old.identity != config.identity),
            ("headers", old.headers != config.headers),
            ("control", old.control != config.control),
            ("telemetry", old.telemetry != config.telemetry),
        ];
        for (section, _) in sections.into_iter().filter(|(_, changed)| *changed) {
            tracing::warn!(section, "[{section}] has changed, which takes effect at the next start");
        }
    }
}

/// What of the section can't be exchanged while sockets are open: all but certificates and the limit of memory.
fn bound(listen: &ListenConfig) -> ListenConfig {
    let mut bound = listen.clone();
    bound.limits.memory_bytes = None;
    if let Some(tls) = &mut bound.tls {
        *tls = TlsConfig { address: std::mem::take(&mut tls.address), ..TlsConfig::default() };
    }
    bound
}

fn modified(source: &Source, config: &Config) -> Vec<Option<SystemTime>> {
    let own = match source {
        Source::File(path) => Some(path.as_path()),
        Source::Defaults => None,
    };
    let files = own.into_iter().chain(tls_files(config));
    files.map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok()).collect()
}

/// The files that TLS is spoken with, towards clients and upstreams.
fn tls_files(config: &Config) -> impl Iterator<Item = &Path> {
    let listen = config.listen.tls.iter().flat_map(|tls| {
        let pairs = tls.certificates.iter().flat_map(|certificate| [&certificate.cert, &certificate.key]);
        pairs.chain(&tls.client_ca)
    });
    let upstreams = config.upstreams.iter().flat_map(|upstream| {
        let UpstreamTlsConfig { ca, cert, key, .. } = &upstream.tls;
        [ca, cert, key].into_iter().flatten()
    });
    listen.chain(upstreams).map(PathBuf::as_path)
}
