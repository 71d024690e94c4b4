//! Sessions of people: begun by a log-in, known by a token that a browser keeps, ended by time or by hand.
//!
//! A token is kept as a digest. What a session may do is looked up with each request, so that a member who was removed
//! or changed is what they are now. Every refused log-in takes as long, whether there is such an account or not, and is
//! written down where those concerned can read it.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::authenticate::rights_in;
use super::principal::Operation;
use super::roles::permissions_of;
use super::validate::Faults;
use super::work::{Target, Told};
use super::{Control, ControlError, Permissions, Person, Principal, Rights, TenantRef};
use crate::domain::{
    Actor, ActorKind, AuditOutcome, AuditRow, Membership, SECURITY_LEVELS, Session, SessionId, Tenant,
    TenantId, TenantStatus, User, UserId,
};
use crate::secret::hash::KeyDigest;
use crate::secret::hex;
use crate::store::{Snapshot, Tx};

/// How long sessions last, how their cookie travels, and who is believed about where people come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSettings {
    /// Without a request.
    pub idle: Duration,
    /// Whatever happens.
    pub absolute: Duration,
    /// Whether people come by TLS: then their browsers send the cookie by nothing else.
    pub is_secure: bool,
    /// Networks of proxies in front of the admin address, which tell for whom they ask.
    pub proxies: Vec<IpNet>,
}

/// What somebody types to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub email: String,
    pub password: String,
    /// Of the user's device, or a recovery code.
    pub code: Option<String>,
}

/// A session at the only moment when its token is known.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    pub session: Session,
    pub user: User,
    /// Shown once, stored nowhere.
    pub token: String,
}

/// Whoever shows a session's token.
#[derive(Clone, PartialEq, Debug)]
pub struct Visitor {
    pub session: Session,
    pub user: User,
    /// Everything that they are in tenants.
    pub memberships: Vec<Membership>,
    pub rights: Rights,
    pub actor: Actor,
}

const PREFIX: &str = "tgs_";
/// Last use is noted to the minute, so that reading writes once in a while only.
const TOUCHED_EVERY: Duration = Duration::from_secs(60);
/// Sessions of one user: another log-in ends the oldest.
const SESSIONS_MAX: usize = 50;
/// Tenants in whose logs one refused log-in is noted.
const NOTED_IN_MAX: usize = 16;
/// From this security level on people show a second factor.
const MULTI_FACTOR_LEVEL: &str = "advanced";

impl Control {
    /// Begins a session. Dropping the future leaves it open whether there is one; its token is lost then.
    ///
    /// # Errors
    /// [`ControlError::BadCredentials`], whatever of them is wrong; [`ControlError::SecondFactor`] when they are good but
    /// a code is asked for; [`ControlError::Throttled`].
    pub async fn log_in(&self, person: &Person, credentials: &Credentials) -> Result<LoggedIn, ControlError> {
        let outcome = self.try_log_in(person, credentials).await;
        self.parts.log_ins.note(&outcome);
        outcome
    }

    async fn try_log_in(&self, person: &Person, credentials: &Credentials) -> Result<LoggedIn, ControlError> {
        let email = credentials.email.trim().to_lowercase();
        let mut snapshot = self.read().await?;
        let user = snapshot.user_by_email(&email).await?;
        let hash = match &user {
            Some(user) => snapshot.password_hash(user.id).await?,
            None => None,
        };
        drop(snapshot);
        let is_theirs = self.prove(person, &email, &credentials.password, hash).await?;
        let Some(user) = user else { return self.refused(person, None, "no such account").await };
        if !is_theirs {
            return self.refused(person, Some(&user), "wrong password").await;
        }
        let mut tx = self.parts.store.begin().await?;
        if user.is_multi_factor {
            let Some(code) = &credentials.code else { return Err(ControlError::SecondFactor) };
            if !self.use_code(&mut tx, &user, code).await? {
                tx.rollback().await?;
                return self.refused(person, Some(&user), "wrong code").await;
            }
        }
        let is_multi_factor = user.is_multi_factor;
        let logged_in = self.begin_session(&mut tx, person, user, is_multi_factor).await?;
        tx.commit().await?;
        Ok(logged_in)
    }

