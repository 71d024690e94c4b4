//! People who can log in: the platform's own are made here, members of tenants by their invitations.
//!
//! Nobody chooses a password for somebody else: who is new, or has lost theirs, gets a token that sets one once.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal};
use crate::domain::{Actor, ActorKind, AuditOutcome, AuditRow, Role, User, UserId};
use crate::secret::hash::{KeyDigest, random_letters};
use crate::store::{Listed, Page};

/// Somebody without a credential, or who is about to show one: where they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    /// One id for all audit rows of one request.
    pub correlation: Uuid,
}

/// A user, with a token that sets a password once, if one was made.
#[derive(Clone, PartialEq, Eq)]
pub struct UserWithToken {
    pub user: User,
    /// Shown once, stored nowhere.
    pub token: Option<String>,
}

/// How long a password can be set by a token.
const TOKEN_VALID: Duration = Duration::from_secs(3 * 24 * 3_600);
const TOKEN_PREFIX: &str = "tgr_";
/// 43 letters of base62 hold 256 bits.
const TOKEN_LETTERS: usize = 43;

impl Control {
    /// Everybody who can log in, in the order of their coming.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn users(&self, principal: &Principal, page: &Page) -> Result<Listed<User>, ControlError> {
        self.allow(principal, Operation::ReadUsers, &Target::platform("user")).await?;
        Ok(self.read().await?.users(page).await??)
    }

    /// Gives somebody a role at the platform, who need not be known yet. Whoever has had none gets a token, and
    /// is known by nothing else from then on: a tenant that invited the address first may know its password. `None` takes
    /// the role away.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Forbidden`].
    pub async fn set_platform_role(
        &self,
        principal: &Principal,
        email: &str,
        role: Option<Role>,
    ) -> Result<UserWithToken, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.set_platform_role(email, role).await;
        work.end(outcome).await
    }

    /// A token with which the user sets a password, once and within three days. The password that they have goes on
    /// working until then.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::NotFound`].
    pub async fn reset_password(
        &self,
        principal: &Principal,
        user: UserId,
    ) -> Result<UserWithToken, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.reset_password(user).await;
        work.end(outcome).await
    }

    /// Sets the password of whoever's token it is, and ends their sessions.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] for a token that is none, was used or has expired; [`ControlError::Invalid`].
    pub async fn set_password_by_token(
        &self,
        person: &Person,
        token: &str,
        password: &str,
    ) -> Result<(), ControlError> {
        let digest = self.once(TOKEN_PREFIX, token).ok_or_else(no_token)?;
        let mut snapshot = self.read().await?;
        let id = snapshot.user_of_password_token(&digest, self.now()).await?.ok_or_else(no_token)?;
        let user = snapshot.user(id).await?.ok_or_else(no_token)?;
        drop(snapshot);
        let mut faults = Faults::default();
        faults.password("password", password, &user.email);
        faults.finish()?;
        let hash = self.passwords().hash(password).await?;
        let now = self.now();
        let mut tx = self.parts.store.begin().await?;
        // Somebody may have been faster.
        tx.user_of_password_token(&digest, now).await?.ok_or_else(no_token)?;
        tx.set_password_hash(id, &hash).await?;
        tx.remove_sessions(id, None).await?;
        tx.audit(&AuditRow {
            at: now,
            tenant: None,
            actor: person.actor(ActorKind::User, id, &user.email),
            action: "user.set_password".to_owned(),
            target_kind: "user".to_owned(),
            target_id: id.to_string(),
            outcome: AuditOutcome::Done,
            before: None,
            after: None,
            reason: Some("by a token".to_owned()),
            correlation: person.correlation,
        })
        .await?;
        Ok(tx.commit().await?)
    }

    /// Whether it is the password of that address, tried not too often.
    ///
    /// # Errors
    /// [`ControlError::Throttled`]
    pub(super) async fn prove(
        &self,
        person: &Person,
        email: &str,
        password: &str,
        hash: Option<String>,
    ) -> Result<bool, ControlError> {
        self.admit(person, email)?;
        self.passwords().verify(password, hash).await
    }

    /// Lets one attempt at that account pass.
    ///
    /// # Errors
    /// [`ControlError::Throttled`]
    pub(super) fn admit(&self, person: &Person, email: &str) -> Result<(), ControlError> {
        let KeyDigest(digest) = self.parts.peppers.current().digest(format!("account:{email}").as_bytes());
        let account = Uuid::from_u128(u128::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 16])));
        self.parts.throttle.admit(account, person.ip)
    }

    /// A token that is good for one thing, and what is kept of it.
    pub(super) fn new_once(&self, prefix: &str) -> Result<(String, KeyDigest), ControlError> {
        let token = format!("{prefix}{}", random_letters(TOKEN_LETTERS).map_err(ControlError::Random)?);
        let digest = self.parts.peppers.current().digest(token.as_bytes());
        Ok((token, digest))
    }

    /// What is kept of the token, if it is of that kind.
    pub(super) fn once(&self, prefix: &str, token: &str) -> Option<KeyDigest> {
        let letters = token.strip_prefix(prefix)?;
        (letters.len() == TOKEN_LETTERS).then(|| self.parts.peppers.current().digest(token.as_bytes()))
    }
}

