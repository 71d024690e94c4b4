use super::{OwnQuota, QuotaSource, in_force};
use crate::clock::Timestamp;
use crate::domain::{
    ApiKeyId, Enforcement, Limit, LossPolicy, Owner, Period, Quota, Tenant, TenantId, TierQuota, Units,
};
use crate::store::testing::{TestStore, at, key, on_both, tenant};
use uuid::Uuid;

on_both! {
    the_version_of_a_limit_rises_across_its_removal,
    a_revoked_keys_quota_is_not_listed,
}

const TENANT: TenantId = TenantId(Uuid::nil());
const KEY: ApiKeyId = ApiKeyId(Uuid::max());

fn limit(units: u64) -> Limit {
    Limit::Of(Units::new(units).unwrap())
}

fn of_tier(units: u64) -> TierQuota {
    let resource = "api_calls".parse().unwrap();
    TierQuota {
        resource,
        limit: limit(units),
        period: Period::Month,
        enforcement: Enforcement::Hard,
        on_loss: None,
        overage: None,
        charge_by: None,
    }
}

fn own(owner: Owner, period: Period, units: u64, expires_at: Option<Timestamp>) -> OwnQuota {
    let resource = "api_calls".parse().unwrap();
    let quota = Quota {
        owner,
        resource,
        period,
        limit: limit(units),
        enforcement: Enforcement::Soft,
        on_loss: Some(LossPolicy::Open),
        is_capped: false,
    };
    OwnQuota { quota, version: 1, reason: None, expires_at }
}

fn check(own: &[OwnQuota], now: &str, expected: &[(Owner, Period, u64, QuotaSource)]) {
    let quotas = in_force(TENANT, &[of_tier(1_000)], own.to_vec(), at(now));
    let found: Vec<_> = quotas
        .iter()
        .map(|one| {
            let Quota { owner, period, limit, .. } = one.quota;
            (owner, period, limit.units().unwrap().get(), one.source)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_tiers_quota_is_in_force_where_there_is_no_other() {
    check(&[], "2026-11-23T06:00:00Z", &[(Owner::Tenant(TENANT), Period::Month, 1_000, QuotaSource::Tier)]);
}

#[test]
fn an_override_takes_the_place_of_the_tiers_quota_until_it_expires() {
    let end = at("2026-12-01T00:00:00Z");
    let own = own(Owner::Tenant(TENANT), Period::Month, 5_000, Some(end));
    let overridden = (Owner::Tenant(TENANT), Period::Month, 5_000, QuotaSource::Override);
    check(std::slice::from_ref(&own), "2026-11-30T23:59:59.999999Z", &[overridden]);
    let of_tier = (Owner::Tenant(TENANT), Period::Month, 1_000, QuotaSource::Tier);
    check(&[own], "2026-12-01T00:00:00Z", &[of_tier]);
}

#[test]
fn a_quota_of_another_period_or_owner_stands_beside() {
    check(
        &[own(Owner::Tenant(TENANT), Period::Day, 50, None), own(Owner::Key(KEY), Period::Month, 10, None)],
        "2026-11-23T06:00:00Z",
        &[
            (Owner::Tenant(TENANT), Period::Day, 50, QuotaSource::Override),
            (Owner::Tenant(TENANT), Period::Month, 1_000, QuotaSource::Tier),
            (Owner::Key(KEY), Period::Month, 10, QuotaSource::Key),
        ],
    );
}

async fn stored(store: &TestStore) -> Tenant {
    let acme = tenant("acme");
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.commit().await.unwrap();
    acme
}

async fn the_version_of_a_limit_rises_across_its_removal(store: TestStore) {
    let acme = stored(&store).await;
    let own = own(Owner::Tenant(acme.id), Period::Month, 5_000, None);
    let mut tx = store.begin().await.unwrap();
    tx.set_own_quota(acme.id, &own, acme.created_at).await.unwrap();
    tx.remove_own_quota(acme.id, &own, acme.created_at).await.unwrap();
    assert_eq!(tx.own_quotas(acme.id).await.unwrap(), []);
    tx.set_own_quota(acme.id, &own, acme.created_at).await.unwrap();
    assert_eq!(tx.own_quotas(acme.id).await.unwrap(), [OwnQuota { version: 3, ..own }]);
}

async fn a_revoked_keys_quota_is_not_listed(store: TestStore) {
    let acme = stored(&store).await;
    let ci = key(&acme, "ci");
    let mut tx = store.begin().await.unwrap();
    tx.insert_key(&ci, &crate::secret::hash::KeyDigest([1; 32]), 1).await.unwrap();
    let own = own(Owner::Key(ci.id), Period::Month, 10, None);
    tx.set_own_quota(acme.id, &own, acme.created_at).await.unwrap();
    let is_listed = |quotas: Vec<super::TenantQuota>| quotas.iter().any(|one| one.source == QuotaSource::Key);
    assert!(is_listed(tx.quotas(&acme, acme.created_at).await.unwrap()));
    tx.revoke_key(ci.id, acme.created_at).await.unwrap();
    assert!(!is_listed(tx.quotas(&acme, acme.created_at).await.unwrap()));
}
