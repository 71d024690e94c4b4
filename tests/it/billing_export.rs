//! Usage reaches Stripe once from a fleet whose gateways are killed, and Stripe's news reach the tenant.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::store::set_up_and_migrated;
use crate::support::collectors::{Collectors, Mood, SECRET};
use crate::support::{RawClient, StubUpstream, TestGateway, charging_all, psql, until};

fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    i64::try_from(since.as_secs()).expect("a year of this millennium")
}

fn billed(stripe: &Collectors, upstream: &StubUpstream) -> String {
    format!(
        "{}[identity.api_key]\npepper = \"{}\"\n[billing.export]\nkind = \"stripe\"\nurl = \"{}\"\nsecret = \
         \"{SECRET}\"\nmeters = {{ api_calls = \"calls\" }}\ninterval = \"1s\"\ndelay = \"0s\"\n\
         webhook_secrets = [\"whsec_test\"]\ntiers = {{ price_business = \"business\" }}\n",
        charging_all(upstream),
        "07".repeat(32),
        stripe.url()
    )
}

#[test]
fn two_gateways_that_are_killed_while_they_send_bring_every_hour_once() {
    const HOURS: i64 = 48;
    let (postgres, store) = set_up_and_migrated();
    let superuser = postgres.url("postgres", "tollgate");
    let (upstream, stripe) = (StubUpstream::start(), Collectors::start(seconds));
    let configuration = billed(&stripe, &upstream);
    let mut gateways = [(); 2].map(|()| TestGateway::start_in(&store, &configuration));
    let customers: Vec<_> = ["acme", "beta", "gamma"]
        .into_iter()
        .map(|name| {
            let customer = gateways[0].customer(name, "pro");
            gateways[0].json(&["settings", "set", name, "billing_account", &format!("cus_{name}")]);
            customer
        })
        .collect();
    // What they used in two days before, as if the export had begun then.
    let hour = seconds() / 3_600 * 3_600;
    let mut used = BTreeMap::new();
    let mut rows = Vec::new();
    for (number, customer) in (1..).zip(&customers) {
        for back in 1..=HOURS {
            let (start, units) = (hour - back * 3_600, number * 1_000 + back);
            used.insert((format!("cus_{}", customer.slug), start), units.unsigned_abs());
            rows.push(format!(
                "('{}', 'hour', to_timestamp({start}), 'api_calls', '{}', 'all', {units}, 0, 1, 0, 0, 0, 0)",
                customer.tenant_id, customer.key_id
            ));
        }
    }
    stripe.fares(Mood::HangsUpAfterTaking);
    until("the export to begin", || {
        let status = gateways[0].json(&["billing", "status"]);
        (!status["items"][0].is_null()).then_some(())
    });
    psql(
        &superuser,
        &format!(
            "INSERT INTO usage_rollups (tenant_id, period, bucket_start, resource_type, key_id, route, units, overage,
                 requests, errors, bytes_in, bytes_out, latency_sum_micros) VALUES {};
             UPDATE tenant_settings SET created_at = created_at - INTERVAL '3 days';
             UPDATE billing_exports SET began_at = began_at - INTERVAL '3 days', looked_at = looked_at - INTERVAL '3 days';",
            rows.join(", ")
        ),
    );
    // They are killed after Stripe has taken something, and before they can write down what became of it.
    for round in 0..4_usize {
        let before = stripe.taken().len();
        until("Stripe to take more", || (stripe.taken().len() > before).then_some(()));
        gateways[round % 2].kill9();
        stripe.fares(if round < 2 { Mood::FailsAfterTaking } else { Mood::Well });
        gateways[round % 2].restart();
    }
    // What a killed gateway had begun to send, and what has failed, waits up to minutes: as if they were over.
    psql(&superuser, "UPDATE billing_events SET next_at = CURRENT_TIMESTAMP WHERE state = 'pending'");
    let status = || gateways[0].json(&["billing", "status"])["items"][0].clone();
    until("everything to arrive", || {
        let status = status();
        (status["pending"] == 0 && stripe.sums().len() == used.len()).then_some(())
    });
    assert_eq!(stripe.sums(), used);
    assert_eq!(status()["dead"], 0);
    let listed = gateways[1].json(&["billing", "events", "--state", "delivered", "--limit", "1000"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(used.len()));
    let unbilled = gateways[1].json(&["billing", "unbilled"]);
    assert_eq!(unbilled["items"], json!([]));
}

fn tell(gateway: &TestGateway, event: &Value, secret: &str) -> u16 {
    let (body, at) = (event.to_string(), seconds());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{at}.{body}").as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut client = RawClient::connect(gateway.admin());
    let request = format!(
        "POST /api/billing/stripe/events HTTP/1.1\r\nhost: admin\r\nstripe-signature: t={at},v1={signature}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(request.as_bytes());
    client.response().status
}

#[test]
fn stripes_news_reach_the_tenant_and_nobody_elses_do() {
    let (upstream, stripe) = (StubUpstream::start(), Collectors::start(seconds));
    let gateway = TestGateway::start_with(&billed(&stripe, &upstream));
    let customer = gateway.customer("acme", "pro");
    gateway.json(&["settings", "set", "acme", "billing_account", "cus_acme"]);
    let event = |id: &str, kind: &str| {
        let object = json!({ "customer": "cus_acme", "subscription": "sub_1" });
        json!({ "id": id, "type": kind, "data": { "object": object } })
    };
    let status = || gateway.json(&["tenant", "show", "acme"])["tenant_status"].clone();
    stripe.subscription("sub_1", "cus_acme", "past_due", &["price_business"]);
    let failed = event("evt_1", "invoice.payment_failed");
    assert_eq!((tell(&gateway, &failed, "whsec_forged"), status()), (400, json!("active")));
    assert_eq!((tell(&gateway, &failed, "whsec_test"), status()), (200, json!("past_due")));
    let answered = gateway.client().get("/", &customer.key).status;
    assert_eq!(answered, 200, "within the grace it is served");
    let alerts = gateway.json(&["alert", "list", "acme", "--kind", "billing"]);
    assert_eq!(alerts["items"].as_array().map(Vec::len), Some(1), "{alerts}");
    stripe.subscription("sub_1", "cus_acme", "active", &["price_business"]);
    assert_eq!(
        (tell(&gateway, &event("evt_2", "invoice.paid"), "whsec_test"), status()),
        (200, json!("active"))
    );
    let tenant = gateway.json(&["tenant", "show", "acme"]);
    assert_eq!(tenant["tenant_tier"], "business");
    assert_eq!(gateway.metric("tollgate_billing_news_total", "outcome=\"refused\""), 1.0);
}
