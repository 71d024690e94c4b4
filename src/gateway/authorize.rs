//! The walk for those who run a proxy already ("forward auth"): it asks about each request whether it may pass, and
//! sends it on itself. nginx `auth_request`, Caddy and Traefik forward auth, and Envoy `ext_authz` over HTTP ask so.
//!
//! The request that is asked about takes the same walk as one that passes through: route, identity, policy, admission,
//! with the same refusals. Only the end differs: the answer is 200 with the lines that an upstream would get.
//!
//! # Whose word is taken
//! Only trusted proxies may ask, because who asks says which request, which host and which client's address it asks
//! about. Proxies hand their clients' headers on, so a client must not be able to tell of another request than its own:
//! headers of two kinds at once are refused rather than ranked.
//!
//! # When units count
//! As soon as the answer is about to leave: nobody tells what became of the request, so nothing is given back, whatever
//! the route's `on` says, and the usage record says that 200 was answered. Routes that are charged by what bodies or
//! answers turn out to be can't be asked about.

use super::connection::Client;
use super::forward::Ended;
use super::handle::{Call, Gateway, Serving};
use super::headers::{AnswerFraming, HeaderSettings, Peer, Permission};
use super::identity::Caller;
use super::passage::Passage;
use super::policy::Charges;
use super::refusal::{BadQuestion, Forbidden, Refusal};
use crate::clock::Monotonic;
use crate::domain::Outcome;
use crate::listener::http1::{BodyLength, Head, HeadLimits};
use crate::listener::send;

/// Where proxies ask. Envoy puts it before the path that it asks about.
const PATH: &str = "/.tollgate/authorize";

/// The request that is asked about, as far as its upstream has to be told of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Box<str>,
    /// Without the query.
    pub(super) path: Box<str>,
}

/// What an answer of 200 is made from.
pub(super) struct Allowed<'a, 'c> {
    asked: &'a Asked,
    charged: Option<(Passage<'c>, &'a Caller, &'a Charges<'c>)>,
}

/// The headers in which one kind of proxy tells of the request it asks about.
struct Dialect {
    target: &'static str,
    method: &'static str,
    /// Where it is missing, `Host` is that request's own.
    host: Option<&'static str>,
}

/// Of nginx: set by its configuration, see `deploy/nginx-auth-request.conf`.
const ORIGINAL: Dialect = Dialect { target: "x-original-uri", method: "x-original-method", host: None };

/// Of Caddy and Traefik, which set them by themselves.
const FORWARDED: Dialect =
    Dialect { target: "x-forwarded-uri", method: "x-forwarded-method", host: Some("x-forwarded-host") };

/// The head of the request that `head` asks about: its lines are the ones that came with the question.
///
/// # Errors
/// [`Forbidden::Asker`], [`Refusal::NoRoute`], [`BadQuestion`]; [`Refusal::Malformed`] if a request like that would be
/// refused itself.
pub(super) fn question<'h>(
    head: &Head<'h>,
    peer: &Peer,
    settings: &HeaderSettings,
    limits: HeadLimits,
) -> Result<Head<'h>, Refusal> {
    if !settings.trusts(peer.address) {
        return Err(Refusal::Forbidden(Forbidden::Asker));
    }
    let path = head.path.strip_prefix(PATH).ok_or(Refusal::NoRoute)?;
    // Without it every client would seem to have the proxy's own address.
    if !head.lines.iter().any(|line| line.name.eq_ignore_ascii_case("x-forwarded-for")) {
        return Err(Refusal::Question(BadQuestion::Missing("x-forwarded-for")));
    }
    match path.as_bytes() {
        [] => told(head, limits),
        // Envoy: method, host, path and query are the request's own.
        [b'/', ..] => Ok(Head { path, ..*head }),
        _ => Err(Refusal::NoRoute),
    }
}

/// The request that the lines of `head` tell of.
fn told<'h>(head: &Head<'h>, limits: HeadLimits) -> Result<Head<'h>, Refusal> {
    let (dialect, target) = match (only(head, ORIGINAL.target)?, only(head, FORWARDED.target)?) {
        (Some(target), None) => (ORIGINAL, target),
        (None, Some(target)) => (FORWARDED, target),
        (None, None) => return Err(Refusal::Question(BadQuestion::Missing(ORIGINAL.target))),
        (Some(_), Some(_)) => return Err(Refusal::Question(BadQuestion::Ambiguous)),
    };
    let method = only(head, dialect.method)?;
    let method = method.ok_or(Refusal::Question(BadQuestion::Missing(dialect.method)))?;
    let host = dialect.host.map_or(Ok(None), |name| only(head, name))?;
    head.of_another(method, target, host.unwrap_or(head.authority), limits).map_err(Refusal::Malformed)
}

/// The text of the only line of that name.
fn only<'h>(head: &Head<'h>, name: &str) -> Result<Option<&'h str>, Refusal> {
    let value = head.only(name).map_err(|_| Refusal::Question(BadQuestion::Ambiguous))?;
    // What is no text is no token, target or authority either.
    Ok(value.map(|value| str::from_utf8(value).unwrap_or_default()))
}

// === impl Asked ===

impl Asked {
    pub(super) fn about(head: &Head<'_>) -> Self {
        Asked { method: head.method.into(), path: head.path.into() }
    }
}

// === impl Allowed ===

impl<'a, 'c> Allowed<'a, 'c> {
    /// On a public route.
    pub(super) fn anybody(asked: &'a Asked) -> Self {
        Allowed { asked, charged: None }
    }

    pub(super) fn caller(
        asked: &'a Asked,
        passage: Passage<'c>,
        caller: &'a Caller,
        charges: &'a Charges<'c>,
    ) -> Self {
        Allowed { asked, charged: Some((passage, caller, charges)) }
    }
}

// === impl Gateway ===

impl Gateway {
    /// Answers that the request may pass.
    ///
    /// Dropping the future before the answer is about to leave gives the units back.
    pub(super) async fn allow(
        &self,
        serving: &Serving,
        client: &mut Client,
        call: &Call,
        allowed: Allowed<'_, '_>,
    ) -> Ended {
        let reusable = !call.closes
            && client.alarm.keeps_alive()
            && self.can_skip(client, call.body, call.expects_continue).await;
        let framing = AnswerFraming {
            body: BodyLength::Sized(0),
            declared: None,
            closes: !reusable,
            says_keep_alive: call.is_http10,
            may_have_length: true,
        };
        let Allowed { asked, charged } = allowed;
        let permission = Permission {
            asked,
            charged: charged.as_ref().map(|(_, caller, charges)| (*caller, *charges)),
            request: call.request,
            now: call.admitted_at,
        };
        let mut out = self.parts.buffers.take();
        self.shared.headers.push_permission(&mut out, permission, framing);
        if let Some((passage, ..)) = charged {
            count(passage, self.shared.clock.monotonic()).await;
        }
        serving.meters.permitted(call.route);
        let sending = send(&mut client.stream, out.filled());
        let complete = matches!(client.alarm.within(self.shared.limits.write, sending).await, Ok(Ok(())));
        Ended { complete, reusable: complete && reusable }
    }
}

/// Closes the books of a request of which nobody will tell how it ended.
async fn count(mut passage: Passage<'_>, now: Monotonic) {
    passage.sent();
    passage.status = 200;
    passage.end(now, Outcome::Answered, &[], &[]).await;
}
