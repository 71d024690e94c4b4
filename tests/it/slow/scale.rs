//! The control plane over ten thousand tenants: what it asks Postgres finds its rows by an index, and answers in time.
//!
//! Postgres itself counts how often each table was read from end to end, whatever the statements are. For figures at
//! any size: `SCALE_ROWS=10000000 tests/run -- cargo test --release --test it slow::scale -- --nocapture`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::store::set_up_and_migrated;
use crate::support::{RawClient, StubUpstream, TestGateway, charging_all, psql, psql_file, until};

const TENANTS: u64 = 10_000;
/// Enough that no planner reads them all for one tenant's.
const ROWS: u64 = 200_000;
/// Requests of each kind, each for another tenant or, every other time, for the one that has most.
const ASKED: u64 = 100;

/// What reads a whole chain, or all books, because that is what it is for.
const WHOLE: [&str; 3] = ["/audit-logs/verify", "/api/reconcile", "/api/openapi.json"];

#[test]
fn no_list_reads_a_whole_table_of_tenants() {
    let (postgres, store) = set_up_and_migrated();
    let rows = std::env::var("SCALE_ROWS").map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let superuser = postgres.url("postgres", "tollgate");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/slow/scale.sql");
    let filling = Instant::now();
    psql_file(&superuser, &script, &[("tenants", TENANTS), ("rows", rows)]);
    psql(&superuser, "VACUUM ANALYZE");
    println!("{TENANTS} tenants and {rows} rows of usage are filled in: {:?}", filling.elapsed());

    let upstream = StubUpstream::start();
    // Whoever is to be told of alerts is looked for among all tenants: not while the API's scans are counted.
    let quiet = format!("{}[alerts]\ninterval = \"1h\"\n", charging_all(&upstream));
    let mut gateway = TestGateway::start_in(&store, &quiet);
    // Billing looks at all tenants once when it begins.
    until("billing has looked", || {
        (gateway.metric("tollgate_billing_timestamp_seconds", "") > 0.0).then_some(())
    });
    let before = scans(&superuser);
    for line in lines(&gateway) {
        let took = timed(&gateway, &line);
        let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
        println!("{:>9.1?} {:>9.1?}  {line}", at(50), at(99));
    }
    // What a connection did is told at its end.
    gateway.terminate();
    let after = scans(&superuser);
    assert_eq!(after, before, "tables that were read from end to end, and how often");
}

/// Every list and every view of the API, plain, filtered, and from the middle on.
fn lines(gateway: &TestGateway) -> Vec<String> {
    let (_, document) = gateway.api("GET /api/openapi.json", None);
    let paths = document["paths"].as_object().expect("paths").iter();
    let read = paths
        .filter(|(path, item)| item["get"].is_object() && !WHOLE.iter().any(|whole| path.ends_with(whole)));
    // Resources don't add up: one has to be named.
    let said = |path: &String| match path.ends_with("/analytics") {
        true => format!("{path}?resource_type=api_calls"),
        false => path.replace("{setting}", "custom.note"),
    };
    let mut lines: Vec<_> = read.map(|(path, _)| said(path)).collect();
    // The local administrator has no tenant of its own; and what else has an id is not filled in.
    let is_filled = |path: &String| !path.replace("{tenant}", "").replace("{key}", "").contains('{');
    lines.retain(|path| {
        path != "/api/tenants/current" && !path.starts_with("/api/sessions") && is_filled(path)
    });
    for variant in [
        "/api/tenants?sort=name&limit=1000",
        "/api/tenants?sort=-slug",
        "/api/tenants?status=suspended&tier=pro",
        "/api/tenants?offset=5000",
        "/api/tenants?health=critical",
        "/api/tenants?sort=-health",
        "/api/tenants?glance=day&limit=20",
        "/api/tenants?glance=month&sort=-health&limit=20",
        "/api/tenants?q=tenant-42",
        "/api/tenants?q=ILLING-4242@",
        "/api/tenants/{tenant}/usage-logs?resource_type=api_calls&limit=1000",
        "/api/tenants/{tenant}/usage-logs?offset=10000",
        "/api/tenants/{tenant}/audit-logs?action=tenant.change&limit=1000",
    ] {
        lines.push(variant.to_owned());
    }
    lines
}

/// How long each answer took, the quickest first.
fn timed(gateway: &TestGateway, line: &str) -> Vec<Duration> {
    let mut client = RawClient::connect(gateway.admin());
    let token = format!("authorization: Bearer {}", gateway.token());
    let mut took = Vec::new();
    for asked in 0..ASKED {
        let number = if asked % 2 == 0 { 1 } else { 1 + asked * 97 % TENANTS };
        let id = |kind: &str| format!("019a{kind}-0000-7000-8000-{number:012x}");
        let path = line.replace("{tenant}", &id("0001")).replace("{key}", &id("0002"));
        let sent = Instant::now();
        let answer = client.request(&[&format!("GET {path} HTTP/1.1"), "host: admin", &token], b"");
        took.push(sent.elapsed());
        // Some have no subscription, and so no invoice in the making; or no spend cap.
        let has_none = (answer.status == 409 && path.ends_with("/invoices/draft"))
            || (answer.status == 404 && path.ends_with("/spend-cap"));
        assert!(answer.status == 200 || has_none, "{path}: {}", answer.text());
    }
    took.sort();
    took
}

/// The tables that hold more than a few rows, and how often each was read from end to end.
fn scans(superuser: &str) -> Value {
    psql(superuser, "SELECT pg_stat_force_next_flush()");
    let counts = psql(
        superuser,
        "SELECT jsonb_object_agg(relname, seq_scan) FROM pg_stat_user_tables WHERE n_live_tup > 1000",
    );
    serde_json::from_str(&counts).expect("an object")
}
