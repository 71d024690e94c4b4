//! Beside another proxy, which asks whether a request may pass and sends it on itself.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{alike, another_key, customer_of, route, usage, used};
use crate::support::{Customer, RawClient, Response, StubUpstream, TestGateway, load, until};

/// Requests per customer: enough that a race would show, few enough to be quick.
const LIMIT: u64 = 60;

/// A gateway that may be asked from here.
const ASKED: &str =
    "authorize = \"127.0.0.1:0\"\n[listen.trust]\nproxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";

#[test]
fn every_kind_of_proxy_is_told_that_a_request_may_pass_and_who_calls() {
    let (upstream, gateway, customer) = asked(&orders());
    let key = format!("x-api-key: {}", customer.key);
    let from = "x-forwarded-for: 192.0.2.7";
    for (count, (kind, lines)) in (1..).zip([
        (
            "nginx",
            &[
                "GET /.tollgate/authorize HTTP/1.0",
                "host: a",
                "x-original-method: POST",
                "x-original-uri: /orders/7?x",
            ][..],
        ),
        (
            "Caddy",
            &[
                "GET /.tollgate/authorize HTTP/1.1",
                "host: auth",
                "x-forwarded-host: a",
                "x-forwarded-method: POST",
                "x-forwarded-uri: /orders/7?x",
            ],
        ),
        ("Envoy", &["POST /.tollgate/authorize/orders/7?x HTTP/1.1", "host: a", "content-length: 0"]),
    ]) {
        let answer = ask(&gateway, &[lines, &[from, &key]].concat());
        assert_eq!((answer.status, answer.text()), (200, String::new()), "{kind}");
        for (name, value) in [
            ("x-tenant-id", &*customer.tenant_id),
            ("x-tenant-tier", "free"),
            ("x-tenant-key-id", &customer.key_id),
            ("x-ratelimit-remaining", &(1000 - count).to_string()),
            ("content-length", "0"),
        ] {
            assert_eq!(answer.message.headers_named(name).collect::<Vec<_>>(), [value], "{kind}: {name}");
        }
        assert_eq!(answer.header("x-request-id").map(str::len), Some(36), "{kind}");
        assert_eq!(used(&gateway, &customer, "api_calls"), count, "{kind}");
    }
    assert_eq!(upstream.connections(), 0, "who asks sends it on itself");
    let requests = |row: &Value| row["requests"].as_u64().filter(|_| row["outcome"] == "answered");
    until("the usage is in the log", || {
        let answered: u64 = gateway.usage_rows(&customer).iter().filter_map(requests).sum();
        (answered == 3).then_some(())
    });
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    let counted = || gateway.metric("tollgate_permissions_total", "orders");
    until("the metric counts them", || (counted() > 2.5).then_some(()));
}

