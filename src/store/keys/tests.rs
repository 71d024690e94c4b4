use crate::domain::{Enforcement, KeyLimits, Limit, Owner, Period, Quota, Tenant};
use crate::secret::hash::{Digests, KeyDigest, Pepper, Peppers};
use crate::store::sql::query;
use crate::store::testing::{TestStore, at, key, on_both, temporary, tenant};
use crate::store::values::get;
use crate::store::{OwnQuota, Page};

on_both! {
    a_profile_holds_key_tenant_and_both_their_quotas,
    pages_of_keys_hold_each_key_once_newest_first,
    last_use_never_goes_back,
}

const DIGEST: KeyDigest = KeyDigest([7; 32]);

/// Of one text under the pepper of that number.
fn digests(pepper: u8) -> Digests {
    Peppers::from(Pepper::new(pepper.into(), &[pepper; 32])).digests(b"ci")
}

async fn acme_of(store: &TestStore) -> Tenant {
    let acme = tenant("acme");
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.commit().await.unwrap();
    acme
}

async fn a_profile_holds_key_tenant_and_both_their_quotas(store: TestStore) {
    let acme = acme_of(&store).await;
    let mut ci = key(&acme, "ci");
    ci.limits = KeyLimits {
        scopes: vec!["orders:read".to_owned()],
        routes: vec!["orders".to_owned()],
        networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        expires_at: Some(at("2027-01-01T00:00:00Z")),
    };
    let (other, own_end) = (key(&acme, "other"), at("2026-12-24T00:00:00Z"));
    let own = |owner, expires_at| {
        let resource = "api_calls".parse().unwrap();
        let (period, limit, enforcement) = (Period::Minute, Limit::Unlimited, Enforcement::Monitor);
        let quota = Quota { owner, resource, period, limit, enforcement, on_loss: None, is_capped: false };
        OwnQuota { quota, version: 1, reason: None, expires_at }
    };
    let mut tx = store.begin().await.unwrap();
    tx.insert_key(&ci, &digests(1).current().digest, 1).await.unwrap();
    tx.insert_key(&other, &KeyDigest([8; 32]), 1).await.unwrap();
    for one in [own(Owner::Key(ci.id), Some(own_end)), own(Owner::Key(other.id), None)] {
        tx.set_own_quota(acme.id, &one, acme.created_at).await.unwrap();
    }
    tx.commit().await.unwrap();

    let profile = store.key_profile(&digests(1), acme.created_at).await.unwrap().unwrap().what;
    assert_eq!((profile.key.as_ref(), &profile.tenant), (Some(&ci), &acme));
    assert_eq!(profile.quotas.len(), 6, "five of the tier, one of its own: {:?}", profile.quotas);
    assert!(profile.quotas.contains(&own(Owner::Key(ci.id), None).quota));
    assert_eq!(profile.good_until, Some(own_end));
    assert_eq!(store.key_profile(&digests(2), acme.created_at).await.unwrap(), None);
}

#[tokio::test]
async fn a_digest_is_found_by_its_index() {
    let (_directory, store) = temporary().await;
    let mut snapshot = store.read().await.unwrap();
    let plan = query("EXPLAIN QUERY PLAN SELECT * FROM api_keys WHERE digest = $1").bind(DIGEST.0.as_slice());
    let rows = plan.fetch_all(snapshot.connection()).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| get(row, "detail").unwrap()).collect();
    assert!(plan.iter().all(|step| step.starts_with("SEARCH") && step.contains("(digest=?)")), "{plan:?}");
}

async fn pages_of_keys_hold_each_key_once_newest_first(store: TestStore) {
    let acme = acme_of(&store).await;
    let mut tx = store.begin().await.unwrap();
    let mut made = Vec::new();
    for number in 0..7_u8 {
        let one = key(&acme, &number.to_string());
        tx.insert_key(&one, &KeyDigest([number; 32]), 1).await.unwrap();
        made.push(one.id);
    }
    tx.commit().await.unwrap();
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page::new(Some(3), None, cursor.as_deref()).unwrap();
        let listed = store.read().await.unwrap().keys(acme.id, &page).await.unwrap().unwrap();
        seen.extend(listed.items.iter().map(|key| key.id));
        cursor = listed.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    made.reverse();
    assert_eq!(seen, made);
}

async fn last_use_never_goes_back(store: TestStore) {
    let acme = acme_of(&store).await;
    let ci = key(&acme, "ci");
    let mut tx = store.begin().await.unwrap();
    tx.insert_key(&ci, &DIGEST, 1).await.unwrap();
    tx.commit().await.unwrap();
    let (early, late) = (at("2026-11-23T07:00:00Z"), at("2026-11-23T08:00:00Z"));
    for (at, expected) in [(early, early), (late, late), (early, late)] {
        store.set_keys_used(&[(ci.id, at)]).await.unwrap();
        let found = store.read().await.unwrap().key(ci.id).await.unwrap().unwrap();
        assert_eq!(found.last_used_at, Some(expected));
    }
}
