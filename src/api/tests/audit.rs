//! The audit log: filtered, exported, verified.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{OF_A_TENANT, TestApi};

async fn some_history(api: &TestApi) {
    api.tenant("Acme").await;
    for name in ["one", "two"] {
        let body = json!({ "organization_name": name });
        api.call("PATCH /api/tenants/acme").json(&body).await.expect(StatusCode::OK);
    }
    let reader = api.key("acme", &["admin:read"]).await;
    let denied = api.anonymous("PATCH /api/tenants/acme").bearer(&reader);
    denied.json(&json!({ "organization_name": "mine" })).await.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn rows_are_found_by_who_did_what_to_what_and_when() {
    let api = TestApi::new().await;
    some_history(&api).await;
    let count = async |query: &str| {
        let reply = api.call(&format!("GET /api/tenants/acme/audit-logs?{query}")).send().await;
        reply.expect(StatusCode::OK).body["items"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("", 5),
        ("action=tenant.change", 3),
        ("action=tenant.change&outcome=denied", 1),
        ("actor_kind=api_key", 1),
        ("actor_kind=local_admin&target_kind=key", 1),
        ("from=2026-11-23T06:00:00Z", 5),
        ("to=2026-11-23T06:00:00Z", 0),
        ("actor_id=00000000-0000-7000-8000-000000000000", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
    let bad = api.call("GET /api/tenants/acme/audit-logs?outcome=maybe&actor_kind=robot&x=1").send().await;
    let bad = bad.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(bad.fields(), ["actor_kind", "outcome", "x"]);
}

#[tokio::test]
async fn a_log_is_exported_as_lines_and_as_a_table_page_by_page() {
    let api = TestApi::new().await;
    some_history(&api).await;
    let line = "GET /api/tenants/acme/audit-logs?limit=2";
    let lines = api.call(line).header("accept", "application/x-ndjson").text_of().await;
    assert_eq!(lines.0.get("content-type").unwrap(), "application/x-ndjson");
    let rows: Vec<Value> = lines.1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["seq"].clone()).collect::<Vec<_>>(), [json!(5), json!(4)]);
    let cursor = lines.0.get("x-next-cursor").unwrap().to_str().unwrap();
    let rest = api.call(&format!("{line}&cursor={cursor}")).header("accept", "text/csv").text_of().await;
    let table: Vec<_> = rest.1.split("\r\n").collect();
    assert!(table[0].starts_with("seq,at,tenant_id,actor_kind,"), "{table:?}");
    assert!(table[1].starts_with("3,2026-11-23T06:00:00.000000Z,"), "{table:?}");
    assert_eq!(table.len(), 4, "a head, two rows and the end: {table:?}");
}

#[tokio::test]
async fn a_checkpoint_finds_what_was_rewritten_before_it() {
    let api = TestApi::new().await;
    some_history(&api).await;
    let verify = async |query: &str| {
        api.call(&format!("GET /api/tenants/acme/audit-logs/verify{query}"))
            .send()
            .await
            .expect(StatusCode::OK)
            .body
    };
    let first = verify("").await;
    assert_eq!((&first["verdict"], &first["rows"]), (&json!("whole"), &json!(5)), "{first}");
    let (seq, hash) = (&first["checkpoint"]["seq"], first["checkpoint"]["hash"].as_str().unwrap());
    api.call("PATCH /api/tenants/acme")
        .json(&json!({ "organization_name": "x" }))
        .await
        .expect(StatusCode::OK);
    assert_eq!(verify(&format!("?checkpoint={seq}:{hash}")).await["verdict"], "whole");
    let other = "0".repeat(64);
    let broken = verify(&format!("?checkpoint={seq}:{other}")).await;
    assert_eq!((&broken["verdict"], &broken["seq"]), (&json!("broken"), seq), "{broken}");
    let beyond = verify(&format!("?checkpoint=9:{hash}")).await;
    assert_eq!((&beyond["verdict"], &beyond["seq"]), (&json!("broken"), &json!(7)), "{beyond}");
    let nobody = json!({ "checkpoints": [{ "tenant_id": null, "seq": 1, "hash": other, "at": "2026-11-23T06:00:00Z",
        "signer": "x", "signature": "AA" }] });
    let unknown = api.call("POST /api/audit-logs/verify").json(&nobody).await;
    let unknown = unknown.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    assert_eq!(unknown.fields(), ["checkpoints[0]"]);
    let bad = api.call("GET /api/audit-logs/verify?checkpoint=1:2").send().await;
    bad.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
    api.call("GET /api/audit-logs?outcome=done").send().await.expect(StatusCode::OK);
}

/// Rows of attempts that were refused, in the log of each tenant and in the platform's.
async fn refusals(api: &TestApi) -> usize {
    let mut rows = 0;
    for log in ["/api/tenants/acme/audit-logs", "/api/tenants/other/audit-logs", "/api/audit-logs"] {
        let reply = api.call(&format!("GET {log}?outcome=denied&limit=1000")).send().await;
        rows += reply.expect(StatusCode::OK).body["items"].as_array().unwrap().len();
    }
    rows
}

#[tokio::test]
async fn whatever_is_refused_read_or_write_leaves_one_row() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let other = api.tenant("Other").await;
    let reader = api.key("acme", &["admin:read"]).await;
    api.key("other", &["admin"]).await;
    let keys = api.call("GET /api/tenants/other/keys").send().await.body;
    let key = keys["items"][0]["key_id"].as_str().unwrap().to_owned();
    let of_platform = ["GET /api/tenants/metrics", "GET /api/audit-logs", "GET /api/reconcile"];
    let mut calls: Vec<_> = of_platform.map(|line| (line.to_owned(), None)).to_vec();
    for tenant in ["acme", other["tenant_id"].as_str().unwrap()] {
        let named = |(line, body): (&str, _)| (line.replace("{t}", tenant).replace("{k}", &key), body);
        calls.extend(OF_A_TENANT.map(named));
    }
    let (mut refused, mut before) = (0, refusals(&api).await);
    for (line, body) in calls {
        let call = api.anonymous(&line).bearer(&reader);
        let status = match body {
            Some(body) => call.text(body).await,
            None => call.send().await,
        };
        let status = status.status;
        let is_own = line.contains("/acme");
        let after = refusals(&api).await;
        // What is its own and not there is missed, and not refused.
        if status == StatusCode::NOT_FOUND && is_own {
            before = after;
            continue;
        }
        let is_refused = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
        assert_eq!(after - before, usize::from(is_refused), "{line}: {status}");
        (before, refused) = (after, refused + usize::from(is_refused));
    }
    assert!(refused > 45, "{refused} refusals");
}
