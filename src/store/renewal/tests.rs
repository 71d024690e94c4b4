use super::{Found, Peppered};
use crate::domain::TenantStatus;
use crate::secret::hash::{Digests, Pepper, Peppers};
use crate::store::PlatformToken;
use crate::store::testing::{TestStore, key, on_both, tenant};

on_both! {
    a_key_under_an_old_pepper_is_found_and_renewed_once,
    a_token_under_an_old_pepper_is_found_and_renewed,
    what_may_still_be_used_is_counted_by_its_pepper,
}

fn pepper(version: u8) -> Pepper {
    Pepper::new(version.into(), &[version; 32])
}

fn digests(current: u8, others: &[u8], text: &str) -> Digests {
    Peppers::new(pepper(current), others.iter().map(|version| pepper(*version))).digests(text.as_bytes())
}

async fn a_key_under_an_old_pepper_is_found_and_renewed_once(store: TestStore) {
    let acme = tenant("acme");
    let (ci, other) = (key(&acme, "ci"), key(&acme, "other"));
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    for (key, text) in [(&ci, "ci"), (&other, "other")] {
        tx.insert_key(key, &pepper(1).digest(text.as_bytes()), 1).await.unwrap();
    }
    tx.commit().await.unwrap();
    let before = store.latest_change().await.unwrap();
    let found = async |digests: &Digests| store.read().await.unwrap().key_by_digests(digests).await.unwrap();

    assert_eq!(found(&digests(2, &[], "ci")).await, None, "without the old pepper");
    let new = digests(2, &[3, 1], "ci");
    let Some(Found { what, renewal: Some(renewal) }) = found(&new).await else { panic!("not to be renewed") };
    assert_eq!(what, ci);
    assert_eq!(store.renew_keys(&[renewal]).await.unwrap(), 1);
    assert_eq!(store.renew_keys(&[renewal]).await.unwrap(), 0, "twice is once");
    assert_eq!(found(&new).await, Some(Found { what: ci.clone(), renewal: None }));
    assert_eq!(found(&digests(2, &[], "ci")).await.map(|found| found.what), Some(ci.clone()));
    let behind = digests(1, &[2], "ci");
    assert_eq!(
        found(&behind).await,
        Some(Found { what: ci, renewal: None }),
        "whoever is behind renews nothing"
    );
    assert_eq!(found(&digests(1, &[], "other")).await.map(|found| found.what), Some(other));
    assert_eq!(store.latest_change().await.unwrap(), before, "it concerns nobody");
}

async fn a_token_under_an_old_pepper_is_found_and_renewed(store: TestStore) {
    let token = PlatformToken { id: uuid::Uuid::max(), name: "bootstrap".to_owned() };
    let (old, new) = (pepper(1).digest(b"token"), digests(2, &[1], "token"));
    let mut tx = store.begin().await.unwrap();
    tx.insert_platform_token(&token, &old, 1, tenant("acme").created_at).await.unwrap();
    let Some(Found { what, renewal: Some(renewal) }) = tx.platform_token_by_digests(&new).await.unwrap()
    else {
        panic!("not to be renewed")
    };
    assert_eq!(what, token);
    tx.renew_platform_token(renewal).await.unwrap();
    tx.commit().await.unwrap();
    let found =
        store.read().await.unwrap().platform_token_by_digests(&digests(2, &[], "token")).await.unwrap();
    assert_eq!(found, Some(Found { what: token, renewal: None }));
}

async fn what_may_still_be_used_is_counted_by_its_pepper(store: TestStore) {
    let (acme, mut gone) = (tenant("acme"), tenant("gone"));
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.insert_tenant(&gone, 30).await.unwrap();
    let keys = [(&acme, 1), (&acme, 2), (&acme, 2), (&acme, 1), (&gone, 1)];
    let mut made = Vec::new();
    for (number, (tenant, version)) in keys.into_iter().enumerate() {
        let name = number.to_string();
        let one = key(tenant, &name);
        tx.insert_key(&one, &pepper(version).digest(name.as_bytes()), version.into()).await.unwrap();
        made.push(one.id);
    }
    let token = PlatformToken { id: uuid::Uuid::max(), name: "bootstrap".to_owned() };
    tx.insert_platform_token(&token, &pepper(1).digest(b"token"), 1, acme.created_at).await.unwrap();
    tx.revoke_key(made[0], acme.created_at).await.unwrap();
    gone.status = TenantStatus::Deleted;
    tx.update_tenant(&gone, 30).await.unwrap();
    tx.commit().await.unwrap();
    let peppered = store.read().await.unwrap().peppered().await.unwrap();
    let expected = [(1, 1, 1), (2, 2, 0)];
    let expected =
        expected.map(|(version, keys, platform_tokens)| Peppered { version, keys, platform_tokens });
    assert_eq!(peppered, expected);
}
