//! The walk of a request, on one page.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::admission;
use super::authorize::{self, Allowed, Asked};
use super::connection::{self, Client};
use super::forward::{Ended, Forward};
use super::grace::Wakes;
use super::headers::{HeaderSettings, Peer, is_grpc};
use super::identity::{Caller, IdentitySettings, Lookout, Presented, Registers};
use super::meters::{GatewayMetrics, Meters};
use super::passage::{Admitted, Passage};
use super::policy::{self, Charges};
use super::pressure::{MemoryPressure, MemoryStanding};
use super::random::RequestIds;
use super::refusal::{Denial, Refusal, Shortage};
use super::regulars::Regulars;
use super::route::{Route, Table};
use super::sightings::{SightingsOfWorker, SightingsShared};
use super::strangers::Strangers;
use super::tokens::Tokens;
use super::tunnel::Upgrade;
use super::upstream::{Upstream, UpstreamTarget};
use crate::authority::Admission;
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::directory::{Directory, Entitled, Entitlements};
use crate::domain::{Owner, RequestId};
use crate::journal::Writer;
use crate::listener::http1::{BodyLength, Head, HeadLimits};
use crate::listener::{Accepted, Buffer, Buffers, Purpose, Service, WorkerParts};
use crate::secret::hash::Peppers;
use crate::till::RateLimits;

/// What all workers share. Nothing in it is written to by requests but the till and the caches.
pub struct GatewayShared {
    pub table: ArcSwap<Table>,
    pub directory: Arc<Directory>,
    pub admission: Admission,
    pub rates: RateLimits,
    pub identity: IdentitySettings,
    pub tokens: Arc<Tokens>,
    pub strangers: Strangers,
    pub sightings: SightingsShared,
    pub peppers: Peppers,
    pub headers: HeaderSettings,
    pub limits: GatewayLimits,
    pub memory: MemoryStanding,
    pub metrics: GatewayMetrics,
    pub clock: Arc<dyn Clock>,
}

/// Bounds on what a client may send and how slowly.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    pub head: HeadLimits,
    pub body_bytes: u64,
    /// From a head's first byte to its last.
    pub head_time: Duration,
    /// Between two parts of a request's body.
    pub body_idle: Duration,
    /// How long the client may refuse to take a part of the answer.
    pub write: Duration,
    /// Bytes per second that a request's body must come with, after [`GatewayLimits::BODY_RATE_AFTER`]. 0: any.
    pub body_rate_min: u64,
    /// Between two requests of a connection.
    pub idle: Duration,
}

/// The data plane of one worker.
pub struct Gateway {
    pub(super) shared: Arc<GatewayShared>,
    pub(super) parts: WorkerParts,
    writer: Rc<Writer>,
    ids: RequestIds,
    regulars: Regulars,
    sightings: SightingsOfWorker,
    /// Exchanged when a reload has swapped the shared table; requests on their way keep theirs.
    serving: RefCell<Rc<Serving>>,
    wakes: Wakes,
    /// As it was at the last tick.
    pressure: Cell<MemoryPressure>,
}

/// A table with this worker's connections and meters for it.
pub(super) struct Serving {
    pub(super) table: Arc<Table>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) meters: Meters,
}

/// What a request's head said, as far as the walk needs it after the head is gone.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: RequestId,
    pub(super) admitted_at: Timestamp,
    pub(super) began: Monotonic,
    pub(super) client: IpAddr,
    pub(super) body: BodyLength,
    pub(super) closes: bool,
    pub(super) expects_continue: bool,
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    pub(super) takes_trailers: bool,
    pub(super) is_grpc: bool,
    /// What the client would speak after an answer of 101.
    pub(super) upgrade: Option<Upgrade>,
    /// Set if another proxy asks whether a request may pass that it would send itself.
    pub(super) asked: Option<Asked>,
    /// Sent again, it does no more than sent once (RFC 9110, section 9.2.2).
    pub(super) is_idempotent: bool,
    pub(super) route: usize,
    pub(super) presented: Presented,
}

/// A request that is answered by the gateway itself.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// Header lines that tell of the caller's quotas.
    pub(super) lines: Option<Buffer>,
}

// === impl GatewayShared ===

impl GatewayShared {
    /// `None` for a route that asks nobody who calls.
    fn lookout(&self, route: &Route) -> Option<Lookout<'_>> {
        let mut kinds = route.settings.identities;
        // Without an issuer no token is ours.
        kinds.jwt &= !self.tokens.is_empty();
        (!route.settings.public).then_some(Lookout { settings: &self.identity, kinds })
    }
}

// === impl GatewayLimits ===

impl GatewayLimits {
    /// A body's first seconds may be slow: connections warm up.
    pub const BODY_RATE_AFTER: Duration = Duration::from_secs(10);
}

// === impl Gateway ===

