use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::TestConsole;
use crate::clock::Clock;
use crate::control::{NewSetting, NewTenant, TenantRef};
use crate::domain::billing::{BillingEvent, BillingEventId, BillingEventState, CollectorKind};
use crate::domain::{AccountKey, Enforcement, Outcome, Owner, Period, Resource, Tenant, Units};
use crate::store::usage_testing::batch;
use crate::store::{AccountUse, Attempt, EndedAttempt, UsageLog, UsageSums};

const MONTH: Duration = Duration::from_secs(31 * 86_400);
const BILLING: &str = "/console/tenants/acme/billing";
const CALLS: &str = "/console/tenants/acme/billing/rows?resource_type=api_calls";

impl TestConsole {
    /// Sells calls above the limit of pro, from now on.
    async fn sell_calls(&self) {
        let machine = TestConsole::machine();
        let tiers = self.control.tiers(&machine).await.unwrap();
        let mut pro = tiers.into_iter().find(|tier| tier.slug == "pro").unwrap();
        let calls: Resource = "api_calls".parse().unwrap();
        let quota = pro.quotas.iter_mut().find(|quota| quota.resource == calls).unwrap();
        quota.enforcement = Enforcement::Soft;
        quota.overage = Some("0.40 per 1000".parse().unwrap());
        self.control.set_tier(&machine, pro).await.unwrap();
    }

    /// What a gateway's journal brings: units of calls, now.
    async fn use_calls(&self, tenant: &Tenant, number: u32, units: u64) {
        let resource: Resource = "api_calls".parse().unwrap();
        let window = Period::Month.window(tenant.anchor, &tenant.timezone, self.clock.now());
        let account = AccountKey { owner: Owner::Tenant(tenant.id), resource, window };
        let row = UsageLog {
            id: Uuid::from_u128(u128::from(number)),
            tenant: tenant.id,
            date: self.clock.now(),
            resource,
            key: None,
            route: "orders".to_owned(),
            outcome: Outcome::Answered,
            sums: UsageSums { units, requests: 1, ..UsageSums::default() },
        };
        let mut brought = batch(number, number + 1, vec![row]);
        brought.accounts = vec![AccountUse { account, units, overage: 0 }];
        self.store.insert_usage(&brought).await.unwrap();
    }
}

/// The first address in a page that begins so.
fn linked(text: &str, start: &str) -> String {
    let at = text.find(&format!("href=\"{start}")).unwrap_or_else(|| panic!("no {start} in {text}"));
    let address = text[at + 6..].split('"').next().unwrap();
    address.replace("&#38;", "&").replace("&amp;", "&")
}

#[tokio::test]
async fn an_estimate_becomes_an_invoice_whose_lines_lead_to_what_was_counted() {
    let console = TestConsole::new().await;
    console.sell_calls().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut owner = console.owner("root@example.com").await;
    console.use_calls(&acme, 1, 13_217).await;
    let page = owner.page(BILLING).await;
    page.is_a_good_page(BILLING);
    page.shows("300.29 USD").shows("23 Nov 2026 to 22 Dec 2026").shows("No period was invoiced yet");
    page.shows("13,217 used, 10,000 included; 3,217 above at 0.40 USD per 1,000");
    let finalize = format!("{BILLING}/finalize");
    let early = owner.submit(BILLING, &finalize, &[]).await;
    assert_eq!(early.status, StatusCode::UNPROCESSABLE_ENTITY);
    early.shows("No period of the tenant is over yet");

    console.clock.advance(MONTH);
    let mut owner = console.logged_in("root@example.com").await;
    let done = owner.submit(BILLING, &finalize, &[]).await;
    let invoice = done.header("location").to_owned();
    done.leads_to(&invoice);
    let page = owner.page(&invoice).await;
    page.shows("Finalized").shows("300.29 USD").is_a_good_page(&invoice);
    let rows = linked(&page.text, CALLS);
    owner.page(&rows).await.shows("13,217").shows("orders").is_a_good_page(&rows);
    let verified = format!("{invoice}?verify=yes");
    owner.page(&verified).await.shows("It is what was counted").shows("Agrees").is_a_good_page(&verified);

    console.clock.set("2026-12-01T00:00:00Z");
    console.use_calls(&acme, 2, 1_000).await;
    console.clock.advance(MONTH * 2);
    let mut owner = console.logged_in("root@example.com").await;
    owner.page(&verified).await.shows("It differs").shows("14,217 counted, 13,217 billed");
    let done = owner.submit(BILLING, &finalize, &[]).await;
    let second = owner.page(done.header("location")).await;
    second.shows("14,217 were used in an earlier period, 13,217 were billed").shows("0.40 USD");
    assert_eq!(linked(&second.text, &format!("{BILLING}/invoices")), invoice);
}

