//! Reading the configuration again while the gateway serves.
//!
//! Routes, upstreams and charges are swapped whole; requests on their way keep what they began with. What is bound to
//! sockets and files at the start can't change without a restart, and a reload that asks for it says so.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::settings;
use crate::config::{Config, Source};
use crate::directory::Directory;
use crate::gateway::{GatewayShared, Table};
use crate::telemetry::readiness::Readiness;

/// What a reload needs.
pub(super) struct Reload {
    source: Source,
    config: Config,
    shared: Arc<GatewayShared>,
    directory: Arc<Directory>,
    readiness: Readiness,
    /// Of the file, when it was last read: compared, never read as a time.
    modified: Option<SystemTime>,
}

// === impl Reload ===

impl Reload {
    /// How often the file is looked at.
    pub(super) const WATCH: Duration = Duration::from_secs(1);

    pub(super) fn new(
        source: Source,
        config: Config,
        shared: Arc<GatewayShared>,
        directory: Arc<Directory>,
        readiness: Readiness,
    ) -> Self {
        let modified = modified(&source);
        Reload { source, config, shared, directory, readiness, modified }
    }

    /// Reloads if the file is another one than at the last look.
    pub(super) fn if_changed(&mut self) {
        if modified(&self.source) != self.modified {
            self.now();
        }
    }

    /// Reloads. A faulty configuration changes nothing and is told in the log and by `/readyz`.
    pub(super) fn now(&mut self) {
        self.modified = modified(&self.source);
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
        let missing = settings::unsupported(&config);
        if !missing.is_empty() {
            return Err(missing);
        }
        let table = Table::build(settings::table(&config)).map_err(|error| vec![error.to_string()])?;
        self.directory.set_charged(table.charged().into());
        self.shared.table.store(Arc::new(table));
        self.warn_of_restarts(&config);
        self.config = config;
        Ok(())
    }

    fn warn_of_restarts(&self, config: &Config) {
        let old = &self.config;
        let sections = [
            ("listen", old.listen != config.listen),
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

fn modified(source: &Source) -> Option<SystemTime> {
    match source {
        Source::File(path) => std::fs::metadata(path).and_then(|file| file.modified()).ok(),
        Source::Defaults => None,
    }
}
