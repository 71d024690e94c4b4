//! How tenants fare, and who is below whom.

use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn health_gives_its_reasons_the_worst_first() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let health = async || api.call("GET /api/tenants/acme/health").send().await.expect(StatusCode::OK).body;
    let well = health().await;
    assert_eq!((&well["health"], &well["reasons"]), (&json!("healthy"), &json!([])), "{well}");
    let reason = json!({ "reason": "unpaid" });
    api.call("POST /api/tenants/acme/status/suspended").json(&reason).await.expect(StatusCode::OK);
    let ill = health().await;
    assert_eq!((&ill["health"], &ill["reasons"][0]["kind"]), (&json!("critical"), &json!("status")), "{ill}");
}

#[tokio::test]
async fn a_reseller_sees_those_below_it_and_nobody_elses() {
    let api = TestApi::new().await;
    for name in ["Reseller", "Rival"] {
        let body = json!({ "organization_name": name, "tenant_tier": "msp" });
        api.call("POST /api/tenants").json(&body).await.expect(StatusCode::CREATED);
    }
    for (name, parent) in [("One", "reseller"), ("Two", "reseller"), ("Three", "rival")] {
        let body = json!({ "organization_name": name, "parent_id": parent });
        api.call("POST /api/tenants").json(&body).await.expect(StatusCode::CREATED);
    }
    let key = api.key("reseller", &["admin:read"]).await;
    let children = api.anonymous("GET /api/tenants/reseller/children").bearer(&key).send().await;
    let slugs: Vec<_> =
        children.body["items"].as_array().unwrap().iter().map(|child| child["slug"].clone()).collect();
    assert_eq!((slugs, &children.body["total"]), (vec![json!("two"), json!("one")], &json!(2)));
    let foreign = api.anonymous("GET /api/tenants/rival/children").bearer(&key).send().await;
    foreign.refused(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn the_platform_counts_its_tenants_and_nobody_else_does() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.tenant("Other").await;
    api.call("DELETE /api/tenants/other").send().await.expect(StatusCode::NO_CONTENT);
    let metrics = api.call("GET /api/tenants/metrics").send().await.expect(StatusCode::OK).body;
    let expected =
        json!({ "tenants": 1, "by_status": { "active": 1, "deleted": 1 }, "by_tier": { "free": 1 } });
    assert_eq!(metrics, expected);
    let key = api.key("acme", &["admin"]).await;
    let refused = api.anonymous("GET /api/tenants/metrics").bearer(&key).send().await;
    refused.refused(StatusCode::FORBIDDEN, "forbidden");
}
