//! Every list is asked alike: by limit, offset and cursor, within the same bounds, and every fault names its field.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::TestApi;
use super::openapi::operations;
use crate::api::router::document;

const PAGED: [&str; 3] = ["limit", "offset", "cursor"];

fn parameters(said: &Value) -> Vec<&str> {
    let all = said["parameters"].as_array().into_iter().flatten();
    all.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str()).collect()
}

/// Every list of the API with pages, where there is something in it.
fn lists<'d>(document: &'d Value, operation: &str) -> Vec<(String, Vec<&'d str>)> {
    // What is planned by a POST has pages, too; it needs a body.
    let paged = operations(document).into_iter().filter(|(name, _)| name.starts_with("get "));
    let paged = paged.filter(|(_, said)| parameters(said).contains(&"cursor"));
    let line = |(name, said): (String, _)| {
        let line =
            name.replace("{tenant}", "acme").replace("{operation}", operation).replace("{resource}", "users");
        (line.replace("get ", "GET "), parameters(said))
    };
    paged.map(line).collect()
}

/// Three of everything, and an operation over many tenants.
async fn filled() -> (TestApi, String) {
    let api = TestApi::new().await;
    let acme = json!({ "organization_name": "Acme", "tenant_tier": "msp" });
    api.call("POST /api/tenants").json(&acme).await.expect(StatusCode::CREATED);
    for name in ["one", "two", "three"] {
        let child = json!({ "organization_name": name, "parent_id": "acme" });
        api.call("POST /api/tenants").json(&child).await.expect(StatusCode::CREATED);
        api.key("acme", &["admin"]).await;
    }
    let many = json!({ "filter": { "all": true }, "action": { "kind": "tier", "tier": "pro" } });
    let made = api.call("POST /api/bulk-operations").json(&many).await.expect(StatusCode::CREATED);
    let operation = made.body["operation_id"].as_str().expect("an id").to_owned();
    (api, operation)
}

#[tokio::test]
async fn every_list_has_the_same_bounds_and_every_fault_names_its_field() {
    let (api, operation) = filled().await;
    let document = document();
    for (name, said) in operations(&document) {
        let schema = said["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str();
        let is_list = schema.is_some_and(|schema| schema.contains("/Listed_"));
        let named: Vec<_> = parameters(said).into_iter().filter(|name| PAGED.contains(name)).collect();
        // What is short enough is one page, and says so by taking no parameters at all.
        assert!(named == PAGED || (named.is_empty() && parameters(said).is_empty()) || !is_list, "{name}");
    }
    for (line, known) in lists(&document, &operation) {
        for (parameter, value) in [
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "-1"),
            ("limit", "many"),
            ("limit", ""),
            ("offset", "-1"),
            ("offset", "10001"),
            ("offset", "1.5"),
            ("cursor", "nonsense"),
            ("cursor", "7b7d"),
            ("colour", "red"),
            ("limit", "5&limit=6"),
        ] {
            let reply = api.call(&format!("{line}?{parameter}={value}")).send().await;
            let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
            assert_eq!(reply.fields(), [parameter], "{line}?{parameter}={value}");
        }
        for (parameter, value) in [("limit", "1"), ("limit", "1000"), ("offset", "0"), ("offset", "10000")] {
            let reply = api.call(&format!("{line}?{parameter}={value}")).send().await;
            assert_eq!(reply.status, StatusCode::OK, "{line}?{parameter}={value}: {:#}", reply.body);
        }
        for parameter in known {
            let reply = api.call(&format!("{line}?{parameter}=%00%FF")).send().await;
            assert!(reply.status.is_success() || reply.status.is_client_error(), "{line} {parameter}");
            let told = reply.fields().into_iter().all(|field| field == parameter);
            assert!(told, "{line} {parameter}: {:#}", reply.body);
        }
    }
}

#[tokio::test]
async fn the_pages_of_every_list_tile_it_by_cursor_and_by_offset() {
    let (api, operation) = filled().await;
    let document = document();
    for (line, _) in lists(&document, &operation) {
        let items = async |query: String| {
            let reply = api.call(&format!("{line}?{query}")).send().await.expect(StatusCode::OK);
            (reply.body["items"].as_array().expect("items").clone(), reply.body["next_cursor"].clone())
        };
        let (whole, end) = items("limit=1000".to_owned()).await;
        assert_eq!(end, Value::Null, "{line}");
        let (mut by_cursor, mut query) = (Vec::new(), "limit=1".to_owned());
        for at in 0..whole.len() {
            let (page, next) = items(query).await;
            assert_eq!(page.len(), 1, "{line}");
            by_cursor.extend(page);
            let (by_offset, _) = items(format!("limit=1&offset={at}")).await;
            assert_eq!(by_offset, whole[at..=at], "{line}");
            assert_eq!(next.is_null(), at + 1 == whole.len(), "{line}");
            query = format!("limit=1&cursor={}", next.as_str().unwrap_or_default());
        }
        assert_eq!(by_cursor, whole, "{line}");
    }
}
