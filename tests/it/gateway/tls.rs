//! TLS on both sides of the gateway: certificates by name, client certificates, resumption, reload; and upstreams that
//! are verified before they are sent anything.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use super::{route, upstream_at};
use crate::support::{
    Issued, RawClient, Response, StubUpstream, TestAuthority, TestGateway, TlsFront, until,
};

// === towards clients ===

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for_and_the_first_one_otherwise() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let own = authority.issue(&["a.test", "unknown.test"]);
    let listed = authority.issue(&["b.test", "*.b.test"]);
    let configured = authority.issue(&["c.test", "x.c.test", "d.test"]);
    let certificates = [
        certificate(files.path(), "own", &own, ""),
        certificate(files.path(), "listed", &listed, ""),
        certificate(files.path(), "configured", &configured, ", names = [\"c.test\", \"*.c.test\"]"),
    ];
    let gateway = secured(&upstream, &certificates, "");
    let client = authority.client(None);
    for (name, issued) in [
        ("a.test", &own),
        ("unknown.test", &own),
        ("b.test", &listed),
        ("x.b.test", &listed),
        ("c.test", &configured),
        ("X.c.test", &configured),
    ] {
        let mut connection = RawClient::secure(gateway.tls(), name, &client);
        assert_eq!(shown(&connection), issued.certificate.as_ref(), "{name}");
        assert_eq!(get(&mut connection).text(), "ok", "{name}");
    }
    // The name is in a certificate whose configuration does not list it.
    assert!(RawClient::try_secure(gateway.tls(), "d.test", &client).is_err());
}

#[test]
fn the_upstream_learns_that_the_client_came_by_tls() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let gateway =
        secured(&upstream, &[certificate(files.path(), "a", &authority.issue(&["a.test"]), "")], "");
    get(&mut RawClient::secure(gateway.tls(), "a.test", &authority.client(None)));
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    get(&mut gateway.client());
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("http"));
}

#[test]
fn both_versions_of_tls_are_spoken_and_sessions_are_resumed_by_any_worker() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let gateway =
        secured(&upstream, &[certificate(files.path(), "a", &authority.issue(&["a.test"]), "")], "");
    for version in [&TLS12, &TLS13] {
        let client = authority.client_of(&[version], &["http/1.1"], None);
        for round in 0..8 {
            let mut connection = RawClient::secure(gateway.tls(), "a.test", &client);
            assert_eq!(get(&mut connection).text(), "ok");
            assert_eq!(connection.tls().protocol_version(), Some(version.version));
            assert_eq!(connection.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
            let kind = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(connection.tls().handshake_kind(), Some(kind), "{version:?}, round {round}");
        }
    }
}

