//! How often Redis is asked as one tenant sends more and more.

use std::time::Duration;

use crate::fleet::Fleet;
use crate::load::{Spread, WARM_UP};
use crate::paced::Pace;
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::{Options, load};

/// Requests per second.
const RATES: [u32; 3] = [100, 1_000, 10_000];

/// The slowest rate needs time to say anything.
const LONGER: u32 = 4;

/// What Redis was asked so far.
struct Asked {
    scripts: u64,
    /// For units.
    renewals: f64,
}

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let fleet = Fleet::start(options, 1)?;
    let mut table = Table::new("one tenant sends");
    let before = Asked::of(&fleet)?;
    std::thread::sleep(options.time());
    table.add(before.row("nothing", 0, options.time(), &fleet)?);
    for per_second in RATES {
        let (port, keys, time) = (fleet.gateways[0].port, &fleet.keys[..1], options.time() * LONGER);
        Pace { port, keys, per_second, time: WARM_UP }.run()?;
        let before = Asked::of(&fleet)?;
        let paced = Pace { port, keys, per_second, time }.run()?;
        if paced.refused > 0 {
            return Err(format!("{} requests were refused at {per_second}/s", paced.refused));
        }
        table.add(before.row(&format!("{per_second} req/s"), paced.admitted(), time, &fleet)?);
        eprint!(".");
    }
    let spread = Spread::over(&fleet.keys[..1], "/v1/scan", fleet.directory.path(), "one")?;
    let gateways = [&fleet.gateways[0]];
    load::warm_up(&spread, &gateways)?;
    let before = Asked::of(&fleet)?;
    let load = spread.load(&gateways, 0, options.time())?.all_admitted()?;
    let name = format!("all it can ({:.0} req/s)", load.per_second);
    table.add(before.row(&name, load.requests, options.time(), &fleet)?);
    eprintln!();
    Ok(table)
}

// === impl Asked ===

impl Asked {
    fn of(fleet: &Fleet) -> Result<Asked, Fault> {
        Ok(Asked { scripts: fleet.redis.asked()?, renewals: fleet.renewals()? })
    }

    /// What was asked since.
    #[expect(clippy::cast_precision_loss, reason = "requests of some seconds are far below 2^52")]
    fn row(&self, name: &str, requests: u64, time: Duration, fleet: &Fleet) -> Result<Row, Fault> {
        let now = Asked::of(fleet)?;
        let renewals = now.renewals - self.renewals;
        let scripts = (now.scripts - self.scripts) as f64;
        let row = Row::of(name)
            .with("requests", requests as f64)
            .with("asked for units", renewals)
            .with("beside that, per second", (scripts - renewals) / time.as_secs_f64());
        Ok(if requests == 0 { row } else { row.with("per request", renewals / requests as f64) })
    }
}