    /// The session's row, token and audit row.
    pub(super) async fn begin_session(
        &self,
        tx: &mut Tx,
        person: &Person,
        user: User,
        is_multi_factor: bool,
    ) -> Result<LoggedIn, ControlError> {
        let now = self.now();
        let (token, digest) = self.new_once(PREFIX)?;
        let session = Session {
            id: SessionId(self.new_id()),
            user: user.id,
            is_multi_factor,
            ip: person.ip,
            user_agent: person.user_agent.clone(),
            created_at: now,
            last_seen_at: now,
            expires_at: now.plus(self.parts.sessions.absolute),
        };
        let open = tx.sessions(user.id, now, self.idle_since()).await?;
        for oldest in open.iter().skip(SESSIONS_MAX - 1) {
            tx.remove_session(user.id, oldest.id).await?;
        }
        tx.insert_session(&session, &digest).await?;
        let row = self.session_row(person, &user, "session.create", AuditOutcome::Done);
        let told = json!({ "session_id": session.id, "is_multi_factor": is_multi_factor });
        for tenant in noted_in(tx, &user).await? {
            tx.audit(&AuditRow { tenant, after: Some(told.clone()), ..row.clone() }).await?;
        }
        Ok(LoggedIn { session, user, token })
    }

    /// Notes an attempt in the logs of those whom it concerns, and refuses it.
    pub(super) async fn refused<T>(
        &self,
        person: &Person,
        user: Option<&User>,
        why: &str,
    ) -> Result<T, ControlError> {
        let mut tx = self.parts.store.begin().await?;
        match user {
            Some(user) => {
                let row = self.session_row(person, user, "session.create", AuditOutcome::Denied);
                for tenant in noted_in(&mut tx, user).await? {
                    tx.audit(&AuditRow { tenant, reason: Some(why.to_owned()), ..row.clone() }).await?;
                }
            }
            // What was typed is not repeated: it may be a password in the wrong field.
            None => {
                let nobody = Actor {
                    kind: ActorKind::User,
                    id: None,
                    ..person.actor(ActorKind::User, UserId(Uuid::nil()), "unknown")
                };
                let row = self.row_of(person, nobody, "session.create", AuditOutcome::Denied);
                tx.audit(&AuditRow { reason: Some(why.to_owned()), ..row }).await?;
            }
        }
        tx.commit().await?;
        Err(ControlError::BadCredentials)
    }

    pub(super) fn session_row(
        &self,
        person: &Person,
        user: &User,
        action: &str,
        outcome: AuditOutcome,
    ) -> AuditRow {
        self.row_of(person, person.actor(kind_of(user), user.id, &user.email), action, outcome)
    }

    fn row_of(&self, person: &Person, actor: Actor, action: &str, outcome: AuditOutcome) -> AuditRow {
        AuditRow {
            at: self.now(),
            tenant: None,
            target_kind: "user".to_owned(),
            target_id: actor.id.map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
            actor,
            action: action.to_owned(),
            outcome,
            before: None,
            after: None,
            reason: None,
            correlation: person.correlation,
        }
    }

