//! Manifests that are made true.

use super::{House, fields, of_tenant};
use crate::control::{ControlError, DryRun, Manifest, PlannedAction};
use crate::domain::{Limit, Role, TenantStatus};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditFilter, Page};

on_both! {
    a_manifest_is_made_true_and_a_second_run_plans_nothing,
    a_dry_run_plans_the_same_and_changes_nothing,
    a_changed_manifest_plans_the_difference,
    settings_secrets_and_what_keys_may_are_made_true_and_stay_so,
    a_manifest_with_faults_changes_nothing_and_names_them_all,
    only_the_platform_applies_manifests,
    a_revoked_key_of_the_manifest_is_not_made_again,
}

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
    let actions = |plan: &[crate::control::Planned]| {
        plan.iter().map(|p| (p.action, p.what.clone())).collect::<Vec<_>>()
    };
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
