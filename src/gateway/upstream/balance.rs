//! Which endpoint a request goes to. Pure: who may be chosen, and how busy each is, comes as an argument.
//!
//! Each worker chooses by itself, without a lock and without the heap. Turns are taken per worker, beginning anywhere,
//! so that the workers together do not favour the first endpoint.

use std::cell::Cell;

use crate::gateway::random::{Chance, mixed};

/// How an upstream's requests are spread over its endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balance {
    /// One after the other, by weight; heavy ones spread out between the others.
    #[default]
    RoundRobin,
    /// The less busy one, for its weight, of two that are chosen by weight at random.
    LeastRequest,
    /// A tenant's requests to the same endpoint: who comes or goes changes only the tenants it gets or had. Requests
    /// without a tenant are told apart by the client's address.
    HashTenant,
}

/// One worker's choices among the endpoints of an upstream.
#[derive(Debug)]
pub(super) struct Balancer {
    balance: Balance,
    endpoints: Vec<Chosen>,
    chance: Chance,
}

/// What is known of an endpoint when choosing.
#[derive(Debug)]
struct Chosen {
    weight: u32,
    /// Of its name: the same in all workers, gateways and lives of the process.
    hash: u64,
    /// What it is owed: the highest has its turn.
    owed: Cell<i64>,
}

// === impl Balancer ===

impl Balancer {
    /// Of endpoints with these weights, which are not 0, and hashes.
    pub(super) fn new(balance: Balance, endpoints: impl Iterator<Item = (u32, u64)>) -> Self {
        let endpoints = endpoints.map(|(weight, hash)| Chosen { weight, hash, owed: Cell::new(0) });
        let balancer = Balancer { balance, endpoints: endpoints.collect(), chance: Chance::seeded() };
        let turns: u64 = balancer.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        for _ in 0..balancer.chance.below(turns.max(1)) {
            balancer.next_turn(&|_| true);
        }
        balancer
    }

    /// The place of the endpoint for a request with this `key`; `None` if none `may` be chosen.
    pub(super) fn choose(
        &self,
        key: u64,
        may: impl Fn(usize) -> bool,
        busy: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        if let [_] = self.endpoints[..] {
            return may(0).then_some(0);
        }
        match self.balance {
            Balance::RoundRobin => self.next_turn(&may),
            Balance::LeastRequest => self.less_busy(&may, &busy),
            Balance::HashTenant => self.nearest(key, &may),
        }
    }

    /// Smooth weighted round robin, as nginx does it: all are owed their weight, one is chosen and pays for all.
    fn next_turn(&self, may: &impl Fn(usize) -> bool) -> Option<usize> {
        let (mut best, mut paid): (Option<(usize, i64)>, i64) = (None, 0);
        for (index, endpoint) in self.candidates(may) {
            let weight = i64::from(endpoint.weight);
            let owed = endpoint.owed.get() + weight;
            endpoint.owed.set(owed);
            paid += weight;
            if best.is_none_or(|(_, most)| owed > most) {
                best = Some((index, owed));
            }
        }
        best.map(|(index, owed)| {
            self.endpoints[index].owed.set(owed - paid);
            index
        })
    }

    fn less_busy(&self, may: &impl Fn(usize) -> bool, busy: &impl Fn(usize) -> usize) -> Option<usize> {
        let first = self.by_chance(may)?;
        let Some(second) = self.by_chance(&|index| index != first && may(index)) else { return Some(first) };
        // Requests per weight, compared without dividing.
        let load = |own: usize, other: usize| busy(own) as u64 * u64::from(self.endpoints[other].weight);
        Some(if load(second, first) < load(first, second) { second } else { first })
    }

    /// One of them, as likely as its weight says.
    fn by_chance(&self, may: &impl Fn(usize) -> bool) -> Option<usize> {
        let weights = || self.candidates(may).map(|(index, endpoint)| (index, u64::from(endpoint.weight)));
        let total = weights().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.chance.below(total);
        for (index, weight) in weights() {
            match left.checked_sub(weight) {
                None => return Some(index),
                Some(rest) => left = rest,
            }
        }
        None
    }

