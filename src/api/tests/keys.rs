use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn the_text_of_a_key_is_shown_once() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let body = json!({
        "name": "ci",
        "routes": ["orders"],
        "networks": ["10.0.0.0/8"],
        "expires_at": "2027-01-01T00:00:00Z",
    });
    let created = api.call("POST /api/tenants/acme/keys/").json(&body).await.expect(StatusCode::CREATED).body;
    let text = created["key"].as_str().unwrap();
    assert!(text.starts_with("tg_live_") && text.starts_with(created["prefix"].as_str().unwrap()));
    assert_eq!(created["networks"], json!(["10.0.0.0/8"]));

    let listed = api.call("GET /api/tenants/acme/keys").send().await.expect(StatusCode::OK).body;
    assert_eq!(listed["items"][0]["key_id"], created["key_id"]);
    assert_eq!(listed["items"][0]["expires_at"], "2027-01-01T00:00:00.000000Z");
    assert!(!listed.to_string().contains(text));

    let test = json!({ "name": "test", "test": true });
    let created = api.call("POST /api/tenants/acme/keys").json(&test).await.expect(StatusCode::CREATED).body;
    assert!(created["key"].as_str().unwrap().starts_with("tg_test_"));
}

#[tokio::test]
async fn a_key_is_revoked_by_its_id_and_stays_revoked() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let mut revoked = Vec::new();
    for _ in 0..3 {
        let key = api.call("POST /api/tenants/acme/keys").json(&json!({ "name": "ci" })).await.body;
        revoked.push(key["key_id"].as_str().unwrap().to_owned());
    }
    for _ in ["once", "and again"] {
        let line = format!("POST /api/keys/{}/revoke", revoked[0]);
        let reply = api.call(&line).send().await.expect(StatusCode::OK);
        assert_eq!(reply.body["revoked_at"], "2026-11-23T06:00:00.000000Z");
        let line = format!("POST /api/tenants/acme/keys/{}/revoke/", revoked[1]);
        api.call(&line).json(&json!({})).await.expect(StatusCode::OK);
        let line = format!("DELETE /api/tenants/acme/keys/{}", revoked[2]);
        api.call(&line).send().await.expect(StatusCode::NO_CONTENT);
        api.clock.advance(std::time::Duration::from_secs(60));
    }
    let listed = api.call("GET /api/tenants/acme/keys").send().await.body;
    assert!(listed["items"].as_array().unwrap().iter().all(|key| key["revoked_at"].is_string()));
}

#[tokio::test]
async fn a_key_does_not_exist_below_another_tenant() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.tenant("Other").await;
    let key = api.call("POST /api/tenants/acme/keys").json(&json!({ "name": "ci" })).await.body;
    let key_id = key["key_id"].as_str().unwrap();
    for line in [
        format!("DELETE /api/tenants/other/keys/{key_id}"),
        format!("POST /api/tenants/other/keys/{key_id}/revoke"),
        "POST /api/keys/0192f0c1-7a3b-7000-8000-000000000000/revoke".to_owned(),
        "POST /api/keys/ci/revoke".to_owned(),
    ] {
        api.call(&line).send().await.refused(StatusCode::NOT_FOUND, "not-found");
    }
    let listed = api.call("GET /api/tenants/acme/keys").send().await.body;
    assert_eq!(listed["items"][0]["revoked_at"], json!(null));
}

#[tokio::test]
async fn faults_of_a_key_name_their_field() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "name": "ci", "networks": ["10.0.0.0/8", "home"] }), "networks[1]"),
        (json!({ "name": "ci", "expires_at": "soon" }), "expires_at"),
        (json!({ "name": "ci", "colour": "red" }), "colour"),
    ] {
        let reply = api.call("POST /api/tenants/acme/keys").json(&body).await;
        let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(reply.fields(), [field], "{body}");
    }
}

