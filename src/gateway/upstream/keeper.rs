//! Looks after endpoints beside the requests: asks whether they are healthy, asks DNS where they are, and tells
//! operators how they stand.
//!
//! One thread for all, with a runtime of its own: a check speaks to an endpoint exactly as requests do, TLS and HTTP/2
//! included, and no administrator's query and no busy worker delays it.
//!
//! # Why names are asked for at an interval
//! The system's resolver knows `/etc/hosts`, search domains and whatever else the machine is set up with, but tells no
//! time to live. An interval that is shorter than usual times to live costs a question now and then to a resolver that
//! caches. A resolver of our own would know the time and not the machine.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle as Thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Wanted;
use super::endpoint::{Endpoint, look_up};
use super::pool::Pool;
use super::target::{Endpoints, UpstreamTarget};
use crate::gateway::handle::GatewayShared;
use crate::gateway::random::Chance;
use crate::gateway::route::Table;
use crate::listener::http1::{AnswerHead, HeadLimits, LINES_MAX, Parsed};
use crate::listener::{Buffers, send};
use crate::telemetry::readiness::Readiness;

/// How often it is looked at what has changed.
const LOOK: Duration = Duration::from_millis(100);

/// The longest that a start waits for DNS.
const FIND_ALL: Duration = Duration::from_secs(2);

/// An answer to a health check with a larger head is none.
const ANSWER_HEAD: HeadLimits = HeadLimits { bytes: 64 * 1024, target_bytes: 0, lines: LINES_MAX };

/// The name of the check in `/readyz`.
const READINESS: &str = "upstreams";

/// The thread that keeps the upstreams. Dropping it ends the thread.
#[derive(Debug)]
pub struct UpstreamKeeper {
    _end: oneshot::Sender<()>,
    _thread: Thread<()>,
}

struct Keeper {
    shared: Arc<GatewayShared>,
    readiness: Readiness,
    chance: Rc<Chance>,
    /// What the tasks are for.
    seen: Option<(Arc<Table>, Vec<Arc<Endpoints>>)>,
    tasks: Vec<Task>,
    /// Upstreams and endpoints that metrics know.
    named: HashSet<(String, Arc<str>)>,
    /// What `/readyz` was told.
    told: Option<String>,
}

/// Ends when it is dropped.
struct Task {
    of: Subject,
    handle: JoinHandle<()>,
}

enum Subject {
    Health(Arc<Endpoint>),
    Name(Arc<UpstreamTarget>, String),
}

/// What a task works with.
#[derive(Clone)]
struct Work {
    shared: Arc<GatewayShared>,
    target: Arc<UpstreamTarget>,
    chance: Rc<Chance>,
}

// === impl UpstreamKeeper ===

impl UpstreamKeeper {
    /// Looks up all names of the table once, before the first request needs them. Nobody waits long for it: a name that
    /// takes its time is looked up by whoever connects, until its addresses are known.
    pub async fn find_all(shared: &GatewayShared) {
        let table = shared.table.load_full();
        let names = table.upstreams.iter().flat_map(|target| target.names().map(move |name| (target, name)));
        let found = join_all(names.map(async |(target, name)| {
            if let Ok(addresses) = look_up(name).await {
                target.found(name, &addresses);
            }
        }));
        let _ = timeout(FIND_ALL, found).await;
    }

    /// Starts to look after the upstreams of whatever table is served.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(shared: Arc<GatewayShared>, readiness: Readiness) -> io::Result<UpstreamKeeper> {
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("upstreams".into()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = runtime
                .expect("a runtime needs an epoll descriptor and a pipe, and the process has just begun");
            runtime.block_on(Keeper::new(shared, readiness).run(ended));
        })?;
        Ok(UpstreamKeeper { _end: end, _thread: thread })
    }
}

// === impl Keeper ===

impl Keeper {
    fn new(shared: Arc<GatewayShared>, readiness: Readiness) -> Self {
        let chance = Rc::new(Chance::seeded());
        Keeper { shared, readiness, chance, seen: None, tasks: Vec::new(), named: HashSet::new(), told: None }
    }

