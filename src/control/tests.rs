//! The room through its door, over a real store.

mod alerts;
mod analytics;
mod billing;
mod billing_news;
mod bulk;
mod glance;
mod people;
mod reports;
mod sessions;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Brought, Control, ControlError, DryRun, KeyChange, Manifest, NewKey, NewTenant, Permissions,
    PlannedAction, Principal, QuotaChange, QuotaUse, Rights, TenantChange, TenantRef,
};
use crate::clock::{Clock, TestClock};
use crate::domain::{
    AccountKey, Actor, ActorKind, ApiKeyId, AuditOutcome, Enforcement, KeyLimits, Limit, Owner, Period,
    Resource, Role, Tenant, TenantId, TenantStatus, Units,
};
use crate::secret::hash::{Pepper, Peppers};
use crate::secret::seal::KeyRing;
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Page, QuotaSource, TenantFilter, TenantSort};
use crate::till::{Charge, Opening, Till, TillSettings, reserve};

on_both! {
    a_new_tenant_is_active_on_the_free_tier_and_has_its_quotas,
    a_tenant_is_found_by_id_and_by_slug,
    tier_aliases_are_understood,
    concurrent_tenants_of_one_name_get_distinct_slugs,
    a_slug_that_was_asked_for_and_is_taken_is_a_conflict,
    all_faults_are_named_at_once_and_nothing_is_left_behind,
    only_a_resellers_tier_may_have_tenants_below_it,
    a_change_touches_what_it_names_and_raises_the_version,
    a_change_of_an_older_version_is_refused,
    a_tier_change_is_in_force_at_once_and_keeps_overrides,
    a_tenant_is_suspended_for_a_reason_only,
    a_deleted_tenant_is_a_tombstone,
    lists_are_filtered_sorted_and_paged,
    another_lists_cursor_is_refused,
    an_override_takes_period_and_enforcement_from_the_tier_and_expires,
    setting_a_quota_raises_the_tenants_version_once,
    a_quota_that_makes_no_sense_is_refused,
    a_removed_quota_gives_the_tiers_back,
    a_keys_quota_stands_beside_the_tenants,
    use_comes_from_the_till_when_it_holds_the_account,
    a_keys_text_is_shown_once_and_opens_its_profile,
    a_revoked_key_stays_revoked_and_is_revoked_once,
    a_key_that_makes_no_sense_is_refused_with_all_its_faults,
    another_tenants_things_do_not_exist,
    a_tenants_admin_may_not_change_what_the_tenant_is_sold,
    a_key_administers_by_its_scope_while_it_and_its_tenant_are_good,
    a_platform_token_is_made_once_and_opens_everything,
    a_configured_token_is_good_until_another_one_is_configured,
    every_change_is_audited_told_and_verifiable,
    a_manifest_is_made_true_and_a_second_run_plans_nothing,
    a_dry_run_plans_the_same_and_changes_nothing,
    a_changed_manifest_plans_the_difference,
    settings_secrets_and_what_keys_may_are_made_true_and_stay_so,
    a_manifest_with_faults_changes_nothing_and_names_them_all,
    only_the_platform_applies_manifests,
    a_reseller_looks_after_the_tenants_below_its_own_and_no_others,
    a_reseller_carves_no_more_than_it_has,
    nobody_makes_a_key_that_may_do_more_than_they_may,
    a_revoked_key_of_the_manifest_is_not_made_again,
    ids_are_in_the_order_of_their_making_within_one_instant,
    credentials_under_an_old_pepper_are_good_and_are_renewed_when_they_come,
    what_was_brought_under_an_old_pepper_is_not_brought_again,
}

struct House {
    control: Control,
    store: TestStore,
    clock: TestClock,
    changed: Arc<Notify>,
    owner: Principal,
    directory: TempDir,
}

impl House {
    fn on(store: TestStore) -> House {
        let directory = tempfile::tempdir().unwrap();
        let (clock, changed) = (TestClock::at("2026-11-23T06:00:00Z"), Arc::new(Notify::new()));
        let pepper = Pepper::new(1, &[7; 32]);
        let control = Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), changed.clone());
        let control = control.with_secrets(ring(&[1]));
        let owner = Principal::platform(Actor::system("test"), Uuid::max());
        House { control, store, clock, changed, owner, directory }
    }

    async fn tenant(&self, name: &str) -> Tenant {
        self.control.create_tenant(&self.owner, named(name)).await.unwrap()
    }

    async fn audit(&self, tenant: &Tenant) -> Vec<AuditEntry> {
        self.control
            .audit_logs(&self.owner, &by_id(tenant), &AuditFilter::default(), &Page::default())
            .await
            .unwrap()
            .items
    }

    async fn quota(&self, tenant: &Tenant, resource: &str) -> QuotaUse {
        let quotas = self.control.quotas(&self.owner, &by_id(tenant)).await.unwrap();
        quotas.into_iter().find(|quota| quota.resource_type.as_str() == resource).unwrap()
    }

    async fn apply(&self, manifest: &str, dry_run: DryRun) -> Vec<super::Planned> {
        let manifest: Manifest = toml::from_str(manifest).unwrap();
        self.control.apply(&self.owner, manifest, dry_run).await.unwrap()
    }

    /// How often the store has changed for gateways.
    async fn changes(&self) -> i64 {
        self.store.latest_change().await.unwrap()
    }
}

