//! A first day: a tenant, its key, its limit, more of it; a key from its beginning to its end; and numbers that move.

use std::time::{Duration, Instant};

use super::site::Site;
use crate::support::{Profile, Relay, Tab, until};

/// What a page that shows a key's secret shows.
#[track_caller]
fn secret(tab: &Tab) -> String {
    tab.sees("This is the only time that the key is shown.");
    tab.text_of("#secret")
}

#[track_caller]
fn is_answered(site: &Site, key: &str, status: u16) {
    assert_eq!(site.gateway.client().get("/", key).status, status);
}

/// Until every gateway has heard of a change: within a second.
#[track_caller]
fn becomes(site: &Site, key: &str, status: u16) {
    until("the gateway has heard of it", || {
        (site.gateway.client().get("/", key).status == status).then_some(())
    });
}

#[test]
fn from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts() {
    let site = Site::start();
    let tab = site.owner(&Profile::without_scripts());
    tab.press("New tenant");
    tab.fill("Organization", "Acme");
    tab.choose("Tier", "free");
    tab.press("Create the tenant");
    assert_eq!(tab.path(), "/console/tenants/acme");
    tab.press("Keys");
    tab.press("New key");
    tab.fill("Name", "first");
    tab.press("Create the key");
    let key = secret(&tab);
    tab.press("I have kept it");
    tab.sees("first");
    assert!(!tab.tell("document.documentElement.outerHTML").as_str().expect("text").contains(&key));

    tab.open("/console/tenants/acme/quotas/api_calls");
    tab.fill("Limit", "few");
    tab.press("Set the limit");
    assert_eq!(tab.value("Limit"), "few", "what was typed is there again");
    tab.fill("Limit", "3");
    tab.fill("Reason", "a try");
    tab.press("Set the limit");
    for _ in 0..3 {
        is_answered(&site, &key, 200);
    }
    is_answered(&site, &key, 429);
    assert_eq!(site.upstream.count(), 3);
    tab.open("/console/tenants/acme/quotas");
    tab.sees("3 of 3");
    tab.open("/console/tenants/acme");
    tab.sees("Critical");

    tab.open("/console/tenants/acme/quotas");
    tab.press("Back to the tier’s limit of API calls");
    tab.press("Upgrade");
    tab.press("See what changes with Professional");
    tab.sees("299.00 USD a month instead of 0.00 USD");
    let before = tab.path();
    // Somebody else is faster.
    site.gateway.json(&["quota", "set", "acme", "devices", "--limit", "11"]);
    tab.press("Change to Professional");
    tab.sees("Somebody has changed it meanwhile");
    tab.open(&before);
    tab.press("Change to Professional");
    tab.sees("The tier is pro now; what was used still counts.");
    tab.sees("3 of 10,000");
    becomes(&site, &key, 200);
}

#[test]
fn a_key_is_made_used_exchanged_and_revoked_without_scripts() {
    let site = Site::start();
    site.gateway.customer("Acme", "free");
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/keys/new");
    tab.fill("Name", "ci");
    tab.press("Create the key");
    let first = secret(&tab);
    is_answered(&site, &first, 200);

    tab.press("I have kept it");
    tab.press("ci");
    tab.choose("How long this one goes on working", "It ends at once");
    tab.press("Make the new key");
    let second = secret(&tab);
    assert_ne!(first, second);
    is_answered(&site, &second, 200);
    becomes(&site, &first, 401);

    tab.press("I have kept it");
    tab.tell(
        "[...document.querySelectorAll('tbody tr')].find(row => row.innerText.includes('Works') && \
              row.innerText.includes('ci')).querySelector('a').id = 'good'",
    );
    tab.leading_on(|| tab.click_at("#good"));
    tab.press("Revoke the key");
    assert!(tab.offers("I know that it never works again"), "it is asked first");
    is_answered(&site, &second, 200);
    tab.click("I know that it never works again");
    tab.press("Revoke the key");
    tab.sees("Revoked");
    becomes(&site, &second, 401);
}

#[test]
fn the_overview_follows_the_traffic_within_two_seconds_also_when_its_stream_is_cut() {
    let site = Site::start();
    let acme = site.gateway.customer("Acme", "free");
    let relay = Relay::to(site.gateway.admin().port());
    let profile = Profile::new();
    let tab = site.owner_at(&format!("http://127.0.0.1:{}", relay.port()), &profile);
    let is_sent = |expected: bool| {
        let script = "document.querySelector('#live[data-sent]') !== null";
        until("the numbers come that way", || (tab.tell(script) == expected).then_some(()));
    };
    let follows = |number: &str| {
        let sent = Instant::now();
        for _ in 0..7 {
            is_answered(&site, &acme.key, 200);
        }
        tab.sees(number);
        let took = sent.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    };
    tab.open("/console/tenants/acme");
    tab.sees("0 of 1,000");
    is_sent(true);
    follows("7 of 1,000");
    tab.must_not_complain();
    // Whatever is between them has enough of a connection that never ends.
    relay.lead_to(site.gateway.admin().port());
    is_sent(false);
    follows("14 of 1,000");
}
