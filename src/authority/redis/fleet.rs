//! The servers, which of them keeps which book, and how one finds out.
//!
//! # Why not the client library's cluster
//! A fleet has 64 books, and so at most 64 places to know. With the library's cluster connection, one node that does
//! not answer holds up the calls to all others while it looks for who is who, and it can't say which nodes lived at
//! the moment a call was sent. Here each node stands for itself, and nobody waits but for what was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::alive::Alive;
use super::dial::{Dial, Purpose, field, info, text};
use super::fault::{Class, Fault};
use super::key::{SCRATCH, slot};
use super::link::Link;
use super::settings::{Address, RedisSettings, Servers};

/// All servers of an authority.
pub(super) struct Fleet {
    servers: Servers,
    dial: Arc<Dial>,
    alive: Arc<Alive>,
    runtime: Handle,
    timeout: Duration,
    sentinels: Vec<Link>,
    /// The servers that books are kept on, or were until a moment ago.
    links: Mutex<HashMap<Address, Arc<Link>>>,
    routes: watch::Sender<Arc<Routes>>,
    /// Surveys that have been begun, and the last that has ended.
    begun: AtomicU64,
    ended: watch::Sender<u64>,
}

/// Where each book is, [`SCRATCH`] included. `None`: nowhere.
#[derive(Clone)]
pub(super) struct Routes(Vec<Option<Arc<Link>>>);

/// Who is who, as one node of a cluster sees it.
struct View {
    /// Of the node itself: what names it among the living.
    id: String,
    is_sound: bool,
    epoch: u64,
    /// First slot, last slot, and the master of them.
    ranges: Vec<(u16, u16, Address)>,
}

/// Whether a survey found everything there is to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    All,
    Some,
}

/// Between two surveys while all is well.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two while something is missing.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);
/// Between two in any case: calls that fail by the thousand ask for one each.
const SURVEYS_APART: Duration = Duration::from_millis(5);

// === impl Fleet ===

impl Fleet {
    pub(super) fn new(settings: &RedisSettings, dial: Arc<Dial>, runtime: Handle) -> Self {
        let alive = Arc::new(Alive::default());
        let sentinel = |address: &Address| {
            Link::open(address.clone(), Purpose::Sentinel, dial.clone(), alive.clone(), &runtime)
        };
        let sentinels = match &settings.servers {
            Servers::Sentinel { sentinels, .. } => sentinels.iter().map(sentinel).collect(),
            Servers::Single(_) | Servers::Cluster(_) => Vec::new(),
        };
        Fleet {
            servers: settings.servers.clone(),
            dial,
            alive,
            runtime,
            timeout: settings.timeout,
            sentinels,
            links: Mutex::default(),
            routes: watch::Sender::new(Arc::new(Routes::nowhere())),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
        }
    }

    /// Who keeps a book, as far as is known.
    pub(super) fn keeper(&self, book: u16) -> Result<Arc<Link>, Fault> {
        self.routes().of(book).ok_or_else(|| match self.servers {
            Servers::Sentinel { .. } => {
                Fault::new(Class::Unreachable, None, "no Sentinel has told who the master is")
            }
            Servers::Single(_) | Servers::Cluster(_) => {
                Fault::new(Class::ClusterDown, None, format!("no node is known to serve slot {}", slot(book)))
            }
        })
    }

    pub(super) fn routes(&self) -> Arc<Routes> {
        self.routes.borrow().clone()
    }

    /// Waits until `link` keeps no book any more.
    pub(super) async fn retired(&self, link: &Arc<Link>) {
        // The sender is in `self`.
        _ = self.routes.subscribe().wait_for(|routes| !routes.links().any(|it| Arc::ptr_eq(it, link))).await;
    }

    /// The ids of the nodes that live for certain; empty if that is in doubt.
    pub(super) fn living(&self) -> Arc<str> {
        self.alive.ids().unwrap_or_default()
    }

    /// A node has said that another keeps the book.
    pub(super) fn moved(&self, book: u16, to: Address) {
        let link = self.link(to);
        self.routes.send_modify(|routes| Arc::make_mut(routes).put(book, link));
    }

