//! People: invited, joined, changed, gone; and what they may make of each other.

use std::time::Duration;

use uuid::Uuid;

use super::{House, by_id, fields, named, of_tenant};
use crate::control::{ControlError, NewInvitation, NewTenant, Permissions, Person, Principal};
use crate::domain::{ActorKind, AuditOutcome, Membership, Role, RoleName, Tenant, UserId};
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditFilter, Page};

on_both! {
    whoever_brings_an_invitations_token_chooses_a_password_and_is_a_member_once,
    an_invitation_ends_by_time_by_withdrawal_and_by_another_one,
    who_has_a_password_joins_another_tenant_by_showing_it,
    nobody_makes_or_changes_anybody_who_may_do_more,
    the_last_owner_stays,
    no_token_of_a_tenants_opens_the_log_in_of_somebody_who_is_there,
    a_tenant_of_the_highest_level_makes_its_own_roles_within_its_makers_rights,
    the_platforms_people_get_a_token_and_set_their_password_once,
    no_token_and_no_password_is_in_the_database_or_in_the_log,
}

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) fn person() -> Person {
    Person { ip: Some("192.0.2.7".parse().unwrap()), user_agent: None, correlation: Uuid::nil() }
}

fn invitation(email: &str, role: &str) -> NewInvitation {
    NewInvitation { email: email.to_owned(), role: role.to_owned(), valid_for: None }
}

impl House {
    pub(super) async fn invited(&self, tenant: &Tenant, email: &str, role: &str) -> String {
        let new = invitation(email, role);
        self.control.invite(&self.owner, &by_id(tenant), &new).await.unwrap().token
    }

    pub(super) async fn joined(&self, tenant: &Tenant, email: &str, role: &str) -> Membership {
        let token = self.invited(tenant, email, role).await;
        self.control.accept_invitation(&person(), &token, PASSWORD).await.unwrap()
    }

    async fn members(&self, tenant: &Tenant) -> Vec<(String, String)> {
        let listed = self.control.members(&self.owner, &by_id(tenant), &Page::default()).await.unwrap();
        listed.items.into_iter().map(|member| (member.email, member.role.to_string())).collect()
    }
}

/// That member, as who has logged in.
fn as_member(member: &Membership, role: Role) -> Principal {
    let mut principal =
        Principal::platform(person().actor(ActorKind::User, member.user, &member.email), Uuid::nil());
    principal.rights.tenant = Some(member.tenant);
    principal.rights.permissions = Permissions::of(role);
    principal
}

async fn whoever_brings_an_invitations_token_chooses_a_password_and_is_a_member_once(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let token = house.invited(&acme, "Ann@Example.com", "owner").await;
    let accept =
        async |token: &str, password: &str| house.control.accept_invitation(&person(), token, password).await;
    assert_eq!(fields(&accept(&token, "short").await.unwrap_err()), ["password"]);
    let member = accept(&token, PASSWORD).await.unwrap();
    assert_eq!((member.email.as_str(), &member.role), ("ann@example.com", &RoleName::OWNER));
    assert_eq!(house.members(&acme).await, [("ann@example.com".to_owned(), "owner".to_owned())]);
    for none in [token.as_str(), "tgi_", "", &token.replace("tgi_", "tgr_")] {
        let error = accept(none, PASSWORD).await.unwrap_err();
        assert!(matches!(error, ControlError::NotFound { what: "invitation", .. }), "{error:?}");
        assert!(none.is_empty() || !error.to_string().contains(none) || none == "tgi_", "{error}");
    }
    let again = invitation("ann@example.com", "viewer");
    let refused = house.control.invite(&house.owner, &by_id(&acme), &again).await;
    assert!(matches!(refused, Err(ControlError::Conflict(_))), "{refused:?}");
    let log = house.audit(&acme).await;
    let actions: Vec<_> = log.iter().map(|entry| entry.row.action.as_str()).collect();
    assert_eq!(actions, ["member.join", "member.invite", "tenant.create"]);
    assert_eq!((log[0].row.actor.kind, log[0].row.actor.id), (ActorKind::User, Some(member.user.0)));
}

