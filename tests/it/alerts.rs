//! What tenants are told of: each happening once, by however many gateways, and each receiver in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::store::set_up_and_migrated;
use crate::support::redis::RedisServer;
use crate::support::{
    Answer, Customer, Fleet, Recorded, StubUpstream, TestGateway, charging_all, load_while, psql, until,
};

/// Looks and delivers often, and to this machine; repeats soon.
const ALERTS: &str = "[alerts]\ninterval = \"200ms\"\ndelivery_interval = \"100ms\"\nallow_http = true\n\
    networks = [\"127.0.0.0/8\"]\n\
    retries = [\"100ms\", \"200ms\", \"400ms\", \"800ms\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\n";

fn header<'a>(message: &'a Recorded, name: &'a str) -> &'a str {
    message.headers_named(name).next().unwrap_or_default()
}

/// The thresholds of which the receiver was told, by their ids.
fn told(receiver: &StubUpstream) -> BTreeMap<String, u64> {
    let threshold = |message: &Recorded| {
        let body: Value = serde_json::from_str(&message.text()).expect("JSON");
        body["data"]["details"]["threshold"].as_u64().expect("a threshold")
    };
    let messages = receiver.recorded();
    messages.iter().map(|message| (header(message, "webhook-id").to_owned(), threshold(message))).collect()
}

fn channel(gateway: &TestGateway, customer: &Customer, url: &str) -> Value {
    let to = ["--kind", "webhook", "--target", url, "--only", "quota"];
    gateway.json(&[&["channel", "create", &customer.slug, "--name", "ops"], &to[..]].concat())
}

fn alerts(gateway: &TestGateway, customer: &Customer) -> Vec<u64> {
    let listed = gateway.json(&["alert", "list", &customer.slug, "--kind", "quota"]);
    let items = listed["items"].as_array().expect("a list");
    let mut thresholds: Vec<_> =
        items.iter().filter_map(|alert| alert["details"]["threshold"].as_u64()).collect();
    thresholds.sort_unstable();
    thresholds
}

