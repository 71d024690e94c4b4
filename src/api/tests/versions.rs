//! `ETag` and `If-Match`.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::TestApi;
use super::openapi::operations;
use crate::api::router::document;

/// Whether something of an operation is called so.
fn has_header(parameters: &Value, name: &str) -> bool {
    parameters.as_array().into_iter().flatten().any(|one| one["in"] == "header" && one["name"] == name)
}

#[test]
fn what_has_a_version_says_so_and_is_changed_under_conditions() {
    let document = document();
    for (name, said) in operations(&document) {
        let (method, path) = name.split_once(' ').unwrap();
        let shown = &document["paths"][path]["get"]["responses"]["200"]["headers"]["ETag"];
        // A resource's limits are shown in the list of all quotas, whose version they share.
        let has_version = shown.is_object() || path.ends_with("/quotas/{resource}");
        let changes = ["put", "patch", "delete"].contains(&method);
        let asks = has_header(&said["parameters"], "If-Match");
        assert_eq!(asks, has_version && changes || path.ends_with("/status/{status}"), "{name}");
    }
}

#[tokio::test]
async fn a_change_of_another_version_is_refused_with_the_present_one_and_changes_nothing() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let key = api.call("POST /api/tenants/acme/keys").json(&json!({ "name": "ci" })).await.body;
    let key = key["key_id"].as_str().unwrap();
    let setting = json!({ "setting_value": "basic" });
    api.call("PUT /api/tenants/acme/settings/security_level").json(&setting).await.expect(StatusCode::OK);
    let limit = json!({ "limit": 7 });
    api.call("PUT /api/tenants/acme/quotas/api_calls").json(&limit).await.expect(StatusCode::OK);

    for (line, body, shown) in [
        ("PATCH /api/tenants/acme", Some(json!({ "organization_name": "New" })), "tenants/acme"),
        ("POST /api/tenants/acme/status/suspended", Some(json!({ "reason": "unpaid" })), "tenants/acme"),
        ("PUT /api/tenants/acme/quotas/api_calls", Some(json!({ "limit": 8 })), "tenants/acme/quotas"),
        ("DELETE /api/tenants/acme/quotas/api_calls", None, "tenants/acme/quotas"),
        ("PATCH /api/tenants/acme/keys/{k}", Some(json!({ "name": "cd" })), "tenants/acme/keys/{k}"),
        ("PATCH /api/keys/{k}", Some(json!({ "enabled": false })), "keys/{k}"),
        (
            "PUT /api/tenants/acme/settings/security_level",
            Some(json!({ "setting_value": "basic" })),
            "tenants/acme/settings/security_level",
        ),
        ("DELETE /api/tenants/acme/settings/security_level", None, "tenants/acme/settings/security_level"),
        ("DELETE /api/tenants/acme/keys/{k}", None, "keys/{k}"),
        ("DELETE /api/tenants/acme", None, "tenants/acme"),
    ] {
        let (line, shown) = (line.replace("{k}", key), format!("GET /api/{}", shown.replace("{k}", key)));
        let send = async |tag: &str| {
            let call = api.call(&line).header("if-match", tag);
            match &body {
                Some(body) => call.json(body).await,
                None => call.send().await,
            }
        };
        let before = api.call(&shown).send().await.expect(StatusCode::OK);
        let tag = before.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{shown}: {tag}");
        for other in ["\"999999\"", "\"-1\""] {
            let refused = send(other).await.refused(StatusCode::PRECONDITION_FAILED, "stale-version");
            assert_eq!(refused.header("etag"), tag, "{line}");
        }
        for unknown in ["7", "W/\"1\"", "\"x\""] {
            send(unknown).await.refused(StatusCode::PRECONDITION_FAILED, "stale-version");
        }
        let after = api.call(&shown).send().await.expect(StatusCode::OK);
        assert_eq!((after.header("etag"), &after.body), (tag.as_str(), &before.body), "{line}");
        let done = send(&tag).await;
        assert!(done.status.is_success(), "{line}: {:#}", done.body);
        if done.status == StatusCode::OK {
            let now = api.call(&shown).send().await.expect(StatusCode::OK);
            assert_eq!(done.header("etag"), now.header("etag"), "{line}");
        }
    }
}
