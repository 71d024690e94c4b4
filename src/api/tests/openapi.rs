//! The document and the router are the same contract.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::StatusCode;
use serde_json::Value;

use super::TestApi;
use crate::api::router::{document, guarded, open};

/// What asks for no credential, but what it is sent.
const OPEN: [&str; 7] = [
    "get /api/openapi.json",
    "get /api/sessions/oidc",
    "get /api/sessions/oidc/callback",
    "post /api/billing/stripe/events",
    "post /api/invitations/accept",
    "post /api/sessions",
    "post /api/users/password",
];

/// What of that finds out who somebody is.
const ASKS: [&str; 2] = ["get /api/sessions/oidc/callback", "post /api/sessions"];

/// The methods of every path of the document.
fn documented(document: &Value) -> BTreeMap<&str, BTreeSet<String>> {
    let methods =
        |item: &Value| item.as_object().expect("methods").keys().map(|m| m.to_uppercase()).collect();
    let paths = document["paths"].as_object().expect("paths").iter();
    paths.map(|(path, item)| (path.as_str(), methods(item))).collect()
}

/// Every operation of the document: what it is called, and what is said of it.
pub(super) fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let of_path = |(path, item)| {
        let methods: &serde_json::Map<String, Value> = Value::as_object(item).expect("methods");
        methods.iter().map(move |(method, said)| (format!("{method} {path}"), said))
    };
    paths.flat_map(of_path).collect()
}

/// Every path that the router knows: axum tells them where it is debugged only.
fn routed() -> BTreeSet<String> {
    let router = format!("{:?}", Router::from(guarded()).merge(Router::from(open())));
    let texts = router.split('"').filter(|text| text.starts_with("/api/"));
    texts.map(str::to_owned).collect()
}

#[test]
fn every_path_that_is_routed_is_documented_and_no_other() {
    let document = document();
    let documented: BTreeSet<_> = documented(&document).into_keys().map(str::to_owned).collect();
    assert!(documented.len() > 30, "{documented:?}");
    assert_eq!(routed(), documented);
}

#[tokio::test]
async fn every_path_knows_the_methods_that_are_documented_and_no_other() {
    let api = TestApi::new().await;
    for (path, methods) in documented(&document()) {
        let filled = path.replace("{status}", "active").replace(['{', '}'], "");
        let reply = api.call(&format!("TRACE {filled}")).send().await;
        let reply = reply.refused(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
        let allowed: BTreeSet<_> = reply.header("allow").split(',').map(|m| m.trim().to_owned()).collect();
        let mut documented = methods;
        if documented.contains("GET") {
            // As HTTP has it wherever there is a GET.
            documented.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, documented, "{path}");
    }
}

#[tokio::test]
async fn the_document_is_shown_to_everybody_and_everything_else_wants_a_credential() {
    let api = TestApi::new().await;
    let shown = api.anonymous("GET /api/openapi.json").send().await.expect(StatusCode::OK);
    assert_eq!(shown.body, document());
    assert_eq!(shown.body["openapi"], "3.1.0");
    for (name, said) in operations(&shown.body) {
        let is_open = said["security"] == serde_json::json!([]);
        assert_eq!(is_open, OPEN.contains(&name.as_str()), "{name}");
        let may_be_unknown = said["responses"].get("401").is_some();
        assert_eq!(may_be_unknown, !is_open || ASKS.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn whatever_the_document_refers_to_is_in_it_and_every_operation_has_a_name_of_its_own() {
    let document = document();
    let text = document.to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let operations = operations(&document);
    let names: BTreeSet<_> = operations.iter().map(|(_, said)| said["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len());
}

#[test]
fn every_operation_says_what_it_does_takes_and_answers() {
    for (name, said) in operations(&document()) {
        assert!(said["summary"].as_str().is_some_and(|summary| summary.ends_with('.')), "{name}");
        let answers = said["responses"].as_object().expect("answers");
        let good: Vec<_> = answers.iter().filter(|(status, _)| status.starts_with(['2', '3'])).collect();
        assert!(!good.is_empty(), "{name} succeeds in no way");
        for (status, answer) in good {
            assert_eq!(
                answer["content"].is_object(),
                !["204", "303"].contains(&status.as_str()),
                "{name} {status}"
            );
        }
        for parameter in said["parameters"].as_array().into_iter().flatten() {
            let is_described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(parameter["schema"].is_object() && is_described, "{name} {parameter}");
        }
    }
}
