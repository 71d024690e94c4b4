//! Spend caps that stop, over two gateways under load: what is invoiced is the cap, to the cent.

use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::{Customer, Fleet, StubUpstream, TestGateway, load, until};

/// What pro costs without anything above its limits.
const PRO_MINOR: u64 = 29_900;
/// Calls that are included; each above it costs 1.00.
const INCLUDED: u64 = 40;
/// What each gateway is asked for in a row.
const ASKED: usize = 500;

/// Sells calls above the limit of pro to whoever comes.
#[track_caller]
fn sell_calls(gateway: &TestGateway) {
    let (_, tiers) = gateway.api("GET /api/tiers", None);
    let tiers = tiers["items"].as_array().expect("tiers");
    let mut pro = tiers.iter().find(|tier| tier["slug"] == "pro").expect("pro").clone();
    pro.as_object_mut().expect("a tier").remove("version");
    for quota in pro["quotas"].as_array_mut().expect("quotas") {
        if quota["resource"] == "api_calls" {
            quota["enforcement"] = json!("soft");
            quota["overage"] = json!({ "price": "1.00", "per": 1 });
        }
    }
    let (status, set) = gateway.api("POST /api/tiers", Some(&pro));
    assert_eq!(status, 200, "{set}");
}

/// Sets the cap, and waits until every gateway's answers name the limit that it leaves.
#[track_caller]
fn stop_at(gateways: &[TestGateway], customer: &Customer, calls_above: u64) {
    let amount = format!("{}.00", (PRO_MINOR / 100) + calls_above);
    let set = gateways[0].json(&["invoice", "cap", &customer.slug, "--amount", &amount, "--stop"]);
    let limit = INCLUDED + calls_above;
    assert_eq!(set["leaves"][0]["limit"], limit, "{set}");
    for gateway in gateways {
        until(&format!("a limit of {limit}"), || {
            let answer = gateway.client().get("/", &customer.key);
            let policy = answer.header("ratelimit-policy").unwrap_or_default();
            policy.contains(&format!(";q={limit};")).then_some(())
        });
    }
}

/// Asks all gateways at once, for more than there is.
#[track_caller]
fn spend(gateways: &[TestGateway], customer: &Customer) -> usize {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", customer.key).into_bytes();
    let request = &request;
    std::thread::scope(|scope| {
        let crowds: Vec<_> = gateways
            .iter()
            .map(|gateway| scope.spawn(|| load(gateway.proxy(), 10, ASKED, |_| request.clone())))
            .collect();
        let tallies = crowds.into_iter().map(|crowd| crowd.join().expect("a crowd"));
        tallies
            .map(|tally| {
                assert_eq!(tally.of(200) + tally.of(429), ASKED, "{tally:?}");
                tally.of(200)
            })
            .sum()
    })
}

/// What would be invoiced, once gateways have told what they counted.
#[track_caller]
fn check_total(gateway: &TestGateway, customer: &Customer, calls_above: u64) {
    let expected = PRO_MINOR + calls_above * 100;
    let mut last = Value::Null;
    until(&format!("an estimate of {expected}"), || {
        last = gateway.json(&["invoice", "show", &customer.slug])["total_minor"].clone();
        let total = last.as_u64().expect("a total");
        assert!(total <= expected, "{total} of {expected}");
        (total == expected).then_some(())
    });
}

#[test]
fn a_cap_that_stops_is_invoiced_to_the_cent_over_two_gateways_and_the_tenant_is_served_when_it_is_raised() {
    let redis = RedisServer::start();
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", redis.port()));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(2, &upstream);
    sell_calls(&gateways[0]);
    let customer = gateways[0].customer("Acme", "pro");
    let shop = "https://shop.example";
    for (setting, value) in [("upgrade_url", shop), ("upgrade_prompts", "true")] {
        gateways[0].json(&["settings", "set", &customer.slug, setting, value]);
    }
    let included = INCLUDED.to_string();
    gateways[0].json(&["quota", "set", &customer.slug, "api_calls", "--limit", &included]);
    // Above the limit before there is a cap: that counts, too.
    for _ in 0..INCLUDED {
        gateways.iter().for_each(|gateway| assert_eq!(gateway.client().get("/", &customer.key).status, 200));
    }

    stop_at(&gateways, &customer, 600);
    spend(&gateways, &customer);
    assert_eq!(upstream.count() as u64, INCLUDED + 600);
    check_total(&gateways[0], &customer, 600);
    let refused = gateways[1].client().get("/", &customer.key);
    let problem = refused.json();
    assert_eq!((refused.status, problem["cause"].as_str()), (429, Some("spend_cap")), "{problem}");
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((&problem["limit"], &problem["upgrade_url"]), (&json!(INCLUDED + 600), &json!(shop)));
    assert!(problem["detail"].as_str().expect("a text").contains("the spend cap pays for no more"));
    let report = json!({ "resource_type": "api_calls", "amount": 1 });
    let (status, problem) =
        gateways[0].api(&format!("POST /api/tenants/{}/usage/increment", customer.slug), Some(&report));
    assert_eq!((status, problem["cause"].as_str()), (429, Some("spend_cap")), "{problem}");

    stop_at(&gateways, &customer, 700);
    spend(&gateways, &customer);
    assert_eq!(upstream.count() as u64, INCLUDED + 700, "raised: a hundred more, and no more");
    check_total(&gateways[1], &customer, 700);

    gateways[1].json(&["invoice", "cap", &customer.slug, "--none"]);
    for gateway in &gateways {
        until("to be served again", || {
            (gateway.client().get("/", &customer.key).status == 200).then_some(())
        });
    }
    assert_eq!(gateways[0].json(&["reconcile"])["difference"], 0);
}
