use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn somebody_is_invited_joins_is_changed_and_removed() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let invite = json!({ "email": "ann@example.com", "role": "developer" });
    let invited =
        api.call("POST /api/tenants/acme/members").json(&invite).await.expect(StatusCode::CREATED).body;
    assert_eq!(invited["expires_at"], "2026-11-30T06:00:00.000000Z");
    let open = api.call("GET /api/tenants/acme/invitations").send().await.expect(StatusCode::OK).body;
    assert_eq!((&open["total"], &open["items"][0]["token"]), (&json!(1), &json!(null)));

    let accept = json!({ "token": invited["token"], "password": PASSWORD });
    let call = api.anonymous("POST /api/invitations/accept");
    let joined = call.json(&accept).await.expect(StatusCode::CREATED).body;
    assert_eq!((&joined["email"], &joined["role"]), (&json!("ann@example.com"), &json!("developer")));
    let again = api.anonymous("POST /api/invitations/accept").json(&accept).await;
    again.refused(StatusCode::NOT_FOUND, "not-found");

    let member = format!("/api/tenants/acme/members/{}", joined["user_id"].as_str().unwrap());
    let changed = api.call(&format!("PATCH {member}")).json(&json!({ "role": "viewer" })).await;
    assert_eq!(changed.expect(StatusCode::OK).body["role"], "viewer");
    let listed = api.call("GET /api/tenants/acme/members").send().await.expect(StatusCode::OK).body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    api.call(&format!("DELETE {member}")).send().await.expect(StatusCode::NO_CONTENT);
    api.call(&format!("DELETE {member}")).send().await.refused(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn roles_are_shown_with_what_they_may() {
    let api = TestApi::new().await;
    let big = json!({ "organization_name": "Big", "tenant_tier": "enterprise" });
    api.call("POST /api/tenants").json(&big).await.expect(StatusCode::CREATED);
    let body = json!({ "permissions": ["key.revoke", "key.read"] });
    let set = api.call("PUT /api/tenants/big/roles/on-call").json(&body).await.expect(StatusCode::OK).body;
    assert_eq!(
        set,
        json!({ "role": "on-call", "is_built_in": false, "permissions": ["key.read", "key.revoke"] })
    );
    let roles = api.call("GET /api/tenants/big/roles").send().await.expect(StatusCode::OK).body;
    let named: Vec<_> =
        roles["items"].as_array().unwrap().iter().map(|role| role["role"].as_str().unwrap()).collect();
    assert_eq!(named, ["owner", "admin", "billing", "developer", "auditor", "viewer", "on-call"]);
    api.call("DELETE /api/tenants/big/roles/on-call").send().await.expect(StatusCode::NO_CONTENT);
    let wrong = json!({ "permissions": ["key.steal"] });
    let reply = api.call("PUT /api/tenants/big/roles/x").json(&wrong).await;
    assert_eq!(
        reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields").fields(),
        ["permissions[0]"]
    );
}

#[tokio::test]
async fn the_platforms_people_are_made_by_their_address() {
    let api = TestApi::new().await;
    let body = json!({ "email": "ann@example.com", "platform_role": "platform_owner" });
    let made = api.call("PUT /api/users").json(&body).await.expect(StatusCode::OK).body;
    let set = json!({ "token": made["token"], "password": PASSWORD });
    api.anonymous("POST /api/users/password").json(&set).await.expect(StatusCode::NO_CONTENT);
    let again = api.call("PUT /api/users").json(&body).await.expect(StatusCode::OK).body;
    assert_eq!((&again["has_password"], &again["token"]), (&json!(true), &json!(null)));
    let reset = format!("POST /api/users/{}/reset-password", made["user_id"].as_str().unwrap());
    let token = api.call(&reset).json(&json!({})).await.expect(StatusCode::CREATED).body["token"].clone();
    assert!(token.as_str().unwrap().starts_with("tgr_"));
    api.tenant("Acme").await;
    let admin = api.key("acme", &["admin"]).await;
    for line in ["GET /api/users", reset.as_str()] {
        let reply = api.anonymous(line).bearer(&admin).send().await;
        reply.refused(StatusCode::FORBIDDEN, "forbidden");
    }
}

#[tokio::test]
async fn a_password_that_is_tried_too_often_has_to_wait() {
    let api = TestApi::new().await;
    for slug in ["one", "two"] {
        api.tenant(slug).await;
    }
    let invite = json!({ "email": "ann@example.com", "role": "owner" });
    let token = async |line: &str| api.call(line).json(&invite).await.body["token"].clone();
    let first = token("POST /api/tenants/one/members").await;
    let body = json!({ "token": first, "password": PASSWORD });
    api.anonymous("POST /api/invitations/accept").json(&body).await.expect(StatusCode::CREATED);
    let guess = json!({ "token": token("POST /api/tenants/two/members").await, "password": "a wrong guess" });
    for _ in 0..10 {
        let reply = api.anonymous("POST /api/invitations/accept").json(&guess).await;
        reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    }
    let held = api.anonymous("POST /api/invitations/accept").json(&guess).await;
    let held = held.refused(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts");
    assert_eq!(held.header("retry-after"), "10");
}
