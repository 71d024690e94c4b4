//! API keys.

use std::time::Duration;

use uuid::Uuid;

use super::{House, by_id, fields};
use crate::clock::Clock;
use crate::control::{ControlError, NewKey};
use crate::domain::{ApiKeyId, KeyLimits};
use crate::secret::hash::{Pepper, Peppers};
use crate::store::testing::{TestStore, on_both};

on_both! {
    a_keys_text_is_shown_once_and_opens_its_profile,
    a_revoked_key_stays_revoked_and_is_revoked_once,
    a_key_that_makes_no_sense_is_refused_with_all_its_faults,
}

async fn a_keys_text_is_shown_once_and_opens_its_profile(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let new = NewKey { name: "ci".to_owned(), test: true, ..NewKey::default() };
    let created = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap();
    assert!(created.text.starts_with("tg_test_") && created.text.starts_with(&created.key.prefix));
    let digests = Peppers::from(Pepper::new(1, &[7; 32])).digests(created.text.as_bytes());
    let profile = house.store.key_profile(&digests, house.clock.now()).await.unwrap().unwrap().what;
    assert_eq!((profile.key, profile.tenant.id), (Some(created.key), acme.id));
    assert!(!format!("{:?}", house.audit(&acme).await).contains(&created.text[19..]), "no secret in the log");
}

async fn a_revoked_key_stays_revoked_and_is_revoked_once(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let new = NewKey { name: "ci".to_owned(), ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().key;
    let revoked = house.control.revoke_key(&house.owner, key.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(house.clock.now()));
    let changes = house.changes().await;
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.control.revoke_key(&house.owner, key.id).await.unwrap(), revoked);
    assert_eq!(house.changes().await, changes);
    let unknown = house.control.revoke_key(&house.owner, ApiKeyId(Uuid::max())).await.unwrap_err();
    assert!(matches!(unknown, ControlError::NotFound { what: "key", .. }), "{unknown:?}");
}

async fn a_key_that_makes_no_sense_is_refused_with_all_its_faults(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let limits = KeyLimits {
        scopes: vec!["ok".to_owned(), "not ok".to_owned()],
        routes: vec!["r".to_owned(); 65],
        networks: Vec::new(),
        expires_at: Some(house.clock.now()),
    };
    let new = NewKey { name: String::new(), limits, test: false };
    let error = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap_err();
    assert_eq!(fields(&error), ["name", "scopes[1]", "routes", "expires_at"]);
}
