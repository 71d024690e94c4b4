//! `Forwarded` (RFC 7239): what proxies tell of whom they forward for, in one line instead of three.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use super::headers::Peer;
use crate::listener::Buffer;

/// One per proxy; `None` for what is no address: `unknown`, a made-up name, or what can't be read.
pub(super) type Nodes = SmallVec<[Option<IpAddr>; 4]>;

/// What our own element says of a peer.
pub(super) fn of(peer: IpAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    match peer {
        IpAddr::V4(address) => format!("for={address};proto={scheme}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\";proto={scheme}"),
    }
}

/// Our own element, and the line's end.
pub(super) fn push(out: &mut Buffer, peer: &Peer, authority: &str) {
    out.push(peer.forwarded.as_bytes());
    // HTTP/1.0 may say none. What it is made of needs quotes for its colons and brackets, and has none itself.
    if !authority.is_empty() {
        for part in [";host=\"", authority, "\""] {
            out.push(part.as_bytes());
        }
    }
    out.push(b"\r\n");
}

/// For whom each proxy forwarded, in the order of the proxies.
pub(super) fn nodes(value: &[u8]) -> Nodes {
    unquoted(value, b',').map(node).collect()
}

/// The address of an element's one `for`.
fn node(element: &[u8]) -> Option<IpAddr> {
    let mut nodes = unquoted(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let text = str::from_utf8(nodes.next()?).ok()?;
    if nodes.next().is_some() {
        return None;
    }
    let text = text.strip_prefix('"').map_or(Some(text), |quoted| quoted.strip_suffix('"'))?;
    address(text)
}

/// With or without a port; an IPv6 address has brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None if text.starts_with('[') => text.parse().ok().map(|socket: SocketAddr| socket.ip()),
        None => {
            let host = text.split_once(':').map_or(text, |(host, _)| host);
            host.parse().ok().map(IpAddr::V4)
        }
    }
}

/// The parts of `value` between those `separator`s that stand in no quotes, trimmed.
fn unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return !is_quoted && *byte == separator,
        }
        false
    });
    parts.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::nodes;

    #[test]
    fn each_proxys_client_is_read_as_the_standard_writes_it() {
        for (value, expected) in [
            ("for=192.0.2.7", &[Some("192.0.2.7")][..]),
            ("For=\"192.0.2.7:1000\";proto=https;by=203.0.113.43", &[Some("192.0.2.7")]),
            ("proto=http; FOR=192.0.2.7:_port", &[Some("192.0.2.7")]),
            ("for=\"[2001:db8::7]\"", &[Some("2001:db8::7")]),
            ("for=\"[2001:db8::7]:4711\" , for=10.0.0.1", &[Some("2001:db8::7"), Some("10.0.0.1")]),
            ("host=\"a,for=1.1.1.1\";for=192.0.2.7", &[Some("192.0.2.7")]),
            ("host=\"a\\\",for=1.1.1.1\";for=192.0.2.7", &[Some("192.0.2.7")]),
            ("for=unknown, for=_hidden, proto=http, ", &[None, None, None, None]),
            ("for=192.0.2.7;for=192.0.2.8", &[None]),
            ("for=2001:db8::7", &[None]),
            ("for=\"192.0.2.7", &[None]),
            ("for=[::1", &[None]),
            ("", &[None]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|node| node.map(|node| node.parse().unwrap())).collect();
            assert_eq!(nodes(value.as_bytes()).to_vec(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_nobodys_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
            nodes(&value);
        }
    }
}
