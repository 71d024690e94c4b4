//! Settings: what holds, what may be set, and what becomes of secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{House, by_id, fields, limit, named, quota, ring};
use crate::control::{Branding, ControlError, NewKey, NewSetting, NewTenant, SettingSource, SettingView};
use crate::domain::{KeyLimits, Tenant, TenantStatus};
use crate::secret::seal::{KeyRing, SealError};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditVerdict, StoredValue};

on_both! {
    what_is_not_set_has_the_tiers_or_the_default_value,
    a_value_must_fit_and_the_tier_caps_it,
    what_a_reseller_sets_is_inherited_as_far_as_it_may_be,
    a_child_looks_like_its_reseller_but_for_what_it_has_set_itself,
    the_cheapest_tier_that_leaves_room_is_recommended,
    gateways_are_told_of_settings_that_they_obey,
    a_change_of_another_version_is_refused_and_a_removal_gives_the_default_back,
    a_secret_is_sealed_shown_to_nobody_and_stays_one,
    a_sealed_value_that_was_moved_does_not_open,
    a_new_ring_key_rewraps_every_tenants_key_and_the_old_one_can_go,
    a_gateway_with_another_key_of_the_same_version_is_refused_before_it_seals_anything,
    an_erased_tenant_has_no_secrets_and_no_personal_data,
    keys_expire_as_soon_as_the_tenant_wants_it,
}

const SECRET: &str = "custom.smtp_password";

impl House {
    async fn set(&self, tenant: &Tenant, key: &str, value: Value) -> Result<SettingView, ControlError> {
        let new = NewSetting { value, is_encrypted: None };
        self.control.set_setting(&self.owner, &by_id(tenant), key, new).await
    }

    async fn seal(&self, tenant: &Tenant, key: &str, value: &str) -> SettingView {
        let new = NewSetting { value: json!(value), is_encrypted: Some(true) };
        self.control.set_setting(&self.owner, &by_id(tenant), key, new).await.unwrap()
    }

    async fn setting(&self, tenant: &Tenant, key: &str) -> SettingView {
        self.control.setting(&self.owner, &by_id(tenant), key).await.unwrap()
    }

    async fn of_tier(&self, name: &str, tier: &str, parent: Option<&Tenant>) -> Tenant {
        let parent = parent.map(|parent| parent.slug.to_string());
        let new = NewTenant { tier: Some(tier.to_owned()), parent, ..named(name) };
        self.control.create_tenant(&self.owner, new).await.unwrap()
    }
}

async fn what_is_not_set_has_the_tiers_or_the_default_value(store: TestStore) {
    let house = House::on(store);
    let acme = house.of_tier("Acme", "pro", None).await;
    let level = house.setting(&acme, "security_level").await;
    assert_eq!(
        (&level.setting_value, level.source, level.is_set),
        (&json!("standard"), SettingSource::Tier, false)
    );
    let prompts = house.setting(&acme, "upgrade_prompts").await;
    assert_eq!((&prompts.setting_value, prompts.source), (&json!(false), SettingSource::Default));
    let missing = house.control.setting(&house.owner, &by_id(&acme), "nonsense").await;
    assert!(matches!(missing, Err(ControlError::NotFound { .. })), "{missing:?}");
}

async fn a_value_must_fit_and_the_tier_caps_it(store: TestStore) {
    let house = House::on(store);
    let acme = house.of_tier("Acme", "pro", None).await;
    for (key, value) in [
        ("security_level", json!("advanced")),
        ("security_level", json!("nonsense")),
        ("key_age_days_max", json!(0)),
        ("branding_color", json!("red")),
        ("upgrade_url", json!("javascript:alert(1)")),
        ("upgrade_prompts", json!("perhaps")),
    ] {
        let refused = house.set(&acme, key, value.clone()).await.unwrap_err();
        assert_eq!(fields(&refused), ["setting_value"], "{key} {value}");
    }
    let lower = house.set(&acme, "security_level", json!("basic")).await.unwrap();
    assert_eq!((lower.setting_value, lower.source), (json!("basic"), SettingSource::Tenant));
    assert_eq!(house.set(&acme, "key_age_days_max", json!("30")).await.unwrap().setting_value, json!(30));
    let before = house.audit(&acme).await.len();
    house.set(&acme, "key_age_days_max", json!(30)).await.unwrap();
    assert_eq!(house.audit(&acme).await.len(), before, "what is so already writes nothing");
}

