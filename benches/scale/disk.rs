//! What requests leave on disks: in the journal, until the database has them, and in the database.

use std::path::Path;

use crate::fill::fill;
use crate::gateway::{Gateway, Place};
use crate::load::{Spread, WARM_UP};
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::rig::upstream::Upstream;
use crate::{ANSWER_BYTES, OTHER_CORE, Options, http};

const TENANTS: u32 = 1_000;

/// What `journal.detail` is, and how often usage is brought to the database.
const SUBJECTS: [(&str, &str); 3] = [
    ("journal, before the database has it", "flush = \"1h\""),
    ("SQLite, rows of 10 s", "detail = \"aggregate\""),
    ("SQLite, a row per request", "detail = \"request\""),
];

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
    let mut table = Table::new(format!("{TENANTS} tenants"));
    for (name, journal) in SUBJECTS {
        table.add(row(options, upstream.port, name, journal)?);
        eprint!(".");
    }
    eprintln!();
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn row(options: &Options, upstream: u16, name: &str, journal: &str) -> Result<Row, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let database = directory.path().join("tollgate.db");
    let keys = fill(&database, TENANTS, TENANTS)?;
    let more = format!("[journal]\n{journal}\n");
    let gateway = Place { more, ..Place::new(directory.path(), &database, upstream) }.start(options)?;
    let spread = Spread::over(&keys, "/v1/scan", directory.path(), "keys")?;
    let before = size(&database);
    let mut requests = 0;
    while requests < options.records {
        requests += spread.load(&[&gateway], requests, WARM_UP * 2)?.all_admitted()?.requests;
    }
    let bytes =
        if journal.starts_with("flush") { pending(&gateway)? } else { flushed(gateway, &database)? - before };
    let per_request = bytes / requests as f64;
    Ok(Row::of(name)
        .with("requests", requests as f64)
        .with("B/request", per_request)
        .with("MB/million", per_request))
}

fn pending(gateway: &Gateway) -> Result<f64, Fault> {
    gateway.metric("tollgate_journal_pending_bytes")
}

/// The size of the database once it has everything.
fn flushed(gateway: Gateway, database: &Path) -> Result<f64, Fault> {
    http::until("all usage is in the database", || (pending(&gateway).ok()? == 0.0).then_some(()))?;
    drop(gateway);
    Ok(size(database))
}

/// With what SQLite has not moved into the file yet.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn size(database: &Path) -> f64 {
    let log = database.with_extension("db-wal");
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    (bytes(database) + bytes(&log)) as f64
}
