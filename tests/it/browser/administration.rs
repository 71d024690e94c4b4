//! What administrators do without a script: settings, alerts and their channels, roles, tenants below, the fleet's books.

use super::site::Site;
use crate::support::{Profile, StubUpstream, until};

#[test]
fn settings_are_set_reset_and_secret() {
    let site = Site::start();
    site.gateway.customer("Acme", "pro");
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/settings");
    tab.fill("Support url", "javascript:alert(1)");
    tab.tell("document.querySelectorAll('form').forEach(form => form.noValidate = true)");
    tab.press("Save support_url");
    tab.sees("an http or https address is expected");
    assert_eq!(tab.value("Support url"), "javascript:alert(1)");
    tab.fill("Support url", "https://help.example.com/");
    tab.press("Save support_url");
    tab.sees("support_url is set.");
    tab.press("Reset support_url");
    assert_eq!(tab.value("Support url"), "");

    let capped = "[...document.querySelectorAll('#security_level option')].map(o => o.disabled).join()";
    assert_eq!(tab.tell(capped), "false,false,true,true", "pro has basic and standard");
    tab.choose("Security level", "basic");
    tab.press("Save security_level");
    tab.sees("security_level is set.");

    tab.fill("Name", "custom.crm_token");
    tab.fill("Value", "a very secret word");
    tab.click("It is a secret: sealed, and shown to nobody");
    tab.press("Add");
    tab.sees("custom.crm_token is set.");
    let source = tab.tell("document.documentElement.outerHTML");
    assert!(!source.as_str().expect("text").contains("a very secret word"));

    tab.fill("Name", "custom.crm");
    tab.fill("Value", "42");
    tab.press("Add");
    tab.sees("custom.crm is set.");
    tab.open("/console/tenants/acme/audit?action=setting.set&verify=yes");
    tab.sees("The log is whole.");
    tab.click_at(".log details summary");
    tab.sees("all of this request");
}

#[test]
fn a_channel_brings_a_test_and_a_rule_is_turned_off() {
    let site = Site::start();
    site.gateway.customer("Acme", "free");
    let receiver = StubUpstream::start();
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/alerts/channels");
    tab.fill("Name", "ops");
    tab.fill("Address", "nowhere");
    tab.press("Add");
    tab.sees("URL without a user is expected");
    tab.fill("Address", &format!("{}/hook", receiver.url()));
    tab.press("Add");
    assert!(tab.value("Secret").starts_with("whsec_"));
    tab.press("Send a test to ops");
    until("the test arrives", || (receiver.count() > 0).then_some(()));
    until("it is said", || {
        tab.open("/console/tenants/acme/alerts/deliveries");
        tab.text().contains("delivered").then_some(())
    });
    tab.open("/console/tenants/acme/alerts?kind=test");
    tab.sees("This is a test of the channel ops.");
    tab.press("I have seen it: This is a test of the channel ops.");
    tab.sees("Seen by owner@example.com");

    tab.open("/console/tenants/acme/alerts/rules");
    tab.press("Turn off: When any quota is used to 80 %");
    assert!(tab.offers("Turn on: When any quota is used to 80 %"), "{}", tab.text());
    tab.press("Turn on: When any quota is used to 80 %");
    assert!(tab.offers("Turn off: When any quota is used to 80 %"), "{}", tab.text());
    tab.choose("Quota", "api_calls");
    tab.fill("From how many percent of the limit", "50");
    tab.press("Add");
    tab.sees("When the quota of API calls is used to 50 %");
}

#[test]
fn an_enterprise_makes_roles_and_a_reseller_tenants() {
    let site = Site::start();
    site.gateway.customer("Acme", "msp");
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/members/roles");
    tab.fill("Name", "on-call");
    tab.click_at("#permissions-alert\\.acknowledge");
    tab.press("Save the role");
    tab.sees("The role on-call is as you have set it.");
    tab.press("Change on-call");
    assert_eq!(tab.value("Name"), "on-call");
    assert_eq!(tab.tell("document.querySelectorAll('input:checked').length"), 1);
    tab.press("Remove on-call");
    tab.sees("The role on-call is removed.");

    tab.open("/console/tenants/acme/children");
    tab.fill("Name", "Small Shop");
    tab.press("Create");
    tab.sees("Small Shop is made.");
    tab.press("Slice of Small Shop");
    tab.choose("Resource", "api_calls");
    tab.fill("Limit", "a few");
    tab.press("Set the limit");
    tab.sees("A whole number is expected.");
    tab.fill("Limit", "321");
    tab.press("Set the limit");
    tab.sees("321");
    assert!(tab.offers("Status of Small Shop"));
}

#[test]
fn usage_and_the_audit_log_are_taken_along_as_the_page_shows_them() {
    let site = Site::start();
    let acme = site.gateway.customer("Acme", "free");
    assert_eq!(site.gateway.client().get("/", &acme.key).status, 200);
    until("the usage is in the database", || (!site.gateway.usage_rows(&acme).is_empty()).then_some(()));
    let tab = site.owner(&Profile::without_scripts());
    let taken = |name: &str| {
        let script = format!(
            "(() => {{ const asked = new XMLHttpRequest(); \
             asked.open('GET', document.querySelector('a[download=\"{name}\"]').href, false); asked.send(); \
             return asked.getResponseHeader('content-type') + '|' + asked.responseText; }})()"
        );
        tab.tell(&script).as_str().expect("text").to_owned()
    };
    let today = tab.tell("new Date().toISOString().slice(0, 10)").as_str().expect("a day").to_owned();
    for group in ["", "&group_by=resource_type", &format!("&from={today}")] {
        tab.open(&format!("/console/tenants/acme/usage?period=hour{group}"));
        let csv = taken("usage.csv");
        let rows: Vec<_> = csv.lines().collect();
        assert!(rows[0].starts_with("text/csv; charset=utf-8|start,group,units,"), "{csv}");
        assert_eq!(rows.len(), 2, "{csv}");
        assert!(taken("usage.ndjson").starts_with("application/x-ndjson|{"));
    }
    tab.open(&format!("/console/tenants/acme/audit?action=key.create&from={today}&to={today}"));
    let csv = taken("audit.csv");
    assert!(csv.starts_with("text/csv; charset=utf-8|seq,at,"), "{csv}");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert_eq!(taken("audit.ndjson").lines().count(), 1);
    tab.open("/console/audit");
    assert!(taken("audit.csv").lines().count() > 1);
}

#[test]
fn the_fleet_page_says_that_the_books_balance_and_who_brought_usage() {
    let site = Site::start();
    let customer = site.gateway.customer("Acme", "free");
    let tab = site.owner(&Profile::without_scripts());
    for _ in 0..3 {
        assert_eq!(site.gateway.client().get("/", &customer.key).status, 200);
    }
    until("the usage is in the database", || {
        let rows = site.gateway.usage_rows(&customer);
        let units: u64 = rows.iter().filter_map(|row| row["usage_amount"].as_u64()).sum();
        (units == 3).then_some(())
    });
    tab.open("/console/fleet");
    tab.sees("It serves.");
    tab.sees("Everything that was taken is recorded, to the unit.");
    tab.sees("(this one)");
    assert_eq!(site.upstream.count(), 3);
    let brought = tab.text_of("main tbody tr td:last-child");
    assert!(brought.parse::<u64>().is_ok_and(|records| records > 0), "{brought}");
}
