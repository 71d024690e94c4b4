//! Every page, looked at by axe-core at two widths and in two themes, and photographed.

use super::site::Site;
use crate::support::{Finding, Profile, Tab, Theme};

/// Every address that shows a page to the platform's owner, and what its picture is called.
const PAGES: [(&str, &str); 30] = [
    ("tenants", "/console/tenants"),
    ("overview", "/console/tenants/acme"),
    ("new-tenant", "/console/new-tenant"),
    ("status", "/console/tenants/acme/status"),
    ("quotas", "/console/tenants/acme/quotas"),
    ("quota", "/console/tenants/acme/quotas/api_calls"),
    ("tiers", "/console/tenants/acme/upgrade"),
    ("upgrade", "/console/tenants/acme/upgrade?tier=enterprise"),
    ("usage", "/console/tenants/acme/usage"),
    ("keys", "/console/tenants/acme/keys"),
    ("new-key", "/console/tenants/acme/keys/new"),
    ("members", "/console/tenants/acme/members"),
    ("roles", "/console/tenants/acme/members/roles"),
    ("settings", "/console/tenants/acme/settings"),
    ("audit", "/console/tenants/acme/audit?verify=yes"),
    ("alerts", "/console/tenants/acme/alerts"),
    ("alert-rules", "/console/tenants/acme/alerts/rules"),
    ("channels", "/console/tenants/acme/alerts/channels"),
    ("deliveries", "/console/tenants/acme/alerts/deliveries"),
    ("billing", "/console/tenants/acme/billing"),
    (
        "counted",
        "/console/tenants/acme/billing/rows?resource_type=api_calls&from=2020-01-01T00:00:00Z&to=2040-01-01T00:00:00Z",
    ),
    ("children", "/console/tenants/acme/children"),
    ("child", "/console/tenants/acme/children/small-shop"),
    ("account", "/console/account"),
    ("password", "/console/account/password"),
    ("second-factor", "/console/account/second-factor"),
    ("platform-audit", "/console/audit"),
    ("fleet", "/console/fleet"),
    ("not-found", "/console/tenants/nobody"),
    ("join", "/console/join?token=tgi_none"),
];

const WIDTHS: [u32; 2] = [360, 1_440];

#[test]
fn no_page_has_a_serious_fault_overflows_or_breaks_its_policy_at_any_width_and_in_any_theme() {
    let site = Site::start();
    let profile = Profile::new();
    let tab = site.tab(&profile);
    let mut faults = Vec::new();
    for page in [("log-in", "/console/log-in"), ("first-log-in", "/console/first-log-in")] {
        look_at(&tab, page, &mut faults);
    }
    furnish(&site);
    let tab = site.owner(&profile);
    for page in PAGES {
        look_at(&tab, page, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// With something on every page.
fn furnish(site: &Site) {
    let acme = site.gateway.customer("Acme", "msp");
    let gateway = &site.gateway;
    gateway.json(&["tenant", "create", "Small Shop", "--tier", "free", "--parent", "acme"]);
    gateway.json(&["member", "invite", "acme", "ann@example.com", "--role", "developer"]);
    gateway.json(&["quota", "set", "acme", "api_calls", "--limit", "5"]);
    for status in [200, 200, 200, 200, 200, 429] {
        assert_eq!(gateway.client().get("/", &acme.key).status, status);
    }
    let channel = serde_json::json!({ "name": "ops", "kind": "webhook", "target": "http://127.0.0.1:9/" });
    let _ = gateway.api("POST /api/tenants/acme/channels", Some(&channel));
}

/// Looks at it from everywhere. What is wrong is gathered, so that one run tells all of it.
pub(super) fn look_at(tab: &Tab, (name, address): (&str, &str), faults: &mut Vec<String>) {
    tab.open(address);
    for width in WIDTHS {
        tab.resize(width);
        for theme in Theme::ALL {
            tab.prefer(theme);
            let place = format!("{name}-{width}-{}", theme.name());
            tab.photograph(&place);
            let found = tab.findings().into_iter().filter(Finding::is_serious);
            faults.extend(found.map(|finding| format!("{place}: {finding:?}")));
        }
        let overflow = tab.overflow();
        if overflow > 0 {
            faults.push(format!("{name}-{width}: {overflow} pixels wider than the screen"));
        }
    }
    faults.extend(tab.complaints().into_iter().map(|complaint| format!("{name}: {complaint}")));
}
