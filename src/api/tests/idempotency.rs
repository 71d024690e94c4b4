//! A POST that is sent twice and done once.

use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn a_request_that_is_sent_again_gets_the_same_answer_and_is_not_done_again() {
    let api = TestApi::new().await;
    let body = json!({ "organization_name": "Acme" });
    let create = async || api.call("POST /api/tenants/").header("idempotency-key", "a-1").json(&body).await;
    let first = create().await.expect(StatusCode::CREATED);
    let again = create().await.expect(StatusCode::CREATED);
    assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(api.call("GET /api/tenants").send().await.body["items"].as_array().unwrap().len(), 1);
    // The text of a key is told again, too, and stands nowhere in the database.
    let key = json!({ "name": "ci" });
    let create =
        async || api.call("POST /api/tenants/acme/keys").header("idempotency-key", "k").json(&key).await;
    let (first, again) = (create().await, create().await);
    assert_eq!(first.body["key"], again.body["key"]);
    let text = first.body["key"].as_str().unwrap();
    let database = std::fs::read(api.data().join("tollgate.db")).unwrap();
    let log = std::fs::read(api.data().join("tollgate.db-wal")).unwrap_or_default();
    for bytes in [database, log] {
        assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()));
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller_for_a_day() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let keyed = |line: &str| api.call(line).header("idempotency-key", "a-1");
    keyed("POST /api/tenants/acme/keys").json(&json!({ "name": "a" })).await.expect(StatusCode::CREATED);
    for (line, body) in [
        ("POST /api/tenants/acme/keys", json!({ "name": "b" })),
        ("POST /api/tenants", json!({ "name": "a" })),
    ] {
        let refused = keyed(line).json(&body).await;
        let refused = refused.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(refused.fields(), ["Idempotency-Key"]);
    }
    let admin = api.key("acme", &["admin"]).await;
    let other = api.anonymous("POST /api/tenants/acme/keys").bearer(&admin).header("idempotency-key", "a-1");
    other.json(&json!({ "name": "b" })).await.expect(StatusCode::CREATED);
    api.clock.advance(std::time::Duration::from_secs(86_401));
    keyed("POST /api/tenants/acme/keys").json(&json!({ "name": "b" })).await.expect(StatusCode::CREATED);
    let long = "x".repeat(256);
    let refused = api.call("POST /api/tenants").header("idempotency-key", &long).json(&json!({})).await;
    assert_eq!(
        refused.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields").fields(),
        ["Idempotency-Key"]
    );
}

#[tokio::test]
async fn a_refused_request_may_be_sent_again_under_its_key() {
    let api = TestApi::new().await;
    let body = json!({ "organization_name": "Acme", "slug": "acme" });
    api.tenant("Acme").await;
    let create = async || api.call("POST /api/tenants").header("idempotency-key", "a-1").json(&body).await;
    create().await.refused(StatusCode::CONFLICT, "conflict");
    let slug = json!({ "slug": "elsewhere" });
    api.call("PATCH /api/tenants/acme").json(&slug).await.expect(StatusCode::OK);
    create().await.expect(StatusCode::CREATED);
}
