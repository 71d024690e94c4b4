//! An upstream as all workers share it: its endpoints and how they stand, and what is allowed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::breaker::Breaker;
use super::budget::Budget;
use super::endpoint::Endpoint;
use super::seats::Seats;
use super::settings::{EndpointSettings, HealthSettings, UpstreamSettings};
use super::tls::BadUpstreamTls;
use crate::clock::Monotonic;

/// An upstream whose settings were understood.
#[derive(Debug)]
pub(in crate::gateway) struct UpstreamTarget {
    pub(super) settings: UpstreamSettings,
    pub(super) breaker: Arc<Breaker>,
    pub(super) budget: Arc<Budget>,
    pub(super) seats: Arc<Seats>,
    /// As configured: names are names.
    origins: Vec<Arc<Endpoint>>,
    /// As found: names that were looked up are addresses.
    endpoints: ArcSwap<Endpoints>,
    /// Held while somebody is ejected, so that two at once are not one too many.
    ejecting: Mutex<()>,
}

/// The endpoints that requests are spread over.
pub(super) type Endpoints = Vec<Arc<Endpoint>>;

#[derive(Debug, thiserror::Error)]
pub enum BadUpstream {
    #[error("it has no URL")]
    NoUrl,
    #[error(transparent)]
    Tls(#[from] BadUpstreamTls),
}

// === impl UpstreamTarget ===

impl UpstreamTarget {
    /// What was known `before` goes on to hold: how the endpoints stand that are still there, which addresses names
    /// have, what is under way.
    pub(in crate::gateway) fn resolve(
        settings: &UpstreamSettings,
        before: Option<&UpstreamTarget>,
    ) -> Result<UpstreamTarget, BadUpstream> {
        if settings.endpoints.is_empty() {
            return Err(BadUpstream::NoUrl);
        }
        let is_secured = settings.endpoints.iter().any(EndpointSettings::is_secured);
        let tls = is_secured.then(|| settings.tls.load()).transpose()?;
        let tls = tls.as_ref().map(|tls| (tls, &settings.tls));
        let origin = |own: &EndpointSettings| Endpoint::new(own, tls).map(Arc::new);
        let origins = settings.endpoints.iter().map(origin).collect::<Result<Vec<_>, BadUpstreamTls>>()?;
        let breaker = before.map(|before| &before.breaker);
        let breaker = breaker.filter(|breaker| breaker.settings() == settings.breaker).cloned();
        let target = UpstreamTarget {
            breaker: breaker.unwrap_or_else(|| Arc::new(Breaker::new(settings.breaker))),
            budget: before.map_or_else(|| Arc::new(Budget::new()), |before| before.budget.clone()),
            seats: before.map_or_else(|| Arc::new(Seats::new()), |before| before.seats.clone()),
            endpoints: ArcSwap::from_pointee(after(&origins, before)),
            origins,
            ejecting: Mutex::default(),
            settings: settings.clone(),
        };
        if settings.health.path.is_none() {
            target.endpoints.load().iter().for_each(|endpoint| endpoint.standing.unchecked());
        }
        Ok(target)
    }

    pub(in crate::gateway) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }

    /// Whether these are the endpoints as they are now.
    pub(super) fn has(&self, endpoints: &Arc<Endpoints>) -> bool {
        Arc::ptr_eq(&self.endpoints.load(), endpoints)
    }

    /// `host:port` of those that DNS is asked for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().filter(|origin| origin.is_name()).map(|origin| &*origin.origin)
    }

    /// `name` has these addresses now; none are no news. Endpoints whose address is still there go on as they are.
    /// Gives whether something changed.
    pub(super) fn found(&self, name: &str, addresses: &[SocketAddr]) -> bool {
        if addresses.is_empty() {
            return false;
        }
        let old = self.endpoints();
        let mut new = Endpoints::new();
        for origin in &self.origins {
            if &*origin.origin == name {
                new.extend(addresses.iter().map(|address| known_or_new(&old, origin, *address)));
            } else {
                new.extend(old.iter().filter(|endpoint| endpoint.origin == origin.origin).cloned());
            }
        }
        let is_same =
            old.len() == new.len() && new.iter().all(|one| old.iter().any(|other| Arc::ptr_eq(one, other)));
        if !is_same {
            self.endpoints.store(Arc::new(new));
        }
        !is_same
    }

    /// A request to the endpoint failed. If that was one too many in a row, and enough others are left, it gets none
    /// for a while, which is given.
    pub(super) fn failed(&self, endpoint: &Endpoint, now: Monotonic) -> Option<Duration> {
        let HealthSettings { eject_after, eject_for, eject_percent_max, .. } = self.settings.health;
        let failures = endpoint.standing.failed();
        if eject_after == 0 || failures < eject_after {
            return None;
        }
        let _alone = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.endpoints.load();
        let ejected = endpoints.iter().filter(|endpoint| endpoint.standing.is_ejected(now)).count();
        let is_allowed =
            (ejected + 1) * 100 <= endpoints.len() * usize::try_from(eject_percent_max).unwrap_or(100);
        let may = is_allowed && endpoint.standing.serves(now);
        may.then(|| endpoint.standing.eject(now, eject_for))
    }
}

