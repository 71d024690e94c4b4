//! The fifth door: which of several endpoints gets a request.

use super::upstream::{ask, gateway_at};
use super::{route, upstream_at};
use crate::support::{Answer, Gate, RawClient, StubUpstream, TestGateway, until};

#[test]
fn endpoints_are_asked_in_proportion_to_their_weights() {
    let [heavy, light] = [StubUpstream::start(), StubUpstream::start()];
    let urls = format!(
        "[[upstream]]\nname = \"stub\"\nurls = [{{ url = \"{}\", weight = 3 }}, \"{}\"]\n",
        heavy.url(),
        light.url()
    );
    let gateway = TestGateway::start_with(&(urls + &route("all", "/", "public = true")));
    let mut client = gateway.client();
    (0..40).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").status, 200));
    assert_eq!([heavy.count(), light.count()], [30, 10]);
}

#[test]
fn an_endpoint_that_is_busy_is_asked_less() {
    let gate = Gate::default();
    let held = gate.clone();
    let slow = StubUpstream::answering(move |_| Answer::When(held.clone(), Box::new(Answer::ok("slow"))));
    let quick = StubUpstream::start();
    let gateway = gateway_at(&[slow.address(), quick.address()], "balance = \"least_request\"");
    let mut waiting: Vec<RawClient> = Vec::new();
    until("a request waits for the slow one", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        waiting.push(client);
        (slow.count() > 0).then_some(())
    });
    let under_way = || gateway.metric("tollgate_upstream_requests_under_way", "");
    until("all others are answered", || (under_way() == slow.count() as f64).then_some(()));
    let (mut client, before) = (gateway.client(), slow.count());
    (0..50).for_each(|_| assert_eq!(ask(&mut client, "GET", "/").text(), "ok"));
    assert_eq!(slow.count(), before, "whoever has a request under way gets no other one before the idle one");
    gate.open();
}

#[test]
fn a_tenants_requests_go_to_one_endpoint_and_tenants_to_all() {
    let stubs: Vec<_> = (0..3).map(|_| StubUpstream::start()).collect();
    let addresses: Vec<_> = stubs.iter().map(StubUpstream::address).collect();
    let routes = [route("open", "/open", "public = true"), route("all", "/", "")].concat();
    let gateway = TestGateway::start_with(&(upstream_at(&addresses, "balance = \"hash(tenant)\"") + &routes));
    let mut used = [0; 3];
    for tenant in 0..10 {
        let customer = gateway.customer(&format!("Tenant {tenant}"), "free");
        let before: Vec<_> = stubs.iter().map(StubUpstream::count).collect();
        for _ in 0..6 {
            // Connections end up at either worker.
            assert_eq!(gateway.client().get("/", &customer.key).status, 200);
        }
        let counts: Vec<_> = stubs.iter().zip(before).map(|(stub, before)| stub.count() - before).collect();
        let own = counts.iter().position(|count| *count == 6);
        used[own.unwrap_or_else(|| panic!("one endpoint for all six: {counts:?}"))] += 1;
    }
    assert!(used.iter().filter(|tenants| **tenants > 0).count() > 1, "{used:?}");
    let before: Vec<_> = stubs.iter().map(StubUpstream::count).collect();
    (0..6).for_each(|_| assert_eq!(gateway.client().get("/open", "").status, 200));
    let all_six = stubs.iter().zip(before).any(|(stub, before)| stub.count() - before == 6);
    assert!(all_six, "without a tenant the client's address is hashed");
}