#[test]
fn large_bodies_and_pipelined_requests_pass_by_tls() {
    let upstream = StubUpstream::answering(crate::support::Answer::echo);
    let authority = TestAuthority::new("us");
    let files = tempfile::tempdir().unwrap();
    let gateway =
        secured(&upstream, &[certificate(files.path(), "a", &authority.issue(&["a.test"]), "")], "");
    let mut client = RawClient::secure(gateway.tls(), "a.test", &authority.client(None));
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(client.request(&["POST / HTTP/1.1", "host: a"], &body).message.body == body);
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!([client.response().status, client.response().status], [200, 200]);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn clients_must_have_a_certificate_where_it_is_required_and_a_good_one_where_it_is_not() {
    let upstream = StubUpstream::start();
    let [authority, clients, strangers] = ["us", "clients", "strangers"].map(TestAuthority::new);
    let files = tempfile::tempdir().unwrap();
    let ca = clients.write(files.path(), "clients.pem");
    let certificate = certificate(files.path(), "a", &authority.issue(&["a.test"]), "");
    let (known, stranger) = (clients.issue(&["client"]), strangers.issue(&["client"]));
    for (mode, serves_nobody) in [("required", false), ("optional", true)] {
        let more = format!("client_ca = {ca:?}\nclient_certificate = \"{mode}\"");
        let gateway = secured(&upstream, std::slice::from_ref(&certificate), &more);
        let served = |identity: Option<&Issued>| try_get(&gateway, &authority.client(identity)).is_ok();
        assert!(served(Some(&known)), "{mode}");
        assert!(!served(Some(&stranger)), "{mode}");
        assert_eq!(served(None), serves_nobody, "{mode}");
        let failures = if serves_nobody { 1.0 } else { 2.0 };
        counts_failures(&gateway, failures);
    }
}

#[test]
fn whoever_shows_a_certificate_that_a_key_was_made_for_is_that_keys_caller() {
    const NAME: &str = "spiffe://example.org/orders";
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let own = certificate(files.path(), "a", &authority.issue(&["a.test"]), "");
    let ca = authority.write(files.path(), "ca.pem");
    let gateway = TestGateway::start_with(&format!(
        "[listen.tls]\naddress = \"127.0.0.1:0\"\ncertificates = [{own}]\nclient_ca = {ca:?}\n\
         client_certificate = \"optional\"\n{}{}{}",
        upstream_at(&[upstream.address()], ""),
        route("mesh", "/", "identity = [\"certificate\", \"api_key\"]\ncharge = { api_calls = 1 }"),
        route("keys", "/keys", "identity = [\"api_key\"]"),
    ));
    let customer = gateway.customer("Acme", "free");
    let create = |name: &str| {
        gateway.json(&["key", "create", &customer.tenant_id, "--name", name, "--certificate", name])
    };
    let (by_uri, by_host) = (create(NAME), create("Orders.Test"));
    assert_eq!((by_uri["prefix"].as_str(), by_uri["key"].as_str()), (Some(NAME), None));
    let ask = |names: &[&str], path: &str, lines: &[&str]| {
        let identity = (!names.is_empty()).then(|| authority.issue(names));
        let client = authority.client(identity.as_ref());
        let start = format!("GET {path} HTTP/1.1");
        let head: Vec<&str> = [&*start, "host: a.test"].into_iter().chain(lines.iter().copied()).collect();
        RawClient::secure(gateway.tls(), "a.test", &client).request(&head, b"").status
    };
    for (names, key) in
        [(vec![NAME], &by_uri), (vec![NAME, "other.test"], &by_uri), (vec!["orders.TEST"], &by_host)]
    {
        assert_eq!(ask(&names, "/", &[]), 200, "{names:?}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-tenant-key-id"), key["key_id"].as_str());
        assert_eq!(seen.header("x-tenant-id"), Some(&*customer.tenant_id));
    }
    let key = format!("x-api-key: {}", customer.key);
    assert_eq!(ask(&[], "/", &[&key]), 200, "or it brings a key");
    assert_eq!(ask(&[NAME], "/", &[&key]), 401, "two identities");
    assert_eq!(ask(&[NAME], "/keys", &[&key]), 200, "this route looks at no certificates");
    for stranger in
        [vec!["spiffe://example.org/Orders"], vec![NAME, "spiffe://example.org/x"], vec!["a.test"], vec![]]
    {
        assert_eq!(ask(&stranger, "/", &[]), 401, "{stranger:?}");
    }
    assert_eq!(ask(&[NAME], "/keys", &[]), 401);
    gateway.json(&["key", "revoke", by_uri["key_id"].as_str().unwrap()]);
    until("the key has ended", || (ask(&[NAME], "/", &[]) == 401).then_some(()));
    assert_eq!(ask(&["orders.test"], "/", &[]), 200);
}

#[test]
fn a_client_that_does_not_finish_its_handshake_is_given_up() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let certificate = certificate(files.path(), "a", &authority.issue(&["a.test"]), "");
    let gateway = secured_within(&upstream, "header_timeout = \"200ms\"", &[certificate], "");
    let mut silent = RawClient::connect(gateway.tls());
    let mut slow = RawClient::connect(gateway.tls());
    slow.send([22, 3, 1]);
    let mut plain = RawClient::connect(gateway.tls());
    plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(silent.is_closed() && slow.is_closed());
    assert!(plain.try_response("GET").is_err());
    counts_failures(&gateway, 3.0);
}

#[test]
fn a_renewed_certificate_is_taken_without_being_told_and_a_bad_one_changes_nothing() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let first = authority.issue(&["a.test"]);
    let gateway = secured(&upstream, &[certificate(files.path(), "a", &first, "")], "");
    let client = authority.client(None);
    let mut old = RawClient::secure(gateway.tls(), "a.test", &client);
    let now = || shown(&RawClient::secure(gateway.tls(), "a.test", &authority.client(None)));
    assert_eq!(now(), first.certificate.as_ref());

    let second = authority.issue(&["a.test"]);
    second.write(files.path(), "a");
    until("the new certificate is shown", || (now() == second.certificate.as_ref()).then_some(()));
    assert_eq!(get(&mut old).status, 200, "whoever was connected stays so");

    fs::write(files.path().join("a.pem"), "nonsense").unwrap();
    gateway.hang_up();
    until("the fault is told", || gateway.admin_text("/readyz").contains("listen.tls").then_some(()));
    assert!(gateway.log().contains("it has no certificate"));
    assert_eq!(now(), second.certificate.as_ref());

    second.write(files.path(), "a");
    until("it is well again", || (!gateway.admin_text("/readyz").contains("listen.tls")).then_some(()));
}

#[test]
fn certificates_that_can_not_be_used_are_told_at_the_start() {
    let files = tempfile::tempdir().unwrap();
    let authority = TestAuthority::new("us");
    let (one, other) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    let (cert, _) = one.write(files.path(), "one");
    let (_, key) = other.write(files.path(), "other");
    for (cert, key, fault) in
        [(cert.clone(), key, "can't be used together"), (files.path().join("missing"), cert, "missing")]
    {
        let config = format!(
            "[listen]\nproxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[listen.tls]\naddress = \"127.0.0.1:0\"\n\
             certificates = [{{ cert = {cert:?}, key = {key:?} }}]\n"
        );
        fs::write(files.path().join("tollgate.toml"), config).unwrap();
        let run = crate::support::tollgate(files.path(), ["serve"]);
        assert!(!run.status.success());
        assert!(run.stderr.contains(fault), "{}", run.stderr);
    }
}

