//! Programs that people use, through the gateway: what they agree on with each other is what counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::{customer_of, open_gateway, route, upstream_at, used};
use crate::support::{PATIENCE, StubUpstream, TestGateway};

/// Both ends of a WebSocket: a server that sends back what comes, and a client that looks whether it does.
const ECHO: &str = r#"
import asyncio, sys, websockets
async def echo(socket, *path):
    async for message in socket:
        await socket.send(message)
async def main(port, gateway, count):
    async with websockets.serve(echo, "127.0.0.1", port):
        async with websockets.connect(f"ws://{gateway}/socket", ping_interval=None) as socket:
            for number in range(count):
                message = f"{number} " + "x" * (number % 300) if number % 2 else bytes([number % 256]) * (number % 300)
                await socket.send(message)
                assert await socket.recv() == message, number
    print("echoed", count)
asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"#;

#[test]
fn h2load_loses_no_request_on_either_version_and_each_is_charged() {
    let (upstream, gateway, _) = customer_of(&route("all", "/", "charge = { api_calls = 1 }"));
    let customer = gateway.customer_with_limit("Load", 1_000_000);
    let (key, url) = (format!("x-api-key: {}", customer.key), format!("http://{}/", gateway.proxy()));
    for (version, total) in [(&["-p", "h2c", "-m", "10"][..], 2_000), (&["--h1"], 4_000)] {
        let mut command = Command::new("h2load");
        let output = run(command.args(["-n", "2000", "-c", "8", "-H", &key]).args(version).arg(&url));
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
        assert!(told.contains("status codes: 2000 2xx"), "{told}");
        assert_eq!((upstream.count() as u64, used(&gateway, &customer, "api_calls")), (total, total));
    }
}

#[test]
fn a_websocket_library_gets_back_ten_thousand_messages() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let gateway =
        TestGateway::start_with(&[upstream_at(&[port], ""), route("all", "/", "public = true")].concat());
    let mut command = Command::new("/usr/bin/python3");
    let ends = [port.port().to_string(), gateway.proxy().to_string(), "10000".to_owned()];
    let output = run(command.args(["-c", ECHO]).args(ends));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "echoed 10000\n");
}

#[test]
fn each_event_of_a_stream_arrives_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let gateway =
        TestGateway::start_with(&[upstream_at(&[address], ""), route("all", "/", "public = true")].concat());
    let mut client = BufReader::new(TcpStream::connect(gateway.proxy()).expect("a connection"));
    client.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = "GET /events HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n";
    client.get_mut().write_all(request.as_bytes()).expect("a request");
    let (mut upstream, _) = listener.accept().expect("a connection");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    upstream.write_all(head.as_bytes()).expect("a head");
    let mut took: Vec<Duration> = (0..100)
        .map(|number| {
            let (began, event) = (Instant::now(), format!("data: {number}\n\n"));
            write!(upstream, "{:x}\r\n{event}\r\n", event.len()).expect("an event");
            let seen = client.by_ref().lines().map_while(Result::ok).find(|line| line.starts_with("data: "));
            assert_eq!(seen, Some(format!("data: {number}")));
            began.elapsed()
        })
        .collect();
    took.sort();
    println!("an event takes {:?}, the slowest of 100 {:?}", took[50], took[99]);
    assert!(took[90] < Duration::from_millis(50), "{took:?}");
}

#[test]
fn curl_goes_on_with_its_connection_after_a_refusal() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let url = |path: &str| format!("http://{}{path}", gateway.proxy());
    let mut command = Command::new("curl");
    command.args(["--silent", "--write-out", "%{http_code} %{num_connects}\\n", "--output", "/dev/null"]);
    command.args(["--output", "/dev/null", "--output", "/dev/null", "--data", "x"]);
    let output = run(command.args([url("/"), url("/keyed"), url("/")]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 1\n401 0\n200 0\n");
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run gets it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
