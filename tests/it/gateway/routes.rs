//! The first door: which route a request takes, and what happens when the routes change.

use std::net::SocketAddr;

use super::{gateway, route, upstream_at};
use crate::support::{RawClient, Response, StubUpstream, TestGateway, until};

#[test]
fn the_most_particular_route_takes_the_request() {
    let upstreams = ["any", "v1", "deep", "exact", "host", "below"].map(|name| (name, StubUpstream::start()));
    let gateway =
        TestGateway::start_with(&upstreams.iter().map(|(name, own)| named(name, own)).collect::<String>());
    for (method, host, path, name) in [
        ("GET", "a", "/", "any"),
        ("GET", "a", "/v1beta", "any"),
        ("GET", "a", "/V1/x", "any"),
        ("GET", "a", "/v1", "v1"),
        ("GET", "a", "/v1/x?y=/v1/deep/", "v1"),
        ("DELETE", "a", "/v1/x", "any"),
        ("GET", "a", "/v1/deep", "v1"),
        ("GET", "a", "/v1/deep/x/y", "deep"),
        ("GET", "a", "/v1/deep/x", "exact"),
        ("GET", "a", "/v1/deep/x?y", "exact"),
        ("GET", "api.test", "/v1/x", "host"),
        ("GET", "API.Test:8080", "/v1/x", "host"),
        ("GET", "api.test.", "/v1/x", "host"),
        ("GET", "a.tenants.test", "/v1/x", "below"),
        ("GET", "tenants.test", "/v1/x", "v1"),
        ("GET", "xtenants.test", "/v1/x", "v1"),
    ] {
        let counts = || upstreams.each_ref().map(|(_, own)| own.count());
        let mut expected = counts();
        let index = upstreams.iter().position(|(own, _)| *own == name).unwrap();
        expected[index] += 1;
        assert_eq!(send(&gateway, method, host, path).status, 200, "{method} {host} {path}");
        assert_eq!(counts(), expected, "{method} {host} {path}");
        let seen = upstreams[index].1.last();
        assert_eq!((seen.target(), seen.header("host")), (path, Some(host)));
    }
}

#[test]
fn no_route_is_404_and_another_method_is_405_with_those_that_are_served() {
    let upstream = StubUpstream::start();
    let routes = [
        route("read", "/v1", "public = true\nmethods = [\"GET\", \"HEAD\"]"),
        route("write", "/v1/x", "public = true\nmethods = [\"POST\", \"GET\"]"),
        route("host", "/h", "public = true\nhosts = [\"api.test\"]"),
    ];
    let gateway = gateway(&upstream, &routes.concat());
    for (method, path, status, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/v10", 404, None),
        ("GET", "/h", 404, None),
        ("POST", "/v1", 405, Some("GET, HEAD")),
        ("get", "/v1", 405, Some("GET, HEAD")),
        ("DELETE", "/v1/x", 405, Some("GET, HEAD, POST")),
    ] {
        let response = send(&gateway, method, "a", path);
        assert_eq!((response.status, response.header("allow")), (status, allow), "{method} {path}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_prefix_is_cut_from_the_path_that_is_forwarded() {
    let upstream = StubUpstream::start();
    let routes = [
        route("v1", "/v1", "public = true\nstrip_prefix = \"/v1\""),
        route("v2", "/v2/", "public = true\nstrip_prefix = \"/v2/\""),
        route("deep", "/v3/deep", "public = true\nstrip_prefix = \"/v3\""),
    ];
    let gateway = gateway(&upstream, &routes.concat());
    for (path, forwarded) in [
        ("/v1", "/"),
        ("/v1?x", "/?x"),
        ("/v1/", "/"),
        ("/v1/a/b?c=/v1", "/a/b?c=/v1"),
        ("/v1//b", "//b"),
        ("/v2/a", "/a"),
        ("/v3/deep/a", "/deep/a"),
    ] {
        assert_eq!(send(&gateway, "GET", "a", path).status, 200, "{path}");
        assert_eq!(upstream.last().target(), forwarded, "{path}");
    }
}

#[test]
fn a_path_that_the_upstream_could_read_as_another_one_is_refused() {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, &route("all", "/", "public = true"));
    let mut client = gateway.client();
    for path in [
        "/a/../b",
        "/..",
        "/.",
        "/a/./b",
        "/a/..",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/.%2e",
        "/a\\b",
        "/a%5cb",
        "/a%5C..%5Cb",
        "/a/..;x/b",
        "/a/.;/b",
        "/a%2f..%2fb",
        "/a%2F..",
        "/a/..%2fb",
        "/%2e%2e%2fb",
    ] {
        let response = client.request(&[&format!("GET {path} HTTP/1.1"), "host: a"], b"");
        assert_eq!((response.status, response.header("connection")), (400, None), "{path}");
    }
    assert_eq!(upstream.count(), 0);
    for path in
        ["/a/...", "/.well-known/x", "/a.b/..c", "/a/%2ehidden", "/a%2fb", "/a?x=/../y", "/a//b", "/%252e"]
    {
        let response = client.request(&[&format!("GET {path} HTTP/1.1"), "host: a"], b"");
        assert_eq!((response.status, upstream.last().target().to_owned()), (200, path.to_owned()));
    }
}

#[test]
fn a_public_route_asks_for_no_key_and_tells_the_upstream_of_no_tenant() {
    let upstream = StubUpstream::start();
    let routes = [route("all", "/", "charge = { api_calls = 1 }"), route("open", "/open", "public = true")];
    let gateway = gateway(&upstream, &routes.concat());
    let customer = gateway.customer_with_limit("Acme", 5);
    assert_eq!(send(&gateway, "GET", "a", "/closed").status, 401);
    assert_eq!(send(&gateway, "GET", "a", "/open/x").status, 200);
    // A key is not asked for, not charged, and nobody else's business.
    for line in ["x-api-key: KEY", "Authorization: bearer KEY"] {
        let line = line.replace("KEY", &customer.key);
        let response = gateway.client().request(&["GET /open HTTP/1.1", "host: a", &line], b"");
        assert_eq!((response.status, response.header("ratelimit")), (200, None));
        let seen = upstream.last();
        assert!(seen.headers.iter().all(|(name, _)| !name.starts_with("x-tenant-")), "{:?}", seen.headers);
        assert!(!String::from_utf8_lossy(&seen.raw).contains(&customer.key), "{:?}", seen.headers);
    }
    assert_eq!(super::used(&gateway, &customer, "api_calls"), 0);
}

// === reloads ===

#[test]
fn a_hangup_exchanges_the_routes_without_losing_a_connection() {
    let (old, new) = (StubUpstream::start(), StubUpstream::start());
    let gateway = gateway(&old, &route("all", "/", "public = true"));
    let mut client = gateway.client();
    assert_eq!(ask(&mut client, "/"), 200);
    gateway.configure(&configuration(&new, "/new"));
    gateway.hang_up();
    until("the new routes", || (ask(&mut client, "/") == 404).then_some(()));
    let seen = old.count();
    assert_eq!(ask(&mut client, "/new"), 200);
    assert_eq!((old.count(), new.count()), (seen, 1));
}

#[test]
fn a_changed_file_is_read_without_a_signal() {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, &route("all", "/", "public = true"));
    gateway.configure(&configuration(&upstream, "/new"));
    let mut client = gateway.client();
    until("the new routes", || (ask(&mut client, "/") == 404).then_some(()));
    assert_eq!(ask(&mut client, "/new"), 200);
}

