//! A call from its question to its answer: to the right node, again where that helps, and never for longer than the
//! deadline.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::{sleep, timeout};

use super::fault::{Class, Fault, Remedy};
use super::fleet::Fleet;
use super::link::Link;
use super::meters::Meters;
use super::script::{Call, Frame};
use crate::clock::Clock;

/// Sends scripts to the books they are about.
pub(super) struct Calls {
    pub(super) frame: Frame,
    pub(super) fleet: Arc<Fleet>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: Meters,
    pub(super) timeout: Duration,
    pub(super) wait_replicas: u32,
    pub(super) wait_units: u64,
}

/// How far a call has come, should its time end.
#[derive(Default)]
struct Progress {
    /// Who is being waited for.
    waiting_for: Option<Arc<Link>>,
    /// What was wrong before.
    fault: Option<Fault>,
}

/// The first pause before trying again where a cluster is rearranging itself; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

// === impl Calls ===

impl Calls {
    /// Calls, and counts what came of it.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value, Fault> {
        let began = self.clock.monotonic();
        let answer = self.call_in_time(call).await;
        match &answer {
            Ok(_) => self.meters.add_answer(call.kind(), self.clock.monotonic().since(began)),
            Err(fault) => self.meters.add_loss(call.kind(), fault.class),
        }
        answer
    }

    async fn call_in_time(&self, call: &Call<'_>) -> Result<Value, Fault> {
        let mut progress = Progress::default();
        if let Ok(answer) = timeout(self.timeout, self.pursue(call, &mut progress)).await {
            return answer;
        }
        if let Some(link) = &progress.waiting_for {
            link.lost();
        }
        let at = progress.waiting_for.as_deref().map(Link::address);
        Err(progress.fault.unwrap_or_else(|| Fault::new(Class::Deadline, at, format!("{:?}", self.timeout))))
    }

    /// Until there is an answer, or something that does not pass by itself.
    async fn pursue(&self, call: &Call<'_>, progress: &mut Progress) -> Result<Value, Fault> {
        let mut asking = None;
        let mut pause = PAUSE_MIN;
        loop {
            let fault = match self.attempt(call, asking.take(), progress).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            match fault.remedy() {
                Remedy::None | Remedy::Redial => return Err(fault),
                Remedy::Load => self.load(call, progress).await?,
                Remedy::Moved(to) => {
                    self.fleet.moved(call.book(), to.clone());
                    self.fleet.surveyed_anew().await;
                }
                Remedy::Ask(to) => {
                    asking = Some(self.fleet.link(to.clone()));
                    self.fleet.surveyed_anew().await;
                }
                Remedy::Wait => {
                    sleep(pause).await;
                    pause = PAUSE_MAX.min(pause * 2);
                }
            }
            progress.fault = Some(fault);
        }
    }

    /// Asks who keeps the book, or `other` in the middle of a move.
    async fn attempt(
        &self,
        call: &Call<'_>,
        other: Option<Arc<Link>>,
        progress: &mut Progress,
    ) -> Result<Value, Fault> {
        let is_asking = other.is_some();
        let link = other.map_or_else(|| self.fleet.keeper(call.book()), Ok)?;
        progress.waiting_for = Some(link.clone());
        let answer = self.send(call, &link, is_asking).await;
        progress.waiting_for = None;
        answer
    }

    async fn send(&self, call: &Call<'_>, link: &Link, is_asking: bool) -> Result<Value, Fault> {
        let is_large = self.wait_replicas > 0 && call.asked() >= self.wait_units;
        let command = || call.command(&self.frame, &self.fleet.living());
        if !is_asking && !is_large {
            return link.send(command).await;
        }
        let commands = || {
            let mut pipeline = redis::pipe();
            if is_asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command());
            if is_large {
                self.add_wait(&mut pipeline);
            }
            pipeline
        };
        let mut answers = link.send_all(commands).await?.into_iter().skip(is_asking.into());
        let missing = || Fault::new(Class::Rejected, Some(link.address()), "fewer answers than commands");
        let answer = answers.next().ok_or_else(missing)?;
        if is_large && answer.is_ok() && !self.has_waited(answers.next().as_ref()) {
            self.meters.add_unreplicated();
        }
        answer
    }

    /// The grant is made already, and the till's to use: a replica that lags makes the loss of its master dearer, not
    /// wrong. So half the time is waited for it at most, and then it is counted.
    fn add_wait(&self, pipeline: &mut Pipeline) {
        let millis = u64::try_from((self.timeout / 2).as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("WAIT").arg(self.wait_replicas).arg(millis.max(1));
    }

    fn has_waited(&self, answer: Option<&Result<Value, Fault>>) -> bool {
        matches!(answer, Some(Ok(Value::Int(replicas))) if *replicas >= i64::from(self.wait_replicas))
    }

    async fn load(&self, call: &Call<'_>, progress: &mut Progress) -> Result<(), Fault> {
        let link = self.fleet.keeper(call.book())?;
        progress.waiting_for = Some(link.clone());
        let loaded = link.send(|| call.load()).await;
        progress.waiting_for = None;
        loaded.map(drop)
    }
}