/// The endpoints of `origins`, as far as they were known before.
fn after(origins: &[Arc<Endpoint>], before: Option<&UpstreamTarget>) -> Endpoints {
    let known = before.map(UpstreamTarget::endpoints).unwrap_or_default();
    let mut endpoints = Endpoints::new();
    for origin in origins {
        let own = known.iter().filter(|endpoint| endpoint.origin == origin.origin);
        let own: Endpoints = own.map(|endpoint| Arc::new(origin.standing_as(endpoint))).collect();
        if own.is_empty() { endpoints.push(origin.clone()) } else { endpoints.extend(own) }
    }
    endpoints
}

fn known_or_new(known: &Endpoints, origin: &Endpoint, address: SocketAddr) -> Arc<Endpoint> {
    let own = known.iter().find(|endpoint| endpoint.origin == origin.origin && endpoint.is_at(address));
    own.cloned().unwrap_or_else(|| Arc::new(origin.at(address)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::UpstreamTarget;
    use crate::clock::Monotonic;
    use crate::gateway::upstream::{EndpointSettings, HealthSettings, Protocol, UpstreamSettings};

    fn settings(hosts: &[&str], health: HealthSettings) -> UpstreamSettings {
        let endpoint = |host: &&str| EndpointSettings {
            host: (*host).to_owned(),
            port: 80,
            protocol: Protocol::Http,
            weight: 1,
        };
        UpstreamSettings {
            endpoints: hosts.iter().map(endpoint).collect(),
            health,
            ..UpstreamSettings::default()
        }
    }

    fn target(hosts: &[&str], health: HealthSettings) -> UpstreamTarget {
        UpstreamTarget::resolve(&settings(hosts, health), None).unwrap()
    }

    fn shown(target: &UpstreamTarget) -> Vec<String> {
        target.endpoints().iter().map(|endpoint| endpoint.name.to_string()).collect()
    }

    #[test]
    fn never_more_than_the_configured_share_is_ejected() {
        let now = Monotonic::from_nanos(1);
        for (percent, count, expected) in [(50, 1, 0), (50, 2, 1), (50, 5, 2), (100, 3, 3), (0, 3, 0)] {
            let health =
                HealthSettings { eject_after: 2, eject_percent_max: percent, ..HealthSettings::default() };
            let hosts: Vec<_> = (0..count).map(|host| format!("10.0.0.{host}")).collect();
            let target = target(&hosts.iter().map(String::as_str).collect::<Vec<_>>(), health);
            let endpoints = target.endpoints();
            let ejected = endpoints.iter().filter(|endpoint| {
                assert_eq!(target.failed(endpoint, now), None, "once is not twice");
                target.failed(endpoint, now).is_some()
            });
            assert_eq!(ejected.count(), expected, "{percent} % of {count}");
        }
    }

    #[test]
    fn a_name_is_its_addresses_as_they_were_last_known() {
        let target = target(&["10.0.0.1", "orders.test"], HealthSettings::default());
        assert_eq!(shown(&target), ["10.0.0.1:80", "orders.test:80"]);
        assert_eq!(target.names().collect::<Vec<_>>(), ["orders.test:80"]);
        let [one, two, three] = [1, 2, 3].map(|host| ([10, 0, 1, host], 80).into());
        assert!(target.found("orders.test:80", &[one, two]));
        assert_eq!(shown(&target), ["10.0.0.1:80", "10.0.1.1:80", "10.0.1.2:80"]);
        let before = target.endpoints();
        assert!(!target.found("orders.test:80", &[two, one]), "the order means nothing");
        assert!(!target.found("orders.test:80", &[]), "no answer is no news");
        assert!(target.has(&before));
        assert!(target.found("orders.test:80", &[two, three]));
        assert_eq!(shown(&target), ["10.0.0.1:80", "10.0.1.2:80", "10.0.1.3:80"]);
        assert!(Arc::ptr_eq(&before[2], &target.endpoints()[1]), "who stays goes on with its connections");
    }

    #[test]
    fn a_reload_forgets_no_standing_and_no_address() {
        let health = HealthSettings { path: Some("/up".into()), ..HealthSettings::default() };
        let before = target(&["10.0.0.1", "orders.test"], health.clone());
        before.found("orders.test:80", &[([10, 0, 1, 1], 80).into()]);
        let now = Monotonic::from_nanos(1);
        let endpoints = before.endpoints();
        endpoints[1].standing.eject(now, Duration::from_secs(1));
        endpoints[0].standing.checked(false, 1, 1);
        let again =
            UpstreamTarget::resolve(&settings(&["orders.test", "10.0.0.1"], health), Some(&before)).unwrap();
        assert_eq!(shown(&again), ["10.0.1.1:80", "10.0.0.1:80"]);
        let serving: Vec<_> =
            again.endpoints().iter().map(|endpoint| endpoint.standing.serves(now)).collect();
        assert_eq!(serving, [false, false]);
        let unchecked = settings(&["10.0.0.1"], HealthSettings::default());
        let unchecked = UpstreamTarget::resolve(&unchecked, Some(&again)).unwrap();
        assert!(unchecked.endpoints()[0].standing.serves(now), "nobody would ever find it healthy again");
    }
}
