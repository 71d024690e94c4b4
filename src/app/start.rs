//! Building the rooms, from the bottom up.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::alerts::AlertKeeper;
use super::billing::BillingKeeper;
use super::bulk::BulkKeeper;
use super::memory::MemoryKeeper;
use super::metrics::{ProcessMetrics, Rooms};
use super::reload::Reload;
use super::running::Running;
use super::settings::BadAttesting;
use super::sightings::SightingsKeeper;
use super::sockets::Handed;
use super::tasks::{self, AuditKeeper, BooksKeeper, PartitionKeeper};
use super::{authority, settings};
use crate::admin::{self, AdminParts};
use crate::api::{self, LocalDoor, LocalToken};
use crate::authority::Admission;
use crate::clock::Clock;
use crate::collector::Collector;
use crate::config::{Config, Loaded, Secret, Source, StoreUrl};
use crate::console::{self, Process};
use crate::control::{Control, ControlError, Counting, News, Oidc, OidcError};
use crate::courier::{BadCourier, Courier};
use crate::directory::{Directory, Refresh};
use crate::exporter::Exporter;
use crate::flush::{self, Balanced, Flush};
use crate::gateway::{
    BadIssuer, BadRoutes, Gateway, GatewayMetrics, GatewayShared, MemoryStanding, SightingsShared, Strangers,
    Table, Tokens, UpstreamKeeper,
};
use crate::journal::{Journal, JournalError, Writer};
use crate::listener::{Admittance, BadTls, Entrance, Phase, ProxyProtocol, Purpose, Tls, spawn};
use crate::outbound::BadTrust;
use crate::secret::ed25519::{BadSigningKey, jwks};
use crate::secret::hash::{Pepper, PepperError, Peppers};
use crate::secret::seal::RingError;
use crate::store::{Store, StoreError};
use crate::telemetry::readiness::Readiness;
use crate::till::{RateLimits, Till, TillError};

/// Pairs of a rate and a key or tenant whose state is remembered; about 200 bytes each.
const RATE_OWNERS_MAX: u64 = 100_000;

/// What there is to know of a gateway that has started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The first platform token, which nobody will be told again; only at the very first start.
    pub platform_token: Option<String>,
    pub proxy: Vec<SocketAddr>,
    /// Addresses that speak TLS.
    pub tls: Vec<SocketAddr>,
    /// Addresses where other proxies ask.
    pub authorize: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub source: Source,
}

