//! Log-in by an OpenID provider: the code flow of OpenID Connect Core 1.0, with PKCE (RFC 7636), state and nonce.
//!
//! Who somebody is comes from the provider; what they may do comes from the operator, who says which group has which
//! role where. In the tenants that the operator names, and at the platform if a role there is named, groups decide alone:
//! whoever has left the group has no role any more with the next log-in.
//!
//! # Why no library
//! What is left beside the signature, the keys and the fetching, which are here already and strict, is three requests.
//! Libraries of the field bring a second implementation of all three, and a calendar besides.
//!
//! # Between the two requests
//! State, nonce and verifier travel in a cookie that is sealed: any gateway can end what another began, nothing has to be
//! remembered or bounded, and a browser that did not begin the log-in can't end it.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Control, ControlError, LoggedIn, Person};
use crate::clock::{Monotonic, Timestamp};
use crate::domain::{
    AuditOutcome, AuditRow, Membership, Role, RoleName, Tenant, TenantId, TenantRef, TenantStatus, User,
};
use crate::outbound::{
    BadTrust, Bounds, Outbound, Place as Address, Plain, Question, Reach, SendError, form, form_encoded,
};
use crate::secret::hash::random_letters;
use crate::secret::jwt::{Algorithm, BadKeys, BadToken, Claim, KeySet, Rules, Token};
use crate::secret::seal::{DataKey, Place};
use crate::store::Tx;
use crate::telemetry::log::with_causes;

/// A provider that vouches for people.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcSettings {
    pub issuer: String,
    pub client_id: String,
    /// `None` for a public client, for which PKCE is all there is.
    pub client_secret: Option<Vec<u8>>,
    pub scopes: Vec<String>,
    pub groups: Claim,
    pub algorithms: Vec<Algorithm>,
    pub grants: Vec<GroupGrant>,
    /// Whether the provider asks everybody for more than a password.
    pub is_multi_factor: bool,
    /// Certificates (PEM) that vouch for the provider, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Where the provider sends people back to.
    pub redirect_url: String,
}

/// What the members of a group are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupGrant {
    pub group: String,
    pub to: Granted,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Granted {
    AtPlatform(Role),
    In(TenantRef, RoleName),
}

/// The provider, and what was found out about it. Shared by all operations.
pub struct Oidc {
    settings: OidcSettings,
    outbound: Outbound,
    found: Mutex<Option<Found>>,
}

/// A log-in that has begun.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcBegun {
    /// Where the browser goes.
    pub url: String,
    /// What it brings back, sealed.
    pub cookie: String,
}

/// What the provider's description and keys were when they were last read.
#[derive(Clone)]
struct Found {
    authorization_endpoint: String,
    token_endpoint: String,
    keys: std::sync::Arc<KeySet>,
    read_at: Monotonic,
}

/// What only the browser that began may end.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    began_at: Timestamp,
}

/// Whom the provider vouches for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    subject: String,
    email: String,
    is_email_verified: bool,
    groups: Vec<String>,
    is_multi_factor: bool,
}

