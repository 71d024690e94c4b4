//! One thing done to thousands of tenants by two gateways, both of which are killed in the middle.

use std::time::Instant;

use serde_json::json;

use crate::store::set_up_and_migrated;
use crate::support::{StubUpstream, TestGateway, psql, until};

/// `BULK_TENANTS=10000` says otherwise; then it takes some two minutes.
const TENANTS: u64 = 2_000;

#[test]
fn a_tier_change_of_thousands_of_tenants_survives_kills_and_is_done_and_audited_once_each() {
    let number = std::env::var("BULK_TENANTS").map_or(TENANTS, |text| text.parse().expect("a number"));
    let (postgres, store) = set_up_and_migrated();
    let superuser = postgres.url("postgres", "tollgate");
    let one = |sql: &str| psql(&superuser, sql).parse::<u64>().expect("a number");
    psql(
        &superuser,
        &format!(
            "INSERT INTO organizations (tenant_id, name, slug, status, tier, tier_version, timezone, locale,
                 retention_class, version, created_at, updated_at)
             SELECT gen_random_uuid(), 'Tenant ' || n, 'tenant-' || n, 'active', 'pro', 1, 'UTC', 'en', 90, 1,
                 CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
             FROM generate_series(1, {number}) AS n"
        ),
    );
    let upstream = StubUpstream::start();
    let mut gateways = [(); 2].map(|()| TestGateway::start_on(&store, &upstream));
    let began = Instant::now();
    let body = json!({ "filter": { "tier": "pro" }, "action": { "kind": "tier", "tier": "business" } });
    let (status, operation) = gateways[0].api("POST /api/bulk-operations", Some(&body));
    assert_eq!((status, &operation["total"]), (201, &json!(number)), "{operation}");
    let id = operation["operation_id"].as_str().expect("an id").to_owned();
    let changed = |gateway: &TestGateway| {
        let (_, operation) = gateway.api(&format!("GET /api/bulk-operations/{id}"), None);
        operation["changed"].as_u64().expect("a number")
    };
    for (killed, other, share) in [(0, 1, 4), (1, 0, 2)] {
        let enough = |gateway: &TestGateway, enough: u64| {
            until("enough to be done", || (changed(gateway) >= enough).then_some(()));
        };
        enough(&gateways[other], number / share);
        gateways[killed].kill9();
        // The other one goes on alone.
        enough(&gateways[other], changed(&gateways[other]) + 1);
        gateways[killed].restart();
    }
    gateways.iter_mut().for_each(TestGateway::kill9);
    let rests_at = one("SELECT changed FROM bulk_operations");
    assert!(rests_at < number, "{rests_at}: nothing was left to be killed in");
    gateways.iter_mut().for_each(TestGateway::restart);
    loop {
        let before = changed(&gateways[0]);
        if before == number {
            break;
        }
        until("more to be done", || (changed(&gateways[0]) > before).then_some(()));
    }
    let done = until("the operation to be done", || {
        let operation = gateways[1].json(&["bulk", "show", &id]);
        (operation["state"] == "done").then_some(operation)
    });
    println!("{number} tenants in {:?}, over four kills", began.elapsed());
    assert_eq!(
        [&done["changed"], &done["unchanged"], &done["failed"]],
        [&json!(number), &json!(0), &json!(0)],
        "{done}"
    );
    assert_eq!(one("SELECT COUNT(*) FROM organizations WHERE tier = 'business' AND version = 2"), number);
    let audited = format!("FROM tenant_audit_logs WHERE action = 'tenant.change' AND correlation = '{id}'");
    assert_eq!(one(&format!("SELECT COUNT(*) {audited}")), number, "one row each");
    assert_eq!(one(&format!("SELECT COUNT(DISTINCT tenant_id) {audited}")), number);
    let verified = gateways[0].json(&["audit", "verify", "tenant-1"]);
    assert_eq!(verified["verdict"], "whole", "{verified}");
}
