//! What bringing things out of an outbox has in common, whatever is in it and whoever gets it.
//!
//! Alerts wait in one until their receivers have them, usage in another until its collector has it. What is due is taken
//! from the store, attempted beside what is under way, and counted. Knows the store's words for what became of it; no
//! receiver, no collector, and nothing of what is sent.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::clock::Timestamp;
use crate::outbound::jittered;
use crate::store::{Attempt, OutboxDepth};

/// How many attempts are made beside each other, and how often an outbox is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    pub at_once: usize,
    pub interval: Duration,
}

/// The names of an outbox's metrics, each with what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeterNames {
    /// A counter by `outcome`: delivered, failed or dead.
    pub attempts: (&'static str, &'static str),
    pub pending: (&'static str, &'static str),
    pub dead: (&'static str, &'static str),
    /// Of the oldest that waits.
    pub oldest_seconds: (&'static str, &'static str),
}

/// Numbers of what leaves an outbox, and of what waits in it.
#[derive(Clone, Debug)]
pub struct Meters {
    attempts: IntCounterVec,
    pending: IntGauge,
    dead: IntGauge,
    oldest_seconds: IntGauge,
}

/// Sends what is due, for ever: `take` is asked for as much as may be sent beside what is under way, and `send` ends when
/// that is settled, well or badly. May be dropped at any point, with what is under way.
pub async fn keep_sending<T, Taken, Sent>(pace: Pace, take: impl Fn(usize) -> Taken, send: impl Fn(T) -> Sent)
where
    Taken: Future<Output = Vec<T>>,
    Sent: Future<Output = ()>,
{
    let mut under_way = FuturesUnordered::new();
    loop {
        let free = pace.at_once - under_way.len();
        let taken = beside(&mut under_way, take(free)).await;
        under_way.extend(taken.into_iter().map(&send));
        tokio::select! {
            Some(()) = under_way.next() => {}
            () = tokio::time::sleep(pace.interval) => {}
        }
    }
}

/// Does `what` at once, and then again each `interval` after it was done, for ever.
pub async fn every<Done: Future<Output = ()>>(interval: Duration, what: impl Fn() -> Done) {
    loop {
        what().await;
        tokio::time::sleep(interval).await;
    }
}

/// The pause after that many attempts that failed: `first`, doubled with each attempt after the first, up to `most`; and
/// a little longer, so that what failed together is not tried again together.
pub fn growing(first: Duration, most: Duration, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    jittered((first * (1 << doublings)).min(most))
}

/// Waits for `what`, and goes on meanwhile with what is under way. A future that nobody polls holds on to what it has, and
/// that may be the turn to write which `what` waits for.
async fn beside<T, F: Future<Output = ()>>(
    under_way: &mut FuturesUnordered<F>,
    what: impl Future<Output = T>,
) -> T {
    let mut what = std::pin::pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return done,
            Some(()) = under_way.next() => {}
        }
    }
}

// === impl Meters ===

impl Meters {
    /// # Panics
    /// If the registry has metrics of these names already, or one of them is no name.
    pub fn register(registry: &Registry, names: MeterNames) -> Meters {
        let gauge = |(name, help): (&str, &str)| {
            let gauge = IntGauge::new(name, help).expect("a literal name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        let (name, help) = names.attempts;
        let attempts = IntCounterVec::new(Opts::new(name, help), &["outcome"]).expect("a literal name");
        registry.register(Box::new(attempts.clone())).expect("registered once");
        for outcome in ["delivered", "failed", "dead"] {
            attempts.with_label_values(&[outcome]);
        }
        Meters {
            attempts,
            pending: gauge(names.pending),
            dead: gauge(names.dead),
            oldest_seconds: gauge(names.oldest_seconds),
        }
    }

    pub fn count(&self, attempt: &Attempt) {
        self.attempts.with_label_values(&[attempt.as_str()]).inc();
    }

    pub fn set_depth(&self, depth: OutboxDepth, now: Timestamp) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.pending.set(number(depth.pending));
        self.dead.set(number(depth.dead));
        self.oldest_seconds.set(number(depth.age(now).as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn no_more_is_sent_beside_each_other_than_the_pace_says() {
        let (waiting, sent) = (Mutex::new((0..10).collect::<Vec<u32>>()), AtomicUsize::new(0));
        let (settled, under_way) = (Notify::new(), AtomicUsize::new(0));
        let take = async |free: usize| {
            let mut waiting = waiting.lock().unwrap();
            let taken = free.min(waiting.len());
            waiting.drain(..taken).collect()
        };
        let send = async |_: u32| {
            assert!(under_way.fetch_add(1, Ordering::SeqCst) < 3);
            settled.notified().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            sent.fetch_add(1, Ordering::SeqCst);
        };
        let pace = Pace { at_once: 3, interval: Duration::ZERO };
        tokio::select! {
            () = keep_sending(pace, take, send) => {}
            () = async {
                while sent.load(Ordering::SeqCst) < 10 {
                    settled.notify_one();
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    }

    #[tokio::test]
    async fn what_is_under_way_goes_on_while_more_is_taken() {
        let (first_ended, takes) = (Notify::new(), AtomicUsize::new(0));
        let take = async |_: usize| match takes.fetch_add(1, Ordering::SeqCst) {
            0 => vec![()],
            // As if it waited for a turn to write which the first one has.
            _ => {
                first_ended.notified().await;
                Vec::new()
            }
        };
        let taken = async |times| {
            while takes.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        let send = async |()| {
            taken(2).await;
            first_ended.notify_one();
        };
        tokio::select! {
            () = keep_sending(Pace { at_once: 2, interval: Duration::ZERO }, take, send) => {}
            in_time = tokio::time::timeout(SECOND * 60, taken(3)) => in_time.expect("it went on"),
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_at_most_a_fifth_longer() {
        for (attempts, seconds) in [(0, 1), (1, 1), (2, 2), (5, 16), (9, 60), (u32::MAX, 60)] {
            let (pause, least) = (growing(SECOND, SECOND * 60, attempts), SECOND * seconds);
            assert!((least..=least.mul_f64(1.2)).contains(&pause), "{attempts}: {pause:?}");
        }
    }

    #[test]
    fn an_outcome_is_there_before_it_happens() {
        let registry = Registry::new();
        let meters = Meters::register(
            &registry,
            MeterNames {
                attempts: ("attempts_total", "Attempts."),
                pending: ("pending", "Those that wait."),
                dead: ("dead", "Those that were given up."),
                oldest_seconds: ("oldest_seconds", "Age."),
            },
        );
        meters.count(&Attempt::Delivered);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("attempts_total{outcome=\"delivered\"} 1"), "{text}");
        assert!(text.contains("attempts_total{outcome=\"dead\"} 0"), "{text}");
    }
}