async fn what_a_reseller_sets_is_inherited_as_far_as_it_may_be(store: TestStore) {
    let house = House::on(store);
    let reseller = house.of_tier("Reseller", "msp", None).await;
    let child = house.of_tier("Child", "free", Some(&reseller)).await;
    house.set(&reseller, "branding_name", json!("Resold")).await.unwrap();
    house.set(&reseller, "key_age_days_max", json!(30)).await.unwrap();
    let name = house.setting(&child, "branding_name").await;
    assert_eq!((&name.setting_value, name.source), (&json!("Resold"), SettingSource::Reseller));
    assert_eq!(name.version, None, "it is not the child's own");
    assert_eq!(house.setting(&child, "key_age_days_max").await.setting_value, Value::Null);
    house.set(&child, "branding_name", json!("Mine")).await.unwrap();
    assert_eq!(house.setting(&child, "branding_name").await.setting_value, json!("Mine"));
}

async fn a_child_looks_like_its_reseller_but_for_what_it_has_set_itself(store: TestStore) {
    let house = House::on(store);
    let reseller = house.of_tier("Reseller", "msp", None).await;
    let child = house.of_tier("Child", "free", Some(&reseller)).await;
    let looks = async |named: &str| house.control.branding(&named.parse().unwrap()).await.unwrap();
    assert_eq!(looks("child").await, Branding::default());
    let logo = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(b"\x89PNG\r\n\x1a\n"));
    house.set(&reseller, "branding_name", json!("Resold\nCalls")).await.unwrap();
    house.set(&reseller, "branding_logo_url", json!(logo)).await.unwrap();
    house.set(&reseller, "branding_color", json!("#0A3D91")).await.unwrap();
    house.set(&child, "branding_color", json!("#0b7a0b")).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let mut expected = Branding {
        name: text("Resold Calls"),
        logo: text(&logo),
        color: text("#0a3d91"),
        ink: text("#ffffff"),
        support_url: None,
    };
    assert_eq!(looks("reseller").await, expected);
    expected.color = text("#0b7a0b");
    assert_eq!(looks(&child.id.to_string()).await, expected);
    assert_eq!(looks("nobody").await, Branding::default());
    let refused = house.set(&child, "branding_logo_url", json!("https://example.com/logo.svg")).await;
    assert_eq!(fields(&refused.unwrap_err()), ["setting_value"]);
}

async fn the_cheapest_tier_that_leaves_room_is_recommended(store: TestStore) {
    let house = House::on(store);
    let acme = house.of_tier("Acme", "free", None).await;
    let found = async || house.control.recommended_tier(&house.owner, &by_id(&acme)).await.unwrap();
    house.uses(&acme, 1, 799).await;
    assert_eq!((found().await.recommended_tier, found().await.short.len()), (None, 0), "below 80 %");
    house.uses(&acme, 1, 1).await;
    let short = found().await;
    assert_eq!(short.recommended_tier.as_deref(), Some("pro"));
    assert_eq!((short.short.len(), short.short[0].percent, short.upgrade_url), (1, 80.0, None));
    // Four fifths of what pro has, and so no room there either.
    house.uses(&acme, 1, 7_200).await;
    house.set(&acme, "upgrade_url", json!("https://shop.example/{tenant}?id={tenant_id}")).await.unwrap();
    let short = found().await;
    assert_eq!(short.recommended_tier.as_deref(), Some("business"));
    assert_eq!(short.upgrade_url, Some(format!("https://shop.example/acme?id={}", acme.id)));
    house.uses(&acme, 1, 500_000).await;
    assert_eq!(found().await.recommended_tier, None, "only resellers have more");
    let own = quota("api_calls", limit(1));
    house.control.set_quota(&house.owner, &by_id(&acme), own).await.unwrap();
    assert_eq!(found().await.short, [], "a limit of its own stays with any tier");
}

