//! What a seed makes of the world: how many gateways, which quotas, which faults.
//!
//! # Why each seed has only some of the faults
//! Faults hide each other: where every message may be lost, a till that never repeats itself looks like one that was
//! unlucky. So each kind of fault is absent from about half of the seeds, and each seed has its own mixture.

use tollgate::domain::{Limit, Owner, Resource, TenantId, Units};
use uuid::Uuid;

use super::chance::Chance;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

pub(crate) const MILLISECOND: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many requests each gateway gets among so many: some are hot, some cold.
    pub(crate) gateways: Vec<u64>,
    pub(crate) servers: Vec<ServerPlan>,
    pub(crate) quotas: Vec<QuotaPlan>,
    /// What a request may charge: quotas, from the key's up to the reseller's.
    pub(crate) paths: Vec<Vec<usize>>,
    /// Windows begin so far apart; the last one goes on.
    pub(crate) window: Micros,
    pub(crate) windows: u64,
    /// Whether the books were begun long before the windows.
    pub(crate) is_old: bool,
    /// How long there are faults.
    pub(crate) chaos: Micros,
    /// Between two requests.
    pub(crate) pace: Micros,
    pub(crate) units_max: u64,
    pub(crate) network: Network,
    /// How often each fault happens.
    pub(crate) faults: Vec<(Fault, u64)>,
    /// Percent of requests that are given back at once, later, or settled for less.
    pub(crate) refunds: u64,
    pub(crate) releases: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerPlan {
    /// How many scripts its replica may be behind.
    pub(crate) lag_max: usize,
    /// How far its clock is off.
    pub(crate) skew: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaPlan {
    pub(crate) owner: Owner,
    pub(crate) resource: Resource,
    pub(crate) limit: Limit,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Hard,
    Soft,
    /// Units are released again.
    Gauge,
}

/// Percent of messages that are lost, repeated, or late; and how late most of them are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    pub(crate) late: u64,
    pub(crate) delay_max: Micros,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// `kill -9` of a gateway, which comes back.
    Kill,
    /// Its machine loses power.
    PowerLoss,
    /// A gateway reaches nobody for a while.
    Partition,
    /// A server's replica takes over, without the writes that it has not got.
    Failover,
    /// A server is stopped and goes on.
    Pause,
    /// A server starts again with nothing.
    RestartEmpty,
    FlushAll,
    /// A book moves to another server.
    Move,
    /// A limit changes.
    Terms,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let is_cluster = chance.percent(30);
        let servers = (0..if is_cluster { 3 } else { 1 }).map(|_| ServerPlan::new(chance)).collect();
        let (quotas, paths) = quotas(chance);
        let windows = if chance.percent(30) { chance.between(2, 3) } else { 1 };
        let chaos = chance.between(3 * SECOND, 9 * SECOND);
        Plan {
            gateways: (0..chance.between(1, 5)).map(|_| *chance.pick(&[1, 1, 3, 20])).collect(),
            servers,
            quotas,
            paths,
            window: chaos / windows,
            windows,
            is_old: chance.percent(60),
            chaos,
            pace: *chance.pick(&[5, 10, 20, 40]) * MILLISECOND,
            units_max: *chance.pick(&[1, 1, 3, 8]),
            network: Network::new(chance),
            faults: faults(chance, is_cluster),
            refunds: *chance.pick(&[0, 0, 5, 30]),
            releases: *chance.pick(&[0, 10, 40]),
        }
    }
}

// === impl ServerPlan ===

impl ServerPlan {
    fn new(chance: &mut Chance) -> Self {
        ServerPlan { lag_max: chance.index(30), skew: skew(chance) }
    }
}

// === impl Network ===

impl Network {
    /// Nothing is lost, and an answer is there long before its question is given up.
    pub(crate) const CALM: Network = Network { loss: 0, repeat: 0, late: 0, delay_max: 2 * MILLISECOND };

    fn new(chance: &mut Chance) -> Self {
        if chance.percent(35) {
            return Network::CALM;
        }
        Network {
            loss: *chance.pick(&[0, 2, 10, 10]),
            repeat: *chance.pick(&[0, 10]),
            late: *chance.pick(&[0, 10]),
            delay_max: chance.between(1, 12) * MILLISECOND,
        }
    }
}

/// How far a machine's clock may be off: less than the half of what the scripts allow between two of them.
pub(crate) fn skew(chance: &mut Chance) -> i64 {
    const SKEW_MAX: u64 = 20 * SECOND;
    chance.between(0, 2 * SKEW_MAX).cast_signed() - SKEW_MAX.cast_signed()
}

fn faults(chance: &mut Chance, is_cluster: bool) -> Vec<(Fault, u64)> {
    let most = [
        (Fault::Kill, 6),
        (Fault::PowerLoss, 2),
        (Fault::Partition, 4),
        (Fault::Failover, 3),
        (Fault::Pause, 3),
        (Fault::RestartEmpty, 1),
        (Fault::FlushAll, 2),
        (Fault::Move, if is_cluster { 6 } else { 0 }),
        (Fault::Terms, 6),
    ];
    let mut faults = Vec::new();
    for (fault, most) in most {
        if most > 0 && chance.percent(40) {
            faults.push((fault, chance.between(1, most)));
        }
    }
    faults
}

/// Keys below tenants below resellers, each with an account that is charged together with those above it.
fn quotas(chance: &mut Chance) -> (Vec<QuotaPlan>, Vec<Vec<usize>>) {
    let (mut quotas, mut paths) = (Vec::new(), Vec::new());
    let reseller = chance.percent(40).then(|| add(&mut quotas, QuotaPlan::new(chance, 2)));
    for _ in 0..chance.between(1, 3) {
        let tenant = add(&mut quotas, QuotaPlan::new(chance, 1));
        let above: Vec<usize> = [Some(tenant), reseller].into_iter().flatten().collect();
        let keys = chance.below(3);
        for _ in 0..keys {
            let key = add(&mut quotas, QuotaPlan::new(chance, 0));
            paths.push([&[key], above.as_slice()].concat());
        }
        if keys == 0 {
            paths.push(above);
        }
    }
    (quotas, paths)
}

fn add(quotas: &mut Vec<QuotaPlan>, quota: QuotaPlan) -> usize {
    quotas.push(quota);
    quotas.len() - 1
}

// === impl QuotaPlan ===

impl QuotaPlan {
    fn new(chance: &mut Chance, level: u64) -> Self {
        let kind = match chance.below(10) {
            0 => Kind::Soft,
            1 => Kind::Gauge,
            _ => Kind::Hard,
        };
        QuotaPlan {
            owner: Owner::Tenant(TenantId(Uuid::from_u64_pair(chance.next(), chance.next()))),
            resource: "calls".parse().unwrap(),
            limit: limit(chance, level),
            kind,
        }
    }
}

/// Small ones above all: there every unit is the last one.
pub(crate) fn limit(chance: &mut Chance, level: u64) -> Limit {
    let most = *chance.pick(&[5, 30, 200, 1_000]);
    match chance.below(20) {
        0 => Limit::Unlimited,
        _ => Limit::Of(Units::saturating(chance.between(1, most) * (level + 1))),
    }
}
