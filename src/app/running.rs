//! A gateway that runs, and the order in which it ends.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle as Thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::reload::Reload;
use super::start::{StartError, Started, start};
use super::tasks::{self, AuditKeeper};
use crate::api::LocalDoor;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::domain::Units;
use crate::flush::Flush;
use crate::gateway::UpstreamKeeper;
use crate::journal::Journal;
use crate::listener::Phase;
use crate::telemetry::readiness::Readiness;
use crate::till::Till;

/// The control plane's threads: administrators' queries, the flush, look-ups of keys.
const CONTROL_THREADS: usize = 2;

/// How long the end waits for the database to take what the journal holds. What it does not take is flushed at the
/// next start.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// How long the end waits for the audit log's last checkpoints. Another gateway, or the next start, takes them.
const LAST_CHECKPOINTS: Duration = Duration::from_secs(5);

/// A gateway that serves. Dropping it without [`Running::stop`] is like a kill: nothing is lost, nothing is tidied.
pub struct Running {
    phase: watch::Sender<Phase>,
    workers: Vec<Thread<()>>,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    journal_keeper: Option<(Sender<()>, Thread<()>)>,
    upstream_keeper: Option<UpstreamKeeper>,
    audit_keeper: Option<AuditKeeper>,
    admin_end: watch::Sender<bool>,
    till: Arc<Till>,
    journal: Arc<Journal>,
    flush: Arc<Flush>,
    control: Control,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    reload: Option<Reload>,
    started: Option<(Started, Config)>,
}

/// Serves `loaded` until a signal ends it. `announce` is called once it serves.
///
/// SIGTERM and SIGINT drain; a second one ends at once. SIGHUP reloads, as does a changed file.
///
/// # Errors
/// [`StartError`]; once it serves it ends without one.
pub fn serve(loaded: Loaded, announce: impl FnOnce(&Started)) -> Result<(), StartError> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut signals = Signals::new()
            .map_err(|source| StartError::Io { attempt: "signals can't be received", source })?;
        let mut running = Running::start(loaded, Arc::new(SystemClock::default())).await?;
        announce(running.report());
        running.until_told_to_end(&mut signals).await;
        tokio::select! {
            () = running.stop() => {}
            () = signals.end() => tracing::warn!("a second signal ends the gateway at once"),
        }
        Ok(())
    })
}

/// The control plane's runtime.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|source| StartError::Io { attempt: "the runtime can't be started", source })
}

/// The signals that the gateway obeys.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

// === impl Running ===

