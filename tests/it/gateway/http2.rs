//! HTTP/2 from clients: the same walk, the same refusals, the same books.

use super::{customer_of, open_gateway, route, usage_row, used};
use crate::support::{
    Answer, Gate, Http2Client, Http2Frames, Run, StubUpstream, TestAuthority, TestGateway, block, until,
};

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

// === requests ===

#[test]
fn a_request_of_http_2_is_charged_and_forwarded_as_one_of_http_1() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    upstream.answer(|request| {
        Answer::echo(request).with("x-own", "1").with("connection", "x-hop").with("x-hop", "1")
    });
    let mut client = Http2Client::connect(gateway.proxy());
    let key = format!("x-api-key: {}", customer.key);
    let response =
        client.request("POST", "/a?b=c", &[&key, "cookie: a=1", "cookie: b=2", "x-tenant-id: evil"], b"body");
    assert_eq!((response.status, response.text()), (200, "body".to_owned()));
    assert_eq!((response.header("x-own"), response.header("x-hop")), (Some("1"), None));
    assert!(response.header("ratelimit").is_some() && response.header("x-request-id").is_some());
    let seen = upstream.last();
    assert_eq!(seen.start, "POST /a?b=c HTTP/1.1");
    for (name, value) in [
        ("host", Some("a")),
        ("cookie", Some("a=1; b=2")),
        ("x-tenant-id", Some(customer.tenant_id.as_str())),
        ("x-api-key", None),
        ("content-length", Some("4")),
        ("transfer-encoding", None),
        ("x-forwarded-proto", Some("http")),
    ] {
        assert_eq!(seen.headers_named(name).next(), value, "{name}");
        assert_eq!(seen.headers_named(name).count(), usize::from(value.is_some()), "{name}");
    }
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
    assert_eq!(usage_row(&gateway, &customer), ("answered".to_owned(), 4, 4));
}

#[test]
fn many_streams_of_one_connection_are_served_at_the_same_time() {
    let gate = Gate::default();
    let upstream = StubUpstream::start();
    let answer = Answer::ok("late").when(&gate);
    upstream.answer(move |request| if request.target() == "/0" { answer.clone() } else { Answer::ok("now") });
    let gateway = open_gateway(&upstream, "");
    let mut client = Http2Client::connect(gateway.proxy());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until("all but one are there", || (upstream.count() == 250).then_some(()));
            gate.open();
        });
        let answers = client.get_all(250, &[]);
        assert_eq!(
            answers.iter().filter(|answer| answer.as_ref().is_ok_and(|it| it.status == 200)).count(),
            250
        );
    });
    assert_eq!(gateway.metric("tollgate_connections", ""), 1.0);
}

