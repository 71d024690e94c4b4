//! What people are to tenants: members, roles of tenants' own, invitations.

use uuid::Uuid;

use super::sql::{Row, query, select};
use super::values::{get, json, parsed, to_json};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Invitation, InvitationId, Membership, OwnRole, RoleName, Slug, TenantId, UserId};
use crate::secret::hash::KeyDigest;

const MEMBERSHIP: &str = "tenant_id, user_id, email, role, created_at";
const INVITATION: &str = "tenant_id, invitation_id, email, role, invited_by, created_at, expires_at";
const ROLE: &str = "role, permissions, created_at, updated_at";

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's members, in the order in which they joined.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn members(
        &mut self,
        tenant: TenantId,
        page: &Page,
    ) -> Result<Result<Listed<Membership>, BadPage>, StoreError> {
        let Ok(behind) = page.behind() else { return Ok(Err(BadPage::Cursor)) };
        let (at, id) = behind.unwrap_or((Timestamp::from_micros(0), Uuid::nil()));
        let rest = "FROM memberships WHERE tenant_id = $1 AND (created_at, user_id) > ($2, $3)";
        let query = select(MEMBERSHIP, rest).bind(tenant.0).bind(at).bind(id);
        let cursor = |last: &Membership| Cursor::behind(last.user, last.created_at);
        self.listed(query, "created_at, user_id", page, membership, cursor).await.map(Ok)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn member(&mut self, tenant: TenantId, user: UserId) -> Result<Option<Membership>, StoreError> {
        let row = select(MEMBERSHIP, "FROM memberships WHERE tenant_id = $1 AND user_id = $2")
            .bind(tenant.0)
            .bind(user.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(membership).transpose()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn member_by_email(
        &mut self,
        tenant: TenantId,
        email: &str,
    ) -> Result<Option<Membership>, StoreError> {
        let row = select(MEMBERSHIP, "FROM memberships WHERE tenant_id = $1 AND email = $2")
            .bind(tenant.0)
            .bind(email)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(membership).transpose()
    }

    /// What the user is, and to whom: the longest standing first. Only the platform sees all of it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn memberships(&mut self, user: UserId) -> Result<Vec<Membership>, StoreError> {
        let rows = select(MEMBERSHIP, "FROM memberships WHERE user_id = $1 ORDER BY created_at, tenant_id")
            .bind(user.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(membership).collect()
    }

    /// How many members have that role, but for `except`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn others_in_role(
        &mut self,
        tenant: TenantId,
        role: &RoleName,
        except: Option<UserId>,
    ) -> Result<i64, StoreError> {
        query("SELECT COUNT(*) FROM memberships WHERE tenant_id = $1 AND role = $2 AND user_id <> $3")
            .bind(tenant.0)
            .bind(role.as_str())
            .bind(except.map_or(Uuid::nil(), |user| user.0))
            .fetch_number(self.connection())
            .await
    }

    /// The tenant's open invitations, the newest first; those that have expired are told of, too.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn invitations(&mut self, tenant: TenantId) -> Result<Vec<Invitation>, StoreError> {
        let rows = select(
            INVITATION,
            "FROM invitations WHERE tenant_id = $1 ORDER BY created_at DESC, invitation_id",
        )
        .bind(tenant.0)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(invitation).collect()
    }

    /// The invitation of that token.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn invitation_by_token(&mut self, token: &KeyDigest) -> Result<Option<Invitation>, StoreError> {
        let row = select(INVITATION, "FROM invitations WHERE digest = $1")
            .bind(token.0.as_slice())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(invitation).transpose()
    }

    /// Roles of the tenant's own, by name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn own_roles(&mut self, tenant: TenantId) -> Result<Vec<OwnRole>, StoreError> {
        let rows = select(ROLE, "FROM roles WHERE tenant_id = $1 ORDER BY role")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(own_role).collect()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn own_role(&mut self, tenant: TenantId, name: &Slug) -> Result<Option<OwnRole>, StoreError> {
        let row = select(ROLE, "FROM roles WHERE tenant_id = $1 AND role = $2")
            .bind(tenant.0)
            .bind(name.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(own_role).transpose()
    }
}

