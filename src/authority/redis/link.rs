//! One server, and a connection to it that is kept up.
//!
//! # Why nobody waits for a server that is down
//! A connection that broke, or on which several calls in a row had no answer, is dropped, and all who ask are told so
//! at once: this is the circuit breaker. Another one is dialed in the background until one is found good, and only
//! then calls go out again. In a cluster each node has its own, so the books of the others are not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::alive::Alive;
use super::dial::{Dial, Dialed, Lanes, Purpose, answer};
use super::fault::{Class, Fault, Remedy};
use super::settings::Address;

/// A server. Dropping it ends the connection.
pub(super) struct Link {
    shared: Arc<Shared>,
    _keeper: JoinSet<()>,
}

struct Shared {
    address: Address,
    purpose: Purpose,
    alive: Arc<Alive>,
    state: watch::Sender<State>,
    /// Calls in a row that had no answer in time.
    losses: AtomicU32,
    dialed: AtomicU64,
}

#[derive(Clone)]
enum State {
    /// For the first time.
    Dialing,
    Up(Line),
    Down(Fault),
}

/// A connection that was good when last seen.
#[derive(Clone)]
struct Line {
    number: u64,
    lanes: Lanes,
}

/// So many calls in a row without an answer, and the connection is dropped. One may be a pause of the server's, which
/// a new connection would only make longer.
const LOSSES_MAX: u32 = 3;

/// Between two attempts to connect.
const REDIAL: Duration = Duration::from_millis(50);

// === impl Link ===

impl Link {
    pub(super) fn open(
        address: Address,
        purpose: Purpose,
        dial: Arc<Dial>,
        alive: Arc<Alive>,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            address,
            purpose,
            alive,
            state: watch::Sender::new(State::Dialing),
            losses: AtomicU32::new(0),
            dialed: AtomicU64::new(0),
        });
        let mut keeper = JoinSet::new();
        keeper.spawn_on(keep(shared.clone(), dial), runtime);
        Link { shared, _keeper: keeper }
    }

    pub(super) fn address(&self) -> &Address {
        &self.shared.address
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up(_))
    }

    /// Waits until the first attempt to connect has ended, either way.
    pub(super) async fn dialed(&self) {
        _ = self.line().await;
    }

    /// Waits until there is no connection.
    pub(super) async fn fell(&self) {
        // The sender is in `self`.
        _ = self.shared.state.subscribe().wait_for(|state| matches!(state, State::Down(_))).await;
    }

    /// The answer to a command. It is written when there is a connection, so that it can't tell of things that were
    /// true before.
    ///
    /// Waits as long as the server takes: deadlines are the callers', who say [`Link::lost`].
    pub(super) async fn send(&self, command: impl FnOnce() -> Cmd) -> Result<Value, Fault> {
        let mut line = self.line().await?;
        let command = command();
        let value = line.lanes.swift.send_packed_command(&command).await;
        self.heard(line.number, value).and_then(|value| self.judged(line.number, value))
    }

    /// The answers to several commands that are sent in one piece, in the way of nobody's [`Link::send`] if there are
    /// two connections. A command that fails does not keep the others from being answered.
    pub(super) async fn send_all(
        &self,
        commands: impl FnOnce() -> Pipeline,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut line = self.line().await?;
        let pipeline = commands();
        let lane = line.lanes.waiting.as_mut().unwrap_or(&mut line.lanes.swift);
        let values = lane.send_packed_commands(&pipeline, 0, pipeline.len()).await;
        let values = self.heard(line.number, values)?;
        Ok(values.into_iter().map(|value| self.judged(line.number, value)).collect())
    }

    /// A call had no answer in time.
    pub(super) fn lost(&self) {
        self.shared.alive.doubt();
        if self.shared.losses.fetch_add(1, Ordering::Relaxed) + 1 >= LOSSES_MAX {
            let detail = format!("{LOSSES_MAX} calls in a row");
            self.shared.fall(None, &Fault::new(Class::Deadline, Some(self.address()), detail));
        }
    }

    /// The connection. Only who comes while the first one is being made waits for it.
    async fn line(&self) -> Result<Line, Fault> {
        let known = |state: &State| match state {
            State::Dialing => None,
            State::Up(line) => Some(Ok(line.clone())),
            State::Down(fault) => Some(Err(fault.clone())),
        };
        if let Some(line) = known(&self.shared.state.borrow()) {
            return line;
        }
        let mut states = self.shared.state.subscribe();
        let state = states.wait_for(|state| !matches!(state, State::Dialing)).await;
        let line = state.ok().and_then(|state| known(&state));
        line.unwrap_or_else(|| Err(Fault::new(Class::Unreachable, Some(self.address()), "")))
    }

    fn heard<T>(&self, number: u64, answer: redis::RedisResult<T>) -> Result<T, Fault> {
        match answer {
            Ok(value) => {
                self.shared.losses.store(0, Ordering::Relaxed);
                Ok(value)
            }
            Err(error) => {
                let fault = Fault::of(&error, self.address());
                self.shared.fall(Some(number), &fault);
                Err(fault)
            }
        }
    }

    /// The value, unless it is an error: then it is seen to that nobody relies on what that puts in doubt.
    fn judged(&self, number: u64, value: Value) -> Result<Value, Fault> {
        let judged = answer(value, self.address());
        match &judged {
            Err(fault) if *fault.remedy() == Remedy::Redial => {
                self.shared.fall(Some(number), fault);
            }
            Err(fault) if fault.class != Class::NoScript => self.shared.alive.doubt(),
            Ok(_) | Err(_) => {}
        }
        judged
    }
}

