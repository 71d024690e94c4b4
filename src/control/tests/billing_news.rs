//! What Stripe tells of subscriptions, through the door, with a Stripe that can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};

use super::{House, by_id, named};
use crate::clock::Clock;
use crate::collector::testing::{Collectors, Mood, SECRET};
use crate::collector::{Collector, CollectorSettings};
use crate::control::{Control, ControlError, Heard, NewSetting, NewTenant, News, NewsSettings, OnEnd};
use crate::domain::billing::CollectorKind;
use crate::domain::{AlertKind, Tenant, TenantStatus};
use crate::secret::stripe::signed;
use crate::store::testing::{TestStore, on_both};
use crate::store::{AlertFilter, Page};

on_both! {
    who_does_not_pay_is_told_and_then_suspended_and_served_again_once_it_has_paid,
    in_whatever_order_and_however_often_messages_come_stripes_word_holds,
    what_is_not_stripes_is_not_believed,
    a_message_that_could_not_be_heeded_is_heeded_when_it_comes_again,
    an_answer_to_an_earlier_question_replaces_none_to_a_later_one,
    what_somebody_stopped_is_not_started_by_a_payment,
    a_price_is_a_tier_and_an_end_is_what_is_configured,
}

const DAY: Duration = Duration::from_secs(86_400);
const WHSEC: &str = "whsec_new";

struct Shop {
    house: House,
    stripe: Collectors,
    control: Control,
    acme: Tenant,
    registry: Registry,
}

impl Shop {
    async fn on(store: TestStore) -> Shop {
        Shop::with(store, OnEnd::Suspend).await
    }

    async fn with(store: TestStore, on_end: OnEnd) -> Shop {
        let house = House::on(store);
        let time = house.clock.clone();
        let stripe = Collectors::start(move || time.now().seconds());
        let settings = CollectorSettings {
            kind: CollectorKind::Stripe,
            url: stripe.url(),
            secret: SECRET.to_owned(),
            meters: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            ca: None,
        };
        let collector = Arc::new(Collector::new(settings).unwrap());
        let tiers = [("price_pro", "pro"), ("price_business", "business"), ("price_odd", "nowhere")];
        let settings = NewsSettings {
            secrets: vec!["whsec_old".to_owned(), WHSEC.to_owned()],
            tiers: tiers.map(|(price, tier)| (price.to_owned(), tier.to_owned())).into(),
            on_end,
            grace: DAY * 7,
        };
        let registry = Registry::new();
        let control = house.control.clone().with_news(News::new(collector, settings, &registry));
        let new = NewTenant { tier: Some("pro".to_owned()), ..named("Acme") };
        let acme = house.control.create_tenant(&house.owner, new).await.unwrap();
        let account = NewSetting { value: "cus_1".into(), is_encrypted: None };
        control.set_setting(&house.owner, &by_id(&acme), "billing_account", account).await.unwrap();
        Shop { house, stripe, control, acme, registry }
    }

    /// How the subscription stands from now on.
    fn stands(&self, status: &str) {
        self.stripe.subscription("sub_1", "cus_1", status, &["price_pro"]);
    }

    async fn hears(&self, message: &Value) -> Result<Heard, ControlError> {
        let body = message.to_string();
        let signature = signed(WHSEC, body.as_bytes(), self.house.clock.now());
        self.control.hear_stripe(&signature, body.as_bytes()).await
    }

    async fn tenant(&self) -> Tenant {
        self.control.tenant(&self.house.owner, &by_id(&self.acme)).await.unwrap()
    }

    async fn status(&self) -> TenantStatus {
        self.tenant().await.status
    }

    async fn notices(&self) -> Vec<String> {
        let filter = AlertFilter { kind: Some(AlertKind::Billing), ..AlertFilter::default() };
        let (owner, acme) = (&self.house.owner, by_id(&self.acme));
        let alerts = self.control.alerts(owner, &acme, &filter, &Page::default()).await.unwrap();
        alerts.items.into_iter().map(|alert| alert.summary).collect()
    }

    fn counted(&self, outcome: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "tollgate_billing_news_total").unwrap();
        let of = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == outcome;
        family.get_metric().iter().find(of).unwrap().get_counter().get_value()
    }
}

fn invoice(id: &str, kind: &str) -> Value {
    json!({ "id": id, "type": kind, "data": { "object": {
        "object": "invoice", "customer": "cus_1", "parent": { "subscription_details": { "subscription": "sub_1" } },
    } } })
}

fn subscription(id: &str, kind: &str, of: &str) -> Value {
    json!({ "id": id, "type": kind, "data": { "object": { "id": of, "object": "subscription", "customer": "cus_1" } } })
}

