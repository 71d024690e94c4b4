//! Every way a request can be refused, and its one mapping to status, body and metric.
//!
//! What the client may read and what the operator must read differ: an unknown, an expired and a malformed key look
//! alike to the client, and are three reasons in metrics and logs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::headers::{http_date, percent_encoded};
use super::upstream::Unavailable;
use crate::clock::Timestamp;
use crate::domain::billing::SPEND_CAP;
use crate::domain::{Limit, Owner, RequestId, Resource, TenantId, TenantStatus, Units};
use crate::listener::Buffer;
use crate::listener::http1::{BadChunk, BadHead};
use crate::secret::jwt::BadToken;

/// Above this wait clients are told not to retry by themselves: several SDKs would sleep for days.
const WAIT_WORTH_RETRYING: Duration = Duration::from_secs(60);

/// Why a request got no further.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Refusal {
    Malformed(BadHead),
    MalformedBody(BadChunk),
    /// The path has `.` or `..` segments or a backslash: gateway and upstream could read it differently.
    AmbiguousPath,
    /// Another proxy asks, and it is not clear about which request.
    Question(BadQuestion),
    /// Another proxy asks about a route whose price only the request itself shows.
    NotAskable,
    BodyTooLarge {
        bytes_max: u64,
    },
    HeadTimeout,
    BodyTimeout,
    NoRoute,
    MethodNotAllowed {
        allow: String,
    },
    Unauthenticated(Unauthenticated),
    Suspended(TenantId, TenantStatus),
    Forbidden(Forbidden),
    Exceeded(Box<Denial>),
    TooFast {
        wait: Duration,
    },
    /// Too many keys that are nobody's came from there lately, and this one is not known.
    Strange {
        wait: Duration,
    },
    ReducedCapacity(Shortage),
    UpstreamUnreachable,
    UpstreamBroke,
    UpstreamTimeout,
    /// The upstream was not asked.
    Unavailable(Unavailable),
}

/// Why nobody was recognized. The client only sees that it was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unauthenticated {
    Missing,
    Malformed,
    Unknown,
    /// Revoked, disabled or expired.
    Unusable,
    /// Two different identities in one request.
    Ambiguous,
    Token(BadToken),
}

/// Why a recognized caller may not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Forbidden {
    Scope,
    Route,
    Address,
    /// Who asks whether a request may pass is no proxy that is trusted.
    Asker,
}

/// Why it is not clear which request another proxy asks about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadQuestion {
    /// A header that tells of it is missing.
    Missing(&'static str),
    /// Headers of two kinds of proxies tell of it, or one of them does twice.
    Ambiguous,
}

/// What the gateway itself is short of. Never the tenant's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shortage {
    Directory,
    /// Keys of a token's issuer.
    Issuer,
    Authority,
    Till,
    Journal,
    /// Room for charges: the request would have to pay more accounts than one record holds.
    Charges,
    Memory,
}

/// Which quota denied, and when there will be more.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Denial {
    pub owner: Owner,
    pub resource: Resource,
    pub policy: String,
    /// The limit and what is used; `None` where it is not the caller's to know.
    pub counts: Option<(Limit, Units)>,
    /// Whether the limit is what the tenant's spend cap leaves.
    pub is_capped: bool,
    /// Units that the request would have taken.
    pub wanted: Units,
    /// `None` for gauges: there is more when some are released.
    pub resets_at: Option<Timestamp>,
    pub wait: Option<Duration>,
    /// Where more can be bought, if the caller is to know.
    pub upgrade_url: Option<Arc<str>>,
}

/// To what a refusal is the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) request: RequestId,
    /// An answer to HEAD has no body.
    pub(super) is_head: bool,
    /// The connection ends after it.
    pub(super) closes: bool,
    /// To HTTP/1.0 the connection's staying open has to be said.
    pub(super) is_http10: bool,
    /// Its answer is a status of gRPC.
    pub(super) is_grpc: bool,
}