#[tokio::test]
async fn an_invoice_is_paid_or_taken_back_by_the_platform_alone() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    console.clock.advance(MONTH);
    let mut owner = console.owner("root@example.com").await;
    let mut ann = console.member(&acme, "ann@example.com", "billing").await;
    let finalize = format!("{BILLING}/finalize");
    assert_eq!(ann.submit(BILLING, &finalize, &[]).await.status, StatusCode::FORBIDDEN);
    let invoice = owner.submit(BILLING, &finalize, &[]).await.header("location").to_owned();
    let forms = |text: &str| text.matches("method=\"post\" action=\"/console/tenants").count();
    assert_eq!(forms(&ann.page(BILLING).await.text), 0);
    assert_eq!(forms(&ann.page(&invoice).await.text), 0);
    for what in ["void", "paid"] {
        let refused = ann.submit(&invoice, &format!("{invoice}/{what}"), &[("reason", "mine")]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{what}");
    }
    let without = owner.submit(&invoice, &format!("{invoice}/void"), &[]).await;
    assert_eq!(without.status, StatusCode::UNPROCESSABLE_ENTITY);
    without.shows("taken back for a reason");
    owner.submit(&invoice, &format!("{invoice}/void"), &[("reason", "wrong name")]).await.leads_to(&invoice);
    owner.page(&invoice).await.shows("Void").shows("wrong name");
    let again = owner.submit(BILLING, &finalize, &[]).await.header("location").to_owned();
    assert_ne!(again, invoice);
    owner.submit(&again, &format!("{again}/paid"), &[]).await.leads_to(&again);
    let page = owner.page(&again).await;
    page.shows("Paid");
    assert_eq!(forms(&page.text), 0, "what was paid stays");
    let mut dan = console.member(&acme, "dan@example.com", "developer").await;
    assert!(!dan.page("/console/tenants/acme").await.text.contains(BILLING));
    for address in [BILLING, &again] {
        assert_eq!(dan.get(address).await.status, StatusCode::FORBIDDEN, "{address}");
    }
}

#[tokio::test]
async fn a_tier_that_is_to_come_is_shown_and_withdrawn() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut owner = console.owner("root@example.com").await;
    let upgrade = "/console/tenants/acme/upgrade";
    let version = acme.version.to_string();
    let change = [("tier", "free"), ("version", version.as_str())];
    owner.submit("/console/tenants/acme/upgrade?tier=free", upgrade, &change).await;
    let quotas = owner.page("/console/tenants/acme/quotas").await;
    quotas.shows("The tier becomes <strong>free</strong>").shows("Keep the present tier");
    let withdraw = format!("{BILLING}/scheduled/withdraw");
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    let shown = ann.page(BILLING).await;
    shown.shows("The tier becomes");
    assert!(!shown.text.contains("Keep the present tier"));
    assert_eq!(ann.submit(BILLING, &withdraw, &[("version", "2")]).await.status, StatusCode::FORBIDDEN);
    let stale = owner.submit(BILLING, &withdraw, &[("version", &version)]).await;
    assert_eq!(stale.status, StatusCode::UNPROCESSABLE_ENTITY);
    let version = owner.page(BILLING).await.value_of("version");
    owner.submit(BILLING, &withdraw, &[("version", &version)]).await.leads_to(BILLING);
    assert!(!owner.page(BILLING).await.text.contains("The tier becomes"));
    let by_id = TenantRef::Id(acme.id);
    let kept = console.control.subscription(&TestConsole::machine(), &by_id).await.unwrap();
    assert_eq!((kept.scheduled, kept.plan.map(|plan| plan.tier)), (None, Some("pro".to_owned())));
}

#[tokio::test]
async fn what_a_child_costs_is_on_no_page_of_its_own() {
    let console = TestConsole::new().await;
    let (machine, seller) = (TestConsole::machine(), console.tenant("Acme", "msp").await);
    let parent = Some(seller.id.to_string());
    let new = NewTenant { name: "Shop".to_owned(), parent, ..NewTenant::default() };
    let child = console.control.create_tenant(&machine, new).await.unwrap();
    let mut ann = console.member(&child, "ann@example.com", "owner").await;
    let page = ann.page("/console/tenants/shop").await;
    assert!(!page.text.contains("/console/tenants/shop/billing"));
    ann.page("/console/tenants/shop/quotas").await;
    let refused = ann.get("/console/tenants/shop/billing").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(!refused.text.contains("USD"));
    // Its tier wants a second factor otherwise.
    let level = NewSetting { value: json!("standard"), is_encrypted: None };
    let above = TenantRef::Id(seller.id);
    console.control.set_setting(&machine, &above, "security_level", level).await.unwrap();
    let mut bob = console.member(&seller, "bob@example.com", "owner").await;
    bob.page("/console/tenants/shop/billing").await.shows("USD");
    console.use_calls(&seller, 1, 5).await;
    let rows = linked(&bob.page(BILLING).await.text, CALLS);
    let below = linked(&bob.page(&rows).await.text, "/console/tenants/shop/billing/rows");
    bob.page(&below).await.shows("No row is there");
}