/// A ring of these versions.
fn ring(versions: &[i64]) -> KeyRing {
    let texts: Vec<_> = versions.iter().map(|version| format!("{version:064x}")).collect();
    KeyRing::parse(versions.iter().copied().zip(texts.iter().map(String::as_str))).unwrap()
}

fn named(name: &str) -> NewTenant {
    NewTenant { name: name.to_owned(), ..NewTenant::default() }
}

fn by_id(tenant: &Tenant) -> TenantRef {
    TenantRef::Id(tenant.id)
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

fn limit(units: u64) -> Limit {
    Limit::Of(Units::new(units).unwrap())
}

fn quota(name: &str, limit: Limit) -> QuotaChange {
    QuotaChange {
        resource: resource(name),
        limit,
        period: None,
        enforcement: None,
        on_loss: None,
        key: None,
        reason: None,
        expires_at: None,
    }
}

fn of_tenant(tenant: &Tenant, role: Role) -> Principal {
    let actor = Actor { kind: ActorKind::ApiKey, name: "ci".to_owned(), ..Actor::system("") };
    let rights = Rights::in_tenant(tenant.id, Permissions::of(role));
    Principal { actor, rights, correlation: Uuid::nil() }
}

fn fields(error: &ControlError) -> Vec<&str> {
    let ControlError::Invalid(faults) = error else { panic!("not invalid: {error:?}") };
    faults.iter().map(|fault| fault.field.as_str()).collect()
}

// === tenants ===

async fn a_new_tenant_is_active_on_the_free_tier_and_has_its_quotas(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme & Sons").await;
    assert_eq!(
        (acme.slug.as_str(), acme.status, acme.tier.as_str()),
        ("acme-sons", TenantStatus::Active, "free")
    );
    let quotas = house.control.quotas(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(quotas.len(), 5);
    let calls = house.quota(&acme, "api_calls").await;
    assert_eq!(
        (calls.limit, calls.used, calls.remaining),
        (limit(1_000), Units::ZERO, Units::new(1_000).ok())
    );
    assert_eq!((calls.percent, calls.source, calls.period), (Some(0.0), QuotaSource::Tier, Period::Month));
    assert_eq!(calls.window.start.to_string(), "2026-11-23T00:00:00.000000Z");
    assert_eq!(calls.window.end.to_string(), "2026-12-23T00:00:00.000000Z");
}

async fn a_tenant_is_found_by_id_and_by_slug(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    for name in [acme.id.to_string(), "acme".to_owned()] {
        let found = house.control.tenant(&house.owner, &name.parse().unwrap()).await.unwrap();
        assert_eq!(found, acme);
    }
}

async fn tier_aliases_are_understood(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { tier: Some("professional".to_owned()), ..named("Acme") };
    assert_eq!(house.control.create_tenant(&house.owner, new).await.unwrap().tier, "pro");
}

async fn concurrent_tenants_of_one_name_get_distinct_slugs(store: TestStore) {
    let house = House::on(store);
    let made = (0..12).map(|_| {
        let (control, owner) = (house.control.clone(), house.owner.clone());
        tokio::spawn(async move { control.create_tenant(&owner, named("Acme")).await })
    });
    let mut slugs = Vec::new();
    for made in made.collect::<Vec<_>>() {
        slugs.push(made.await.unwrap().unwrap().slug.to_string());
    }
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 12, "{slugs:?}");
    assert!(slugs.contains(&"acme".to_owned()) && slugs.contains(&"acme-2".to_owned()), "{slugs:?}");
}

async fn a_slug_that_was_asked_for_and_is_taken_is_a_conflict(store: TestStore) {
    let house = House::on(store);
    house.tenant("Acme").await;
    let new = NewTenant { slug: Some("acme".to_owned()), ..named("Other") };
    let error = house.control.create_tenant(&house.owner, new).await.unwrap_err();
    assert!(matches!(&error, ControlError::Conflict(_)), "{error:?}");
}

async fn all_faults_are_named_at_once_and_nothing_is_left_behind(store: TestStore) {
    let house = House::on(store);
    let before = house.changes().await;
    let new = NewTenant {
        name: " ".to_owned(),
        slug: Some("Not A Slug".to_owned()),
        tier: Some("gold".to_owned()),
        billing_email: Some("nobody".to_owned()),
        contact_phone: Some("call me".to_owned()),
        timezone: Some("Mars/Olympus".to_owned()),
        locale: Some("en_US".to_owned()),
        parent: Some("nobody".to_owned()),
    };
    let error = house.control.create_tenant(&house.owner, new).await.unwrap_err();
    let expected = ["name", "slug", "tier", "billing_email", "contact_phone", "timezone", "locale", "parent"];
    assert_eq!(fields(&error), expected);
    assert_eq!(house.changes().await, before);
    let log = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(log.items, []);
}

async fn only_a_resellers_tier_may_have_tenants_below_it(store: TestStore) {
    let house = House::on(store);
    house.tenant("Plain").await;
    let msp = NewTenant { tier: Some("msp_bundle".to_owned()), ..named("Seller") };
    let msp = house.control.create_tenant(&house.owner, msp).await.unwrap();
    let child = |parent: &str| NewTenant { parent: Some(parent.to_owned()), ..named("Child") };
    let made = house.control.create_tenant(&house.owner, child("seller")).await.unwrap();
    assert_eq!(made.parent, Some(msp.id));
    let error = house.control.create_tenant(&house.owner, child("plain")).await.unwrap_err();
    assert_eq!(fields(&error), ["parent"]);
}

async fn a_change_touches_what_it_names_and_raises_the_version(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { billing_email: Some("a@example.com".to_owned()), ..named("Acme") };
    let acme = house.control.create_tenant(&house.owner, new).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    let change = TenantChange {
        name: Some("Acme Inc".to_owned()),
        billing_email: Some(String::new()),
        locale: Some("de-CH".to_owned()),
        ..TenantChange::default()
    };
    let changed = house
        .control
        .expecting(Some(1))
        .change_tenant(&house.owner, &by_id(&acme), change.clone())
        .await
        .unwrap();
    let expected = Tenant {
        name: "Acme Inc".to_owned(),
        billing_email: None,
        locale: "de-CH".to_owned(),
        updated_at: house.clock.now(),
        version: 2,
        ..acme.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(house.control.tenant(&house.owner, &by_id(&acme)).await.unwrap(), expected);
    let again = house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    assert_eq!(again.version, 2, "what is so already is no change");
    assert_eq!(house.audit(&acme).await.len(), 2);
}

async fn a_change_of_an_older_version_is_refused(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let change = TenantChange { name: Some("B".to_owned()), ..TenantChange::default() };
    let error = house
        .control
        .expecting(Some(7))
        .change_tenant(&house.owner, &by_id(&acme), change)
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::Stale { expected: 7, actual: 1 }), "{error:?}");
}

