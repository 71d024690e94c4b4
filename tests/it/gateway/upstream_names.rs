//! The fifth door: endpoints that are names.

use super::route;
use super::upstream::get;
use crate::support::{StubUpstream, TestGateway, until};

#[test]
fn a_name_is_looked_up_and_its_addresses_are_endpoints() {
    let upstream = StubUpstream::start();
    let port = upstream.address().port();
    let gateway = gateway_at(&format!("http://localhost:{port}"));
    assert_eq!(get(&gateway, "/").status, 200);
    let endpoint = format!("endpoint=\"127.0.0.1:{port}\"");
    until("its address is an endpoint", || {
        (gateway.metric("tollgate_upstream_endpoint_healthy", &endpoint) == 1.0).then_some(())
    });
    assert_eq!(gateway.metric("tollgate_upstream_endpoint_healthy", ""), 1.0, "the name is none any more");
    let name = format!("name=\"localhost:{port}\",result=\"found\"");
    until("it is looked up again", || {
        (gateway.metric("tollgate_upstream_lookups_total", &name) > 1.0).then_some(())
    });
    assert_eq!(get(&gateway, "/").status, 200);
}

#[test]
fn a_name_that_nobody_knows_is_an_upstream_that_can_not_be_reached() {
    let gateway = gateway_at("http://nowhere.invalid:80");
    let response = get(&gateway, "/");
    assert_eq!(
        (response.status, response.json()["type"].as_str()),
        (502, Some("/problems/upstream-unreachable"))
    );
    until("it is told", || {
        (gateway.metric("tollgate_upstream_lookups_total", "result=\"failed\"") > 0.0).then_some(())?;
        gateway.log().contains("nowhere.invalid:80 is not found").then_some(())
    });
}

fn gateway_at(url: &str) -> TestGateway {
    let upstream =
        format!("[[upstream]]\nname = \"stub\"\nurls = [\"{url}\"]\ndns = {{ interval = \"200ms\" }}\n");
    TestGateway::start_with(&(upstream + &route("all", "/", "public = true")))
}