    async fn run(mut self, mut ended: oneshot::Receiver<()>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = &mut ended => return,
                _ = looks.tick() => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let table = self.shared.table.load_full();
        if !self.has_seen(&table) {
            self.see(&table);
        }
        self.tell(&table);
    }

    fn has_seen(&self, table: &Arc<Table>) -> bool {
        self.seen.as_ref().is_some_and(|(seen, endpoints)| {
            Arc::ptr_eq(seen, table)
                && table.upstreams.iter().zip(endpoints).all(|(target, endpoints)| target.has(endpoints))
        })
    }

    /// Makes the tasks those of this table: what goes on being looked after is not begun anew.
    fn see(&mut self, table: &Arc<Table>) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut named = HashSet::new();
        let mut seen = Vec::new();
        for target in &table.upstreams {
            let endpoints = target.endpoints();
            for endpoint in endpoints.iter() {
                named.insert((target.name().to_owned(), endpoint.name.clone()));
                if target.settings.health.path.is_some() {
                    self.keep(&mut before, target, Subject::Health(endpoint.clone()));
                }
            }
            for name in target.names() {
                self.keep(&mut before, target, Subject::Name(target.clone(), name.to_owned()));
            }
            seen.push(endpoints);
        }
        for (upstream, endpoint) in self.named.difference(&named) {
            self.shared.metrics.upstreams.forget(upstream, endpoint);
        }
        (self.named, self.seen) = (named, Some((table.clone(), seen)));
    }

    fn keep(&mut self, before: &mut Vec<Task>, target: &Arc<UpstreamTarget>, of: Subject) {
        let known = before.iter().position(|task| task.of.is(&of));
        let task = match known {
            Some(known) => before.swap_remove(known),
            None => self.begin(target, of),
        };
        self.tasks.push(task);
    }

    fn begin(&self, target: &Arc<UpstreamTarget>, of: Subject) -> Task {
        let work = Work { shared: self.shared.clone(), target: target.clone(), chance: self.chance.clone() };
        let handle = match &of {
            Subject::Health(endpoint) => tokio::task::spawn_local(work.check(endpoint.clone())),
            Subject::Name(_, name) => tokio::task::spawn_local(work.look_up(name.clone())),
        };
        Task { of, handle }
    }

    /// How all endpoints stand, in metrics and in `/readyz`. A gateway is ready all the same: it can serve the others,
    /// and says of these that they are away.
    fn tell(&mut self, table: &Table) {
        let now = self.shared.clock.monotonic();
        let metrics = &self.shared.metrics.upstreams;
        let mut troubles = Vec::new();
        for target in &table.upstreams {
            let endpoints = target.endpoints();
            let mut out = Vec::new();
            for endpoint in endpoints.iter() {
                let serves = endpoint.standing.serves(now);
                metrics.stands(target.name(), &endpoint.name, serves);
                if !serves {
                    let why = if endpoint.standing.is_unhealthy() { "unhealthy" } else { "ejected" };
                    out.push(format!("{} {why}", endpoint.name));
                }
            }
            metrics.breaker(target.name(), target.breaker.is_open());
            if !out.is_empty() {
                let (name, all) = (target.name(), endpoints.len());
                troubles.push(format!(
                    "upstream `{name}`: {} of {all} endpoints are out: {}",
                    out.len(),
                    out.join(", ")
                ));
            }
            if target.breaker.is_open() {
                troubles.push(format!("upstream `{}`: its breaker is open", target.name()));
            }
        }
        let troubles = troubles.join("; ");
        if self.told.as_ref() != Some(&troubles) {
            if troubles.is_empty() {
                self.readiness.ready(READINESS);
            } else {
                self.readiness.ready_but(READINESS, troubles.clone());
            }
            self.told = Some(troubles);
        }
    }
}

// === impl Subject ===

