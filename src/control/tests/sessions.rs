//! Log-ins and sessions: who gets in, for how long, and what they are then.

use std::time::Duration;

use serde_json::json;

use super::people::{PASSWORD, person};
use super::{House, by_id, fields, named, ring};
use crate::clock::Clock;
use crate::control::{
    ControlError, Credentials, LoggedIn, NewSetting, NewTenant, Permissions, Principal, SessionSettings,
    Visitor,
};
use crate::domain::{ActorKind, AuditOutcome, Role, TenantStatus};
use crate::secret::totp::TotpSecret;
use crate::store::testing::{TestStore, on_both};
use crate::store::{AuditFilter, Page};

on_both! {
    a_password_opens_a_session_that_is_what_its_member_is,
    wrong_credentials_are_refused_alike_and_noted_where_they_concern_somebody,
    a_session_ends_when_idle_at_its_end_and_by_hand,
    a_member_who_was_changed_or_removed_is_so_at_once,
    a_new_password_ends_the_other_sessions,
    a_second_factor_is_asked_for_once_it_was_shown_and_none_of_its_codes_is_good_twice,
    a_tenant_of_a_high_level_lets_nobody_in_without_a_second_factor,
    a_new_ring_key_rewraps_second_factors_and_the_old_one_can_go,
    what_the_platforms_people_read_is_told_to_the_tenant_once_an_hour,
    guesses_are_throttled_for_accounts_that_are_there_and_those_that_are_not,
}

