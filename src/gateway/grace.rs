//! Whether whoever began a long exchange may still go on with it.
//!
//! A request is permitted once, when it comes. A stream or a WebSocket may outlive that by days: a tenant that was
//! suspended, or a key that was revoked meanwhile, would go on being served. So whenever something changed in the
//! directory, each worker wakes its exchanges, each looks whether the change is about its caller, and one whose caller
//! would not be let in any more ends after the grace that is configured.
//!
//! # Why nothing is registered
//! Nearly all exchanges end within milliseconds, and registering them would cost each of them something. What it costs
//! them now is one look at a flag whenever they wait.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::handle::{Call, Gateway};
use super::identity::Caller;
use super::policy;
use super::refusal::{Refusal, Unauthenticated};
use super::route::Route;
use crate::directory::Entitlements;
use crate::listener::Alarms;

/// After a look-up that failed: the store may be away, which is no reason to end anything.
const LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often a worker wakes its exchanges at most, however much changes: ticks.
const WOKEN_EVERY: u64 = 20;

/// Remembers up to which change of the directory a worker's exchanges were woken.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    seen: Cell<u64>,
    at: Cell<u64>,
}

/// An exchange's right to go on.
#[derive(Clone, Copy)]
pub(super) struct Permit<'p> {
    pub(super) gateway: &'p Gateway,
    pub(super) route: &'p Route,
    pub(super) call: &'p Call,
    pub(super) caller: &'p Caller,
}

/// What is known of a caller by now.
enum Standing {
    Welcome(Arc<Entitlements>),
    Unwelcome(Refusal),
    Unknown,
}

// === impl Wakes ===

impl Wakes {
    /// Called once per tick.
    pub(super) fn tick(&self, changes: u64, alarms: &Alarms) {
        if changes != self.seen.get() && alarms.now() >= self.at.get() + WOKEN_EVERY {
            self.seen.set(changes);
            self.at.set(alarms.now());
            alarms.wake_all();
        }
    }
}

// === impl Permit ===

impl<'p> Permit<'p> {
    /// The exchange's end, or why it had to end before. When `told` is given the refusal, the exchange may still say
    /// goodbye: it is waited for if `told` answers true, and dropped otherwise.
    ///
    /// Dropping the future leaves the exchange where it is.
    pub(super) async fn during<T>(
        self,
        mut exchange: Pin<&mut impl Future<Output = T>>,
        told: impl Fn(Refusal) -> bool,
    ) -> Option<T> {
        let mut ending: Option<Pin<Box<dyn Future<Output = Refusal> + 'p>>> = None;
        let entitlements = self.caller.entitlements();
        let mut is_told = false;
        poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(ended) = exchange.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            if is_told || entitlements.is_fresh() {
                return Poll::Pending;
            }
            let ends = ending.get_or_insert_with(|| Box::pin(self.ends()));
            let Poll::Ready(refusal) = ends.as_mut().poll(context) else { return Poll::Pending };
            is_told = told(refusal);
            if !is_told {
                return Poll::Ready(None);
            }
            exchange.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Done when the caller was not let in any more, and still is not when its grace is over.
    async fn ends(self) -> Refusal {
        let mut current: Option<Arc<Entitlements>> = None;
        loop {
            // No waker: the worker wakes all after a change.
            poll_fn(|_| match &current {
                Some(current) if current.is_fresh() => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
            match self.standing().await {
                Standing::Welcome(entitlements) => current = Some(entitlements),
                Standing::Unknown => self.pause(LOOKED_UP_AGAIN_AFTER).await,
                Standing::Unwelcome(_) => {
                    self.pause(self.gateway.shared.identity.suspend_grace).await;
                    if let Standing::Unwelcome(refusal) = self.standing().await {
                        return refusal;
                    }
                }
            }
        }
    }

    async fn standing(&self) -> Standing {
        match self.gateway.recognize(self.call).await {
            Ok(caller) => {
                let now = self.gateway.shared.clock.now();
                match policy::permit(&caller, self.route, self.call, now) {
                    Ok(()) => Standing::Welcome(caller.into_entitlements()),
                    Err(refusal) => Standing::Unwelcome(refusal),
                }
            }
            Err(refusal @ Refusal::Unauthenticated(Unauthenticated::Unknown)) => Standing::Unwelcome(refusal),
            Err(_) => Standing::Unknown,
        }
    }

    async fn pause(&self, time: Duration) {
        let alarm = self.gateway.parts.alarms.alarm();
        // It ends by running out.
        let _ = alarm.within(time, pending::<()>()).await;
    }
}
