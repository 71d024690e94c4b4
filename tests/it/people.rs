//! People who administrate a running gateway: invited by the command line, logged in as a browser is.

use serde_json::{Value, json};

use crate::support::{RawClient, Response, StubUpstream, TestGateway};

const PASSWORD: &str = "correct horse battery";

/// One request to the admin address, with these header lines.
fn ask(gateway: &TestGateway, line: &str, headers: &[&str], body: Option<&Value>) -> Response {
    let line = format!("{line} HTTP/1.1");
    let mut head = vec![line.as_str(), "host: admin.test", "connection: close"];
    head.extend(headers);
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head.push("content-type: application/json");
    }
    RawClient::connect(gateway.admin()).request(&head, body.as_bytes())
}

#[test]
fn somebody_who_was_invited_logs_in_and_makes_a_key_that_works_and_the_process_tells_nobody_a_secret() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    gateway.customer("Acme", "free");
    let invited = gateway.json(&["member", "invite", "acme", "ann@example.com", "--role", "developer"]);
    let accept = json!({ "token": invited["token"], "password": PASSWORD });
    assert_eq!(ask(&gateway, "POST /api/invitations/accept", &[], Some(&accept)).status, 201);
    let wrong = json!({ "email": "ann@example.com", "password": "a wrong guess" });
    assert_eq!(ask(&gateway, "POST /api/sessions", &[], Some(&wrong)).status, 401);

    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let session = ask(&gateway, "POST /api/sessions", &[], Some(&right));
    assert_eq!(session.status, 201, "{}", session.text());
    let token =
        session.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
    let cookie = format!("cookie: {token}");
    let csrf = format!("x-csrf-token: {}", session.json()["csrf_token"].as_str().expect("a token"));

    let new = json!({ "name": "ci" });
    let forged = ask(&gateway, "POST /api/tenants/acme/keys", &[&cookie], Some(&new));
    assert_eq!(forged.problem().as_deref(), Some("/problems/csrf-token"));
    let made = ask(&gateway, "POST /api/tenants/acme/keys", &[&cookie, &csrf], Some(&new));
    let key = made.json()["key"].as_str().expect("the key's text").to_owned();
    assert_eq!(gateway.client().get("/", &key).status, 200);

    let audit = gateway.json(&["audit", "list", "acme", "--actor-kind", "user"]);
    let did: Vec<_> =
        audit["items"].as_array().expect("rows").iter().map(|row| row["action"].as_str()).collect();
    let expected = ["key.create", "session.create", "session.create", "member.join"];
    assert_eq!(did, expected.map(Some), "{audit:#}");
    assert_eq!(audit["items"][0]["actor"]["ip"], "127.0.0.1");
    for (outcome, count) in [("done", 1.0), ("refused", 1.0), ("throttled", 0.0)] {
        assert_eq!(gateway.metric("tollgate_logins_total", outcome), count, "{outcome}");
    }

    let members = gateway.json(&["member", "list", "acme"]);
    let id = members["items"][0]["user_id"].as_str().expect("an id").to_owned();
    assert!(gateway.tollgate(&["member", "remove", "acme", &id]).status.success());
    let gone = ask(&gateway, "GET /api/tenants/acme", &[&cookie], None);
    assert_eq!(gone.status, 404, "{}", gone.text());
    let (_, session) = token.split_once('=').expect("a name and a value");
    for secret in [PASSWORD, session, invited["token"].as_str().expect("a token"), &key] {
        assert!(!gateway.log().contains(secret), "a secret stands in the log");
        assert!(!audit.to_string().contains(secret), "a secret stands in the audit log");
    }
}
