//! Gateways that share a store and an authority.

use tempfile::TempDir;

use super::gateway::TestGateway;
use super::upstream::StubUpstream;
use super::wait::until;

/// What they share.
pub(crate) struct Fleet {
    _directory: TempDir,
    /// The URL of their store.
    store: String,
    authority: String,
    /// Lines of `[authority]` more.
    settings: String,
}

// === impl Fleet ===

impl Fleet {
    /// With the authority at that URL, on a store of their own; patient, since the machine may be busy.
    pub(crate) fn on(authority: &str) -> Self {
        Fleet::with(authority, "timeout = \"5s\"\nrecall_wait = \"2s\"")
    }

    /// With lines of `[authority]` more.
    pub(crate) fn with(authority: &str, settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the fleet");
        let store = format!("sqlite:{}/tollgate.db", directory.path().display());
        Fleet { _directory: directory, store, authority: authority.to_owned(), settings: settings.to_owned() }
    }

    /// The same with the store at this URL.
    pub(crate) fn storing_in(self, store: &str) -> Self {
        Fleet { store: store.to_owned(), ..self }
    }

    /// Ends all gateways, and starts them with another authority.
    #[track_caller]
    pub(crate) fn move_to(&mut self, authority: &str, gateways: &mut [TestGateway], upstream: &StubUpstream) {
        authority.clone_into(&mut self.authority);
        gateways.iter_mut().for_each(|gateway| assert!(gateway.terminate().success()));
        for gateway in gateways {
            gateway.configure(&self.configuration(upstream, "api_calls = 1"));
            gateway.restart();
            grants(gateway);
        }
    }

    /// Another gateway, which charges one `api_calls` for each request to `upstream`.
    #[track_caller]
    pub(crate) fn gateway(&self, upstream: &StubUpstream) -> TestGateway {
        self.gateway_charging(upstream, "api_calls = 1")
    }

    /// So many gateways.
    #[track_caller]
    pub(crate) fn gateways(&self, number: usize, upstream: &StubUpstream) -> Vec<TestGateway> {
        (0..number).map(|_| self.gateway(upstream)).collect()
    }

    /// Another gateway, which charges that.
    #[track_caller]
    pub(crate) fn gateway_charging(&self, upstream: &StubUpstream, charge: &str) -> TestGateway {
        let gateway = TestGateway::start_in(&self.store, &self.configuration(upstream, charge));
        grants(&gateway);
        gateway
    }

    fn configuration(&self, upstream: &StubUpstream, charge: &str) -> String {
        let (authority, settings, url, pepper) =
            (&self.authority, &self.settings, upstream.url(), "5a".repeat(32));
        format!(
            "[authority]\nurl = \"{authority}\"\n{settings}\n[identity.api_key]\npepper = \"{pepper}\"\n\
             [[upstream]]\nname = \"stub\"\nurls = [\"{url}\"]\n\
             [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ {charge} }}\n"
        )
    }
}

/// Waits: an authority that was empty grants nothing for a second.
#[track_caller]
fn grants(gateway: &TestGateway) {
    until("grants", || (gateway.metric("tollgate_authority_learning", "") == 0.0).then_some(()));
}
