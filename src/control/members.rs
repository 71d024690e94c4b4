//! Members of a tenant: asked to come, joined, changed, gone.
//!
//! An invitation is a token, which whoever sends it shows to whom it is for; nothing is mailed from here. It is shown
//! once and kept as a digest. Nobody makes anybody more than they are themselves, nor changes or removes who is more,
//! and a tenant that has an owner keeps one.

use std::time::Duration;

use serde_json::{Value, json};

use super::principal::Operation;
use super::roles::permissions_of;
use super::users::Person;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{
    ActorKind, AuditOutcome, AuditRow, Invitation, InvitationId, Membership, RoleName, Tenant, TenantId,
    TenantStatus, User, UserId,
};
use crate::secret::hash::KeyDigest;
use crate::store::{Listed, Page, Snapshot, Tx};

/// Whom to invite, as it was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewInvitation {
    pub email: String,
    pub role: String,
    /// Seven days if absent.
    pub valid_for: Option<Duration>,
}

/// An invitation at the only moment when its token is known.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedInvitation {
    pub invitation: Invitation,
    /// Shown once, stored nowhere.
    pub token: String,
}

const VALID: Duration = Duration::from_secs(7 * 24 * 3_600);
const VALID_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// So that nobody fills the table: more people than this do not wait to join at a time.
const INVITATIONS_MAX: usize = 1_000;
const PREFIX: &str = "tgi_";

impl Control {
    /// The tenant's members, in the order in which they joined.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn members(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        page: &Page,
    ) -> Result<Listed<Membership>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadMembers, tenant).await?;
        Ok(snapshot.members(tenant.id, page).await??)
    }

    /// Invitations that nobody has accepted, newest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn invitations(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<Invitation>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadMembers, tenant).await?;
        Ok(snapshot.invitations(tenant.id).await?)
    }

    /// Invites somebody. Who is invited already is invited anew: the token of before is good for nothing any more.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults, a role that may do more than the caller among them;
    /// [`ControlError::Conflict`] for a member.
    pub async fn invite(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: &NewInvitation,
    ) -> Result<CreatedInvitation, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.invite(tenant, new).await;
        work.end(outcome).await
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn withdraw_invitation(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        invitation: InvitationId,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.withdraw_invitation(tenant, invitation).await;
        work.end(outcome).await
    }

    /// Makes whoever brings the token a member. Somebody new chooses a password; who has one shows it, so that a
    /// token in wrong hands is of no use.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] for a token that is none, was used or has expired; [`ControlError::Invalid`] for a
    /// password that is not good enough, or not theirs; [`ControlError::Conflict`] for somebody who is known and has
    /// none; [`ControlError::Throttled`].
    pub async fn accept_invitation(
        &self,
        person: &Person,
        token: &str,
        password: &str,
    ) -> Result<Membership, ControlError> {
        let digest = self.once(PREFIX, token).ok_or_else(no_token)?;
        let now = self.now();
        let mut snapshot = self.read().await?;
        let (invitation, _) = open_invitation(&mut snapshot, &digest, now).await?;
        let known = snapshot.user_by_email(&invitation.email).await?;
        let hash = match &known {
            Some(user) if user.has_password => snapshot.password_hash(user.id).await?,
            Some(_) => return Err(known_otherwise()),
            None => None,
        };
        drop(snapshot);
        let new_hash = match hash {
            Some(hash) => {
                let is_theirs = self.prove(person, &invitation.email, password, Some(hash)).await?;
                let mut faults = Faults::default();
                faults.check("password", is_theirs.then_some(()), "it is not the password of that address");
                faults.finish()?;
                None
            }
            None => {
                let mut faults = Faults::default();
                faults.password("password", password, &invitation.email);
                faults.finish()?;
                Some(self.passwords().hash(password).await?)
            }
        };
        let mut tx = self.parts.store.begin().await?;
        let member = self.join(&mut tx, person, &digest, new_hash, now).await?;
        tx.commit().await?;
        Ok(member)
    }

    async fn join(
        &self,
        tx: &mut Tx,
        person: &Person,
        digest: &KeyDigest,
        hash: Option<String>,
        now: Timestamp,
    ) -> Result<Membership, ControlError> {
        let (invitation, tenant) = open_invitation(tx, digest, now).await?;
        let user = match tx.user_by_email(&invitation.email).await? {
            // Somebody was faster, whose password it is not to change.
            Some(_) if hash.is_some() => return Err(known_otherwise()),
            Some(user) => user.id,
            None => tx.insert_login(&self.new_user(&invitation.email, now)).await?,
        };
        if let Some(hash) = hash {
            tx.set_password_hash(user, &hash).await?;
        }
        let Invitation { id, email, role, .. } = invitation;
        let member = Membership { tenant: tenant.id, user, email, role, created_at: now };
        tx.set_member(&member).await?;
        tx.remove_invitation(tenant.id, id).await?;
        let actor = person.actor(ActorKind::User, user, &member.email);
        tx.audit(&AuditRow {
            at: now,
            tenant: Some(tenant.id),
            actor,
            action: "member.join".to_owned(),
            target_kind: "member".to_owned(),
            target_id: user.to_string(),
            outcome: AuditOutcome::Done,
            before: None,
            after: Some(shown(&member)),
            reason: None,
            correlation: person.correlation,
        })
        .await?;
        Ok(member)
    }

    pub(super) fn new_user(&self, email: &str, now: Timestamp) -> User {
        User {
            id: UserId(self.new_id()),
            email: email.to_owned(),
            platform_role: None,
            has_password: false,
            is_multi_factor: false,
            created_at: now,
        }
    }

    /// Changes what a member is.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for a role that may do more than the caller;
    /// [`ControlError::Conflict`] for the last owner.
    pub async fn change_member(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        user: UserId,
        role: &str,
    ) -> Result<Membership, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.change_member(tenant, user, role).await;
        work.end(outcome).await
    }

    /// Removes a member, who may be the caller. What they do is refused from then on.
    ///
    /// # Errors
    /// As [`Control::change_member`].
    pub async fn remove_member(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        user: UserId,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_member(tenant, user).await;
        work.end(outcome).await
    }
}