impl Running {
    /// Starts a gateway; it serves when this returns. Must be called inside a multi-thread runtime.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(loaded: Loaded, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
        start(loaded, clock).await
    }

    pub(super) fn new(
        phase: watch::Sender<Phase>,
        workers: Vec<Thread<()>>,
        ground: (Arc<Till>, Arc<Journal>, Arc<Flush>),
        control: Control,
        clock: Arc<dyn Clock>,
        readiness: Readiness,
    ) -> Self {
        let (till, journal, flush) = ground;
        Running {
            phase,
            workers,
            tasks: Vec::new(),
            journal_keeper: None,
            upstream_keeper: None,
            audit_keeper: None,
            admin_end: watch::Sender::new(false),
            till,
            journal,
            flush,
            control,
            clock,
            readiness,
            reload: None,
            started: None,
        }
    }

    /// What there is to know of it.
    ///
    /// # Panics
    /// Never, for a gateway that [`Running::start`] returned.
    pub fn report(&self) -> &Started {
        let (started, _) = self.started.as_ref().expect("`start` says so before it returns");
        started
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// The control plane of this gateway.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Reads the configuration again. A faulty one changes nothing and is reported.
    pub fn reload(&mut self) {
        if let Some(reload) = &mut self.reload {
            reload.now();
        }
    }

    /// Drains: no new connections, requests finish, units and records are safe. Then everything is closed.
    ///
    /// Dropping the future half-way is like a kill: nothing is lost.
    pub async fn stop(mut self) {
        let drain = self.started.as_ref().map_or(Duration::ZERO, |(_, config)| config.listen.drain_timeout);
        tracing::info!(timeout.seconds = drain.as_secs(), "draining");
        self.readiness.unready("listeners", "shutting down");
        self.phase.send_replace(Phase::Draining);
        let workers = std::mem::take(&mut self.workers);
        let joined =
            tokio::task::spawn_blocking(|| workers.into_iter().for_each(|worker| drop(worker.join())));
        let mut joined = joined;
        if timeout(drain, &mut joined).await.is_err() {
            tracing::warn!("requests were still running when the time to drain was over; they are cut off");
            self.phase.send_replace(Phase::Ending);
            let _ = joined.await;
        }
        self.end_tasks().await;
        if let Some(audit) = self.audit_keeper.take() {
            // A disk far away, or a database that is gone, must not hold up the end.
            if timeout(LAST_CHECKPOINTS, audit.end()).await.is_err() {
                tracing::warn!("the last checkpoints of the audit log could not be taken in time");
            }
        }
        self.flush.drain(LAST_FLUSH).await;
        self.close();
        tracing::info!("ended");
    }

    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push((name, tokio::spawn(task)));
    }

    pub(super) fn spawn_journal_keeper(&mut self) -> io::Result<()> {
        let (stop, stopped) = channel();
        let (journal, clock, readiness) = (self.journal.clone(), self.clock.clone(), self.readiness.clone());
        let keep = move || tasks::keep_journal(&journal, &*clock, &readiness, &stopped);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(keep)?;
        self.journal_keeper = Some((stop, thread));
        Ok(())
    }

    pub(super) fn keeps_upstreams(&mut self, keeper: UpstreamKeeper) {
        self.upstream_keeper = Some(keeper);
    }

    pub(super) fn keeps_audit(&mut self, keeper: AuditKeeper) {
        self.spawn("audit", keeper.clone().run());
        self.audit_keeper = Some(keeper);
    }

    pub(super) fn reloads(&mut self, reload: Reload) {
        self.reload = Some(reload);
    }

    /// Done when the admin address should stop serving.
    pub(super) fn admin_ends(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut end = self.admin_end.subscribe();
        async move {
            // The sender is gone only when the gateway is.
            let _ = end.wait_for(|end| *end).await;
        }
    }

    pub(super) fn started(&mut self, started: Started, config: Config) {
        self.started = Some((started, config));
    }

    pub(super) async fn until_told_to_end(&mut self, signals: &mut Signals) {
        loop {
            let Signals { terminate, interrupt, hangup } = &mut *signals;
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => self.reload(),
                () = tokio::time::sleep(Reload::WATCH) => {
                    if let Some(reload) = &mut self.reload {
                        reload.if_changed();
                    }
                }
            }
        }
    }

    async fn end_tasks(&mut self) {
        self.upstream_keeper = None;
        self.admin_end.send_replace(true);
        for (name, task) in std::mem::take(&mut self.tasks) {
            if name != "admin" {
                task.abort();
            }
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(task = name, "the task had panicked");
            }
        }
    }

    fn close(&mut self) {
        if let Some((stop, thread)) = self.journal_keeper.take() {
            drop(stop);
            let _ = thread.join();
        }
        // Others may have it meanwhile; and what nobody holds can't be forgotten when the authority is exchanged.
        self.till.accounts().iter().for_each(|account| _ = account.give_back(Units::MAX));
        if let Err(error) = self.journal.sync() {
            tracing::error!(error = %error, "the journal could not be synced: {error}");
        }
        if let Err(error) = self.till.close() {
            tracing::error!(error = %error, "the till could not be closed: {error}");
        }
        if let Some((_, config)) = &self.started
            && let Err(error) = LocalDoor::remove(&config.data.directory)
        {
            tracing::warn!(error = %error, "the door for the command line could not be taken away: {error}");
        }
    }
}

// === impl Signals ===

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
