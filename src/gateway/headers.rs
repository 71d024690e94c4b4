//! Header lines, both ways: strip first, then add.
//!
//! Whatever a client sends under the tenants' prefix, in any case, with `_` for `-`, or twice, never reaches an
//! upstream. Lines that concern one connection only are not passed on, nor those that `Connection` names, and ours
//! are added after both, so that no client can have them removed.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::authorize::Asked;
use super::forwarded;
use super::identity::{Caller, Lookout, is_key};
use super::policy::Charges;
use super::tunnel::Upgrade;
use crate::clock::Timestamp;
use crate::domain::{Limit, Period, RequestId};
use crate::listener::http1::{AnswerHead, BodyLength, Head, Line, list};
use crate::listener::{Buffer, Purpose};
use crate::secret::hash::Digests;
use crate::secret::sign::{Signer, Statement};

/// How header lines are written.
#[derive(Clone, Debug)]
pub struct HeaderSettings {
    /// Lower case, ends with `-`: `x-tenant-`.
    pub tenant_prefix: String,
    pub dialects: Vec<Dialect>,
    /// From these addresses, what a client says of who it forwards for is believed and passed on.
    pub trusted: Vec<ipnet::IpNet>,
    /// Signs what upstreams are told of callers.
    pub signer: Option<Arc<Signer>>,
}

/// A way to tell clients of their quotas. The standard is still moving, so it is a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
    Draft10,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds since the epoch) of the tightest quota.
    Legacy,
}

/// Who is at the other end of a connection: a client, or a proxy before us.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    pub(super) is_tls: bool,
    /// Of the name in the client's certificate, if it has shown one.
    pub(super) certificate: Option<Digests>,
    pub(super) purpose: Purpose,
    /// The address as `X-Forwarded-For` has it. Written once for all requests, and so is the next.
    pub(super) forwarded_for: String,
    /// What `Forwarded` says of it: `for` and `proto`.
    pub(super) forwarded: String,
}

/// The names that a `Connection` line names.
type Named<'a> = SmallVec<[&'a [u8]; 4]>;

// === impl Peer ===

impl Peer {
    pub(super) fn new(address: IpAddr, is_tls: bool, certificate: Option<Digests>, purpose: Purpose) -> Peer {
        let canonical = address.to_canonical();
        let (forwarded_for, forwarded) = (canonical.to_string(), forwarded::of(canonical, is_tls));
        Peer { address, is_tls, certificate, purpose, forwarded_for, forwarded }
    }
}

// === impl HeaderSettings ===

impl HeaderSettings {
    /// The request's head for the upstream, up to and without its last, empty line.
    pub(super) fn begin_request(
        &self,
        out: &mut Buffer,
        head: &Head<'_>,
        path: &str,
        lookout: Option<Lookout<'_>>,
        peer: &Peer,
    ) {
        for part in [head.method, " ", path, head.query, " HTTP/1.1\r\nhost: ", head.authority, "\r\n"] {
            out.push(part.as_bytes());
        }
        let trusted = self.trusts(peer.address);
        let named = named(head.lines);
        for line in head.lines {
            if self.passes(line, &named, trusted) && !is_credential(line, lookout) {
                push_line(out, line.name, line.value);
            }
        }
        if head.takes_trailers {
            out.push(b"te: trailers\r\nconnection: te\r\n");
        }
        if Upgrade::asked(head).is_some() {
            push_upgrade(out, head.lines);
        }
        self.push_forwarded(out, head, peer, trusted);
        push_body_length(out, head.body, head.method);
    }

    /// The rest of the head: who calls, and the empty line.
    pub(super) fn finish_request(
        &self,
        out: &mut Buffer,
        caller: Option<&Caller>,
        request: RequestId,
        now: Timestamp,
    ) {
        if let Some(caller) = caller {
            caller.push_lines(out);
            self.push_signature(out, caller, None, request, now);
        }
        push_request_id(out, request);
        out.push(b"\r\n");
    }

