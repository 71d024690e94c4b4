//! `/api/tenants/{tenant}/channels` and `…/deliveries`

use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn a_webhooks_secret_is_shown_once() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let body =
        json!({ "name": "ops", "kind": "webhook", "target": "https://example.com/in", "kinds": ["quota"] });
    let made = api.call("POST /api/tenants/acme/channels").json(&body).await;
    assert_eq!(made.status, 201, "{:#}", made.body);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let shown = api.call(&format!("GET {path}")).send().await;
    assert_eq!((shown.status.as_u16(), &shown.body["secret"]), (200, &json!(null)));
    assert_eq!(shown.body["kinds"], json!(["quota"]));
    let rotated = api.call(&format!("POST {path}/rotate")).send().await;
    assert!(rotated.body["secret"].as_str().is_some_and(|new| new != secret), "{:#}", rotated.body);
    let database = std::fs::read(api.data().join("tollgate.db")).unwrap();
    let is_there = |text: &str| database.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(!is_there(&secret) && !is_there(rotated.body["secret"].as_str().unwrap()));
    assert_eq!(api.call(&format!("DELETE {path}")).send().await.status, 204);
    assert_eq!(api.call(&format!("GET {path}")).send().await.status, 404);
}

#[tokio::test]
async fn targets_that_nobody_may_be_sent_to_are_refused_by_their_fields() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for (kind, target, field) in [
        ("webhook", "http://example.com/", "target"),
        ("webhook", "https://user:password@example.com/", "target"),
        ("webhook", "https://169.254.169.254/latest/meta-data", "target"),
        ("slack", "https://[::1]/services/x", "target"),
        ("webhook", "not a URL", "target"),
        ("email", "ops@acme.example", "kind"),
    ] {
        let body = json!({ "name": "ops", "kind": kind, "target": target });
        let refused = api.call("POST /api/tenants/acme/channels").json(&body).await;
        assert_eq!(refused.status, 422, "{target}: {:#}", refused.body);
        assert_eq!(refused.body["errors"][0]["field"], field, "{target}: {:#}", refused.body);
    }
}

#[tokio::test]
async fn a_test_is_on_its_way_and_can_be_sent_again() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let body = json!({ "name": "ops", "kind": "webhook", "target": "https://example.com/in" });
    let made = api.call("POST /api/tenants/acme/channels").json(&body).await;
    let path = made.headers["location"].to_str().unwrap().to_owned();
    for _ in 0..10 {
        let sent = api.call(&format!("POST {path}/test")).send().await;
        assert_eq!(sent.status, 202, "{:#}", sent.body);
        assert_eq!(sent.body["state"], "pending");
    }
    let refused = api.call(&format!("POST {path}/test")).send().await;
    assert_eq!(refused.status, 409, "nobody delivers here: {:#}", refused.body);
    let listed = api.call("GET /api/tenants/acme/deliveries?state=pending&limit=4").send().await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 4);
    let next = listed.body["next_cursor"].as_str().unwrap();
    let rest = api.call(&format!("GET /api/tenants/acme/deliveries?cursor={next}")).send().await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 6);
    let id = rest.body["items"][0]["delivery_id"].as_str().unwrap();
    let again = api.call(&format!("POST /api/tenants/acme/deliveries/{id}/resend")).send().await;
    assert_eq!((again.status.as_u16(), &again.body["delivery_id"]), (202, &json!(id)));
}
