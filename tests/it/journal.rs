//! The journal's policies, seen from outside: answers that wait for the disk, and a journal that is full because nothing
//! leaves it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Customer, StubUpstream, Tally, TestGateway, load, until};

/// More than the small journal below has space for.
const MANY: usize = 60_000;

/// Two segments for each of two workers and for reports, the smallest that can be configured, and no flush that would
/// empty them.
const SMALL: &str = "segment_bytes = \"1MiB\"\ncapacity_bytes = \"6MiB\"\nflush = \"1h\"";

fn configuration(upstream: &StubUpstream, journal: &str) -> String {
    format!(
        "[journal]\n{journal}\n[[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n",
        upstream.url()
    )
}

fn crowd(gateway: &TestGateway, customer: &Customer, requests: usize) -> Tally {
    let request = customer.request();
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

#[test]
fn a_request_has_a_row_of_its_own_where_detail_is_asked_for() {
    let upstream = StubUpstream::start();
    for detail in ["request", "aggregate"] {
        let gateway = TestGateway::start_with(&configuration(&upstream, &format!("detail = \"{detail}\"")));
        let customer = gateway.customer_with_limit("Acme", 1_000);
        assert_eq!(crowd(&gateway, &customer, 100).of(200), 100);
        recorded(&gateway, &customer, 100);
        let rows = gateway.usage_rows(&customer).len();
        assert_eq!(rows == 100, detail == "request", "{detail}: {rows} rows");
    }
}

#[test]
fn the_journal_can_be_looked_into_beside_a_gateway_and_without_one() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start_with(&configuration(&upstream, "flush = \"1h\""));
    let customer = gateway.customer_with_limit("Acme", 1_000);
    assert_eq!(crowd(&gateway, &customer, 100).of(200), 100);
    for life in ["beside a gateway", "without one"] {
        let found = gateway.json(&["journal", "inspect"]);
        assert_eq!((&found["pending_records"], &found["faults"]), (&100.into(), &json!([])), "{life}");
        let verified = gateway.json(&["journal", "verify"]);
        assert_eq!((&verified["ok"], &verified["records"]), (&true.into(), &100.into()), "{life}");
        gateway.kill9();
    }
    let inspected = gateway.tollgate(&["journal", "inspect"]).stdout;
    assert!(inspected.contains("100 records wait for the database, the oldest for"), "{inspected}");

    let found = gateway.json(&["journal", "inspect"]);
    let segments =
        found["shards"].as_array().expect("shards").iter().flat_map(|shard| shard["segments"].as_array());
    let used = segments.flatten().find(|segment| segment["records"] != 0).expect("a segment with records");
    let file = gateway.path(used["file"].as_str().expect("a path"));
    let mut contents = std::fs::read(&file).expect("a segment");
    contents[128 + 50] ^= 4;
    std::fs::write(&file, contents).expect("a segment");
    let run = gateway.tollgate(&["journal", "verify"]);
    assert_eq!(run.status.code(), Some(1), "{}", run.stdout);
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(
        run.stdout.contains("99 records") && run.stdout.contains(&format!("{name}, offset 128,")),
        "{}",
        run.stdout
    );
}

