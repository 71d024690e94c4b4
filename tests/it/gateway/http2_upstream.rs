//! HTTP/2 towards upstreams, in clear and by TLS. What answers it is another gateway, which is tested by itself.

use super::{open_gateway, route};
use crate::support::{Answer, Http2Client, StubUpstream, TestAuthority, TestGateway, TlsFront, until};

#[test]
fn an_upstream_of_http_2_serves_clients_of_both_protocols_over_one_connection() {
    let stub = StubUpstream::answering(|request| Answer::echo(request).with("x-own", "1"));
    let behind = open_gateway(&stub, "");
    let gateway = before(&format!("h2c://{}", behind.proxy()), "");
    let mut old = gateway.client();
    let mut new = Http2Client::connect(gateway.proxy());
    let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for _ in 0..3 {
        let response = old.request(&["POST /a?b HTTP/1.1", "host: a.test", "x-mine: 1"], b"body");
        assert_eq!((response.status, response.text(), response.header("x-own")), (200, "body".into(), Some("1")));
        let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
        assert_eq!(old.send(chunked).response().text(), "body");
        assert_eq!(old.request(&["HEAD / HTTP/1.1", "host: a"], b"").status, 200);
        assert!(new.request("POST", "/", &[], &body).body == body);
    }
    let seen = &stub.recorded()[0];
    assert_eq!((seen.target(), seen.header("host"), seen.header("x-mine")), ("/a?b", Some("a.test"), Some("1")));
    assert!(new.get_all(100, &[]).iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)));
    let connections = behind.metric("tollgate_connections", "");
    assert!(connections < 5.0, "{connections} connections for a hundred requests at a time");
}

#[test]
fn trailers_pass_from_end_to_end_and_broken_answers_stay_broken() {
    let stub = StubUpstream::answering(|request| match request.target() {
        "/cut" => Answer::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        "/hang" => Answer::Hang,
        _ => Answer::Chunked { status: 200, chunks: vec![b"x".to_vec()], trailers: vec![("grpc-status".into(), "0".into())] },
    });
    let behind = open_gateway(&stub, "");
    let gateway = before(&format!("h2c://{}", behind.proxy()), "timeouts = { first_byte = \"300ms\" }");
    let mut client = Http2Client::connect(gateway.proxy());
    let response = client.get("/", &["te: trailers"]);
    assert_eq!((response.text(), response.trailers["grpc-status"].as_bytes()), ("x".to_owned(), &b"0"[..]));
    assert!(client.try_request("GET", "/cut", &[], "").map_or(true, |answer| answer.status == 502));
    assert_eq!(client.get("/hang", &[]).status, 504);
    until("the stream that was given up is reset", || (stub.open() == 0).then_some(()));
    assert_eq!(client.get("/", &[]).status, 200);
}

#[test]
fn an_https_upstream_speaks_what_it_prefers_and_http_1_to_be_upgraded() {
    let stub = StubUpstream::start();
    let behind = open_gateway(&stub, "");
    let authority = TestAuthority::new("them");
    let files = tempfile::tempdir().unwrap();
    let ca = authority.write(files.path(), "ca.pem");
    let issued = authority.issue(&["localhost"]);
    for (protocols, handshakes) in [(&["h2", "http/1.1"][..], 2), (&["http/1.1"], 2)] {
        let front = TlsFront::before(behind.proxy(), &issued, protocols, None);
        let url = format!("https://localhost:{}", front.port());
        let gateway = before(&url, &format!("tls = {{ ca = {ca:?} }}"));
        let mut client = gateway.client();
        for _ in 0..5 {
            assert_eq!(client.get("/", "").text(), "ok", "{protocols:?}");
        }
        stub.answer(|_| Answer::Tunnel(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\n\r\nhi".to_vec()));
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n");
        assert_eq!(client.response().status, 101);
        assert_eq!(client.bytes(2), b"hi");
        stub.answer(|_| Answer::ok("ok"));
        assert_eq!(front.handshakes().len(), handshakes, "{protocols:?}");
    }
}

#[test]
fn a_call_of_grpc_is_refused_in_its_own_words() {
    let stub = StubUpstream::start();
    let gateway = super::gateway(&stub, &route("all", "/", "charge = { api_calls = 1 }"));
    let customer = gateway.customer_with_limit("Acme", 1);
    let mut client = Http2Client::connect(gateway.proxy());
    let key = format!("x-api-key: {}", customer.key);
    let mut call = |more: &str| {
        let answer = client.request("POST", "/a.B/C", &["te: trailers", "content-type: application/grpc", more], b"");
        (answer.status, answer.header("grpc-status").map(str::to_owned))
    };
    assert_eq!(call("x: 1"), (200, Some("16".to_owned())));
    assert_eq!(call(&key), (200, None));
    assert_eq!(call(&key), (200, Some("8".to_owned())));
    assert_eq!(gateway.metric("tollgate_refusals_total", "status=\"429\""), 1.0);
}

fn before(url: &str, more: &str) -> TestGateway {
    let upstream = format!("[[upstream]]\nname = \"stub\"\nurls = [\"{url}\"]\n{more}\n");
    TestGateway::start_with(&(upstream + &route("all", "/", "public = true")))
}
