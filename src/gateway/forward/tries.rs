//! How often a request is tried, and where.
//!
//! A request is tried again only while nothing of an answer has reached the client, where arriving twice does no more
//! than arriving once, where all that was sent of it is at hand, and within the upstream's budget. However often it is
//! sent, it is charged and recorded once.

use std::net::IpAddr;
use std::time::Duration;

use super::{Begun, Fault, Forward};
use crate::clock::Monotonic;
use crate::domain::TenantId;
use crate::gateway::connection::Client;
use crate::gateway::random::hash_of;
use crate::gateway::upstream::{NoConnection, Tries, Upstream, UpstreamConnection, Wanted, Went};
use crate::listener::Buffer;
use crate::listener::http1::BodyCopy;

impl Forward<'_, '_> {
    /// Tries until there is an answer, or no try is left.
    pub(super) async fn exchange(
        &self,
        client: &mut Client,
        request: &mut Buffer,
        body: &mut BodyCopy,
    ) -> Result<Begun, Fault> {
        let upstream = &self.serving.upstreams[self.serving.table.routes[self.call.route].upstream];
        let seat = upstream.admit(self.tenant(), self.call.began).map_err(Fault::Unavailable)?;
        self.progress.bytes_in.set(body.bytes());
        self.progress.repeatable.set(self.call.is_idempotent);
        self.progress.tries_left.set(upstream.retry().attempts);
        let mut tries = upstream.tries(|| self.key());
        let mut now = self.call.began;
        let last = loop {
            let tried = self.try_once(upstream, &mut tries, now, client, request, body).await;
            let again = match tried {
                Err(Fault::TryAgain) => true,
                Err(fault) => self.may_repeat(fault) && self.takes_retry(upstream),
                Ok(_) => false,
            };
            if !again {
                break tried;
            }
            now = self.gateway.shared.clock.monotonic();
            tries.begin_again(now);
        };
        if let Some(went) = self.went(last) {
            seat.went(went);
        }
        last
    }

    /// One try, and a second one on a fresh connection if the pooled one turns out to have been closed: that says
    /// nothing of the upstream and costs no retry.
    async fn try_once(
        &self,
        upstream: &Upstream,
        tries: &mut Tries,
        now: Monotonic,
        client: &mut Client,
        request: &mut Buffer,
        body: &mut BodyCopy,
    ) -> Result<Begun, Fault> {
        let wanted = if self.call.upgrade.is_some() { Wanted::Http1 } else { Wanted::Any };
        let pooled = self.connect(upstream, tries, client, now, wanted).await?;
        let is_reused = pooled.is_reused;
        let mut tried = self.attempt(upstream, tries, pooled, client, request, body).await;
        if let Err(fault) = tried
            && is_reused
            && self.may_repeat(fault)
        {
            tries.was_stale();
            let fresh = self.connect(upstream, tries, client, now, Wanted::Fresh).await?;
            tried = self.attempt(upstream, tries, fresh, client, request, body).await;
        }
        match self.went(tried) {
            Some(Went::Well) => upstream.went_well(tries),
            Some(Went::Badly) => upstream.went_badly(tries, self.gateway.shared.clock.monotonic()),
            None => {}
        }
        tried
    }

    /// How it went at the upstream; `None` if that is not known, because the client was at fault.
    fn went(&self, tried: Result<Begun, Fault>) -> Option<Went> {
        match tried {
            Ok(_) => Some(Went::of_status(self.progress.status.get())),
            Err(
                Fault::NotSent
                | Fault::NotReached
                | Fault::UpstreamBroke
                | Fault::UpstreamTooSlow
                | Fault::TryAgain,
            ) => Some(Went::Badly),
            Err(
                Fault::Unavailable(_)
                | Fault::ClientGone
                | Fault::ClientTooSlow
                | Fault::BadBody(_)
                | Fault::BodyTooLarge
                | Fault::Stopped,
            ) => None,
        }
    }

    /// Nothing arrived at all, or something did that may arrive twice and was not answered.
    fn may_repeat(&self, fault: Fault) -> bool {
        match fault {
            Fault::NotSent => true,
            Fault::UpstreamBroke => self.progress.repeatable.get() && self.progress.status.get() == 0,
            _ => false,
        }
    }

    /// One try fewer is left, if there was one and the budget allows it.
    pub(super) fn takes_retry(&self, upstream: &Upstream) -> bool {
        let left = self.progress.tries_left.get();
        let takes = left > 0 && upstream.may_retry(self.gateway.shared.clock.monotonic());
        if takes {
            self.progress.tries_left.set(left - 1);
        }
        takes
    }

    fn tenant(&self) -> Option<TenantId> {
        self.charged.as_ref().map(|charged| charged.caller.entitlements().tenant())
    }

    /// What the request is hashed by: the tenant, or the client's address where there is none.
    fn key(&self) -> u64 {
        match self.tenant() {
            Some(tenant) => hash_of(tenant.0.as_bytes()),
            None => match self.call.client.to_canonical() {
                IpAddr::V4(address) => hash_of(&address.octets()),
                IpAddr::V6(address) => hash_of(&address.octets()),
            },
        }
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        tries: &mut Tries,
        client: &Client,
        now: Monotonic,
        wanted: Wanted,
    ) -> Result<UpstreamConnection, Fault> {
        let connected = upstream.connect(tries, &client.alarm, now, wanted).await;
        connected.map_err(|fault| match fault {
            // All were tried by now.
            NoConnection::Unreachable => {
                self.progress.tries_left.set(0);
                Fault::NotSent
            }
            NoConnection::TooSlow => Fault::NotReached,
            NoConnection::Unavailable(why) => Fault::Unavailable(why),
        })
    }

    /// How much of a body is worth keeping.
    pub(super) fn kept_bytes_max(&self, upstream: &Upstream) -> usize {
        if self.progress.tries_left.get() > 0 { upstream.retry().body_bytes } else { 0 }
    }

    /// What is sent is kept behind the head, as long as it is little, so that all of it can be sent again.
    pub(super) fn keep(&self, request: &mut Buffer, sent: &Buffer, bytes_max: usize) {
        if !self.progress.repeatable.get() {
            return;
        }
        if request.len() + sent.len() > bytes_max {
            self.progress.repeatable.set(false);
        } else {
            request.push(sent.filled());
        }
    }

    /// How long this try may take, if there can be another one.
    pub(super) fn try_timeout(&self, upstream: &Upstream) -> Option<Duration> {
        let may = self.progress.tries_left.get() > 0 && self.progress.repeatable.get();
        let own = upstream.retry().try_timeout.filter(|_| may)?;
        (own < upstream.timeouts().first_byte).then_some(own)
    }

    /// An answer that is not passed on while the request can be tried again.
    pub(super) fn refuse_listed(&self, upstream: &Upstream, status: u16) -> Result<(), Fault> {
        let is_listed = upstream.retry().statuses.contains(&status);
        if is_listed && self.progress.repeatable.get() && self.takes_retry(upstream) {
            return Err(Fault::TryAgain);
        }
        Ok(())
    }
}