impl Gateway {
    pub fn new(shared: Arc<GatewayShared>, parts: WorkerParts, writer: Writer) -> Self {
        let serving =
            RefCell::new(Rc::new(Serving::new(shared.table.load_full(), &shared.metrics, &parts.buffers)));
        Gateway {
            shared,
            parts,
            writer: Rc::new(writer),
            ids: RequestIds::seeded(),
            regulars: Regulars::default(),
            sightings: SightingsOfWorker::default(),
            serving,
            wakes: Wakes::default(),
            pressure: Cell::default(),
        }
    }

    /// The walk: from a head that was read (`call`, with the upstream's head begun in `head`) to the end of its answer.
    ///
    /// Where another proxy only asks, the answer is all there is to do: nothing is forwarded.
    ///
    /// Dropping the future ends the request: before the first byte has left for the upstream its units go back,
    /// afterwards they count and the record says that the client went away.
    ///
    /// # Errors
    /// [`Refused`]: nothing has been answered yet.
    pub(super) async fn pass(
        &self,
        serving: &Serving,
        client: &mut Client,
        call: &Call,
        mut head: Buffer,
    ) -> Result<Ended, Refused> {
        let route = &serving.table.routes[call.route];
        if route.settings.public {
            if let Some(asked) = &call.asked {
                return Ok(self.allow(serving, client, call, Allowed::anybody(asked)).await);
            }
            self.shared.headers.finish_request(&mut head, None, call.request, call.admitted_at);
            let forward = Forward::public(self, serving, call);
            return forward.run(client, head).await;
        }
        let caller = self.permitted(route, call).await?;
        self.check_rate(route, &caller)?;
        let charges = policy::charges(&caller, route, call)?;
        let reserved = admission::reserve(&self.shared.admission, &charges, call.admitted_at).await;
        let reservation = reserved.map_err(|refusal| self.denied(refusal, call, &caller, &charges))?;
        let passage = Passage::begin(Admitted {
            reservation,
            caller: &caller,
            route: &route.settings.name,
            on: route.settings.on,
            writer: self.writer.clone(),
            clock: &*self.shared.clock,
            request: call.request,
            admitted_at: call.admitted_at,
            began: call.began,
        })?;
        serving
            .meters
            .charged(call.route, &route.settings.charges, |charge| charge.units.at_admission(call.body));
        if let Some(asked) = &call.asked {
            let allowed = Allowed::caller(asked, passage, &caller, &charges);
            return Ok(self.allow(serving, client, call, allowed).await);
        }
        self.shared.headers.finish_request(&mut head, Some(&caller), call.request, call.admitted_at);
        let forward = Forward::charged(self, serving, call, passage, &caller, &charges);
        forward.run(client, head).await
    }

    /// Reads what the walk needs from a head, and begins the upstream's head with its lines.
    pub(super) fn open(
        &self,
        serving: &Serving,
        head: &Head<'_>,
        peer: &Peer,
        out: &mut Buffer,
    ) -> Result<Call, (Option<usize>, Refusal)> {
        let shared = &*self.shared;
        let asker = head;
        let asks = peer.purpose == Purpose::Authorize;
        let question = asks.then(|| authorize::question(asker, peer, &shared.headers, shared.limits.head));
        let question = question.transpose().map_err(|refusal| (None, refusal))?;
        let head = question.as_ref().unwrap_or(asker);
        let index = serving.table.find(head).map_err(|refusal| (None, refusal))?;
        let refuse = |refusal| (Some(index), refusal);
        if self.pressure.get() == MemoryPressure::Critical {
            return Err(refuse(Refusal::ReducedCapacity(Shortage::Memory)));
        }
        if policy::is_too_large(head, shared.limits.body_bytes) {
            return Err(refuse(Refusal::BodyTooLarge { bytes_max: shared.limits.body_bytes }));
        }
        let route = &serving.table.routes[index];
        if asks && !policy::is_askable(route) {
            return Err(refuse(Refusal::NotAskable));
        }
        let admitted_at = shared.clock.now();
        let lookout = shared.lookout(route);
        let presented = match lookout {
            Some(lookout) => Presented::read(head, peer, lookout, self.registers(), admitted_at)
                .map_err(|reason| refuse(Refusal::Unauthenticated(reason)))?,
            None => Presented::Nobody,
        };
        if !asks {
            shared.headers.begin_request(out, head, route.forwarded_path(head.path), lookout, peer);
        }
        Ok(Call {
            request: self.ids.next(admitted_at),
            admitted_at,
            began: shared.clock.monotonic(),
            client: shared.headers.client_address(head, peer),
            body: head.body,
            closes: head.closes,
            expects_continue: head.expects_continue && !head.body.is_empty(),
            is_head: asker.method == "HEAD",
            is_http10: head.is_http10,
            takes_trailers: head.takes_trailers,
            is_grpc: is_grpc(head, peer),
            upgrade: Upgrade::asked(head).filter(|_| !asks),
            asked: question.as_ref().map(Asked::about),
            is_idempotent: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
            route: index,
            presented,
        })
    }

    /// An id for a request whose head was refused.
    pub(super) fn next_request(&self) -> RequestId {
        self.ids.next(self.shared.clock.now())
    }