#[tokio::test]
async fn a_key_that_may_only_read_changes_nothing() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let reader = api.key("acme", &["admin:read"]).await;
    api.anonymous("GET /api/tenants/acme").bearer(&reader).send().await.expect(StatusCode::OK);
    let call = api.anonymous("POST /api/tenants/acme/keys").bearer(&reader);
    call.json(&json!({ "name": "ci" })).await.refused(StatusCode::FORBIDDEN, "forbidden");
    let call = api.anonymous("POST /api/tenants").bearer(&reader);
    call.json(&json!({ "organization_name": "New" })).await.refused(StatusCode::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn what_concerns_the_whole_platform_is_not_a_tenants_to_do() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let admin = api.key("acme", &["admin"]).await;
    for (line, body) in [
        ("POST /api/tenants", json!({ "organization_name": "New" })),
        ("POST /api/apply", json!({ "tenant": [{ "slug": "acme", "tier": "msp" }] })),
        ("POST /api/apply?dry_run=true", json!({ "tenant": [] })),
    ] {
        let reply = api.anonymous(line).bearer(&admin).json(&body).await;
        reply.refused(StatusCode::FORBIDDEN, "forbidden");
    }
    api.anonymous("GET /api/tiers").bearer(&admin).send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_key_is_changed_field_by_field_and_a_second_time_writes_nothing() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let new = json!({ "name": "ci", "scopes": ["a"], "expires_at": "2027-01-01T00:00:00Z" });
    let key = api.call("POST /api/tenants/acme/keys").json(&new).await.body;
    let key_id = key["key_id"].as_str().unwrap();
    let line = format!("PATCH /api/tenants/acme/keys/{key_id}");
    let change = json!({ "enabled": false, "routes": ["orders"], "expires_at": null });
    for _ in ["once", "and again"] {
        let changed = api.call(&line).json(&change).await.expect(StatusCode::OK).body;
        let fields =
            ["name", "scopes", "enabled", "routes", "expires_at"].map(|field| changed[field].clone());
        assert_eq!(json!(fields), json!(["ci", ["a"], false, ["orders"], null]));
    }
    let line = format!("PATCH /api/keys/{key_id}");
    let changed =
        api.call(&line).json(&json!({ "enabled": true, "name": "cd" })).await.expect(StatusCode::OK);
    assert_eq!((&changed.body["name"], &changed.body["enabled"]), (&json!("cd"), &json!(true)));
    let log = api.call("GET /api/tenants/acme/audit-logs").send().await.body.to_string();
    assert_eq!(log.matches("key.change").count(), 2, "{log}");
    let past = json!({ "expires_at": "2020-01-01T00:00:00Z" });
    api.call(&line).json(&past).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    api.call(&format!("POST /api/keys/{key_id}/revoke")).send().await.expect(StatusCode::OK);
    api.call(&line).json(&json!({ "enabled": true })).await.refused(StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn a_rotated_key_has_a_successor_with_its_limits_and_works_for_the_grace() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let new = json!({ "name": "ci", "routes": ["orders"], "test": true });
    let old = api.call("POST /api/tenants/acme/keys").json(&new).await.body;
    let old_id = old["key_id"].as_str().unwrap();
    let quota = json!({ "limit": 7, "key_id": old_id });
    api.call("PUT /api/tenants/acme/quotas/api_calls").json(&quota).await.expect(StatusCode::OK);
    let line = format!("POST /api/tenants/acme/keys/{old_id}/rotate");
    let new = api.call(&line).json(&json!({ "grace_seconds": 3600 })).await.expect(StatusCode::CREATED).body;
    assert!(new["key"].as_str().unwrap().starts_with("tg_test_"));
    assert_ne!(new["key"], old["key"]);
    assert_eq!((&new["name"], &new["routes"]), (&json!("ci"), &json!(["orders"])));
    assert_eq!(new["expires_at"], json!(null));
    let listed = api.call("GET /api/tenants/acme/keys").send().await.body;
    let ends: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|key| key["expires_at"].clone()).collect();
    assert_eq!(ends, [json!(null), json!("2026-11-23T07:00:00.000000Z")]);
    let quotas = api.call("GET /api/tenants/acme/quotas").send().await.body;
    let of_new = |quota: &&serde_json::Value| quota["key_id"] == new["key_id"] && quota["limit"] == 7;
    assert!(quotas["quotas"].as_array().unwrap().iter().any(|quota| of_new(&quota)), "{quotas}");
    // Without grace it ends at once, and what does not work has no successor.
    let now = format!("POST /api/keys/{old_id}/rotate");
    api.call(&now).json(&json!({ "grace_seconds": 0 })).await.expect(StatusCode::CREATED);
    api.call(&now).send().await.refused(StatusCode::CONFLICT, "conflict");
    let long = format!("POST /api/keys/{}/rotate", new["key_id"].as_str().unwrap());
    let year = json!({ "grace_seconds": 365 * 86_400 });
    api.call(&long).json(&year).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
}

#[tokio::test]
async fn a_key_of_another_system_is_brought_along_once_and_by_the_platform_only() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.tenant("Other").await;
    let sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let body = json!({ "name": "old", "sha256": sha256 });
    let admin = api.key("acme", &["admin"]).await;
    api.anonymous("POST /api/tenants/acme/keys")
        .bearer(&admin)
        .json(&body)
        .await
        .refused(StatusCode::FORBIDDEN, "forbidden");
    let made = api.call("POST /api/tenants/acme/keys").json(&body).await.expect(StatusCode::CREATED).body;
    assert_eq!((&made["prefix"], made.get("key")), (&json!("imported"), None));
    let again = api.call("POST /api/tenants/other/keys").json(&body).await;
    again.refused(StatusCode::CONFLICT, "conflict");
    for bad in ["", "2c26", &"g".repeat(64)] {
        let body = json!({ "name": "old", "sha256": bad });
        api.call("POST /api/tenants/acme/keys")
            .json(&body)
            .await
            .refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    }
}