fn role_name(row: &Row) -> Result<RoleName, StoreError> {
    parsed(row, "role", |text| text.parse().ok())
}

fn membership(row: &Row) -> Result<Membership, StoreError> {
    Ok(Membership {
        tenant: TenantId(get(row, "tenant_id")?),
        user: UserId(get(row, "user_id")?),
        email: get(row, "email")?,
        role: role_name(row)?,
        created_at: get(row, "created_at")?,
    })
}

fn invitation(row: &Row) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: InvitationId(get(row, "invitation_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        email: get(row, "email")?,
        role: role_name(row)?,
        invited_by: get(row, "invited_by")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
    })
}

fn own_role(row: &Row) -> Result<OwnRole, StoreError> {
    Ok(OwnRole {
        name: parsed(row, "role", |text| text.parse().ok())?,
        permissions: json(row, "permissions")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Makes somebody a member, or changes the role of one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_member(&mut self, member: &Membership) -> Result<(), StoreError> {
        query(
            "INSERT INTO memberships (tenant_id, user_id, email, role, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role",
        )
        .bind(member.tenant.0)
        .bind(member.user.0)
        .bind(&member.email)
        .bind(member.role.as_str())
        .bind(member.created_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn remove_member(&mut self, tenant: TenantId, user: UserId) -> Result<(), StoreError> {
        query("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2")
            .bind(tenant.0)
            .bind(user.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Takes the place of the invitation that the same address has, if it has one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_invitation(&mut self, new: &Invitation, token: &KeyDigest) -> Result<(), StoreError> {
        query(
            "INSERT INTO invitations (tenant_id, invitation_id, email, role, digest, invited_by, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (tenant_id, email) DO UPDATE SET invitation_id = excluded.invitation_id,
                 role = excluded.role, digest = excluded.digest, invited_by = excluded.invited_by,
                 created_at = excluded.created_at, expires_at = excluded.expires_at",
        )
        .bind(new.tenant.0)
        .bind(new.id.0)
        .bind(&new.email)
        .bind(new.role.as_str())
        .bind(token.0.as_slice())
        .bind(&new.invited_by)
        .bind(new.created_at)
        .bind(new.expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Answers whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_invitation(
        &mut self,
        tenant: TenantId,
        invitation: InvitationId,
    ) -> Result<bool, StoreError> {
        let removed = query("DELETE FROM invitations WHERE tenant_id = $1 AND invitation_id = $2")
            .bind(tenant.0)
            .bind(invitation.0)
            .execute(self.connection())
            .await?;
        Ok(removed > 0)
    }

    /// Forgets who was a member, and who has nothing else to log in for.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove_people_of(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        for text in [
            "DELETE FROM logins WHERE platform_role IS NULL
                 AND user_id IN (SELECT user_id FROM memberships WHERE tenant_id = $1)
                 AND NOT EXISTS (SELECT 1 FROM memberships
                     WHERE memberships.user_id = logins.user_id AND memberships.tenant_id <> $1)",
            "DELETE FROM memberships WHERE tenant_id = $1",
            "DELETE FROM invitations WHERE tenant_id = $1",
            "DELETE FROM roles WHERE tenant_id = $1",
        ] {
            query(text).bind(tenant.0).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn set_own_role(&mut self, tenant: TenantId, role: &OwnRole) -> Result<(), StoreError> {
        query(
            "INSERT INTO roles (tenant_id, role, permissions, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, role) DO UPDATE SET permissions = excluded.permissions,
                 updated_at = excluded.updated_at",
        )
        .bind(tenant.0)
        .bind(role.name.as_str())
        .bind(to_json(&role.permissions))
        .bind(role.created_at)
        .bind(role.updated_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn remove_own_role(&mut self, tenant: TenantId, name: &Slug) -> Result<(), StoreError> {
        query("DELETE FROM roles WHERE tenant_id = $1 AND role = $2")
            .bind(tenant.0)
            .bind(name.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
