//! Deadlines of a worker's connections, at the price of a comparison.
//!
//! A timer per read and write would cost more than the reads. Instead each connection has one [`Alarm`], a cell that
//! says by which tick it must have made progress, and the worker looks at all of them once per [`TICK`]. Deadlines
//! are therefore late by up to one tick, never early, and no request reads a clock for them.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;

/// How often the worker looks: the precision of every timeout of a connection.
pub const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// All alarms of one worker.
#[derive(Clone, Debug, Default)]
pub struct Alarms(Rc<Shared>);

/// One connection's alarm.
#[derive(Debug)]
pub struct Alarm {
    cell: Rc<AlarmCell>,
    alarms: Alarms,
    index: usize,
    /// No deadline is later than this tick: the request's total time.
    ceiling: Cell<u64>,
}

pin_project! {
    /// A future with a deadline, which is taken back when this is dropped.
    ///
    /// By hand, because an async function would hold `future` twice, and these are nested: a connection's task has room
    /// for all of them.
    #[must_use = "nothing happens before it is awaited"]
    pub struct Within<'a, F> {
        #[pin]
        future: F,
        alarm: Deadline<'a>,
    }
}

/// The deadline passed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired;

#[derive(Debug, Default)]
struct Shared {
    now: Cell<u64>,
    draining: Cell<bool>,
    /// Whether connections stay open between two requests.
    ends_idle: Cell<bool>,
    cells: RefCell<Vec<Option<Rc<AlarmCell>>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct AlarmCell {
    due: Cell<u64>,
    waits: Cell<Waits>,
    waker: RefCell<Option<Waker>>,
}

/// What ends a wait before it is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Waits {
    #[default]
    Busy,
    /// A drain.
    UntilDrain,
    /// Between two requests: a drain, or [`Alarms::end_idle`].
    Idle,
}

// === impl Alarms ===

impl Alarms {
    pub fn alarm(&self) -> Alarm {
        let cell = AlarmCell { due: Cell::new(NEVER), waits: Cell::default(), waker: RefCell::new(None) };
        let cell = Rc::new(cell);
        let mut cells = self.0.cells.borrow_mut();
        let index = self.0.free.borrow_mut().pop().unwrap_or(cells.len());
        if index == cells.len() {
            cells.push(None);
        }
        cells[index] = Some(cell.clone());
        Alarm { cell, alarms: self.clone(), index, ceiling: Cell::new(NEVER) }
    }

    /// One [`TICK`] has passed: wakes whoever's deadline it was.
    pub fn tick(&self) {
        self.0.now.set(self.0.now.get() + 1);
        self.wake_due();
    }

    /// From now on idle connections end at once and busy ones after their answer.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.wake_due();
    }

    /// From now on no connection is kept for another request: idle ones end at the next tick and busy ones after their
    /// answer, until [`Alarms::keep_idle`]. New ones are welcome.
    pub fn end_idle(&self) {
        self.0.ends_idle.set(true);
    }

    /// Connections are kept again, as they are at first.
    pub fn keep_idle(&self) {
        self.0.ends_idle.set(false);
    }

    /// Whoever waits looks again, whatever the time: something may concern it.
    pub fn wake_all(&self) {
        for cell in self.0.cells.borrow().iter().flatten() {
            if let Some(waker) = cell.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// How many ticks have passed.
    pub fn now(&self) -> u64 {
        self.0.now.get()
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.get()
    }

    fn keeps_alive(&self) -> bool {
        !self.is_draining() && !self.0.ends_idle.get()
    }

    fn wake_due(&self) {
        for cell in self.0.cells.borrow().iter().flatten() {
            if self.is_due(cell)
                && let Some(waker) = cell.waker.borrow().as_ref()
            {
                waker.wake_by_ref();
            }
        }
    }

    fn is_due(&self, cell: &AlarmCell) -> bool {
        let is_ended = match cell.waits.get() {
            Waits::Busy => false,
            Waits::UntilDrain => self.is_draining(),
            Waits::Idle => !self.keeps_alive(),
        };
        is_ended || cell.due.get() <= self.0.now.get()
    }
}

// === impl Alarm ===

impl Alarm {
    /// The future's value, or [`Expired`] if it took longer than `limit` or than [`Alarm::bound`] allows.
    ///
    /// The time runs from this call on. Dropping it drops the future and takes the deadline back.
    pub fn within<F: Future>(&self, limit: Duration, future: F) -> Within<'_, F> {
        self.cell.due.set(self.tick_after(limit).min(self.ceiling.get()));
        Within { future, alarm: Deadline(self) }
    }

    /// As [`Alarm::within`], and also ends when connections are not kept: for the wait between two requests.
    pub fn idle<F: Future>(&self, limit: Duration, future: F) -> Within<'_, F> {
        self.cell.waits.set(Waits::Idle);
        self.within(limit, future)
    }

    /// As [`Alarm::within`], and also ends when the worker drains: for the wait of a connection that is no burden yet,
    /// or that is one request to its end.
    pub fn until_drain<F: Future>(&self, limit: Duration, future: F) -> Within<'_, F> {
        self.cell.waits.set(Waits::UntilDrain);
        self.within(limit, future)
    }

    /// From now on no deadline is later than `total` from now; `None` lifts the bound.
    pub fn bound(&self, total: Option<Duration>) {
        self.ceiling.set(total.map_or(NEVER, |total| self.tick_after(total)));
    }

    /// Whether the time that [`Alarm::bound`] gave has passed.
    pub fn is_past_bound(&self) -> bool {
        self.ceiling.get() <= self.alarms.0.now.get()
    }

    pub fn is_draining(&self) -> bool {
        self.alarms.is_draining()
    }

    /// Whether the connection may stay open for another request.
    pub fn keeps_alive(&self) -> bool {
        self.alarms.keeps_alive()
    }

    /// Ready once the deadline has passed; until then the task is woken then.
    fn poll_due(&self, context: &Context<'_>) -> Poll<()> {
        if self.alarms.is_due(&self.cell) {
            return Poll::Ready(());
        }
        let mut waker = self.cell.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// The first tick that is at least `limit` from now: the current one is already running, hence one more.
    fn tick_after(&self, limit: Duration) -> u64 {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis());
        let ticks = u64::try_from(ticks).unwrap_or(NEVER);
        self.alarms.0.now.get().saturating_add(ticks).saturating_add(1)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.0.cells.borrow_mut()[self.index] = None;
        self.alarms.0.free.borrow_mut().push(self.index);
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Expired>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(context) {
            return Poll::Ready(Ok(value));
        }
        this.alarm.0.poll_due(context).map(|()| Err(Expired))
    }
}