/// A library that is put before the system's and fails to sync while a file says so: what a broken disk does, to a real
/// process on real files.
const BROKEN_DISK: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
int msync(void *address, size_t length, int flags) {
    const char *broken = getenv(\"BROKEN_DISK\");
    if (broken && unlink(broken) == 0) { errno = EIO; return -1; }
    int (*next)(void *, size_t, int) = dlsym(RTLD_NEXT, \"msync\");
    return next(address, length, flags);
}";

#[test]
fn a_disk_that_fails_once_costs_readiness_until_all_is_in_another_file_and_no_record() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start_with(&configuration(&upstream, "flush = \"50ms\""));
    gateway.restart_with(&broken_disk(&gateway));
    let customer = gateway.customer_with_limit("Acme", 100_000);
    for failure in 1..=3 {
        std::fs::write(gateway.path("broken"), "").expect("a file");
        assert_eq!(crowd(&gateway, &customer, 200).of(200), 200);
        until("a file written anew", || {
            let rewritten = gateway.metric("tollgate_journal_rewritten_files_total", "");
            (rewritten >= f64::from(failure)).then_some(())
        });
        until("the journal to be well", || {
            let suspect = gateway.metric("tollgate_journal_suspect_files", "");
            (suspect == 0.0 && gateway.admin_text("/readyz").starts_with("{\"ready\":true")).then_some(())
        });
    }
    recorded(&gateway, &customer, 600);
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    let log = gateway.log();
    assert!(log.contains("Input/output error") && log.contains("the journal is well again"), "{log}");
    assert_eq!(gateway.json(&["journal", "verify"])["ok"], true);
    gateway.kill9();
    gateway.restart();
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
}

/// Built beside the gateway's data by the C compiler that links Rust's programs, too.
fn broken_disk(gateway: &TestGateway) -> Vec<(String, String)> {
    let (source, library) = (gateway.path("broken-disk.c"), gateway.path("broken-disk.so"));
    std::fs::write(&source, BROKEN_DISK).expect("a file");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(built.expect("cc links Rust's programs, too").success());
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    vec![("LD_PRELOAD".to_owned(), text(&library)), ("BROKEN_DISK".to_owned(), text(&gateway.path("broken")))]
}

/// Long, for they move many records, or wait for many failures.
mod slow {
    use super::{configuration, crowd, recorded};
    use crate::store::set_up_and_migrated;
    use crate::support::{PrivatePostgres, Relay, StubUpstream, TestGateway, psql, try_psql, until};

    /// More than a disk of eight mebibytes has space for.
    const MANY: usize = 70_000;

    /// Small segments of a journal that may be larger than the disk, and no flush that would empty them.
    const LARGE: &str = "segment_bytes = \"1MiB\"\nflush = \"1h\"";

    /// The same with a flush, to drain it.
    const SMALL: &str = "segment_bytes = \"1MiB\"";

    /// So many commits have to go wrong.
    const FAILURES: f64 = 8.0;

    #[test]
    fn a_full_disk_refuses_what_can_not_be_recorded_until_there_is_space() {
        let upstream = StubUpstream::start();
        let mut gateway = TestGateway::start_on_small_disk(8, &configuration(&upstream, LARGE));
        let customer = gateway.customer_with_limit("Acme", 1_000_000);
        let tally = crowd(&gateway, &customer, MANY);
        let passed = tally.of(200);
        assert!(tally.of(503) > 0 && passed + tally.of(503) == MANY, "{tally:?}");
        assert_eq!(upstream.count(), passed);
        until("the detail", || gateway.admin_text("/readyz").contains("it is full").then_some(()));
        assert!(gateway.log().contains("No space left on device"), "{}", gateway.log());
        gateway.disk().resize(64);
        until("space", || (gateway.metric("tollgate_journal_pressure", "") == 0.0).then_some(()));
        assert_eq!(crowd(&gateway, &customer, 100).of(200), 100);
        check_all_is_recorded(&mut gateway, &upstream, SMALL, passed + 100);
    }

    #[test]
    fn a_full_disk_loses_no_unit_of_what_is_only_counted() {
        let upstream = StubUpstream::start();
        let count = format!("{LARGE}\non_full = \"count_only\"");
        let mut gateway = TestGateway::start_on_small_disk(8, &configuration(&upstream, &count));
        let customer = gateway.customer_with_limit("Acme", 1_000_000);
        assert_eq!(crowd(&gateway, &customer, MANY).of(200), MANY);
        assert!(gateway.metric("tollgate_journal_details_dropped_total", "") > 0.0);
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
        gateway.kill9();
        gateway.disk().resize(64);
        gateway.restart();
        check_all_is_recorded(&mut gateway, &upstream, SMALL, MANY);
    }

    fn check_all_is_recorded(
        gateway: &mut TestGateway,
        upstream: &StubUpstream,
        journal: &str,
        units: usize,
    ) {
        let books = gateway.json(&["reconcile"]);
        assert_eq!((&books["difference"], &books["till_units"]), (&0.into(), &units.into()), "{books}");
        gateway.configure(&configuration(upstream, journal));
        gateway.restart();
        until("all of it in the database", || {
            let books = gateway.json(&["reconcile"]);
            assert_eq!(books["difference"], 0, "{books}");
            (books["database_units"] == units).then_some(())
        });
        assert_eq!(gateway.json(&["journal", "verify"])["ok"], true);
    }

    #[test]
    fn backends_that_are_terminated_at_their_commits_lose_and_repeat_nothing() {
        let upstream = StubUpstream::start();
        let (postgres, store) = set_up_and_migrated();
        let gateway = TestGateway::start_in(&store, &configuration(&upstream, "flush = \"10ms\""));
        let customer = gateway.customer_with_limit("Acme", 1_000_000);
        let superuser = postgres.url("postgres", "tollgate");
        let mut sent = 0;
        until("terminations that fall into flushes", || {
            sent += crowd(&gateway, &customer, 100).of(200);
            // A refusal is the server's that terminated us with the others.
            let _ = try_psql(
                &superuser,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'tollgate flush' AND pid <> pg_backend_pid()",
            );
            (gateway.metric("tollgate_flush_failures_total", "") >= FAILURES).then_some(())
        });
        check_counted_once(&gateway, &postgres, sent);
    }

    #[test]
    fn a_line_that_swallows_the_answers_to_commits_makes_nothing_count_twice() {
        let upstream = StubUpstream::start();
        let (postgres, _) = set_up_and_migrated();
        let line = Relay::to(postgres.port());
        let store = format!("postgres://tollgate@127.0.0.1:{}/tollgate", line.port());
        let gateway = TestGateway::start_in(&store, &configuration(&upstream, "flush = \"10ms\""));
        let customer = gateway.customer_with_limit("Acme", 1_000_000);
        line.swallow_commits(true);
        let mut sent = 0;
        until("commits that are swallowed", || {
            sent += crowd(&gateway, &customer, 100).of(200);
            let failures = gateway.metric("tollgate_flush_failures_total", "");
            (failures >= FAILURES && line.swallowed() >= 8).then_some(())
        });
        line.swallow_commits(false);
        check_counted_once(&gateway, &postgres, sent);
    }

    fn check_counted_once(gateway: &TestGateway, postgres: &PrivatePostgres, sent: usize) {
        let database = postgres.url("postgres", "tollgate");
        let sums =
            "SELECT (SELECT SUM(units) FROM account_units), (SELECT SUM(requests) FROM tenant_usage_logs),
            (SELECT SUM(records) FROM usage_batches)";
        let expected = format!("{sent}|{sent}|{sent}");
        until("all of it", || (psql(&database, sums) == expected).then_some(()));
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }

    #[test]
    fn books_that_differ_are_told_by_a_metric_and_by_readyz() {
        let upstream = StubUpstream::start();
        let (postgres, store) = set_up_and_migrated();
        let gateway = TestGateway::start_in(&store, &configuration(&upstream, "flush = \"10ms\""));
        let customer = gateway.customer_with_limit("Acme", 1_000);
        assert_eq!(crowd(&gateway, &customer, 10).of(200), 10);
        recorded(&gateway, &customer, 10);
        let metric = |name: &str| gateway.metric(name, "");
        until("a comparison", || (metric("tollgate_reconcile_accounts") == 1.0).then_some(()));
        assert_eq!(metric("tollgate_reconcile_difference_units"), 0.0);
        let compared_at = metric("tollgate_reconcile_timestamp_seconds");

        let database = postgres.url("postgres", "tollgate");
        psql(&database, "UPDATE account_units SET units = units - 3");
        until("the difference", || (metric("tollgate_reconcile_difference_units") == 3.0).then_some(()));
        assert!(metric("tollgate_reconcile_timestamp_seconds") > compared_at);
        let told = gateway.admin_text("/readyz");
        assert!(
            told.starts_with("{\"ready\":true") && told.contains("differ by 3 units in 1 of 1 accounts"),
            "{told}"
        );
        psql(&database, "UPDATE account_units SET units = units + 3");
        until("an end of it", || (metric("tollgate_reconcile_difference_units") == 0.0).then_some(()));
        assert!(!gateway.admin_text("/readyz").contains("differ"));
    }
}