    /// The whole answer to a proxy that asks: the request that it asks about may pass.
    pub(super) fn push_permission(
        &self,
        out: &mut Buffer,
        permission: Permission<'_, '_>,
        framing: AnswerFraming,
    ) {
        let Permission { asked, charged, request, now } = permission;
        out.push(b"HTTP/1.1 200 OK\r\ndate: ");
        out.push(http_date(now).as_bytes());
        out.push(b"\r\n");
        framing.push(out);
        if let Some((caller, charges)) = charged {
            self.push_limits(out, caller, charges, now);
            caller.push_lines(out);
            self.push_signature(out, caller, Some((&asked.method, &asked.path)), request, now);
        }
        push_request_id(out, request);
        out.push(b"\r\n");
    }

    /// What is signed is read from the head as the upstream will read it, unless it is somebody else who sends it.
    fn push_signature(
        &self,
        out: &mut Buffer,
        caller: &Caller,
        asked: Option<(&str, &str)>,
        request: RequestId,
        now: Timestamp,
    ) {
        let Some(signer) = &self.signer else { return };
        let Some((method, path)) = asked.or_else(|| first_line(out.filled())) else { return };
        let entitlements = caller.entitlements();
        let key = entitlements.key().map(|key| key.to_string());
        let statement = Statement {
            tenant_id: &entitlements.tenant().to_string(),
            key_id: key.as_deref(),
            subject: caller.subject(),
            request_id: &request.to_string(),
            method,
            path,
        };
        let signature = signer.sign(statement, now);
        for part in [&*self.tenant_prefix, "signature: ", &signature, "\r\n"] {
            out.push(part.as_bytes());
        }
    }

    /// The client's real address: its own, or what the proxies before us say, the last that is not trusted itself.
    ///
    /// `X-Forwarded-For` comes before `Forwarded`, because proxies that write the one often let their clients' other
    /// pass.
    pub(super) fn client_address(&self, head: &Head<'_>, peer: &Peer) -> IpAddr {
        let peer = peer.address;
        if self.trusted.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let named = |name: &'static str| {
            head.lines.iter().rev().filter(move |line| line.name.eq_ignore_ascii_case(name))
        };
        if named("x-forwarded-for").next().is_some() {
            let hops = named("x-forwarded-for").flat_map(|line| line.value.rsplit(|byte| *byte == b','));
            self.last_stranger(hops.map(|hop| str::from_utf8(hop.trim_ascii()).ok()?.parse().ok()))
                .unwrap_or(peer)
        } else {
            let hops = named("forwarded").flat_map(|line| forwarded::nodes(line.value).into_iter().rev());
            self.last_stranger(hops).unwrap_or(peer)
        }
    }

    /// The first of `hops`, from the nearest on, that is no trusted proxy; `None` where one can't be read before.
    fn last_stranger(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        hops.map_while(|hop| hop).find(|hop| !self.trusts(*hop))
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    fn passes(&self, line: &Line<'_>, named: &Named<'_>, trusted: bool) -> bool {
        let name = line.name;
        !(is_hop(line, named)
            || is_ours(name)
            || (!trusted && is_forwarding(name))
            || begins_as(name, &self.tenant_prefix))
    }

    fn push_forwarded(&self, out: &mut Buffer, head: &Head<'_>, peer: &Peer, trusted: bool) {
        out.push(b"x-forwarded-for: ");
        if trusted {
            for line in head.lines.iter().filter(|line| line.name.eq_ignore_ascii_case("x-forwarded-for")) {
                out.push(line.value);
                out.push(b", ");
            }
        }
        out.push(peer.forwarded_for.as_bytes());
        out.push(b"\r\nforwarded: ");
        if trusted {
            for line in head.lines.iter().filter(|line| line.name.eq_ignore_ascii_case("forwarded")) {
                out.push(line.value);
                out.push(b", ");
            }
        }
        forwarded::push(out, peer, head.authority);
        let has = |name: &str| trusted && head.lines.iter().any(|line| line.name.eq_ignore_ascii_case(name));
        if !has("x-forwarded-proto") {
            out.push(if peer.is_tls {
                b"x-forwarded-proto: https\r\n"
            } else {
                b"x-forwarded-proto: http\r\n"
            });
        }
        if !has("x-forwarded-host") {
            out.push(b"x-forwarded-host: ");
            out.push(head.authority.as_bytes());
            out.push(b"\r\n");
        }
    }

    /// What the client is told of its quotas, each line with its CR LF.
    pub(super) fn push_limits(
        &self,
        out: &mut Buffer,
        caller: &Caller,
        charges: &Charges<'_>,
        now: Timestamp,
    ) {
        for dialect in &self.dialects {
            match dialect {
                Dialect::Draft10 => push_draft10(out, caller, charges, now),
                Dialect::Legacy => push_legacy(out, caller, charges),
            }
        }
    }

    /// The answer's head for the client, up to and without its last, empty line.
    pub(super) fn begin_answer(
        &self,
        out: &mut Buffer,
        answer: &AnswerHead<'_>,
        request: RequestId,
        framing: AnswerFraming,
        limited: bool,
    ) {
        push_status(out, answer);
        let named = named(answer.lines);
        let replaces_legacy = limited && self.dialects.contains(&Dialect::Legacy);
        for line in answer.lines {
            let drop = is_hop(line, &named)
                || line.name.eq_ignore_ascii_case("x-request-id")
                || (replaces_legacy && is_legacy_limit(line.name));
            if !drop {
                push_line(out, line.name, line.value);
            }
        }
        push_request_id(out, request);
        framing.push(out);
    }
}

