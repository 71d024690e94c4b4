//! A console to use: a gateway with an upstream, and the first person who has logged in.

use crate::support::{Profile, StubUpstream, Tab, TestGateway, charging_all};

pub(super) struct Site {
    pub(super) gateway: TestGateway,
    pub(super) upstream: StubUpstream,
}

/// What lets in whoever installs it.
pub(super) const TOKEN: &str = "a-platform-token-of-the-browser-suite";
pub(super) const OWNER: &str = "owner@example.com";
pub(super) const PASSWORD: &str = "correct horse battery";

// === impl Site ===

impl Site {
    #[track_caller]
    pub(super) fn start() -> Site {
        let upstream = StubUpstream::start();
        let own = format!(
            "[control]\nplatform_token = \"{TOKEN}\"\n[alerts]\nallow_http = true\nnetworks = [\"127.0.0.0/8\"]\n"
        );
        let gateway = TestGateway::start_with(&format!("{}{own}", charging_all(&upstream)));
        Site { gateway, upstream }
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.gateway.admin())
    }

    /// A tab of somebody who has not logged in.
    #[track_caller]
    pub(super) fn tab(&self, profile: &Profile) -> Tab {
        profile.tab(&self.address())
    }

    /// The platform's owner, who came with the token.
    #[track_caller]
    pub(super) fn owner(&self, profile: &Profile) -> Tab {
        self.owner_at(&self.address(), profile)
    }

    /// The same, by another way.
    #[track_caller]
    pub(super) fn owner_at(&self, address: &str, profile: &Profile) -> Tab {
        let tab = profile.tab(address);
        begin(&tab);
        tab
    }
}

/// The first log-in of the platform's owner.
#[track_caller]
pub(super) fn begin(tab: &Tab) {
    tab.open("/console/first-log-in");
    tab.fill("The platform’s token", TOKEN);
    tab.fill("Your e-mail address", OWNER);
    tab.fill("Your new password", PASSWORD);
    tab.press("Begin");
    tab.sees("Tenants");
}
