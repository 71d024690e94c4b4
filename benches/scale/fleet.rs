//! One gateway, and eight of them, on one Redis: what a request costs, and whether anybody gets more than the limit.

use tempfile::TempDir;

use crate::fill::{self, fill};
use crate::gateway::{Gateway, Place};
use crate::load::{self, Spread};
use crate::redis::Redis;
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::rig::upstream::Upstream;
use crate::rounds::Rounds;
use crate::{ANSWER_BYTES, OTHER_CORE, Options, http};

/// Gateways on one SQLite and one Redis, which grants already.
pub(crate) struct Fleet {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: Redis,
    /// Of tenants with a limit that no run reaches, and then of [`LIMITED`] more.
    pub(crate) keys: Vec<String>,
    pub(crate) directory: TempDir,
    upstream: Upstream,
}

/// Who of the gateways is asked, and for whom.
struct Subject {
    gateways: usize,
    spread: Spread,
    name: String,
}

const SIZES: [usize; 4] = [1, 2, 4, 8];

/// Tenants without a limit, so that each gateway may have one, and those with [`LIMIT`].
pub(crate) const UNLIMITED: usize = 20;
const LIMITED: usize = SIZES.len();

/// Of which every gateway has some, and less than is asked for in a few seconds.
const LIMIT: u64 = 20_000;

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let fleet = Fleet::start(options, SIZES[SIZES.len() - 1])?;
    let subjects = fleet.subjects()?;
    let mut asked = vec![(0.0, 0); subjects.len()];
    let rounds = Rounds::run(options.rounds, subjects.len(), |number| {
        let Subject { gateways, spread, .. } = &subjects[number];
        let gateways = fleet.first(*gateways);
        load::warm_up(spread, &gateways)?;
        let before = fleet.renewals()?;
        let spent = spread.spent(&gateways, &[&fleet.redis.process], options.time())?.all_admitted()?;
        asked[number].0 += fleet.renewals()? - before;
        asked[number].1 += spent.load.requests;
        Ok(spent)
    })?;
    let mut table = Table::new("on one Redis");
    for (number, subject) in subjects.iter().enumerate() {
        let (asked, requests) = asked[number];
        table.add(rounds.row(number, subject.name.as_str()).with("asks/1M", asked * 1e6 / count(requests)));
    }
    for (number, size) in SIZES.into_iter().enumerate() {
        table.add(fleet.use_up(size, &fleet.keys[UNLIMITED + number])?);
    }
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "requests of some minutes are far below 2^52")]
fn count(requests: u64) -> f64 {
    requests as f64
}

// === impl Fleet ===

impl Fleet {
    /// How often units were asked for so far. What Redis is asked beside that, at a steady pace, says who is alive.
    pub(crate) fn renewals(&self) -> Result<f64, Fault> {
        self.gateways.iter().map(|gateway| gateway.metric("tollgate_authority_renewals_total")).sum()
    }

    pub(crate) fn start(options: &Options, size: usize) -> Result<Fleet, Fault> {
        let redis = Redis::start()?;
        let port = redis.port;
        // What is measured here is not how a busy machine is waited for.
        Fleet::start_on(
            options,
            size,
            redis,
            &format!("url = \"redis://127.0.0.1:{port}\"\ntimeout = \"1s\""),
        )
    }

    /// With these lines of `[authority]`.
    pub(crate) fn start_on(
        options: &Options,
        size: usize,
        redis: Redis,
        authority: &str,
    ) -> Result<Fleet, Fault> {
        let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
        let database = directory.path().join("tollgate.db");
        let tenants = u32::try_from(UNLIMITED + LIMITED).unwrap_or(u32::MAX);
        let keys = fill(&database, tenants, tenants)?;
        fill::change(&database, &[limiting().as_str()])?;
        let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
        let gateways = (0..size).map(|number| {
            let own = directory.path().join(number.to_string());
            let more = format!("[authority]\n{authority}\n");
            let gateway = Place { more, ..Place::new(&own, &database, upstream.port) }.start(options)?;
            http::until("Redis grants", || {
                (gateway.metric("tollgate_authority_learning").ok()? == 0.0).then_some(())
            })?;
            Ok(gateway)
        });
        let gateways = gateways.collect::<Result<_, Fault>>()?;
        Ok(Fleet { gateways, redis, keys, directory, upstream })
    }

    fn first(&self, count: usize) -> Vec<&Gateway> {
        self.gateways.iter().take(count).collect()
    }

    /// Every size with one tenant at all gateways, and with one for each; that is the same for the first size.
    fn subjects(&self) -> Result<Vec<Subject>, Fault> {
        let subject = |gateways: usize, tenants: usize| {
            let whose = if tenants == 1 { "one tenant" } else { "a tenant each" };
            let name = format!("{gateways} gateways, {whose}");
            let keys = &self.keys[..tenants];
            let spread = Spread::over(keys, "/v1/scan", self.directory.path(), &name.replace(' ', "-"))?;
            Ok(Subject { gateways, spread, name })
        };
        let same = SIZES.into_iter().map(|size| subject(size, 1));
        let apart = SIZES.into_iter().skip(1).map(|size| subject(size, size));
        same.chain(apart).collect()
    }

    /// Asks so many gateways until nothing of the key's limit is left, and counts what the upstream was asked.
    fn use_up(&self, size: usize, key: &String) -> Result<Row, Fault> {
        let spread = Spread::over(std::slice::from_ref(key), "/v1/scan", self.directory.path(), "limited")?;
        let before = self.answered()?;
        loop {
            let load = spread.load(&self.first(size), 0, load::WARM_UP)?;
            if load.refused == load.requests {
                break;
            }
        }
        let passed = self.answered()? - before;
        Ok(Row::of(format!("{size} gateways, limit of {LIMIT} used up"))
            .with("passed", count(passed))
            .with("too many", count(passed) - count(LIMIT)))
    }

    /// What the upstream was asked so far.
    fn answered(&self) -> Result<u64, Fault> {
        let text = http::get(self.upstream.port, "/count").ok_or("the upstream does not count")?;
        text.parse().map_err(|_| format!("the upstream counts `{text}`"))
    }
}

/// The last tenants may call so often.
fn limiting() -> String {
    let first = format!("{UNLIMITED:012x}");
    format!(
        "UPDATE tenant_resource_quotas SET limit_amount = {LIMIT}
         WHERE lower(substr(hex(tenant_id), 21)) >= '{first}'"
    )
}