async fn gateways_are_told_of_settings_that_they_obey(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let before = house.changes().await;
    house.set(&acme, "branding_name", json!("Acme")).await.unwrap();
    assert_eq!(house.changes().await, before);
    house.set(&acme, "upgrade_prompts", json!(true)).await.unwrap();
    assert_eq!(house.changes().await, before + 1);
    house.control.remove_setting(&house.owner, &by_id(&acme), "upgrade_prompts").await.unwrap();
    assert_eq!(house.changes().await, before + 2);
}

async fn a_change_of_another_version_is_refused_and_a_removal_gives_the_default_back(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let first = house.set(&acme, "branding_name", json!("A")).await.unwrap().version;
    let second = house.set(&acme, "branding_name", json!("B")).await.unwrap().version;
    assert!(second > first);
    let new = NewSetting { value: json!("C"), is_encrypted: None };
    let stale =
        house.control.expecting(first).set_setting(&house.owner, &by_id(&acme), "branding_name", new).await;
    assert!(matches!(stale, Err(ControlError::Stale { .. })), "{stale:?}");
    let remove = async |version| {
        house.control.expecting(version).remove_setting(&house.owner, &by_id(&acme), "branding_name").await
    };
    assert!(matches!(remove(first).await, Err(ControlError::Stale { .. })));
    remove(second).await.unwrap();
    assert_eq!(house.setting(&acme, "branding_name").await.setting_value, Value::Null);
    assert!(matches!(remove(None).await, Err(ControlError::NotFound { .. })));
}

async fn a_secret_is_sealed_shown_to_nobody_and_stays_one(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let shown = house.seal(&acme, SECRET, "hunter2").await;
    assert_eq!((&shown.setting_value, shown.is_set, shown.is_encrypted), (&Value::Null, true, true));
    assert_eq!(house.control.secret(acme.id, SECRET).await.unwrap().as_deref(), Some("hunter2"));
    let rows = house.store.read().await.unwrap().settings(acme.id).await.unwrap();
    let StoredValue::Sealed { bytes, .. } = &rows[0].value else { panic!("{rows:?}") };
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    assert!(!format!("{:?}", house.audit(&acme).await).contains("hunter2"), "no secret in the log");
    for (key, is_encrypted) in [(SECRET, false), ("support_url", true)] {
        let value = json!("https://help.example.com/");
        let new = NewSetting { value, is_encrypted: Some(is_encrypted) };
        let refused = house.control.set_setting(&house.owner, &by_id(&acme), key, new).await.unwrap_err();
        assert_eq!(fields(&refused), ["is_encrypted"], "{key}");
    }
    // What was a secret is one without saying so again.
    assert!(house.set(&acme, SECRET, json!("y")).await.unwrap().is_encrypted);
    let verdict = house.control.verify_audit(&house.owner, Some(&by_id(&acme)), None).await.unwrap();
    assert!(matches!(verdict.0, AuditVerdict::Whole { .. }), "{verdict:?}");
}

async fn a_sealed_value_that_was_moved_does_not_open(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.tenant("Acme").await, house.tenant("Other").await);
    house.seal(&acme, SECRET, "hunter2").await;
    house.seal(&other, SECRET, "letmein").await;
    let mine = house.store.read().await.unwrap().setting(acme.id, SECRET).await.unwrap().unwrap();
    let theirs = house.store.read().await.unwrap().setting(other.id, SECRET).await.unwrap().unwrap();
    let (StoredValue::Sealed { bytes, .. }, StoredValue::Sealed { data_key, .. }) =
        (&mine.value, &theirs.value)
    else {
        panic!("not sealed")
    };
    let moved = [
        (other.id, {
            let mut moved = theirs.clone();
            moved.value = StoredValue::Sealed { data_key: *data_key, bytes: bytes.clone() };
            moved
        }),
        (acme.id, {
            let mut moved = mine.clone();
            "custom.other".clone_into(&mut moved.key);
            moved
        }),
        (acme.id, {
            let mut moved = mine.clone();
            moved.version += 1;
            moved
        }),
    ];
    for (tenant, row) in moved {
        let mut tx = house.store.begin().await.unwrap();
        tx.set_setting(tenant, &row).await.unwrap();
        tx.commit().await.unwrap();
        let opened = house.control.secret(tenant, &row.key).await;
        assert!(matches!(opened, Err(ControlError::Seal(SealError::Unopened))), "{opened:?}");
    }
}