async fn who_does_not_pay_is_told_and_then_suspended_and_served_again_once_it_has_paid(store: TestStore) {
    let shop = Shop::on(store).await;
    shop.stands("past_due");
    assert_eq!(shop.hears(&invoice("evt_1", "invoice.payment_failed")).await.unwrap(), Heard::Heeded);
    assert_eq!(shop.status().await, TenantStatus::PastDue);
    assert_eq!(shop.notices().await, ["A payment has failed. Without one the service ends on 2026-11-30."]);
    shop.house.clock.advance(DAY * 3);
    // It tries again, in vain: the grace is not longer for that, and nothing is told twice.
    assert_eq!(shop.hears(&invoice("evt_2", "invoice.payment_failed")).await.unwrap(), Heard::Heeded);
    assert_eq!((shop.notices().await.len(), shop.control.end_graces().await.unwrap()), (1, 0));
    shop.house.clock.advance(DAY * 4);
    // While Stripe can't be asked, nobody is suspended.
    shop.stripe.fares(Mood::Down);
    assert_eq!(shop.control.end_graces().await.unwrap(), 0);
    assert_eq!(shop.status().await, TenantStatus::PastDue);
    shop.stripe.fares(Mood::Well);
    shop.house.clock.advance(Duration::from_secs(600));
    assert_eq!(shop.control.end_graces().await.unwrap(), 1);
    shop.house.clock.advance(Duration::from_secs(600));
    assert_eq!(shop.control.end_graces().await.unwrap(), 0);
    assert_eq!(shop.status().await, TenantStatus::Suspended);
    let audited = &shop.house.audit(&shop.acme).await[0].row;
    assert_eq!(audited.actor.name, "stripe");
    assert_eq!(audited.reason.as_deref(), Some("unpaid since 2026-11-23, and the grace is over"));
    assert_eq!(shop.notices().await.len(), 2);
    shop.stands("active");
    assert_eq!(shop.hears(&invoice("evt_3", "invoice.paid")).await.unwrap(), Heard::Heeded);
    assert_eq!(shop.status().await, TenantStatus::Active);
    // Another time is another notice.
    shop.stands("past_due");
    shop.hears(&invoice("evt_4", "invoice.payment_failed")).await.unwrap();
    assert_eq!((shop.status().await, shop.notices().await.len()), (TenantStatus::PastDue, 3));
}

async fn in_whatever_order_and_however_often_messages_come_stripes_word_holds(store: TestStore) {
    let shop = Shop::on(store).await;
    shop.stands("active");
    // It has failed, and was paid a moment later; the news of it come the other way round, and twice.
    let (failed, paid) = (invoice("evt_1", "invoice.payment_failed"), invoice("evt_2", "invoice.paid"));
    for (message, expected) in
        [(&paid, Heard::Heeded), (&failed, Heard::Heeded), (&paid, Heard::Known), (&failed, Heard::Known)]
    {
        assert_eq!(shop.hears(message).await.unwrap(), expected);
        assert_eq!(shop.status().await, TenantStatus::Active);
    }
    assert_eq!(shop.notices().await, Vec::<String>::new());
    for (id, kind) in [("evt_3", "charge.refunded"), ("evt_4", "invoice.created")] {
        assert_eq!(shop.hears(&invoice(id, kind)).await.unwrap(), Heard::Unrelated);
    }
    let mut strangers = invoice("evt_5", "invoice.payment_failed");
    strangers["data"]["object"]["customer"] = "cus_9".into();
    assert_eq!(shop.hears(&strangers).await.unwrap(), Heard::Unrelated);
    assert_eq!((shop.counted("heeded"), shop.counted("known"), shop.counted("unrelated")), (2.0, 2.0, 3.0));
}

async fn what_is_not_stripes_is_not_believed(store: TestStore) {
    let shop = Shop::on(store).await;
    shop.stands("past_due");
    let body = invoice("evt_1", "invoice.payment_failed").to_string();
    let now = shop.house.clock.now();
    let old = now.minus(Duration::from_secs(301));
    for (signature, body) in [
        (String::new(), body.as_str()),
        (signed("whsec_other", body.as_bytes(), now), &body),
        (signed(WHSEC, body.as_bytes(), old), &body),
        (signed(WHSEC, b"{}", now), &body),
        (signed(WHSEC, b"not json", now), "not json"),
    ] {
        let refused = shop.control.hear_stripe(&signature, body.as_bytes()).await;
        let is_refused = matches!(refused, Err(ControlError::Unbelievable(_) | ControlError::Invalid(_)));
        assert!(is_refused, "{refused:?}");
    }
    assert_eq!((shop.status().await, shop.counted("refused")), (TenantStatus::Active, 5.0));
    // Signed with the secret that is on its way out.
    let signature = signed("whsec_old", body.as_bytes(), now);
    assert_eq!(shop.control.hear_stripe(&signature, body.as_bytes()).await.unwrap(), Heard::Heeded);
    let without = shop.house.control.hear_stripe(&signature, body.as_bytes()).await;
    assert!(matches!(without, Err(ControlError::NotFound { .. })), "{without:?}");
}

