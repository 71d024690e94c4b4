//! What gateways see of keys and tenants beside what they charge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{ApiKeyId, TenantId};

/// What was seen since somebody looked last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sightings {
    pub networks: BTreeSet<KeySeen>,
    /// Requests that were refused for want of units.
    pub denied: BTreeMap<TenantId, u64>,
    /// Uses of keys that don't work, by whose they are, `None` for nobody's, and by where they came from.
    pub bad_keys: BTreeMap<(Option<TenantId>, IpNet), u64>,
}

/// A key that works, in a network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeySeen {
    pub tenant: TenantId,
    pub key: ApiKeyId,
    /// [`network_of`] the client's address.
    pub network: IpNet,
}

/// Of an address of IPv4: what a provider hands out to neighbors. Of IPv6: what one customer gets.
const BITS: u8 = 24;
const BITS_V6: u8 = 48;

/// The network that an address is taken for, so that who moves within it is not somebody new.
pub fn network_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let bits = if address.is_ipv4() { BITS } else { BITS_V6 };
    IpNet::new(address, bits).map_or_else(|_| IpNet::from(address), |network| network.trunc())
}

// === impl Sightings ===

impl Sightings {
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.denied.is_empty() && self.bad_keys.is_empty()
    }

    /// So many things to write down.
    pub fn len(&self) -> usize {
        self.networks.len() + self.denied.len() + self.bad_keys.len()
    }

    /// Adds what somebody else saw.
    pub fn add(&mut self, other: Sightings) {
        self.networks.extend(other.networks);
        for (tenant, times) in other.denied {
            *self.denied.entry(tenant).or_default() += times;
        }
        for (source, times) in other.bad_keys {
            *self.bad_keys.entry(source).or_default() += times;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::network_of;

    #[test]
    fn neighbors_are_of_one_network() {
        let of = |address: &str| network_of(address.parse::<IpAddr>().unwrap()).to_string();
        assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.0/24", "mapped or not");
        assert_eq!(of("2001:db8:1:2::3"), "2001:db8:1::/48");
    }
}
