//! Invoices of many tenants: all of them are finalized by one look, each once.
//!
//! For figures: `BILLING_TENANTS=10000 tests/run -- cargo test --test it slow::billing -- --nocapture`.

use std::time::Instant;

use tollgate::control::{NewSpendCap, NewTenant, Principal, TenantRef};
use tollgate::domain::billing::AtCap;
use tollgate::domain::{Actor, Enforcement, Period};
use tollgate::store::Page;

use crate::calendar::Calendar;
use crate::store::set_up_and_migrated;
use crate::support::until;

const TENANTS: usize = 200;

#[test]
fn all_tenants_whose_period_is_over_get_their_invoice_once() {
    let number = std::env::var("BILLING_TENANTS").map_or(TENANTS, |text| text.parse().expect("a number"));
    let (_postgres, store) = set_up_and_migrated();
    let calendar = Calendar::on(Some(&store), "2026-11-01T00:00:00Z", "");
    let control = calendar.gateway().control();
    let test = Principal::platform(Actor::system("test"), uuid::Uuid::nil());
    let tenants: Vec<_> = calendar.wait_for(async {
        let tiers = control.tiers(&test).await.expect("tiers");
        let mut pro = tiers.into_iter().find(|tier| tier.slug == "pro").expect("pro");
        for quota in pro.quotas.iter_mut().filter(|quota| quota.period == Period::Month) {
            quota.enforcement = Enforcement::Soft;
            quota.overage = Some("0.40 per 1000".parse().expect("a price"));
        }
        control.set_tier(&test, pro).await.expect("a new version");
        let mut tenants = Vec::new();
        for at in 0..number {
            let new = NewTenant {
                name: format!("Tenant {at}"),
                tier: Some("pro".to_owned()),
                ..NewTenant::default()
            };
            tenants.push(TenantRef::Id(control.create_tenant(&test, new).await.expect("a tenant").id));
        }
        tenants
    });
    let invoices = |tenant: &TenantRef| {
        let listed = calendar.wait_for(control.invoices(&test, tenant, None, &Page::default()));
        listed.expect("a list").items.len()
    };
    let watched = |what: &str, after: &str| {
        calendar.clock.set(after);
        let watch = Instant::now();
        calendar.wait_for(control.watch()).expect("it is watched");
        println!("{what}: {:?}", watch.elapsed());
    };
    watched("watching all of them, no cap", "2026-11-01T00:10:00Z");
    let capped = tenants.iter().step_by(10);
    let stop = NewSpendCap { amount: "500".to_owned(), then: AtCap::Stop, shares: None };
    let caps = Instant::now();
    for tenant in capped.clone() {
        calendar.wait_for(control.set_spend_cap(&test, tenant, &stop)).expect("a cap");
    }
    println!("{} caps set: {:?}", capped.len(), caps.elapsed());
    watched("watching all of them, a tenth with a cap that stops", "2026-11-01T00:20:00Z");
    watched("the same again", "2026-11-01T00:30:00Z");
    let nothing = Instant::now();
    calendar.wait_for(control.keep_billing()).expect("nothing is due");
    println!("{number} tenants of whom nothing is due: {:?}", nothing.elapsed());
    calendar.clock.set("2026-12-02T00:00:00Z");
    let due = Instant::now();
    calendar.wait_for(control.keep_billing()).expect("it is kept");
    // The gateway's own keeper may have been first.
    until("the last one has its invoice", || (invoices(tenants.last().expect("some")) == 1).then_some(()));
    println!("{number} tenants of whom all are due: {:?}", due.elapsed());
    assert!(tenants.iter().all(|tenant| invoices(tenant) == 1));
    calendar.clock.set("2026-12-02T01:00:00Z");
    calendar.wait_for(control.keep_billing()).expect("it is kept again");
    assert!(tenants.iter().all(|tenant| invoices(tenant) == 1), "once");
}
