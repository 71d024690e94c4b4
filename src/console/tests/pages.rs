use axum::http::StatusCode;

use super::TestConsole;
use crate::domain::Slug;

/// Pages about no tenant, as the platform sees them.
pub(super) fn of_everybody() -> Vec<String> {
    [
        "/console/log-in",
        "/console/first-log-in",
        "/console/tenants",
        "/console/new-tenant",
        "/console/join?token=none",
        "/console/set-password?token=none",
        "/console/account",
        "/console/account/password",
        "/console/account/second-factor",
        "/console/audit?verify=yes",
        "/console/fleet",
    ]
    .map(str::to_owned)
    .into()
}

/// All pages of a tenant.
pub(super) fn of_tenant(slug: &Slug) -> Vec<String> {
    [
        "",
        "/status",
        "/quotas",
        "/quotas/api_calls",
        "/upgrade",
        "/upgrade?tier=business",
        "/usage",
        "/keys",
        "/keys/new",
        "/members",
        "/members/roles",
        "/settings",
        "/audit?verify=yes&action=key.create",
        "/alerts",
        "/alerts/rules",
        "/alerts/channels",
        "/alerts/deliveries",
        "/billing",
        "/billing/levels?resource_type=users&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z",
        "/billing/rows?resource_type=api_calls&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z",
        "/children",
    ]
    .map(|below| format!("/console/tenants/{slug}{below}"))
    .into()
}

#[tokio::test]
async fn a_member_of_one_tenant_finds_no_page_of_another() {
    let console = TestConsole::new().await;
    let (acme, globex) = (console.tenant("Acme", "pro").await, console.tenant("Globex", "pro").await);
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    for address in of_tenant(&acme.slug) {
        ann.page(&address).await;
    }
    for address in of_tenant(&globex.slug) {
        let answer = ann.get(&address).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{address}");
        assert!(!answer.text.contains("Globex"), "{address}");
    }
    let list = ann.page("/console/tenants").await;
    assert!(list.text.contains("Acme") && !list.text.contains("Globex"));
}

#[tokio::test]
async fn tenants_are_found_by_name_and_status() {
    let console = TestConsole::new().await;
    console.tenant("Acme", "pro").await;
    console.tenant("Globex", "free").await;
    let mut owner = console.owner("root@example.com").await;
    for (query, expected) in [
        ("", [true, true]),
        ("?q=acm", [true, false]),
        ("?tier=free", [false, true]),
        ("?status=trial", [false, false]),
    ] {
        let page = owner.page(&format!("/console/tenants{query}")).await;
        let found = ["acme", "globex"].map(|slug| page.text.contains(&format!("/console/tenants/{slug}\"")));
        assert_eq!(found, expected, "{query}");
    }
    let bad = owner.get("/console/tenants?cursor=nonsense").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_platforms_people_are_told_that_their_look_is_written_down() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let banner = "one of the platform’s people";
    let mut owner = console.owner("root@example.com").await;
    owner.page("/console/tenants/acme").await.shows(banner);
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    assert!(!ann.page("/console/tenants/acme").await.text.contains(banner));
}

#[tokio::test]
async fn a_tenant_is_made_suspended_for_a_reason_and_never_by_a_stale_form() {
    let console = TestConsole::new().await;
    let mut owner = console.owner("root@example.com").await;
    let (new, status) = ("/console/new-tenant", "/console/tenants/acme/status");
    let wrong = [("name", ""), ("tier", "pro"), ("timezone", "Mars/Olympus"), ("locale", "en")];
    let again = owner.submit(new, new, &wrong).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    again.shows("Mars/Olympus").shows("aria-invalid").is_a_good_page(new);
    owner.submit(new, new, &[("name", "Acme"), ("tier", "pro")]).await.leads_to("/console/tenants/acme");
    owner.page("/console/tenants/acme").await.shows("Acme is there").shows("pro");

    let without = owner.submit(status, status, &[("status", "suspended"), ("version", "1")]).await;
    assert_eq!(without.status, StatusCode::UNPROCESSABLE_ENTITY);
    without.shows("a tenant is suspended for a reason");
    let suspended = [("status", "suspended"), ("reason", "unpaid"), ("version", "1")];
    owner.submit(status, status, &suspended).await.leads_to("/console/tenants/acme");
    owner.page("/console/tenants/acme").await.shows("Acme is suspended now.");
    let stale = owner.submit(status, status, &[("status", "active"), ("version", "1")]).await;
    assert_eq!(stale.status, StatusCode::UNPROCESSABLE_ENTITY);
    stale.shows("Somebody has changed it meanwhile");
}