async fn an_invitation_ends_by_time_by_withdrawal_and_by_another_one(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let is_good =
        async |token: &str| house.control.accept_invitation(&person(), token, PASSWORD).await.is_ok();
    let late = house.invited(&acme, "late@example.com", "viewer").await;
    house.clock.advance(Duration::from_secs(7 * 24 * 3_600));
    assert!(!is_good(&late).await);

    let withdrawn = house.invited(&acme, "ann@example.com", "viewer").await;
    let open = house.control.invitations(&house.owner, &by_id(&acme)).await.unwrap();
    assert_eq!(open.len(), 2, "what has expired is told of: {open:?}");
    house.control.withdraw_invitation(&house.owner, &by_id(&acme), open[0].id).await.unwrap();
    assert!(!is_good(&withdrawn).await);

    let first = house.invited(&acme, "bob@example.com", "viewer").await;
    let second = house.invited(&acme, "BOB@example.com", "developer").await;
    assert!(!is_good(&first).await && is_good(&second).await);
    let bad = NewInvitation {
        email: "nobody".to_owned(),
        role: "platform_owner".to_owned(),
        valid_for: Some(Duration::from_secs(1)),
    };
    let error = house.control.invite(&house.owner, &by_id(&acme), &bad).await.unwrap_err();
    assert_eq!(fields(&error), ["email", "role", "valid_seconds"]);
}

async fn who_has_a_password_joins_another_tenant_by_showing_it(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.tenant("Acme").await, house.tenant("Other").await);
    let ann = house.joined(&acme, "ann@example.com", "owner").await;
    let token = house.invited(&other, "ann@example.com", "viewer").await;
    let accept = async |password: &str| house.control.accept_invitation(&person(), &token, password).await;
    let stolen = accept("another long password").await.unwrap_err();
    assert_eq!(fields(&stolen), ["password"], "a token alone changes nobody's password");
    let joined = accept(PASSWORD).await.unwrap();
    assert_eq!((joined.user, joined.role.as_str()), (ann.user, "viewer"));
}

async fn nobody_makes_or_changes_anybody_who_may_do_more(store: TestStore) {
    let house = House::on(store);
    let (control, acme) = (&house.control, house.tenant("Acme").await);
    let owner = house.joined(&acme, "owner@example.com", "owner").await;
    let viewer = house.joined(&acme, "viewer@example.com", "viewer").await;
    let (admin, tenant) = (of_tenant(&acme, Role::Admin), by_id(&acme));
    for refused in [
        control.invite(&admin, &tenant, &invitation("x@example.com", "owner")).await.map(drop),
        control.change_member(&admin, &tenant, viewer.user, "owner").await.map(drop),
        control.change_member(&admin, &tenant, owner.user, "viewer").await.map(drop),
        control.remove_member(&admin, &tenant, owner.user).await,
    ] {
        assert_eq!(fields(&refused.unwrap_err()), ["role"]);
    }
    let changed = control.change_member(&admin, &tenant, viewer.user, "billing").await.unwrap();
    assert_eq!(changed.role, RoleName::BuiltIn(Role::Billing));
    let developer = of_tenant(&acme, Role::Developer);
    let error = control.members(&developer, &tenant, &Page::default()).await.unwrap_err();
    let expected =
        "ci may not do member.read: only platform_owner, platform_support, owner, admin, auditor may";
    assert_eq!(error.to_string(), expected);
    let error = control.remove_member(&developer, &tenant, viewer.user).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
    let denied = house.audit(&acme).await;
    assert_eq!(denied[0].row.outcome, AuditOutcome::Denied);
    control.remove_member(&admin, &tenant, viewer.user).await.unwrap();
    let gone = control.change_member(&admin, &tenant, viewer.user, "viewer").await.unwrap_err();
    assert!(matches!(gone, ControlError::NotFound { what: "member", .. }), "{gone:?}");
}