    /// The connection to a server, opened if there is none.
    pub(super) fn link(&self, address: Address) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link =
            links.entry(address).or_insert_with_key(|address| Arc::new(self.open(address, Purpose::Grant)));
        link.clone()
    }

    /// Waits until every server that is known after a first look was dialed once.
    pub(super) async fn first_dialed(&self) {
        // The sender is in `self`.
        _ = self.ended.subscribe().wait_for(|ended| *ended > 0).await;
        join_all(self.routes().links().map(|link| link.dialed())).await;
    }

    /// Waits until everything was asked anew, by a survey that began after this was called.
    pub(super) async fn surveyed_anew(&self) {
        let before = self.begun.load(Ordering::Acquire);
        // The sender is in `self`.
        _ = self.ended.subscribe().wait_for(|ended| *ended > before).await;
    }

    /// Surveys for ever. May be dropped at any point.
    pub(super) async fn run(&self) {
        loop {
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let pause = match self.survey().await {
                Found::All => SURVEY_INTERVAL,
                Found::Some => SEARCH_INTERVAL,
            };
            self.ended.send_replace(number);
            sleep(SURVEYS_APART).await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.alive.doubted() => {}
            }
        }
    }

    async fn survey(&self) -> Found {
        match &self.servers {
            Servers::Single(address) => self.settle(Routes::all_to(&self.link(address.clone()))),
            Servers::Sentinel { master, .. } => match self.ask_sentinels(master).await {
                Some(address) => self.settle(Routes::all_to(&self.link(address))),
                None => Found::Some,
            },
            Servers::Cluster(seeds) => self.survey_cluster(seeds).await,
        }
    }

    /// From now on this is where books are. Connections that keep none are ended.
    fn settle(&self, routes: Routes) -> Found {
        let is_same = *self.routes.borrow().as_ref() == routes;
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| routes.links().any(|it| Arc::ptr_eq(it, link)));
        drop(links);
        let is_whole = routes.0.iter().all(|link| link.as_ref().is_some_and(|link| link.is_up()));
        if !is_same {
            self.routes.send_replace(Arc::new(routes));
        }
        if is_whole { Found::All } else { Found::Some }
    }

    fn open(&self, address: &Address, purpose: Purpose) -> Link {
        Link::open(address.clone(), purpose, self.dial.clone(), self.alive.clone(), &self.runtime)
    }

    // --- Sentinel ---

    /// The master by the Sentinel that has seen the latest failover.
    async fn ask_sentinels(&self, name: &str) -> Option<Address> {
        let answers = join_all(self.sentinels.iter().map(|sentinel| self.ask_sentinel(sentinel, name))).await;
        let latest = answers.into_iter().flatten().max_by_key(|(epoch, _)| *epoch);
        latest.map(|(_, address)| address)
    }

    async fn ask_sentinel(&self, sentinel: &Link, name: &str) -> Option<(u64, Address)> {
        let ask = || {
            let mut ask = cmd("SENTINEL");
            ask.arg("MASTER").arg(name);
            ask
        };
        let answer = self.in_time(sentinel, sentinel.send(ask)).await?;
        let known: HashMap<String, String> = redis::from_redis_value(answer).ok()?;
        let address = Address::new(known.get("ip")?, known.get("port")?.parse().ok()?);
        Some((known.get("config-epoch")?.parse().ok()?, address))
    }

    // --- Cluster ---

    async fn survey_cluster(&self, seeds: &[Address]) -> Found {
        let ticket = self.alive.ticket();
        let mut views = self.ask_all(self.routes().links().cloned()).await;
        if !views.values().any(|view| view.is_sound) {
            views.extend(self.ask_seeds(seeds).await);
        }
        let Some(ranges) = latest(views.values()) else { return Found::Some };
        let routes = Routes::by_slot(|slot| {
            let (.., master) = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot))?;
            Some(self.link(master.clone()))
        });
        // Masters of which this survey is the first.
        let fresh = routes.links().filter(|link| !views.contains_key(link.address()));
        views.extend(self.ask_all(fresh.cloned()).await);
        let living: Option<Vec<&str>> =
            routes.links().map(|link| views.get(link.address())?.living()).collect();
        let found = self.settle(routes);
        match living {
            Some(ids) if found == Found::All => {
                self.alive.confirm(ticket, &ids.join(" "));
                Found::All
            }
            _ => Found::Some,
        }
    }

    /// What each of these sees; silent ones are left out.
    async fn ask_all(&self, nodes: impl Iterator<Item = Arc<Link>>) -> HashMap<Address, View> {
        let views = nodes.map(async |node| Some((node.address().clone(), self.ask_node(&node).await?)));
        join_all(views).await.into_iter().flatten().collect()
    }

    /// As [`Fleet::ask_all`], over connections that are only for this: a seed may be a replica.
    async fn ask_seeds(&self, seeds: &[Address]) -> HashMap<Address, View> {
        self.ask_all(seeds.iter().map(|seed| Arc::new(self.open(seed, Purpose::Ask)))).await
    }

    async fn ask_node(&self, node: &Link) -> Option<View> {
        node.dialed().await;
        let ask = || {
            let mut pipeline = redis::pipe();
            pipeline.add_command(info("replication")).cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
            pipeline
        };
        let answers = self.in_time(node, node.send_all(ask)).await?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next()?.ok();
        let (replication, cluster, slots) = (text(next()?)?, text(next()?)?, next()?);
        View::read(&replication, &cluster, &slots, node.address())
    }

    async fn in_time<T>(&self, link: &Link, asking: impl Future<Output = Result<T, Fault>>) -> Option<T> {
        let answer = timeout(self.timeout, asking).await;
        if answer.is_err() {
            link.lost();
        }
        answer.ok()?.ok()
    }
}