/// Dials, waits for the end of the connection, dials again.
async fn keep(shared: Arc<Shared>, dial: Arc<Dial>) {
    loop {
        match dial.connect(&shared.address, shared.purpose).await {
            Ok(dialed) => shared.serve(dialed).await,
            Err(fault) => {
                shared.stay_down(&fault);
                sleep(REDIAL).await;
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// From the connection's first moment to its last.
    async fn serve(&self, dialed: Dialed) {
        let number = self.dialed.fetch_add(1, Ordering::Relaxed) + 1;
        self.losses.store(0, Ordering::Relaxed);
        self.state.send_replace(State::Up(Line { number, lanes: dialed.lanes }));
        tracing::info!(redis.server = %self.address, "connected to Redis at {}", self.address);
        let mut states = self.state.subscribe();
        tokio::select! {
            () = dialed.broke.notified() => {
                let detail = "the connection was closed";
                self.fall(Some(number), &Fault::new(Class::Unreachable, Some(&self.address), detail));
            }
            _ = states.wait_for(|state| !matches!(state, State::Up(_))) => {}
        }
    }

    /// Drops the connection; the one of this number, if one is said. Doubt comes first: who finds the next connection
    /// must not go by what was known during the last.
    fn fall(&self, number: Option<u64>, fault: &Fault) {
        self.alive.doubt();
        let is_meant = |line: &Line| number.is_none_or(|number| line.number == number);
        let has_fallen = self.state.send_if_modified(|state| match state {
            State::Up(line) if is_meant(line) => {
                *state = State::Down(fault.clone());
                true
            }
            State::Up(_) | State::Dialing | State::Down(_) => false,
        });
        if has_fallen {
            tracing::warn!(authority.error = %fault, "lost the connection: {fault}");
        }
    }

    fn stay_down(&self, fault: &Fault) {
        let is_first = self.state.send_if_modified(|state| {
            let is_first = matches!(state, State::Dialing);
            *state = State::Down(fault.clone());
            is_first
        });
        if is_first {
            tracing::warn!(authority.error = %fault, "no connection yet: {fault}");
        }
    }
}