#[test]
fn a_refusal_is_the_one_that_the_request_itself_would_get_and_takes_nothing() {
    let closed = "scopes = [\"orders:write\"]\ncharge = { api_calls = 1 }";
    let routes =
        [orders(), route("closed", "/closed", closed), route("post", "/post", "methods = [\"POST\"]")];
    let (upstream, gateway, customer) = asked(&routes.concat());
    let fenced = another_key(&gateway, &customer, &["--network", "192.0.2.0/24"]);
    let elsewhere = another_key(&gateway, &customer, &["--network", "198.51.100.0/24"]);
    let junk = "tg_live_junk".to_owned();
    for (path, key, status) in [
        ("/orders", &fenced.key, 200),
        ("/orders", &elsewhere.key, 403),
        ("/orders", &junk, 401),
        ("/closed", &customer.key, 403),
        ("/post", &customer.key, 405),
        ("/nowhere", &customer.key, 404),
        ("/orders/../closed", &customer.key, 400),
    ] {
        let before = used(&gateway, &customer, "api_calls");
        let answer = nginx_asks(gateway.authorize(), path, key);
        let taken = used(&gateway, &customer, "api_calls") - before;
        assert_eq!((answer.status, taken), (status, u64::from(status == 200)), "{path} {key}");
        let client = ["GET", path, "HTTP/1.1"].join(" ");
        let lines = [&client, "host: a", "x-forwarded-for: 192.0.2.7", &format!("x-api-key: {key}")];
        if status != 200 {
            assert_eq!(alike(&answer), alike(&gateway.client().request(&lines, b"")), "{path} {key}");
        }
    }
    gateway.json(&["quota", "set", &customer.tenant_id, "api_calls", "--limit", "1"]);
    let denied = until("the limit is obeyed", || {
        Some(nginx_asks(gateway.authorize(), "/orders", &customer.key)).filter(|answer| answer.status == 429)
    });
    assert_eq!(denied.json()["resource"], "api_calls");
    for name in ["retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit"] {
        assert!(denied.header(name).is_some(), "{name}: {:?}", denied.message.headers);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn nobody_but_a_trusted_proxy_may_ask() {
    let listen = "authorize = \"127.0.0.1:0\"\n[listen.trust]\nproxies = [\"10.0.0.0/8\"]\n";
    let (_upstream, gateway, customer) = asked_with(listen, &orders());
    let answer = nginx_asks(gateway.authorize(), "/orders", &customer.key);
    assert_eq!((answer.status, answer.header("x-tenant-id")), (403, None));
    assert_eq!(used(&gateway, &customer, "api_calls"), 0);
    // The way to ask is no way through: at the proxy's own address it is a path like any other.
    let (upstream, gateway, customer) = asked(&orders());
    assert_eq!(nginx_asks(gateway.proxy(), "/orders", &customer.key).status, 404);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_question_that_could_be_read_two_ways_is_refused_and_takes_nothing() {
    let (_upstream, gateway, customer) = asked(&orders());
    let (uri, method) = ("x-original-uri: /orders", "x-original-method: GET");
    let from = "x-forwarded-for: 192.0.2.7";
    for lines in [
        &[uri, method][..],
        &[uri, from],
        &[method, from],
        &[uri, uri, method, from],
        &[uri, method, method, from],
        // A client of Caddy that would be asked about as if nginx did, and the other way round.
        &[uri, method, "x-forwarded-uri: /public", "x-forwarded-method: GET", from],
        &["x-forwarded-uri: /orders", method, from],
        &["x-forwarded-uri: /orders", "x-forwarded-method: GET", "x-forwarded-host: a, b", from],
        &["x-forwarded-uri: /orders", "x-forwarded-method: GET", "x-forwarded-host: u@a", from],
        &["x-original-uri: orders", method, from],
        &["x-original-uri: http://b/orders", method, from],
        &["x-original-uri: /orders HTTP/1.1", method, from],
        &["x-original-uri: /orders#x", method, from],
        &["x-original-uri: /ord\u{e9}rs", method, from],
        &["x-original-uri:", method, from],
        &[uri, "x-original-method: GET /", from],
        &[uri, "x-original-method:", from],
    ] {
        let key = format!("x-api-key: {}", customer.key);
        let answer =
            ask(&gateway, &[&["GET /.tollgate/authorize HTTP/1.1", "host: a", &key], lines].concat());
        assert_eq!(answer.status, 400, "{lines:?}");
        assert_eq!(answer.json()["type"], "/problems/malformed-request", "{lines:?}");
    }
    for target in ["/", "/.tollgate", "/.tollgate/authorized", "/x/.tollgate/authorize"] {
        let answer = ask(&gateway, &[&format!("GET {target} HTTP/1.1"), "host: a", uri, method, from]);
        assert_eq!(answer.status, 404, "{target}");
    }
    assert_eq!(used(&gateway, &customer, "api_calls"), 0);
}

#[test]
fn a_refusal_is_no_200_however_the_request_is_disguised() {
    let (_upstream, gateway, _customer) = asked(&orders());
    let grpc = ["content-type: application/grpc", "te: trailers", "connection: te"];
    for key in ["x-none: x", "x-api-key: tg_live_junk"] {
        let question =
            ["POST /.tollgate/authorize/orders HTTP/1.1", "host: a", "x-forwarded-for: 192.0.2.7", key];
        assert_eq!(ask(&gateway, &[&question[..], &grpc].concat()).status, 401, "{key}");
    }
}

#[test]
fn what_only_bodies_and_answers_show_can_not_be_asked_about() {
    let routes: String = ["\"request_bytes\"", "\"response_bytes\"", "{ header = \"x-units\", max = 5 }"]
        .into_iter()
        .zip(0..)
        .map(|(units, number)| {
            route(
                &format!("r{number}"),
                &format!("/{number}"),
                &format!("charge = {{ api_calls = {units} }}"),
            )
        })
        .collect();
    let (_upstream, gateway, customer) = asked(&routes);
    for path in ["/0", "/1", "/2"] {
        let answer = nginx_asks(gateway.authorize(), path, &customer.key);
        assert_eq!((answer.status, &answer.json()["type"]), (501, &"/problems/not-askable".into()), "{path}");
    }
    assert_eq!(used(&gateway, &customer, "api_calls"), 0);
}

#[test]
fn questions_follow_each_other_on_one_connection_whatever_body_comes_with_them() {
    let (_upstream, gateway, customer) = asked(&orders());
    let mut client = RawClient::connect(gateway.authorize());
    let key = format!("x-api-key: {}", customer.key);
    for (number, body) in [(1, "body"), (2, ""), (3, "another")] {
        let question =
            ["POST /.tollgate/authorize/orders HTTP/1.1", "host: a", "x-forwarded-for: 192.0.2.7", &key];
        assert_eq!(client.request(&question, body.as_bytes()).status, 200, "{number}");
    }
    assert_eq!(used(&gateway, &customer, "api_calls"), 3);
}

#[test]
fn however_many_ask_at_once_exactly_the_limit_may_pass() {
    let (_upstream, gateway, _) = asked(&orders());
    let customer = gateway.customer_with_limit("Crowd", LIMIT);
    let question = format!(
        "GET /.tollgate/authorize/orders HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.7\r\nx-api-key: {}\r\n\r\n",
        customer.key
    );
    let tally = load(gateway.authorize(), 16, 300, |_| question.clone().into_bytes());
    assert_eq!((tally.of(200), tally.of(429)), (60, 240), "{tally:?}");
    assert_eq!(used(&gateway, &customer, "api_calls"), LIMIT);
}

// === the configurations that are shipped ===

#[test]
fn behind_the_shipped_nginx_configuration_exactly_the_limit_passes() {
    check_shipped("nginx-auth-request.conf", nginx);
}

#[test]
fn behind_the_shipped_caddyfile_exactly_the_limit_passes() {
    check_shipped("Caddyfile", caddy);
}

/// A proxy of that shipped configuration, started by `start`: who calls is told to the upstream, refusals reach the
/// client, and the upstream sees exactly the limit.
#[track_caller]
fn check_shipped(file: &str, start: fn(&Path, &str) -> Command) {
    let (upstream, gateway, _) = asked(&orders());
    let customer = gateway.customer_with_limit("Beside", LIMIT);
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Beside::start(file, directory.path(), &gateway, &upstream, start);
    let send = |lines: &[&str], body: &str| RawClient::connect(proxy.address).request(lines, body.as_bytes());

    let answer = send(&["GET /orders/7?x=y HTTP/1.1", "host: a"], "");
    assert_eq!((answer.status, upstream.count()), (401, 0), "{}", answer.text());
    assert!(answer.header("www-authenticate").is_some(), "{:?}", answer.message.headers);
    let key = format!("x-api-key: {}", customer.key);
    let nowhere = send(&["GET /nowhere HTTP/1.1", "host: a", &key], "");
    assert_eq!((nowhere.status, upstream.count()), (404, 0), "{}", nowhere.text());

    let forged = ["x-tenant-id: forged", "X-Tenant-Scopes: forged", "x-request-id: forged"];
    let lines = [&["POST /orders/7?x=y HTTP/1.1", "host: a", &key], &forged[..]].concat();
    let answer = send(&lines, "a body");
    assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()));
    let seen = upstream.last();
    assert_eq!((seen.method(), seen.target(), seen.text()), ("POST", "/orders/7?x=y", "a body".to_owned()));
    assert_eq!(seen.headers_named("x-tenant-id").collect::<Vec<_>>(), [&*customer.tenant_id]);
    assert_eq!(seen.header("x-tenant-key-id"), Some(&*customer.key_id));
    let text = String::from_utf8_lossy(&seen.raw).into_owned();
    assert!(!text.contains("forged") && !text.contains(&customer.key), "{text}");

    // Whoever asks in another kind of proxy's way asks about nothing else than its own request.
    let others = ["x-original-uri: /public", "x-forwarded-uri: /public", "x-original-method: GET"];
    let lines = [&["GET /orders HTTP/1.1", "host: a"], &others[..]].concat();
    assert_eq!(send(&lines, "").status, 401);

    let request = format!("GET /orders HTTP/1.1\r\nhost: a\r\n{key}\r\n\r\n");
    let tally = load(proxy.address, 8, 150, |_| request.clone().into_bytes());
    assert_eq!((tally.of(200), tally.of(429)), (59, 91), "{tally:?}");
    assert_eq!((upstream.count() as u64, used(&gateway, &customer, "api_calls")), (LIMIT, LIMIT));
    let denied = send(&["GET /orders HTTP/1.1", "host: a", &key], "");
    assert_eq!(denied.status, 429);
    assert!(denied.header("retry-after").is_some(), "{:?}", denied.message.headers);
    assert_eq!(denied.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
}

/// Another proxy. Ends when it is dropped.
struct Beside {
    address: SocketAddr,
    process: Child,
}

impl Beside {
    #[track_caller]
    fn start(
        file: &str,
        directory: &Path,
        gateway: &TestGateway,
        upstream: &StubUpstream,
        command: fn(&Path, &str) -> Command,
    ) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
        let shipped = std::fs::read_to_string(shipped).expect("a shipped file");
        // Others can't be asked for any free port, nor which one they got.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let text = shipped
            .replace("127.0.0.1:8081", &gateway.authorize().to_string())
            .replace("127.0.0.1:3000", &upstream.address().to_string())
            .replace("127.0.0.1:8080", &address.to_string())
            .replace("http://:8080", &format!("http://:{}", address.port()));
        let mut command = command(directory, &text);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run gets it"));
        let proxy = Beside { address, process };
        until("the other proxy listens", || RawClient::try_connect(address).ok());
        proxy
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.process);
        // As it is told to end, nginx takes its workers along.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

fn nginx(directory: &Path, text: &str) -> Command {
    let own = directory.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = kinds.iter().map(|kind| format!("{kind}_temp_path {own}/{kind};")).collect();
    let text = text.replace("http {", &format!("http {{ access_log off; {folders}"));
    let file = directory.join("nginx.conf");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("nginx");
    let globals = format!("daemon off; worker_processes 2; pid {own}/nginx.pid; error_log {own}/error.log;");
    command.arg("-p").arg(directory).arg("-e").arg(directory.join("error.log")).args(["-g", &globals]);
    command.arg("-c").arg(file).stderr(Stdio::null());
    command
}

fn caddy(directory: &Path, text: &str) -> Command {
    let file = directory.join("Caddyfile");
    // Several may run at once, none of which is administered.
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{text}")).expect("a configuration");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).stderr(Stdio::null());
    command.env("HOME", directory).env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
    command
}

// === instruments ===

fn orders() -> String {
    let public = route("public", "/public", "public = true");
    [route("orders", "/orders", "charge = { api_calls = 1 }"), public].concat()
}

#[track_caller]
fn asked(routes: &str) -> (StubUpstream, TestGateway, Customer) {
    asked_with(ASKED, routes)
}

#[track_caller]
fn asked_with(listen: &str, routes: &str) -> (StubUpstream, TestGateway, Customer) {
    let (upstream, gateway, customer) = customer_of(&format!("[listen]\n{listen}{routes}"));
    assert!(usage(&gateway, &customer).iter().all(|(.., used)| *used == 0));
    (upstream, gateway, customer)
}

#[track_caller]
fn ask(gateway: &TestGateway, lines: &[&str]) -> Response {
    RawClient::connect(gateway.authorize()).request(lines, b"")
}

/// As nginx asks about a GET.
#[track_caller]
fn nginx_asks(at: SocketAddr, path: &str, key: &str) -> Response {
    let lines = [
        "GET /.tollgate/authorize HTTP/1.1",
        "host: a",
        "x-original-method: GET",
        &format!("x-original-uri: {path}"),
        "x-forwarded-for: 192.0.2.7",
        &format!("x-api-key: {key}"),
    ];
    RawClient::connect(at).request(&lines, b"")
}
