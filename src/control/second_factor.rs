//! The second factor: codes of a device (RFC 6238), and recovery codes for who has lost it.
//!
//! The secret is sealed like tenants' secrets are, under a data key of the user's own; a database that was stolen makes
//! no codes. A device counts from the moment when it has shown one good code, so nobody locks themselves out by a
//! photograph that was not taken.

use super::validate::Faults;
use super::{Control, ControlError, Person, Visitor};
use crate::domain::{TenantId, User, UserId};
use crate::secret::hash::{Digests, random_letters};
use crate::secret::seal::Place;
use crate::secret::totp::TotpSecret;
use crate::store::{Snapshot, StoredTotp, Tx};

/// What a device is told, once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSecondFactor {
    /// Base32.
    pub secret: String,
    /// The same for a QR code.
    pub url: String,
}

const RECOVERY_CODES: usize = 10;
/// Ten letters of base62 hold 59 bits, which nobody guesses at one attempt in ten seconds.
const RECOVERY_LETTERS: usize = 10;
const ISSUER: &str = "Tollgate";

impl Control {
    /// Makes a secret for a device. Codes are asked for after [`Control::confirm_second_factor`].
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a password that is not theirs; [`ControlError::Conflict`] while there is a device.
    pub async fn new_second_factor(
        &self,
        person: &Person,
        visitor: &Visitor,
        password: &str,
    ) -> Result<NewSecondFactor, ControlError> {
        self.prove_again(person, visitor, password).await?;
        let user = &visitor.user;
        let secret = TotpSecret::draw().map_err(ControlError::Random)?;
        let ring = self.key_ring()?;
        let key = ring.draw(user.id.0).map_err(ControlError::Random)?;
        let (wrapped, sealed) = (ring.wrap(owner(user.id), &key)?, key.seal(place(user.id), &secret.text())?);
        let mut tx = self.parts.store.begin().await?;
        if tx.totp(user.id).await?.is_some_and(|totp| totp.is_confirmed) {
            return Err(ControlError::Conflict(
                "there is a second factor already: remove it first".to_owned(),
            ));
        }
        tx.set_totp(user.id, &wrapped, &sealed).await?;
        tx.commit().await?;
        Ok(NewSecondFactor { url: secret.url(ISSUER, &user.email), secret: secret.text() })
    }

    /// Asks for codes from now on, if `code` is one. Answers the recovery codes, this once; the visitor's session has
    /// shown its second factor, the others end.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a wrong code; [`ControlError::Conflict`] where there is nothing to confirm.
    pub async fn confirm_second_factor(
        &self,
        person: &Person,
        visitor: &Visitor,
        code: &str,
    ) -> Result<Vec<String>, ControlError> {
        let user = &visitor.user;
        self.admit(person, &user.email)?;
        let mut tx = self.parts.store.begin().await?;
        let unconfirmed = tx.totp(user.id).await?.filter(|totp| !totp.is_confirmed);
        let nothing =
            || ControlError::Conflict("there is no second factor to confirm: make one first".to_owned());
        let totp = unconfirmed.ok_or_else(nothing)?;
        if !self.use_step(&mut tx, user.id, &totp, code).await? {
            return Err(wrong_code());
        }
        let codes: Result<Vec<_>, _> =
            (0..RECOVERY_CODES).map(|_| random_letters(RECOVERY_LETTERS)).collect();
        let codes = codes.map_err(ControlError::Random)?;
        let digests: Vec<_> =
            codes.iter().map(|code| self.recovery_digests(user.id, code).current().digest).collect();
        tx.confirm_totp(user.id, self.now()).await?;
        tx.set_recovery_codes(user.id, &digests).await?;
        tx.set_session_multi_factor(visitor.session.id).await?;
        tx.remove_sessions(user.id, Some(visitor.session.id)).await?;
        tx.audit(&self.own_row(person, visitor, "second_factor.confirm")).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// Asks for no codes any more.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a wrong password or code; [`ControlError::NotFound`] where there is none.
    pub async fn remove_second_factor(
        &self,
        person: &Person,
        visitor: &Visitor,
        password: &str,
        code: &str,
    ) -> Result<(), ControlError> {
        self.prove_again(person, visitor, password).await?;
        let user = &visitor.user;
        let mut tx = self.parts.store.begin().await?;
        if tx.totp(user.id).await?.is_none() {
            return Err(ControlError::NotFound { what: "second factor of", which: user.email.clone() });
        }
        if !self.use_code(&mut tx, user, code).await? {
            return Err(wrong_code());
        }
        tx.remove_totp(user.id).await?;
        tx.audit(&self.own_row(person, visitor, "second_factor.remove")).await?;
        Ok(tx.commit().await?)
    }

    /// Uses up a code of the device, or a recovery code. Whether it was one.
    pub(super) async fn use_code(&self, tx: &mut Tx, user: &User, code: &str) -> Result<bool, ControlError> {
        let code = code.trim();
        let Some(totp) = tx.totp(user.id).await? else { return Ok(false) };
        if self.use_step(tx, user.id, &totp, code).await? {
            return Ok(true);
        }
        for stored in self.recovery_digests(user.id, code).all() {
            if tx.use_recovery_code(user.id, &stored.digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn use_step(
        &self,
        tx: &mut Tx,
        user: UserId,
        totp: &StoredTotp,
        code: &str,
    ) -> Result<bool, ControlError> {
        let key = self.key_ring()?.unwrap(owner(user), &totp.key)?;
        let text = key.open(place(user), &totp.secret)?;
        // What we sealed ourselves is a secret.
        let step = TotpSecret::parse(&text).and_then(|secret| secret.verify(code, self.now(), totp.step));
        match step {
            Some(step) => Ok(tx.use_totp_step(user, step).await?),
            None => Ok(false),
        }
    }

    fn recovery_digests(&self, user: UserId, code: &str) -> Digests {
        self.parts.peppers.digests(format!("recovery:{user}:{code}").as_bytes())
    }

    /// Wraps the keys of some secrets anew, as tenants' keys are.
    pub(super) async fn rewrap_second_factors(
        &self,
        tx: &mut Tx,
        version: i64,
        limit: u32,
    ) -> Result<u64, ControlError> {
        let old = Snapshot::totps_below(tx, version, limit).await?;
        let ring = self.key_ring()?;
        for StoredTotp { key: wrapped, .. } in &old {
            let user = UserId(wrapped.id);
            let key = ring.unwrap(owner(user), wrapped)?;
            tx.rewrap_totp(&ring.wrap(owner(user), &key)?).await?;
        }
        Ok(old.len() as u64)
    }
}

fn wrong_code() -> ControlError {
    let mut faults = Faults::default();
    faults.add("code", "it is no code of this moment, or was used already");
    faults.refusal()
}

/// Keys and what they seal are bound to their owner, who here is a person.
const fn owner(user: UserId) -> TenantId {
    TenantId(user.0)
}

const fn place(user: UserId) -> Place<'static> {
    Place { tenant: owner(user), name: "totp", version: 1 }
}

// === impl NewSecondFactor ===

impl std::fmt::Debug for NewSecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSecondFactor(***)")
    }
}
