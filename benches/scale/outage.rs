//! Redis that is slow, or gone: what requests feel while the till can pay.

use std::time::Duration;

use crate::fleet::{Fleet, UNLIMITED};
use crate::load::WARM_UP;
use crate::paced::{Pace, Paced};
use crate::redis::Redis;
use crate::relay::Relay;
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::{Options, http};

const PER_SECOND: u32 = 2_000;

/// By one tenant, or by twenty with 100 requests per second each.
const TENANTS: [usize; 2] = [1, UNLIMITED];

/// How late Redis's answers are.
const DELAYS_MILLIS: [u64; 3] = [0, 10, 100];

/// A slowest thousandth needs some thousands of requests.
const LONGER: u32 = 4;

/// How long load goes on after Redis is gone: until a till of twenty tenants is nearly dry.
const GONE: Duration = Duration::from_millis(1_000);

/// A fleet of one, and the wire between it and Redis.
struct Outage<'a> {
    options: &'a Options,
    fleet: Fleet,
    relay: Relay,
}

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let redis = Redis::start()?;
    let relay = Relay::to(redis.port)?;
    let authority = format!("url = \"redis://127.0.0.1:{}\"", relay.port);
    let fleet = Fleet::start_on(options, 1, redis, &authority)?;
    let outage = Outage { options, fleet, relay };
    let mut table = Table::new(format!("{PER_SECOND} req/s"));
    for tenants in TENANTS {
        let mut usual = None;
        for millis in DELAYS_MILLIS {
            let paced = outage.late(tenants, Duration::from_millis(millis))?;
            let usual = *usual.get_or_insert(paced.slowest(1));
            table.add(row(format!("{tenants} tenants, Redis {millis} ms late"), &paced, usual));
            eprint!(".");
        }
        let gone = outage.gone(tenants)?;
        table.add(row(format!("{tenants} tenants, Redis is gone"), &gone, usual.unwrap_or(f64::NAN)));
        eprint!(".");
    }
    eprintln!();
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn row(name: String, paced: &Paced, usual: f64) -> Row {
    Row::of(name)
        .with("p50 µs", paced.slowest(500))
        .with("p99 µs", paced.slowest(10))
        .with("p99.9 µs", paced.slowest(1))
        .with("added", paced.slowest(1) - usual)
        .with("admitted", paced.admitted() as f64)
        .with("refused", paced.refused as f64)
}

// === impl Outage ===

impl Outage<'_> {
    fn pace(&self, tenants: usize, time: Duration) -> Pace<'_> {
        let Fleet { gateways, keys, .. } = &self.fleet;
        Pace { port: gateways[0].port, keys: &keys[..tenants], per_second: PER_SECOND, time }
    }

    fn late(&self, tenants: usize, delay: Duration) -> Result<Paced, Fault> {
        self.relay.delay(delay);
        self.pace(tenants, WARM_UP).run()?;
        let paced = self.pace(tenants, self.options.time() * LONGER).run();
        self.relay.delay(Duration::ZERO);
        paced
    }

    /// As often as there are rounds: with full tills, while Redis goes away for a second.
    fn gone(&self, tenants: usize) -> Result<Paced, Fault> {
        let mut all = Paced::default();
        for _ in 0..self.options.rounds {
            self.pace(tenants, WARM_UP).run()?;
            self.relay.cut();
            let paced = self.pace(tenants, GONE).run();
            self.relay.mend();
            all = all.and(paced?);
            http::until("Redis grants again", || {
                let paced = self.pace(tenants, WARM_UP / 10).run().ok()?;
                (paced.refused == 0).then_some(())
            })?;
        }
        Ok(all)
    }
}