/// The token itself is not repeated: logs would keep it.
fn no_token() -> ControlError {
    ControlError::NotFound {
        what: "password",
        which: "to set by that token: it was used, has expired or never was".to_owned(),
    }
}

fn shown(user: &User) -> Value {
    json!({ "email": user.email, "platform_role": user.platform_role })
}

fn target(user: UserId) -> Target {
    Target { tenant: None, kind: "user", id: user.to_string() }
}

// === impl Person ===

impl Person {
    /// Who they turned out to be.
    pub(super) fn actor(&self, kind: ActorKind, user: UserId, name: &str) -> Actor {
        let user_agent = self.user_agent.clone();
        Actor { kind, id: Some(user.0), name: name.to_owned(), ip: self.ip, user_agent }
    }
}

// === impl UserWithToken ===

/// Without the token.
impl std::fmt::Debug for UserWithToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserWithToken").field("user", &self.user).finish_non_exhaustive()
    }
}

// === impl Faults ===

impl Faults {
    /// The address by which somebody logs in: its case does not matter.
    pub(super) fn login(&mut self, field: &str, text: &str) -> Option<String> {
        match self.email(field, text)? {
            Some(email) => Some(email.to_lowercase()),
            None => self.check(field, None, "an e-mail address is expected"),
        }
    }
}

// === impl Work ===

impl Work<'_> {
    async fn set_platform_role(
        &mut self,
        email: &str,
        role: Option<Role>,
    ) -> Result<UserWithToken, ControlError> {
        let anyone = Target { tenant: None, kind: "user", id: email.to_owned() };
        self.authorize(Operation::SetPlatformRole, &anyone)?;
        let mut faults = Faults::default();
        let email = faults.login("email", email);
        let checked = role.map(|role| {
            let good = role.is_platforms().then_some(role);
            faults.check("platform_role", good, "platform_owner or platform_support is expected")
        });
        let all_good = faults.is_empty();
        let Some(email) = email.filter(|_| all_good) else { return Err(faults.refusal()) };
        let before = match self.tx.user_by_email(&email).await? {
            Some(known) => known,
            None => self.make_user(&email).await?,
        };
        let after = User { platform_role: checked.flatten(), ..before.clone() };
        if after == before {
            return Ok(UserWithToken { user: before, token: None });
        }
        let is_new = before.platform_role.is_none();
        if is_new {
            self.tx.forget_credentials(after.id).await?;
        }
        self.tx.set_platform_role(after.id, after.platform_role).await?;
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::SetPlatformRole, &target(after.id), told).await?;
        if !is_new {
            return Ok(UserWithToken { user: after, token: None });
        }
        let token = Some(self.make_token(after.id).await?);
        let user = User { has_password: false, is_multi_factor: false, ..after };
        Ok(UserWithToken { user, token })
    }

    async fn make_user(&mut self, email: &str) -> Result<User, ControlError> {
        let new = self.control.new_user(email, self.now);
        let id = self.tx.insert_login(&new).await?;
        Ok(User { id, ..new })
    }

    async fn make_token(&mut self, user: UserId) -> Result<String, ControlError> {
        let (token, digest) = self.control.new_once(TOKEN_PREFIX)?;
        self.tx.set_password_token(user, &digest, self.now.plus(TOKEN_VALID)).await?;
        Ok(token)
    }

    async fn reset_password(&mut self, user: UserId) -> Result<UserWithToken, ControlError> {
        self.authorize(Operation::ResetPassword, &target(user))?;
        let not_found = || ControlError::NotFound { what: "user", which: user.to_string() };
        let user = self.tx.user(user).await?.ok_or_else(not_found)?;
        let token = self.make_token(user.id).await?;
        self.audit(Operation::ResetPassword, &target(user.id), Told::default()).await?;
        Ok(UserWithToken { user, token: Some(token) })
    }
}
