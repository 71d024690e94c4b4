use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;

const MONTH: Duration = Duration::from_secs(31 * 86_400);

async fn acme() -> TestApi {
    let api = TestApi::new().await;
    let body = json!({ "organization_name": "Acme <& Sons>", "slug": "acme", "tenant_tier": "pro" });
    api.call("POST /api/tenants").json(&body).await.expect(StatusCode::CREATED);
    api
}

#[tokio::test]
async fn a_change_is_previewed_and_made_to_the_version_that_was_seen() {
    let api = acme().await;
    let preview = api.call("POST /api/tenants/acme/subscription/preview");
    let preview = preview.json(&json!({ "tenant_tier": "business" })).await.expect(StatusCode::OK);
    assert_eq!(preview.body["price_then_minor"], 79_900);
    assert_eq!(preview.body["prorated_minor"], 50_000, "the day of the change belongs to the new tier");
    let tag = preview.header("etag").to_owned();
    let change = json!({ "tenant_tier": "business" });
    let patch = || api.call("PATCH /api/tenants/acme").header("if-match", &tag);
    assert_eq!(patch().json(&change).await.expect(StatusCode::OK).body["tenant_tier"], "business");
    patch().json(&change).await.refused(StatusCode::PRECONDITION_FAILED, "stale-version");
    let gold = json!({ "tenant_tier": "gold" });
    let refused = api.call("POST /api/tenants/acme/subscription/preview").json(&gold).await;
    assert_eq!(refused.expect(StatusCode::UNPROCESSABLE_ENTITY).fields(), ["tenant_tier"]);
    let lower = json!({ "tenant_tier": "free" });
    let kept = api.call("PATCH /api/tenants/acme").json(&lower).await.expect(StatusCode::OK);
    assert_eq!(kept.body["tenant_tier"], "business");
    let subscription = api.call("GET /api/tenants/acme/subscription").send().await.expect(StatusCode::OK);
    assert_eq!(subscription.body["scheduled"]["tier"], "free");
    let now = json!({ "tenant_tier": "free", "tier_when": "now" });
    let lowered = api.call("PATCH /api/tenants/acme").json(&now).await.expect(StatusCode::OK);
    assert_eq!(lowered.body["tenant_tier"], "free");
}

#[tokio::test]
async fn a_tier_that_sells_more_than_its_limit_is_a_new_version_for_whoever_comes() {
    let api = acme().await;
    let tiers = api.call("GET /api/tiers").send().await.expect(StatusCode::OK).body;
    let mut pro =
        tiers["items"].as_array().unwrap().iter().find(|tier| tier["slug"] == "pro").unwrap().clone();
    pro.as_object_mut().unwrap().remove("version");
    let set = async |tier: &serde_json::Value| api.call("POST /api/tiers").json(tier).await;
    assert_eq!(set(&pro).await.expect(StatusCode::OK).body["version"], 1, "nothing is new");
    let calls = pro["quotas"].as_array().unwrap().iter().position(|quota| quota["resource"] == "api_calls");
    let calls = &mut pro["quotas"][calls.unwrap()];
    calls["overage"] = json!({ "price": "0.40", "per": 1_000 });
    assert_eq!(set(&pro).await.expect(StatusCode::UNPROCESSABLE_ENTITY).fields().len(), 1, "a hard limit");
    let calls =
        pro["quotas"].as_array_mut().unwrap().iter_mut().find(|quota| quota["resource"] == "api_calls");
    calls.unwrap()["enforcement"] = json!("soft");
    let new = set(&pro).await.expect(StatusCode::OK).body;
    assert_eq!((&new["version"], new["slug"].as_str()), (&json!(2), Some("pro")));
    assert_eq!(api.call("GET /api/tenants/acme").send().await.body["tier_version"], 1);
    let late = json!({ "organization_name": "Late", "tenant_tier": "pro" });
    let late = api.call("POST /api/tenants").json(&late).await.expect(StatusCode::CREATED).body;
    assert_eq!(late["tier_version"], 2);
    let bad = json!({ "slug": "X", "display": "", "price_minor": -1, "currency": "usd", "retention_days": 0,
        "security_level": "none", "quotas": [{ "resource": "moons", "limit": 1, "period": "month" }] });
    let fields =
        ["slug", "display", "price_minor", "currency", "retention_days", "security_level", "quotas[0]"];
    assert_eq!(set(&bad).await.expect(StatusCode::UNPROCESSABLE_ENTITY).fields(), fields);
    let key = api.key("acme", &["admin"]).await;
    let theirs = api.anonymous("POST /api/tiers").bearer(&key).json(&pro).await;
    theirs.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_invoice_is_estimated_finalized_shown_in_three_forms_verified_and_paid() {
    let api = acme().await;
    let draft = api.call("GET /api/tenants/acme/invoices/draft").send().await.expect(StatusCode::OK).body;
    assert_eq!((&draft["status"], &draft["total"]), (&json!("draft"), &json!("299.00 USD")));
    assert_eq!(draft["lines"][0]["item"]["kind"], "subscription");
    let evidence = draft["lines"][1]["evidence"].as_str().unwrap().to_owned();
    api.call(&format!("GET {evidence}")).send().await.expect(StatusCode::OK);

    api.call("POST /api/tenants/acme/invoices/finalize")
        .send()
        .await
        .refused(StatusCode::CONFLICT, "conflict");
    api.clock.advance(MONTH);
    let finalize = || api.call("POST /api/tenants/acme/invoices/finalize").send();
    let invoice = finalize().await.expect(StatusCode::OK).body;
    assert_eq!(finalize().await.expect(StatusCode::OK).body, invoice);
    assert_eq!((&invoice["lines"], &invoice["total"]), (&draft["lines"], &draft["total"]));
    let id = invoice["invoice_id"].as_str().unwrap();
    let at = |method: &str, then: &str| format!("{method} /api/tenants/acme/invoices/{id}{then}");

    assert_eq!(api.call(&at("GET", "")).send().await.expect(StatusCode::OK).body, invoice);
    let (headers, page) = api.call(&at("GET", "")).header("accept", "text/html").text_of().await;
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert!(page.contains("Acme &lt;&amp; Sons&gt;") && page.contains("299.00 USD"), "{page}");
    let (_, csv) = api.call(&at("GET", "?format=csv")).text_of().await;
    assert_eq!(csv.lines().count(), 1 + invoice["lines"].as_array().unwrap().len(), "{csv}");
    assert!(csv.contains(",subscription,Professional,pro,1,,,,,29900,299.00 USD,USD"), "{csv}");
    let (_, csv) = api.call("GET /api/tenants/acme/invoices").header("accept", "text/csv").text_of().await;
    assert!(csv.contains(",29900,"), "{csv}");

    let verified = api.call(&at("GET", "/verify")).send().await.expect(StatusCode::OK).body;
    assert_eq!((&verified["agrees"], &verified["recomputed_minor"]), (&json!(true), &json!(29_900)));
    let paid = api.call(&at("POST", "/paid")).send().await.expect(StatusCode::OK).body;
    assert_eq!(paid["status"], "paid");
    let void = api.call(&at("POST", "/void")).json(&json!({ "reason": "late" })).await;
    void.refused(StatusCode::CONFLICT, "conflict");
    let listed = api.call("GET /api/tenants/acme/invoices").send().await.expect(StatusCode::OK).body;
    assert_eq!(listed["items"], json!([paid]));
}
