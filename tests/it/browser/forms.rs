//! Forms: each of the console's does its work in a browser that runs no script, and has a test that says so.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::billing::log_in;
use super::site::{OWNER, PASSWORD, Site, TOKEN, begin};
use crate::calendar::Calendar;
use crate::support::{Profile, StubUpstream, until};

/// What can be posted below the tenant's address, or below `/console` if it begins with a slash; and the test that does.
const FORMS: [(&str, &str); 48] = [
    ("/console/log-in", "who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there"),
    ("/console/first-log-in", "from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts"),
    ("/console/join", "who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there"),
    ("/console/set-password", "an_account_is_kept"),
    ("/console/theme", "an_account_is_kept"),
    ("/console/log-out", "an_account_is_kept"),
    ("/console/account/sessions/{session}/end", SECOND_FACTOR),
    ("/console/account/password", "an_account_is_kept"),
    ("/console/account/second-factor", SECOND_FACTOR),
    ("/console/account/second-factor/confirm", SECOND_FACTOR),
    ("/console/account/second-factor/remove", SECOND_FACTOR),
    ("/console/new-tenant", "from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts"),
    (
        "/console/billing-events/{event}/resend",
        "usage_that_was_given_up_is_sent_again_and_settled_without_scripts",
    ),
    (
        "/console/billing-events/{event}/settle",
        "usage_that_was_given_up_is_sent_again_and_settled_without_scripts",
    ),
    ("settings", "settings_are_set_reset_and_secret"),
    ("settings/{setting}", "settings_are_set_reset_and_secret"),
    ("settings/{setting}/reset", "settings_are_set_reset_and_secret"),
    ("children", "an_enterprise_makes_roles_and_a_reseller_tenants"),
    ("children/{child}/quota", "an_enterprise_makes_roles_and_a_reseller_tenants"),
    ("quotas/{resource}", "from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts"),
    ("quotas/{resource}/remove", "from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts"),
    ("upgrade", "from_the_first_log_in_to_the_first_429_and_the_upgrade_without_scripts"),
    ("keys/new", "a_key_is_made_used_exchanged_and_revoked_without_scripts"),
    ("keys/{key}", "a_tenant_is_kept"),
    ("keys/{key}/rotate", "a_key_is_made_used_exchanged_and_revoked_without_scripts"),
    ("keys/{key}/revoke", "a_key_is_made_used_exchanged_and_revoked_without_scripts"),
    ("status", "a_tenant_is_kept"),
    ("members", "who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there"),
    ("members/invitations/{invitation}/withdraw", "a_tenant_is_kept"),
    (
        "members/{user}/role",
        "who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there",
    ),
    (
        "members/{user}/remove",
        "who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there",
    ),
    ("members/roles", "an_enterprise_makes_roles_and_a_reseller_tenants"),
    ("members/roles/{role}/remove", "an_enterprise_makes_roles_and_a_reseller_tenants"),
    ("alerts/{alert}/acknowledge", "a_channel_brings_a_test_and_a_rule_is_turned_off"),
    ("alerts/rules", "a_channel_brings_a_test_and_a_rule_is_turned_off"),
    ("alerts/rules/{rule}", "a_channel_brings_a_test_and_a_rule_is_turned_off"),
    ("alerts/rules/{rule}/remove", "what_is_told_is_changed_sent_again_and_removed"),
    ("alerts/channels", "a_channel_brings_a_test_and_a_rule_is_turned_off"),
    ("alerts/channels/{channel}", "what_is_told_is_changed_sent_again_and_removed"),
    ("alerts/channels/{channel}/rotate", "what_is_told_is_changed_sent_again_and_removed"),
    ("alerts/channels/{channel}/test", "a_channel_brings_a_test_and_a_rule_is_turned_off"),
    ("alerts/channels/{channel}/remove", "what_is_told_is_changed_sent_again_and_removed"),
    ("alerts/deliveries/{delivery}/resend", "what_is_told_is_changed_sent_again_and_removed"),
    ("billing/cap", "what_is_to_come_is_withdrawn_and_what_was_billed_is_taken_back"),
    ("billing/finalize", "from_the_estimate_to_an_invoice_that_is_verified_without_scripts"),
    ("billing/scheduled/withdraw", "what_is_to_come_is_withdrawn_and_what_was_billed_is_taken_back"),
    ("billing/invoices/{invoice}/void", "what_is_to_come_is_withdrawn_and_what_was_billed_is_taken_back"),
    ("billing/invoices/{invoice}/paid", "from_the_estimate_to_an_invoice_that_is_verified_without_scripts"),
];
const SECOND_FACTOR: &str = "a_second_factor_is_set_up_from_the_page_asked_for_at_the_log_in_and_removed";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The addresses of the router that take a form.
fn posted() -> Vec<String> {
    let router = read("src/console/router.rs");
    let routes = router.split(".route(").skip(1);
    let posted = routes.map(until_end).filter(|route| route.contains("post("));
    posted.map(|route| route.split('"').nth(1).expect("an address").to_owned()).collect()
}

