use axum::http::{StatusCode, Uri};
use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::Builder;

use super::TestApi;
use super::openapi::operations;
use crate::api::router::document;

#[tokio::test]
async fn a_refusal_is_problem_json() {
    let api = TestApi::new().await;
    let reply = api.call("GET /api/tenants/nobody").send().await;
    let reply = reply.refused(StatusCode::NOT_FOUND, "not-found");
    assert_eq!(reply.body["request_id"], reply.header("x-request-id"));
    let mut body = reply.body.clone();
    body["request_id"] = json!("(id)");
    expect![[r#"
        {
          "detail": "there is no tenant `nobody`",
          "request_id": "(id)",
          "status": 404,
          "title": "There is no such thing",
          "type": "/problems/not-found"
        }"#]]
    .assert_eq(&format!("{body:#}"));

    let reply = api.call("POST /api/tenants").json(&json!({ "name": "Acme" })).await;
    let mut body = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields").body;
    body["request_id"] = json!("(id)");
    expect![[r#"
        {
          "detail": "name: unknown field `name`, expected one of `organization_name`, `slug`, `tenant_tier`, `billing_email`, `contact_phone`, `timezone`, `locale`, `parent_id`",
          "errors": [
            {
              "field": "name",
              "message": "unknown field `name`, expected one of `organization_name`, `slug`, `tenant_tier`, `billing_email`, `contact_phone`, `timezone`, `locale`, `parent_id`"
            }
          ],
          "request_id": "(id)",
          "status": 422,
          "title": "Some fields are wrong",
          "type": "/problems/invalid-fields"
        }"#]].assert_eq(&format!("{body:#}"));
}

#[tokio::test]
async fn who_shows_no_known_credential_is_asked_for_one() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let plain = api.key("acme", &[]).await;
    for authorization in [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer tg_local_0000".to_owned()),
        Some("Basic dTpw".to_owned()),
        Some(format!("Bearer {plain}")),
        Some(format!("Bearer {}", "x".repeat(5_000))),
    ] {
        let call = api.anonymous("GET /api/tenants");
        let call = match &authorization {
            Some(value) => call.header("authorization", value),
            None => call,
        };
        let reply = call.send().await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
        assert_eq!(reply.header("www-authenticate"), r#"Bearer realm="tollgate""#, "{authorization:?}");
    }
}

#[tokio::test]
async fn no_address_answers_without_a_credential_but_those_that_are_open() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let before = api.call("GET /api/tenants/acme").send().await.body;
    let document = document();
    for (name, said) in operations(&document) {
        let (method, path) = name.split_once(' ').unwrap();
        let line = format!("{} {}", method.to_uppercase(), path.replace("{tenant}", "acme"));
        let reply = api.anonymous(&line.replace(['{', '}'], "")).text("{}").await;
        match said["security"].as_array().map(Vec::is_empty) {
            // What is wrong there is something else; to log in with nothing is to be nobody.
            Some(true) => assert!(
                reply.status != StatusCode::UNAUTHORIZED || path.starts_with("/api/sessions"),
                "{name}"
            ),
            _ => drop(reply.refused(StatusCode::UNAUTHORIZED, "unauthenticated")),
        }
    }
    assert_eq!(api.call("GET /api/tenants/acme").send().await.body, before);
}

#[tokio::test]
async fn the_platform_token_opens_everything() {
    let api = TestApi::new().await;
    let token = api.control.ensure_platform_token(None).await.unwrap().unwrap();
    api.anonymous("GET /api/tenants").bearer(&token).send().await.expect(StatusCode::OK);
    let reply =
        api.anonymous("GET /api/tiers").header("authorization", &format!("bearer {token}")).send().await;
    reply.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_address_that_does_not_exist_is_404_for_everybody() {
    let api = TestApi::new().await;
    for line in ["GET /", "GET /api", "GET /api/nothing", "POST /api/tenants/acme/nothing", "GET //"] {
        api.anonymous(line).send().await.refused(StatusCode::NOT_FOUND, "not-found");
    }
}

#[tokio::test]
async fn a_method_that_an_address_does_not_know_is_told_the_ones_it_knows() {
    let api = TestApi::new().await;
    for (line, allow) in [
        ("PATCH /api/tenants", "GET,HEAD,POST"),
        ("POST /api/tenants/acme/", "GET,HEAD,PUT,PATCH,DELETE"),
        ("GET /api/apply", "POST"),
    ] {
        let reply = api.call(line).send().await;
        let reply = reply.refused(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
        assert_eq!(reply.header("allow"), allow, "{line}");
    }
}

#[tokio::test]
async fn broken_json_is_told_by_line_and_column() {
    let api = TestApi::new().await;
    for (text, detail) in [
        ("{\n  \"organization_name\": }", "the body is no JSON: expected value at line 2 column 24"),
        ("", "the body is no JSON: EOF while parsing a value at line 1 column 0"),
        ("{} {}", "the body is no JSON: trailing characters at line 1 column 4"),
        ("\u{0}", "the body is no JSON: expected value at line 1 column 1"),
    ] {
        let reply = api.call("PUT /api/tenants/acme").text(text).await;
        let reply = reply.refused(StatusCode::BAD_REQUEST, "malformed-request");
        assert_eq!(reply.body["detail"], detail);
    }
    let deep = "[".repeat(100_000);
    api.call("POST /api/apply").text(&deep).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
}

#[tokio::test]
async fn text_with_a_nul_is_refused_wherever_it_comes() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for (line, body, field) in [
        ("POST /api/tenants", r#"{"organization_name":"New","tenant_tier":"\u0000"}"#, "tenant_tier"),
        ("POST /api/tenants/acme/status/suspended", r#"{"reason":"a\u0000b"}"#, "reason"),
        (
            "PUT /api/tenants/acme/settings/custom.a",
            r#"{"setting_value":{"a":["b",{"c\u0000":1}]}}"#,
            "setting_value.a[1].c",
        ),
        ("GET /api/audit-logs?action=%00", "", "action"),
    ] {
        let reply = api.call(line).text(body).await;
        let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(reply.fields(), [field], "{line}");
    }
    let call = api.call("GET /api/tenants/acme/settings/custom.%00").send().await;
    call.refused(StatusCode::NOT_FOUND, "not-found");
    let spelt = r#"{"setting_value":"spelt: \\u0000"}"#;
    api.call("PUT /api/tenants/acme/settings/custom.a").text(spelt).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json_and_be_no_larger_than_a_mebibyte() {
    let api = TestApi::new().await;
    let reply = api.call("POST /api/tenants").send().await;
    reply.refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type");
    let large = json!({ "organization_name": "x".repeat(1 << 20) });
    let reply = api.call("POST /api/tenants").json(&large).await;
    reply.refused(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large");
}

#[tokio::test]
async fn no_input_is_a_fault_of_ours() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let odd = ["\u{0}", "'; DROP TABLE organizations; --", "%", "_", "\u{202e}", "💥", &"x".repeat(10_000)];
    for text in odd {
        let body = json!({
            "organization_name": text, "tenant_tier": text, "slug": text, "billing_email": text,
            "contact_phone": text, "timezone": text, "locale": text, "parent_id": text,
        });
        let mut replies = vec![
            api.call("POST /api/tenants").json(&body).await,
            api.call("POST /api/tenants").json(&json!({ "organization_name": text })).await,
            api.call("POST /api/tenants/acme/keys").json(&json!({ "name": text, "scopes": [text] })).await,
            api.call("POST /api/tenants/acme/status/suspended").json(&json!({ "reason": text })).await,
            api.call("POST /api/apply").json(&json!({ "tenant": [{ "slug": text, "tier": text }] })).await,
        ];
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for line in [
            format!("GET /api/tenants?q={escaped}"),
            format!("GET /api/tenants?tier={escaped}&cursor={escaped}"),
            format!("GET /api/tenants/{escaped}"),
            format!("GET /api/tenants/acme/usage-logs?route={escaped}"),
            format!("DELETE /api/tenants/acme/quotas/{escaped}"),
        ] {
            replies.push(api.call(&line).send().await);
        }
        for reply in replies {
            assert!(!reply.status.is_server_error(), "{text:?}: {:#}", reply.body);
        }
    }
    for line in ["GET /api/tenants/%ff", "GET /api/tenants/acme/usage-logs?from=%ff", "GET /api/tenants?%"] {
        let status = api.call(line).send().await.status;
        assert!(!status.is_server_error(), "{line}: {status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_and_no_body_is_a_fault_of_ours(
        method in prop_oneof![Just("GET"), Just("POST"), Just("PUT"), Just("DELETE"), Just("HEAD")],
        path in "(tenants|keys|apply|tiers)(/[!-~]{0,12}){0,4}(\\?[a-z_]{1,8}=[!-~]{0,12})?",
        body in r#"[{}\[\]":,a-z0-9 ]{0,40}"#,
    ) {
        prop_assume!(format!("/api/{path}").parse::<Uri>().is_ok());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reply = TestApi::new().await.call(&format!("{method} /api/{path}")).text(&body).await;
            assert!(!reply.status.is_server_error(), "{method} {path}: {:#}", reply.body);
        });
    }
}

#[tokio::test]
async fn the_usage_log_is_filtered_and_its_filters_are_checked() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let line = "GET /api/tenants/acme/usage-logs/?resource_type=api_calls&from=2026-11-01T00:00:00Z&limit=5";
    let reply = api.call(line).send().await.expect(StatusCode::OK);
    assert_eq!(reply.body, json!({ "items": [], "next_cursor": null }));
    let line = "GET /api/tenants/acme/usage-logs?resource_type=A&key_id=1&from=then&to=now&limit=0";
    let reply = api.call(line).send().await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(reply.fields(), ["resource_type", "key_id", "from", "to", "limit"]);
}
