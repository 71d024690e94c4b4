//! Memory: what a gateway does when it has nearly all that it may have.

use std::fs;

use super::{gateway, route};
use crate::support::{Http2Client, StubUpstream, TestGateway, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Which part of a limit is in use, in percent, so that the gateway is well within each state.
const HIGH: u32 = 87;
const CRITICAL: u32 = 300;

#[test]
fn where_memory_is_scarce_connections_are_not_kept_and_at_its_end_requests_are_refused() {
    let upstream = StubUpstream::start();
    let gateway = gateway_of_one_worker(&upstream);
    let own = fs::read_to_string(gateway.config()).expect("its configuration");
    let mut idle = gateway.client();
    assert_eq!(idle.send(GET).response().header("connection"), None);

    limit_to(&gateway, &own, Some(HIGH));
    assert!(idle.is_closed());
    let mut client = until("requests pass", || {
        let mut client = gateway.client();
        let response = client.send(GET).response();
        assert_eq!(response.header("connection"), Some("close"));
        (response.status == 200).then_some(client)
    });
    assert!(client.is_closed());
    let mut streams = Http2Client::connect(gateway.proxy());
    assert_eq!(streams.get("/", &[]).status, 200);
    until("its connection ends", || streams.is_closed().then_some(()));
    assert!(gateway.admin_text("/readyz").contains("bytes of memory are in use"));

    limit_to(&gateway, &own, Some(CRITICAL));
    until("requests are refused", || (gateway.client().send(GET).response().status == 503).then_some(()));
    let asked = upstream.count();
    for target in ["/", "/keyed"] {
        let mut client = gateway.client();
        let response = client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).response();
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert!(response.text().contains("#temporary-reduced-capacity"), "{}", response.text());
        assert!(client.is_closed());
    }
    assert_eq!(Http2Client::connect(gateway.proxy()).get("/", &[]).status, 503);
    assert_eq!(upstream.count(), asked);
    assert!(gateway.metric("tollgate_refusals_total", "short_of_memory") >= 4.0);
    assert!(gateway.admin_text("/readyz").contains("requests are refused"));

    limit_to(&gateway, &own, None);
    until("requests pass", || (gateway.client().send(GET).response().status == 200).then_some(()));
    let mut client = gateway.client();
    assert_eq!([(); 2].map(|()| client.send(GET).response().status), [200; 2]);
    assert!(!gateway.admin_text("/readyz").contains("of memory"));
}

/// All its connections learn of its memory at the same time.
#[track_caller]
fn gateway_of_one_worker(upstream: &StubUpstream) -> TestGateway {
    let listen = "[listen]\nproxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = 1\n";
    let routes = [route("all", "/", "public = true"), route("keyed", "/keyed", "")].concat();
    gateway(upstream, &format!("{listen}[listen.limits]\nmemory_bytes = 0\n{routes}"))
}

/// Gives the running gateway a limit of which it has so many percent in use, or none, and waits until it acts on it. What
/// it has in use may still change: the limit follows.
#[track_caller]
fn limit_to(gateway: &TestGateway, own: &str, percent: Option<u32>) {
    let expected = match percent {
        None => 0.0,
        Some(HIGH) => 1.0,
        Some(_) => 2.0,
    };
    let mut limit: Option<f64> = None;
    until("the gateway acts on it", || {
        let resident = gateway.metric("tollgate_memory_resident_bytes", "");
        let wanted = percent.map_or(0.0, |percent| (resident * 100.0 / f64::from(percent)).round());
        if limit.is_none_or(|limit| (wanted - limit).abs() > wanted * 0.03) {
            limit = Some(wanted);
            let written = own.replace("memory_bytes = 0", &format!("memory_bytes = {wanted}"));
            fs::write(gateway.config(), written).expect("the configuration is written");
            gateway.hang_up();
        }
        let is_told = limit == Some(gateway.metric("tollgate_memory_limit_bytes", ""));
        (is_told && gateway.metric("tollgate_memory_pressure", "") == expected).then_some(())
    });
}
