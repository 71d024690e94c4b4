use axum::http::StatusCode;

use super::TestConsole;

/// Every form about people, settings, alerts and one's own account, and what it changes.
const FORMS: [&str; 32] = [
    "/console/account/sessions/00000000-0000-7000-8000-000000000000/end",
    "/console/account/password",
    "/console/account/second-factor",
    "/console/account/second-factor/confirm",
    "/console/account/second-factor/remove",
    "/console/tenants/acme/members",
    "/console/tenants/acme/members/invitations/00000000-0000-7000-8000-000000000000/withdraw",
    "/console/tenants/acme/members/00000000-0000-7000-8000-000000000000/role",
    "/console/tenants/acme/members/00000000-0000-7000-8000-000000000000/remove",
    "/console/tenants/acme/members/roles",
    "/console/tenants/acme/members/roles/on-call/remove",
    "/console/tenants/acme/settings",
    "/console/tenants/acme/settings/support_url",
    "/console/tenants/acme/settings/support_url/reset",
    "/console/tenants/acme/alerts/00000000-0000-7000-8000-000000000000/acknowledge",
    "/console/tenants/acme/alerts/rules",
    "/console/tenants/acme/alerts/rules/00000000-0000-7000-8000-000000000000",
    "/console/tenants/acme/alerts/rules/00000000-0000-7000-8000-000000000000/remove",
    "/console/tenants/acme/alerts/channels",
    "/console/tenants/acme/alerts/channels/00000000-0000-7000-8000-000000000000",
    "/console/tenants/acme/alerts/channels/00000000-0000-7000-8000-000000000000/rotate",
    "/console/tenants/acme/alerts/channels/00000000-0000-7000-8000-000000000000/test",
    "/console/tenants/acme/alerts/channels/00000000-0000-7000-8000-000000000000/remove",
    "/console/tenants/acme/alerts/deliveries/00000000-0000-7000-8000-000000000000/resend",
    "/console/tenants/acme/billing/cap",
    "/console/tenants/acme/billing/finalize",
    "/console/tenants/acme/billing/scheduled/withdraw",
    "/console/tenants/acme/billing/invoices/00000000-0000-7000-8000-000000000000/void",
    "/console/tenants/acme/billing/invoices/00000000-0000-7000-8000-000000000000/paid",
    "/console/tenants/acme/children",
    "/console/tenants/acme/children/small-shop/quota",
    "/console/log-out",
];

#[tokio::test]
async fn no_form_is_taken_without_the_sessions_own_token() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    for address in FORMS {
        for fields in [&[][..], &[("csrf", "0123456789abcdef")]] {
            let answer = ann.post(address, fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{address}");
            answer.shows("This form can");
        }
    }
    ann.page("/console/account").await.shows("ann@example.com");
}

#[tokio::test]
async fn who_may_not_do_it_is_offered_nothing_and_refused_all_the_same() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut ann = console.member(&acme, "ann@example.com", "auditor").await;
    for below in ["/members", "/settings", "/alerts/rules", "/alerts/channels"] {
        let page = ann.page(&format!("/console/tenants/acme{below}")).await;
        let forms = page.text.matches("action=\"/console/tenants/acme").count();
        assert_eq!(forms, 0, "{below}: {}", page.text);
    }
    let fields = [("email", "eve@example.com"), ("role", "owner")];
    let here = "/console/tenants/acme/members";
    let refused = ann.submit(here, here, &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    refused.shows("member.invite");
    for address in ["/console/fleet", "/console/audit"] {
        assert_eq!(ann.get(address).await.status, StatusCode::FORBIDDEN, "{address}");
    }
}

#[tokio::test]
async fn a_tenant_keeps_an_owner_and_is_told_so_at_the_form() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    let here = "/console/tenants/acme/members";
    let page = ann.page(here).await;
    let role = page.text.split("action=\"").filter_map(|part| part.split('"').next());
    let role = role.filter(|address| address.ends_with("/role")).last().unwrap().to_owned();
    let refused = ann.submit(here, &role, &[("role", "viewer")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.shows("role=\"alert\"").is_a_good_page(here);
}

#[tokio::test]
async fn what_happened_in_one_request_is_found_together_and_says_what_it_changed() {
    let console = TestConsole::new().await;
    console.tenant("Acme", "pro").await;
    let mut owner = console.owner("root@example.com").await;
    let here = "/console/tenants/acme/settings";
    let fields = [("value", "https://help.example.com/"), ("version", "0")];
    owner.submit(here, &format!("{here}/support_url"), &fields).await.leads_to(here);
    let log = owner.page("/console/tenants/acme/audit?action=setting.set").await;
    log.shows("setting.set").shows("<ins>https://help.example.com/</ins>");
    let link = log.text.split("href=\"").find(|part| part.contains("?correlation=")).unwrap();
    let together = owner.page(link.split('"').next().unwrap()).await;
    together.shows("setting.set");
    assert!(!together.text.contains("tenant.create"), "that was another request");
}