#[test]
fn a_faulty_file_changes_nothing_and_readyz_says_so_until_it_is_mended() {
    let upstream = StubUpstream::start();
    let gateway = gateway(&upstream, &route("all", "/", "public = true"));
    for faulty in [
        "[[route]]\nname = \"x\"".to_owned(),
        "not = [toml".to_owned(),
        // Valid, and its files are not there.
        configuration(&upstream, "/new")
            + "[listen.tls]\naddress = \"127.0.0.1:0\"\n\
               certificates = [{ cert = \"/nowhere/cert.pem\", key = \"/nowhere/key.pem\" }]\n",
        configuration(&upstream, "/new").replace("\"stub\"\npublic", "\"nobody\"\npublic"),
    ] {
        gateway.configure(&faulty);
        gateway.hang_up();
        until("/readyz tells of the faults", || {
            gateway.admin_text("/readyz").contains("faults").then_some(())
        });
        assert!(gateway.admin_text("/readyz").contains("\"ready\":true"), "it serves all the same");
        assert_eq!(send(&gateway, "GET", "a", "/old").status, 200, "{faulty}");
        gateway.configure(&configuration(&upstream, "/"));
        gateway.hang_up();
        until("/readyz is content", || (!gateway.admin_text("/readyz").contains("faults")).then_some(()));
    }
}

// === instruments ===

fn configuration(upstream: &StubUpstream, path: &str) -> String {
    upstream_at(&[upstream.address()], "") + &route("all", path, "public = true")
}

/// An upstream and its route of the same name.
fn named(name: &str, upstream: &StubUpstream) -> String {
    let wanted = match name {
        "any" => "path = \"/\"",
        "v1" => "path = \"/v1\"\nmethods = [\"GET\", \"POST\"]",
        "deep" => "path = \"/v1/deep/\"",
        "exact" => "exact = \"/v1/deep/x\"",
        "host" => "path = \"/v1\"\nhosts = [\"api.test\"]",
        _ => "path = \"/v1\"\nhosts = [\"*.tenants.test\"]",
    };
    let address: SocketAddr = upstream.address();
    format!(
        "[[upstream]]\nname = \"{name}\"\nurls = [\"http://{address}\"]\n\
         [[route]]\nname = \"{name}\"\n{wanted}\nupstream = \"{name}\"\npublic = true\n"
    )
}

#[track_caller]
fn send(gateway: &TestGateway, method: &str, host: &str, path: &str) -> Response {
    gateway.client().request(&[&format!("{method} {path} HTTP/1.1"), &format!("host: {host}")], b"")
}

#[track_caller]
fn ask(client: &mut RawClient, path: &str) -> u16 {
    client.request(&[&format!("GET {path} HTTP/1.1"), "host: a"], b"").status
}
