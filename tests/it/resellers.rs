//! Resellers: what is carved for a tenant below and what is shared with it, to the unit at every level, whoever runs out
//! first and wherever.

use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::{Customer, Fleet, StubUpstream, TestGateway, load, until};

/// What the reseller has of each resource, for itself and all below it.
const POOL: usize = 240;
/// What each child may have: two carved slices, and the rest of the pool for the third, whose own limit is larger.
const CHILDREN: [usize; 3] = [90, 60, 1_000];
/// What each gateway is asked for in a row, of one customer.
const ASKED: usize = 130;

/// A reseller and three tenants below it, one of them with the pool alone.
struct Family {
    reseller: Customer,
    /// Of an administrator at the reseller.
    admin: String,
    children: [Customer; 3],
}

// === impl Family ===

impl Family {
    /// The reseller makes its children itself, and carves their slices itself.
    #[track_caller]
    fn on(gateway: &TestGateway, name: &str) -> Self {
        let reseller = gateway.customer(name, "msp");
        let limit = POOL.to_string();
        gateway.json(&["quota", "set", &reseller.tenant_id, "api_calls", "--limit", &limit]);
        let admin = admin_of(gateway, &reseller);
        let children = [0, 1, 2].map(|at: usize| {
            let body = json!({ "organization_name": format!("{name} {at}"), "tenant_tier": "free" });
            let (status, child) = gateway.api_as(&admin, "POST /api/tenants", Some(&body));
            assert_eq!((status, &child["parent_id"]), (201, &json!(reseller.tenant_id)), "{child}");
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let (tenant_id, slug) = (text(&child["tenant_id"]), text(&child["slug"]));
            // The third has its tier's limit, which no slice was carved for.
            if CHILDREN[at] < POOL {
                let line = format!("PUT /api/tenants/{slug}/quotas/api_calls");
                let slice = json!({ "limit": CHILDREN[at], "reason": "slice" });
                let (status, set) = gateway.api_as(&admin, &line, Some(&slice));
                assert_eq!(status, 200, "{set}");
            }
            let key = gateway.json(&["key", "create", &tenant_id, "--name", "test"]);
            Customer { tenant_id, slug, key_id: text(&key["key_id"]), key: text(&key["key"]) }
        });
        Family { reseller, admin, children }
    }

    fn member(&self, at: usize) -> &Customer {
        self.children.get(at).unwrap_or(&self.reseller)
    }
}

/// A key that administers the tenant.
fn admin_of(gateway: &TestGateway, customer: &Customer) -> String {
    let key = ["key", "create", &customer.tenant_id, "--name", "admin", "--scope", "admin"];
    gateway.json(&key)["key"].as_str().expect("a key").to_owned()
}

/// Asks all gateways at once, for each of these customers at once; answers how many passed of each.
fn spend(gateways: &[TestGateway], customers: &[&Customer]) -> Vec<usize> {
    let passed = |customer: &Customer, gateway: &TestGateway| {
        let request = customer.request();
        let tally = load(gateway.proxy(), 10, ASKED, |_| request.clone());
        assert_eq!(tally.of(200) + tally.of(429), ASKED, "{tally:?}");
        tally.of(200)
    };
    std::thread::scope(|scope| {
        let crowds: Vec<Vec<_>> = customers
            .iter()
            .map(|customer| {
                let gateways = gateways.iter();
                gateways.map(|gateway| scope.spawn(|| passed(customer, gateway))).collect()
            })
            .collect();
        let whole = |crowd: Vec<std::thread::ScopedJoinHandle<'_, usize>>| {
            crowd.into_iter().map(|one| one.join().expect("a crowd")).sum()
        };
        crowds.into_iter().map(whole).collect()
    })
}

/// What the control plane says that a tenant has used, once gateways have told it.
#[track_caller]
fn check_used(gateway: &TestGateway, customer: &Customer, expected: usize) {
    until(&format!("{expected} units to be known of {}", customer.slug), || {
        let listed = gateway.json(&["quota", "list", &customer.tenant_id]);
        let quotas = listed["quotas"].as_array().expect("quotas");
        let calls = quotas.iter().find(|quota| quota["resource_type"] == "api_calls").expect("api_calls");
        (calls["used"] == expected).then_some(())
    });
}