/// Why the gateway did not start. Nothing is left behind but what a later start goes on with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory {0} can't be made")]
    DataDirectory(PathBuf, #[source] io::Error),
    #[error("the till can't be opened")]
    Till(#[from] TillError),
    #[error("the journal can't be opened")]
    Journal(#[from] JournalError),
    #[error("the store can't be opened")]
    Store(#[from] StoreError),
    #[error("the keys' pepper can't be had")]
    Pepper(#[from] PepperError),
    #[error("the key of tenants' secrets can't be had")]
    KeyRing(#[from] RingError),
    #[error("the authority can't be used:\n  {}", .0.join("\n  "))]
    Authority(Vec<String>),
    #[error("[listen.tls] can't be served")]
    Tls(#[from] BadTls),
    #[error("the routes can't be served")]
    Routes(#[from] BadRoutes),
    #[error("the tokens of an issuer can't be verified")]
    Issuer(#[from] BadIssuer),
    #[error("the provider of log-ins can't be used")]
    Oidc(#[from] OidcError),
    #[error("headers.sign.key can't be used")]
    SigningKey(#[from] BadSigningKey),
    #[error("the audit log can't be attested")]
    Attesting(#[from] BadAttesting),
    #[error("tenants' secrets can't be opened")]
    Secrets(#[source] ControlError),
    #[error("alerts can't be delivered")]
    Courier(#[from] BadCourier),
    #[error("whoever collects what is owed ([billing.export]) can't be spoken to")]
    Collector(#[source] BadTrust),
    #[error("the platform token can't be set up")]
    Token(#[source] ControlError),
    #[error("the address {0} can't be listened on")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("what was handed over in LISTEN_FDS is not all listening sockets of TCP")]
    Handed(#[source] io::Error),
    #[error("a socket on {0} was handed over, and [listen] has no such address")]
    Unwanted(SocketAddr),
    #[error("{attempt}")]
    Io { attempt: &'static str, source: io::Error },
}

/// The rooms below the data plane and the control plane.
struct Ground {
    till: Arc<Till>,
    journal: Arc<Journal>,
    writers: Vec<Writer>,
    store: Store,
    peppers: Peppers,
}

/// Starts a gateway on `loaded`; it serves when this returns.
///
/// Must be called inside a multi-thread runtime, which becomes the control plane's.
///
/// # Errors
/// [`StartError`]
pub(super) async fn start(loaded: Loaded, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    let Loaded { config, source } = loaded;
    let table = Table::build(settings::table(&config))?;
    let tls = settings::tls(&config).map(|settings| settings.load()).transpose()?;
    let tls = tls.map(|ready| Arc::new(Tls::new(ready)));
    let workers = worker_count(&config);
    let readiness = Readiness::default();
    ["store", "journal", "listeners"].into_iter().for_each(|name| readiness.expect(name));
    let Ground { till, journal, mut writers, store, peppers } = lay_ground(&config, workers, &*clock).await?;
    readiness.ready("store");
    readiness.ready("journal");
    report(&till, flush::recover(&till, &journal));

    let registry = Registry::new();
    let partitions = PartitionKeeper::register(&registry, store.clone(), clock.clone());
    // Before the first flush needs them.
    partitions.keep().await;
    let changed = Arc::new(Notify::new());
    let attesting = settings::attesting(&config.control.audit, &config.data.directory, till.id().0)?;
    let attesting_keys = attesting.believed();
    if config.control.audit.key.is_none() && matches!(config.store.url, StoreUrl::Postgres(_)) {
        tracing::warn!(
            "this gateway signs the audit log's checkpoints with a key of its own: give all gateways of a store the same \
             control.audit.key, so that each can verify what another signed"
        );
    }
    let secrets = settings::key_ring(&config.control, &config.data.directory)?;
    let control = Control::new(store.clone(), clock.clone(), peppers.clone(), changed.clone())
        .with_secrets(secrets.clone())
        .with_attesting(attesting)
        .with_spool(config.data.directory.clone())
        .with_sessions(settings::sessions(&config))
        .with_channels(settings::channels(&config.alerts))
        .with_watch(settings::watch(&config.alerts))
        .with_billing(settings::billing(&config.billing))
        .with_till(till.clone())
        .with_journal(journal.clone());
    control.confirm_secrets().await.map_err(StartError::Secrets)?;
    let control = match settings::oidc(&config.control) {
        Some(settings) => control.with_oidc(Oidc::new(settings)?),
        None => control,
    };
    registry.register(control.log_ins().collector()).expect("registered once");
    let platform_token = control
        .ensure_platform_token(config.control.platform_token.as_ref().map(Secret::expose))
        .await
        .map_err(StartError::Token)?;
    let (exporter, control) = match &config.billing.export {
        Some(export) => {
            let collector = Collector::new(settings::collector(export)).map_err(StartError::Collector)?;
            let collector = Arc::new(collector);
            let news = News::new(collector.clone(), settings::news(&config.billing, export), &registry);
            let (settings, ready) = (settings::exporter(export), readiness.clone());
            let (store, clock) = (store.clone(), clock.clone());
            let exporter = Exporter::new(store, clock, collector, settings, &registry, ready);
            (Some(exporter), control.with_news(news))
        }
        None => (None, control),
    };
    let delivery = settings::courier(&config.alerts);
    let courier = Courier::new(store.clone(), clock.clone(), secrets, delivery, &registry)?;
    let directory = Directory::new(settings::directory(&config), store.clone(), till.clone(), clock.clone());
    directory.set_charged(table.charged().into());
    let refresh = Refresh::begin(store.clone(), directory.clone(), changed).await?;
    let prefix = config.headers.tenant_prefix.as_str().to_owned();
    let tokens = Arc::new(Tokens::new(settings::issuers(&config), prefix, &clock, &registry)?);
    let parts = authority::Parts {
        config: &config,
        till: till.clone(),
        store: store.clone(),
        clock: clock.clone(),
        readiness: readiness.clone(),
    };
    let authority = authority::open(parts).await?;
    registry.register(Box::new(authority.meters.clone())).expect("registered once");
    let headers = settings::headers(&config)?;
    let admission =
        Admission::new(authority.source, settings::admission(&config), authority.meters, clock.clone());
    // What is reported through the API has a shard of the journal for itself, the last.
    let reported = writers.pop().map(|writer| Counting::new(directory.clone(), admission.clone(), writer));
    let control = match reported.clone() {
        Some(counting) => control.with_counting(counting),
        None => control,
    };
    let shared = Arc::new(GatewayShared {
        table: ArcSwap::from_pointee(table),
        directory: directory.clone(),
        admission,
        rates: RateLimits::new(RATE_OWNERS_MAX, clock.clone()),
        identity: settings::identity(&config),
        tokens: tokens.clone(),
        strangers: Strangers::new(clock.clone()),
        sightings: SightingsShared::default(),
        peppers,
        headers: headers.clone(),
        limits: settings::limits(&config),
        memory: MemoryStanding::default(),
        metrics: GatewayMetrics::register(&registry),
        clock: clock.clone(),
    });

    UpstreamKeeper::find_all(&shared).await;
    let keeper = UpstreamKeeper::start(shared.clone(), readiness.clone());
    let keeper = keeper.map_err(|source| StartError::Io {
        attempt: "the thread that keeps the upstreams can't be started",
        source,
    })?;

    let (phase, phases) = watch::channel(Phase::Serving);
    let limits = &config.listen.limits;
    let trusted = config.listen.trust.proxies.clone();
    let admittance = Admittance::new(limits.connections, limits.connections_per_ip, trusted);
    let mut handed = Handed::receive()?;
    let admin_socket = handed.at(config.listen.admin);
    let (addresses, threads) =
        start_workers(&config, handed, writers, &shared, tls.as_ref(), &admittance, &phases)?;
    readiness.ready("listeners");

    let flush =
        Flush::new(journal.clone(), till.clone(), store.clone(), clock.clone(), settings::flush(&config));
    let flush = Arc::new(flush);
    let rooms = Rooms {
        till: till.clone(),
        journal: journal.clone(),
        flush: flush.clone(),
        directory: directory.clone(),
    };
    let books = BooksKeeper::register(&registry, control.clone(), clock.clone(), readiness.clone());
    let audit = AuditKeeper::register(&registry, control.clone(), &config.control.audit, readiness.clone());
    let billing = BillingKeeper::register(&registry, control.clone(), clock.clone());
    let alerts = AlertKeeper::register(
        &registry,
        control.clone(),
        store.clone(),
        clock.clone(),
        config.alerts.interval,
    );
    let bulk = BulkKeeper::register(&registry, control.clone(), store.clone(), clock.clone());
    let sightings = SightingsKeeper::new(shared.clone(), store.clone(), clock.clone());
    ProcessMetrics::register(&registry, rooms, config.telemetry.tenants_max);
    let (memory_limit, memory_limits) = watch::channel(limits.memory_bytes);
    let memory = MemoryKeeper::register(&registry, shared.clone(), memory_limits, readiness.clone());
    let ground = (till.clone(), journal, flush.clone());
    let mut running = Running::new(phase, threads, ground, control.clone(), clock.clone(), readiness.clone());
    running.keeps_upstreams(keeper);
    running.spawn("refresh", refresh.run());
    running.spawn("renewal", directory.clone().renew_keys());
    running.spawn("issuers", tokens.follow());
    running.spawn("flush", async move { flush.run().await });
    running.spawn("alerts", alerts.run());
    running.spawn("billing", billing.run());
    running.spawn("bulk", bulk.run());
    running.spawn("courier", async move { courier.run().await });
    running.spawn("sightings", sightings.run());
    if let Some(exporter) = exporter {
        running.spawn("exporter", async move { exporter.run().await });
    }
    running.spawn("books", books.run());
    running.spawn("memory", memory.run());
    if let Some(counting) = reported {
        running.spawn("reports", tasks::keep_reports(counting));
    }
    running.spawn("partitions", partitions.run());
    running.keeps_audit(audit);
    for (name, task) in authority.tasks {
        running.spawn(name, task);
    }
    running.spawn("housekeeping", tasks::keep_house(till, authority.embedded, clock));
    let keeping = running.spawn_journal_keeper();
    keeping.map_err(|source| StartError::Io { attempt: "the journal's thread can't be started", source })?;
    let (own, ready) = (config.clone(), readiness.clone());
    let reload = Reload::new(source.clone(), own, shared, tls, directory, memory_limit, ready);
    running.reloads(reload);

    let signing_keys = jwks(headers.signer.iter().map(|signer| signer.public()).chain(attesting_keys));
    let admin =
        open_admin(&config, admin_socket, control, registry, readiness, signing_keys, &mut running).await?;
    write_addresses(&config, &addresses, admin).map_err(|source| StartError::Io {
        attempt: "the addresses can't be written to the data directory",
        source,
    })?;
    let Addresses { proxy, tls, authorize } = addresses;
    running.started(Started { platform_token, proxy, tls, authorize, admin, source }, config);
    Ok(running)
}

/// What a crash or a power loss left behind, and what was made of it.
fn report(till: &Till, balanced: Balanced) {
    if let Some(lost) = till.lost() {
        tracing::warn!(lost = ?lost, "the machine lost power: a new till begins, with everything counted as used that the old one had");
    }
    if balanced.units > 0 {
        let Balanced { accounts, units, .. } = balanced;
        tracing::info!(accounts, units, "gave back units of requests that never reached an upstream");
    }
}

fn worker_count(config: &Config) -> usize {
    match config.listen.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

async fn lay_ground(config: &Config, workers: usize, clock: &dyn Clock) -> Result<Ground, StartError> {
    let data = &config.data.directory;
    std::fs::create_dir_all(data).map_err(|error| StartError::DataDirectory(data.clone(), error))?;
    // First, because its lock says that no other gateway works here.
    let till = Arc::new(Till::open(data, &settings::till(config))?);
    let (journal, writers) =
        Journal::open(data, &settings::journal(config), workers + 1, till.id().0, clock.now())?;
    let store = Store::open_with(&settings::store(&config.store)).await?;
    store.prepare().await?;
    let peppers = match settings::peppers(&config.identity.api_key)? {
        Some(peppers) => peppers,
        None => Pepper::load_or_create(&data.join("pepper"))?.into(),
    };
    Ok(Ground { till, journal: Arc::new(journal), writers, store, peppers })
}

/// What clients connect to.
struct Addresses {
    proxy: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    authorize: Vec<SocketAddr>,
}

type Workers = (Addresses, Vec<std::thread::JoinHandle<()>>);

/// One thread per writer, each with sockets of its own on every proxy address.
fn start_workers(
    config: &Config,
    mut handed: Handed,
    writers: Vec<Writer>,
    shared: &Arc<GatewayShared>,
    tls: Option<&Arc<Tls>>,
    admittance: &Admittance,
    phases: &watch::Receiver<Phase>,
) -> Result<Workers, StartError> {
    let (proxy, plain) = handed.bind_all(&config.listen.proxy, writers.len())?;
    let secured = config.listen.tls.as_ref().map_or(&[][..], |tls| &tls.address);
    let (secured, encrypted) = handed.bind_all(secured, writers.len())?;
    let (authorize, asking) = handed.bind_all(&config.listen.authorize, writers.len())?;
    handed.refuse_rest()?;
    let entrance = |purpose, tls: Option<&Arc<Tls>>| {
        let tls = tls.cloned();
        let proxy_protocol = match purpose {
            Purpose::Proxy => settings::proxy_protocol(config),
            // Who asks does so for itself.
            Purpose::Authorize => ProxyProtocol::Off,
        };
        move |socket| Entrance { socket, purpose, proxy_protocol, tls: tls.clone() }
    };
    let sockets = plain.into_iter().zip(encrypted).zip(asking);
    let mut entrances = sockets.map(|((plain, encrypted), asking)| {
        let plain = plain.into_iter().map(entrance(Purpose::Proxy, None));
        let encrypted = encrypted.into_iter().map(entrance(Purpose::Proxy, tls));
        let asking = asking.into_iter().map(entrance(Purpose::Authorize, None));
        plain.chain(encrypted).chain(asking).collect::<Vec<_>>()
    });
    let mut threads = Vec::new();
    for (number, writer) in writers.into_iter().enumerate() {
        let shared = shared.clone();
        let thread = spawn(
            format!("worker-{number}"),
            entrances.next().unwrap_or_default(),
            admittance.clone(),
            phases.clone(),
            move |parts| std::rc::Rc::new(Gateway::new(shared, parts.clone(), writer)),
        );
        threads
            .push(thread.map_err(|source| StartError::Io { attempt: "a worker can't be started", source })?);
    }
    Ok((Addresses { proxy, tls: secured, authorize }, threads))
}

async fn open_admin(
    config: &Config,
    socket: Option<StdListener>,
    control: Control,
    registry: Registry,
    readiness: Readiness,
    signing_keys: String,
    running: &mut Running,
) -> Result<SocketAddr, StartError> {
    let wanted = config.listen.admin;
    let listener = match socket {
        Some(socket) => TcpListener::from_std(socket),
        None => TcpListener::bind(wanted).await,
    };
    let listener = listener.map_err(|error| StartError::Listen(wanted, error))?;
    let address = listener.local_addr().map_err(|error| StartError::Listen(wanted, error))?;
    let failed = |source| StartError::Io { attempt: "the door for the command line can't be opened", source };
    let token = LocalToken::draw().map_err(failed)?;
    let process = Process { readiness: readiness.clone(), registry: registry.clone() };
    let console = console::router(control.clone(), running.clock(), process);
    let api = api::router(control, token.clone(), running.clock());
    let parts = AdminParts { registry, readiness, signing_keys, console, api };
    let until = running.admin_ends();
    running.spawn("admin", async move {
        if let Err(error) = admin::serve(listener, parts, until).await {
            tracing::error!(error = %error, "the admin address is no longer served: {error}");
        }
    });
    LocalDoor::new(address, token).write(&config.data.directory).map_err(failed)?;
    Ok(address)
}

/// For scripts and tests that asked for port 0.
fn write_addresses(config: &Config, addresses: &Addresses, admin: SocketAddr) -> io::Result<()> {
    let path = config.data.directory.join("addresses.json");
    let Addresses { proxy, tls, authorize } = addresses;
    let addresses = serde_json::json!({ "proxy": proxy, "tls": tls, "authorize": authorize, "admin": admin });
    let new = path.with_extension("json.new");
    std::fs::write(&new, format!("{addresses}\n"))?;
    std::fs::rename(new, path)
}