// === impl Refusal ===

impl Refusal {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Refusal::Malformed(fault) => fault.status(),
            Refusal::MalformedBody(_) | Refusal::AmbiguousPath | Refusal::Question(_) => 400,
            Refusal::Unauthenticated(_) => 401,
            Refusal::Suspended(..) | Refusal::Forbidden(_) => 403,
            Refusal::NoRoute => 404,
            Refusal::MethodNotAllowed { .. } => 405,
            Refusal::HeadTimeout | Refusal::BodyTimeout => 408,
            Refusal::BodyTooLarge { .. } => 413,
            Refusal::Exceeded(_)
            | Refusal::TooFast { .. }
            | Refusal::Strange { .. }
            | Refusal::Unavailable(Unavailable::TenantBusy) => 429,
            Refusal::UpstreamUnreachable | Refusal::UpstreamBroke => 502,
            Refusal::NotAskable => 501,
            Refusal::ReducedCapacity(_) | Refusal::Unavailable(_) => 503,
            Refusal::UpstreamTimeout => 504,
        }
    }

    /// The status that clients of gRPC act on.
    const fn grpc_status(&self) -> u8 {
        const DEADLINE_EXCEEDED: u8 = 4;
        const PERMISSION_DENIED: u8 = 7;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        const UNAUTHENTICATED: u8 = 16;
        match self {
            Refusal::Unauthenticated(_) => UNAUTHENTICATED,
            Refusal::Suspended(..) | Refusal::Forbidden(_) => PERMISSION_DENIED,
            Refusal::Exceeded(_)
            | Refusal::TooFast { .. }
            | Refusal::Strange { .. }
            | Refusal::BodyTooLarge { .. }
            | Refusal::Unavailable(Unavailable::TenantBusy) => RESOURCE_EXHAUSTED,
            Refusal::NoRoute | Refusal::MethodNotAllowed { .. } | Refusal::NotAskable => UNIMPLEMENTED,
            Refusal::Malformed(_)
            | Refusal::MalformedBody(_)
            | Refusal::AmbiguousPath
            | Refusal::Question(_) => INTERNAL,
            Refusal::HeadTimeout | Refusal::BodyTimeout | Refusal::UpstreamTimeout => DEADLINE_EXCEEDED,
            Refusal::ReducedCapacity(_)
            | Refusal::UpstreamUnreachable
            | Refusal::UpstreamBroke
            | Refusal::Unavailable(_) => UNAVAILABLE,
        }
    }

    /// The reason as metrics and logs have it.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::MalformedBody(_) => "malformed_body",
            Refusal::AmbiguousPath => "ambiguous_path",
            Refusal::Question(_) => "bad_question",
            Refusal::NotAskable => "not_askable",
            Refusal::BodyTooLarge { .. } => "body_too_large",
            Refusal::HeadTimeout => "head_timeout",
            Refusal::BodyTimeout => "body_timeout",
            Refusal::NoRoute => "no_route",
            Refusal::MethodNotAllowed { .. } => "method_not_allowed",
            Refusal::Unauthenticated(why) => why.reason(),
            Refusal::Suspended(..) => "tenant_suspended",
            Refusal::Forbidden(Forbidden::Scope) => "scope",
            Refusal::Forbidden(Forbidden::Route) => "route",
            Refusal::Forbidden(Forbidden::Address) => "address",
            Refusal::Forbidden(Forbidden::Asker) => "asker",
            Refusal::Exceeded(_) => "quota_exceeded",
            Refusal::TooFast { .. } => "rate_exceeded",
            Refusal::Strange { .. } => "identity_throttled",
            Refusal::ReducedCapacity(Shortage::Directory) => "short_of_directory",
            Refusal::ReducedCapacity(Shortage::Issuer) => "short_of_issuer",
            Refusal::ReducedCapacity(Shortage::Authority) => "short_of_authority",
            Refusal::ReducedCapacity(Shortage::Till) => "short_of_till",
            Refusal::ReducedCapacity(Shortage::Journal) => "short_of_journal",
            Refusal::ReducedCapacity(Shortage::Charges) => "short_of_charges",
            Refusal::ReducedCapacity(Shortage::Memory) => "short_of_memory",
            Refusal::UpstreamUnreachable => "upstream_unreachable",
            Refusal::UpstreamBroke => "upstream_broke",
            Refusal::UpstreamTimeout => "upstream_timeout",
            Refusal::Unavailable(Unavailable::Unhealthy) => "upstream_unhealthy",
            Refusal::Unavailable(Unavailable::Spared { .. }) => "upstream_breaker_open",
            Refusal::Unavailable(Unavailable::Busy) => "upstream_busy",
            Refusal::Unavailable(Unavailable::TenantBusy) => "tenant_busy",
        }
    }

    /// Whether the connection can't be used again, because where the next request begins is unknown or unwanted.
    pub(super) const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Refusal::Malformed(_)
                | Refusal::MalformedBody(_)
                | Refusal::BodyTooLarge { .. }
                | Refusal::HeadTimeout
                | Refusal::BodyTimeout
        )
    }

    /// Writes the whole answer to `out`. `lines` are further header lines, each with its CR LF.
    pub(super) fn write(&self, out: &mut Buffer, to: Recipient, now: Timestamp, lines: &[u8]) {
        let Recipient { request, is_head, closes, is_http10, is_grpc } = to;
        let body = if is_grpc { String::new() } else { self.problem(request).to_string() };
        let (status, kind) = if is_grpc { (200, "grpc") } else { (self.status(), "problem+json") };
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/{kind}\r\ncontent-length: {}\r\ndate: {}\r\n\
             x-request-id: {request}\r\n",
            phrase(status),
            body.len(),
            http_date(now),
        );
        if is_grpc {
            let (code, message) = (self.grpc_status(), percent_encoded(&self.detail()));
            head.push_str(&format!("grpc-status: {code}\r\ngrpc-message: {message}\r\n"));
        }
        self.write_lines(&mut head);
        if closes {
            head.push_str("connection: close\r\n");
        } else if is_http10 {
            head.push_str("connection: keep-alive\r\n");
        }
        out.push(head.as_bytes());
        out.push(lines);
        out.push(b"\r\n");
        if !is_head {
            out.push(body.as_bytes());
        }
    }

    fn write_lines(&self, head: &mut String) {
        match self {
            Refusal::Unauthenticated(_) => head.push_str("www-authenticate: Bearer realm=\"api\"\r\n"),
            Refusal::MethodNotAllowed { allow } => head.push_str(&format!("allow: {allow}\r\n")),
            _ => {}
        }
        let Some(wait) = self.wait() else { return };
        head.push_str(&format!("retry-after: {}\r\n", whole_seconds(wait)));
        if wait > WAIT_WORTH_RETRYING {
            head.push_str("x-should-retry: false\r\n");
        }
    }

    /// How long to wait before it makes sense to ask again.
    fn wait(&self) -> Option<Duration> {
        match self {
            Refusal::Exceeded(denial) => denial.wait,
            Refusal::TooFast { wait }
            | Refusal::Strange { wait }
            | Refusal::Unavailable(Unavailable::Spared { wait }) => Some(*wait),
            Refusal::Unavailable(_) => Some(Duration::from_secs(1)),
            Refusal::ReducedCapacity(_) | Refusal::UpstreamUnreachable => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The body: RFC 9457.
    fn problem(&self, request: RequestId) -> Value {
        let status = self.status();
        let mut problem = Map::new();
        problem.insert("type".into(), self.problem_type().into());
        problem.insert("title".into(), self.title().into());
        problem.insert("status".into(), status.into());
        problem.insert("detail".into(), self.detail().into());
        problem.insert("request_id".into(), request.to_string().into());
        if let Refusal::Exceeded(denial) = self {
            problem.insert("violated-policies".into(), json!([denial.policy]));
            problem.insert("resource".into(), json!(denial.resource));
            if let Some((limit, used)) = denial.counts {
                problem.insert("limit".into(), json!(limit));
                problem.insert("used".into(), json!(used));
            }
            problem.insert("resets_at".into(), json!(denial.resets_at));
            if denial.is_capped {
                problem.insert("cause".into(), SPEND_CAP.into());
            }
            if let Some(url) = &denial.upgrade_url {
                problem.insert("upgrade_url".into(), (**url).into());
            }
        }
        Value::Object(problem)
    }

    fn problem_type(&self) -> String {
        match self {
            Refusal::Exceeded(_)
            | Refusal::TooFast { .. }
            | Refusal::Unavailable(Unavailable::TenantBusy) => iana("quota-exceeded"),
            Refusal::ReducedCapacity(_) => iana("temporary-reduced-capacity"),
            Refusal::Unauthenticated(_) => ours("unauthenticated"),
            Refusal::Strange { .. } => ours("too-many-unknown-keys"),
            Refusal::Suspended(..) => ours("tenant-suspended"),
            Refusal::Forbidden(_) => ours("forbidden"),
            Refusal::NoRoute => ours("no-route"),
            Refusal::MethodNotAllowed { .. } => ours("method-not-allowed"),
            Refusal::BodyTooLarge { .. } => ours("body-too-large"),
            Refusal::HeadTimeout | Refusal::BodyTimeout => ours("request-timeout"),
            Refusal::Malformed(_)
            | Refusal::MalformedBody(_)
            | Refusal::AmbiguousPath
            | Refusal::Question(_) => ours("malformed-request"),
            Refusal::NotAskable => ours("not-askable"),
            Refusal::UpstreamUnreachable => ours("upstream-unreachable"),
            Refusal::UpstreamBroke => ours("upstream-broke"),
            Refusal::UpstreamTimeout => ours("upstream-timeout"),
            Refusal::Unavailable(_) => ours("upstream-unavailable"),
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Refusal::Exceeded(_) => "Quota exceeded",
            Refusal::TooFast { .. } => "Too many requests",
            Refusal::Suspended(..) => "Tenant suspended",
            _ => phrase(self.status()),
        }
    }

    fn detail(&self) -> String {
        match self {
            Refusal::Malformed(fault) => fault.to_string(),
            Refusal::MalformedBody(fault) => fault.to_string(),
            Refusal::AmbiguousPath => "the path must not have `.` or `..` segments or backslashes".into(),
            Refusal::Question(BadQuestion::Missing(name)) => {
                format!("the request that is asked about must be told by headers: `{name}` is missing")
            }
            Refusal::Question(BadQuestion::Ambiguous) => {
                "the headers tell of more than one request that is asked about".into()
            }
            Refusal::NotAskable => {
                "this path is charged by bodies or answers, which only a request that passes through here shows".into()
            }
            Refusal::BodyTooLarge { bytes_max } => {
                format!("the body is larger than the limit of {bytes_max} bytes")
            }
            Refusal::HeadTimeout => "the request's head did not arrive in time".into(),
            Refusal::BodyTimeout => "the request's body did not arrive in time".into(),
            Refusal::NoRoute => "no route leads from this host and path".into(),
            Refusal::MethodNotAllowed { allow } => format!("this path is served for {allow}"),
            Refusal::Unauthenticated(_) => "a valid API key or token is needed".into(),
            Refusal::Suspended(_, status) => format!("the tenant is {status}"),
            Refusal::Forbidden(Forbidden::Asker) => "only trusted proxies may ask here".into(),
            Refusal::Forbidden(Forbidden::Address) => "the caller may not come from this address".into(),
            Refusal::Forbidden(_) => "the caller may not use this".into(),
            Refusal::Exceeded(denial) => denial.to_string(),
            Refusal::Strange { .. } => "too many unknown keys came from this address; try again".into(),
            Refusal::TooFast { wait } => {
                format!("requests come too fast; the next one is due in {} s", whole_seconds(*wait))
            }
            Refusal::ReducedCapacity(Shortage::Memory) => {
                "the gateway is short of memory and takes no requests for the moment; try again".into()
            }
            Refusal::ReducedCapacity(_) => {
                "the gateway can't tell right now whether this may pass; try again".into()
            }
            Refusal::UpstreamUnreachable => "the service behind the gateway can't be reached".into(),
            Refusal::UpstreamBroke => {
                "the service behind the gateway broke off or answered with no HTTP".into()
            }
            Refusal::UpstreamTimeout => "the service behind the gateway did not answer in time".into(),
            Refusal::Unavailable(Unavailable::Unhealthy) => {
                "no endpoint of the service behind the gateway is healthy".into()
            }
            Refusal::Unavailable(Unavailable::Spared { .. }) => {
                "the service behind the gateway fails too often and is spared for a while".into()
            }
            Refusal::Unavailable(Unavailable::Busy) => {
                "the service behind the gateway has as many requests as it may have at a time".into()
            }
            Refusal::Unavailable(Unavailable::TenantBusy) => {
                "as many requests are under way as may be at a time; wait for answers".into()
            }
        }
    }
}

// === impl Denial ===

impl Denial {
    /// The same, as a tenant may read it that shares the quota with others.
    #[must_use]
    pub(super) fn of_pool(&self) -> Denial {
        Denial { policy: format!("pool-{}", self.policy), counts: None, is_capped: false, ..self.clone() }
    }
}

// === impl Unauthenticated ===

impl Unauthenticated {
    const fn reason(self) -> &'static str {
        match self {
            Unauthenticated::Missing => "identity_missing",
            Unauthenticated::Malformed => "identity_malformed",
            Unauthenticated::Unknown => "identity_unknown",
            Unauthenticated::Unusable => "identity_unusable",
            Unauthenticated::Ambiguous => "identity_ambiguous",
            Unauthenticated::Token(BadToken::TooLong) => "token_too_long",
            Unauthenticated::Token(BadToken::Malformed) => "token_malformed",
            Unauthenticated::Token(BadToken::Algorithm) => "token_algorithm",
            Unauthenticated::Token(BadToken::Critical) => "token_critical",
            Unauthenticated::Token(BadToken::Type) => "token_type",
            Unauthenticated::Token(BadToken::Issuer) => "token_issuer",
            Unauthenticated::Token(BadToken::Key) => "token_key",
            Unauthenticated::Token(BadToken::Signature) => "token_signature",
            Unauthenticated::Token(BadToken::Audience) => "token_audience",
            Unauthenticated::Token(BadToken::Expired) => "token_expired",
            Unauthenticated::Token(BadToken::Early) => "token_early",
            Unauthenticated::Token(BadToken::Claim) => "token_claim",
        }
    }
}

// === impl Denial ===

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Denial { resource, wanted, .. } = self;
        match self.counts {
            Some((limit, used)) => {
                write!(f, "{used} of {limit} {resource} are used, and this request takes {wanted}; ")?;
            }
            None => write!(f, "the {resource} that are shared with others are used; ")?,
        }
        if self.is_capped {
            f.write_str("the spend cap pays for no more; ")?;
        }
        match self.resets_at {
            Some(at) => write!(f, "there will be more at {at}"),
            None => write!(f, "there will be more when some are released"),
        }
    }
}

/// Whole seconds, rounded up, at least 1: the only form of `Retry-After` that every client reads.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn iana(name: &str) -> String {
    format!("https://iana.org/assignments/http-problem-types#{name}")
}

fn ours(name: &str) -> String {
    format!("/problems/{name}")
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