async fn a_tier_change_is_in_force_at_once_and_keeps_overrides(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("alerts", limit(7))).await.unwrap();
    let change = TenantChange { tier: Some("pro".to_owned()), ..TenantChange::default() };
    house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    let calls = house.quota(&acme, "api_calls").await;
    assert_eq!((calls.limit, calls.source), (limit(10_000), QuotaSource::Tier));
    let alerts = house.quota(&acme, "alerts").await;
    assert_eq!((alerts.limit, alerts.source), (limit(7), QuotaSource::Override));
}

async fn a_tenant_is_suspended_for_a_reason_only(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let suspend = async |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        house.control.set_status(&house.owner, &by_id(&acme), TenantStatus::Suspended, reason).await
    };
    for missing in [None, Some("  ")] {
        assert_eq!(fields(&suspend(missing).await.unwrap_err()), ["reason"]);
    }
    assert_eq!(suspend(Some("unpaid")).await.unwrap().status, TenantStatus::Suspended);
    let log = house.audit(&acme).await;
    assert_eq!(
        (log[0].row.action.as_str(), log[0].row.reason.as_deref()),
        ("tenant.set_status", Some("unpaid"))
    );
    assert_eq!(log[0].row.before, Some(serde_json::json!({"status": "active"})));
    let changes = house.changes().await;
    suspend(None).await.unwrap();
    assert_eq!(
        (house.changes().await, house.audit(&acme).await.len()),
        (changes, log.len()),
        "staying is no change"
    );
}

async fn a_deleted_tenant_is_a_tombstone(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let tenant = by_id(&acme);
    house.control.set_status(&house.owner, &tenant, TenantStatus::Deleted, None).await.unwrap();
    assert_eq!(house.control.tenant(&house.owner, &tenant).await.unwrap().status, TenantStatus::Deleted);
    let list = async |status| {
        let filter = TenantFilter { status, ..TenantFilter::default() };
        house
            .control
            .tenants(&house.owner, &filter, TenantSort::default(), &Page::default())
            .await
            .unwrap()
            .items
            .len()
    };
    assert_eq!((list(None).await, list(Some(TenantStatus::Deleted)).await), (0, 1));
    assert_eq!(house.audit(&acme).await.len(), 2);
    assert_eq!(house.tenant("Acme").await.slug.as_str(), "acme-2");
    let key = house
        .control
        .create_key(&house.owner, &tenant, NewKey { name: "x".to_owned(), ..NewKey::default() })
        .await;
    assert!(matches!(key, Err(ControlError::Conflict(_))));
    let error =
        house.control.set_status(&house.owner, &tenant, TenantStatus::Active, None).await.unwrap_err();
    assert!(matches!(error, ControlError::IllegalMove(_)), "{error:?}");
}

