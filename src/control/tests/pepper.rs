//! An exchange of the pepper: what was made under the old one stays good.

use std::sync::Arc;

use super::{House, by_id};
use crate::control::{Brought, Control, ControlError, NewKey};
use crate::domain::KeyLimits;
use crate::secret::hash::{Pepper, Peppers};
use crate::store::testing::{TestStore, on_both};

on_both! {
    credentials_under_an_old_pepper_are_good_and_are_renewed_when_they_come,
    what_was_brought_under_an_old_pepper_is_not_brought_again,
}

impl House {
    /// The control plane with pepper 2, and with pepper 1 as well if it still is configured.
    fn exchanged(&self, old: impl IntoIterator<Item = Pepper>) -> Control {
        let peppers = Peppers::new(Pepper::new(2, &[8; 32]), old);
        Control::new((*self.store).clone(), Arc::new(self.clock.clone()), peppers, self.changed.clone())
    }
}

async fn credentials_under_an_old_pepper_are_good_and_are_renewed_when_they_come(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let limits = KeyLimits { scopes: vec!["admin".to_owned()], ..KeyLimits::default() };
    let new = NewKey { name: "boss".to_owned(), limits, ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new).await.unwrap().text;
    let token = house.control.ensure_platform_token(None).await.unwrap().unwrap();
    let (both, new) = (house.exchanged([Pepper::new(1, &[7; 32])]), house.exchanged([]));
    for credential in [&*key, &token] {
        assert_eq!(new.authenticate(credential).await.unwrap(), None, "before it came");
        assert!(both.authenticate(credential).await.unwrap().is_some());
        assert_eq!(
            new.authenticate(credential).await.unwrap(),
            both.authenticate(credential).await.unwrap(),
            "afterwards the old pepper may be gone"
        );
        assert!(house.control.authenticate(credential).await.unwrap().is_none());
    }

    let configured = "c".repeat(32);
    house.control.ensure_platform_token(Some(&configured)).await.unwrap();
    both.ensure_platform_token(Some(&configured)).await.unwrap();
    assert!(new.authenticate(&configured).await.unwrap().is_some());
}

async fn what_was_brought_under_an_old_pepper_is_not_brought_again(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let named = || NewKey { name: "mesh".to_owned(), ..NewKey::default() };
    let name = Brought::Certificate("orders.test".to_owned());
    house.control.import_key(&house.owner, &by_id(&acme), named(), &name).await.unwrap();
    let both = house.exchanged([Pepper::new(1, &[7; 32])]);
    let again = both.import_key(&house.owner, &by_id(&acme), named(), &name).await.unwrap_err();
    assert!(matches!(again, ControlError::Conflict(_)), "{again:?}");
}