/// What a proxy is told of a request that may pass.
#[derive(Clone, Copy)]
pub(super) struct Permission<'p, 'c> {
    pub(super) asked: &'p Asked,
    /// Who calls, and what was taken; `None` on a public route.
    pub(super) charged: Option<(&'p Caller, &'p Charges<'c>)>,
    pub(super) request: RequestId,
    pub(super) now: Timestamp,
}

/// How the client will find the answer's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AnswerFraming {
    pub(super) body: BodyLength,
    /// `Content-Length` of an answer without a body: HEAD, 304.
    pub(super) declared: Option<u64>,
    pub(super) closes: bool,
    /// To HTTP/1.0 the connection's staying open has to be said.
    pub(super) says_keep_alive: bool,
    pub(super) may_have_length: bool,
}

// === impl AnswerFraming ===

impl AnswerFraming {
    fn push(self, out: &mut Buffer) {
        match (self.body, self.declared) {
            (BodyLength::Sized(length), _) | (BodyLength::Empty, Some(length)) if self.may_have_length => {
                out.push(b"content-length: ");
                out.push_number(length);
                out.push(b"\r\n");
            }
            (BodyLength::Chunked, _) => out.push(b"transfer-encoding: chunked\r\n"),
            _ => {}
        }
        if self.closes {
            out.push(b"connection: close\r\n");
        } else if self.says_keep_alive {
            out.push(b"connection: keep-alive\r\n");
        }
    }
}

/// Method and path of a head's first line.
fn first_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    Some((method, target.split('?').next()?))
}

