//! The services behind the gateway: where they are, how they stand, and each worker's open connections to them.
//!
//! Of an upstream the workers share what is known ([`target`]), and each has connections and turns of its own, so that
//! a request takes no lock and no memory from the heap to get to its endpoint.
//!
//! A request first takes a [`Seat`]: the breaker must be closed, and the caps on requests under way not reached. Then an
//! endpoint is chosen by [`balance`] among those that serve ([`standing`]); if it can't be reached the next one is, at
//! once. Why a request failed there is noted, and may eject the endpoint. Whether it is tried again is `forward`'s to
//! say, within the upstream's [`budget`].

mod balance;
mod breaker;
mod budget;
mod endpoint;
mod keeper;
mod meters;
mod pool;
mod recent;
mod seats;
mod settings;
mod standing;
mod target;
mod tls;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

pub use self::balance::Balance;
pub use self::breaker::BreakerSettings;
pub use self::keeper::UpstreamKeeper;
pub(super) use self::meters::UpstreamMetrics;
pub use self::seats::CapSettings;
pub use self::settings::{
    EndpointSettings, HealthSettings, Protocol, RetrySettings, UpstreamSettings, UpstreamTimeouts,
};
pub use self::target::BadUpstream;
pub(super) use self::target::UpstreamTarget;
pub use self::tls::{BadUpstreamTls, UpstreamTlsSettings};

use self::balance::Balancer;
use self::breaker::Passed;
use self::endpoint::Endpoint;
use self::meters::{EndpointMeters, UpstreamMeters};
use self::pool::Pool;
use self::standing::Standing;
use self::target::Endpoints;
use crate::clock::Monotonic;
use crate::domain::TenantId;
use crate::listener::{Alarm, Buffers, Stream};

/// An endpoint that could not be reached is tried last for this long, after the time that connecting may take.
const REST: Duration = Duration::from_secs(1);

/// Endpoints that one try of a request attempts to connect to: together with the time of one attempt this bounds how
/// long a request waits when all are gone.
const CONNECTS_MAX: usize = 8;

/// One worker's way to an upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    target: Arc<UpstreamTarget>,
    /// As the endpoints were at the last tick.
    lanes: RefCell<Rc<Lanes>>,
    buffers: Buffers,
    metrics: UpstreamMetrics,
    meters: UpstreamMeters,
    tally: Tally,
}

/// What a worker has counted since its last tick.
#[derive(Debug, Default)]
struct Tally {
    requests: Cell<u64>,
    /// Requests of which is known how they went, and those that failed.
    judged: Cell<u64>,
    failed: Cell<u64>,
    /// Begun less ended.
    under_way: Cell<i64>,
}

/// One worker's connections to the endpoints, and whose turn it is.
#[derive(Debug)]
struct Lanes {
    of: Arc<Endpoints>,
    balancer: Balancer,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    pool: Rc<Pool>,
    meters: EndpointMeters,
}

/// A place among the requests under way to an upstream; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat<'u> {
    upstream: &'u Upstream,
    /// Where requests are capped.
    is_counted: bool,
    /// Where requests of a tenant are.
    tenant: Option<TenantId>,
    is_probe: bool,
}

/// One request's way through the endpoints.
#[derive(Debug)]
pub(super) struct Tries {
    lanes: Rc<Lanes>,
    /// What the request is hashed by.
    key: u64,
    /// Endpoints that it was tried with, the last one last.
    tried: SmallVec<[usize; 8]>,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) stream: Stream,
    /// It has served a request before, so the upstream may have closed it meanwhile.
    pub(super) is_reused: bool,
    lane: usize,
    _busy: Option<Busy>,
}

/// Counts a request of [`Balance::LeastRequest`] as under way.
#[derive(Debug)]
struct Busy {
    lanes: Rc<Lanes>,
    lane: usize,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// A pooled one if there is one.
    Any,
    /// One that nobody has used before.
    Fresh,
    /// One that speaks HTTP/1.1 alone, to be upgraded.
    Http1,
}

/// Why a request was not even tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unavailable {
    /// All endpoints are unhealthy or ejected.
    Unhealthy,
    /// Too many of the last requests failed; the next one may try after that time.
    Spared { wait: Duration },
    /// As many requests are under way as may be.
    Busy,
    /// As many of this tenant's.
    TenantBusy,
}