/// The invitation and who invites, as long as both stand.
async fn open_invitation(
    snapshot: &mut Snapshot,
    digest: &KeyDigest,
    now: Timestamp,
) -> Result<(Invitation, Tenant), ControlError> {
    let found = snapshot.invitation_by_token(digest).await?;
    let invitation = found.filter(|invitation| now < invitation.expires_at).ok_or_else(no_token)?;
    let tenant = snapshot.tenant(invitation.tenant).await?;
    let living = tenant.filter(|tenant| tenant.status != TenantStatus::Deleted).ok_or_else(no_token)?;
    Ok((invitation, living))
}

/// The token itself is not repeated: logs would keep it.
fn no_token() -> ControlError {
    ControlError::NotFound {
        what: "invitation",
        which: "of that token: it was used, has expired or never was".to_owned(),
    }
}

/// Whoever invites sees the token: it must not make a password for somebody who is there already.
fn known_otherwise() -> ControlError {
    let why = "that address is known and has no password: log in at the provider, or set one by the platform's token";
    ControlError::Conflict(why.to_owned())
}

fn no_member(user: UserId) -> ControlError {
    ControlError::NotFound { what: "member", which: user.to_string() }
}

fn shown(member: &Membership) -> Value {
    json!({ "email": member.email, "role": member.role })
}

// === impl CreatedInvitation ===

/// Without the token.
impl std::fmt::Debug for CreatedInvitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedInvitation").field("invitation", &self.invitation).finish_non_exhaustive()
    }
}

// === impl Work ===

