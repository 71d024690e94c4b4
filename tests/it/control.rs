//! The control plane of running gateways.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::store::set_up_and_migrated;
use crate::support::{Customer, Fleet, StubUpstream, TestGateway, until};

fn increment(gateway: &TestGateway, customer: &Customer, body: &Value) -> (u16, Value) {
    gateway.api(&format!("POST /api/tenants/{}/usage/increment", customer.slug), Some(body))
}

fn quotas(gateway: &TestGateway, customer: &Customer, what: &str, body: &Value) -> (u16, Value) {
    gateway.api(&format!("POST /api/tenants/{}/quotas/{what}", customer.slug), Some(body))
}

fn used(gateway: &TestGateway, customer: &Customer, resource: &str) -> u64 {
    let (status, quotas) = gateway.api(&format!("GET /api/tenants/{}/quotas", customer.slug), None);
    assert_eq!(status, 200, "{quotas}");
    let quotas = quotas["quotas"].as_array().expect("quotas");
    let quota = quotas.iter().find(|quota| quota["resource_type"] == resource);
    quota.unwrap_or_else(|| panic!("no {resource}: {quotas:?}"))["used"].as_u64().expect("a number")
}

fn books_are_balanced(gateway: &TestGateway) {
    let books = gateway.json(&["reconcile"]);
    assert_eq!(books["difference"], 0, "{books:#}");
}

#[test]
fn reported_usage_and_requests_share_one_limit_to_the_unit() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 5);
    let key = format!("x-api-key: {}", customer.key);
    assert_eq!(gateway.client().request(&["GET / HTTP/1.1", "host: a", &key], b"").status, 200);
    let body = json!({ "resource_type": "api_calls", "amount": 3, "description": "nightly import" });
    let (status, counted) = increment(&gateway, &customer, &body);
    assert_eq!((status, &counted["used"], &counted["remaining"]), (200, &json!(4), &json!(1)), "{counted}");
    let (status, refused) =
        increment(&gateway, &customer, &json!({ "resource_type": "api_calls", "amount": 2 }));
    assert_eq!((status, &refused["type"]), (429, &json!("/problems/quota-exceeded")), "{refused}");
    assert_eq!(
        (&refused["limit"], &refused["used"], &refused["requested"]),
        (&json!(5), &json!(4), &json!(2))
    );
    assert!(refused["resets_at"].is_string(), "{refused}");
    assert_eq!(used(&gateway, &customer, "api_calls"), 4);
    assert_eq!(gateway.client().request(&["GET / HTTP/1.1", "host: a", &key], b"").status, 200);
    assert_eq!(gateway.client().request(&["GET / HTTP/1.1", "host: a", &key], b"").status, 429);
    let row = until("the reported row", || {
        gateway.usage_rows(&customer).into_iter().find(|row| row["outcome"] == "reported")
    });
    assert_eq!((&row["usage_amount"], &row["description"]), (&json!(3), &json!("nightly import")), "{row}");
    books_are_balanced(&gateway);
}

#[test]
fn an_event_counts_once_and_its_replay_is_told_the_same() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    let event = json!({ "resource_type": "api_calls", "amount": 4, "event_id": "import-7" });
    let (_, first) = increment(&gateway, &customer, &event);
    assert_eq!((&first["duplicate"], &first["used"]), (&json!(false), &json!(4)), "{first}");
    gateway.kill9();
    gateway.restart();
    let (status, again) = increment(&gateway, &customer, &event);
    assert_eq!((status, &again["duplicate"], &again["used"]), (200, &json!(true), &json!(4)), "{again}");
    assert_eq!(used(&gateway, &customer, "api_calls"), 4);
    let other = json!({ "resource_type": "api_calls", "amount": 5, "event_id": "import-7" });
    assert_eq!(increment(&gateway, &customer, &other).0, 409);
    let old = json!({ "resource_type": "api_calls", "occurred_at": "2020-01-01T00:00:00Z" });
    let (status, refused) = increment(&gateway, &customer, &old);
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("occurred_at")), "{refused}");
    books_are_balanced(&gateway);
}