#[test]
fn three_gateways_of_which_one_is_killed_tell_of_each_threshold_once() {
    const LIMIT: u64 = 6_000;
    let redis = RedisServer::start();
    let (_postgres, store) = set_up_and_migrated();
    let upstream = StubUpstream::start();
    // It fails at first, whatever it is sent.
    let receiver = StubUpstream::start();
    let refused = AtomicU64::new(0);
    receiver.answer(move |_| match refused.fetch_add(1, Ordering::Relaxed) {
        0..5 => Answer::status(503, "not now"),
        _ => Answer::status(204, ""),
    });
    let settings = format!("timeout = \"5s\"\nrecall_wait = \"2s\"\n{ALERTS}");
    let redis = format!("redis://127.0.0.1:{}", redis.port());
    let fleet = Fleet::with(&redis, &settings).storing_in(&store);
    let mut gateways = fleet.gateways(3, &upstream);
    let customer = gateways[0].customer_with_limit("Acme", LIMIT);
    channel(&gateways[0], &customer, &receiver.url());
    let request = customer.request();
    let (passed, denied) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |status| match status {
        200 => _ = passed.fetch_add(1, Ordering::Relaxed),
        429 => _ = denied.fetch_add(1, Ordering::Relaxed),
        _ => {}
    };
    let addresses = |gateways: &[TestGateway]| gateways.iter().map(TestGateway::proxy).collect::<Vec<_>>();
    load_while(&addresses(&gateways), 4, &request, count, || {
        // In the middle of the last quarter before the first threshold.
        until("use", || (passed.load(Ordering::Relaxed) >= LIMIT * 3 / 4).then_some(()));
        gateways[1].kill9();
        until("more use", || (passed.load(Ordering::Relaxed) >= LIMIT * 8 / 10).then_some(()));
    });
    gateways[1].restart();
    load_while(&addresses(&gateways), 4, &request, count, || {
        until("the limit", || (upstream.count() as u64 >= LIMIT).then_some(()));
        let before = denied.load(Ordering::Relaxed);
        until("denials", || (denied.load(Ordering::Relaxed) > before + 100).then_some(()));
    });
    until("all thresholds", || (alerts(&gateways[0], &customer) == [80, 95, 100]).then_some(()));
    until("all deliveries", || {
        let listed = gateways[2].json(&["channel", "deliveries", &customer.slug, "--state", "delivered"]);
        (listed["items"].as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let by_id = told(&receiver);
    assert_eq!(by_id.len(), 3, "{by_id:?}");
    assert_eq!(by_id.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([80, 95, 100]));
    // Nothing more comes: another round of each gateway, and none has written anything down.
    let looked = |gateway: &TestGateway| gateway.metric("tollgate_alerts_looked_timestamp_seconds", "");
    for gateway in &gateways {
        let before = looked(gateway);
        until("another look", || (looked(gateway) > before).then_some(()));
    }
    assert_eq!(alerts(&gateways[1], &customer), [80, 95, 100]);
    assert_eq!(told(&receiver), by_id);
    let written: f64 =
        gateways.iter().map(|gateway| gateway.metric("tollgate_alerts_total", "kind=\"quota\"")).sum();
    assert!((1.0..=3.0).contains(&written), "{written}: those of the killed one's first life are forgotten");
}

#[test]
fn a_test_reaches_a_webhook_and_what_never_arrives_can_be_sent_again() {
    let upstream = StubUpstream::start();
    let receiver = StubUpstream::answering(|_| Answer::status(410, "gone"));
    let configuration = format!(
        "{ALERTS}[[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n[[route]]\nname = \"all\"\npath = \"/\"\n\
         upstream = \"stub\"\n",
        upstream.url()
    );
    let gateway = TestGateway::start_with(&configuration);
    let customer = gateway.customer("Acme", "free");
    let made = channel(&gateway, &customer, &receiver.url());
    let id = made["channel_id"].as_str().expect("an id");
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{made}");
    let sent = gateway.json(&["channel", "test", &customer.slug, id]);
    let delivery = sent["delivery_id"].as_str().expect("an id");
    let ended = |state: &str| {
        until(state, || {
            let listed = gateway.json(&["channel", "deliveries", &customer.slug, "--state", state]);
            (listed["items"].as_array().map(Vec::len) == Some(1)).then_some(())
        });
    };
    ended("dead");
    until("the metric", || (gateway.metric("tollgate_outbox_dead", "") == 1.0).then_some(()));
    receiver.answer(|_| Answer::status(204, ""));
    gateway.json(&["channel", "resend", &customer.slug, delivery]);
    ended("delivered");
    let ids: Vec<_> =
        receiver.recorded().iter().map(|message| header(message, "webhook-id").to_owned()).collect();
    assert_eq!(ids, [delivery, delivery]);
    assert_eq!(gateway.metric("tollgate_alert_deliveries_total", "outcome=\"delivered\""), 1.0);
}

#[test]
fn what_gateways_see_beside_charges_is_told_denials_networks_and_keys_that_do_not_work() {
    let (postgres, store) = set_up_and_migrated();
    let superuser = postgres.url("postgres", "tollgate");
    let upstream = StubUpstream::start();
    let own = "[listen.trust]\nproxies = [\"127.0.0.0/8\"]\n[alerts]\ninterval = \"100ms\"\nslow_interval = \"200ms\"\n\
        bad_keys_min = 3\n[alerts.health]\nrequests_min = 5\n";
    let gateway = TestGateway::start_in(&store, &format!("{}{own}", charging_all(&upstream)));
    let acme = gateway.customer_with_limit("Acme", 3);
    let asks = |key: &str, from: &str| {
        let (key, from) = (format!("x-api-key: {key}"), format!("x-forwarded-for: {from}"));
        gateway.client().request(&["GET / HTTP/1.1", "host: a", &key, &from], b"").status
    };
    let of_kind = |kind: &str| {
        let listed = gateway.json(&["alert", "list", &acme.slug, "--kind", kind]);
        listed["items"].as_array().expect("a list").clone()
    };
    for status in [200, 200, 200, 429, 429, 429] {
        assert_eq!(asks(&acme.key, "192.0.2.1"), status);
    }
    until("denials are known", || {
        let (_, health) = gateway.api(&format!("GET /api/tenants/{}/health", acme.slug), None);
        let is_told = health["reasons"].as_array()?.iter().any(|reason| reason["kind"] == "denials");
        (is_told && health["denied"] == 3 && health["requests"] == 3).then_some(())
    });
    let networks = || psql(&superuser, "SELECT string_agg(network, ' ' ORDER BY network) FROM key_networks");
    until("the network is known", || (networks() == "192.0.2.0/24").then_some(()));
    // It has been at home there for two days.
    psql(&superuser, "UPDATE key_networks SET first_seen_at = first_seen_at - interval '2 days'");
    for from in ["192.0.2.99", "203.0.113.7", "203.0.113.8"] {
        asks(&acme.key, from);
    }
    let told = until("the network is told of", || of_kind("network").first().cloned());
    assert_eq!(told["details"]["network"], "203.0.113.0/24", "{told:#}");
    assert_eq!(networks(), "192.0.2.0/24 203.0.113.0/24");

    let keys = gateway.json(&["key", "list", &acme.slug]);
    let key = keys["items"][0]["key_id"].as_str().expect("an id").to_owned();
    gateway.json(&["key", "revoke", &key]);
    until("it is refused", || (asks(&acme.key, "198.51.100.1") == 401).then_some(()));
    for _ in 0..3 {
        assert_eq!(asks(&acme.key, "198.51.100.1"), 401);
    }
    let told = until("bad keys are told of", || of_kind("bad_keys").first().cloned());
    assert_eq!(told["details"]["network"], "198.51.100.0/24", "{told:#}");
    assert_eq!((of_kind("bad_keys").len(), of_kind("network").len()), (1, 1));
}