/// The route itself: it ends with its line, or where its parenthesis does.
fn until_end(route: &str) -> &str {
    let mut depth = 1;
    let end = route.char_indices().find(|(_, letter)| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        depth == 0
    });
    end.map_or(route, |(at, _)| &route[..at])
}

#[test]
fn each_form_of_the_console_is_sent_without_scripts_by_some_test() {
    let of_tenant = "/console/tenants/{tenant}/";
    let tests: String = ["administration", "billing", "forms", "journey", "people"]
        .map(|file| read(&format!("tests/it/browser/{file}.rs")))
        .concat();
    let bodies: BTreeMap<&str, &str> =
        tests.split("#[test]\nfn ").skip(1).filter_map(|test| test.split_once("()")).collect();
    let known: Vec<_> = FORMS
        .iter()
        .map(|(form, test)| {
            (if form.starts_with('/') { (*form).to_owned() } else { format!("{of_tenant}{form}") }, *test)
        })
        .collect();
    for form in posted() {
        assert!(known.iter().any(|(known, _)| *known == form), "{form}: no test sends it without scripts");
    }
    for (form, test) in known {
        assert!(posted().contains(&form), "{form} is no form any more");
        let body = bodies.get(test).unwrap_or_else(|| panic!("{form}: there is no test {test}"));
        assert!(body.contains("without_scripts()"), "{test} runs scripts");
    }
}

#[test]
fn an_account_is_kept() {
    let site = Site::start();
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/account");
    tab.click_at(".menu.end summary");
    tab.press("Dark");
    assert_eq!(tab.tell("document.documentElement.dataset.theme"), "dark");
    assert_eq!(tab.path(), "/console/account");

    let other = "another correct battery";
    tab.open("/console/account/password");
    tab.fill("Your password", "a wrong guess");
    tab.fill("The new password", other);
    tab.press("Change");
    tab.sees("it is not your password");
    tab.fill("Your password", PASSWORD);
    tab.fill("The new password", other);
    tab.press("Change");
    tab.sees("Your password is changed");
    tab.click_at(".menu.end summary");
    tab.press("Log out");
    tab.sees("You have logged out.");

    // Whoever has lost it is sent a link.
    let (_, users) = site.gateway.api("GET /api/users", None);
    let user = users["items"].as_array().into_iter().flatten().find(|user| user["email"] == OWNER);
    let user = user.expect("the owner")["user_id"].as_str().expect("an id").to_owned();
    let (_, made) = site.gateway.api(&format!("POST /api/users/{user}/reset-password"), Some(&json!({})));
    let token = made["token"].as_str().expect("a token");
    tab.open(&format!("/console/set-password?token={token}"));
    tab.fill("Password", "short");
    tab.press("Go on");
    tab.sees("12");
    tab.fill("Password", PASSWORD);
    tab.press("Go on");
    tab.sees("Your password is set: log in.");
    tab.fill("E-mail address", OWNER);
    tab.fill("Password", PASSWORD);
    tab.press("Log in");
    tab.sees("Tenants");
}