#[test]
fn each_event_of_a_batch_is_counted_or_told_why_not() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    let batch = json!({ "events": [
        { "resource_type": "api_calls", "amount": 6, "event_id": "a" },
        { "resource_type": "api_calls", "amount": 6, "event_id": "b" },
        { "resource_type": "api_calls", "amount": 4, "event_id": "c" },
        { "resource_type": "api_calls", "amount": 4, "event_id": "c" },
        { "resource_type": "api_calls", "amount": -1 },
        { "resource_type": "nonsense" },
        { "resource_type": "users", "amount": 2 },
    ]});
    let line = format!("POST /api/tenants/{}/usage/increment/batch", customer.slug);
    let (status, answer) = gateway.api(&line, Some(&batch));
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 429, 200, 409, 422, 422, 200], "{answer:#}");
    assert_eq!((&answer["counted"], &answer["refused"]), (&json!(3), &json!(4)));
    assert_eq!((used(&gateway, &customer, "api_calls"), used(&gateway, &customer, "users")), (10, 2));
    books_are_balanced(&gateway);
}

#[test]
fn a_gauge_is_held_until_it_is_given_back_and_never_below_nothing() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer("Acme", "free");
    let users =
        |amount: i64| increment(&gateway, &customer, &json!({ "resource_type": "users", "amount": amount }));
    assert_eq!(users(5).0, 200);
    let (status, refused) = users(1);
    assert_eq!((status, &refused["resets_at"]), (429, &Value::Null), "{refused}");
    let (_, given_back) = users(-2);
    assert_eq!((&given_back["used"], &given_back["remaining"]), (&json!(3), &json!(2)), "{given_back}");
    let (status, refused) = users(-4);
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("amount")), "{refused}");
    assert_eq!(used(&gateway, &customer, "users"), 3);
}

#[test]
fn a_reservation_is_committed_in_part_released_or_ends_by_itself() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    let reserve = |gateway: &TestGateway, amount: u64, seconds: u64| {
        let body = json!({ "resource_type": "api_calls", "amount": amount, "ttl_seconds": seconds });
        quotas(gateway, &customer, "reserve", &body)
    };
    let (status, first) = reserve(&gateway, 8, 60);
    assert_eq!((status, &first["remaining"]), (201, &json!(2)), "{first}");
    assert_eq!(reserve(&gateway, 3, 60).0, 429);
    books_are_balanced(&gateway);
    let ended = |what: &str, body: Value| quotas(&gateway, &customer, what, &body);
    let id = &first["reservation_id"];
    assert_eq!(ended("commit", json!({ "reservation_id": id, "amount": 9 })).0, 422);
    let (_, committed) = ended("commit", json!({ "reservation_id": id, "amount": 5 }));
    assert_eq!(committed["used"], 5, "{committed}");
    assert_eq!(ended("commit", json!({ "reservation_id": id })).0, 404);
    let (_, second) = reserve(&gateway, 5, 60);
    let (_, released) = ended("release", json!({ "reservation_id": second["reservation_id"] }));
    assert_eq!(released["used"], 5, "{released}");
    assert_eq!(reserve(&gateway, 5, 1).0, 201);
    until("the end of the reservation", || (used(&gateway, &customer, "api_calls") == 5).then_some(()));
    assert_eq!(reserve(&gateway, 5, 60).0, 201);
    gateway.kill9();
    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 5, "a reservation ends with its gateway");
    books_are_balanced(&gateway);
}

#[test]
fn a_reservation_is_not_another_tenants_to_end() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let (acme, other) = (gateway.customer_with_limit("Acme", 10), gateway.customer_with_limit("Other", 10));
    let body = json!({ "resource_type": "api_calls", "amount": 4 });
    let (_, reserved) = quotas(&gateway, &acme, "reserve", &body);
    let reserved = json!({ "reservation_id": reserved["reservation_id"] });
    for what in ["commit", "release"] {
        let (status, refused) = quotas(&gateway, &other, what, &reserved);
        assert_eq!((status, &refused["type"]), (404, &json!("/problems/not-found")), "{refused}");
    }
    assert_eq!((used(&gateway, &acme, "api_calls"), used(&gateway, &other, "api_calls")), (4, 0));
    assert_eq!(quotas(&gateway, &acme, "commit", &reserved).0, 200);
}