#[test]
fn three_children_and_their_reseller_are_exact_in_whatever_order_they_run_out() {
    let redis = RedisServer::start();
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", redis.port()));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(2, &upstream);
    // 3 is the reseller itself.
    for (round, order) in [[0, 1, 2, 3], [2, 0, 1, 3], [1, 2, 3, 0], [3, 0, 1, 2]].into_iter().enumerate() {
        let family = Family::on(&gateways[0], &format!("Reseller {round}"));
        let (before, mut left) = (upstream.count(), POOL);
        for at in order {
            let own = CHILDREN.get(at).copied().unwrap_or(POOL);
            let expected = own.min(left).min(ASKED * gateways.len());
            let passed = spend(&gateways, &[family.member(at)]);
            assert_eq!(passed, [expected], "order {order:?}, at {at}: {left} of {POOL} were left");
            left -= expected;
            if at < 3 {
                check_used(&gateways[0], family.member(at), expected);
            }
        }
        assert_eq!((left, upstream.count() - before), (0, POOL), "order {order:?}");
        check_used(&gateways[1], &family.reseller, POOL);
    }
    for gateway in &gateways {
        assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    }
}

#[test]
fn all_at_once_no_child_exceeds_its_slice_and_all_together_the_pool() {
    let redis = RedisServer::start();
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", redis.port()));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(2, &upstream);
    let family = Family::on(&gateways[0], "Reseller");
    let everybody: Vec<_> = (0..4).map(|at| family.member(at)).collect();
    let passed = spend(&gateways, &everybody);
    assert_eq!(passed.iter().sum::<usize>(), POOL, "{passed:?}");
    assert_eq!(upstream.count(), POOL);
    assert!(passed[0] <= CHILDREN[0] && passed[1] <= CHILDREN[1], "{passed:?}");
    for (at, passed) in passed.iter().enumerate().take(3) {
        check_used(&gateways[0], family.member(at), *passed);
    }
    check_used(&gateways[0], &family.reseller, POOL);
    assert_eq!(spend(&gateways, &everybody), [0; 4], "nothing is left of the pool");
}

#[test]
fn a_reseller_stops_one_child_and_is_stopped_with_all_of_them() {
    let redis = RedisServer::start();
    let fleet = Fleet::on(&format!("redis://127.0.0.1:{}", redis.port()));
    let upstream = StubUpstream::start();
    let gateways = fleet.gateways(2, &upstream);
    let family = Family::on(&gateways[0], "Reseller");
    // Whoever waits for a refusal uses units meanwhile.
    for customer in family.children.iter().chain([&family.reseller]) {
        gateways[0].json(&["quota", "set", &customer.tenant_id, "api_calls", "--limit", "unlimited"]);
    }
    let is = |customer: &Customer, status: u16| {
        for gateway in &gateways {
            until(&format!("{status} for {}", customer.slug), || {
                (gateway.client().get("/", &customer.key).status == status).then_some(())
            });
        }
    };
    let [one, other, third] = &family.children;
    // What the reseller pays is not for its children to know.
    for (token, is_told) in [(&family.admin, true), (&admin_of(&gateways[0], other), false)] {
        let (status, tiers) = gateways[0].api_as(token, "GET /api/tiers", None);
        let told = tiers["items"].as_array().expect("tiers").iter().all(|tier| tier["price_minor"].is_u64());
        assert_eq!((status, told, tiers.to_string().contains("29900")), (200, is_told, is_told), "{tiers}");
    }
    let line = format!("POST /api/tenants/{}/status/suspended", one.slug);
    let unpaid = json!({ "reason": "unpaid" });
    assert_eq!(gateways[0].api_as(&family.admin, &line, Some(&unpaid)).0, 200);
    is(one, 403);
    is(other, 200);
    gateways[0].json(&["tenant", "status", &family.reseller.slug, "suspended", "--reason", "unpaid"]);
    [other, third, &family.reseller].into_iter().for_each(|customer| is(customer, 403));
    // Who is not served may not let its children be served either.
    let line = format!("POST /api/tenants/{}/status/active", one.slug);
    assert_eq!(gateways[0].api_as(&family.admin, &line, None).0, 403);
    gateways[0].json(&["tenant", "status", &family.reseller.slug, "active"]);
    is(other, 200);
    is(one, 403);
}