/// The slots by the node that is part of the cluster and has seen the latest change.
fn latest<'a>(views: impl Iterator<Item = &'a View>) -> Option<&'a [(u16, u16, Address)]> {
    views.max_by_key(|view| (view.is_sound, view.epoch)).map(|view| &view.ranges[..])
}

// === impl Routes ===

impl Routes {
    fn nowhere() -> Self {
        Routes::by_slot(|_| None)
    }

    fn all_to(link: &Arc<Link>) -> Self {
        Routes::by_slot(|_| Some(link.clone()))
    }

    fn by_slot(keeper: impl FnMut(u16) -> Option<Arc<Link>>) -> Self {
        Routes((0..=SCRATCH).map(slot).map(keeper).collect())
    }

    fn of(&self, book: u16) -> Option<Arc<Link>> {
        self.0.get(usize::from(book))?.clone()
    }

    fn put(&mut self, book: u16, link: Arc<Link>) {
        self.0[usize::from(book)] = Some(link);
    }

    /// Each server once.
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        let is_first = |at: usize, link: &Arc<Link>| {
            !self.0[..at].iter().flatten().any(|earlier| Arc::ptr_eq(earlier, link))
        };
        let all = self.0.iter().enumerate();
        all.filter_map(move |(at, link)| link.as_ref().filter(|link| is_first(at, link)))
    }
}

impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |pair: (&Option<Arc<Link>>, &Option<Arc<Link>>)| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.0.iter().zip(&other.0).all(is_same)
    }
}

// === impl View ===

impl View {
    fn read(replication: &str, cluster: &str, slots: &Value, from: &Address) -> Option<Self> {
        let Value::Array(slots) = slots else { return None };
        Some(View {
            id: field(replication, "master_replid")?.to_owned(),
            is_sound: field(cluster, "cluster_state") == Some("ok"),
            epoch: field(cluster, "cluster_current_epoch")?.parse().ok()?,
            ranges: slots.iter().filter_map(|range| read_range(range, from)).collect(),
        })
    }

    /// The node's id, if the cluster still counts on it.
    fn living(&self) -> Option<&str> {
        self.is_sound.then_some(&self.id[..])
    }
}

/// `[first, last, [host, port, …], …]`: the first node is the master.
fn read_range(range: &Value, from: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    // Without a host, or with an unknown one, it is that of who answers.
    let host = text(host.clone()).filter(|host| !host.is_empty() && host != "?");
    let master = Address::new(host.unwrap_or_else(|| from.host.clone()), u16::try_from(*port).ok()?);
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, master))
}
