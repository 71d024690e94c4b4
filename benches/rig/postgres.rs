//! A database of a bench's own on the Postgres that `TOLLGATE_TEST_POSTGRES` names, as `tests/run -- COMMAND` starts one.
//!
//! Knows the schema's owner and who serves, and no tenant.

use std::process::Command;

use tollgate::store::{Store, StoreUrl};

/// Who serves, and what its database is called.
pub(crate) const LOGIN: &str = "tollgate_bench";

/// The server, if there is one.
pub(crate) fn server() -> Option<String> {
    std::env::var("TOLLGATE_TEST_POSTGRES").ok()
}

/// The database, made anew, with its schema.
pub(crate) async fn database(server: &str) -> Store {
    psql(server, &format!("DROP DATABASE IF EXISTS {LOGIN} WITH (FORCE)"));
    psql(server, &format!("DROP ROLE IF EXISTS {LOGIN}"));
    psql(server, &format!("CREATE ROLE {LOGIN} LOGIN NOINHERIT"));
    psql(server, &format!("CREATE DATABASE {LOGIN}"));
    let url = |role: &str| -> StoreUrl { at(server, role).parse().expect("a URL") };
    let owner = Store::open(&url("postgres")).await.expect("a server");
    let serving = url(LOGIN);
    owner.migrate_for(&serving).await.expect("a schema");
    let store = Store::open(&serving).await.expect("a server");
    store.prepare().await.expect("a schema");
    store
}

/// The URL of the database on that server.
pub(crate) fn at(server: &str, role: &str) -> String {
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let host = address.rsplit_once('/').map_or(address, |(server, _)| server);
    let host = host.rsplit(['@', '/']).next().unwrap_or_default();
    format!("postgres://{role}@{host}/{LOGIN}?{options}")
}

/// What a statement answers.
pub(crate) fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql").args(["-X", "-q", "-At", "-c", sql, url]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