impl Subject {
    fn is(&self, other: &Subject) -> bool {
        match (self, other) {
            (Subject::Health(one), Subject::Health(other)) => Arc::ptr_eq(one, other),
            (Subject::Name(one, name), Subject::Name(other, other_name)) => {
                Arc::ptr_eq(one, other) && name == other_name
            }
            (Subject::Health(_), Subject::Name(..)) | (Subject::Name(..), Subject::Health(_)) => false,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

// === impl Work ===

impl Work {
    /// Asks the endpoint how it is, again and again. Runs until it is dropped.
    async fn check(self, endpoint: Arc<Endpoint>) {
        let health = &self.target.settings.health;
        // Not all at once when a gateway starts.
        let first = u64::try_from(health.interval.as_millis()).unwrap_or(u64::MAX) / 10;
        sleep(Duration::from_millis(self.chance.below(first.max(1)))).await;
        loop {
            let answered = timeout(health.timeout, self.ask(&endpoint)).await;
            let fault = match answered {
                Ok(Ok(status)) if health.is_good(status) => None,
                Ok(Ok(status)) => Some(format!("it answers {status}")),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {:?}", health.timeout)),
            };
            self.note(&endpoint, fault.as_deref());
            sleep(self.varied(health.interval)).await;
        }
    }

    fn note(&self, endpoint: &Endpoint, fault: Option<&str>) {
        let (health, upstream) = (&self.target.settings.health, self.target.name());
        self.shared.metrics.upstreams.checked(upstream, &endpoint.name, fault.is_none());
        if !endpoint.standing.checked(fault.is_none(), health.healthy_after, health.unhealthy_after) {
            return;
        }
        let name = &endpoint.name;
        match fault {
            Some(fault) => tracing::warn!(
                upstream, upstream.endpoint = %name, fault,
                "the upstream at {name} is unhealthy and gets no requests: {fault}"
            ),
            None => {
                tracing::info!(upstream, upstream.endpoint = %name, "the upstream at {name} is healthy again");
            }
        }
    }

    /// The status that the endpoint answers with, on a connection of its own.
    async fn ask(&self, endpoint: &Arc<Endpoint>) -> io::Result<u16> {
        let health = &self.target.settings.health;
        let buffers = Buffers::default();
        let pool = Pool::new(endpoint.clone(), buffers.clone());
        let mut stream = pool.connect(self.shared.clock.monotonic(), Wanted::Fresh).await?;
        let path = health.path.as_deref().unwrap_or("/");
        let host = health.host.as_deref().unwrap_or(&endpoint.origin);
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tollgate-health\r\n\r\n");
        send(&mut stream, head.as_bytes()).await?;
        let mut buffer = buffers.take();
        loop {
            if poll_fn(|context| buffer.poll_fill(Pin::new(&mut stream), context)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut space = [MaybeUninit::uninit(); LINES_MAX];
            let length = match AnswerHead::parse(buffer.filled(), &mut space, ANSWER_HEAD, false) {
                Ok(Parsed::Complete(answer, _)) if answer.status >= 200 => return Ok(answer.status),
                Ok(Parsed::Complete(_, length)) => length,
                Ok(Parsed::Partial) => 0,
                Err(fault) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
            };
            buffer.consume(length);
        }
    }

    /// Asks DNS for the addresses of `name`, again and again. Runs until it is dropped. A name that is no longer found
    /// keeps the addresses that it had.
    async fn look_up(self, name: String) {
        let upstream = self.target.name();
        let mut was_found = true;
        loop {
            let answered = look_up(&name).await;
            let addresses = answered.as_deref().unwrap_or_default();
            self.shared.metrics.upstreams.looked_up(upstream, &name, !addresses.is_empty());
            if self.target.found(&name, addresses) {
                tracing::info!(upstream, name, addresses = ?addresses, "the addresses of {name}: {addresses:?}");
            }
            if let Err(error) = &answered
                && was_found
            {
                tracing::warn!(upstream, name, error = %error, "{name} is not found, and keeps the addresses it had: {error}");
            }
            was_found = answered.is_ok();
            sleep(self.varied(self.target.settings.look_up_interval)).await;
        }
    }

    /// Give or take a tenth, so that gateways that started together do not ask together.
    fn varied(&self, time: Duration) -> Duration {
        time.mul_f64(0.9 + self.chance.below(1_000) as f64 / 5_000.0)
    }
}