async fn lists_are_filtered_sorted_and_paged(store: TestStore) {
    let house = House::on(store);
    for name in ["Delta", "Alpha", "Charlie", "Bravo_1", "Bravo%2"] {
        house.tenant(name).await;
        house.clock.advance(Duration::from_secs(1));
    }
    let names = async |q: &str, sort: &str| {
        let filter = TenantFilter { q: Some(q.to_owned()), ..TenantFilter::default() };
        let (sort, mut names, mut cursor) = (TenantSort::parse(sort).unwrap(), Vec::new(), None);
        loop {
            let page = Page::new(Some(2), None, cursor.as_deref()).unwrap();
            let listed = house.control.tenants(&house.owner, &filter, sort, &page).await.unwrap();
            assert_eq!(listed.total.is_some(), cursor.is_none(), "the first page counts");
            names.extend(listed.items.into_iter().map(|tenant| tenant.name));
            cursor = listed.next_cursor;
            if cursor.is_none() {
                return names.join(" ");
            }
        }
    };
    assert_eq!(names("", "-created_at").await, "Bravo%2 Bravo_1 Charlie Alpha Delta");
    assert_eq!(names("", "name").await, "Alpha Bravo%2 Bravo_1 Charlie Delta");
    assert_eq!(names("", "-slug").await, "Delta Charlie Bravo%2 Bravo_1 Alpha");
    assert_eq!(names("BRAVO", "name").await, "Bravo%2 Bravo_1");
    assert_eq!(names("%", "name").await, "Bravo%2", "wildcards mean themselves");
    assert_eq!(names("o_1", "name").await, "Bravo_1");
}

async fn another_lists_cursor_is_refused(store: TestStore) {
    let house = House::on(store);
    let (acme, page) = (house.tenant("Acme").await, Page::new(Some(1), None, None).unwrap());
    let change = TenantChange { name: Some("B".to_owned()), ..TenantChange::default() };
    house.control.change_tenant(&house.owner, &by_id(&acme), change).await.unwrap();
    let log =
        house.control.audit_logs(&house.owner, &by_id(&acme), &AuditFilter::default(), &page).await.unwrap();
    let page = Page::new(None, None, log.next_cursor.as_deref()).unwrap();
    let (filter, sort) = (TenantFilter::default(), TenantSort::default());
    let error = house.control.tenants(&house.owner, &filter, sort, &page).await.unwrap_err();
    assert_eq!(fields(&error), ["cursor"]);
    for bad in ["zz", "0", "7b7d", &"00".repeat(2_000)] {
        assert!(Page::new(None, None, Some(bad)).is_err(), "{bad}");
    }
}

// === quotas ===

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

// === an exchange of the pepper ===

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

// === keys ===

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

// === who may ===

async fn another_tenants_things_do_not_exist(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.tenant("Acme").await, house.tenant("Other").await);
    let new = NewKey { name: "ci".to_owned(), ..NewKey::default() };
    let key = house.control.create_key(&house.owner, &by_id(&acme), new.clone()).await.unwrap().key;
    let (eve, acme_ref) = (of_tenant(&other, Role::Admin), by_id(&acme));
    let control = &house.control;
    let changes = house.changes().await;
    let answers = [
        control.tenant(&eve, &acme_ref).await.map(|_| ()),
        control.quotas(&eve, &acme_ref).await.map(|_| ()),
        control.keys(&eve, &acme_ref, &Page::default()).await.map(|_| ()),
        control.audit_logs(&eve, &acme_ref, &AuditFilter::default(), &Page::default()).await.map(|_| ()),
        control.change_tenant(&eve, &acme_ref, TenantChange::default()).await.map(|_| ()),
        control.set_status(&eve, &acme_ref, TenantStatus::Deleted, None).await.map(|_| ()),
        control.set_quota(&eve, &acme_ref, quota("users", limit(1))).await.map(|_| ()),
        control.create_key(&eve, &acme_ref, new).await.map(|_| ()),
        control.revoke_key(&eve, key.id).await.map(|_| ()),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(ControlError::NotFound { .. })), "{at}: {answer:?}");
    }
    assert_eq!(house.changes().await, changes);
    let filter = TenantFilter::default();
    let listed = control.tenants(&eve, &filter, TenantSort::default(), &Page::default()).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&other));
    let denied = house.audit(&other).await;
    assert_eq!(denied.iter().filter(|entry| entry.row.outcome == AuditOutcome::Denied).count(), 9);
    assert_eq!(house.audit(&acme).await.len(), 2, "the victim's log holds only what happened to it");
}