async fn no_token_of_a_tenants_opens_the_log_in_of_somebody_who_is_there(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let owner = Some(Role::PlatformOwner);
    let boss = house.control.set_platform_role(&house.owner, "boss@example.com", owner).await.unwrap();
    let token = house.invited(&acme, "boss@example.com", "viewer").await;
    let accept = async |password: &str| house.control.accept_invitation(&person(), &token, password).await;
    let stolen = accept("a password of mallory's").await;
    assert!(matches!(stolen, Err(ControlError::Conflict(_))), "{stolen:?}");
    house.control.set_password_by_token(&person(), &boss.token.unwrap(), PASSWORD).await.unwrap();
    assert_eq!(accept(PASSWORD).await.unwrap().user, boss.user.id);

    // Who took an address before its owner came knows nothing any more when that one becomes somebody.
    house.joined(&acme, "eve@example.com", "viewer").await;
    let log_in = async || house.log_in("eve@example.com", PASSWORD, None).await;
    let session = log_in().await.unwrap().token;
    let eve = house.control.set_platform_role(&house.owner, "eve@example.com", owner).await.unwrap();
    assert!(eve.token.is_some() && !eve.user.has_password);
    assert!(matches!(log_in().await, Err(ControlError::BadCredentials)));
    assert_eq!(house.visit(&session).await, None);
}

async fn the_last_owner_stays(store: TestStore) {
    let house = House::on(store);
    let (control, acme) = (&house.control, house.tenant("Acme").await);
    let tenant = by_id(&acme);
    let ann = house.joined(&acme, "ann@example.com", "owner").await;
    for refused in [
        control.remove_member(&house.owner, &tenant, ann.user).await,
        control.remove_member(&as_member(&ann, Role::Owner), &tenant, ann.user).await,
        control.change_member(&house.owner, &tenant, ann.user, "admin").await.map(drop),
    ] {
        assert!(matches!(refused, Err(ControlError::Conflict(_))), "{refused:?}");
    }
    let bob = house.joined(&acme, "bob@example.com", "owner").await;
    control.remove_member(&as_member(&ann, Role::Owner), &tenant, ann.user).await.unwrap();
    assert_eq!(house.members(&acme).await, [("bob@example.com".to_owned(), "owner".to_owned())]);
    // Anybody may leave who is not the last owner.
    let eve = house.joined(&acme, "eve@example.com", "viewer").await;
    control.remove_member(&as_member(&eve, Role::Viewer), &tenant, eve.user).await.unwrap();
    let refused = control.remove_member(&as_member(&eve, Role::Viewer), &tenant, bob.user).await;
    assert!(matches!(refused, Err(ControlError::Forbidden { .. })), "{refused:?}");
}

async fn a_tenant_of_the_highest_level_makes_its_own_roles_within_its_makers_rights(store: TestStore) {
    let house = House::on(store);
    let (control, acme) = (&house.control, house.tenant("Acme").await);
    let new = NewTenant { tier: Some("enterprise".to_owned()), ..named("Big") };
    let big = control.create_tenant(&house.owner, new).await.unwrap();
    let (owner, tenant) = (of_tenant(&big, Role::Owner), by_id(&big));
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let low = control.set_role(&house.owner, &by_id(&acme), "on-call", &set(&["key.read"])).await;
    assert!(matches!(low, Err(ControlError::Conflict(_))), "{low:?}");
    let error = control
        .set_role(&owner, &tenant, "admin", &set(&["key.read", "quota.set", "key.steal"]))
        .await
        .unwrap_err();
    assert_eq!(fields(&error), ["role", "permissions[1]", "permissions[2]"]);
    let admin = of_tenant(&big, Role::Admin);
    let refused = control.set_role(&admin, &tenant, "on-call", &set(&["key.read"])).await;
    assert!(matches!(refused, Err(ControlError::Forbidden { .. })), "{refused:?}");

    control.set_role(&owner, &tenant, "on-call", &set(&["key.read", "key.revoke"])).await.unwrap();
    let member = house.joined(&big, "ann@example.com", "on-call").await;
    let roles = control.roles(&owner, &tenant).await.unwrap();
    let own = roles.iter().find(|role| role.name.as_str() == "on-call").unwrap();
    assert_eq!((roles.len(), own.permissions.names()), (7, vec!["key.read", "key.revoke"]));
    let kept = control.remove_role(&owner, &tenant, "on-call").await;
    assert!(matches!(kept, Err(ControlError::Conflict(_))), "{kept:?}");
    control.change_member(&owner, &tenant, member.user, "viewer").await.unwrap();
    control.remove_role(&owner, &tenant, "on-call").await.unwrap();
    let gone = control.remove_role(&owner, &tenant, "on-call").await;
    assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{gone:?}");
}