    /// Who shows that token, as `wanted` knows them if they belong to it, else as the tenant does that they have
    /// belonged to the longest. `None` for a token that is none, or whose session has ended.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn visitor(
        &self,
        person: &Person,
        token: &str,
        wanted: Option<&TenantRef>,
    ) -> Result<Option<Visitor>, ControlError> {
        let Some(digest) = self.once(PREFIX, token) else { return Ok(None) };
        let now = self.now();
        let mut snapshot = self.read().await?;
        let found = snapshot.session_by_token(&digest).await?;
        let living = |session: &Session| now < session.expires_at && session.last_seen_at > self.idle_since();
        let Some(session) = found.filter(living) else { return Ok(None) };
        let Some(user) = snapshot.user(session.user).await? else { return Ok(None) };
        let memberships = snapshot.memberships(user.id).await?;
        let rights = self.rights_of(&mut snapshot, &session, &user, &memberships, wanted).await?;
        drop(snapshot);
        if now.since(session.last_seen_at) >= TOUCHED_EVERY {
            self.parts.store.touch_session(session.id, now).await?;
        }
        let actor = person.actor(kind_of(&user), user.id, &user.email);
        Ok(Some(Visitor { session, user, memberships, rights, actor }))
    }

    async fn rights_of(
        &self,
        snapshot: &mut Snapshot,
        session: &Session,
        user: &User,
        memberships: &[Membership],
        wanted: Option<&TenantRef>,
    ) -> Result<Rights, ControlError> {
        if let Some(role) = user.platform_role {
            return Ok(Rights::platform(role));
        }
        let mut longest = None;
        for member in memberships {
            let Some(tenant) = snapshot.tenant(member.tenant).await? else { continue };
            let Some(permissions) = permissions_of(snapshot, tenant.id, &member.role).await? else {
                continue;
            };
            let Some(rights) = rights_in(snapshot, &tenant, permissions).await? else { continue };
            let rights = self.held_back(snapshot, session, &tenant, rights).await?;
            if wanted.is_some_and(|wanted| is_named(&tenant, wanted)) {
                return Ok(rights);
            }
            longest.get_or_insert(rights);
        }
        Ok(longest.unwrap_or(Rights::NOBODYS))
    }

    /// A tenant may want more than a password.
    async fn held_back(
        &self,
        snapshot: &mut Snapshot,
        session: &Session,
        tenant: &Tenant,
        rights: Rights,
    ) -> Result<Rights, ControlError> {
        if session.is_multi_factor {
            return Ok(rights);
        }
        let rank = |level: &str| SECURITY_LEVELS.iter().position(|known| *known == level);
        let level = self.security_level(snapshot, tenant).await?;
        let is_held = rank(&level) >= rank(MULTI_FACTOR_LEVEL);
        let permissions = if is_held { Permissions::NONE } else { rights.permissions };
        Ok(Rights { permissions, lacks_second_factor: is_held, ..rights })
    }

    /// What a form or a script has to send beside the cookie, which browsers send for anybody: a text that only who
    /// read an answer of ours knows.
    pub fn csrf_token(&self, session: &Session) -> String {
        let KeyDigest(digest) =
            self.parts.peppers.current().digest(format!("csrf:{}", session.id).as_bytes());
        hex::encoded(&digest)
    }

    /// Whether `text` is the session's token against forged requests.
    pub fn is_csrf_token(&self, session: &Session, text: &str) -> bool {
        self.csrf_token(session).as_bytes().ct_eq(text.as_bytes()).into()
    }

    pub fn session_settings(&self) -> &SessionSettings {
        &self.parts.sessions
    }

    /// The visitor's own sessions, newest first.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn sessions(&self, visitor: &Visitor) -> Result<Vec<Session>, ControlError> {
        Ok(self.read().await?.sessions(visitor.user.id, self.now(), self.idle_since()).await?)
    }

    /// The tenants that the visitor belongs to, as far as they are still there, by their names.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn tenants_of(&self, visitor: &Visitor) -> Result<Vec<Tenant>, ControlError> {
        let mut snapshot = self.read().await?;
        let mut tenants = Vec::with_capacity(visitor.memberships.len());
        for member in &visitor.memberships {
            let found = snapshot.tenant(member.tenant).await?;
            tenants.extend(found.filter(|tenant| tenant.status != TenantStatus::Deleted));
        }
        tenants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tenants)
    }

    /// Ends a session of the visitor's own.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn end_session(
        &self,
        person: &Person,
        visitor: &Visitor,
        session: SessionId,
    ) -> Result<(), ControlError> {
        let mut tx = self.parts.store.begin().await?;
        if !tx.remove_session(visitor.user.id, session).await? {
            return Err(ControlError::NotFound { what: "session", which: session.to_string() });
        }
        let row = self.session_row(person, &visitor.user, "session.end", AuditOutcome::Done);
        tx.audit(&AuditRow { after: Some(json!({ "session_id": session })), ..row }).await?;
        Ok(tx.commit().await?)
    }

    /// Ends all of a user's sessions: the platform's to do. Answers how many there were.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]
    pub async fn end_sessions(&self, principal: &Principal, user: UserId) -> Result<u64, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = async {
            let target = Target { tenant: None, kind: "user", id: user.to_string() };
            work.authorize(Operation::EndSessions, &target)?;
            let ended = work.tx.remove_sessions(user, None).await?;
            work.audit(Operation::EndSessions, &target, Told::made(json!({ "sessions": ended }))).await?;
            Ok(ended)
        }
        .await;
        work.end(outcome).await
    }

    /// Changes the visitor's password, and ends their other sessions.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a password that is not theirs, or a new one that is not good enough;
    /// [`ControlError::Throttled`].
    pub async fn change_password(
        &self,
        person: &Person,
        visitor: &Visitor,
        password: &str,
        new: &str,
    ) -> Result<(), ControlError> {
        let user = &visitor.user;
        let mut faults = Faults::default();
        faults.password("new_password", new, &user.email);
        faults.finish()?;
        self.prove_again(person, visitor, password).await?;
        let hash = self.passwords().hash(new).await?;
        let mut tx = self.parts.store.begin().await?;
        tx.set_password_hash(user.id, &hash).await?;
        tx.remove_sessions(user.id, Some(visitor.session.id)).await?;
        tx.audit(&self.session_row(person, user, "user.set_password", AuditOutcome::Done)).await?;
        Ok(tx.commit().await?)
    }

    /// Who changes how they are known shows the password once more: a session may be open on a desk.
    pub(super) async fn prove_again(
        &self,
        person: &Person,
        visitor: &Visitor,
        password: &str,
    ) -> Result<(), ControlError> {
        let hash = self.read().await?.password_hash(visitor.user.id).await?;
        let is_theirs = self.prove(person, &visitor.user.email, password, hash).await?;
        let mut faults = Faults::default();
        faults.check("password", is_theirs.then_some(()), "it is not your password");
        faults.finish()
    }

    /// Whoever was last seen before has been idle for too long.
    fn idle_since(&self) -> crate::clock::Timestamp {
        self.now().minus(self.parts.sessions.idle)
    }

    pub(super) fn own_row(&self, person: &Person, visitor: &Visitor, action: &str) -> AuditRow {
        self.session_row(person, &visitor.user, action, AuditOutcome::Done)
    }
}