/// A reseller `Seller` with a tenant `Child` below it, and who acts for the reseller.
async fn reselling(house: &House) -> (Tenant, Tenant, Principal) {
    let msp = NewTenant { tier: Some("msp".to_owned()), ..named("Seller") };
    let seller = house.control.create_tenant(&house.owner, msp).await.unwrap();
    let mut agent = of_tenant(&seller, Role::Admin);
    agent.rights.resells = true;
    let child = NewTenant { tier: Some("pro".to_owned()), ..named("Child") };
    let child = house.control.create_tenant(&agent, child).await.unwrap();
    (seller, child, agent)
}

async fn a_reseller_looks_after_the_tenants_below_its_own_and_no_others(store: TestStore) {
    let house = House::on(store);
    let (control, other) = (&house.control, house.tenant("Other").await);
    let (seller, child, agent) = reselling(&house).await;
    assert_eq!(child.parent, Some(seller.id), "what a reseller makes is below it");
    let named_parent = NewTenant { parent: Some("child".to_owned()), ..named("Grandchild") };
    let error = control.create_tenant(&agent, named_parent).await.unwrap_err();
    assert_eq!(fields(&error), ["parent"], "a child's tier is no reseller's");
    let msp = NewTenant { tier: Some("msp".to_owned()), ..named("Rival") };
    assert_eq!(fields(&control.create_tenant(&agent, msp).await.unwrap_err()), ["tier"]);

    let (filter, page) = (TenantFilter::default(), Page::default());
    let mut seen = control.tenants(&agent, &filter, TenantSort::default(), &page).await.unwrap().items;
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(seen, [child.clone(), seller.clone()]);
    let slug: TenantRef = "child".parse().unwrap();
    assert_eq!(control.tenant(&agent, &slug).await.unwrap(), child);
    control.quotas(&agent, &slug).await.unwrap();

    let suspend = TenantStatus::Suspended;
    let why = || Some("unpaid".to_owned());
    assert_eq!(control.set_status(&agent, &slug, suspend, why()).await.unwrap().status, suspend);
    let error = control.set_status(&agent, &slug, TenantStatus::Deleted, None).await.unwrap_err();
    assert_eq!(fields(&error), ["status"]);
    let slug_taken = TenantChange { slug: Some("other".to_owned()), ..TenantChange::default() };
    let error = control.change_tenant(&agent, &slug, slug_taken).await.unwrap_err();
    assert!(matches!(error, ControlError::Conflict(_)), "{error:?}");
    let actors = house.audit(&child).await;
    assert!(actors.iter().all(|entry| entry.row.actor.name == "ci"), "the child sees who it was");

    let error = control.set_status(&agent, &by_id(&seller), suspend, why()).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "not itself: {error:?}");
    for answer in [
        control.tenant(&agent, &by_id(&other)).await.map(drop),
        control.set_status(&agent, &by_id(&other), suspend, why()).await.map(drop),
        control.set_quota(&agent, &by_id(&other), quota("users", limit(1))).await.map(drop),
        control.tenant(&of_tenant(&child, Role::Owner), &by_id(&seller)).await.map(drop),
    ] {
        assert!(matches!(answer, Err(ControlError::NotFound { .. })), "{answer:?}");
    }
    let mut auditor = of_tenant(&seller, Role::Auditor);
    auditor.rights.resells = true;
    control.tenant(&auditor, &slug).await.unwrap();
    let error = control.set_status(&auditor, &slug, TenantStatus::Active, None).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
}

async fn a_reseller_carves_no_more_than_it_has(store: TestStore) {
    let house = House::on(store);
    let (_, child, agent) = reselling(&house).await;
    let sibling = house.control.create_tenant(&agent, named("Sibling")).await.unwrap();
    let carve = async |tenant: &Tenant, limit: Limit| {
        house.control.set_quota(&agent, &by_id(tenant), quota("alerts", limit)).await
    };
    carve(&child, limit(60_000)).await.unwrap();
    for too_much in [limit(40_001), Limit::Unlimited] {
        let error = carve(&sibling, too_much).await.unwrap_err();
        assert_eq!(fields(&error), ["limit"]);
        let left = "limit: 40000 of 100000 alerts per month are left to be carved";
        assert_eq!(error.to_string(), left);
    }
    carve(&sibling, limit(40_000)).await.unwrap();
    carve(&child, limit(59_999)).await.unwrap();
    let (resource, slug) = (resource("alerts"), by_id(&child));
    house.control.remove_quota(&agent, &slug, resource, None, None).await.unwrap();
    carve(&sibling, limit(100_000)).await.unwrap();
}

