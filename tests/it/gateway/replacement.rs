//! A gateway replaced by a new process on the same data and the same sockets, under load.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{route, upstream_at, used};
use crate::support::{Answer, RawClient, StubUpstream, TestGateway, until};

const REPLACEMENTS: usize = 10;
const CONNECTIONS: usize = 8;

/// What became of the requests of all clients.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    failed: AtomicU64,
}

#[test]
fn replaced_ten_times_under_load_no_request_and_no_unit_is_lost() {
    let upstream = StubUpstream::start();
    let routes = route("all", "/", "charge = { api_calls = 1 }");
    let mut gateway =
        TestGateway::start_on_sockets(&[upstream_at(&[upstream.address()], ""), routes].concat());
    let customer = gateway.customer_with_limit("Acme", 1_000_000);
    let request = customer.request();
    let (told, is_over, address) = (Told::default(), AtomicBool::new(false), gateway.proxy());
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for number in 0..CONNECTIONS {
            let (told, is_over, request) = (&told, &is_over, &request);
            // Half of the clients keep their connections, half open one for each request.
            scope.spawn(move || told.keep_asking(address, request, number % 2 == 0, is_over));
        }
        for _ in 0..REPLACEMENTS {
            let enough = told.passed.load(Ordering::Relaxed) + 100;
            until("requests to pass", || (told.passed.load(Ordering::Relaxed) >= enough).then_some(()));
            assert!(gateway.terminate().success());
            gateway.restart();
        }
    });
    let (passed, failed) = (told.passed.into_inner(), told.failed.into_inner());
    println!("{REPLACEMENTS} replacements: {passed} requests passed, {failed} failed");
    assert_eq!(failed, 0, "of {passed}");
    assert_eq!((upstream.count() as u64, used(&gateway, &customer, "api_calls")), (passed, passed));
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
}

#[test]
fn who_connects_while_nobody_serves_waits_and_is_served() {
    let upstream = StubUpstream::answering(|_| Answer::ok("late"));
    let public = route("all", "/", "public = true");
    let mut gateway =
        TestGateway::start_on_sockets(&[upstream_at(&[upstream.address()], ""), public].concat());
    assert!(gateway.terminate().success());
    let mut waiting = gateway.client();
    waiting.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    gateway.restart();
    assert_eq!(waiting.response().text(), "late");
}

#[test]
fn a_socket_that_the_configuration_does_not_name_is_a_fault() {
    let upstream = StubUpstream::start();
    let public = route("all", "/", "public = true");
    let configuration = [upstream_at(&[upstream.address()], ""), public].concat();
    let mut gateway = TestGateway::start_on_sockets(&configuration);
    let address = gateway.proxy();
    gateway.terminate();
    gateway.configure(&configuration.replacen("[[upstream]]", "[listen]\n[[upstream]]", 1));
    let log = gateway.fails_to_start();
    assert!(log.contains(&format!("a socket on {address} was handed over")), "{log}");
}

impl Told {
    fn keep_asking(&self, to: SocketAddr, request: &[u8], keeps: bool, is_over: &AtomicBool) {
        let mut client = None;
        while !is_over.load(Ordering::Relaxed) {
            let answered = match client.take().map(|reused| exchange(reused, request)) {
                Some(Ok(answered)) => Ok(answered),
                // Whoever ends an idle connection has read nothing of what came too late: every client asks again.
                Some(Err(error)) if was_closed(&error) => exchange_anew(to, request),
                Some(Err(error)) => Err(error),
                None => exchange_anew(to, request),
            };
            match answered {
                Ok((200, connection)) => {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    client = connection.filter(|_| keeps);
                }
                Ok(_) | Err(_) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            }
        }
    }
}

fn exchange_anew(to: SocketAddr, request: &[u8]) -> io::Result<(u16, Option<RawClient>)> {
    exchange(RawClient::try_connect(to)?, request)
}

/// The status, and the connection if it stays open.
fn exchange(mut client: RawClient, request: &[u8]) -> io::Result<(u16, Option<RawClient>)> {
    client.try_send(request)?;
    let response = client.try_response("GET")?;
    let closes = response.header("connection").is_some_and(|value| value == "close");
    Ok((response.status, (!closes).then_some(client)))
}

fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Ends the clients also when what is tested has failed.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
