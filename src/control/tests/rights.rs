//! Who may do what, and to whom.

use std::time::Duration;

use super::{House, by_id, fields, limit, named, of_tenant, quota, resource};
use crate::control::{
    ControlError, KeyChange, NewKey, NewTenant, Permissions, Principal, TenantChange, TenantRef,
};
use crate::domain::{ActorKind, AuditOutcome, KeyLimits, Limit, Role, Tenant, TenantStatus};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditFilter, Page, TenantFilter, TenantSort};

on_both! {
    another_tenants_things_do_not_exist,
    a_tenants_admin_may_not_change_what_the_tenant_is_sold,
    a_key_administers_by_its_scope_while_it_and_its_tenant_are_good,
    a_platform_token_is_made_once_and_opens_everything,
    a_configured_token_is_good_until_another_one_is_configured,
    a_reseller_looks_after_the_tenants_below_its_own_and_no_others,
    a_reseller_carves_no_more_than_it_has,
    nobody_makes_a_key_that_may_do_more_than_they_may,
}

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