async fn nobody_makes_a_key_that_may_do_more_than_they_may(store: TestStore) {
    let house = House::on(store);
    let (control, acme) = (&house.control, house.tenant("Acme").await);
    let developer = of_tenant(&acme, Role::Developer);
    let new = |scope: &str| {
        let limits = KeyLimits { scopes: vec![scope.to_owned()], ..KeyLimits::default() };
        NewKey { name: "k".to_owned(), limits, test: false }
    };
    let plain = control.create_key(&developer, &by_id(&acme), new("orders")).await.unwrap().key;
    let admins = control.create_key(&house.owner, &by_id(&acme), new("admin")).await.unwrap().key;
    let widened = KeyChange { scopes: Some(vec!["admin:read".to_owned()]), ..KeyChange::default() };
    for refused in [
        control.create_key(&developer, &by_id(&acme), new("admin")).await.map(drop),
        control.change_key(&developer, plain.id, widened).await.map(drop),
        control.rotate_key(&developer, admins.id, Duration::ZERO).await.map(drop),
    ] {
        assert_eq!(fields(&refused.unwrap_err()), ["scopes"]);
    }
    control.create_key(&of_tenant(&acme, Role::Admin), &by_id(&acme), new("admin")).await.unwrap();
}

async fn a_tenants_admin_may_not_change_what_the_tenant_is_sold(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let (admin, tenant, control) = (of_tenant(&acme, Role::Admin), by_id(&acme), &house.control);
    for change in [
        TenantChange { tier: Some("msp".to_owned()), ..TenantChange::default() },
        TenantChange { timezone: Some("Asia/Tokyo".to_owned()), ..TenantChange::default() },
        TenantChange { slug: Some("other".to_owned()), ..TenantChange::default() },
    ] {
        let error = control.change_tenant(&admin, &tenant, change).await.unwrap_err();
        assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
    }
    let error = control.set_quota(&admin, &tenant, quota("users", Limit::Unlimited)).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
    assert_eq!(error.to_string(), "ci may not do quota.set: only platform_owner may");
    let log = house.audit(&acme).await;
    let denied = log.iter().filter(|entry| entry.row.outcome == AuditOutcome::Denied);
    assert_eq!(denied.count(), 4, "attempts are noted where the tenant sees them");
    let name = TenantChange { name: Some("Acme Inc".to_owned()), ..TenantChange::default() };
    assert_eq!(control.change_tenant(&admin, &tenant, name).await.unwrap().name, "Acme Inc");
}

async fn a_key_administers_by_its_scope_while_it_and_its_tenant_are_good(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let create = async |scopes: &[&str], networks: &[&str]| {
        let limits = KeyLimits {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..KeyLimits::default()
        };
        let new = NewKey { name: "k".to_owned(), limits, test: false };
        house.control.create_key(&house.owner, &TenantRef::Id(acme.id), new).await.unwrap()
    };
    let permissions = async |text: &str| {
        let (rights, actor) = house.control.authenticate(text).await.unwrap()?;
        assert_eq!((rights.tenant, actor.kind), (Some(acme.id), ActorKind::ApiKey));
        Some(rights.permissions)
    };
    let of = |role| Some(Permissions::of(role));
    let (plain, reader, admin) =
        (create(&[], &[]).await, create(&["admin:read"], &[]).await, create(&["admin"], &[]).await);
    assert_eq!(permissions(&plain.text).await, None);
    assert_eq!(permissions(&reader.text).await, of(Role::Auditor));
    assert_eq!(permissions(&admin.text).await, of(Role::Admin));

    let bound = create(&["admin"], &["10.0.0.0/8"]).await;
    assert_eq!(permissions(&bound.text).await, None);
    for (ip, good) in [("10.1.2.3", true), ("192.0.2.1", false)] {
        let found = house.control.authenticate_from(&bound.text, Some(ip.parse().unwrap())).await.unwrap();
        assert_eq!(found.is_some(), good, "{ip}");
    }

    let suspended = TenantStatus::Suspended;
    house
        .control
        .set_status(&house.owner, &by_id(&acme), suspended, Some("unpaid".to_owned()))
        .await
        .unwrap();
    assert_eq!(permissions(&admin.text).await, of(Role::Auditor), "who is suspended may still read");
    house.control.revoke_key(&house.owner, admin.key.id).await.unwrap();
    assert_eq!(permissions(&admin.text).await, None);
    house.control.set_status(&house.owner, &by_id(&acme), TenantStatus::Deleted, None).await.unwrap();
    assert_eq!(permissions(&reader.text).await, None);
}

async fn a_platform_token_is_made_once_and_opens_everything(store: TestStore) {
    let house = House::on(store);
    let token = house.control.ensure_platform_token(None).await.unwrap().unwrap();
    assert_eq!(house.control.ensure_platform_token(None).await.unwrap(), None);
    let (rights, actor) = house.control.authenticate(&token).await.unwrap().unwrap();
    assert_eq!((rights, actor.kind), (house.owner.rights, ActorKind::PlatformToken));
    for bad in ["", "tgp_", &format!("{token}x"), &token[..token.len() - 1]] {
        assert_eq!(house.control.authenticate(bad).await.unwrap(), None, "{bad}");
    }
}

