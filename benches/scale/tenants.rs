//! One tenant, and very many of them: what a request costs, what a key takes, how long a start takes.

use tempfile::TempDir;

use crate::fill::fill;
use crate::gateway::{Gateway, Place};
use crate::load::{self, Spread, WARM_UP};
use crate::memory::Memory;
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::rig::upstream::Upstream;
use crate::rounds::Rounds;
use crate::{ANSWER_BYTES, OTHER_CORE, Options};

/// A gateway before so many tenants.
struct Subject {
    tenants: u32,
    active: usize,
    gateway: Gateway,
    spread: Spread,
    /// What the active keys took, once each of them had been used, before their usage is brought to the database.
    grown: Memory,
    _directory: TempDir,
}

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
    let subjects = options.tenants.iter().map(|tenants| Subject::start(options, *tenants, upstream.port));
    let subjects = subjects.collect::<Result<Vec<_>, _>>()?;
    let rounds = Rounds::run(options.rounds, subjects.len(), |subject| {
        let Subject { gateway, spread, .. } = &subjects[subject];
        load::warm_up(spread, &[gateway])?;
        spread.spent(&[gateway], &[], options.time())?.all_admitted()
    })?;
    let mut table = Table::new("tenants");
    for (number, subject) in subjects.iter().enumerate() {
        table.add(subject.row(&rounds, number)?);
    }
    Ok(table)
}

// === impl Subject ===

impl Subject {
    fn start(options: &Options, tenants: u32, upstream: u16) -> Result<Subject, Fault> {
        let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
        let database = directory.path().join("tollgate.db");
        let keys = fill(&database, tenants, options.active.min(tenants))?;
        eprintln!("{tenants} tenants are there");
        let spread = Spread::over(&keys, "/v1/scan", directory.path(), "active")?;
        let place = Place::new(directory.path(), &database, upstream);
        let grown = {
            let more = "[journal]\nflush = \"1h\"\n".to_owned();
            let gateway =
                Place { more, ..Place::new(directory.path(), &database, upstream) }.start(options)?;
            // What does not grow with keys is there already.
            use_all(&gateway, &Spread::over(&keys[..1], "/v1/scan", directory.path(), "first")?, 1)?;
            let before = Memory::of(gateway.id())?;
            use_all(&gateway, &spread, keys.len())?;
            let after = Memory::of(gateway.id())?;
            Memory { own: after.own - before.own, mapped: after.mapped - before.mapped }
        };
        let gateway = place.start(options)?;
        use_all(&gateway, &spread, keys.len())?;
        Ok(Subject { tenants, active: keys.len(), gateway, spread, grown, _directory: directory })
    }

    #[expect(clippy::cast_precision_loss, reason = "a million at most")]
    fn row(&self, rounds: &Rounds, number: usize) -> Result<Row, Fault> {
        let Subject { tenants, active, gateway, grown, .. } = self;
        let memory = Memory::of(gateway.id())?;
        let row = rounds
            .row(number, format!("{tenants} tenants, {active} active"))
            .with("ready ms", gateway.started_in.as_secs_f64() * 1e3)
            .with("cached", gateway.metric("tollgate_directory_keys")?)
            .with("own MiB", memory.own / f64::from(1 << 20));
        if *active < 100 {
            return Ok(row);
        }
        Ok(row
            .with("own B/key", grown.own / *active as f64)
            .with("mapped B/key", grown.mapped / *active as f64))
    }
}

/// Each key at least once.
fn use_all(gateway: &Gateway, spread: &Spread, keys: usize) -> Result<(), Fault> {
    let mut used = 0;
    while used < keys as u64 {
        used += spread.load(&[gateway], used, WARM_UP * 2)?.all_admitted()?.requests;
    }
    Ok(())
}
