use axum::http::StatusCode;

use super::TestConsole;
use crate::control::TenantRef;
use crate::domain::Resource;

#[tokio::test]
async fn an_own_limit_is_set_for_a_reason_and_taken_back() {
    let console = TestConsole::new().await;
    console.tenant("Acme", "free").await;
    let mut owner = console.owner("root@example.com").await;
    let (quotas, own) = ("/console/tenants/acme/quotas", "/console/tenants/acme/quotas/api_calls");
    owner.page(quotas).await.shows("1,000").shows("No forecast below three days").shows("Refused above");
    let wrong = [("limit", "many"), ("expires_at", "soon"), ("version", "1")];
    let again = owner.submit(own, own, &wrong).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    again.shows("A whole number is expected").shows("A day like").shows("Say why").is_a_good_page(own);

    let good =
        [("limit", "7777"), ("reason", "a large launch"), ("expires_at", "2026-12-31"), ("version", "1")];
    owner.submit(own, own, &good).await.leads_to(quotas);
    owner.page(quotas).await.shows("7,777").shows("a large launch, until 31 Dec 2026, 00:00 UTC");
    owner.submit(own, own, &good).await.shows("Somebody has changed it meanwhile");

    let page = owner.page(quotas).await;
    page.is_a_good_page(quotas);
    let version = page.value_of("version");
    let back = [("version", version.as_str()), ("period", "month")];
    owner.submit(quotas, &format!("{own}/remove"), &back).await.leads_to(quotas);
    let page = owner.page(quotas).await;
    assert!(page.text.contains("1,000") && !page.text.contains("7,777"));
}

#[tokio::test]
async fn an_upgrade_is_what_its_preview_showed_or_nothing() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "free").await;
    let mut owner = console.owner("root@example.com").await;
    let preview = "/console/tenants/acme/upgrade?tier=pro";
    let shown = owner.page(preview).await;
    shown.shows("299.00 USD a month instead of 0.00 USD").shows("10,000").is_a_good_page(preview);
    let version = shown.value_of("version");
    // Somebody else is faster.
    let limit = [("limit", "5"), ("reason", "test"), ("version", version.as_str())];
    let own = "/console/tenants/acme/quotas/api_calls";
    owner.submit(own, own, &limit).await.leads_to("/console/tenants/acme/quotas");
    let address = "/console/tenants/acme/upgrade";
    let stale = owner.submit(preview, address, &[("tier", "pro"), ("version", &version)]).await;
    assert_eq!(stale.status, StatusCode::UNPROCESSABLE_ENTITY);
    stale.shows("Somebody has changed it meanwhile");
    let none = owner.submit(preview, address, &[("tier", "pro")]).await;
    assert_eq!(none.status, StatusCode::UNPROCESSABLE_ENTITY);

    let version = owner.page(preview).await.value_of("version");
    let form = [("tier", "pro"), ("version", version.as_str())];
    owner.submit(preview, address, &form).await.leads_to("/console/tenants/acme/quotas");
    let now = console.control.tenant(&TestConsole::machine(), &TenantRef::Id(acme.id)).await.unwrap();
    assert_eq!(now.tier, "pro");
}

#[tokio::test]
async fn a_member_sees_a_preview_and_changes_nothing() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "free").await;
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    let preview = "/console/tenants/acme/upgrade?tier=pro";
    ann.page(preview).await.shows("The provider of this service changes your tier");
    let form = [("tier", "pro"), ("version", "1")];
    let refused = ann.submit(preview, "/console/tenants/acme/upgrade", &form).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let own = "/console/tenants/acme/quotas/api_calls";
    let refused = ann.submit(own, own, &[("limit", "5"), ("reason", "mine"), ("version", "1")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let quotas = console.control.quotas(&TestConsole::machine(), &TenantRef::Id(acme.id)).await.unwrap();
    let calls: Resource = "api_calls".parse().unwrap();
    let calls = quotas.iter().find(|quota| quota.resource_type == calls).unwrap();
    assert_eq!(calls.limit.to_string(), "1000");
}

#[tokio::test]
async fn usage_without_any_says_so() {
    let console = TestConsole::new().await;
    console.tenant("Acme", "free").await;
    let mut owner = console.owner("root@example.com").await;
    for query in
        ["", "?period=hour&group_by=key_id", "?group_by=resource_type", "?from=2026-11-01&to=2026-11-20"]
    {
        let address = format!("/console/tenants/acme/usage{query}");
        let page = owner.page(&address).await;
        page.shows("Nothing was used in that time.").is_a_good_page(&address);
    }
    let backwards = owner.page("/console/tenants/acme/usage?from=2026-11-20&to=2026-11-01").await;
    backwards.shows("it must be before");
}