impl Work<'_> {
    async fn invite(
        &mut self,
        tenant: &TenantRef,
        new: &NewInvitation,
    ) -> Result<CreatedInvitation, ControlError> {
        let tenant = self.living_tenant_for(Operation::InviteMember, tenant).await?;
        let mut faults = Faults::default();
        let email = faults.login("email", &new.email);
        let role = self.granted(&mut faults, tenant.id, &new.role).await?;
        let valid_for = new.valid_for.unwrap_or(VALID);
        if !(Duration::from_secs(60)..=VALID_MAX).contains(&valid_for) {
            faults.add("valid_seconds", format!("60 to {} are expected", VALID_MAX.as_secs()));
        }
        let all_good = faults.is_empty();
        let (Some(email), Some(role), true) = (email, role, all_good) else { return Err(faults.refusal()) };
        if self.tx.member_by_email(tenant.id, &email).await?.is_some() {
            return Err(ControlError::Conflict(format!("{email} is a member already: change the role")));
        }
        if self.tx.invitations(tenant.id).await?.len() >= INVITATIONS_MAX {
            let why = format!("{INVITATIONS_MAX} invitations are open: withdraw some");
            return Err(ControlError::Conflict(why));
        }
        let (token, digest) = self.control.new_once(PREFIX)?;
        let invitation = Invitation {
            id: InvitationId(self.control.new_id()),
            tenant: tenant.id,
            email,
            role,
            invited_by: self.principal.actor.name.clone(),
            created_at: self.now,
            expires_at: self.now.plus(valid_for),
        };
        self.tx.set_invitation(&invitation, &digest).await?;
        let target = Target::of(&tenant, "invitation", invitation.id.to_string());
        let Invitation { email, role, expires_at, .. } = &invitation;
        let told = Told::made(json!({ "email": email, "role": role, "expires_at": expires_at }));
        self.audit(Operation::InviteMember, &target, told).await?;
        Ok(CreatedInvitation { invitation, token })
    }

    /// The role of that name, if the tenant has it and it may do no more than the caller.
    async fn granted(
        &mut self,
        faults: &mut Faults,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<RoleName>, ControlError> {
        let role: Option<RoleName> = name.parse().ok();
        let permissions = match &role {
            Some(role) => permissions_of(&mut self.tx, tenant, role).await?,
            None => None,
        };
        match permissions {
            None => faults.add("role", "the tenant has no such role"),
            Some(permissions) if permissions.is_within(self.principal.rights.permissions) => return Ok(role),
            Some(_) => faults.add("role", "it may do more than you may"),
        }
        Ok(None)
    }

    async fn withdraw_invitation(
        &mut self,
        tenant: &TenantRef,
        invitation: InvitationId,
    ) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::InviteMember, tenant).await?;
        if !self.tx.remove_invitation(tenant.id, invitation).await? {
            return Err(ControlError::NotFound { what: "invitation", which: invitation.to_string() });
        }
        let target = Target::of(&tenant, "invitation", invitation.to_string());
        self.audit(Operation::InviteMember, &target, Told::default().because(Some("withdrawn".to_owned())))
            .await
    }

    async fn change_member(
        &mut self,
        tenant: &TenantRef,
        user: UserId,
        role: &str,
    ) -> Result<Membership, ControlError> {
        let tenant = self.living_tenant_for(Operation::ChangeMember, tenant).await?;
        let before = self.tx.member(tenant.id, user).await?.ok_or_else(|| no_member(user))?;
        let mut faults = Faults::default();
        let granted = self.granted(&mut faults, tenant.id, role).await?;
        let Some(role) = granted else { return Err(faults.refusal()) };
        if role == before.role {
            return Ok(before);
        }
        self.refuse_higher(&before).await?;
        self.refuse_last_owner(&before).await?;
        let after = Membership { role, ..before.clone() };
        self.tx.set_member(&after).await?;
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::ChangeMember, &Target::of(&tenant, "member", user.to_string()), told).await?;
        Ok(after)
    }

    async fn remove_member(&mut self, tenant: &TenantRef, user: UserId) -> Result<(), ControlError> {
        let actor = &self.principal.actor;
        let leaves = (actor.kind, actor.id) == (ActorKind::User, Some(user.0));
        // Anybody may leave.
        let tenant = match leaves {
            true => self.principal.clone().find(&mut self.tx, tenant).await?,
            false => self.living_tenant_for(Operation::RemoveMember, tenant).await?,
        };
        let member = self.tx.member(tenant.id, user).await?.ok_or_else(|| no_member(user))?;
        if !leaves {
            self.refuse_higher(&member).await?;
        }
        self.refuse_last_owner(&member).await?;
        self.tx.remove_member(tenant.id, user).await?;
        let told = Told { before: Some(shown(&member)), ..Told::default() };
        self.audit(Operation::RemoveMember, &Target::of(&tenant, "member", user.to_string()), told).await
    }

    /// Who may do more than the caller is not the caller's to change.
    async fn refuse_higher(&mut self, member: &Membership) -> Result<(), ControlError> {
        let theirs = permissions_of(&mut self.tx, member.tenant, &member.role).await?;
        if theirs.is_none_or(|theirs| theirs.is_within(self.principal.rights.permissions)) {
            return Ok(());
        }
        let mut faults = Faults::default();
        faults.add("role", format!("{} may do more than you may", member.email));
        Err(faults.refusal())
    }

    async fn refuse_last_owner(&mut self, member: &Membership) -> Result<(), ControlError> {
        let is_last = member.role == RoleName::OWNER
            && self.tx.others_in_role(member.tenant, &RoleName::OWNER, Some(member.user)).await? == 0;
        if is_last {
            let why = format!("{} is the last owner: make somebody else one first", member.email);
            return Err(ControlError::Conflict(why));
        }
        Ok(())
    }
}
