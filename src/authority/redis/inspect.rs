//! Whether these servers are fit to be an authority, asked once at the start and by the operator.

use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::timeout;
use uuid::Uuid;

use super::Redis;
use super::dial::{CONNECT_TIMEOUT, field, info, text};
use super::fault::Fault;
use super::key::SCRATCH;
use super::link::Link;
use super::script::Call;
use crate::authority::finding::{Finding, Severity};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Limit, Owner, Period, TenantId, Units, Window};
use crate::till::protocol::{BOOKS, Renew, Seed, Terms};
use crate::till::{Counters, TillId};

/// Redis 7 replicates what scripts do and not the scripts, and lets them read INFO.
const VERSION_MIN: u32 = 7;

/// Windows begin and end by clocks.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(1);

/// One server's answers.
struct Facts {
    server: String,
    memory: String,
    persistence: String,
    replication: String,
    time: Option<Timestamp>,
}

// === impl Redis ===

impl Redis {
    /// What an operator should know about the servers, in no particular order. Takes a second or two at most.
    ///
    /// Writes to a book that no tenant has, so that rights are tried and not guessed.
    pub async fn inspect(&self) -> Vec<Finding> {
        let mut findings = self.inspect_transport();
        let routes = self.calls.fleet.routes();
        if routes.links().next().is_none() {
            findings.push(match self.calls.fleet.keeper(0) {
                Ok(_) => Finding::refusal("the servers have changed while they were looked at; try again"),
                Err(fault) => Finding::refusal(fault.to_string()),
            });
        }
        for link in routes.links() {
            findings.extend(self.inspect_server(link).await);
        }
        findings.extend(self.inspect_scripts().await);
        findings
    }

    fn inspect_transport(&self) -> Vec<Finding> {
        let is_bare = self.settings.tls.is_none();
        let far = self.settings.servers.named().iter().filter(|address| is_bare && !address.is_loopback());
        let judged = far.map(|address| {
            Finding::warning(format!(
                "Redis at {address} is reached without TLS: use rediss:// between machines"
            ))
        });
        judged.collect()
    }

    async fn inspect_server(&self, link: &Link) -> Vec<Finding> {
        match timeout(CONNECT_TIMEOUT, self.ask(link)).await {
            Ok(Ok(facts)) => self.judge(link, &facts),
            Ok(Err(fault)) => vec![Finding::refusal(fault.to_string())],
            Err(_) => {
                vec![Finding::refusal(format!("Redis at {} did not answer in a second", link.address()))]
            }
        }
    }

    async fn ask(&self, link: &Link) -> Result<Facts, Fault> {
        let ask = || {
            let mut pipeline = redis::pipe();
            for section in ["server", "memory", "persistence", "replication"] {
                pipeline.add_command(info(section));
            }
            pipeline.add_command(cmd("TIME"));
            pipeline
        };
        let answers: Vec<Value> = link.send_all(ask).await?.into_iter().collect::<Result<_, Fault>>()?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        let mut section = || text(next()).unwrap_or_default();
        let (server, memory, persistence, replication) = (section(), section(), section(), section());
        Ok(Facts { server, memory, persistence, replication, time: read_time(next()) })
    }

    fn judge(&self, link: &Link, facts: &Facts) -> Vec<Finding> {
        let at = format!("Redis at {}", link.address());
        let judged = [
            Some(judge_version(&at, &facts.server)),
            judge_eviction(&at, &facts.memory),
            judge_safety(&at, facts),
            self.judge_replicas(&at, &facts.replication),
            self.judge_clock(&at, facts.time),
        ];
        judged.into_iter().flatten().collect()
    }

    fn judge_replicas(&self, at: &str, replication: &str) -> Option<Finding> {
        let connected = replicas(replication);
        let wanted = self.settings.wait_replicas;
        (connected < wanted).then(|| {
            Finding::warning(format!(
                "{at} has {connected} replicas, but {wanted} are waited for: large grants take longer in vain"
            ))
        })
    }

    fn judge_clock(&self, at: &str, time: Option<Timestamp>) -> Option<Finding> {
        let (theirs, ours) = (time?, self.calls.clock.now());
        let apart = theirs.since(ours).max(ours.since(theirs));
        (apart > CLOCKS_DIFFER_MAX).then(|| {
            Finding::warning(format!("the clock of {at} differs from ours by {apart:.0?}: synchronize both"))
        })
    }

    /// Does all that a gateway does, in a book of nobody's, and begins all others.
    async fn inspect_scripts(&self) -> Option<Finding> {
        let now = self.calls.clock.now();
        let till = TillId(Uuid::nil());
        let account = scratch(now);
        let terms = Terms { limit: Limit::Of(Units::ONE), version: 1 };
        let seed = Seed { account, terms, used: vec![(till, Units::ZERO)] };
        let claim = Counters::default();
        let renew = Renew { account, till, terms, claim, granted_target: 1, granted_least: 1, more: false };
        let mut calls = vec![Call::SeedIn(SCRATCH, &seed), Call::RenewIn(SCRATCH, &renew)];
        calls.extend((0..BOOKS).map(Call::Life));
        for call in &calls {
            if let Err(fault) = self.calls.call(call).await {
                return Some(Finding::refusal(format!("the scripts can't run: {fault}")));
            }
        }
        None
    }
}

fn judge_version(at: &str, server: &str) -> Finding {
    let is_valkey = field(server, "server_name") == Some("valkey");
    let name = if is_valkey { "valkey_version" } else { "redis_version" };
    let version = field(server, name).unwrap_or("unknown");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    if major < VERSION_MIN {
        return Finding::refusal(format!("{at} is of version {version}; at least {VERSION_MIN} is needed"));
    }
    let kind = if is_valkey { "Valkey" } else { "Redis" };
    Finding { severity: Severity::Good, what: format!("{at} is {kind} {version}") }
}

/// All our keys expire, so every policy but one may drop them: units that are granted would be granted again.
fn judge_eviction(at: &str, memory: &str) -> Option<Finding> {
    let policy = field(memory, "maxmemory_policy").unwrap_or("unknown");
    (policy != "noeviction").then(|| {
        Finding::refusal(format!(
            "{at} may drop counters when its memory is full (maxmemory-policy {policy}): set it to noeviction"
        ))
    })
}

fn judge_safety(at: &str, facts: &Facts) -> Option<Finding> {
    let is_written = field(&facts.persistence, "aof_enabled") == Some("1");
    (!is_written && replicas(&facts.replication) == 0).then(|| {
        Finding::warning(format!(
            "{at} has no replica and no append-only file: when it restarts, nothing is granted until all gateways \
             have told what they hold, and what a gateway held that is gone is only known from the database"
        ))
    })
}

fn replicas(replication: &str) -> u32 {
    field(replication, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// `[seconds, microseconds]`
fn read_time(value: Value) -> Option<Timestamp> {
    let (seconds, micros): (i64, i64) = redis::from_redis_value(value).ok()?;
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// An account that is gone by itself soon.
fn scratch(now: Timestamp) -> AccountKey {
    let start = Timestamp::from_seconds(now.seconds());
    let window = Window { period: Period::Second, start, end: start.plus(Duration::from_secs(1)) };
    let name = "start_up_check".parse().expect("a literal name is a name");
    AccountKey { owner: Owner::Tenant(TenantId(Uuid::nil())), resource: name, window }
}

// === impl Finding ===

impl Finding {
    fn warning(what: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, what: what.into() }
    }

    fn refusal(what: impl Into<String>) -> Self {
        Finding { severity: Severity::Refusal, what: what.into() }
    }
}