#[tokio::test]
async fn a_spend_cap_is_set_and_taken_away_by_whoever_may_change_terms() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut owner = console.owner("root@example.com").await;
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    let cap = format!("{BILLING}/cap");
    let wrong = owner.submit(BILLING, &cap, &[("amount", "a lot")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.shows("an amount above 0 is expected").shows("a lot").is_a_good_page(BILLING);
    owner.submit(BILLING, &cap, &[("amount", "1500")]).await.leads_to(BILLING);
    let shown = ann.page(BILLING).await;
    shown.shows("1,500.00 USD").shows("root@example.com");
    assert!(!shown.text.contains("Set the cap"));
    assert_eq!(ann.submit(BILLING, &cap, &[("amount", "2")]).await.status, StatusCode::FORBIDDEN);
    console.sell_calls().await;
    let beta = console.tenant("Beta", "pro").await;
    let at = |path: &str| format!("/console/tenants/{}/billing{path}", beta.slug);
    let stop = [("amount", "300"), ("then", "stop"), ("shares", "")];
    let wrong = [("amount", "300"), ("then", "stop"), ("shares", "much")];
    let wrong = owner.submit(&at(""), &at("/cap"), &wrong).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.shows("divides nothing").is_a_good_page(BILLING);
    owner.submit(&at(""), &at("/cap"), &stop).await.leads_to(&at(""));
    // 1.00 buys 2,500 calls, and half a cent 12 more.
    owner.page(&at("")).await.shows("at most 12,512 in this period").is_a_good_page(BILLING);
    owner.page("/console/tenants/beta/quotas").await.shows("What the spend cap pays for");
    owner.submit(BILLING, &cap, &[("amount", "")]).await.leads_to(BILLING);
    owner.page(BILLING).await.shows("nobody is told");
}

#[tokio::test]
async fn usage_that_was_given_up_is_settled_on_its_page_for_a_reason() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let now = console.clock.now();
    let event = BillingEvent {
        id: BillingEventId(Uuid::from_u128(9)),
        tenant: acme.id,
        resource: "api_calls".parse().unwrap(),
        bucket: now,
        revision: 0,
        units: Units::ONE,
        collector: CollectorKind::Stripe,
        account: "cus_acme".to_owned(),
        state: BillingEventState::Pending,
        attempts: 0,
        next_at: now,
        doubtful_since: None,
        last_error: None,
        created_at: now,
        finished_at: None,
        settled_reason: None,
    };
    let mut tx = console.store.begin().await.unwrap();
    tx.insert_billing_events(std::slice::from_ref(&event)).await.unwrap();
    tx.commit().await.unwrap();
    let attempt = Attempt::Dead { error: "no such customer".to_owned() };
    let ended = EndedAttempt { event: event.clone(), attempt, doubtful_since: None };
    console.store.end_billing_attempts(&[ended], now).await.unwrap();

    let mut owner = console.owner("root@example.com").await;
    let dead = "/console/billing-events?state=dead";
    owner.page(dead).await.shows("no such customer").shows("cus_acme").is_a_good_page(dead);
    let address = format!("/console/billing-events/{}", event.id);
    owner.page(&address).await.shows("Send it again").is_a_good_page(&address);
    let settle = format!("{address}/settle");
    let without = owner.submit(&address, &settle, &[("as", "abandoned")]).await;
    assert_eq!(without.status, StatusCode::UNPROCESSABLE_ENTITY);
    without.shows("for a reason").is_a_good_page(&address);
    owner.submit(&address, &settle, &[("as", "abandoned"), ("reason", "a test")]).await.leads_to(&address);
    let settled = owner.page(&address).await;
    settled.shows("Abandoned").shows("a test");
    assert!(!settled.text.contains("Settle it"));
    owner.page(dead).await.shows("No usage is like that");
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    for address in ["/console/billing-events", &address] {
        assert_eq!(ann.get(address).await.status, StatusCode::FORBIDDEN, "{address}");
    }
}
