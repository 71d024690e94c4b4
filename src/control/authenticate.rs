//! Credentials of the control plane: platform tokens, and API keys with an administrative scope.

use std::net::IpAddr;

use uuid::Uuid;

use super::validate::Faults;
use super::{Control, ControlError, FieldFault, Permissions, Rights, Scope};
use crate::clock::Timestamp;
use crate::domain::{Actor, ActorKind, ApiKey, AuditOutcome, AuditRow, Role, Tenant, TenantStatus};
use crate::secret::hash::{Digests, KeyText, Renewal, random_letters};
use crate::store::{Found, PlatformToken, Snapshot, StoreError, Tx};

/// Shorter tokens could be guessed.
const TOKEN_LENGTH_MIN: usize = 32;
/// 43 letters of base62 hold 256 bits.
const TOKEN_LETTERS: usize = 43;
/// The token of the configuration: at most one is good at a time.
const CONFIGURED: &str = "configured";
/// The token that was made at the first start.
const BOOTSTRAP: &str = "bootstrap";

impl Control {
    /// Whose credential `bearer` is; `None` when it is nobody's. The actor's address and user agent are the
    /// caller's to fill in.
    ///
    /// A key that is bound to networks is nobody's here, since nobody says where it comes from: see
    /// [`Control::authenticate_from`].
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn authenticate(&self, bearer: &str) -> Result<Option<(Rights, Actor)>, ControlError> {
        self.authenticate_from(bearer, None).await
    }

    /// As [`Control::authenticate`], from an address.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn authenticate_from(
        &self,
        bearer: &str,
        ip: Option<IpAddr>,
    ) -> Result<Option<(Rights, Actor)>, ControlError> {
        let digests = self.parts.peppers.digests(bearer.as_bytes());
        if KeyText::parse(bearer.as_bytes()).is_some() {
            self.administrator(&digests, ip).await
        } else if bearer.len() >= TOKEN_LENGTH_MIN {
            self.platform_owner(&digests, ip).await
        } else {
            Ok(None)
        }
    }

    async fn platform_owner(
        &self,
        digests: &Digests,
        ip: Option<IpAddr>,
    ) -> Result<Option<(Rights, Actor)>, ControlError> {
        let found = self.read().await?.platform_token_by_digests(digests).await?;
        let Some(Found { what: token, renewal }) = found else { return Ok(None) };
        if let Some(renewal) = renewal {
            tried(self.renew_platform_token(renewal).await);
        }
        let kind = ActorKind::PlatformToken;
        let actor = Actor { kind, id: Some(token.id), name: token.name, ip, user_agent: None };
        Ok(Some((Rights::platform(Role::PlatformOwner), actor)))
    }

    async fn administrator(
        &self,
        digests: &Digests,
        ip: Option<IpAddr>,
    ) -> Result<Option<(Rights, Actor)>, ControlError> {
        let mut snapshot = self.read().await?;
        let Some(found) = snapshot.key_by_digests(digests).await? else { return Ok(None) };
        let Found { what: key, renewal } = found;
        let Some(tenant) = snapshot.tenant(key.tenant).await? else { return Ok(None) };
        let usable = key.is_usable(self.now()) && is_from_its_networks(&key, ip);
        let Some(scope) = Scope::of(&key.limits.scopes).filter(|_| usable) else { return Ok(None) };
        let Some(rights) = rights_in(&mut snapshot, &tenant, scope.permissions()).await? else {
            return Ok(None);
        };
        drop(snapshot);
        if let Some(renewal) = renewal {
            tried(self.parts.store.renew_keys(&[renewal]).await.map(drop));
        }
        let (kind, id) = (ActorKind::ApiKey, Some(key.id.0));
        Ok(Some((rights, Actor { kind, id, name: key.name, ip, user_agent: None })))
    }

    async fn renew_platform_token(&self, renewal: Renewal) -> Result<(), StoreError> {
        let mut tx = self.parts.store.begin().await?;
        tx.renew_platform_token(renewal).await?;
        tx.commit().await
    }

    /// Sees to it that a platform token exists: the configured one, or else one that is made at the first start
    /// and returned this once. A token that is no longer the configured one is revoked.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a configured token of less than 32 characters.
    pub async fn ensure_platform_token(
        &self,
        configured: Option<&str>,
    ) -> Result<Option<String>, ControlError> {
        let now = self.now();
        let mut tx = self.parts.store.begin().await?;
        let made = match configured {
            Some(token) => self.ensure_configured(&mut tx, token, now).await.map(|()| None)?,
            None => self.ensure_bootstrap(&mut tx, now).await?,
        };
        tx.commit().await?;
        Ok(made)
    }

    async fn ensure_configured(&self, tx: &mut Tx, token: &str, now: Timestamp) -> Result<(), ControlError> {
        let mut faults = Faults::default();
        let long = (token.len() >= TOKEN_LENGTH_MIN).then_some(());
        faults.check("platform_token", long, format!("at least {TOKEN_LENGTH_MIN} characters are expected"));
        faults.finish()?;
        if KeyText::parse(token.as_bytes()).is_some() {
            let fault =
                FieldFault::new("platform_token", "this is an API key, which can't be a platform token");
            return Err(ControlError::Invalid(vec![fault]));
        }
        let digests = self.parts.peppers.digests(token.as_bytes());
        if let Some(found) = tx.platform_token_by_digests(&digests).await? {
            return match found.renewal {
                Some(renewal) => Ok(tx.renew_platform_token(renewal).await?),
                None => Ok(()),
            };
        }
        self.revoke_configured(tx, now).await?;
        self.add_token(tx, CONFIGURED, token, now).await
    }

    async fn ensure_bootstrap(&self, tx: &mut Tx, now: Timestamp) -> Result<Option<String>, ControlError> {
        self.revoke_configured(tx, now).await?;
        if tx.has_platform_token().await? {
            return Ok(None);
        }
        let token = format!("tgp_{}", random_letters(TOKEN_LETTERS).map_err(ControlError::Random)?);
        self.add_token(tx, BOOTSTRAP, &token, now).await?;
        Ok(Some(token))
    }

    async fn revoke_configured(&self, tx: &mut Tx, now: Timestamp) -> Result<(), ControlError> {
        if tx.revoke_platform_tokens(CONFIGURED, now).await? > 0 {
            tx.audit(&token_row("platform_token.revoke", CONFIGURED, now)).await?;
        }
        Ok(())
    }

    async fn add_token(
        &self,
        tx: &mut Tx,
        name: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let token = PlatformToken { id: self.new_id(), name: name.to_owned() };
        let pepper = self.parts.peppers.current();
        tx.insert_platform_token(&token, &pepper.digest(text.as_bytes()), pepper.version(), now).await?;
        Ok(tx.audit(&token_row("platform_token.create", name, now)).await?)
    }
}