async fn the_platforms_people_get_a_token_and_set_their_password_once(store: TestStore) {
    let house = House::on(store);
    let (control, acme) = (&house.control, house.tenant("Acme").await);
    let refused = control.set_platform_role(&of_tenant(&acme, Role::Owner), "a@example.com", None).await;
    assert!(matches!(refused, Err(ControlError::Forbidden { .. })), "{refused:?}");
    let bad = control.set_platform_role(&house.owner, "nobody", Some(Role::Owner)).await.unwrap_err();
    assert_eq!(fields(&bad), ["email", "platform_role"]);

    let support = Some(Role::PlatformSupport);
    let made = control.set_platform_role(&house.owner, "Bob@Example.com", support).await.unwrap();
    assert_eq!((made.user.platform_role, made.user.has_password), (support, false));
    let token = made.token.unwrap();
    let set =
        async |token: &str, password: &str| control.set_password_by_token(&person(), token, password).await;
    assert_eq!(fields(&set(&token, "short").await.unwrap_err()), ["password"]);
    set(&token, PASSWORD).await.unwrap();
    assert!(matches!(set(&token, PASSWORD).await, Err(ControlError::NotFound { .. })), "once");
    let users = control.users(&house.owner, &Page::default()).await.unwrap().items;
    assert!(users[0].has_password);
    let same = control.set_platform_role(&house.owner, "bob@example.com", support).await.unwrap();
    assert_eq!((same.user.id, same.token), (made.user.id, None));

    let reset = async || control.reset_password(&house.owner, made.user.id).await.unwrap().token.unwrap();
    let (first, second) = (reset().await, reset().await);
    assert!(matches!(set(&first, PASSWORD).await, Err(ControlError::NotFound { .. })), "the newest is good");
    house.clock.advance(Duration::from_secs(3 * 24 * 3_600));
    assert!(matches!(set(&second, PASSWORD).await, Err(ControlError::NotFound { .. })), "for three days");
    let nobody = control.reset_password(&house.owner, UserId(Uuid::nil())).await;
    assert!(matches!(nobody, Err(ControlError::NotFound { what: "user", .. })), "{nobody:?}");
    let none = control.set_platform_role(&house.owner, "bob@example.com", None).await.unwrap();
    assert_eq!((none.user.platform_role, none.token), (None, None));
}

async fn no_token_and_no_password_is_in_the_database_or_in_the_log(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let invited = house.invited(&acme, "ann@example.com", "owner").await;
    house.control.accept_invitation(&person(), &invited, PASSWORD).await.unwrap();
    let open = house.invited(&acme, "bob@example.com", "viewer").await;
    let owner = Some(Role::PlatformOwner);
    let made = house.control.set_platform_role(&house.owner, "eve@example.com", owner).await.unwrap();
    let shown = format!("{made:?}");
    let token = made.token.unwrap();
    let log = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    let told = format!("{:?} {:?} {shown}", house.audit(&acme).await, log.items);
    let dump = house.store.dump().await;
    for secret in [&invited, &open, &token, PASSWORD] {
        assert!(!told.contains(secret), "told: {secret}");
        assert!(!dump.windows(secret.len()).any(|part| part == secret.as_bytes()), "dumped: {secret}");
    }
    assert!(dump.windows(15).any(|part| part == b"ann@example.com"), "the dump holds what is no secret");
}
