//! Behind a balancer that says for whom it connects, before anything else.

use super::{another_key, customer_of, route};
use crate::support::{Customer, RawClient, StubUpstream, TestAuthority, TestGateway, until};

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n";

/// 192.0.2.7:1000 to 198.51.100.1:443.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x03\xe8\x01\xbb";

/// A balancer that looks whether we live.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn the_client_is_whom_a_trusted_balancer_names() {
    for mode in ["optional", "required"] {
        let (upstream, gateway, customer) = behind("127.0.0.1", mode, "");
        let fenced = another_key(&gateway, &customer, &["--network", "192.0.2.0/24"]);
        for (preamble, client, status) in [
            (VERSION_1, "192.0.2.7", 200),
            (VERSION_2, "192.0.2.7", 200),
            (b"PROXY TCP6 2001:db8::7 ::1 1000 443\r\n", "2001:db8::7", 403),
            (LOCAL, "127.0.0.1", 403),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1", 403),
        ] {
            let shown = preamble.escape_ascii();
            // Even in one piece with what follows, and byte by byte.
            let whole = [preamble, get(&customer).as_bytes()].concat();
            assert_eq!(gateway.client().send(&whole).response().status, 200, "{mode} {shown}");
            let mut slow = gateway.client();
            for byte in &whole {
                slow.send([*byte]);
            }
            assert_eq!(slow.response().status, 200, "{mode} {shown}");
            let seen = upstream.last();
            assert_eq!(seen.header("x-forwarded-for"), Some(client), "{mode} {shown}");
            let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
            let forwarded = format!("for={node};proto=http;host=\"api.test:80\"");
            assert_eq!(seen.header("forwarded"), Some(&*forwarded), "{mode} {shown}");
            let mut fence = gateway.client();
            assert_eq!(fence.send(preamble).send(get(&fenced)).response().status, status, "{mode} {shown}");
        }
    }
}

#[test]
fn what_is_no_preamble_is_a_request_or_the_end_as_configured() {
    let (upstream, gateway, customer) = behind("127.0.0.1", "optional", "");
    assert_eq!(gateway.client().send(get(&customer)).response().status, 200);
    let mut dawdling = gateway.client();
    // A `P` could be the beginning of either.
    dawdling.send("P").send("UT / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(dawdling.response().status, 401);
    for bad in [&b"PROXY TCP4 nobody\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x99\0\0\0"] {
        assert!(gateway.client().send([bad, get(&customer).as_bytes()].concat()).is_closed());
    }
    let mut half = gateway.client();
    half.send(&VERSION_2[..20]).finish();
    assert!(half.is_closed(), "it ended within the preamble");

    let (required, gateway, customer) = behind("127.0.0.1", "required", "");
    assert!(gateway.client().send(get(&customer)).is_closed());
    assert_eq!((upstream.count(), required.count()), (1, 0));
    until("they are counted", || {
        (gateway.metric("tollgate_handshake_failures_total", "") > 0.5).then_some(())
    });
}

#[test]
fn nobody_else_is_believed() {
    let (upstream, gateway, customer) = behind("10.0.0.0/8", "optional", "");
    assert_eq!(gateway.client().send([VERSION_1, get(&customer).as_bytes()].concat()).response().status, 400);
    assert_eq!(gateway.client().send(get(&customer)).response().status, 200);
    assert_eq!(upstream.last().header("x-forwarded-for"), Some("127.0.0.1"));
    let (upstream, gateway, customer) = behind("10.0.0.0/8", "required", "");
    for preamble in [VERSION_1, b""] {
        assert!(gateway.client().send([preamble, get(&customer).as_bytes()].concat()).is_closed());
    }
    let (off, gateway, customer) = behind("127.0.0.1", "off", "");
    assert_eq!(gateway.client().send([VERSION_1, get(&customer).as_bytes()].concat()).response().status, 400);
    assert_eq!((upstream.connections(), off.connections()), (0, 0));
}

#[test]
fn a_preamble_that_does_not_come_ends_the_connection_in_time() {
    let limits = "[listen.limits]\nheader_timeout = \"200ms\"\n";
    let (_upstream, gateway, _customer) = behind("127.0.0.1", "required", limits);
    for begin in [&b""[..], b"PRO", &VERSION_2[..14], &VERSION_2[..20]] {
        assert!(gateway.client().send(begin).is_closed(), "{}", begin.escape_ascii());
    }
}

#[test]
fn connections_are_counted_by_the_client_behind_the_balancer() {
    let limits = "[listen.limits]\nconnections_per_ip = 1\n";
    let (_upstream, gateway, customer) = behind("127.0.0.1", "optional", limits);
    let mut first = gateway.client();
    assert_eq!(first.send(VERSION_1).send(get(&customer)).response().status, 200);
    assert!(gateway.client().send(VERSION_1).is_closed(), "a second one of the same client");
    let other = b"PROXY TCP4 192.0.2.8 198.51.100.1 1000 443\r\n";
    let mut balancers_own = [gateway.client(), gateway.client(), gateway.client()];
    assert_eq!(balancers_own[0].send(other).send(get(&customer)).response().status, 200);
    for client in &mut balancers_own[1..] {
        assert_eq!(client.send(get(&customer)).response().status, 200);
    }
    drop(first);
    until("its place is free", || {
        let mut client = gateway.client();
        client.try_send(&[VERSION_1, get(&customer).as_bytes()].concat()).ok()?;
        client.try_response("GET").ok()
    });
}

#[test]
fn the_preamble_comes_before_tls() {
    let files = tempfile::tempdir().unwrap();
    let authority = TestAuthority::new("us");
    let (cert, key) = authority.issue(&["a.test"]).write(files.path(), "a");
    let tls = format!(
        "[listen.tls]\naddress = \"127.0.0.1:0\"\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n"
    );
    let (upstream, gateway, customer) = behind("127.0.0.1", "required", &tls);
    let config = authority.client(None);
    let mut client = RawClient::try_secure_behind(VERSION_2, gateway.tls(), "a.test", &config).expect("TLS");
    assert_eq!(client.send(get(&customer)).response().status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(seen.header("forwarded"), Some("for=192.0.2.7;proto=https;host=\"api.test:80\""));
    assert!(RawClient::try_secure(gateway.tls(), "a.test", &config).is_err());
}

// === instruments ===

#[track_caller]
fn behind(trusted: &str, mode: &str, sections: &str) -> (StubUpstream, TestGateway, Customer) {
    let trust = format!("[listen.trust]\nproxies = [\"{trusted}\"]\nproxy_protocol = \"{mode}\"\n");
    customer_of(&format!("{trust}{sections}{}", route("all", "/", "")))
}

fn get(customer: &Customer) -> String {
    format!("GET / HTTP/1.1\r\nhost: api.test:80\r\nx-api-key: {}\r\n\r\n", customer.key)
}
