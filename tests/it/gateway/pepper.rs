//! An exchange of the pepper, as an operator goes about it: keys go on working at each step, and the old pepper can go.

use serde_json::Value;

use super::{gateway, route, upstream_at};
use crate::support::{RawClient, StubUpstream, TestAuthority, TestGateway, until};

/// The name in a client certificate.
const NAME: &str = "spiffe://example.org/orders";

/// Whose SHA-256 is known.
const FOREIGN: &str = "sk_old_0123456789";
const FOREIGN_SHA256: &str = "6f810bd153a0c8cd709c8bb2301a3f7db79859b8d444eecc7cb39a713715a653";

/// `pepper` and `pepper_version`.
fn current(version: u32) -> String {
    format!("pepper = \"{}\"\npepper_version = {version}\n", pepper(version))
}

fn pepper(version: u32) -> String {
    format!("{version:064x}")
}

/// What `doctor` finds about credentials: severity and sentence, and whether all is well.
#[track_caller]
fn examined(gateway: &TestGateway) -> (Vec<(String, String)>, bool) {
    let run = gateway.tollgate(&["doctor", "--json"]);
    let json: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stderr));
    let findings = json["findings"].as_array().expect("findings").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let own = findings.filter(|finding| finding["about"] == "identity");
    (own.map(|finding| (text(&finding["severity"]), text(&finding["what"]))).collect(), run.status.success())
}

#[track_caller]
fn says(gateway: &TestGateway, sentence: &str) -> bool {
    examined(gateway).0.iter().any(|(_, what)| what.starts_with(sentence))
}

#[track_caller]
fn status(gateway: &TestGateway, key: &str) -> u16 {
    gateway.client().get("/", key).status
}

#[test]
fn keys_of_all_kinds_outlive_an_exchange_of_the_pepper() {
    let (upstream, authority) = (StubUpstream::start(), TestAuthority::new("us"));
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = authority.issue(&["a.test"]).write(files.path(), "a");
    let ca = authority.write(files.path(), "ca.pem");
    let configuration = |peppers: &str| {
        format!(
            "[listen.tls]\naddress = \"127.0.0.1:0\"\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n\
             client_ca = {ca:?}\nclient_certificate = \"optional\"\n{}{}\
             [control]\nplatform_token = \"{}\"\n[identity.api_key]\nimported = true\n{peppers}",
            upstream_at(&[upstream.address()], ""),
            route("all", "/", "identity = [\"certificate\", \"api_key\"]"),
            "p".repeat(32),
        )
    };
    let mut gateway = TestGateway::start_with(&configuration(""));
    let customer = gateway.customer("Acme", "free");
    let create = ["key", "create", &customer.tenant_id, "--name", "brought"];
    gateway.json(&[&create[..], &["--sha256", FOREIGN_SHA256]].concat());
    gateway.json(&[&create[..], &["--certificate", NAME]].concat());
    let client = authority.client(Some(&authority.issue(&[NAME])));
    let all_pass = |gateway: &TestGateway| {
        let secured = RawClient::secure(gateway.tls(), "a.test", &client)
            .request(&["GET / HTTP/1.1", "host: a.test"], b"");
        assert_eq!(secured.status, 200);
        for key in [&*customer.key, FOREIGN] {
            assert_eq!(status(gateway, key), 200, "{key}");
        }
        assert_eq!(
            gateway.metric("tollgate_refusals_total", "\"identity_unknown\""),
            0.0,
            "nobody is a stranger"
        );
    };
    all_pass(&gateway);
    assert_eq!(examined(&gateway), (Vec::new(), true), "one pepper is not worth a word");

    // The one that was made at the first start is version 1.
    let old = "old_peppers = [{ version = 1, pepper = \"file:data/pepper\" }]\n";
    gateway.configure(&configuration(&format!("{}{old}", current(2))));
    gateway.restart();
    assert!(
        says(&gateway, "3 keys and 0 platform tokens are stored under pepper 1, which must stay"),
        "{:?}",
        examined(&gateway)
    );
    all_pass(&gateway);
    until("all keys are renewed", || {
        says(&gateway, "0 keys and 0 platform tokens are stored under pepper 1: take it out").then_some(())
    });
    assert!(
        says(&gateway, "3 keys and 1 platform token are stored under pepper 2"),
        "{:?}",
        examined(&gateway)
    );
    all_pass(&gateway);

    gateway.configure(&configuration(&current(2)));
    gateway.restart();
    all_pass(&gateway);
    assert_eq!(examined(&gateway), (Vec::new(), true));
}

#[test]
fn a_pepper_that_is_exchanged_without_the_old_one_is_told_by_doctor() {
    let upstream = StubUpstream::start();
    let configuration = |version| {
        let routes = [upstream_at(&[upstream.address()], ""), route("all", "/", "")].concat();
        format!("{routes}[identity.api_key]\n{}", current(version))
    };
    let mut gateway = TestGateway::start_with(&configuration(1));
    let customer = gateway.customer("Acme", "free");
    assert_eq!(status(&gateway, &customer.key), 200);
    gateway.configure(&configuration(2));
    gateway.restart();
    assert_eq!(status(&gateway, &customer.key), 401);
    let (findings, is_well) = examined(&gateway);
    assert!(!is_well);
    let [(severity, what)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(severity, "fault");
    assert!(
        what.starts_with("1 key and 1 platform token are stored under pepper 1, which is not configured"),
        "{what}"
    );
}

#[test]
fn a_gateway_that_is_still_behind_knows_the_keys_of_those_that_are_ahead() {
    let upstream = StubUpstream::start();
    let identity = |more: &str| format!("{}[identity.api_key]\n{more}", route("all", "/", ""));
    let other = |version| format!("{{ version = {version}, pepper = \"{}\" }}", pepper(version));
    let ahead = identity(&format!("{}old_peppers = [{}]\n", current(2), other(1)));
    let behind = identity(&format!("{}next_pepper = {}\n", current(1), other(2)));
    let mut gateway = gateway(&upstream, &ahead);
    let customer = gateway.customer("Acme", "free");
    let configured =
        |configuration: &str| format!("{}{configuration}", upstream_at(&[upstream.address()], ""));
    gateway.configure(&configured(&behind));
    gateway.restart();
    assert_eq!(status(&gateway, &customer.key), 200);
    let own = super::another_key(&gateway, &customer, &[]);
    assert_eq!(status(&gateway, &own.key), 200);
    assert!(
        says(&gateway, "1 key and 0 platform tokens are stored under pepper 1, the current one"),
        "{:?}",
        examined(&gateway)
    );
    assert!(says(&gateway, "1 key and 1 platform token are stored under pepper 2, the next one"));
    gateway.configure(&configured(&ahead));
    gateway.restart();
    for key in [&customer.key, &own.key] {
        assert_eq!(status(&gateway, key), 200);
    }
}
