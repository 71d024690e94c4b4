//! The console over ten thousand tenants: how long its list of them takes to be made, whatever is asked of it.
//!
//! What is held here is generous, for a build that is not optimized on a machine that has other work; the figures are
//! printed: `tests/run -- cargo test --release --test it slow::console -- --nocapture`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::store::set_up_and_migrated;
use crate::support::{RawClient, StubUpstream, TestGateway, charging_all, psql, psql_file};

const TENANTS: u64 = 10_000;
const ROWS: u64 = 200_000;
const ASKED: usize = 200;
const PATIENCE: Duration = Duration::from_millis(200);

const PAGES: [&str; 6] = [
    "/console/tenants",
    "/console/tenants?span=month",
    "/console/tenants?health=critical",
    "/console/tenants?health=healthy&sort=name",
    "/console/tenants?sort=-health",
    "/console/tenants?q=tenant+42",
];

#[test]
fn a_page_of_ten_thousand_tenants_is_made_in_time() {
    let (postgres, store) = set_up_and_migrated();
    let superuser = postgres.url("postgres", "tollgate");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/slow/scale.sql");
    psql_file(&superuser, &script, &[("tenants", TENANTS), ("rows", ROWS)]);
    psql(&superuser, "VACUUM ANALYZE");
    let upstream = StubUpstream::start();
    let quiet = format!("{}[alerts]\ninterval = \"1h\"\n", charging_all(&upstream));
    let gateway = TestGateway::start_in(&store, &quiet);
    let made = gateway.json(&["user", "create", "owner@example.com", "--role", "platform_owner"]);
    let token = made["token"].as_str().expect("a token that sets a password");
    let mut client = RawClient::connect(gateway.admin());
    let kind = "content-type: application/x-www-form-urlencoded";
    let mut sends = |address: &str, form: &str| {
        let line = format!("POST {address} HTTP/1.1");
        let answer = client.request(&[&line, "host: admin", kind], form.as_bytes());
        assert_eq!(answer.status, 303, "{}", answer.text());
        answer
    };
    let password = "password=correct+horse+battery";
    sends("/console/set-password", &format!("token={token}&{password}"));
    let entered = sends("/console/log-in", &format!("email=owner%40example.com&{password}"));
    let session = entered.header("set-cookie").and_then(|line| line.split(';').next()).expect("a session");
    let cookie = format!("cookie: {session}");
    for page in PAGES {
        let mut took: Vec<_> = (0..ASKED).map(|_| timed(&mut client, page, &cookie)).collect();
        took.sort();
        let at = |share: usize| took[took.len() * share / 100];
        println!("{:>9.1?} {:>9.1?}  {page}", at(50), at(99));
        assert!(at(50) < PATIENCE, "{page}: {:?}", at(50));
    }
}

fn timed(client: &mut RawClient, page: &str, cookie: &str) -> Duration {
    let sent = Instant::now();
    let answer = client.request(&[&format!("GET {page} HTTP/1.1"), "host: admin", cookie], b"");
    let took = sent.elapsed();
    assert_eq!(answer.status, 200, "{page}: {}", answer.text());
    assert!(answer.text().contains("/console/tenants/tenant-"), "{page}");
    took
}