    pub(super) fn serving(&self) -> Rc<Serving> {
        self.serving.borrow().clone()
    }

    /// Whoever calls, if they may call that.
    async fn permitted(&self, route: &Route, call: &Call) -> Result<Caller, Refusal> {
        let seen = &self.sightings;
        let recognized = self.recognize(call).await;
        let caller = recognized.inspect_err(|refusal| seen.refused(refusal, None, call.client))?;
        let tenant = caller.entitlements().tenant();
        policy::permit(&caller, route, call, call.admitted_at)
            .inspect_err(|refusal| seen.refused(refusal, Some(tenant), call.client))?;
        seen.passes(&caller, call.client);
        Ok(caller)
    }

    pub(super) async fn recognize(&self, call: &Call) -> Result<Caller, Refusal> {
        call.presented.resolve(self.registers(), call.client, call.admitted_at).await
    }

    fn registers(&self) -> Registers<'_> {
        let GatewayShared { directory, tokens, strangers, peppers, .. } = &*self.shared;
        Registers { directory, tokens, strangers, peppers, regulars: &self.regulars }
    }

    fn check_rate(&self, route: &Route, caller: &Caller) -> Result<(), Refusal> {
        let Some(limit) = &route.settings.rate else { return Ok(()) };
        let owner = caller.rate_owner(limit.per);
        self.shared.rates.check(&limit.rate, owner).map_err(|wait| Refusal::TooFast { wait })
    }

    /// Holds less where memory is short.
    fn bear(&self, pressure: MemoryPressure) {
        self.pressure.set(pressure);
        if pressure == MemoryPressure::Low {
            return self.parts.alarms.keep_idle();
        }
        self.parts.alarms.end_idle();
        self.parts.buffers.release();
        self.regulars.clear();
    }

    fn denied(&self, refusal: Refusal, call: &Call, caller: &Caller, charges: &Charges<'_>) -> Refused {
        let mut lines = self.parts.buffers.take();
        self.shared.headers.push_limits(&mut lines, caller, charges, call.admitted_at);
        let refusal = match refusal {
            Refusal::Exceeded(denial) => {
                self.sightings.denied(caller.entitlements().tenant());
                Refusal::Exceeded(Box::new(told(*denial, caller.entitlements())))
            }
            refusal => refusal,
        };
        Refused { refusal, lines: Some(lines) }
    }
}

/// A denial as the caller may read it.
fn told(denial: Denial, entitlements: &Entitlements) -> Denial {
    let is_its = |entitled: &Entitled| {
        entitled.account.key().owner == denial.owner && entitled.account.key().policy_name() == denial.policy
    };
    let is_capped =
        entitlements.quotas(denial.resource).any(|entitled| entitled.is_capped && is_its(entitled));
    let denial = Denial { is_capped, ..denial };
    // What a tenant above means to spend is not the caller's to know.
    let denial = if entitlements.owns(denial.owner) { denial } else { denial.of_pool() };
    // A key's own limit grows with no tier.
    let is_sold = matches!(denial.owner, Owner::Tenant(_));
    Denial { upgrade_url: entitlements.upgrade_url().filter(|_| is_sold).cloned(), ..denial }
}

impl Service for Gateway {
    fn serve(self: Rc<Self>, accepted: Accepted) -> impl Future<Output = ()> + 'static {
        connection::serve(self, accepted)
    }

    fn tick(&self) {
        let serving = self.serving();
        serving.meters.flush();
        self.writer.tick();
        self.regulars.tick(self.shared.clock.now());
        self.sightings.tick(&self.shared.sightings, self.shared.clock.now());
        self.bear(self.shared.memory.get());
        self.wakes.tick(self.shared.directory.changes(), &self.parts.alarms);
        let now = self.shared.clock.monotonic();
        serving.upstreams.iter().for_each(|upstream| upstream.tick(now));
        let table = self.shared.table.load();
        if !Arc::ptr_eq(&table, &serving.table) {
            *self.serving.borrow_mut() =
                Rc::new(Serving::new(table.clone(), &self.shared.metrics, &self.parts.buffers));
        }
    }

    fn end(&self) {
        self.sightings.tick(&self.shared.sightings, self.shared.clock.now());
        self.serving().meters.flush();
    }
}

// === impl Serving ===

impl Serving {
    fn new(table: Arc<Table>, metrics: &GatewayMetrics, buffers: &Buffers) -> Self {
        let upstream =
            |target: &Arc<UpstreamTarget>| Upstream::new(target.clone(), &metrics.upstreams, buffers);
        let upstreams = table.upstreams.iter().map(upstream).collect();
        let meters = Meters::new(&table.routes, metrics);
        Serving { table, upstreams, meters }
    }
}

impl Drop for Serving {
    /// Requests that outlived a reload have counted here.
    fn drop(&mut self) {
        self.meters.flush();
    }
}

// === impl Refused ===

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused { refusal, lines: None }
    }
}