#[test]
fn a_refusal_says_where_more_can_be_bought() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let reseller = gateway.customer("Reseller", "msp");
    let customer = gateway.customer_with_limit("Acme", 1);
    let child = gateway.json(&["tenant", "create", "Child", "--tier", "free", "--parent", &reseller.slug]);
    let child = Customer { slug: child["slug"].as_str().expect("a slug").to_owned(), ..customer.clone() };
    let shop = |customer: &Customer, url: &str| {
        gateway.json(&["settings", "set", &customer.slug, "upgrade_url", url]);
    };
    let refused = |customer: &Customer, what: &str| {
        let body = json!({ "resource_type": "api_calls", "amount": 100_000_000 });
        let (status, refused) = match what {
            "increment" => increment(&gateway, customer, &body),
            other => quotas(&gateway, customer, other, &body),
        };
        assert_eq!(status, 429, "{refused}");
        refused["upgrade_url"].clone()
    };
    assert_eq!(refused(&customer, "increment"), Value::Null);
    shop(&customer, "https://acme.example/buy");
    shop(&reseller, "https://reseller.example/buy");
    for what in ["increment", "reserve"] {
        assert_eq!(refused(&customer, what), "https://acme.example/buy");
        assert_eq!(refused(&child, what), "https://reseller.example/buy", "as its reseller says");
    }
    let batch = json!({ "events": [{ "resource_type": "users", "amount": 1_000_000 }] });
    let line = format!("POST /api/tenants/{}/usage/increment/batch", customer.slug);
    let (_, answer) = gateway.api(&line, Some(&batch));
    assert_eq!(answer["results"][0]["upgrade_url"], "https://acme.example/buy", "{answer}");
}

