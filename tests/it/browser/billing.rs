//! Money without a script: the estimate, where its lines come from, and the invoice that it becomes.

use tollgate::control::{NewKey, NewSetting, NewTenant, Principal, TenantRef};
use tollgate::domain::Actor;
use tollgate::store::Page;

use super::pages::look_at;
use super::site::{OWNER, PASSWORD, TOKEN, begin};
use crate::calendar::Calendar;
use crate::support::{Answer, Profile, RawClient, StubUpstream, Tab, until};

fn test() -> Principal {
    Principal::platform(Actor::system("test"), uuid::Uuid::nil())
}

impl Calendar {
    /// A new tenant of that name, and its key.
    pub(super) fn subscriber(&self, name: &str, tier: &str) -> String {
        let (control, test) = (self.gateway().control(), test());
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

#[test]
fn usage_that_was_given_up_is_sent_again_and_settled_without_scripts() {
    let stripe = StubUpstream::answering(|_| {
        Answer::status(400, r#"{"error": {"message": "No such customer: 'cus_acme'"}}"#)
    });
    let more = format!(
        "[control]\nplatform_token = \"{TOKEN}\"\n[billing.export]\nkind = \"stripe\"\nurl = \"{}\"\nsecret = \
         \"sk_test\"\nmeters = {{ api_calls = \"calls\" }}\ninterval = \"1s\"\ndelay = \"0s\"\n",
        stripe.url()
    );
    let calendar = Calendar::with("2026-11-05T06:10:00Z", &more);
    let key = calendar.subscriber("Acme", "pro");
    let control = calendar.gateway().control();
    let (acme, account) = (TenantRef::Slug("acme".parse().expect("a slug")), "cus_acme".into());
    let called = NewSetting { value: account, is_encrypted: None };
    calendar
        .wait_for(control.set_setting(&test(), &acme, "billing_account", called))
        .expect("what it is called there");
    let profile = Profile::without_scripts();
    let tab = calendar.tab(&profile);
    begin(&tab);
    assert_eq!(RawClient::connect(calendar.gateway().report().proxy[0]).get("/", &key).status, 200);
    until("the gateway has told what was used", || {
        tab.open("/console/tenants/acme/billing");
        tab.text().contains("1 used, 10,000 included").then_some(())
    });
    calendar.clock.set("2026-11-05T07:10:00Z");
    log_in(&tab);
    until("it was refused", || {
        tab.open("/console/billing-events?state=dead");
        tab.text().contains("No such customer").then_some(())
    });
    let events = calendar.wait_for(control.billing_events(&test(), None, None, &Page::default()));
    let event = format!("/console/billing-events/{}", events.expect("events").items[0].id);
    tab.open(&event);
    tab.press("Send it again");
    tab.sees("It is on its way again.");
    until("it was refused again", || {
        tab.open(&event);
        tab.offers("Settle it").then_some(())
    });
    tab.press("Settle it");
    tab.sees("usage is settled by hand for a reason: say it");
    tab.choose("What became of it", "abandoned");
    tab.fill("Why", "it was never sold");
    tab.press("Settle it");
    tab.sees("It is settled.");
    tab.sees("it was never sold");
    assert!(!tab.offers("Settle it") && !tab.offers("Send it again"));

    let (with_scripts, mut faults) = (Profile::new(), Vec::new());
    let tab = calendar.tab(&with_scripts);
    log_in(&tab);
    for page in [("billing-events", "/console/billing-events"), ("billing-event", event.as_str())] {
        look_at(&tab, page, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