async fn a_new_ring_key_rewraps_every_tenants_key_and_the_old_one_can_go(store: TestStore) {
    let house = House::on(store);
    let tenants = [house.tenant("Acme").await, house.tenant("Other").await];
    for tenant in &tenants {
        house.seal(tenant, SECRET, "hunter2").await;
    }
    let both = house.control.clone().with_secrets(ring(&[1, 2]));
    let rotated = both.rotate_secrets(&house.owner).await.unwrap();
    assert_eq!((rotated.version, rotated.rewrapped), (2, 2));
    assert_eq!(both.rotate_secrets(&house.owner).await.unwrap().rewrapped, 0);
    let new = house.control.clone().with_secrets(ring(&[2]));
    for tenant in &tenants {
        assert_eq!(new.secret(tenant.id, SECRET).await.unwrap().as_deref(), Some("hunter2"));
    }
    let old = house.control.secret(tenants[0].id, SECRET).await;
    assert!(matches!(old, Err(ControlError::Seal(SealError::NoKey(2)))), "{old:?}");
}

async fn a_gateway_with_another_key_of_the_same_version_is_refused_before_it_seals_anything(
    store: TestStore,
) {
    let house = House::on(store);
    let with = |digit: &str| {
        let ring = KeyRing::parse([(1, digit.repeat(64).as_str())]).unwrap();
        house.control.clone().with_secrets(ring)
    };
    let (one, other) = (with("1"), with("2"));
    // A store from before keys were noted: its secrets tell.
    let acme = house.tenant("Acme").await;
    let new = NewSetting { value: json!("hunter2"), is_encrypted: Some(true) };
    one.set_setting(&house.owner, &by_id(&acme), SECRET, new).await.unwrap();
    let refused = other.confirm_secrets().await;
    assert!(matches!(refused, Err(ControlError::Seal(SealError::OtherKey(1)))), "{refused:?}");
    for _ in ["once", "and again"] {
        one.confirm_secrets().await.unwrap();
    }
    // What is noted tells as well, where nothing is sealed any more.
    house.control.set_status(&house.owner, &by_id(&acme), TenantStatus::Deleted, None).await.unwrap();
    house.control.erase_tenant(&house.owner, &by_id(&acme)).await.unwrap();
    let refused = other.confirm_secrets().await;
    assert!(matches!(refused, Err(ControlError::Seal(SealError::OtherKey(1)))), "{refused:?}");
}

async fn an_erased_tenant_has_no_secrets_and_no_personal_data(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { billing_email: Some("pay@acme.example".to_owned()), ..named("Acme") };
    let acme = house.control.create_tenant(&house.owner, new).await.unwrap();
    house.seal(&acme, SECRET, "hunter2").await;
    let early = house.control.erase_tenant(&house.owner, &by_id(&acme)).await;
    assert!(matches!(early, Err(ControlError::Conflict(_))), "{early:?}");
    house.control.set_status(&house.owner, &by_id(&acme), TenantStatus::Deleted, None).await.unwrap();
    for _ in ["once", "and again"] {
        let erased = house.control.erase_tenant(&house.owner, &by_id(&acme)).await.unwrap();
        assert_eq!(
            (erased.name.as_str(), erased.billing_email, &erased.slug),
            ("Erased tenant", None, &acme.slug)
        );
    }
    let mut snapshot = house.store.read().await.unwrap();
    assert_eq!(snapshot.settings(acme.id).await.unwrap(), []);
    assert_eq!(snapshot.data_keys(acme.id).await.unwrap(), []);
}

async fn keys_expire_as_soon_as_the_tenant_wants_it(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let create = async |limits: KeyLimits| {
        let new = NewKey { name: "ci".to_owned(), limits, test: false };
        house.control.create_key(&house.owner, &by_id(&acme), new).await
    };
    let old = create(KeyLimits::default()).await.unwrap().key;
    house.set(&acme, "key_age_days_max", json!(30)).await.unwrap();
    let refused = create(KeyLimits::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["expires_at"]);
    let month = house.control.now().plus(std::time::Duration::from_secs(30 * 86_400));
    create(KeyLimits { expires_at: Some(month), ..KeyLimits::default() }).await.unwrap();
    let rotated = house.control.rotate_key(&house.owner, old.id, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(rotated.key.limits.expires_at, Some(month));
}