#[test]
fn refusals_are_those_of_http_1_and_leave_the_connection_as_it_was() {
    let (upstream, gateway, customer) =
        customer_of(&route("v1", "/v1", "methods = [\"GET\"]\ncharge = { api_calls = 1 }"));
    gateway.json(&["quota", "set", &customer.tenant_id, "api_calls", "--limit", "1"]);
    let mut client = Http2Client::connect(gateway.proxy());
    let key = format!("x-api-key: {}", customer.key);
    for (method, target, header, status) in [
        ("GET", "/v1", "x: 1", 401),
        ("GET", "/other", "x: 1", 404),
        ("POST", "/v1", "x: 1", 405),
        ("GET", "/v1/../x", "x: 1", 400),
        ("GET", "/v1/%2e%2e/x", "x: 1", 400),
        ("TRACE", "/v1", "x: 1", 501),
        ("GET", "/v1", "host: b", 400),
        ("GET", "/v1", "expect: x", 417),
        ("GET", "/v1", &key, 200),
        ("GET", "/v1", &key, 429),
    ] {
        let response = client.request(method, target, &[header], b"");
        assert_eq!(response.status, status, "{method} {target} {header}");
        if status >= 400 {
            assert_eq!(response.header("content-type"), Some("application/problem+json"), "{target}");
        }
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(gateway.metric("tollgate_connections", ""), 1.0);
}

#[test]
fn heads_that_http_2_forbids_reach_no_upstream() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let with = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    let without = |name: &str| GET.iter().copied().filter(|(own, _)| *own != name).collect::<Vec<_>>();
    for fields in [
        with(("connection", "close")),
        with(("keep-alive", "1")),
        with(("proxy-connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "websocket")),
        with(("te", "gzip")),
        with(("X-Upper", "1")),
        with(("x y", "1")),
        with(("x", "a\r\nx-tenant-id: evil")),
        with(("x", "a\nb")),
        with(("x", "a\0b")),
        with((":path", "/again")),
        with((":unknown", "1")),
        with(("host", "b")),
        with(("content-length", "5")),
        with(("content-length", "-1")),
        without(":path"),
        without(":method"),
        without(":authority"),
        [&without(":path")[..], &[(":path", "")]].concat(),
        [&without(":path")[..], &[(":path", "*")]].concat(),
        [&without(":path")[..], &[(":path", "/a b")]].concat(),
        [&without(":authority")[..], &[(":authority", "u@a")]].concat(),
        [&without(":authority")[..], &[(":authority", "a/b")]].concat(),
        [&without(":method")[..], &[(":method", "G T")]].concat(),
        [&without(":method")[..], &[(":method", "CONNECT")]].concat(),
    ] {
        let mut client = Http2Frames::connect(gateway.proxy());
        client.headers(1, &fields);
        // The stream is reset, the connection ended, or the answer one of 4xx and 501: an indexed status is no 200.
        let frames = client.read_until(&[1, 3, 7]);
        let (kind, _, payload) = frames.last().expect("a frame");
        assert!(*kind != 1 || payload[0] != 0x88, "{fields:?}");
    }
    assert_eq!(upstream.count(), 0);
}

// === bodies ===

#[test]
fn bodies_stream_both_ways_and_trailers_follow() {
    let upstream = StubUpstream::answering(|request| match request.method() {
        "GET" => Answer::Chunked {
            status: 200,
            chunks: vec![b"one".to_vec(), b"two".to_vec()],
            trailers: vec![
                ("x-end".into(), "1".into()),
                ("x-tenant-id".into(), "2".into()),
                ("set-cookie".into(), "3".into()),
            ],
        },
        _ => Answer::echo(request),
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = Http2Client::connect(gateway.proxy());
    let response = client.get("/", &["te: trailers"]);
    assert_eq!((response.text(), response.trailers.get("x-end").is_some()), ("onetwo".to_owned(), true));
    assert!(response.trailers.get("set-cookie").is_none());
    assert_eq!(upstream.last().header("te"), Some("trailers"));
    assert!(client.get("/", &[]).trailers.is_empty(), "who did not ask gets none");
    let body: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(client.request("POST", "/", &[], &body).body == body);
    assert_eq!(client.request("HEAD", "/", &[], b"").status, 200);
}

#[test]
fn a_truncated_answer_resets_its_stream_and_no_other() {
    let upstream = StubUpstream::answering(|request| match request.target() {
        "/cut" => Answer::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        "/chunks" => {
            Answer::Close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec())
        }
        "/close" => Answer::Close(b"HTTP/1.1 200 OK\r\n\r\nwhole".to_vec()),
        "/reset" => Answer::Reset(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()),
        _ => Answer::ok("ok"),
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = Http2Client::connect(gateway.proxy());
    for target in ["/cut", "/chunks", "/reset"] {
        let answer = client.try_request("GET", target, &[], "");
        // A reset may overtake the head: then the gateway still can say so.
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 502), "{target}");
    }
    assert_eq!(client.get("/close", &[]).text(), "whole");
    assert_eq!(client.get("/", &[]).text(), "ok");
}

#[test]
fn an_answer_is_passed_on_piece_by_piece_and_who_does_not_read_holds_up_who_writes() {
    let gate = Gate::default();
    let upstream = StubUpstream::start();
    let rest = Answer::Raw(b"4\r\ntwo!\r\n0\r\n\r\n".to_vec()).when(&gate);
    upstream.answer(move |_| {
        Answer::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n".to_vec())
            .then(rest.clone())
    });
    let gateway = open_gateway(&upstream, "");
    let mut client = Http2Client::connect(gateway.proxy());
    let mut body = client.begin("/", &[]).into_body();
    assert_eq!(client.piece(&mut body).unwrap().unwrap(), "one");
    gate.open();
    assert_eq!(client.piece(&mut body).unwrap().unwrap(), "two!");
}

// === ends ===

#[test]
fn a_stream_that_the_client_resets_is_a_client_that_went_away() {
    let (upstream, gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    upstream.answer(|_| Answer::Hang);
    let mut client = Http2Client::connect(gateway.proxy());
    let key = format!("x-api-key: {}", customer.key);
    client.cancel("/", &[&key], || until("it is at the upstream", || (upstream.count() == 1).then_some(())));
    until("its connection is closed", || (upstream.open() == 0).then_some(()));
    assert_eq!(usage_row(&gateway, &customer).0, "client_gone");
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
    upstream.answer(|_| Answer::ok("ok"));
    assert_eq!(client.get("/", &[&key]).status, 200, "other streams go on");
}

#[test]
fn a_drain_finishes_streams_and_opens_no_more() {
    let (upstream, mut gateway, customer) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    let gate = Gate::default();
    let rest = Answer::Raw(b"end".to_vec()).when(&gate);
    upstream.answer(move |_| {
        Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbe".to_vec()).then(rest.clone())
    });
    let idle = Http2Client::connect(gateway.proxy());
    let mut client = Http2Client::connect(gateway.proxy());
    let mut body = client.begin("/", &[&format!("x-api-key: {}", customer.key)]).into_body();
    assert_eq!(client.piece(&mut body).unwrap().unwrap(), "be");
    gateway.signal(rustix::process::Signal::TERM);
    until("the idle connection ends", || idle.is_closed().then_some(()));
    gate.open();
    assert_eq!(client.piece(&mut body).unwrap().unwrap(), "end");
    assert!(client.piece(&mut body).is_none());
    assert!(gateway.ended().success());
    gateway.restart();
    assert_eq!(used(&gateway, &customer, "api_calls"), 1);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gate = Gate::default();
    let answer = Answer::ok("late").when(&gate);
    let upstream = StubUpstream::answering(move |_| answer.clone());
    let gateway = open_gateway(&upstream, "idle_timeout = \"200ms\"");
    let idle = Http2Client::connect(gateway.proxy());
    let mut busy = Http2Client::connect(gateway.proxy());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the idle connection ends", || idle.is_closed().then_some(()));
            gate.open();
        });
        assert_eq!(busy.get("/", &[]).text(), "late");
    });
}

