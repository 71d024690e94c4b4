//! The journal's policies, seen from outside: answers that wait for the disk, and a journal that is full because nothing
//! leaves it.

use crate::support::{Customer, StubUpstream, Tally, TestGateway, load, until};

/// More than the small journal below has space for.
const MANY: usize = 60_000;

/// Two segments for each of two workers, the smallest that can be configured, and no flush that would empty them.
const SMALL: &str = "segment_bytes = \"1MiB\"\ncapacity_bytes = \"4MiB\"\nflush = \"1h\"";

fn configuration(upstream: &StubUpstream, journal: &str) -> String {
    format!(
        "[journal]\n{journal}\n[[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n",
        upstream.url()
    )
}

fn crowd(gateway: &TestGateway, customer: &Customer, requests: usize) -> Tally {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", customer.key).into_bytes();
    load(gateway.proxy(), 50, requests, |_| request.clone())
}

/// Units in the database, waited for.
fn recorded(gateway: &TestGateway, customer: &Customer, units: u64) {
    until("the rows", || {
        let rows = gateway.usage_rows(customer);
        let sum: u64 = rows.iter().map(|row| row["usage_amount"].as_u64().expect("a number")).sum();
        (sum == units).then_some(())
    });
}

#[test]
fn answers_that_wait_for_the_disk_come_whole_and_outlive_a_kill() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start_with(&configuration(&upstream, "sync = \"always\""));
    let customer = gateway.customer_with_limit("Acme", 100_000);
    assert_eq!(crowd(&gateway, &customer, 2_000).of(200), 2_000);
    gateway.kill9();
    gateway.restart();
    recorded(&gateway, &customer, 2_000);
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
}

#[test]
fn a_full_journal_that_only_counts_loses_no_unit_even_to_a_kill() {
    let upstream = StubUpstream::start();
    let journal = format!("{SMALL}\non_full = \"count_only\"");
    let mut gateway = TestGateway::start_with(&configuration(&upstream, &journal));
    let customer = gateway.customer_with_limit("Acme", 1_000_000);
    assert_eq!(crowd(&gateway, &customer, MANY).of(200), MANY);
    assert!(gateway.metric("tollgate_journal_details_dropped_total", "") > 0.0);
    assert_eq!(gateway.metric("tollgate_journal_pressure", ""), 3.0);
    until("the detail", || gateway.admin_text("/readyz").contains("units are counted").then_some(()));
    let books = gateway.json(&["reconcile"]);
    assert_eq!((&books["difference"], &books["journal_units"]), (&0.into(), &MANY.into()), "{books}");

    gateway.kill9();
    gateway.configure(&configuration(&upstream, "on_full = \"count_only\""));
    gateway.restart();
    recorded(&gateway, &customer, MANY as u64);
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
}

#[test]
fn a_full_journal_that_blocks_refuses_what_it_can_not_record() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start_with(&configuration(&upstream, SMALL));
    let customer = gateway.customer_with_limit("Acme", 1_000_000);
    let tally = crowd(&gateway, &customer, MANY);
    let passed = tally.of(200);
    assert!(tally.of(503) > 0 && passed + tally.of(503) == MANY, "{tally:?}");
    assert_eq!(upstream.count(), passed);
    let books = gateway.json(&["reconcile"]);
    assert_eq!((&books["difference"], &books["till_units"]), (&0.into(), &passed.into()), "{books}");

    gateway.configure(&configuration(&upstream, ""));
    gateway.restart();
    recorded(&gateway, &customer, passed as u64);
    assert_eq!(crowd(&gateway, &customer, 10).of(200), 10, "there is space again");
}