/// In whose logs what a user does with their log-in is noted: those of their tenants, or else the platform's.
async fn noted_in(snapshot: &mut Snapshot, user: &User) -> Result<Vec<Option<TenantId>>, ControlError> {
    let memberships = snapshot.memberships(user.id).await?;
    if user.platform_role.is_some() || memberships.is_empty() {
        return Ok(vec![None]);
    }
    Ok(memberships.into_iter().take(NOTED_IN_MAX).map(|member| Some(member.tenant)).collect())
}

const fn kind_of(user: &User) -> ActorKind {
    if user.platform_role.is_some() { ActorKind::PlatformUser } else { ActorKind::User }
}

fn is_named(tenant: &Tenant, name: &TenantRef) -> bool {
    match name {
        TenantRef::Id(id) => tenant.id == *id,
        TenantRef::Slug(slug) => tenant.slug == *slug,
    }
}

// === impl SessionSettings ===

/// OWASP ASVS 4.0.3, 3.3.2, level 2: half an hour without a request, twelve hours in any case.
impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 3_600),
            is_secure: false,
            proxies: Vec::new(),
        }
    }
}

// === impl Credentials ===

/// Without what is secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("email", &self.email).finish_non_exhaustive()
    }
}

// === impl LoggedIn ===

/// Without the token.
impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("session", &self.session).finish_non_exhaustive()
    }
}