// === floods ===

/// Sends its frames of that index, and gives whether they were taken.
type Flood = dyn Fn(&mut Http2Frames, u32) -> bool;

#[test]
fn floods_end_the_connection_and_no_other() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut bystander = Http2Client::connect(gateway.proxy());
    assert_eq!(bystander.get("/", &[]).status, 200);
    let floods: [(&str, &Flood); 6] = [
        ("PING", &|client, _| client.send(6, 0, 0, &[0; 8])),
        ("SETTINGS", &|client, _| client.send(4, 0, 0, &[])),
        ("PRIORITY", &|client, _| client.send(2, 0, 1, &[0, 0, 0, 3, 1])),
        ("unknown", &|client, _| client.send(77, 0, 0, &[])),
        ("rapid reset", &|client, index| {
            client.headers(2 * index + 1, &GET) && client.send(3, 0, 2 * index + 1, &[0, 0, 0, 8])
        }),
        ("CONTINUATION", &|client, index| match index {
            0 => client.send(1, 1, 1, &block(&GET)),
            _ => client.send(9, 0, 1, &block(&[("x", "y")])),
        }),
    ];
    for (name, flood) in floods {
        let mut client = Http2Frames::connect(gateway.proxy());
        let taken = (0..100_000).take_while(|index| flood(&mut client, *index)).count();
        assert!(taken < 100_000 || client.is_closed(), "{name}");
        until(name, || (gateway.metric("tollgate_connections", "") == 1.0).then_some(()));
    }
    assert_eq!(bystander.get("/", &[]).status, 200);
    assert!(gateway.metric("tollgate_http2_failures_total", "") >= 6.0);
}

#[test]
fn a_header_list_beyond_the_limit_is_refused() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let mut client = Http2Client::connect(gateway.proxy());
    let large = format!("x: {}", "y".repeat(15_000));
    assert_eq!(client.get("/", &[&large]).status, 200);
    let larger = format!("x: {}", "y".repeat(17_000));
    let answer = client.try_request("GET", "/", &[&larger], "");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
    assert_eq!(upstream.count(), 1);
}

// === real clients ===

#[test]
fn curl_speaks_http_2_by_prior_knowledge_and_by_alpn() {
    let upstream = StubUpstream::answering(Answer::echo);
    let authority = TestAuthority::new("us");
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = authority.issue(&["a.test"]).write(files.path(), "a");
    let ca = authority.write(files.path(), "ca.pem");
    let gateway = TestGateway::start_with(&format!(
        "[listen.tls]\naddress = \"127.0.0.1:0\"\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n{}{}",
        super::upstream_at(&[upstream.address()], ""),
        route("all", "/", "public = true")
    ));
    let plain = format!("http://{}/", gateway.proxy());
    let (port, ca) = (gateway.tls().port(), ca.display().to_string());
    let (secured, resolve) = (format!("https://a.test:{port}/"), format!("a.test:{port}:127.0.0.1"));
    let tls = ["--cacert", &ca, "--resolve", &resolve];
    for (arguments, version) in [
        ([&["--http2-prior-knowledge", &plain][..], &[]].concat(), "2"),
        ([&["--http2", &secured][..], &tls].concat(), "2"),
        ([&["--http1.1", &secured][..], &tls].concat(), "1.1"),
        ([&["--http1.1", &plain][..], &[]].concat(), "1.1"),
    ] {
        let run = curl(&arguments);
        assert_eq!(run.stdout, format!("hello{version}"), "{arguments:?}: {}", run.stderr);
    }
}

fn curl(arguments: &[&str]) -> Run {
    let own = ["--silent", "--show-error", "--data", "hello", "--write-out", "%{http_version}"];
    let output = std::process::Command::new("curl").args(own).args(arguments).output();
    let output = output.expect("curl is missing; `apt-get install curl` installs it");
    Run {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