#[test]
fn a_tenant_is_kept() {
    let site = Site::start();
    let acme = site.gateway.customer("Acme", "free");
    site.gateway.json(&["member", "invite", "acme", "ann@example.com", "--role", "developer"]);
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/members");
    tab.press("Withdraw the invitation of ann@example.com");
    assert!(!tab.offers("Withdraw the invitation of ann@example.com"), "{}", tab.text());

    tab.open("/console/tenants/acme/keys");
    tab.leading_on(|| tab.click_at("tbody a"));
    tab.fill("Networks", "nowhere");
    tab.press("Save");
    assert_eq!(tab.value("Networks"), "nowhere", "what was typed is there again");
    tab.fill("Networks", "203.0.113.0/24");
    tab.press("Save");
    until("it works from there alone", || {
        (site.gateway.client().get("/", &acme.key).status == 403).then_some(())
    });

    tab.open("/console/tenants/acme/status");
    tab.choose("New status", "suspended");
    tab.press("Change the status");
    tab.sees("a tenant is suspended for a reason");
    tab.fill("Reason", "unpaid");
    tab.press("Change the status");
    tab.sees("Acme is suspended now.");
}

#[test]
fn what_is_told_is_changed_sent_again_and_removed() {
    let site = Site::start();
    site.gateway.customer("Acme", "free");
    let receiver = StubUpstream::start();
    let new = json!({ "name": "ops", "kind": "webhook", "target": receiver.url() });
    let (_, made) = site.gateway.api("POST /api/tenants/acme/channels", Some(&new));
    let channel = made["channel_id"].as_str().expect("an id").to_owned();
    site.gateway.json(&["channel", "test", "acme", &channel]);
    site.gateway.json(&["alert", "rule", "acme", "quota", "--threshold", "50"]);
    until("the test arrives", || (receiver.count() > 0).then_some(()));
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/tenants/acme/alerts/rules");
    tab.press("Remove: When any quota is used to 50 %");
    assert!(!tab.offers("Remove: When any quota is used to 50 %"), "{}", tab.text());

    let sent = receiver.count();
    until("it can be sent again", || {
        tab.open("/console/tenants/acme/alerts/deliveries");
        tab.text().contains("delivered").then_some(())
    });
    tab.leading_on(|| tab.click_at("main tbody button"));
    until("it arrives again", || (receiver.count() > sent).then_some(()));
    tab.open("/console/tenants/acme/alerts/channels");
    tab.press("New secret for ops");
    assert!(tab.value("Secret").starts_with("whsec_"));
    tab.open("/console/tenants/acme/alerts/channels");
    tab.press("Turn off ops");
    tab.press("Turn on ops");
    tab.press("Remove ops");
    tab.sees("Alerts are told here only");
}

#[test]
fn what_is_to_come_is_withdrawn_and_what_was_billed_is_taken_back() {
    let calendar =
        Calendar::with("2026-11-05T06:00:00Z", &format!("[control]\nplatform_token = \"{TOKEN}\"\n"));
    calendar.subscriber("Acme", "pro");
    let profile = Profile::without_scripts();
    let tab = calendar.tab(&profile);
    begin(&tab);
    tab.open("/console/tenants/acme/upgrade?tier=free");
    tab.press("Change to Free");
    tab.open("/console/tenants/acme/billing");
    tab.sees("The tier becomes free");
    tab.press("Keep the present tier");
    assert!(!tab.text().contains("The tier becomes"), "{}", tab.text());
    tab.open("/console/tenants/acme/billing");
    tab.fill("Amount", "500.00");
    tab.press("Set the cap");
    tab.sees("The spend cap is 500.00 USD.");

    calendar.clock.set("2026-12-06T06:00:00Z");
    log_in(&tab);
    tab.open("/console/tenants/acme/billing");
    tab.press("Finalize the invoice");
    tab.press("Take the invoice back");
    assert!(tab.offers("Take the invoice back"), "not without a reason");
    tab.fill("Why it is taken back", "a mistake");
    tab.press("Take the invoice back");
    tab.sees("a mistake");
    assert!(!tab.offers("Take the invoice back"));
}
