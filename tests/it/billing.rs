//! What tenants owe, by a whole gateway whose clock is told what time it is.

use std::time::Duration;

use tollgate::control::{NewEvent, NewTenant, Principal, TenantRef};
use tollgate::domain::billing::{ChargeBy, Item};
use tollgate::domain::{Actor, Enforcement};

use crate::calendar::Calendar;

#[test]
fn gauges_that_are_reported_are_charged_by_their_average_and_the_invoice_proves_it() {
    let calendar = Calendar::at("2026-11-01T00:00:00Z");
    let control = calendar.gateway().control();
    let test = Principal::platform(Actor::system("test"), uuid::Uuid::nil());
    calendar.wait_for(async {
        let tiers = control.tiers(&test).await.expect("tiers");
        let mut pro = tiers.into_iter().find(|tier| tier.slug == "pro").expect("pro");
        let users = pro.quotas.iter_mut().find(|quota| quota.resource.as_str() == "users").expect("users");
        users.enforcement = Enforcement::Soft;
        users.overage = Some("5.00 per 1".parse().expect("a price"));
        users.charge_by = Some(ChargeBy::Average);
        control.set_tier(&test, pro).await.expect("a new version");
        let new = NewTenant { name: "Acme".to_owned(), tier: Some("pro".to_owned()), ..NewTenant::default() };
        let acme = TenantRef::Id(control.create_tenant(&test, new).await.expect("a tenant").id);
        let report = async |amount| {
            let event = NewEvent {
                resource: "users".parse().expect("users"),
                amount,
                description: None,
                event_id: None,
                occurred_at: None,
            };
            control.increment(&test, &acme, event).await.expect("it counts");
        };
        report(40).await;
        calendar.clock.advance(Duration::from_secs(10 * 86_400));
        report(30).await;
        calendar.clock.advance(Duration::from_secs(10 * 86_400));
        report(-10).await;
        let refused = NewEvent {
            resource: "devices".parse().expect("devices"),
            amount: 101,
            description: None,
            event_id: None,
            occurred_at: None,
        };
        control.increment(&test, &acme, refused).await.expect_err("the limit of devices is hard");
        calendar.clock.advance(Duration::from_secs(11 * 86_400));
        let invoice = control.finalize_invoice(&test, &acme).await.expect("an invoice");
        let gauge = invoice.bill.lines.iter().find_map(|line| match &line.item {
            Item::Gauge { held, .. } => {
                Some((held.told(ChargeBy::Average), held.maximum.get(), line.amount_minor))
            }
            _ => None,
        });
        // 40, 70 and 60 for ten days each: 56 2/3 on average, of which 50 are included.
        assert_eq!(gauge, Some(("56.66".to_owned(), 70, 3_333)));
        let verified = control.verify_invoice(&test, &acme, invoice.id).await.expect("it is verified");
        assert!(verified.agrees, "{verified:?}");
    });
}