/// Why somebody can't be vouched for.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("the certificates can't be used")]
    Trust(#[from] BadTrust),
    #[error("asking {0}")]
    Send(String, #[source] SendError),
    #[error("{0} answers {1}")]
    Status(String, u16),
    #[error("{0} is no description of the provider")]
    Description(String),
    #[error("using the provider's keys")]
    Keys(#[from] BadKeys),
    #[error("the provider's token is refused")]
    Token(#[from] BadToken),
    #[error("{0}")]
    Claims(&'static str),
}

/// How long people may take to log in there.
const BEGUN_FOR: Duration = Duration::from_secs(600);
/// The description and the keys are read again this often.
const RENEWED_EVERY: Duration = Duration::from_secs(300);
const BOUNDS: Bounds = Bounds { within: Duration::from_secs(10), bytes_max: 1 << 20 };
const LEEWAY: Duration = Duration::from_secs(60);
/// 32 letters of base62 hold 190 bits; RFC 7636 wants 43 to 128 of a verifier.
const LETTERS: usize = 43;
/// A person is in hundreds of groups at most; more would be no person.
const GROUPS_MAX: usize = 1_000;
const PENDING: Place<'static> = Place { tenant: TenantId(Uuid::nil()), name: "oidc", version: 1 };

// === impl Oidc ===

impl Oidc {
    /// # Errors
    /// [`OidcError::Trust`]
    pub fn new(settings: OidcSettings) -> Result<Oidc, OidcError> {
        let outbound = Outbound::new(settings.ca.as_deref())?;
        Ok(Oidc { settings, outbound, found: Mutex::new(None) })
    }

    /// What is known of the provider; read anew if it was long ago, or if `at_least` is younger.
    async fn found(&self, now: Monotonic, at_least: Option<Monotonic>) -> Result<Found, OidcError> {
        let mut found = self.found.lock().await;
        let fresh = |known: &Found| {
            now.since(known.read_at) < RENEWED_EVERY && at_least.is_none_or(|least| known.read_at > least)
        };
        if let Some(known) = found.as_ref().filter(|known| fresh(known)) {
            return Ok(known.clone());
        }
        let read = self.read(now).await?;
        *found = Some(read.clone());
        Ok(read)
    }

    async fn read(&self, now: Monotonic) -> Result<Found, OidcError> {
        let at = format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        let document = self.ask(&at, Question::default()).await?;
        let described: Value =
            serde_json::from_slice(&document).map_err(|_| OidcError::Description(at.clone()))?;
        let text = |name: &str| described[name].as_str().map(str::to_owned);
        if text("issuer").as_ref() != Some(&self.settings.issuer) {
            return Err(OidcError::Description(at));
        }
        let (Some(authorization_endpoint), Some(token_endpoint), Some(jwks_uri)) =
            (text("authorization_endpoint"), text("token_endpoint"), text("jwks_uri"))
        else {
            return Err(OidcError::Description(at));
        };
        let keys = self.ask(&jwks_uri, Question::default()).await?;
        let keys = KeySet::parse(&keys, &self.settings.algorithms)?.into();
        Ok(Found { authorization_endpoint, token_endpoint, keys, read_at: now })
    }

    async fn ask(&self, url: &str, question: Question) -> Result<Vec<u8>, OidcError> {
        let failed = |error| OidcError::Send(url.to_owned(), error);
        let place = Address::parse(url, Plain::Here).ok_or_else(|| failed(SendError::Url))?;
        let answer = self.outbound.send(&place, question, &Reach::Anywhere, BOUNDS).await.map_err(failed)?;
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(OidcError::Status(url.to_owned(), answer.status))
        }
    }

    fn authorization_url(&self, endpoint: &str, pending: &Pending) -> String {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&pending.verifier));
        let scopes = self.settings.scopes.join(" ");
        let query = form(&[
            ("response_type", "code"),
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", self.settings.redirect_url.as_str()),
            ("scope", scopes.as_str()),
            ("state", pending.state.as_str()),
            ("nonce", pending.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        format!("{endpoint}{joint}{query}")
    }

    /// The ID token that the code stands for.
    async fn exchange(&self, found: &Found, pending: &Pending, code: &str) -> Result<String, OidcError> {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.settings.redirect_url.as_str()),
            ("code_verifier", pending.verifier.as_str()),
        ];
        let mut headers = vec![
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        match &self.settings.client_secret {
            // RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
            Some(secret) => {
                let pair = format!(
                    "{}:{}",
                    form_encoded(&self.settings.client_id),
                    form_encoded(&String::from_utf8_lossy(secret))
                );
                headers.push(("authorization", format!("Basic {}", BASE64_STANDARD.encode(pair))));
            }
            None => fields.push(("client_id", self.settings.client_id.as_str())),
        }
        let question = Question { headers, body: Some(form(&fields).into_bytes()) };
        let answer = self.ask(&found.token_endpoint, question).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = answer["id_token"].as_str().map(str::to_owned);
        token.ok_or(OidcError::Claims("the provider answers no ID token"))
    }

    /// Whom the token vouches for, if it is genuine, timely, for us, and of the log-in that was begun.
    fn identity(
        &self,
        token: &str,
        nonce: &str,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Identity, OidcError> {
        let rules = Rules {
            issuer: self.settings.issuer.clone(),
            audiences: vec![self.settings.client_id.clone()],
            leeway: LEEWAY,
            tenant: Claim::new("sub"),
            subject: Claim::new("sub"),
            scopes: Claim::new("scope"),
            tier: None,
        };
        let token = Token::read(token.as_bytes())?;
        let (claims, _) = rules.genuine(&token, keys, now)?;
        let text = |name: &str| claims[name].as_str();
        let is_of_it = text("nonce").is_some_and(|said| said.as_bytes().ct_eq(nonce.as_bytes()).into());
        if !is_of_it {
            return Err(OidcError::Claims("the token is of another log-in"));
        }
        let has_others = claims["aud"].as_array().is_some_and(|all| all.len() > 1);
        if has_others && text("azp") != Some(&self.settings.client_id) {
            return Err(OidcError::Claims("the token was made for another client"));
        }
        let subject = text("sub").filter(|subject| (1..=255).contains(&subject.len()));
        let email = text("email").filter(|email| email.contains('@') && email.len() <= 254);
        let (Some(subject), Some(email)) = (subject, email) else {
            return Err(OidcError::Claims("the token has no `sub` or no `email`: ask for the scope email"));
        };
        let methods = claims["amr"].as_array();
        let is_strong = methods.is_some_and(|all| all.iter().any(|one| one == "mfa"));
        Ok(Identity {
            subject: format!("{} {subject}", self.settings.issuer),
            email: email.to_lowercase(),
            is_email_verified: claims["email_verified"] == true,
            groups: groups(self.settings.groups.of(claims)),
            is_multi_factor: is_strong || self.settings.is_multi_factor,
        })
    }
}

/// A list of names, or one name.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).take(GROUPS_MAX).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

// === impl Control ===

impl Control {
    fn oidc(&self) -> Result<&Oidc, ControlError> {
        let without = || ControlError::NotFound { what: "provider", which: "of log-ins".to_owned() };
        self.parts.oidc.as_deref().ok_or_else(without)
    }

    /// Whether people can log in at a provider.
    pub fn has_oidc(&self) -> bool {
        self.parts.oidc.is_some()
    }

    /// Begins a log-in at the provider.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] where none is configured; [`ControlError::Unanswered`] when it can't be asked.
    pub async fn oidc_begin(&self) -> Result<OidcBegun, ControlError> {
        let oidc = self.oidc()?;
        let found = oidc.found(self.parts.clock.monotonic(), None).await.map_err(|error| unasked(&error))?;
        let letters = || random_letters(LETTERS).map_err(ControlError::Random);
        let pending =
            Pending { state: letters()?, nonce: letters()?, verifier: letters()?, began_at: self.now() };
        let plain = serde_json::to_string(&pending).unwrap_or_default();
        let cookie = BASE64_URL_SAFE_NO_PAD.encode(self.pending_key().seal(PENDING, &plain)?);
        Ok(OidcBegun { url: oidc.authorization_url(&found.authorization_endpoint, &pending), cookie })
    }

    /// Ends it: whoever the provider vouches for gets a session, and the roles of their groups.
    ///
    /// # Errors
    /// [`ControlError::BadCredentials`] for what was not begun here, or whom nobody vouches for, or who has no role;
    /// [`ControlError::Unanswered`].
    pub async fn oidc_finish(
        &self,
        person: &Person,
        cookie: &str,
        state: &str,
        code: &str,
    ) -> Result<LoggedIn, ControlError> {
        let outcome = self.try_oidc_finish(person, cookie, state, code).await;
        self.parts.log_ins.note(&outcome);
        outcome
    }

    async fn try_oidc_finish(
        &self,
        person: &Person,
        cookie: &str,
        state: &str,
        code: &str,
    ) -> Result<LoggedIn, ControlError> {
        let oidc = self.oidc()?;
        let Some(pending) = self.pending(cookie) else {
            return self.refused(person, None, "no log-in was begun by that browser").await;
        };
        if !bool::from(pending.state.as_bytes().ct_eq(state.as_bytes())) {
            return self.refused(person, None, "the state is of another log-in").await;
        }
        let identity = match self.vouched_for(oidc, &pending, code).await {
            Ok(identity) => identity,
            Err(error @ (OidcError::Send(..) | OidcError::Description(_) | OidcError::Keys(_))) => {
                return Err(unasked(&error));
            }
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "the provider vouches for nobody");
                return self.refused(person, None, "the provider vouches for nobody").await;
            }
        };
        let mut tx = self.parts.store.begin().await?;
        let Some(user) = self.user_of(&mut tx, &identity).await? else {
            tx.rollback().await?;
            return self.refused(person, None, "the address belongs to somebody else").await;
        };
        let user = self.grant(&mut tx, person, &oidc.settings, user, &identity.groups).await?;
        if user.platform_role.is_none() && tx.memberships(user.id).await?.is_empty() {
            tx.rollback().await?;
            return self.refused(person, None, "no group of theirs has a role").await;
        }
        let logged_in = self.begin_session(&mut tx, person, user, identity.is_multi_factor).await?;
        tx.commit().await?;
        Ok(logged_in)
    }

    async fn vouched_for(&self, oidc: &Oidc, pending: &Pending, code: &str) -> Result<Identity, OidcError> {
        let found = oidc.found(self.parts.clock.monotonic(), None).await?;
        let token = oidc.exchange(&found, pending, code).await?;
        match oidc.identity(&token, &pending.nonce, &found.keys, self.now()) {
            // The provider may have changed its keys since they were read.
            Err(OidcError::Token(BadToken::Key)) => {
                let newer = oidc.found(self.parts.clock.monotonic(), Some(found.read_at)).await?;
                oidc.identity(&token, &pending.nonce, &newer.keys, self.now())
            }
            vouched => vouched,
        }
    }

    /// Who has that subject; else who has the address, if the provider has verified it; else somebody new.
    async fn user_of(&self, tx: &mut Tx, identity: &Identity) -> Result<Option<User>, ControlError> {
        if let Some(user) = tx.user_by_oidc_subject(&identity.subject).await? {
            return Ok(Some(user));
        }
        let user = match tx.user_by_email(&identity.email).await? {
            Some(_) if !identity.is_email_verified => return Ok(None),
            // From now on the provider alone vouches: somebody else may have taken the address before.
            Some(user) => {
                tx.forget_credentials(user.id).await?;
                user
            }
            None => {
                let new = self.new_user(&identity.email, self.now());
                let id = tx.insert_login(&new).await?;
                User { id, ..new }
            }
        };
        tx.set_oidc_subject(user.id, &identity.subject).await?;
        Ok(Some(user))
    }

    /// Makes of the user what their groups say. Where two groups say something, the first in the configuration counts.
    async fn grant(
        &self,
        tx: &mut Tx,
        person: &Person,
        settings: &OidcSettings,
        user: User,
        groups: &[String],
    ) -> Result<User, ControlError> {
        let is_theirs = |grant: &&GroupGrant| groups.contains(&grant.group);
        let mut platform_role = user.platform_role;
        let at_platform = settings.grants.iter().filter(|grant| matches!(grant.to, Granted::AtPlatform(_)));
        if at_platform.clone().next().is_some() {
            platform_role = at_platform.clone().find(is_theirs).and_then(|grant| match grant.to {
                Granted::AtPlatform(role) => Some(role),
                Granted::In(..) => None,
            });
            tx.set_platform_role(user.id, platform_role).await?;
        }
        if platform_role != user.platform_role {
            tx.audit(&AuditRow {
                before: Some(json!({ "platform_role": user.platform_role })),
                after: Some(json!({ "platform_role": platform_role })),
                reason: Some("by the groups of the provider".to_owned()),
                ..self.session_row(person, &user, "user.set_platform_role", AuditOutcome::Done)
            })
            .await?;
        }
        let mut decided: Vec<TenantId> = Vec::new();
        let theirs_first = settings.grants.iter().filter(is_theirs);
        let others = settings.grants.iter().filter(|grant| !is_theirs(grant));
        for (grant, is_given) in theirs_first.map(|g| (g, true)).chain(others.map(|g| (g, false))) {
            let Granted::In(tenant, role) = &grant.to else { continue };
            let Some(tenant) = living(tx, tenant).await?.filter(|tenant| !decided.contains(&tenant.id))
            else {
                continue;
            };
            decided.push(tenant.id);
            let before = tx.member(tenant.id, user.id).await?;
            let role = is_given.then_some(role);
            if before.as_ref().map(|before| &before.role) == role {
                continue;
            }
            match role {
                Some(role) => tx.set_member(&self.member(&tenant, &user, role.clone())).await?,
                None => tx.remove_member(tenant.id, user.id).await?,
            }
            let action = if is_given { "member.join" } else { "member.remove" };
            tx.audit(&AuditRow {
                tenant: Some(tenant.id),
                before: before.map(|before| json!({ "role": before.role })),
                after: role.map(|role| json!({ "role": role })),
                reason: Some("by the groups of the provider".to_owned()),
                ..self.session_row(person, &user, action, AuditOutcome::Done)
            })
            .await?;
        }
        Ok(User { platform_role, ..user })
    }

    fn member(&self, tenant: &Tenant, user: &User, role: RoleName) -> Membership {
        let (tenant, email, created_at) = (tenant.id, user.email.clone(), self.now());
        Membership { tenant, user: user.id, email, role, created_at }
    }

    fn pending(&self, cookie: &str) -> Option<Pending> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let plain = self.pending_key().open(PENDING, &sealed).ok()?;
        let pending: Pending = serde_json::from_str(&plain).ok()?;
        (self.now().since(pending.began_at) < BEGUN_FOR).then_some(pending)
    }

    fn pending_key(&self) -> DataKey {
        DataKey::of(Uuid::nil(), self.parts.peppers.current().digest(b"oidc").0)
    }
}

async fn living(tx: &mut Tx, tenant: &TenantRef) -> Result<Option<Tenant>, ControlError> {
    let found = match tenant {
        TenantRef::Id(id) => tx.tenant(*id).await?,
        TenantRef::Slug(slug) => tx.tenant_by_slug(slug).await?,
    };
    Ok(found.filter(|tenant| tenant.status != TenantStatus::Deleted))
}

fn unasked(error: &OidcError) -> ControlError {
    tracing::warn!(error = with_causes(error), "the provider of log-ins can't be asked");
    ControlError::Unanswered("the provider of log-ins")
}

// === impl OidcBegun ===

/// Without what is secret.
impl std::fmt::Debug for OidcBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OidcBegun(***)")
    }
}