fn named<'a>(lines: &'a [Line<'a>]) -> Named<'a> {
    lines
        .iter()
        .filter(|line| line.name.eq_ignore_ascii_case("connection"))
        .flat_map(|line| list(line.value))
        .collect()
}

/// Whether a line concerns one connection only, by its name or because `Connection` says so.
fn is_hop(line: &Line<'_>, named: &Named<'_>) -> bool {
    is_of_connection(line.name) || named.iter().any(|named| line.name.as_bytes().eq_ignore_ascii_case(named))
}

fn is_credential(line: &Line<'_>, lookout: Option<Lookout<'_>>) -> bool {
    match lookout {
        Some(lookout) => lookout.keeps(line.name, line.value),
        // A public route: nobody was asked for a key, but a key of ours is nobody else's business.
        None => is_key(line.value),
    }
}

/// Lines of one connection, and those that say how a body is framed. By length first: most names are decided at once.
fn is_of_connection(name: &str) -> bool {
    let is = |other: &str| reads_as(name, other);
    match name.len() {
        2 => is("te"),
        4 => is("host"),
        6 => is("expect"),
        7 => is("trailer") || is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("content-length"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        _ => false,
    }
}

/// Lines that the gateway writes itself. `Host` is written with the first line.
fn is_ours(name: &str) -> bool {
    match name.len() {
        12 => reads_as(name, "x-request-id"),
        15 => reads_as(name, "x-forwarded-for"),
        9 => reads_as(name, "forwarded"),
        _ => false,
    }
}

fn is_forwarding(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'f' | b'F') => reads_as(name, "forwarded"),
        Some(b'x' | b'X') => begins_as(name, "x-forwarded-") || reads_as(name, "x-real-ip"),
        _ => false,
    }
}

fn reads_as(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins_as(name, other)
}

/// Whether a careless upstream could read the name as one that begins with `prefix` (lower case, with `-`): CGI and
/// WSGI turn `-` into `_`.
fn begins_as(name: &str, prefix: &str) -> bool {
    let Some(begin) = name.as_bytes().get(..prefix.len()) else { return false };
    begin.iter().zip(prefix.bytes()).all(|(byte, wanted)| {
        let byte = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        byte == wanted
    })
}

fn is_legacy_limit(name: &str) -> bool {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        .into_iter()
        .any(|limit| name.eq_ignore_ascii_case(limit))
}