impl House {
    pub(super) async fn log_in(
        &self,
        email: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<LoggedIn, ControlError> {
        let code = code.map(str::to_owned);
        let credentials = Credentials { email: email.to_owned(), password: password.to_owned(), code };
        self.control.log_in(&person(), &credentials).await
    }

    pub(super) async fn visit(&self, token: &str) -> Option<Visitor> {
        self.control.visitor(&person(), token, None).await.unwrap()
    }

    /// Somebody with a device that makes codes, who has shown one. Answers the recovery codes, too.
    async fn with_device(&self, token: &str) -> (TotpSecret, Vec<String>) {
        let visitor = self.visit(token).await.unwrap();
        let made = self.control.new_second_factor(&person(), &visitor, PASSWORD).await.unwrap();
        let secret = TotpSecret::parse(&made.secret).unwrap();
        let code = secret.code_at(self.clock.now());
        let codes = self.control.confirm_second_factor(&person(), &visitor, &code).await.unwrap();
        (secret, codes)
    }
}

fn as_principal(visitor: &Visitor) -> Principal {
    let Visitor { rights, actor, .. } = visitor.clone();
    Principal { actor, rights, correlation: uuid::Uuid::nil() }
}

async fn a_password_opens_a_session_that_is_what_its_member_is(store: TestStore) {
    let house = House::on(store);
    let (acme, other) = (house.tenant("Acme").await, house.tenant("Other").await);
    let ann = house.joined(&acme, "ann@example.com", "developer").await;
    house.clock.advance(Duration::from_secs(1));
    house.joined(&other, "ann@example.com", "owner").await;
    let made = house.log_in(" Ann@Example.com ", PASSWORD, None).await.unwrap();
    let visitor = house.visit(&made.token).await.unwrap();
    assert_eq!((visitor.user.id, visitor.actor.kind), (ann.user, ActorKind::User));
    assert_eq!(visitor.rights.tenant, Some(acme.id), "where they have been the longest");
    assert_eq!(visitor.rights.permissions, Permissions::of(Role::Developer));
    let there = Some(by_id(&other));
    let wanted = house.control.visitor(&person(), &made.token, there.as_ref()).await.unwrap().unwrap();
    assert_eq!(wanted.rights.tenant, Some(other.id));
    assert_eq!(wanted.rights.permissions, Permissions::of(Role::Owner));
    let stranger = house.tenant("Stranger").await;
    let nothing = house.control.visitor(&person(), &made.token, Some(&by_id(&stranger))).await.unwrap();
    assert_eq!(nothing.unwrap().rights.tenant, Some(acme.id), "a wish makes nobody a member");
    for bad in ["", "tgs_", &made.token[1..], &format!("{}x", made.token)] {
        assert_eq!(house.visit(bad).await, None, "{bad}");
    }
    let log = house.audit(&other).await;
    assert_eq!((log[0].row.action.as_str(), log[0].row.outcome), ("session.create", AuditOutcome::Done));
    let dump = house.store.dump().await;
    assert!(!dump.windows(made.token.len()).any(|part| part == made.token.as_bytes()));
}

async fn wrong_credentials_are_refused_alike_and_noted_where_they_concern_somebody(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.joined(&acme, "ann@example.com", "owner").await;
    let before = house.audit(&acme).await.len();
    let mut told = Vec::new();
    for (email, password) in [("ann@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("", "")] {
        let error = house.log_in(email, password, None).await.unwrap_err();
        assert!(matches!(error, ControlError::BadCredentials), "{error:?}");
        told.push(error.to_string());
    }
    assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
    let log = house.audit(&acme).await;
    assert_eq!(log.len(), before + 1);
    assert_eq!(
        (log[0].row.outcome, log[0].row.reason.as_deref()),
        (AuditOutcome::Denied, Some("wrong password"))
    );
    assert_eq!(log[0].row.actor.ip, person().ip);
    let platform = house
        .control
        .platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(platform.items.len(), 2, "of accounts that there are not");
    assert!(!format!("{:?}", platform.items).contains("nobody@"), "what was typed may be a password");
}

async fn a_session_ends_when_idle_at_its_end_and_by_hand(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.joined(&acme, "ann@example.com", "owner").await;
    let SessionSettings { idle, absolute, .. } = house.control.session_settings().clone();
    let idler = house.log_in("ann@example.com", PASSWORD, None).await.unwrap().token;
    house.clock.advance(idle - Duration::from_secs(1));
    assert!(house.visit(&idler).await.is_some());
    house.clock.advance(idle - Duration::from_secs(1));
    assert!(house.visit(&idler).await.is_some(), "it was used meanwhile");
    house.clock.advance(idle);
    assert_eq!(house.visit(&idler).await, None);

    let busy = house.log_in("ann@example.com", PASSWORD, None).await.unwrap().token;
    let steps = absolute.as_secs() / 1_200;
    for _ in 1..steps {
        house.clock.advance(Duration::from_secs(1_200));
        assert!(house.visit(&busy).await.is_some());
    }
    house.clock.advance(Duration::from_secs(1_200));
    assert_eq!(house.visit(&busy).await, None, "however busy");

    let (one, two) = (
        house.log_in("ann@example.com", PASSWORD, None).await.unwrap(),
        house.log_in("ann@example.com", PASSWORD, None).await.unwrap(),
    );
    let visitor = house.visit(&one.token).await.unwrap();
    let open = house.control.sessions(&visitor).await.unwrap();
    assert_eq!(open.iter().map(|open| open.id).collect::<Vec<_>>(), [two.session.id, one.session.id]);
    house.control.end_session(&person(), &visitor, two.session.id).await.unwrap();
    assert_eq!(house.visit(&two.token).await, None);
    let again = house.control.end_session(&person(), &visitor, two.session.id).await;
    assert!(matches!(again, Err(ControlError::NotFound { what: "session", .. })), "{again:?}");
    assert_eq!(house.control.end_sessions(&house.owner, visitor.user.id).await.unwrap(), 1);
    assert_eq!(house.visit(&one.token).await, None);
}

async fn a_member_who_was_changed_or_removed_is_so_at_once(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let tenant = by_id(&acme);
    house.joined(&acme, "owner@example.com", "owner").await;
    let ann = house.joined(&acme, "ann@example.com", "admin").await;
    let token = house.log_in("ann@example.com", PASSWORD, None).await.unwrap().token;
    let permissions = async || house.visit(&token).await.unwrap().rights.permissions;
    assert_eq!(permissions().await, Permissions::of(Role::Admin));
    house.control.change_member(&house.owner, &tenant, ann.user, "viewer").await.unwrap();
    assert_eq!(permissions().await, Permissions::of(Role::Viewer));
    let why = Some("unpaid".to_owned());
    house.control.change_member(&house.owner, &tenant, ann.user, "owner").await.unwrap();
    house.control.set_status(&house.owner, &tenant, TenantStatus::Suspended, why).await.unwrap();
    assert_eq!(permissions().await, Permissions::of(Role::Auditor), "who is suspended may still read");
    house.control.remove_member(&house.owner, &tenant, ann.user).await.unwrap();
    let nobody = house.visit(&token).await.unwrap();
    assert!(nobody.rights.is_nobodys() && nobody.rights.permissions == Permissions::NONE);
    let gone = house.control.tenant(&as_principal(&nobody), &tenant).await;
    assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{gone:?}");
}

async fn a_new_password_ends_the_other_sessions(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let ann = house.joined(&acme, "ann@example.com", "owner").await;
    let log_in = async |password: &'static str| house.log_in("ann@example.com", password, None).await;
    let (here, there) = (log_in(PASSWORD).await.unwrap().token, log_in(PASSWORD).await.unwrap().token);
    let visitor = house.visit(&here).await.unwrap();
    let change =
        async |old: &str, new: &str| house.control.change_password(&person(), &visitor, old, new).await;
    assert_eq!(fields(&change("wrong", "another long one").await.unwrap_err()), ["password"]);
    assert_eq!(fields(&change(PASSWORD, "short").await.unwrap_err()), ["new_password"]);
    change(PASSWORD, "another long one").await.unwrap();
    assert!(house.visit(&here).await.is_some() && house.visit(&there).await.is_none());
    assert!(log_in(PASSWORD).await.is_err() && log_in("another long one").await.is_ok());
    let token = house.control.reset_password(&house.owner, ann.user).await.unwrap().token.unwrap();
    house.control.set_password_by_token(&person(), &token, PASSWORD).await.unwrap();
    assert!(house.visit(&here).await.is_none(), "whoever was in is out");
}

async fn a_second_factor_is_asked_for_once_it_was_shown_and_none_of_its_codes_is_good_twice(
    store: TestStore,
) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.joined(&acme, "ann@example.com", "owner").await;
    let log_in = async |code: Option<&str>| {
        house.clock.advance(Duration::from_secs(30));
        house.log_in("ann@example.com", PASSWORD, code).await
    };
    let token = log_in(None).await.unwrap().token;
    let visitor = house.visit(&token).await.unwrap();
    let unproven = house.control.new_second_factor(&person(), &visitor, "wrong").await.unwrap_err();
    assert_eq!(fields(&unproven), ["password"]);
    house.control.new_second_factor(&person(), &visitor, PASSWORD).await.unwrap();
    let wrong = house.control.confirm_second_factor(&person(), &visitor, "000000").await.unwrap_err();
    assert_eq!(fields(&wrong), ["code"]);
    assert!(log_in(None).await.is_ok(), "nothing is asked for before a code was shown");

    let (secret, recovery) = house.with_device(&token).await;
    assert!(house.visit(&token).await.unwrap().session.is_multi_factor);
    assert!(matches!(log_in(None).await, Err(ControlError::SecondFactor)));
    assert!(matches!(log_in(Some("000000")).await, Err(ControlError::BadCredentials)));
    house.clock.advance(Duration::from_secs(60));
    let code = secret.code_at(house.clock.now());
    assert!(house.log_in("ann@example.com", PASSWORD, Some(&code)).await.unwrap().session.is_multi_factor);
    let twice = house.log_in("ann@example.com", PASSWORD, Some(&code)).await;
    assert!(matches!(twice, Err(ControlError::BadCredentials)), "{twice:?}");
    assert!(log_in(Some(&recovery[0])).await.is_ok());
    assert!(matches!(log_in(Some(&recovery[0])).await, Err(ControlError::BadCredentials)), "once");
    assert_eq!((recovery.len(), recovery[0].len()), (10, 10));

    let dump = house.store.dump().await;
    for hidden in [secret.text(), recovery[1].clone()] {
        assert!(!dump.windows(hidden.len()).any(|part| part == hidden.as_bytes()), "{hidden}");
    }
    let visitor = house.visit(&token).await.unwrap();
    let again = house.control.new_second_factor(&person(), &visitor, PASSWORD).await;
    assert!(matches!(again, Err(ControlError::Conflict(_))), "{again:?}");
    let remove = async |code: &str| {
        house.clock.advance(Duration::from_secs(30));
        house.control.remove_second_factor(&person(), &visitor, PASSWORD, code).await
    };
    assert_eq!(fields(&remove("000000").await.unwrap_err()), ["code"]);
    remove(&recovery[2]).await.unwrap();
    assert!(log_in(None).await.is_ok());
}

async fn a_tenant_of_a_high_level_lets_nobody_in_without_a_second_factor(store: TestStore) {
    let house = House::on(store);
    let new = NewTenant { tier: Some("business".to_owned()), ..named("Big") };
    let big = house.control.create_tenant(&house.owner, new).await.unwrap();
    house.joined(&big, "ann@example.com", "owner").await;
    let token = house.log_in("ann@example.com", PASSWORD, None).await.unwrap().token;
    let held = house.visit(&token).await.unwrap();
    assert_eq!((held.rights.permissions, held.rights.lacks_second_factor), (Permissions::NONE, true));
    let error = house.control.tenant(&as_principal(&held), &by_id(&big)).await.unwrap_err();
    assert!(error.to_string().contains("second factor"), "{error}");
    house.with_device(&token).await;
    let free = house.visit(&token).await.unwrap();
    assert_eq!(
        (free.rights.permissions, free.rights.lacks_second_factor),
        (Permissions::of(Role::Owner), false)
    );

    // A tenant may be less strict than its tier allows.
    house.joined(&big, "bob@example.com", "viewer").await;
    let lower = NewSetting { value: json!("standard"), is_encrypted: None };
    house.control.set_setting(&house.owner, &by_id(&big), "security_level", lower).await.unwrap();
    let token = house.log_in("bob@example.com", PASSWORD, None).await.unwrap().token;
    assert_eq!(house.visit(&token).await.unwrap().rights.permissions, Permissions::of(Role::Viewer));
}

async fn a_new_ring_key_rewraps_second_factors_and_the_old_one_can_go(store: TestStore) {
    let mut house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.joined(&acme, "ann@example.com", "owner").await;
    let token = house.log_in("ann@example.com", PASSWORD, None).await.unwrap().token;
    let (secret, _) = house.with_device(&token).await;
    house.control = house.control.clone().with_secrets(ring(&[1, 2]));
    assert_eq!(house.control.rotate_secrets(&house.owner).await.unwrap().rewrapped, 1);
    house.control = house.control.clone().with_secrets(ring(&[2]));
    house.clock.advance(Duration::from_secs(60));
    let code = secret.code_at(house.clock.now());
    house.log_in("ann@example.com", PASSWORD, Some(&code)).await.unwrap();
}

async fn what_the_platforms_people_read_is_told_to_the_tenant_once_an_hour(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let support = Some(Role::PlatformSupport);
    let made = house.control.set_platform_role(&house.owner, "bob@example.com", support).await.unwrap();
    house.control.set_password_by_token(&person(), &made.token.unwrap(), PASSWORD).await.unwrap();
    let token = house.log_in("bob@example.com", PASSWORD, None).await.unwrap().token;
    let bob = as_principal(&house.visit(&token).await.unwrap());
    for _ in 0..3 {
        house.control.quotas(&bob, &by_id(&acme)).await.unwrap();
        house.control.tenant(&bob, &by_id(&acme)).await.unwrap();
    }
    let log = house.audit(&acme).await;
    let told = &log[0].row;
    assert_eq!((told.action.as_str(), told.actor.kind), ("tenant.access", ActorKind::PlatformUser));
    assert_eq!((told.actor.name.as_str(), log.len()), ("bob@example.com", 2), "once: {log:?}");
    let denied = house.control.set_status(&bob, &by_id(&acme), TenantStatus::Deleted, None).await;
    assert!(matches!(denied, Err(ControlError::Forbidden { .. })), "{denied:?}");
}

async fn guesses_are_throttled_for_accounts_that_are_there_and_those_that_are_not(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    house.joined(&acme, "ann@example.com", "owner").await;
    for email in ["ann@example.com", "nobody@example.com"] {
        for _ in 0..10 {
            let refused = house.log_in(email, "wrong", None).await;
            assert!(matches!(refused, Err(ControlError::BadCredentials)), "{refused:?}");
        }
        let held = house.log_in(email, PASSWORD, None).await;
        assert!(matches!(held, Err(ControlError::Throttled { .. })), "{email}: {held:?}");
    }
    house.clock.advance(Duration::from_secs(10));
    house.log_in("ann@example.com", PASSWORD, None).await.unwrap();
}
