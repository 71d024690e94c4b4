//! Money without a script: the estimate, where its lines come from, and the invoice that it becomes.

use tollgate::control::{NewKey, NewTenant, Principal, TenantRef};
use tollgate::domain::Actor;

use super::pages::look_at;
use super::site::{OWNER, PASSWORD, TOKEN, begin};
use crate::calendar::Calendar;
use crate::support::{Profile, RawClient, Tab, until};

impl Calendar {
    /// A new tenant of that name, and its key.
    pub(super) fn subscriber(&self, name: &str, tier: &str) -> String {
        let control = self.gateway().control();
        let test = Principal::platform(Actor::system("test"), uuid::Uuid::nil());
        self.wait_for(async {
            let tier = Some(tier.to_owned());
            let new = NewTenant { name: name.to_owned(), tier, ..NewTenant::default() };
            let tenant = TenantRef::Id(control.create_tenant(&test, new).await.expect("a tenant").id);
            let key = NewKey { name: "test".to_owned(), ..NewKey::default() };
            control.create_key(&test, &tenant, key).await.expect("a key").text
        })
    }

    pub(super) fn tab(&self, profile: &Profile) -> Tab {
        profile.tab(&format!("http://{}", self.gateway().report().admin))
    }
}

/// Sessions end sooner than months.
#[track_caller]
pub(super) fn log_in(tab: &Tab) {
    tab.open("/console/log-in");
    tab.fill("E-mail address", OWNER);
    tab.fill("Password", PASSWORD);
    tab.press("Log in");
}

#[test]
fn from_the_estimate_to_an_invoice_that_is_verified_without_scripts() {
    let calendar =
        Calendar::with("2026-11-05T06:00:00Z", &format!("[control]\nplatform_token = \"{TOKEN}\"\n"));
    let key = calendar.subscriber("Acme", "pro");
    for _ in 0..3 {
        assert_eq!(RawClient::connect(calendar.gateway().report().proxy[0]).get("/", &key).status, 200);
    }
    let profile = Profile::without_scripts();
    let tab = calendar.tab(&profile);
    begin(&tab);
    let billing = "/console/tenants/acme/billing";
    until("the gateway has told what was used", || {
        tab.open(billing);
        tab.text().contains("3 used, 10,000 included").then_some(())
    });
    tab.sees("299.00 USD");
    tab.sees("5 Nov 2026 to 4 Dec 2026");
    tab.press("What was counted, line 3");
    tab.sees("API calls: what was counted");
    assert_eq!(tab.text_of("main tbody td"), "3");

    calendar.clock.set("2026-12-06T06:00:00Z");
    log_in(&tab);
    tab.open(billing);
    tab.press("Finalize the invoice");
    tab.sees("The invoice is final");
    tab.sees("3 used, 10,000 included");
    let invoice = tab.path();
    tab.press("What was counted, line 3");
    assert_eq!(tab.text_of("main tbody td"), "3");
    tab.open(&invoice);
    tab.press("Verify the invoice");
    tab.sees("It is what was counted.");
    tab.press("Print");
    tab.sees("Total");
    tab.open(&invoice);
    tab.press("Note that it was paid");
    tab.sees("It is noted that the invoice was paid.");
    assert!(!tab.offers("Take the invoice back"));

    let (with_scripts, mut faults) = (Profile::new(), Vec::new());
    let tab = calendar.tab(&with_scripts);
    log_in(&tab);
    let verified = format!("{invoice}?verify=yes");
    for page in [("invoices", billing), ("invoice", invoice.as_str()), ("invoice-verified", &verified)] {
        look_at(&tab, page, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
