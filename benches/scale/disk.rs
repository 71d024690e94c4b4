//! What requests leave on disks: in the journal, until the database has them, and in the database.

use std::path::{Path, PathBuf};

use crate::fill::{self, fill, fill_postgres};
use crate::gateway::{Gateway, Place};
use crate::load::{Spread, WARM_UP};
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::rig::upstream::Upstream;
use crate::{ANSWER_BYTES, OTHER_CORE, Options, http, postgres};

const TENANTS: u32 = 1_000;

/// What `journal.detail` is.
const DETAILS: [(&str, &str); 2] = [("rows of 10 s", "aggregate"), ("a row per request", "request")];

/// Where tenants are, and usage comes.
enum Database {
    Sqlite(PathBuf),
    /// On that server.
    Postgres(String),
}

/// A gateway that has passed requests, and their number.
struct Passed {
    gateway: Gateway,
    requests: u64,
}

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
    let mut table = Table::new(format!("{TENANTS} tenants"));
    table.add(journal(options, upstream.port)?);
    for (rows, detail) in DETAILS {
        table.add(database(options, upstream.port, rows, detail, Database::Sqlite)?);
    }
    match postgres::server() {
        None => println!("Postgres: skipped, none is named in TOLLGATE_TEST_POSTGRES"),
        Some(server) => {
            for (rows, detail) in DETAILS {
                let place = |_| Database::Postgres(server.clone());
                table.add(database(options, upstream.port, rows, detail, place)?);
            }
        }
    }
    Ok(table)
}

/// Before the database has any of it.
fn journal(options: &Options, upstream: u16) -> Result<Row, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let database = Database::Sqlite(directory.path().join("tollgate.db"));
    let Passed { gateway, requests } =
        database.pass(options, directory.path(), upstream, "flush = \"1h\"")?;
    Ok(row("journal", requests, gateway.metric("tollgate_journal_pending_bytes")?))
}

fn database(
    options: &Options,
    upstream: u16,
    rows: &str,
    detail: &str,
    place: impl FnOnce(PathBuf) -> Database,
) -> Result<Row, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let database = place(directory.path().join("tollgate.db"));
    let more = format!("detail = \"{detail}\"");
    let Passed { gateway, requests } = database.pass(options, directory.path(), upstream, &more)?;
    http::until("all usage is in the database", || {
        (gateway.metric("tollgate_journal_pending_bytes").ok()? == 0.0).then_some(())
    })?;
    drop(gateway);
    Ok(row(&format!("{}, {rows}", database.name()), requests, database.usage_bytes()?))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn row(name: &str, requests: u64, bytes: f64) -> Row {
    let per_request = bytes / requests as f64;
    // Bytes per request are megabytes per million.
    Row::of(name).with("requests", requests as f64).with("B/request, MB/million", per_request)
}

// === impl Database ===

impl Database {
    const fn name(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "SQLite",
            Database::Postgres(_) => "Postgres",
        }
    }

    /// Fills it with tenants, and has a gateway pass as many requests as are wanted, spread over them.
    fn pass(
        &self,
        options: &Options,
        directory: &Path,
        upstream: u16,
        journal: &str,
    ) -> Result<Passed, Fault> {
        let (keys, store) = match self {
            Database::Sqlite(file) => (fill(file, TENANTS, TENANTS)?, format!("sqlite:{}", file.display())),
            Database::Postgres(server) => {
                (fill_postgres(server, TENANTS)?, postgres::at(server, postgres::LOGIN))
            }
        };
        let more = format!("[journal]\n{journal}\n");
        let gateway = Place { more, store, ..Place::new(directory, directory, upstream) }.start(options)?;
        let spread = Spread::over(&keys, "/v1/scan", directory, "keys")?;
        let mut requests = 0;
        while requests < options.records {
            requests += spread.load(&[&gateway], requests, WARM_UP * 2)?.all_admitted()?.requests;
            eprint!(".");
        }
        eprintln!();
        Ok(Passed { gateway, requests })
    }

    /// What usage takes in it, without space that is free again.
    fn usage_bytes(&self) -> Result<f64, Fault> {
        match self {
            Database::Sqlite(file) => sqlite_bytes(file),
            Database::Postgres(server) => {
                let owner = postgres::at(server, "postgres");
                postgres::psql(&owner, "VACUUM FULL");
                let bytes = postgres::psql(&owner, USAGE_BYTES);
                bytes.parse().map_err(|_| format!("Postgres says `{bytes}` bytes"))
            }
        }
    }
}

/// Of all tables and partitions that the flush writes, with their indexes.
const USAGE_BYTES: &str = "SELECT SUM(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'm')
    AND (relname LIKE 'tenant_usage_logs%' OR relname LIKE 'usage_%' OR relname LIKE 'account_units%')";

fn sqlite_bytes(file: &Path) -> Result<f64, Fault> {
    let pages = "SELECT SUM(pgsize) FROM dbstat WHERE name LIKE '%usage_%' OR name LIKE '%account_units%'";
    fill::number(file, pages)
}
