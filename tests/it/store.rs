//! A gateway whose store is a Postgres: set up as an operator would, and with the server killed under it.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    PrivatePostgres, Run, StubUpstream, TestGateway, psql, shared_postgres, tollgate, until,
};

/// A server with a database and a role that serves, as the README says.
pub(crate) fn set_up() -> PrivatePostgres {
    let postgres = PrivatePostgres::start();
    let superuser = postgres.url("postgres", "postgres");
    psql(&superuser, "CREATE ROLE tollgate LOGIN NOINHERIT");
    psql(&superuser, "CREATE ROLE administrator LOGIN CREATEROLE");
    psql(&superuser, "CREATE DATABASE tollgate OWNER administrator");
    postgres
}

/// The same, ready to serve, and the URL to serve from.
pub(crate) fn set_up_and_migrated() -> (PrivatePostgres, String) {
    let postgres = set_up();
    let store = postgres.url("tollgate", "tollgate");
    let run = migrate(&store, &postgres.url("administrator", "tollgate"));
    assert!(run.status.success(), "{}", run.stderr);
    (postgres, store)
}

/// A directory with a configuration of that store.
fn configured(store: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let configuration = format!(
        "listen = {{ proxy = \"127.0.0.1:0\", admin = \"127.0.0.1:0\" }}\n\
         data.directory = \"data\"\nstore.url = \"{store}\"\n"
    );
    std::fs::write(directory.path().join("tollgate.toml"), configuration).expect("a file of ours");
    directory
}

fn migrate(store: &str, owner: &str) -> Run {
    tollgate(configured(store).path(), ["migrate", "--url", owner])
}

#[track_caller]
fn check_refused(run: &Run, expected: &str) {
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(expected), "{expected:?} is not in: {}", run.stderr);
}

#[test]
fn a_database_is_served_once_its_owner_has_migrated_it() {
    let (postgres, upstream) = (set_up(), StubUpstream::start());
    let (store, owner) = (postgres.url("tollgate", "tollgate"), postgres.url("administrator", "tollgate"));
    check_refused(
        &tollgate(configured(&store).path(), ["serve"]),
        "the database lacks migration 1 (0001_control_plane): run `tollgate migrate`",
    );
    for _ in 0..2 {
        let run = migrate(&store, &owner);
        assert!(run.status.success(), "{}", run.stderr);
    }
    let gateway = TestGateway::start_on(&store, &upstream);
    let customer = gateway.customer_with_limit("Acme", 20);
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..25).map(|_| client.get("/", &customer.key).status).collect();
    assert_eq!(statuses, [[200; 20].as_slice(), &[429; 5]].concat());
    let partition = "SET ROLE tollgate_platform;
        SELECT tableoid::regclass, SUM(usage_amount) FROM tenant_usage_logs GROUP BY 1";
    let partition = until("the usage", || Some(psql(&store, partition)).filter(|rows| rows.ends_with("|20")));
    assert!(partition.starts_with("tenant_usage_logs_30_20"), "{partition}");
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    check_refused(
        &tollgate(configured(&owner).path(), ["serve"]),
        "the role administrator owns account_units",
    );
}

#[test]
fn a_superuser_does_not_serve() {
    let server = shared_postgres();
    check_refused(&tollgate(configured(&server).path(), ["serve"]), "run `tollgate migrate`");
    let postgres = set_up();
    let (store, superuser) = (postgres.url("tollgate", "tollgate"), postgres.url("postgres", "tollgate"));
    let run = migrate(&store, &superuser);
    assert!(run.status.success(), "{}", run.stderr);
    check_refused(&tollgate(configured(&superuser).path(), ["serve"]), "the role postgres is a superuser");
}

#[test]
fn what_cant_be_migrated_is_said_without_the_password() {
    let postgres = set_up();
    let store = postgres.url("tollgate", "tollgate");
    let run = migrate(&store, "env:TOLLGATE_OWNER_URL");
    check_refused(&run, "--url can't be used: the environment variable `TOLLGATE_OWNER_URL` is not set");
    let run = migrate(&store, "postgres://administrator:hunter2@127.0.0.1:1/tollgate");
    check_refused(&run, "the store can't be migrated");
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    check_refused(&migrate(&store, &store), "permission denied");
}

#[test]
fn while_the_database_is_gone_requests_pass_and_afterwards_it_has_them_all() {
    let (mut postgres, upstream) = (set_up(), StubUpstream::start());
    let store = postgres.url("tollgate", "tollgate");
    assert!(migrate(&store, &postgres.url("administrator", "tollgate")).status.success());
    let mut gateway = TestGateway::start_on(&store, &upstream);
    let customer = gateway.customer_with_limit("Acme", 1_000);
    let mut client = gateway.client();
    for outage in 1..=3_usize {
        assert_eq!(client.get("/", &customer.key).status, 200);
        postgres.kill();
        for _ in 0..30 {
            assert_eq!(client.get("/", &customer.key).status, 200, "outage {outage}");
        }
        postgres.restart();
    }
    let sums = "SET ROLE tollgate_platform;
        SELECT SUM(usage_amount), SUM(requests) FROM tenant_usage_logs";
    until("all of it", || (psql(&store, sums) == "93|93").then_some(()));
    assert_eq!(upstream.count(), 93);
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    assert!(gateway.terminate().success());
}

#[test]
fn a_key_that_one_gateway_revokes_is_refused_by_the_other_before_its_next_look() {
    let (postgres, upstream) = (set_up(), StubUpstream::start());
    let store = postgres.url("tollgate", "tollgate");
    assert!(migrate(&store, &postgres.url("administrator", "tollgate")).status.success());
    let (one, other) = (TestGateway::start_on(&store, &upstream), TestGateway::start_on(&store, &upstream));
    let customer = one.customer_with_limit("Acme", 1_000);
    let mut client = other.client();
    let superuser = postgres.url("postgres", "tollgate");
    let listening = "SELECT COUNT(*) FROM pg_stat_activity WHERE query = 'LISTEN \"tollgate_changed\"'";
    until("both to listen", || (psql(&superuser, listening) == "2").then_some(()));
    assert_eq!(client.get("/", &customer.key).status, 200);
    let mut waited = Duration::ZERO;
    for _ in 0..5 {
        let key = one.json(&["key", "create", &customer.tenant_id, "--name", "once"]);
        let (id, key) = (key["key_id"].as_str().expect("an id"), key["key"].as_str().expect("a key"));
        until("the key to be known", || (client.get("/", key).status == 200).then_some(()));
        one.json(&["key", "revoke", id]);
        let revoked_at = Instant::now();
        until("the key to be refused", || (client.get("/", key).status == 401).then_some(()));
        waited += revoked_at.elapsed();
    }
    // Five looks at one a second would together take less than a second once in 120 times.
    assert!(waited < Duration::from_secs(1), "five keys were refused after {waited:?} together");
}