async fn a_configured_token_is_good_until_another_one_is_configured(store: TestStore) {
    let house = House::on(store);
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    let is_good = async |token: &str| house.control.authenticate(token).await.unwrap().is_some();
    assert_eq!(
        fields(&house.control.ensure_platform_token(Some("short")).await.unwrap_err()),
        ["platform_token"]
    );
    for _ in 0..2 {
        assert_eq!(house.control.ensure_platform_token(Some(&one)).await.unwrap(), None);
    }
    assert!(is_good(&one).await);
    house.control.ensure_platform_token(Some(&two)).await.unwrap();
    assert!(!is_good(&one).await && is_good(&two).await);
    let bootstrap = house.control.ensure_platform_token(None).await.unwrap().unwrap();
    assert!(!is_good(&two).await && is_good(&bootstrap).await);
    let log = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(log.items.len(), 5, "three made, two revoked");
}

// === audit, changes ===

async fn every_change_is_audited_told_and_verifiable(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.changed.notified().await;
    let before = house.changes().await;
    house.control.set_quota(&house.owner, &by_id(&acme), quota("users", limit(6))).await.unwrap();
    house.changed.notified().await;
    assert_eq!(house.changes().await, before + 1);
    let log = house.audit(&acme).await;
    let entry = &log[0].row;
    assert_eq!((entry.action.as_str(), entry.target_id.as_str()), ("quota.set", "users/forever"));
    assert_eq!((entry.correlation, entry.at), (Uuid::max(), house.clock.now()));
    assert_eq!(entry.after.as_ref().unwrap()["limit"], 6);
    let verdict = house.control.verify_audit(&house.owner, Some(&by_id(&acme)), None).await.unwrap();
    assert_eq!(verdict.0, AuditVerdict::Whole { rows: 2, pruned: 0, checkpoints: 0 });
}

// === apply ===

const MANIFEST: &str = r#"
[[tenant]]
slug = "acme"
name = "Acme Inc"
tier = "professional"
status = "suspended"
reason = "unpaid"
quota = [{ resource = "api_calls", limit = 5000, reason = "contract" }, { resource = "users" }]
key = [{ name = "ci", limits = { scopes = ["admin:read"] } }]

[[tenant]]
slug = "beta"
status = "trial"
"#;

async fn a_manifest_is_made_true_and_a_second_run_plans_nothing(store: TestStore) {
    let house = House::on(store);
    let plan = house.apply(MANIFEST, DryRun::No).await;
    let what: Vec<_> = plan.iter().map(|planned| planned.what.as_str()).collect();
    let expected = [
        "tenant acme",
        "tenant acme quota api_calls/month",
        "tenant acme quota users/forever",
        "tenant acme key ci",
        "tenant beta",
    ];
    assert_eq!(what, expected);
    assert!(plan.iter().all(|planned| planned.action == PlannedAction::Create));
    let text = plan[3].key.as_deref().unwrap();
    assert!(house.control.authenticate(text).await.unwrap().is_some());
    let acme = house.control.tenant(&house.owner, &"acme".parse().unwrap()).await.unwrap();
    assert_eq!((acme.tier.as_str(), acme.status), ("pro", TenantStatus::Suspended));
    assert_eq!(house.quota(&acme, "users").await.limit, Limit::Unlimited);

    let changes = house.changes().await;
    let again = house.apply(MANIFEST, DryRun::No).await;
    assert_eq!(again.len(), expected.len());
    assert!(again.iter().all(|planned| planned.action == PlannedAction::None && planned.key.is_none()));
    assert_eq!(house.changes().await, changes);
}

async fn a_dry_run_plans_the_same_and_changes_nothing(store: TestStore) {
    let house = House::on(store);
    let changes = house.changes().await;
    let dry = house.apply(MANIFEST, DryRun::Yes).await;
    assert_eq!(house.changes().await, changes);
    assert!(dry.iter().all(|planned| planned.key.is_none()));
    let wet = house.apply(MANIFEST, DryRun::No).await;
    let actions =
        |plan: &[super::Planned]| plan.iter().map(|p| (p.action, p.what.clone())).collect::<Vec<_>>();
    assert_eq!(actions(&dry), actions(&wet));
}

async fn a_changed_manifest_plans_the_difference(store: TestStore) {
    let house = House::on(store);
    house.apply(MANIFEST, DryRun::No).await;
    let plan = house.apply(&MANIFEST.replace("5000", "6000").replace("trial", "active"), DryRun::No).await;
    let changed: Vec<_> = plan.iter().filter(|planned| planned.action == PlannedAction::Change).collect();
    let [calls, beta] = changed[..] else { panic!("{plan:?}") };
    assert_eq!(calls.before, Some(serde_json::json!({"limit": 5000})));
    assert_eq!(calls.after, Some(serde_json::json!({"limit": 6000})));
    assert_eq!(beta.after, Some(serde_json::json!({"status": "active"})));
}

