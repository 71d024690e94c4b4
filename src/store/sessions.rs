//! Sessions, and the second factor of log-ins.

use super::sql::{Row, query, select};
use super::values::get;
use super::{Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Session, SessionId, UserId};
use crate::secret::hash::KeyDigest;
use crate::secret::seal::WrappedKey;

/// What the codes of a user's device are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredTotp {
    /// What the secret is sealed with; its id is the user's.
    pub key: WrappedKey,
    pub secret: Vec<u8>,
    /// Codes are asked for from then on.
    pub is_confirmed: bool,
    /// The last step that a code was good for.
    pub step: i64,
}

const COLUMNS: &str =
    "session_id, user_id, is_multi_factor, ip, user_agent, created_at, last_seen_at, expires_at";
const TOTP: &str = "user_id, totp_key, totp_ring_version, totp_secret, totp_confirmed_at IS NOT NULL AS is_confirmed, totp_step";

// === impl Store ===

impl Store {
    /// Notes that a session is used.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn touch_session(&self, session: SessionId, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        query("UPDATE sessions SET last_seen_at = $2 WHERE session_id = $1 AND last_seen_at < $2")
            .bind(session.0)
            .bind(at)
            .execute(tx.connection())
            .await?;
        tx.commit().await
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The session of that token, whether it has expired or not.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn session_by_token(&mut self, token: &KeyDigest) -> Result<Option<Session>, StoreError> {
        let row = select(COLUMNS, "FROM sessions WHERE digest = $1")
            .bind(token.0.as_slice())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(session).transpose()
    }

    /// The user's sessions that have not expired, newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn sessions(
        &mut self,
        user: UserId,
        now: Timestamp,
        seen_since: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        let rows = select(
            COLUMNS,
            "FROM sessions WHERE user_id = $1 AND expires_at > $2 AND last_seen_at > $3 ORDER BY session_id DESC",
        )
        .bind(user.0)
        .bind(now)
        .bind(seen_since)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(session).collect()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn totp(&mut self, user: UserId) -> Result<Option<StoredTotp>, StoreError> {
        let row = select(TOTP, "FROM logins WHERE user_id = $1 AND totp_secret IS NOT NULL")
            .bind(user.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(totp).transpose()
    }

    /// Some of the secrets that an older key than that of `ring_version` wraps the keys of.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn totps_below(
        &mut self,
        ring_version: i64,
        limit: u32,
    ) -> Result<Vec<StoredTotp>, StoreError> {
        let rows = select(TOTP, "FROM logins WHERE totp_ring_version < $1 LIMIT $2")
            .bind(ring_version)
            .bind(limit)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(totp).collect()
    }
}

fn session(row: &Row) -> Result<Session, StoreError> {
    let ip: Option<&str> = get(row, "ip")?;
    Ok(Session {
        id: SessionId(get(row, "session_id")?),
        user: UserId(get(row, "user_id")?),
        is_multi_factor: get(row, "is_multi_factor")?,
        ip: ip.and_then(|ip| ip.parse().ok()),
        user_agent: get(row, "user_agent")?,
        created_at: get(row, "created_at")?,
        last_seen_at: get(row, "last_seen_at")?,
        expires_at: get(row, "expires_at")?,
    })
}

