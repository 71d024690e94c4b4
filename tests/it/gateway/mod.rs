//! The data plane as clients and upstreams see it: one file per door, every claim over real sockets.

mod admission;
mod authorize;
mod clients;
mod corpus;
mod drain;
mod grpc;
mod headers;
mod http;
mod http2;
mod identity;
mod memory;
mod openid;
mod pepper;
mod proxy_protocol;
mod replacement;
mod routes;
mod signature;
mod slow;
mod tls;
mod tokens;
mod upgrades;
mod upstream;
mod upstream_balance;
mod upstream_caps;
mod upstream_faults;
mod upstream_health;
mod upstream_names;
mod upstream_retry;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Customer, Response, StubUpstream, TestGateway, until};

/// The `[[upstream]]` named `stub`, at these addresses.
fn upstream_at(addresses: &[SocketAddr], more: &str) -> String {
    let urls: Vec<String> = addresses.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!("[[upstream]]\nname = \"stub\"\nurls = [{}]\n{more}\n", urls.join(", "))
}

/// A `[[route]]` to the upstream `stub`.
fn route(name: &str, path: &str, more: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath = \"{path}\"\nupstream = \"stub\"\n{more}\n")
}

/// A gateway with these sections and routes in front of `upstream`.
#[track_caller]
fn gateway(upstream: &StubUpstream, sections_and_routes: &str) -> TestGateway {
    TestGateway::start_with(&format!("{}{sections_and_routes}", upstream_at(&[upstream.address()], "")))
}

/// A gateway that lets anybody through, within these `[listen.limits]`, and under `/keyed` those with a key.
#[track_caller]
fn open_gateway(upstream: &StubUpstream, limits: &str) -> TestGateway {
    let routes = [route("all", "/", "public = true"), route("keyed", "/keyed", "")].concat();
    gateway(upstream, &format!("[listen.limits]\n{limits}\n{routes}"))
}

/// A customer of tier `free` at a gateway with these sections and routes.
#[track_caller]
fn customer_of(sections_and_routes: &str) -> (StubUpstream, TestGateway, Customer) {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, sections_and_routes);
    let customer = gateway.customer("Acme", "free");
    (upstream, gateway, customer)
}

/// The same customer with another key.
#[track_caller]
fn another_key(gateway: &TestGateway, customer: &Customer, options: &[&str]) -> Customer {
    let create = ["key", "create", &customer.tenant_id, "--name", "another"];
    let key = gateway.json(&[&create, options].concat());
    let text = |field: &str| key[field].as_str().expect("text").to_owned();
    Customer { key_id: text("key_id"), key: text("key"), ..customer.clone() }
}

/// The one row of the customer's usage log, once it is flushed: outcome, bytes in, bytes out.
#[track_caller]
fn usage_row(gateway: &TestGateway, customer: &Customer) -> (String, u64, u64) {
    let row = until("the usage is in the log", || gateway.usage_rows(customer).pop());
    assert_eq!(gateway.usage_rows(customer).len(), 1);
    let number = |field: &str| row[field].as_u64().expect("a number");
    (row["outcome"].as_str().expect("an outcome").to_owned(), number("bytes_in"), number("bytes_out"))
}

/// What the customer has used of `resource`, of which it must have one quota.
#[track_caller]
fn used(gateway: &TestGateway, customer: &Customer, resource: &str) -> u64 {
    let quotas = usage(gateway, customer);
    let own: Vec<u64> = quotas.iter().filter(|(name, ..)| name == resource).map(|(.., used)| *used).collect();
    assert_eq!(own.len(), 1, "one quota of {resource} in {quotas:?}");
    own[0]
}

/// What the customer has used: of which resource, in which period, of which key's own quota, how much.
#[track_caller]
fn usage(gateway: &TestGateway, customer: &Customer) -> Vec<(String, String, Option<String>, u64)> {
    let usage = gateway.json(&["usage", &customer.tenant_id]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let quotas = usage["quotas"].as_array().expect("quotas").iter().map(|quota| {
        let (resource, period) = (text(&quota["resource_type"]), text(&quota["period"]));
        let used = quota["used"].as_u64().expect("a number");
        (resource.expect("a resource"), period.expect("a period"), text(&quota["key_id"]), used)
    });
    quotas.collect()
}

/// An answer without what differs between any two answers: its time and its request's id.
fn alike(response: &Response) -> String {
    let raw = String::from_utf8_lossy(&response.message.raw).into_owned();
    let raw = raw.replace(response.header("x-request-id").expect("an id"), "ID");
    raw.replace(response.header("date").expect("a date"), "DATE")
}