async fn a_manifest_with_faults_changes_nothing_and_names_them_all(store: TestStore) {
    let house = House::on(store);
    let changes = house.changes().await;
    let manifest: Manifest = toml::from_str(
        r#"
        tenant = [
            { slug = "good" },
            { slug = "Bad Slug" },
            { slug = "acme", tier = "gold", billing_email = "x" },
            { slug = "good", quota = [{ resource = "bananas", limit = 1 }], key = [{ name = "" }] },
            { slug = "held", status = "suspended" },
        ]"#,
    )
    .unwrap();
    let error = house.control.apply(&house.owner, manifest, DryRun::No).await.unwrap_err();
    let expected = [
        "tenant[3].slug",
        "tenant[1].slug",
        "tenant[2].tier",
        "tenant[2].billing_email",
        "tenant[3].quota[0].resource_type",
        "tenant[3].key[0].name",
        "tenant[4].reason",
    ];
    assert_eq!(fields(&error), expected);
    assert_eq!(house.changes().await, changes);
    let good = house.control.tenant(&house.owner, &"good".parse().unwrap()).await.unwrap_err();
    assert!(matches!(good, ControlError::NotFound { .. }), "{good:?}");
}

async fn settings_secrets_and_what_keys_may_are_made_true_and_stay_so(store: TestStore) {
    let house = House::on(store);
    let manifest = |scopes: &str, secret: &str, level: &str| {
        format!(
            "[[tenant]]\nslug = \"reseller\"\ntier = \"msp\"\n
             [[tenant]]\nslug = \"acme\"\ntier = \"pro\"\nparent = \"reseller\"\n\
             key = [{{ name = \"ci\"{scopes} }}]\n\
             settings = {{ security_level = \"{level}\", \"custom.color\" = \"red\" }}\n\
             secrets = {{ \"custom.smtp_password\" = \"{secret}\", \"custom.token\" = \"t\" }}\n"
        )
    };
    let changes = async |manifest: &str| {
        let plan = house.apply(manifest, DryRun::No).await;
        let changed = plan.into_iter().filter(|planned| planned.action != PlannedAction::None);
        changed.map(|planned| planned.what).collect::<Vec<_>>()
    };
    let first = manifest("", "hunter2", "basic");
    let made = changes(&first).await;
    assert_eq!(made.len(), 7, "two tenants, a key, four settings: {made:?}");
    assert_eq!(changes(&first).await, [] as [&str; 0], "a secret that is the same is not sealed again");
    let acme = house.control.tenant(&house.owner, &"acme".parse().unwrap()).await.unwrap();
    assert!(acme.parent.is_some());
    let secret = async |key| house.control.secret(acme.id, key).await.unwrap();
    assert_eq!(secret("custom.smtp_password").await.as_deref(), Some("hunter2"));
    assert_eq!(secret("custom.token").await.as_deref(), Some("t"));
    assert_eq!(
        changes(&manifest(", limits = { routes = [\"orders\"] }", "letmein", "standard")).await,
        [
            "tenant acme key ci",
            "tenant acme setting security_level",
            "tenant acme setting custom.smtp_password"
        ]
    );
    assert_eq!(secret("custom.smtp_password").await.as_deref(), Some("letmein"));
    // What a key may is left alone where the manifest says nothing of it.
    assert_eq!(changes(&manifest("", "letmein", "standard")).await, [] as [&str; 0]);
    let plan = house.apply(&manifest("", "other", "standard"), DryRun::Yes).await;
    assert!(!format!("{plan:?}").contains("other"), "no secret in a plan");
    let bad = manifest("", "x", "nonsense").replace("parent = \"reseller\"", "parent = \"acme\"");
    let manifest: Manifest = toml::from_str(&bad).unwrap();
    assert!(!format!("{manifest:?}").contains("\"x\""), "no secret in a manifest that is shown");
    let refused = house.control.apply(&house.owner, manifest, DryRun::No).await.unwrap_err();
    assert_eq!(fields(&refused), ["tenant[1].parent"]);
}

async fn only_the_platform_applies_manifests(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let admin = of_tenant(&acme, Role::Admin);
    let error = house.control.apply(&admin, Manifest::default(), DryRun::Yes).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
    let log = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(log.items.len(), 1);
}

async fn a_revoked_key_of_the_manifest_is_not_made_again(store: TestStore) {
    let house = House::on(store);
    house.apply(MANIFEST, DryRun::No).await;
    let acme = "acme".parse().unwrap();
    let keys = house.control.keys(&house.owner, &acme, &Page::default()).await.unwrap().items;
    house.control.revoke_key(&house.owner, keys[0].id).await.unwrap();
    let again = house.apply(MANIFEST, DryRun::No).await;
    assert!(again.iter().all(|planned| planned.action == PlannedAction::None), "{again:?}");
}

async fn ids_are_in_the_order_of_their_making_within_one_instant(store: TestStore) {
    let house = House::on(store);
    let ids: Vec<_> = (0..1_000).map(|_| TenantId(house.control.new_id())).collect();
    assert!(ids.is_sorted() && ids[0] < ids[999]);
}
