use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use expect_test::expect;
use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn a_new_tenant_is_answered_with_its_place_its_version_and_its_quotas() {
    let api = TestApi::new().await;
    let body = json!({
        "organization_name": "Acme & Sons",
        "tenant_tier": "professional",
        "billing_email": "pay@acme.example",
        "contact_phone": "+41 44 000 00 00",
        "timezone": "Europe/Zurich",
        "locale": "de-CH",
    });
    let reply = api.call("POST /api/tenants/").json(&body).await.expect(StatusCode::CREATED);
    let id = reply.body["tenant_id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/api/tenants/{id}"));
    assert_eq!(reply.header("etag"), format!("\"{}\"", reply.body["version"]));
    assert_eq!(reply.header("cache-control"), "no-store");

    let mut shown = reply.body.clone();
    shown["tenant_id"] = json!("(id)");
    shown["quotas"] = json!(shown["quotas"].as_array().unwrap().len());
    expect![[r#"
        {
          "billing_email": "pay@acme.example",
          "contact_phone": "+41 44 000 00 00",
          "created_at": "2026-11-23T06:00:00.000000Z",
          "locale": "de-CH",
          "organization_name": "Acme & Sons",
          "parent_id": null,
          "quotas": 5,
          "slug": "acme-sons",
          "tenant_id": "(id)",
          "tenant_status": "active",
          "tenant_tier": "pro",
          "tier_version": 1,
          "timezone": "Europe/Zurich",
          "updated_at": "2026-11-23T06:00:00.000000Z",
          "version": 1
        }"#]]
    .assert_eq(&format!("{shown:#}"));

    let mut quota = reply.body["quotas"].as_array().unwrap().clone();
    quota.retain(|quota| quota["resource_type"] == "api_calls");
    expect![[r#"
        [
          {
            "as_of": "2026-11-23T06:00:00.000000Z",
            "enforcement": "hard",
            "expires_at": null,
            "is_capped": false,
            "key_id": null,
            "limit": 10000,
            "on_loss": null,
            "percent": 0.0,
            "period": "month",
            "reason": null,
            "remaining": 10000,
            "resource_type": "api_calls",
            "source": "tier",
            "used": 0,
            "window": {
              "end": "2026-12-22T23:00:00.000000Z",
              "start": "2026-11-22T23:00:00.000000Z"
            }
          }
        ]"#]]
    .assert_eq(&format!("{:#}", json!(quota)));
}

#[tokio::test]
async fn a_tenant_is_found_by_id_and_by_slug_with_and_without_the_slash() {
    let api = TestApi::new().await;
    let tenant = api.tenant("Acme").await;
    let id = tenant["tenant_id"].as_str().unwrap();
    for path in [format!("/api/tenants/{id}"), format!("/api/tenants/{id}/"), "/api/tenants/acme/".into()] {
        let reply = api.call(&format!("GET {path}")).send().await.expect(StatusCode::OK);
        assert_eq!(reply.body["tenant_id"], id, "{path}");
    }
}

#[tokio::test]
async fn all_faults_of_a_new_tenant_come_at_once_under_the_names_that_were_sent() {
    let api = TestApi::new().await;
    let body = json!({
        "organization_name": "",
        "tenant_tier": "gold",
        "billing_email": "nobody",
        "timezone": "Mars/Olympus",
        "locale": "??",
        "slug": "Not A Slug",
    });
    let reply = api.call("POST /api/tenants").json(&body).await;
    let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    let mut fields = reply.fields();
    fields.sort_unstable();
    assert_eq!(fields, ["billing_email", "locale", "organization_name", "slug", "tenant_tier", "timezone"]);
}

#[tokio::test]
async fn a_given_slug_that_is_taken_is_a_conflict_and_a_suggested_one_is_numbered() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    assert_ne!(api.tenant("Acme").await["slug"], "acme");
    let body = json!({ "organization_name": "Other", "slug": "acme" });
    api.call("POST /api/tenants").json(&body).await.refused(StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn the_list_filters_searches_and_sorts() {
    let api = TestApi::new().await;
    for name in ["Beta", "Alpha", "Gamma"] {
        api.tenant(name).await;
    }
    api.call("POST /api/tenants/beta/status/suspended").json(&json!({ "reason": "unpaid" })).await;
    for (query, slugs) in [
        ("?sort=name", vec!["alpha", "beta", "gamma"]),
        ("?sort=-slug", vec!["gamma", "beta", "alpha"]),
        ("?status=suspended", vec!["beta"]),
        ("?tier=free&q=ALPH", vec!["alpha"]),
        ("?tier=pro", vec![]),
    ] {
        let reply = api.call(&format!("GET /api/tenants/{query}")).send().await.expect(StatusCode::OK);
        let items = reply.body["items"].as_array().unwrap();
        let found: Vec<_> = items.iter().map(|tenant| tenant["slug"].as_str().unwrap()).collect();
        assert_eq!(found, slugs, "{query}");
    }
}

#[tokio::test]
async fn pages_tile_the_list() {
    let api = TestApi::new().await;
    for number in 0..7 {
        api.tenant(&format!("Tenant {number}")).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let line = format!("GET /api/tenants?sort=slug&limit=3{cursor}");
        let page = api.call(&line).send().await.expect(StatusCode::OK).body;
        seen.extend(page["items"].as_array().unwrap().iter().map(|tenant| tenant["slug"].clone()));
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, (0..7).map(|number| json!(format!("tenant-{number}"))).collect::<Vec<_>>());
}

#[tokio::test]
async fn faults_of_a_query_come_at_once() {
    let api = TestApi::new().await;
    for (query, fields) in [
        ("limit=0", vec!["limit"]),
        ("limit=1001", vec!["limit"]),
        ("limit=many&offset=-1", vec!["limit", "offset"]),
        ("offset=10001", vec!["offset"]),
        ("cursor=xyz", vec!["cursor"]),
        ("status=asleep&sort=colour", vec!["status", "sort"]),
        ("colour=red", vec!["colour"]),
        ("tier=pro&tier=free", vec!["tier"]),
    ] {
        let reply = api.call(&format!("GET /api/tenants?{query}")).send().await;
        let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{query}");
    }
}

#[tokio::test]
async fn put_and_patch_change_what_they_name_and_null_removes() {
    let api = TestApi::new().await;
    let body = json!({ "organization_name": "Acme", "billing_email": "pay@acme.example" });
    api.call("POST /api/tenants").json(&body).await.expect(StatusCode::CREATED);

    let changed = api.call("PUT /api/tenants/acme").json(&json!({ "tenant_tier": "business" })).await;
    let changed = changed.expect(StatusCode::OK).body;
    assert_eq!(changed["tenant_tier"], "business");
    assert_eq!(changed["billing_email"], "pay@acme.example");

    let changed = api.call("PATCH /api/tenants/acme").json(&json!({ "billing_email": null })).await;
    let changed = changed.expect(StatusCode::OK).body;
    assert_eq!(changed["billing_email"], json!(null));
    assert_eq!(changed["tenant_tier"], "business");
}

#[tokio::test]
async fn a_change_of_an_old_version_is_refused_and_changes_nothing() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let etag = api.call("GET /api/tenants/acme").send().await.header("etag").to_owned();
    let rename = |name: &str| json!({ "organization_name": name });

    let first = api.call("PUT /api/tenants/acme").header("if-match", &etag).json(&rename("First")).await;
    let first = first.expect(StatusCode::OK);
    assert_ne!(first.header("etag"), etag);
    for stale in [&*etag, "W/\"1\"", "\"a\", \"b\"", "1"] {
        let reply = api.call("PUT /api/tenants/acme").header("if-match", stale).json(&rename("Second")).await;
        reply.refused(StatusCode::PRECONDITION_FAILED, "stale-version");
    }
    let reply = api.call("GET /api/tenants/acme").send().await;
    assert_eq!(reply.body["organization_name"], "First");
    let any = api.call("PATCH /api/tenants/acme").header("if-match", "*").json(&rename("Third")).await;
    any.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_status_changes_as_the_status_machine_knows() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let status = |to: &str| format!("POST /api/tenants/acme/status/{to}");

    let reply = api.call(&status("suspended")).send().await;
    let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(reply.fields(), ["reason"]);
    let reply = api.call(&status("suspended")).json(&json!({ "reason": "unpaid" })).await;
    assert_eq!(reply.expect(StatusCode::OK).body["tenant_status"], "suspended");
    let reply = api.call(&status("trial")).send().await;
    reply.refused(StatusCode::CONFLICT, "illegal-status-change");
    let reply = api.call(&status("asleep")).send().await;
    let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(reply.fields(), ["status"]);
    api.call(&status("active")).send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn deleting_leaves_a_tombstone() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let reply = api.call("DELETE /api/tenants/acme").send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(reply.body, json!(null));
    let listed = api.call("GET /api/tenants").send().await.expect(StatusCode::OK);
    assert_eq!(listed.body["items"], json!([]));
    let listed = api.call("GET /api/tenants?status=deleted").send().await.expect(StatusCode::OK);
    assert_eq!(listed.body["items"][0]["slug"], "acme");
    let reply = api.call("POST /api/tenants/acme/status/active").send().await;
    reply.refused(StatusCode::CONFLICT, "illegal-status-change");
}

#[tokio::test]
async fn current_is_the_tenant_of_the_credential() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let key = api.key("acme", &["admin:read"]).await;
    let reply = api.anonymous("GET /api/tenants/current/").bearer(&key).send().await;
    assert_eq!(reply.expect(StatusCode::OK).body["slug"], "acme");
    let reply = api.call("GET /api/tenants/current").send().await;
    reply.refused(StatusCode::FORBIDDEN, "no-tenant");
}

#[tokio::test]
async fn no_tenant_can_take_the_name_of_an_address() {
    let api = TestApi::new().await;
    for name in ["Current", "Metrics"] {
        let slug = api.tenant(name).await["slug"].as_str().unwrap().to_owned();
        let reply = api.call(&format!("GET /api/tenants/{slug}")).send().await.expect(StatusCode::OK);
        assert_eq!(reply.body["organization_name"], name);
    }
}

#[tokio::test]
async fn who_did_what_is_told_under_the_id_of_the_request() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let body = json!({ "reason": "unpaid" });
    let call = api.call("POST /api/tenants/acme/status/suspended").header("user-agent", "test/1");
    let request_id = call.json(&body).await.expect(StatusCode::OK).header("x-request-id").to_owned();

    let reply = api.call("GET /api/tenants/acme/audit-logs?limit=1").send().await.expect(StatusCode::OK);
    let row = &reply.body["items"][0];
    assert_eq!(row["request_id"], *request_id);
    assert_eq!(row["actor"]["kind"], "local_admin");
    assert_eq!(row["actor"]["user_agent"], "test/1");
    assert_eq!(row["reason"], "unpaid");
    assert!(row["hash"].is_string() && row["prev_hash"].is_string() && row["seq"].is_number());
    assert!(reply.body["next_cursor"].is_string());
}

#[tokio::test]
async fn tenants_of_one_name_that_come_at_once_are_all_made_under_slugs_of_their_own() {
    let api = Arc::new(TestApi::new().await);
    let creating: Vec<_> = (0..20)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.tenant("Acme").await["slug"].as_str().unwrap().to_owned() })
        })
        .collect();
    let mut slugs = BTreeSet::new();
    for created in creating {
        slugs.insert(created.await.unwrap());
    }
    assert_eq!(slugs.len(), 20, "{slugs:?}");
}