async fn a_message_that_could_not_be_heeded_is_heeded_when_it_comes_again(store: TestStore) {
    let shop = Shop::on(store).await;
    shop.stands("past_due");
    shop.stripe.fares(Mood::Down);
    let message = invoice("evt_1", "invoice.payment_failed");
    let failed = shop.hears(&message).await;
    assert!(matches!(failed, Err(ControlError::Unanswered("Stripe"))), "{failed:?}");
    assert_eq!((shop.status().await, shop.counted("failed")), (TenantStatus::Active, 1.0));
    shop.stripe.fares(Mood::Well);
    assert_eq!(shop.hears(&message).await.unwrap(), Heard::Heeded);
    assert_eq!(shop.status().await, TenantStatus::PastDue);
}

async fn an_answer_to_an_earlier_question_replaces_none_to_a_later_one(store: TestStore) {
    let shop = Shop::on(store).await;
    shop.stands("active");
    // A gateway that heard of the failure has a number, and is slow.
    let store = &shop.house.store;
    let earlier = store.number_question(shop.acme.id).await.unwrap();
    shop.hears(&invoice("evt_2", "invoice.paid")).await.unwrap();
    let standing = store.read().await.unwrap().billing_standing(shop.acme.id).await.unwrap().unwrap();
    assert!(standing.answered > earlier, "{standing:?}");
    let stale = shop.control.answered_late(shop.acme.id, earlier, "sub_1").await.unwrap();
    assert_eq!((stale, shop.status().await), (Heard::Heeded, TenantStatus::Active));
    assert_eq!(store.read().await.unwrap().billing_standing(shop.acme.id).await.unwrap().unwrap(), standing);
}

async fn what_somebody_stopped_is_not_started_by_a_payment(store: TestStore) {
    let shop = Shop::on(store).await;
    let (owner, acme) = (&shop.house.owner, by_id(&shop.acme));
    let suspend = async |why: &str| {
        let why = Some(why.to_owned());
        shop.control.set_status(owner, &acme, TenantStatus::Suspended, why).await.unwrap();
    };
    suspend("abuse").await;
    shop.stands("past_due");
    shop.hears(&invoice("evt_1", "invoice.payment_failed")).await.unwrap();
    shop.stands("active");
    shop.hears(&invoice("evt_2", "invoice.paid")).await.unwrap();
    assert_eq!(shop.status().await, TenantStatus::Suspended);
    // Neither what was suspended for being unpaid first, and then by somebody for something else.
    shop.control.set_status(owner, &acme, TenantStatus::Active, None).await.unwrap();
    shop.stands("past_due");
    shop.hears(&invoice("evt_3", "invoice.payment_failed")).await.unwrap();
    shop.house.clock.advance(DAY * 8);
    assert_eq!(shop.control.end_graces().await.unwrap(), 1);
    shop.control.set_status(owner, &acme, TenantStatus::Active, None).await.unwrap();
    suspend("abuse").await;
    shop.stands("active");
    shop.hears(&invoice("evt_4", "invoice.paid")).await.unwrap();
    assert_eq!(shop.status().await, TenantStatus::Suspended);
}

async fn a_price_is_a_tier_and_an_end_is_what_is_configured(store: TestStore) {
    let shop = Shop::with(store, OnEnd::Cancel).await;
    let updated = |id: &str| subscription(id, "customer.subscription.updated", "sub_1");
    for (number, price, tier) in [
        (1, "price_business", "business"),
        (2, "price_unknown", "business"),
        // A tier that there is not is said in the log; the rest is heeded.
        (3, "price_odd", "business"),
        (4, "price_pro", "pro"),
    ] {
        shop.stripe.subscription("sub_1", "cus_1", "active", &["price_seats", price]);
        assert_eq!(shop.hears(&updated(&format!("evt_{number}"))).await.unwrap(), Heard::Heeded);
        assert_eq!(shop.tenant().await.tier, tier, "{price}");
    }
    // The end of another subscription, which it had before, is not its end.
    shop.stripe.subscription("sub_0", "cus_1", "canceled", &[]);
    let other = subscription("evt_5", "customer.subscription.deleted", "sub_0");
    assert_eq!(shop.hears(&other).await.unwrap(), Heard::Unrelated);
    assert_eq!(shop.status().await, TenantStatus::Active);
    shop.stands("canceled");
    let own = subscription("evt_6", "customer.subscription.deleted", "sub_1");
    assert_eq!(shop.hears(&own).await.unwrap(), Heard::Heeded);
    assert_eq!(shop.status().await, TenantStatus::Cancelled);
}