/// As the contract has them, by the program that everybody has.
#[test]
fn the_bodies_of_the_contract_are_taken_from_curl_with_and_without_the_slash() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let create = r#"{"organization_name": "Acme", "tenant_tier": "pro", "billing_email": "billing@acme.example",
        "contact_phone": "+41 44 668 18 00", "timezone": "Europe/Zurich", "locale": "de-CH"}"#;
    let units = r#"{"resource_type": "api_calls", "amount": 2}"#;
    let counted =
        r#"{"resource_type": "api_calls", "amount": 2, "description": "nightly", "event_id": "n-1"}"#;
    let batch = r#"{"events": [{"resource_type": "api_calls", "amount": 1, "description": "nightly"}]}"#;
    for (method, path, body, expected) in [
        ("POST", "tenants/", create, "201"),
        ("GET", "tenants/?status=active&tier=pro&q=acme&sort=name&limit=10", "", "200"),
        ("GET", "tenants/metrics", "", "200"),
        ("GET", "tenants/acme/", "", "200"),
        ("PUT", "tenants/acme", r#"{"organization_name": "Acme Ltd"}"#, "200"),
        ("PATCH", "tenants/acme/", r#"{"contact_phone": null}"#, "200"),
        ("GET", "tenants/acme/quotas", "", "200"),
        ("PUT", "tenants/acme/quotas/api_calls", r#"{"limit": 100, "reason": "trial"}"#, "200"),
        ("POST", "tenants/acme/quotas/check", units, "200"),
        ("POST", "tenants/acme/quotas/reserve", units, "201"),
        ("POST", "tenants/acme/usage/increment", counted, "200"),
        ("POST", "tenants/acme/usage/increment/", counted, "200"),
        ("POST", "tenants/acme/usage/increment/batch", batch, "200"),
        ("GET", "tenants/acme/usage-logs?limit=10&offset=0", "", "200"),
        ("GET", "tenants/acme/health", "", "200"),
        ("PUT", "tenants/acme/settings/custom.crm", r#"{"setting_value": "x", "is_encrypted": true}"#, "200"),
        ("GET", "tenants/acme/settings/custom.crm", "", "200"),
        ("GET", "tenants/acme/settings", "", "200"),
        ("DELETE", "tenants/acme/settings/custom.crm", "", "204"),
        ("GET", "tenants/acme/audit-logs?limit=10&offset=0", "", "200"),
        ("POST", "tenants/acme/keys", r#"{"name": "ci"}"#, "201"),
        ("GET", "tenants/acme/children", "", "200"),
        ("GET", "tiers", "", "200"),
        ("POST", "tenants/acme/status/suspended", r#"{"reason": "unpaid"}"#, "200"),
        ("DELETE", "tenants/acme/", "", "204"),
    ] {
        assert_eq!(curl(&gateway, method, path, body), expected, "{method} {path}");
    }
}

/// The status of the answer.
fn curl(gateway: &TestGateway, method: &str, path: &str, body: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
    curl.args(["-H", &format!("Authorization: Bearer {}", gateway.token())]);
    if !body.is_empty() {
        curl.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    let ran = curl.arg(format!("http://{}/api/{path}", gateway.admin())).output().expect("curl: tests/run");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn a_check_takes_nothing_and_says_that_it_promises_nothing() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    let check = |amount: u64| {
        quotas(&gateway, &customer, "check", &json!({ "resource_type": "api_calls", "amount": amount })).1
    };
    for _ in 0..2 {
        let answer = check(10);
        assert_eq!((&answer["allowed"], &answer["advisory"]), (&json!(true), &json!(true)), "{answer}");
        assert_eq!((&answer["used"], &answer["remaining"]), (&json!(0), &json!(10)), "{answer}");
    }
    assert_eq!(check(11)["allowed"], false);
}

#[test]
fn a_suspended_tenant_reports_nothing() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    gateway.json(&["tenant", "status", &customer.slug, "suspended", "--reason", "unpaid"]);
    let (status, refused) = increment(&gateway, &customer, &json!({ "resource_type": "api_calls" }));
    assert_eq!((status, &refused["type"]), (403, &json!("/problems/tenant-suspended")), "{refused}");
}

#[test]
fn concurrent_increments_over_three_gateways_succeed_exactly_as_often_as_the_limit_says() {
    const LIMIT: usize = 40;
    let (_postgres, store) = set_up_and_migrated();
    let upstream = StubUpstream::start();
    let fleet = Fleet::on("store").storing_in(&store);
    let gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT as u64);
    let (counted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for gateway in gateways.iter().flat_map(|gateway| [gateway; 3]) {
            scope.spawn(|| {
                for _ in 0..10 {
                    let (status, answer) =
                        increment(gateway, &customer, &json!({ "resource_type": "api_calls" }));
                    match status {
                        200 => counted.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {answer}"),
                    };
                }
            });
        }
    });
    assert_eq!((counted.into_inner(), refused.into_inner()), (LIMIT, 90 - LIMIT));
    gateways.iter().for_each(books_are_balanced);
}

#[test]
fn settings_and_the_audit_log_are_managed_from_the_command_line() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer("Acme", "pro");
    let set = gateway.json(&["settings", "set", &customer.slug, "custom.crm_token", "hunter2", "--encrypt"]);
    assert_eq!((&set["setting_value"], &set["is_set"]), (&Value::Null, &json!(true)), "{set}");
    gateway.json(&["settings", "set", &customer.slug, "security_level", "basic"]);
    let refused = gateway.tollgate(&["settings", "set", &customer.slug, "security_level", "enterprise"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    let listed = gateway.tollgate(&["settings", "list", &customer.slug]).stdout;
    assert!(listed.contains("***") && !listed.contains("hunter2"), "{listed}");
    assert!(gateway.tollgate(&["settings", "unset", &customer.slug, "security_level"]).status.success());
    assert_eq!(gateway.json(&["settings", "rotate"])["version"], 1);
    let log = gateway.tollgate(&["audit", "list", &customer.slug, "--action", "setting.set"]).stdout;
    assert_eq!((log.matches("setting.set").count(), log.contains("hunter2")), (2, false), "{log}");
    let whole = gateway.json(&["audit", "verify", &customer.slug]);
    let place = &whole["checkpoint"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let good = format!("{}:{}", text(&place["seq"]), text(&place["hash"]));
    assert_eq!(gateway.json(&["audit", "verify", &customer.slug, "--checkpoint", &good])["verdict"], "whole");
    let other = format!("{}:{}", text(&place["seq"]), "0".repeat(64));
    let broken = gateway.tollgate(&["audit", "verify", &customer.slug, "--checkpoint", &other]);
    assert_eq!(broken.status.code(), Some(1), "{}", broken.stdout);
    let database = std::fs::read(gateway.path("data/tollgate.db")).expect("the database");
    let log = std::fs::read(gateway.path("data/tollgate.db-wal")).unwrap_or_default();
    for bytes in [database, log] {
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "no secret in the files");
    }
}