// === towards upstreams ===

#[test]
fn an_upstream_is_reached_by_tls_over_pooled_connections() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("them"));
    let files = tempfile::tempdir().unwrap();
    let front = TlsFront::before(upstream.address(), &authority.issue(&["localhost"]), &[], None);
    let ca = authority.write(files.path(), "ca.pem");
    let gateway = to_front(&front, "localhost", &format!("tls = {{ ca = {ca:?} }}"));
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(get(&mut client).text(), "ok");
    }
    let body = vec![b'x'; 1 << 20];
    assert_eq!(client.request(&["POST / HTTP/1.1", "host: a"], &body).status, 200);
    assert!(upstream.last().body == body);
    let [handshake] = &front.handshakes()[..] else { panic!("{:?}", front.handshakes()) };
    assert_eq!(handshake.server_name.as_deref(), Some("localhost"));
    assert!(!handshake.has_certificate);
}

#[test]
fn an_upstream_that_is_not_who_it_should_be_is_sent_nothing() {
    let upstream = StubUpstream::start();
    let [authority, strangers] = ["them", "strangers"].map(TestAuthority::new);
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(files.path(), "ca.pem");
    let trust = format!("tls = {{ ca = {ca:?} }}");
    let impostor = TlsFront::before(upstream.address(), &strangers.issue(&["localhost"]), &[], None);
    let other = TlsFront::before(upstream.address(), &authority.issue(&["other.test"]), &[], None);
    for (front, tls) in [(&impostor, trust.as_str()), (&other, trust.as_str()), (&other, "")] {
        let gateway = to_front(front, "localhost", tls);
        let response = get(&mut gateway.client());
        assert_eq!(
            (response.status, &response.json()["type"]),
            (502, &"/problems/upstream-unreachable".into())
        );
    }
    let named = format!("tls = {{ ca = {ca:?}, server_name = \"other.test\" }}");
    assert_eq!(get(&mut to_front(&other, "localhost", &named).client()).status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_upstream_may_ask_for_our_certificate() {
    let upstream = StubUpstream::start();
    let [authority, ours] = ["them", "us"].map(TestAuthority::new);
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(files.path(), "ca.pem");
    let (cert, key) = ours.issue(&["gateway"]).write(files.path(), "gateway");
    let front = TlsFront::before(upstream.address(), &authority.issue(&["localhost"]), &[], Some(&ours));
    let tls = format!("tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?} }}");
    assert_eq!(get(&mut to_front(&front, "localhost", &tls).client()).status, 200);
    assert!(front.handshakes()[0].has_certificate);
    let without = to_front(&front, "localhost", &format!("tls = {{ ca = {ca:?} }}"));
    assert_eq!(get(&mut without.client()).status, 502);
}

// === instruments ===

/// An entry of `certificates`, its files written.
fn certificate(directory: &Path, name: &str, issued: &Issued, more: &str) -> String {
    let (cert, key) = issued.write(directory, name);
    format!("{{ cert = {cert:?}, key = {key:?}{more} }}")
}

fn secured(upstream: &StubUpstream, certificates: &[String], more: &str) -> TestGateway {
    secured_within(upstream, "", certificates, more)
}

/// A gateway that lets anybody through, also by TLS.
fn secured_within(upstream: &StubUpstream, limits: &str, certificates: &[String], more: &str) -> TestGateway {
    let certificates = certificates.join(", ");
    TestGateway::start_with(&format!(
        "[listen.limits]\n{limits}\n[listen.tls]\naddress = \"127.0.0.1:0\"\ncertificates = [{certificates}]\n{more}\n{}{}",
        upstream_at(&[upstream.address()], ""),
        route("all", "/", "public = true")
    ))
}

/// A gateway that lets anybody through to `front`, which it calls `host`.
fn to_front(front: &TlsFront, host: &str, more: &str) -> TestGateway {
    TestGateway::start_with(&format!(
        "[[upstream]]\nname = \"stub\"\nurls = [\"https://{host}:{}\"]\n{more}\n{}",
        front.port(),
        route("all", "/", "public = true")
    ))
}

fn get(client: &mut RawClient) -> Response {
    client.request(&["GET / HTTP/1.1", "host: a"], b"")
}

fn try_get(gateway: &TestGateway, config: &Arc<ClientConfig>) -> io::Result<Response> {
    let mut client = RawClient::try_secure(gateway.tls(), "a.test", config)?;
    client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
    client.try_response("GET")
}

/// The client knows before the gateway has counted.
#[track_caller]
fn counts_failures(gateway: &TestGateway, failures: f64) {
    until("the failures are counted", || {
        (gateway.metric("tollgate_handshake_failures_total", "") == failures).then_some(())
    });
}

/// The certificate that the gateway showed.
fn shown(client: &RawClient) -> Vec<u8> {
    client.tls().peer_certificates().expect("a certificate")[0].to_vec()
}
