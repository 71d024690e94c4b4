//! Clients that are slow, and clients that are too many: others do not notice, and each is cut off at its limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway::{open_gateway, route, upstream_at};
use crate::support::{RawClient, StubUpstream, TestGateway, pass, until};

const SLOW: usize = 5_000;

/// Between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(200);

const IDLE: usize = 3_000;

/// Requests of which the slowest hundredth is looked at.
const HEALTHY: usize = 1_000;

/// Below this, waiting for a processor that others use is all that is measured.
const NOISE: Duration = Duration::from_millis(25);

#[test]
fn five_thousand_slow_clients_slow_nobody_else_down_and_are_all_cut_off() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "header_timeout = \"30s\"");
    let (before, memory_before) = (p99(gateway.proxy()), gateway.memory());
    let mut slow: Vec<Dripping> = (0..SLOW).map(|_| Dripping::begin(gateway.proxy())).collect();
    let counted = || gateway.metric("tollgate_connections", "");
    until("all of them are connected", || (counted() >= 4_900.0).then_some(()));
    let dripping = thread::spawn(move || {
        until("all of them are cut off", || {
            slow.retain_mut(Dripping::is_open);
            pass(DRIP);
            slow.is_empty().then_some(())
        });
    });
    let (during, memory) = (p99(gateway.proxy()), gateway.memory().saturating_sub(memory_before));
    dripping.join().expect("all of them were cut off");
    until("their places are free", || (counted() < 1.0).then_some(()));
    println!(
        "p99 of healthy clients: {before:?} before, {during:?} beside {SLOW} slow ones, which took {} KiB each",
        memory / SLOW as u64 / 1024
    );
    assert!(during <= (before * 2).max(NOISE), "{during:?}, {before:?} before");
    assert!(memory / (SLOW as u64) < 48 << 10, "{memory} bytes");
    assert_eq!(upstream.count(), 2 * HEALTHY, "no slow one got anywhere");
}

#[test]
fn idle_connections_hold_no_buffer_and_no_room_for_a_request() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "");
    let served = |_| {
        let mut client = gateway.client();
        assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().status, 200);
        client
    };
    let warm: Vec<RawClient> = (0..100).map(served).collect();
    let before = gateway.memory();
    let idle: Vec<RawClient> = (0..IDLE).map(served).collect();
    let each = gateway.memory().saturating_sub(before) / IDLE as u64;
    println!("{each} bytes for each idle connection");
    assert!(each < 4 << 10, "{each} bytes");
    drop((warm, idle));
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let upstream = StubUpstream::start();
    let routes = [upstream_at(&[upstream.address()], ""), route("all", "/", "public = true")].concat();
    let mut gateway = TestGateway::start_by("ulimit -n 100; exec \"$@\"", &routes);
    let waiting: Vec<RawClient> = (0..150).map(|_| gateway.client()).collect();
    until("it says so", || gateway.log().contains("accepting pauses").then_some(()));
    let (cpu, second) = (gateway.cpu(), Duration::from_secs(1));
    pass(second);
    let spent = gateway.cpu() - cpu;
    assert!(spent < second / 4, "{spent:?} of a second were spent on waiting");
    let lines = gateway.log().matches("accepting pauses").count();
    assert!(lines <= 8, "{lines} lines of log");
    drop(waiting);
    let served = until("it serves again", || {
        let mut client = RawClient::try_connect(gateway.proxy()).ok()?;
        client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
        client.try_response("GET").ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(served.text(), "ok");
    assert!(gateway.terminate().success());
}

#[test]
fn beyond_the_most_connections_new_ones_wait_for_a_place() {
    let upstream = StubUpstream::start();
    let gateway = open_gateway(&upstream, "connections = 2");
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut seated = [gateway.client(), gateway.client()];
    for client in &mut seated {
        assert_eq!(client.send(request).response().status, 200);
    }
    let mut waiting = gateway.client();
    waiting.send(request);
    assert_eq!(seated[0].send(request).response().status, 200);
    assert_eq!(upstream.count(), 3, "the third is not served");
    drop(seated);
    assert_eq!(waiting.response().status, 200);
}

// === instruments ===

/// A client that sends its head byte by byte.
struct Dripping(TcpStream);

impl Dripping {
    fn begin(to: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(to).expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ").expect("the beginning of a head");
        stream.set_nonblocking(true).expect("a socket");
        Dripping(stream)
    }

    /// Sends another byte; `false` once the other side has ended the connection.
    fn is_open(&mut self) -> bool {
        let _ = self.0.write(b"y");
        match self.0.read(&mut [0; 1_024]) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// What 99 of 100 requests take at most.
fn p99(to: SocketAddr) -> Duration {
    let mut client = RawClient::connect(to);
    let mut took: Vec<Duration> = (0..HEALTHY)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").response().status, 200);
            began.elapsed()
        })
        .collect();
    took.sort();
    took[HEALTHY * 99 / 100]
}
