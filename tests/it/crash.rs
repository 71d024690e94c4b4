//! Real processes, killed with `kill -9` under load; then the books are compared: what the upstream saw, what the till
//! says, what the database holds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Customer, StubUpstream, TestGateway, load_while, until};

const KILLS: u64 = 10;
const LIMIT: u64 = 6_000;
const CONNECTIONS: usize = 8;

/// What clients were told, over all lives of the gateway.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    denied: AtomicU64,
}

#[test]
fn killed_ten_times_under_load_the_books_balance_and_the_limit_is_exact() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", LIMIT);
    let told = Told::default();
    for life in 1..=KILLS {
        let enough = told.passed.load(Ordering::Relaxed) + LIMIT / (KILLS + 2);
        under_load(gateway.proxy(), &customer, &told, || {
            until("requests to pass", || (told.passed.load(Ordering::Relaxed) >= enough).then_some(()));
            gateway.kill9();
        });
        gateway.restart();
        let books = gateway.json(&["reconcile"]);
        assert_eq!(books["difference"], 0, "life {life}: {books}");
    }
    under_load(gateway.proxy(), &customer, &told, || {
        until("the limit", || (told.denied.load(Ordering::Relaxed) > 0).then_some(()));
    });

    assert_eq!(used(&gateway, &customer), LIMIT, "the till");
    let books = gateway.json(&["reconcile"]);
    assert_eq!((&books["difference"], &books["till_units"]), (&0.into(), &LIMIT.into()), "{books}");
    assert!(gateway.terminate().success());
    gateway.restart();
    let (units, requests) = recorded(&gateway, &customer);
    assert_eq!((units, requests), (LIMIT, LIMIT), "the database");
    let (seen, passed) = (upstream.count() as u64, told.passed.load(Ordering::Relaxed));
    println!(
        "{KILLS} kills: till and database {LIMIT}, the upstream saw {seen}, clients were answered {passed}"
    );
    // A kill between the mark that a request leaves and the system call by which it leaves counts one too many: a few
    // instructions on each worker. Never one too few.
    assert!(seen <= LIMIT && LIMIT - seen <= KILLS, "the upstream saw {seen} of {LIMIT}");
    assert!(passed <= seen, "clients were answered {passed} times, the upstream saw {seen}");
}

#[test]
fn the_usage_log_is_complete_after_a_kill_and_a_restart() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 1_000);
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", &customer.key).status, 200);
    }
    gateway.kill9();
    gateway.restart();
    until("the rows", || (recorded(&gateway, &customer) == (100, 100)).then_some(()));
    assert_eq!(used(&gateway, &customer), 100);
}

/// Keeps requests coming while `meanwhile` runs, which may end the gateway under them.
fn under_load(proxy: SocketAddr, customer: &Customer, told: &Told, meanwhile: impl FnOnce()) {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", customer.key);
    let count = |status| match status {
        200 => drop(told.passed.fetch_add(1, Ordering::Relaxed)),
        429 => drop(told.denied.fetch_add(1, Ordering::Relaxed)),
        _ => {}
    };
    load_while(&[proxy], CONNECTIONS, request.as_bytes(), count, meanwhile);
}

fn used(gateway: &TestGateway, customer: &Customer) -> u64 {
    let usage = gateway.json(&["usage", &customer.slug]);
    let quotas = usage["quotas"].as_array().expect("quotas");
    let calls = quotas.iter().find(|quota| quota["resource_type"] == "api_calls").expect("api_calls");
    calls["used"].as_u64().expect("a number")
}

/// Units and requests in the usage log.
fn recorded(gateway: &TestGateway, customer: &Customer) -> (u64, u64) {
    let rows = gateway.usage_rows(customer);
    let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().expect("a number")).sum();
    (sum("usage_amount"), sum("requests"))
}

#[test]
fn reconcile_without_a_gateway_says_that_it_needs_one() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    assert!(gateway.terminate().success());
    let run = gateway.tollgate(&["reconcile"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("running gateway"), "{}", run.stderr);
}
