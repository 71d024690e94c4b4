//! Persons and how they are known: `users`, `logins`, recovery codes, tokens that set a password, sessions.
//!
//! All of it is the platform's: no tenant's transaction reaches these tables.

use uuid::Uuid;

use super::sql::{Row, query, select};
use super::values::{get, parsed};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Role, User, UserId};
use crate::secret::hash::KeyDigest;

const COLUMNS: &str = "user_id, email, platform_role, password_hash IS NOT NULL AS has_password, \
     totp_confirmed_at IS NOT NULL AS is_multi_factor, created_at";

// === impl Snapshot ===

impl Snapshot {
    /// # Errors
    /// [`StoreError`]
    pub async fn user(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        let row = select(COLUMNS, "FROM logins WHERE user_id = $1")
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Whoever has that address, which is in lower case.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn user_by_email(&mut self, email: &str) -> Result<Option<User>, StoreError> {
        let row = select(COLUMNS, "FROM logins WHERE email = $1")
            .bind(email)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Whoever a provider calls so.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn user_by_oidc_subject(&mut self, subject: &str) -> Result<Option<User>, StoreError> {
        let row = select(COLUMNS, "FROM logins WHERE oidc_subject = $1")
            .bind(subject)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Everybody who can log in, in the order of their coming.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn users(&mut self, page: &Page) -> Result<Result<Listed<User>, BadPage>, StoreError> {
        let Ok(behind) = page.behind() else { return Ok(Err(BadPage::Cursor)) };
        let (at, id) = behind.unwrap_or((Timestamp::from_micros(0), Uuid::nil()));
        let query = select(COLUMNS, "FROM logins WHERE (created_at, user_id) > ($1, $2)").bind(at).bind(id);
        let cursor = |last: &User| Cursor::behind(last.id, last.created_at);
        self.listed(query, "created_at, user_id", page, user, cursor).await.map(Ok)
    }

    /// The hash of the user's password, if there is one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn password_hash(&mut self, id: UserId) -> Result<Option<String>, StoreError> {
        let row = query("SELECT password_hash FROM logins WHERE user_id = $1")
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        Ok(row.map(|row| get(&row, "password_hash")).transpose()?.flatten())
    }

    /// Whose password that token may set.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn user_of_password_token(
        &mut self,
        token: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<UserId>, StoreError> {
        let row = query("SELECT user_id FROM password_tokens WHERE digest = $1 AND expires_at > $2")
            .bind(token.0.as_slice())
            .bind(now)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| get(&row, "user_id").map(UserId)).transpose()
    }
}

fn user(row: &Row) -> Result<User, StoreError> {
    let role: Option<&str> = get(row, "platform_role")?;
    Ok(User {
        id: UserId(get(row, "user_id")?),
        email: get(row, "email")?,
        platform_role: role.map(|_| parsed(row, "platform_role", Role::parse)).transpose()?,
        has_password: get(row, "has_password")?,
        is_multi_factor: get(row, "is_multi_factor")?,
        created_at: get(row, "created_at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Lets somebody log in. Whoever is among the persons already, by the same address, goes on being that person.
    ///
    /// # Errors
    /// [`StoreError`]; an address that has a login is one, so ask first.
    pub async fn insert_login(&mut self, new: &User) -> Result<UserId, StoreError> {
        let known =
            query("SELECT user_id FROM users WHERE LOWER(email) = $1 ORDER BY created_at, user_id LIMIT 1")
                .bind(&new.email)
                .fetch_optional(self.connection())
                .await?;
        let id = match known {
            Some(row) => get(&row, "user_id")?,
            None => self.insert_user(new).await?,
        };
        query("INSERT INTO logins (user_id, email, platform_role, created_at) VALUES ($1, $2, $3, $4)")
            .bind(id)
            .bind(&new.email)
            .bind(new.platform_role.map(Role::as_str))
            .bind(new.created_at)
            .execute(self.connection())
            .await?;
        Ok(UserId(id))
    }

    async fn insert_user(&mut self, new: &User) -> Result<Uuid, StoreError> {
        query("INSERT INTO users (user_id, email, created_at) VALUES ($1, $2, $3)")
            .bind(new.id.0)
            .bind(&new.email)
            .bind(new.created_at)
            .execute(self.connection())
            .await?;
        Ok(new.id.0)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn set_platform_role(&mut self, user: UserId, role: Option<Role>) -> Result<(), StoreError> {
        query("UPDATE logins SET platform_role = $2 WHERE user_id = $1")
            .bind(user.0)
            .bind(role.map(Role::as_str))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What a provider calls the user.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_oidc_subject(&mut self, user: UserId, subject: &str) -> Result<(), StoreError> {
        query("UPDATE logins SET oidc_subject = $2 WHERE user_id = $1")
            .bind(user.0)
            .bind(subject)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Sets the password's hash. Tokens that could have set it are good for nothing any more.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_password_hash(&mut self, user: UserId, hash: &str) -> Result<(), StoreError> {
        query("UPDATE logins SET password_hash = $2 WHERE user_id = $1")
            .bind(user.0)
            .bind(hash)
            .execute(self.connection())
            .await?;
        self.remove_password_tokens(user).await
    }

    /// Forgets everything that the user was known by: whoever had it is out.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_credentials(&mut self, user: UserId) -> Result<(), StoreError> {
        query("UPDATE logins SET password_hash = NULL WHERE user_id = $1")
            .bind(user.0)
            .execute(self.connection())
            .await?;
        self.remove_password_tokens(user).await?;
        self.remove_totp(user).await?;
        self.remove_sessions(user, None).await.map(drop)
    }

    /// The token takes the place of those that there were.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_password_token(
        &mut self,
        user: UserId,
        token: &KeyDigest,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.remove_password_tokens(user).await?;
        query("INSERT INTO password_tokens (digest, user_id, expires_at) VALUES ($1, $2, $3)")
            .bind(token.0.as_slice())
            .bind(user.0)
            .bind(expires_at)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn remove_password_tokens(&mut self, user: UserId) -> Result<(), StoreError> {
        query("DELETE FROM password_tokens WHERE user_id = $1")
            .bind(user.0)
            .execute(self.connection())
            .await
            .map(drop)
    }
}