/// `text` as a header line can have it, `grpc-message` too: printable ASCII but `%`, the rest percent-encoded, so that
/// different texts stay different and none begins a line of its own.
pub(super) fn percent_encoded(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    text.bytes().enumerate().fold(String::with_capacity(text.len()), |mut encoded, (at, byte)| {
        // A reader of headers trims spaces at their ends.
        let is_inner_space = byte == b' ' && at > 0 && at < last;
        if byte.is_ascii_graphic() && byte != b'%' || is_inner_space {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn push_status(out: &mut Buffer, answer: &AnswerHead<'_>) {
    out.push(b"HTTP/1.1 ");
    out.push_number(answer.status.into());
    out.push(b" ");
    out.push(answer.reason.as_bytes());
    out.push(b"\r\n");
}

/// A time as the `Date` of an answer has it.
pub(super) fn http_date(now: Timestamp) -> String {
    now.to_jiff().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Whether it is a call of gRPC, whose clients read their refusals in trailers. A proxy that asks about one is no such
/// client: its refusals are never answered with 200.
pub(super) fn is_grpc(head: &Head<'_>, peer: &Peer) -> bool {
    let is = |value: &[u8]| {
        let (kind, rest) = value.split_at_checked(b"application/grpc".len()).unwrap_or_default();
        kind.eq_ignore_ascii_case(b"application/grpc")
            && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    };
    // Its clients always take trailers, so the lines of other requests are not looked through.
    peer.purpose == Purpose::Proxy
        && head.takes_trailers
        && matches!(head.only("content-type"), Ok(Some(kind)) if is(kind))
}

/// Whether a field of that name may stand behind a body: nothing that frames, routes, identifies or interprets what
/// came before it (RFC 9110, section 6.5.1).
pub(super) fn passes_as_trailer(name: &str) -> bool {
    let is = |other: &str| reads_as(name, other);
    !(is_of_connection(name)
        || is_ours(name)
        || is_forwarding(name)
        || begins_as(name, "content-")
        || is("set-cookie")
        || is("cache-control")
        || is("authorization")
        || is("www-authenticate"))
}

/// An interim answer's whole head for the client.
pub(super) fn push_interim(out: &mut Buffer, answer: &AnswerHead<'_>) {
    push_status(out, answer);
    let named = named(answer.lines);
    for line in answer.lines.iter().filter(|line| !is_hop(line, &named)) {
        push_line(out, line.name, line.value);
    }
    out.push(b"\r\n");
}

/// Lines of one connection that are meant for the next one after all: what it is upgraded to.
pub(super) fn push_upgrade(out: &mut Buffer, lines: &[Line<'_>]) {
    out.push(b"connection: upgrade\r\n");
    for line in lines.iter().filter(|line| line.name.eq_ignore_ascii_case("upgrade")) {
        push_line(out, "upgrade", line.value);
    }
}

fn push_line(out: &mut Buffer, name: &str, value: &[u8]) {
    out.push(name.as_bytes());
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

fn push_request_id(out: &mut Buffer, request: RequestId) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    out.push(b"x-request-id: ");
    out.push(request.0.as_hyphenated().encode_lower(&mut text).as_bytes());
    out.push(b"\r\n");
}

/// Our own framing of the request's body. A method that has a body by its meaning says even that it is empty.
fn push_body_length(out: &mut Buffer, body: BodyLength, method: &str) {
    match body {
        BodyLength::Chunked => out.push(b"transfer-encoding: chunked\r\n"),
        BodyLength::Sized(length) => {
            out.push(b"content-length: ");
            out.push_number(length);
            out.push(b"\r\n");
        }
        BodyLength::Empty if matches!(method, "POST" | "PUT" | "PATCH") => out.push(b"content-length: 0\r\n"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
}

fn push_draft10(out: &mut Buffer, caller: &Caller, charges: &Charges<'_>, now: Timestamp) {
    let limited = charges.iter().filter_map(|charge| {
        let remaining = charge.account.remaining()?;
        let key = charge.account.key();
        let mut quotas = caller.entitlements().quotas(key.resource);
        let entitled = quotas.find(|entitled| entitled.account.key() == key)?;
        (!entitled.is_pool).then_some((remaining, entitled))
    });
    let limited: SmallVec<[_; 4]> = limited.collect();
    if limited.is_empty() {
        return;
    }
    let mut separator: &[u8] = b"ratelimit-policy: ";
    for (_, entitled) in &limited {
        out.push(separator);
        out.push(entitled.policy_member.as_bytes());
        separator = b", ";
    }
    separator = b"\r\nratelimit: ";
    for (remaining, entitled) in &limited {
        out.push(separator);
        out.push(entitled.limit_member.as_bytes());
        out.push_number(remaining.get());
        if entitled.window.period != Period::Forever {
            out.push(b";t=");
            out.push_number(entitled.window.end.since(now).as_secs());
        }
        separator = b", ";
    }
    out.push(b"\r\n");
}

fn push_legacy(out: &mut Buffer, caller: &Caller, charges: &Charges<'_>) {
    let tightest = charges
        .iter()
        .filter(|charge| caller.entitlements().owns(charge.account.key().owner))
        .filter_map(|charge| match charge.account.limit() {
            Limit::Of(limit) => Some((charge.account.remaining()?, limit, charge.account.key().window)),
            Limit::Unlimited => None,
        })
        .min_by_key(|(remaining, ..)| *remaining);
    let Some((remaining, limit, window)) = tightest else { return };
    let mut line = |name: &[u8], value: u64| {
        out.push(name);
        out.push_number(value);
        out.push(b"\r\n");
    };
    line(b"x-ratelimit-limit: ", limit.get());
    line(b"x-ratelimit-remaining: ", remaining.get());
    if window.period != Period::Forever {
        line(b"x-ratelimit-reset: ", u64::try_from(window.end.seconds()).unwrap_or_default());
    }
}
