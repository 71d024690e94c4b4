use axum::http::StatusCode;
use serde_json::{Value, json};

use super::TestApi;

fn of<'a>(quotas: &'a Value, resource: &str) -> Vec<&'a Value> {
    let quotas = quotas["quotas"].as_array().unwrap().iter();
    quotas.filter(|quota| quota["resource_type"] == resource).collect()
}

#[tokio::test]
async fn quotas_tell_limit_use_and_window() {
    let api = TestApi::new().await;
    let tenant = api.tenant("Acme").await;
    let reply = api.call("GET /api/tenants/acme/quotas").send().await.expect(StatusCode::OK);
    assert_eq!(reply.body["tenant_id"], tenant["tenant_id"]);

    let [calls] = of(&reply.body, "api_calls")[..] else { panic!("{:#}", reply.body) };
    assert_eq!(calls["limit"], 1_000);
    assert_eq!(calls["used"], 0);
    assert_eq!(calls["remaining"], 1_000);
    assert_eq!(calls["period"], "month");
    assert_eq!(calls["source"], "tier");
    assert_eq!(calls["window"]["start"], "2026-11-23T00:00:00.000000Z");
    assert_eq!(calls["window"]["end"], "2026-12-23T00:00:00.000000Z");

    let [users] = of(&reply.body, "users")[..] else { panic!("{:#}", reply.body) };
    assert_eq!(users["window"]["end"], json!(null), "a gauge's window never ends");
}

#[tokio::test]
async fn a_limit_is_set_lifted_and_given_back_to_the_tier() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let line = "PUT /api/tenants/acme/quotas/api_calls";
    let set = api.call(line).json(&json!({ "limit": 10_000 })).await.expect(StatusCode::OK).body;
    assert_eq!((&set["limit"], &set["source"]), (&json!(10_000), &json!("override")));

    let lifted = api.call(line).json(&json!({ "limit": null, "reason": "incident" })).await;
    let lifted = lifted.expect(StatusCode::OK).body;
    assert_eq!((&lifted["limit"], &lifted["remaining"]), (&json!(null), &json!(null)));

    let removed = api.call("DELETE /api/tenants/acme/quotas/api_calls").send().await;
    removed.expect(StatusCode::NO_CONTENT);
    let quotas = api.call("GET /api/tenants/acme/quotas/").send().await.body;
    assert_eq!(of(&quotas, "api_calls")[0]["limit"], 1_000);
    let again = api.call("DELETE /api/tenants/acme/quotas/api_calls").send().await;
    again.refused(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn to_forget_the_limit_does_not_lift_it() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let reply =
        api.call("PUT /api/tenants/acme/quotas/api_calls").json(&json!({ "enforcement": "soft" })).await;
    let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(reply.fields(), ["limit"]);
}

#[tokio::test]
async fn faults_of_a_limit_name_their_field() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for (body, field) in [
        (json!({ "limit": -1 }), "limit"),
        (json!({ "limit": 1.5 }), "limit"),
        (json!({ "limit": "many" }), "limit"),
        (json!({ "limit": 9_007_199_254_740_992_u64 }), "limit"),
        (json!({ "limit": 1, "period": "fortnight" }), "period"),
        (json!({ "limit": 1, "enforcement": "stern" }), "enforcement"),
        (json!({ "limit": 1, "key_id": "1" }), "key_id"),
        (json!({ "limit": 1, "expires_at": "soon" }), "expires_at"),
        (json!({ "limit": 1, "limits": 2 }), "limits"),
    ] {
        let reply = api.call("PUT /api/tenants/acme/quotas/api_calls").json(&body).await;
        let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(reply.fields(), [field], "{body}");
    }
}

#[tokio::test]
async fn a_resource_that_does_not_exist_has_no_limit() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for resource in ["dreams", "Not_A_Name", "a%20b", "%C3%A4"] {
        let line = format!("PUT /api/tenants/acme/quotas/{resource}");
        let reply = api.call(&line).json(&json!({ "limit": 1 })).await;
        assert!(reply.status.is_client_error(), "{resource}: {}", reply.status);
        let line = format!("DELETE /api/tenants/acme/quotas/{resource}");
        api.call(&line).send().await.refused(StatusCode::NOT_FOUND, "not-found");
    }
}

#[tokio::test]
async fn a_key_has_limits_of_its_own_beside_its_tenants() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let key = api.call("POST /api/tenants/acme/keys").json(&json!({ "name": "ci" })).await.body;
    let body = json!({ "limit": 5, "period": "minute", "key_id": key["key_id"] });
    let set = api.call("PUT /api/tenants/acme/quotas/api_calls").json(&body).await.expect(StatusCode::OK);
    assert_eq!(set.body["source"], "key");
    let quotas = api.call("GET /api/tenants/acme/quotas").send().await.body;
    let sources: Vec<_> = of(&quotas, "api_calls").iter().map(|quota| quota["source"].clone()).collect();
    assert_eq!(sources, ["tier", "key"]);

    let key_id = key["key_id"].as_str().unwrap();
    let line = format!("DELETE /api/tenants/acme/quotas/api_calls?period=minute&key_id={key_id}");
    api.call(&line).send().await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_tiers_and_resource_types_can_be_read() {
    let api = TestApi::new().await;
    let tiers = api.call("GET /api/tiers").send().await.expect(StatusCode::OK).body;
    let slugs: Vec<_> = tiers["items"].as_array().unwrap().iter().map(|tier| tier["slug"].clone()).collect();
    assert_eq!(slugs, ["free", "pro", "business", "enterprise", "msp"]);
    let types = api.call("GET /api/resource-types/").send().await.expect(StatusCode::OK).body;
    assert!(types["items"].as_array().unwrap().iter().any(|kind| kind["slug"] == "storage"));
}

#[tokio::test]
async fn a_manifest_is_shown_then_applied_and_plans_nothing_a_second_time() {
    let api = TestApi::new().await;
    let manifest = json!({ "tenant": [{
        "slug": "acme",
        "tier": "pro",
        "quota": [{ "resource_type": "api_calls", "limit": 77 }],
        "key": [{ "name": "ci" }],
    }]});
    let planned = api.call("POST /api/apply?dry_run=true").json(&manifest).await.expect(StatusCode::OK).body;
    assert_eq!(planned["dry_run"], true);
    assert_eq!(planned["changes"][0]["action"], "create");
    api.call("GET /api/tenants/acme").send().await.refused(StatusCode::NOT_FOUND, "not-found");

    let applied = api.call("POST /api/apply").json(&manifest).await.expect(StatusCode::OK).body;
    assert_eq!(applied["dry_run"], false);
    assert!(applied["changes"].as_array().unwrap().iter().any(|change| change["key"].is_string()));

    let again = api.call("POST /api/apply").json(&manifest).await.expect(StatusCode::OK).body;
    let changes = again["changes"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["action"] == "none"), "{again:#}");

    let reply = api.call("POST /api/apply?dry_run=maybe").json(&manifest).await;
    assert_eq!(reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields").fields(), ["dry_run"]);
    let bad = json!({ "tenant": [{ "slug": "acme", "colour": "red" }] });
    let reply = api.call("POST /api/apply").json(&bad).await;
    let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(reply.fields(), ["tenant[0].colour"]);
}
