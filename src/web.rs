//! What the API and the console read of a request alike: where it comes from, its id, and the session's cookie.
//!
//! Knows no path, no body and no permission. Two doors that read these things for themselves would one day read them
//! differently, and a session or an address would be good at one door and not at the other.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use ipnet::IpNet;
use uuid::{NoContext, Uuid};

use crate::clock::Clock;
use crate::control::{Control, Person};

/// One id for all that one request did: in its answer, in the log and in the audit rows. A UUIDv7.
#[derive(Clone, Copy, Debug)]
pub struct RequestId(pub Uuid);

/// Where the id of a request is told.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The session's cookie, where people don't come by TLS.
pub const SESSION_COOKIE: &str = "tollgate_session";
/// The prefix makes browsers refuse one that another host, or another way than TLS, has set.
const SESSION_COOKIE_OF_TLS: &str = "__Host-tollgate_session";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What an actor's user agent is cut to in the audit log.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Where a request comes from.
pub fn person(control: &Control, extensions: &Extensions, headers: &HeaderMap) -> Person {
    let connection = extensions.get::<ConnectInfo<SocketAddr>>();
    let proxies = &control.session_settings().proxies;
    Person {
        ip: connection.map(|ConnectInfo(address)| client(address.ip(), headers, proxies)),
        user_agent: user_agent(headers),
        correlation: extensions.get::<RequestId>().map_or(Uuid::nil(), |RequestId(id)| *id),
    }
}

/// A cookie of that name.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies =
        lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The session's token in the cookies of a request.
pub fn session_token<'h>(control: &Control, headers: &'h HeaderMap) -> Option<&'h str> {
    cookie(headers, session_cookie_name(control))
}

/// An empty token takes the cookie away.
pub fn set_session_cookie(control: &Control, response: &mut Response, token: &str) {
    let seconds = if token.is_empty() { 0 } else { control.session_settings().absolute.as_secs() };
    set_cookie(control, response, session_cookie_name(control), token, "/", seconds);
}

/// A cookie that no script reads and no other site sends with a form.
pub fn set_cookie(
    control: &Control,
    response: &mut Response,
    name: &str,
    value: &str,
    path: &str,
    seconds: u64,
) {
    let secure = if control.session_settings().is_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn session_cookie_name(control: &Control) -> &'static str {
    if control.session_settings().is_secure { SESSION_COOKIE_OF_TLS } else { SESSION_COOKIE }
}

/// For whom a connection asks: a proxy that is trusted tells it in `x-forwarded-for`, and nobody else.
fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let is_proxy = |ip: IpAddr| proxies.iter().any(|network| network.contains(&ip.to_canonical()));
    let lines = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let mut told: Vec<_> = lines.flat_map(|line| line.split(',')).map(|text| text.trim().parse()).collect();
    let mut client = peer;
    // The nearest is told last.
    while is_proxy(client)
        && let Some(Ok(before)) = told.pop()
    {
        client = before;
    }
    client
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS_MAX).collect())
}

// === impl RequestId ===

impl RequestId {
    /// The id is always ours: one that a client chose could claim another request's audit rows.
    pub fn new(clock: &dyn Clock) -> RequestId {
        let now = clock.now();
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        let nanos = u32::try_from(now.micros().rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        RequestId(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos)))
    }

    /// Tells it in an answer.
    pub fn tell(self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(&self.0.to_string()) {
            headers.insert(X_REQUEST_ID, id);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(RequestId(Uuid::nil())))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::client;

    #[test]
    fn only_a_trusted_proxy_is_believed_about_whom_it_asks_for() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()];
        for (peer, told, expected) in [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "unknown, 10.0.0.2", "10.0.0.2"),
            ("127.0.0.1", "", "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", told.parse().unwrap());
            let found = client(peer.parse().unwrap(), &headers, &proxies);
            assert_eq!(found.to_string(), expected, "{peer} {told}");
        }
    }
}
