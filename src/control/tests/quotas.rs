//! Quotas: what is allowed, and who said so.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{House, by_id, fields, limit, quota, resource};
use crate::clock::Clock;
use crate::control::{ControlError, NewKey, QuotaChange};
use crate::domain::{AccountKey, Enforcement, Limit, Owner, Period, Units};
use crate::store::QuotaSource;
use crate::store::testing::{TestStore, on_both};
use crate::till::{Charge, Opening, Till, TillSettings, reserve};

on_both! {
    an_override_takes_period_and_enforcement_from_the_tier_and_expires,
    setting_a_quota_raises_the_tenants_version_once,
    a_quota_that_makes_no_sense_is_refused,
    a_removed_quota_gives_the_tiers_back,
    a_keys_quota_stands_beside_the_tenants,
    use_comes_from_the_till_when_it_holds_the_account,
}

async fn an_override_takes_period_and_enforcement_from_the_tier_and_expires(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let until = house.clock.now().plus(Duration::from_secs(3_600));
    let change = QuotaChange {
        reason: Some("launch".to_owned()),
        expires_at: Some(until),
        ..quota("api_calls", limit(5_000))
    };
    let set = house.control.set_quota(&house.owner, &by_id(&acme), change).await.unwrap();
    assert_eq!((set.limit, set.period, set.enforcement), (limit(5_000), Period::Month, Enforcement::Hard));
    assert_eq!((set.reason.as_deref(), set.expires_at), (Some("launch"), Some(until)));
    assert_eq!(house.quota(&acme, "api_calls").await, set);
    house.clock.advance(Duration::from_secs(3_600));
    let calls = house.quota(&acme, "api_calls").await;
    assert_eq!((calls.limit, calls.source), (limit(1_000), QuotaSource::Tier));
}

async fn setting_a_quota_raises_the_tenants_version_once(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    for _ in 0..2 {
        house.control.set_quota(&house.owner, &by_id(&acme), quota("users", Limit::Unlimited)).await.unwrap();
        assert_eq!(house.control.tenant(&house.owner, &by_id(&acme)).await.unwrap().version, 2);
    }
    let users = house.quota(&acme, "users").await;
    assert_eq!((users.limit, users.remaining, users.percent), (Limit::Unlimited, None, None));
}

async fn a_quota_that_makes_no_sense_is_refused(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let past = Some(house.clock.now());
    for (change, faults) in [
        (quota("bananas", limit(1)), &["resource_type"][..]),
        (QuotaChange { period: Some(Period::Month), ..quota("users", limit(1)) }, &["period"]),
        (QuotaChange { expires_at: past, ..quota("api_calls", limit(1)) }, &["expires_at"]),
    ] {
        let error = house.control.set_quota(&house.owner, &by_id(&acme), change).await.unwrap_err();
        assert_eq!(fields(&error), faults);
    }
    let other = QuotaChange { key: Some(Uuid::max()), ..quota("api_calls", limit(1)) };
    let error = house.control.set_quota(&house.owner, &by_id(&acme), other).await.unwrap_err();
    assert!(matches!(error, ControlError::NotFound { what: "key", .. }), "{error:?}");
}

async fn a_removed_quota_gives_the_tiers_back(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let (tenant, calls) = (by_id(&acme), resource("api_calls"));
    house.control.set_quota(&house.owner, &tenant, quota("api_calls", limit(9))).await.unwrap();
    house.control.remove_quota(&house.owner, &tenant, calls, None, None).await.unwrap();
    assert_eq!(house.quota(&acme, "api_calls").await.limit, limit(1_000));
    let error = house.control.remove_quota(&house.owner, &tenant, calls, None, None).await.unwrap_err();
    assert!(matches!(error, ControlError::NotFound { .. }), "{error:?}");
}

async fn a_keys_quota_stands_beside_the_tenants(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let new = NewKey { name: "ci".to_owned(), ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().key;
    let change = QuotaChange { key: Some(key.id.0), ..quota("api_calls", limit(10)) };
    let set = house.control.set_quota(&house.owner, &by_id(&acme), change).await.unwrap();
    assert_eq!((set.source, set.key_id), (QuotaSource::Key, Some(key.id.0)));
    assert_eq!(house.control.quotas(&house.owner, &by_id(&acme)).await.unwrap().len(), 6);
}

async fn use_comes_from_the_till_when_it_holds_the_account(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let till = Till::open(&house.directory.path().join("till"), &TillSettings { accounts_max: 64 }).unwrap();
    let till = Arc::new(till);
    let control = house.control.clone().with_till(till.clone());
    let window = house.quota(&acme, "api_calls").await.window;
    let key = AccountKey { owner: Owner::Tenant(acme.id), resource: resource("api_calls"), window };
    let opening = Opening { terms: Limit::Unlimited.into(), base: Units::new(200).unwrap() };
    let account = till.account(&key, opening).unwrap();
    let units = Units::new(50).unwrap();
    let charge = Charge::new(&account, units, Enforcement::Monitor);
    reserve(&[charge]).unwrap().sent();
    let quotas = control.quotas(&house.owner, &by_id(&acme)).await.unwrap();
    let calls = quotas.iter().find(|quota| quota.resource_type == key.resource).unwrap();
    assert_eq!(
        (calls.used, calls.remaining, calls.percent),
        (Units::new(250).unwrap(), Units::new(750).ok(), Some(25.0))
    );
}