/// Whoever came is let in all the same: the next time it is tried again.
fn tried(renewed: Result<(), StoreError>) {
    if let Err(error) = renewed {
        tracing::warn!(error = %error, "a credential can't be stored under the current pepper");
    }
}

fn is_from_its_networks(key: &ApiKey, ip: Option<IpAddr>) -> bool {
    let networks = &key.limits.networks;
    networks.is_empty() || ip.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)))
}

/// What is left of somebody's permissions in a tenant of that status. Who is no longer served may still read: invoices
/// and logs are theirs.
pub(super) async fn rights_in(
    snapshot: &mut Snapshot,
    tenant: &Tenant,
    permissions: Permissions,
) -> Result<Option<Rights>, ControlError> {
    let permissions = match tenant.status {
        TenantStatus::Deleted => return Ok(None),
        status if status.is_served() => permissions,
        _ => permissions.only(Permissions::reads()),
    };
    let resells = snapshot.is_reseller(tenant).await?;
    Ok(Some(Rights { resells, ..Rights::in_tenant(tenant.id, permissions) }))
}

fn token_row(action: &str, name: &str, now: Timestamp) -> AuditRow {
    AuditRow {
        at: now,
        tenant: None,
        actor: Actor::system("start"),
        action: action.to_owned(),
        target_kind: "platform_token".to_owned(),
        target_id: name.to_owned(),
        outcome: AuditOutcome::Done,
        before: None,
        after: None,
        reason: None,
        correlation: Uuid::nil(),
    }
}