/// Why there is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoConnection {
    /// No endpoint could be connected to.
    Unreachable,
    /// The last one took too long.
    TooSlow,
    Unavailable(Unavailable),
}

/// How a request went at its upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Went {
    Well,
    /// No connection, a broken answer, one too late, or one that says as much (502, 503, 504).
    Badly,
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(target: Arc<UpstreamTarget>, metrics: &UpstreamMetrics, buffers: &Buffers) -> Self {
        let lanes = Lanes::new(&target, None, metrics, buffers);
        Upstream {
            lanes: RefCell::new(Rc::new(lanes)),
            meters: metrics.of_upstream(target.name()),
            metrics: metrics.clone(),
            buffers: buffers.clone(),
            tally: Tally::default(),
            target,
        }
    }

    pub(super) fn timeouts(&self) -> UpstreamTimeouts {
        self.target.settings.timeouts
    }

    pub(super) fn retry(&self) -> &RetrySettings {
        &self.target.settings.retry
    }

    /// A place for one more request.
    ///
    /// # Errors
    /// [`Unavailable`]: the request is not to be sent.
    pub(super) fn admit(&self, tenant: Option<TenantId>, now: Monotonic) -> Result<Seat<'_>, Unavailable> {
        let caps = self.target.settings.caps;
        // From here on the seat gives back what it has, also when there is not all it needs.
        let mut seat = Seat::new(self);
        if caps.requests_per_tenant > 0
            && let Some(tenant) = tenant
        {
            if !self.target.seats.take_of(tenant, caps.requests_per_tenant) {
                return Err(Unavailable::TenantBusy);
            }
            seat.tenant = Some(tenant);
        }
        if caps.requests > 0 {
            if !self.target.seats.take(caps.requests) {
                return Err(Unavailable::Busy);
            }
            seat.is_counted = true;
        }
        match self.target.breaker.pass(now) {
            Ok(passed) => seat.is_probe = passed == Passed::Probe,
            Err(wait) => return Err(Unavailable::Spared { wait }),
        }
        add(&self.tally.requests, 1);
        Ok(seat)
    }

    /// The way of one request; `key` is what it is hashed by, if it is.
    pub(super) fn tries(&self, key: impl FnOnce() -> u64) -> Tries {
        let key = if self.target.settings.balance == Balance::HashTenant { key() } else { 0 };
        Tries { lanes: self.lanes.borrow().clone(), key, tried: SmallVec::new() }
    }

    /// An open connection, as `wanted`, to the endpoint whose turn it is, or to the next one that can be reached.
    ///
    /// Dropping the future drops a connection that is being made.
    ///
    /// # Errors
    /// [`NoConnection`]
    pub(super) async fn connect(
        &self,
        tries: &mut Tries,
        alarm: &Alarm,
        now: Monotonic,
        wanted: Wanted,
    ) -> Result<UpstreamConnection, NoConnection> {
        let mut error = NoConnection::Unavailable(Unavailable::Unhealthy);
        for _ in 0..CONNECTS_MAX {
            let Some(lane) = tries.next(now) else { break };
            let busy = self.busy(tries, lane);
            let connection = |stream, is_reused| UpstreamConnection { stream, is_reused, lane, _busy: busy };
            let pool = &tries.lanes.lanes[lane].pool;
            let idle = match wanted {
                Wanted::Any => pool.take_idle(now),
                Wanted::Fresh | Wanted::Http1 => None,
            };
            if let Some(stream) = idle {
                return Ok(connection(stream, true));
            }
            match self.reach(&tries.lanes.lanes[lane], alarm, now, wanted).await {
                Ok(stream) => return Ok(connection(stream, false)),
                Err(fault) => error = fault,
            }
            if alarm.is_past_bound() {
                break;
            }
        }
        Err(error)
    }

    fn busy(&self, tries: &Tries, lane: usize) -> Option<Busy> {
        let asks = self.target.settings.balance == Balance::LeastRequest;
        asks.then(|| Busy::new(tries.lanes.clone(), lane))
    }

    /// A new connection. An endpoint that can't be reached rests from then on.
    async fn reach(
        &self,
        lane: &Lane,
        alarm: &Alarm,
        now: Monotonic,
        wanted: Wanted,
    ) -> Result<Stream, NoConnection> {
        let standing = &lane.pool.endpoint.standing;
        let connect = self.timeouts().connect;
        let error = match alarm.within(connect, lane.pool.connect(now, wanted)).await {
            Ok(Ok(stream)) => {
                standing.reached();
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        lane.meters.unreachable.inc();
        // Once per rest: an outage must not fill the log with a line for each request.
        if !standing.rests(now) {
            self.log_unreachable(lane, &error);
        }
        // Whoever waited in vain waited that long before.
        standing.rest(now, connect + REST);
        self.failed_at(lane, now);
        Err(if is_late { NoConnection::TooSlow } else { NoConnection::Unreachable })
    }

    /// The last try was answered as it should be.
    pub(super) fn went_well(&self, tries: &Tries) {
        if let Some(lane) = tries.last() {
            lane.pool.endpoint.standing.answered();
        }
    }

    /// The last try failed at its endpoint, which may eject it.
    pub(super) fn went_badly(&self, tries: &Tries, now: Monotonic) {
        if let Some(lane) = tries.last() {
            self.failed_at(lane, now);
        }
    }

    fn failed_at(&self, lane: &Lane, now: Monotonic) {
        lane.meters.failures.inc();
        let Some(time) = self.target.failed(&lane.pool.endpoint, now) else { return };
        lane.meters.ejections.inc();
        let (upstream, name) = (self.target.name(), &lane.pool.endpoint.name);
        tracing::warn!(
            upstream, upstream.endpoint = %name, seconds = time.as_secs_f64(),
            "requests to the upstream at {name} failed in a row: it gets none for {time:?}"
        );
    }

    /// Whether one more request may be tried again; takes it from the budget.
    pub(super) fn may_retry(&self, now: Monotonic) -> bool {
        self.target.budget.count(now, self.tally.requests.take());
        let may = self.target.budget.take(now, self.retry().budget_percent);
        let counter = if may { &self.meters.retries } else { &self.meters.retries_denied };
        counter.inc();
        may
    }

    /// Takes a connection back whose last answer is complete.
    pub(super) fn put_back(&self, tries: &Tries, connection: UpstreamConnection, now: Monotonic) {
        let pool = &tries.lanes.lanes[connection.lane].pool;
        pool.put_back(connection.stream, now, self.target.settings.idle_per_worker_max);
    }

    /// Short housekeeping: closes connections that have idled too long, adds up what was counted, and goes on with
    /// other endpoints if there are others.
    pub(super) fn tick(&self, now: Monotonic) {
        let idle_for = self.target.settings.idle_for;
        self.lanes.borrow().lanes.iter().for_each(|lane| lane.pool.close_idle(now, idle_for));
        self.add_up(now);
        if !self.target.has(&self.lanes.borrow().of) {
            let lanes = Lanes::new(&self.target, Some(&self.lanes.borrow()), &self.metrics, &self.buffers);
            self.lanes.replace(Rc::new(lanes));
        }
    }

    fn add_up(&self, now: Monotonic) {
        let Tally { requests, judged, failed, under_way } = &self.tally;
        self.meters.under_way.add(under_way.take());
        if requests.get() > 0 {
            self.target.budget.count(now, requests.take());
        }
        if self.target.breaker.count(now, judged.take(), failed.take()) {
            self.meters.openings.inc();
            let upstream = self.target.name();
            tracing::warn!(
                upstream,
                "too many requests to the upstream `{upstream}` failed: it is spared for a while"
            );
        }
    }

    fn log_unreachable(&self, lane: &Lane, error: &io::Error) {
        let (upstream, name) = (self.target.name(), &lane.pool.endpoint.name);
        tracing::warn!(
            upstream, upstream.endpoint = %name, error = %error,
            "the upstream at {name} can't be reached: {error}"
        );
    }
}

impl Drop for Upstream {
    /// Requests that outlived a reload have ended here.
    fn drop(&mut self) {
        self.meters.under_way.add(self.tally.under_way.take());
    }
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

// === impl Lanes ===

impl Lanes {
    /// Connections to endpoints that were there `before` are kept.
    fn new(
        target: &UpstreamTarget,
        before: Option<&Lanes>,
        metrics: &UpstreamMetrics,
        buffers: &Buffers,
    ) -> Self {
        let of = target.endpoints();
        let known = |endpoint: &Arc<Endpoint>| {
            let mut lanes = before?.lanes.iter();
            lanes.find(|lane| Arc::ptr_eq(&lane.pool.endpoint, endpoint)).map(|lane| lane.pool.clone())
        };
        let lane = |endpoint: &Arc<Endpoint>| Lane {
            meters: metrics.of_endpoint(target.name(), &endpoint.name),
            pool: known(endpoint).unwrap_or_else(|| Rc::new(Pool::new(endpoint.clone(), buffers.clone()))),
        };
        let weighted = of.iter().map(|endpoint| (endpoint.weight, endpoint.hash));
        let balancer = Balancer::new(target.settings.balance, weighted);
        Lanes { balancer, lanes: of.iter().map(lane).collect(), of }
    }

    fn standing(&self, lane: usize) -> &Standing {
        &self.lanes[lane].pool.endpoint.standing
    }
}

// === impl Seat ===

impl<'u> Seat<'u> {
    fn new(upstream: &'u Upstream) -> Self {
        upstream.tally.under_way.set(upstream.tally.under_way.get() + 1);
        Seat { upstream, is_counted: false, tenant: None, is_probe: false }
    }

    /// How the request went in the end: what the breaker judges by. Without a word, as when the client went away, it
    /// counts as neither.
    pub(super) fn went(&self, went: Went) {
        let Upstream { tally, target, .. } = self.upstream;
        match went {
            Went::Well if self.is_probe => target.breaker.close(),
            Went::Well => add(&tally.judged, 1),
            // A probe that fails leaves things as they are.
            Went::Badly if self.is_probe => {}
            Went::Badly => {
                add(&tally.judged, 1);
                add(&tally.failed, 1);
            }
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Upstream { tally, target, .. } = self.upstream;
        tally.under_way.set(tally.under_way.get() - 1);
        if self.is_counted {
            target.seats.leave();
        }
        if let Some(tenant) = self.tenant {
            target.seats.leave_of(tenant);
        }
    }
}

// === impl Tries ===

impl Tries {
    fn last(&self) -> Option<&Lane> {
        self.tried.last().map(|lane| &self.lanes.lanes[*lane])
    }

    /// The last endpoint's connection was stale, which says nothing of the endpoint: it may be chosen again.
    pub(super) fn was_stale(&mut self) {
        self.tried.pop();
    }

    /// The next endpoint that serves: one that does not rest, if there is any, and none twice.
    fn next(&mut self, now: Monotonic) -> Option<usize> {
        let Tries { lanes, key, tried } = &*self;
        let busy = |lane: usize| lanes.standing(lane).busy();
        let serves = |lane: usize| lanes.standing(lane).serves(now) && !tried.contains(&lane);
        let is_awake = |lane: usize| serves(lane) && !lanes.standing(lane).rests(now);
        let chosen = lanes.balancer.choose(*key, is_awake, busy);
        let chosen = chosen.or_else(|| lanes.balancer.choose(*key, serves, busy))?;
        self.tried.push(chosen);
        Some(chosen)
    }

    /// The request is tried again: with another endpoint if one is left, otherwise with any.
    pub(super) fn begin_again(&mut self, now: Monotonic) {
        let is_left = |lane: usize| self.lanes.standing(lane).serves(now) && !self.tried.contains(&lane);
        if !(0..self.lanes.lanes.len()).any(is_left) {
            self.tried.clear();
        }
    }
}

// === impl Busy ===

impl Busy {
    fn new(lanes: Rc<Lanes>, lane: usize) -> Busy {
        lanes.standing(lane).begin();
        Busy { lanes, lane }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.lanes.standing(self.lane).end();
    }
}

// === impl Went ===

impl Went {
    pub(super) const fn of_status(status: u16) -> Went {
        if matches!(status, 502..=504) { Went::Badly } else { Went::Well }
    }
}
