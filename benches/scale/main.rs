//! What happens when there is more of everything: tenants, gateways, load, connections, charges, records; and less of
//! Redis.
//!
//! `cargo bench --bench scale -- [--parts tenants,denied,idle,fleet,rise,outage,disk] [--rounds 5] [--seconds 3]
//! [--tenants 1,10000,1000000] [--active 100000] [--connections 10000] [--records 1000000] [--tollgate PATH] [--quick]`
//!
//! Gateways have one worker each and share core 0; load generator (wrk), upstream and helpers are on core 1. CPU time is the
//! kernel's own, of the gateways' processes. What is compared takes turns, the reference first and last in each round, and
//! ratios are taken inside a round. Each part prints a table and writes `target/bench/scale-PART.json`. `--quick` is for
//! who works on the bench: small numbers, one round, no figures to quote. Beside a Postgres (`tests/run -- cargo bench
//! --bench scale`) what is left on disks is measured there as well.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod denied;
mod disk;
mod fill;
mod fleet;
mod gateway;
mod http;
mod idle;
mod load;
mod memory;
mod outage;
mod paced;
#[path = "../rig/postgres.rs"]
mod postgres;
mod redis;
mod relay;
mod report;
#[path = "../rig/mod.rs"]
mod rig;
mod rise;
mod rounds;
mod tenants;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use report::Table;
use rig::process::{output, require};
use rig::{Fault, number, upstream};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Tenants,
    Denied,
    Idle,
    Fleet,
    Rise,
    Outage,
    Disk,
}

/// How much of everything.
struct Options {
    parts: Vec<Part>,
    rounds: usize,
    seconds: u64,
    tenants: Vec<u32>,
    active: u32,
    connections: usize,
    records: u64,
    tollgate: PathBuf,
}

/// Of the gateways and the peers.
const PROXY_CORE: &str = "0";
/// Of load, upstream and helpers.
const OTHER_CORE: &str = "1";

/// What an answer of the upstream holds.
const ANSWER_BYTES: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == upstream::ARGUMENT) {
        upstream::run();
    }
    match Options::parse(&arguments).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("benches/scale: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Fault> {
    require("taskset")?;
    require("wrk")?;
    stay_beside()?;
    for part in &options.parts {
        let fault = |fault| format!("{}: {fault}", part.name());
        part.measure(options).and_then(|table| table.publish(part.name())).map_err(fault)?;
    }
    Ok(())
}

/// Whatever this program itself does is load or a helper: it stays where those are.
fn stay_beside() -> Result<(), Fault> {
    let this = std::process::id().to_string();
    let mut command = Command::new("taskset");
    output({
        command.args(["--all-tasks", "--cpu-list", "--pid", OTHER_CORE, &this]);
        command
    })
    .map(drop)
}

// === impl Part ===

impl Part {
    const ALL: [Part; 7] =
        [Part::Tenants, Part::Denied, Part::Idle, Part::Fleet, Part::Rise, Part::Outage, Part::Disk];

    const fn name(self) -> &'static str {
        match self {
            Part::Tenants => "tenants",
            Part::Denied => "denied",
            Part::Idle => "idle",
            Part::Fleet => "fleet",
            Part::Rise => "rise",
            Part::Outage => "outage",
            Part::Disk => "disk",
        }
    }

    fn named(name: &str) -> Result<Part, Fault> {
        let known = Part::ALL.into_iter().find(|part| part.name() == name);
        known.ok_or_else(|| format!("`{name}` is no part: {}", Part::ALL.map(Part::name).join(", ")))
    }

    fn measure(self, options: &Options) -> Result<Table, Fault> {
        match self {
            Part::Tenants => tenants::measure(options),
            Part::Denied => denied::measure(options),
            Part::Idle => idle::measure(options),
            Part::Fleet => fleet::measure(options),
            Part::Rise => rise::measure(options),
            Part::Outage => outage::measure(options),
            Part::Disk => disk::measure(options),
        }
    }
}

// === impl Options ===

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Fault> {
        let mut options = if arguments.iter().any(|name| name == "--quick") {
            Options::quick()
        } else {
            Options::default()
        };
        // Cargo adds `--bench` itself.
        let mut rest = arguments.iter().filter(|name| !["--bench", "--quick"].contains(&name.as_str()));
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        match name {
            "--parts" => self.parts = value.split(',').map(Part::named).collect::<Result<_, _>>()?,
            "--rounds" => self.rounds = number(name, value)?,
            "--seconds" => self.seconds = number(name, value)?,
            "--tenants" => {
                self.tenants = value.split(',').map(|value| number(name, value)).collect::<Result<_, _>>()?;
            }
            "--active" => self.active = number(name, value)?,
            "--connections" => self.connections = number(name, value)?,
            "--records" => self.records = number(name, value)?,
            "--tollgate" => self.tollgate = PathBuf::from(value),
            _ => {
                return Err(format!(
                    "{name} is no option: --parts, --rounds, --seconds, --tenants, --active, --connections, \
                     --records, --tollgate, --quick"
                ));
            }
        }
        Ok(())
    }

    fn quick() -> Options {
        Options {
            rounds: 1,
            seconds: 1,
            tenants: vec![1, 100, 1_000],
            active: 500,
            connections: 200,
            records: 10_000,
            ..Options::default()
        }
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            parts: Part::ALL.into(),
            rounds: 5,
            seconds: 3,
            tenants: vec![1, 10_000, 1_000_000],
            active: 100_000,
            connections: 10_000,
            records: 1_000_000,
            tollgate: PathBuf::from(env!("CARGO_BIN_EXE_tollgate")),
        }
    }
}
