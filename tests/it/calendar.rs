//! A whole gateway in this process, with a clock that is told what time it is.

use std::path::Path;
use std::sync::Arc;

use tollgate::app::Running;
use tollgate::clock::TestClock;
use tollgate::config::{Config, Loaded, Source};

use crate::support::StubUpstream;

/// Ends with its gateway when it is dropped.
pub(crate) struct Calendar {
    runtime: tokio::runtime::Runtime,
    gateway: Option<Running>,
    pub(crate) clock: TestClock,
    _upstream: StubUpstream,
    _directory: tempfile::TempDir,
}

// === impl Calendar ===

impl Calendar {
    #[track_caller]
    pub(crate) fn at(now: &str) -> Calendar {
        Calendar::with(now, "")
    }

    /// With more sections of configuration.
    #[track_caller]
    pub(crate) fn with(now: &str, more: &str) -> Calendar {
        Calendar::on(None, now, more)
    }

    /// On a store that is there already; `None`: on a new one of its own.
    #[track_caller]
    pub(crate) fn on(store: Option<&str>, now: &str, more: &str) -> Calendar {
        let (clock, upstream) = (TestClock::at(now), StubUpstream::start());
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let own = format!("sqlite:{}/tollgate.db", directory.path().display());
        let config = config(directory.path(), store.unwrap_or(&own), &upstream.url(), more);
        let loaded = Loaded { config, source: Source::Defaults };
        let gateway = runtime.block_on(Running::start(loaded, Arc::new(clock.clone()))).expect("it starts");
        Calendar { runtime, gateway: Some(gateway), clock, _upstream: upstream, _directory: directory }
    }

    pub(crate) fn gateway(&self) -> &Running {
        self.gateway.as_ref().expect("until it is dropped")
    }

    pub(crate) fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Calendar {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.stop());
        }
    }
}

fn config(directory: &Path, store: &str, upstream: &str, more: &str) -> Config {
    let text = format!(
        "[listen]\nproxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = 1\n\
         [store]\nurl = \"{store}\"\n\
         [data]\ndirectory = \"{directory}/data\"\n\
         [journal]\nsegment_bytes = \"4MiB\"\n\
         [[upstream]]\nname = \"stub\"\nurls = [\"{upstream}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n{more}",
        directory = directory.display()
    );
    Config::parse(&text, Path::new("test.toml")).expect("a configuration without faults")
}