    /// Rendezvous by weight: each endpoint draws a number for the key, and the smallest for its weight wins. So whoever
    /// leaves gives its keys to all others, and whoever comes takes its share from each.
    fn nearest(&self, key: u64, may: &impl Fn(usize) -> bool) -> Option<usize> {
        let distance = |endpoint: &Chosen| {
            // In (0, 1], by the 53 bits that a float holds.
            let drawn = ((mixed(key ^ endpoint.hash) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            -drawn.ln() / f64::from(endpoint.weight)
        };
        let distances = self.candidates(may).map(|(index, endpoint)| (distance(endpoint), index));
        distances.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, index)| index)
    }

    fn candidates(&self, may: &impl Fn(usize) -> bool) -> impl Iterator<Item = (usize, &Chosen)> {
        self.endpoints.iter().enumerate().filter(move |(index, _)| may(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::{Balance, Balancer};
    use crate::gateway::random::hash_of;

    fn balancer(balance: Balance, weights: &[u32]) -> Balancer {
        let named =
            |(index, weight): (usize, &u32)| (*weight, hash_of(format!("10.0.0.{index}:80").as_bytes()));
        Balancer::new(balance, weights.iter().enumerate().map(named))
    }

    fn counts(choices: impl Iterator<Item = usize>, endpoints: usize) -> Vec<usize> {
        choices.fold(vec![0; endpoints], |mut counts, index| {
            counts[index] += 1;
            counts
        })
    }

    #[test]
    fn turns_follow_the_weights_exactly_and_smoothly() {
        let balancer = balancer(Balance::RoundRobin, &[5, 1, 1]);
        let choices: Vec<_> = (0..70).map(|_| balancer.choose(0, |_| true, |_| 0).unwrap()).collect();
        assert_eq!(counts(choices.iter().copied(), 3), [50, 10, 10]);
        let longest = choices.chunk_by(|one, next| one == next).map(<[_]>::len).max();
        assert!(longest <= Some(4), "the heavy one is not asked five times in a row: {choices:?}");
    }

    #[test]
    fn whoever_may_not_be_chosen_gives_its_turns_to_the_others() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::HashTenant] {
            let balancer = balancer(balance, &[1, 2, 1]);
            for key in 0..100 {
                assert!(balancer.choose(key, |index| index != 1, |_| 0).is_some_and(|index| index != 1));
                assert_eq!(balancer.choose(key, |_| false, |_| 0), None);
            }
        }
    }

    #[test]
    fn idle_endpoints_get_their_share_and_busy_ones_are_avoided() {
        let balancer = balancer(Balance::LeastRequest, &[3, 1]);
        let idle = counts((0..4000).map(|_| balancer.choose(0, |_| true, |_| 0).unwrap()), 2);
        assert!((2800..3200).contains(&idle[0]), "3 : 1 expected, {idle:?} found");
        let busy = |index: usize| if index == 0 { 7 } else { 2 };
        let choices = counts((0..100).map(|_| balancer.choose(0, |_| true, busy).unwrap()), 2);
        assert_eq!(choices, [0, 100], "7 requests on weight 3 are more than 2 on weight 1");
    }

    #[test]
    fn a_tenant_stays_and_a_new_endpoint_takes_only_its_share() {
        let (before, after) =
            (balancer(Balance::HashTenant, &[1; 9]), balancer(Balance::HashTenant, &[1; 10]));
        let keys = (0..10_000_u64).map(|tenant| hash_of(&tenant.to_le_bytes()));
        let mut moved = 0;
        for key in keys {
            let (old, new) =
                (before.choose(key, |_| true, |_| 0), after.choose(key, |_| true, |_| 0).unwrap());
            assert_eq!(before.choose(key, |_| true, |_| 0), old);
            assert!(old == Some(new) || new == 9, "nobody moves but to the new one");
            moved += usize::from(old != Some(new));
        }
        assert!((850..1150).contains(&moved), "a tenth of the tenants moves, {moved} of 10,000 did");
    }

    #[test]
    fn tenants_are_spread_by_weight() {
        let balancer = balancer(Balance::HashTenant, &[1, 3]);
        let keys = (0..10_000_u64).map(|tenant| hash_of(&tenant.to_le_bytes()));
        let shares = counts(keys.map(|key| balancer.choose(key, |_| true, |_| 0).unwrap()), 2);
        assert!((7200..7800).contains(&shares[1]), "{shares:?}");
    }
}