fn totp(row: &Row) -> Result<StoredTotp, StoreError> {
    let key = WrappedKey {
        id: get(row, "user_id")?,
        ring_version: get(row, "totp_ring_version")?,
        bytes: get(row, "totp_key")?,
    };
    Ok(StoredTotp {
        key,
        secret: get(row, "totp_secret")?,
        is_confirmed: get(row, "is_confirmed")?,
        step: get(row, "totp_step")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Begins a session. Sessions that have expired are forgotten.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_session(&mut self, new: &Session, token: &KeyDigest) -> Result<(), StoreError> {
        let forget = query("DELETE FROM sessions WHERE expires_at <= $1").bind(new.created_at);
        forget.execute(self.connection()).await?;
        query(
            "INSERT INTO sessions (session_id, user_id, digest, is_multi_factor, ip, user_agent, created_at,
                 last_seen_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(new.id.0)
        .bind(new.user.0)
        .bind(token.0.as_slice())
        .bind(new.is_multi_factor)
        .bind(new.ip.map(|ip| ip.to_string()))
        .bind(&new.user_agent)
        .bind(new.created_at)
        .bind(new.last_seen_at)
        .bind(new.expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn set_session_multi_factor(&mut self, session: SessionId) -> Result<(), StoreError> {
        query("UPDATE sessions SET is_multi_factor = $2 WHERE session_id = $1")
            .bind(session.0)
            .bind(true)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends a session of the user. Answers whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_session(&mut self, user: UserId, session: SessionId) -> Result<bool, StoreError> {
        let removed = query("DELETE FROM sessions WHERE user_id = $1 AND session_id = $2")
            .bind(user.0)
            .bind(session.0)
            .execute(self.connection())
            .await?;
        Ok(removed > 0)
    }

    /// Ends the user's sessions, but for `except`. Answers how many there were.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_sessions(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<u64, StoreError> {
        query("DELETE FROM sessions WHERE user_id = $1 AND session_id <> $2")
            .bind(user.0)
            .bind(except.map_or(uuid::Uuid::nil(), |session| session.0))
            .execute(self.connection())
            .await
    }

    /// A secret that is not confirmed yet; it takes the place of the one that there was, and of its recovery codes.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_totp(
        &mut self,
        user: UserId,
        key: &WrappedKey,
        secret: &[u8],
    ) -> Result<(), StoreError> {
        query(
            "UPDATE logins SET totp_key = $2, totp_ring_version = $3, totp_secret = $4, totp_confirmed_at = NULL,
                 totp_step = 0
             WHERE user_id = $1",
        )
        .bind(user.0)
        .bind(key.bytes.as_slice())
        .bind(key.ring_version)
        .bind(secret)
        .execute(self.connection())
        .await?;
        self.set_recovery_codes(user, &[]).await
    }

    /// Codes are asked for from now on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn confirm_totp(&mut self, user: UserId, at: Timestamp) -> Result<(), StoreError> {
        query("UPDATE logins SET totp_confirmed_at = $2 WHERE user_id = $1 AND totp_secret IS NOT NULL")
            .bind(user.0)
            .bind(at)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn remove_totp(&mut self, user: UserId) -> Result<(), StoreError> {
        query(
            "UPDATE logins SET totp_key = NULL, totp_ring_version = NULL, totp_secret = NULL,
                 totp_confirmed_at = NULL, totp_step = 0
             WHERE user_id = $1",
        )
        .bind(user.0)
        .execute(self.connection())
        .await?;
        self.set_recovery_codes(user, &[]).await
    }

    /// Puts another wrapping in the place of that of a secret's key.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn rewrap_totp(&mut self, key: &WrappedKey) -> Result<(), StoreError> {
        query("UPDATE logins SET totp_key = $2, totp_ring_version = $3 WHERE user_id = $1")
            .bind(key.id)
            .bind(key.bytes.as_slice())
            .bind(key.ring_version)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Notes the step that a code was good for. Answers whether it is later than all before it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn use_totp_step(&mut self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let used = query("UPDATE logins SET totp_step = $2 WHERE user_id = $1 AND totp_step < $2")
            .bind(user.0)
            .bind(step)
            .execute(self.connection())
            .await?;
        Ok(used > 0)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn set_recovery_codes(&mut self, user: UserId, codes: &[KeyDigest]) -> Result<(), StoreError> {
        query("DELETE FROM recovery_codes WHERE user_id = $1")
            .bind(user.0)
            .execute(self.connection())
            .await?;
        for code in codes {
            query("INSERT INTO recovery_codes (user_id, digest) VALUES ($1, $2)")
                .bind(user.0)
                .bind(code.0.as_slice())
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    /// Uses a recovery code up. Answers whether it was one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn use_recovery_code(&mut self, user: UserId, code: &KeyDigest) -> Result<bool, StoreError> {
        let used = query("DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2")
            .bind(user.0)
            .bind(code.0.as_slice())
            .execute(self.connection())
            .await?;
        Ok(used > 0)
    }
}