/// An alarm that is set.
struct Deadline<'a>(&'a Alarm);

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        self.0.cell.due.set(NEVER);
        self.0.cell.waits.set(Waits::Busy);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::{Alarms, Expired, TICK};

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_is_late_by_at_most_one_tick_and_never_early() {
        let alarms = Alarms::default();
        let alarm = alarms.alarm();
        let mut waits = pin!(alarm.within(TICK * 2, pending::<()>()));
        for _ in 0..2 {
            assert_eq!(poll(waits.as_mut()), Poll::Pending);
            alarms.tick();
        }
        assert_eq!(poll(waits.as_mut()), Poll::Pending);
        alarms.tick();
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Err(Expired)));
    }

    #[test]
    fn what_is_ready_never_expires() {
        let alarms = Alarms::default();
        let alarm = alarms.alarm();
        assert_eq!(poll(pin!(alarm.within(TICK, ready(7)))), Poll::Ready(Ok(7)));
    }

    #[test]
    fn the_bound_holds_for_every_later_wait() {
        let alarms = Alarms::default();
        let alarm = alarms.alarm();
        alarm.bound(Some(TICK));
        alarms.tick();
        alarms.tick();
        assert_eq!(poll(pin!(alarm.within(TICK * 100, pending::<()>()))), Poll::Ready(Err(Expired)));
        alarm.bound(None);
        assert_eq!(poll(pin!(alarm.within(TICK * 100, pending::<()>()))), Poll::Pending);
    }

    #[test]
    fn draining_ends_idle_connections_and_no_busy_ones() {
        let alarms = Alarms::default();
        let (idle, busy) = (alarms.alarm(), alarms.alarm());
        let mut idles = pin!(idle.idle(TICK * 100, pending::<()>()));
        let mut works = pin!(busy.within(TICK * 100, pending::<()>()));
        assert!(poll(idles.as_mut()).is_pending() && poll(works.as_mut()).is_pending());
        alarms.drain();
        assert_eq!(poll(idles.as_mut()), Poll::Ready(Err(Expired)));
        assert!(poll(works.as_mut()).is_pending());
    }

    #[test]
    fn connections_that_are_not_kept_end_between_requests_and_at_no_other_time() {
        let alarms = Alarms::default();
        let (idle, fresh, busy) = (alarms.alarm(), alarms.alarm(), alarms.alarm());
        let mut idles = pin!(idle.idle(TICK * 100, pending::<()>()));
        let mut waits = pin!(fresh.until_drain(TICK * 100, pending::<()>()));
        let mut works = pin!(busy.within(TICK * 100, pending::<()>()));
        assert!(poll(idles.as_mut()).is_pending());
        alarms.end_idle();
        assert_eq!(poll(idles.as_mut()), Poll::Ready(Err(Expired)));
        assert!(poll(waits.as_mut()).is_pending() && poll(works.as_mut()).is_pending());
        assert!(!busy.keeps_alive() && !busy.is_draining());
        alarms.keep_idle();
        assert!(busy.keeps_alive());
        alarms.drain();
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Err(Expired)));
        assert!(!busy.keeps_alive());
    }
}
