//! Invoices of many tenants: all of them are finalized by one look, each once.
//!
//! For figures: `BILLING_TENANTS=10000 tests/run -- cargo test --test it slow::billing -- --nocapture`.

use std::time::Instant;

use tollgate::control::{NewTenant, Principal, TenantRef};
use tollgate::domain::Actor;
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
        let listed = calendar.wait_for(control.invoices(&test, tenant, &Page::default()));
        listed.expect("a list").items.len()
    };
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
