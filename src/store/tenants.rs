//! Tenants: the table `organizations`.

use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use uuid::Uuid;

use super::sql::{Bind, Query, Row, Value, query, select};
use super::values::{get, parsed, whole};
use super::watch::health;
use super::{BadPage, Changed, Cursor, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Anchor, Health, Slug, Tenant, TenantId, TenantStatus, Zone};

/// Which tenants. `None` is all of them, except that deleted ones are only found when `status` asks for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TenantFilter {
    pub status: Option<TenantStatus>,
    pub tier: Option<String>,
    /// Part of the name, slug or e-mail address, in any case.
    pub q: Option<String>,
    /// Who fares like that, as it was [told](super::KnownHealth).
    pub health: Option<Health>,
    /// Right below that one.
    pub parent: Option<TenantId>,
    /// Only these; empty is no restriction.
    pub only: Vec<TenantId>,
}

/// The tenants that there are for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visible {
    All,
    One(TenantId),
    /// That one, those below it, and those below them.
    Below(TenantId),
}

/// How many tenants have a status and a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantCount {
    pub status: String,
    pub tier: String,
    pub tenants: u64,
}

/// In which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantSort {
    pub by: TenantSortBy,
    pub descending: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TenantSortBy {
    #[default]
    CreatedAt,
    Name,
    Slug,
    /// Descending, the worst come first.
    Health,
}

const COLUMNS: &str = "tenant_id, name, slug, status, tier, tier_version, parent_id, billing_email, contact_phone, \
     timezone, locale, anchored_at, created_at, updated_at, version, health_level";

/// Tenants above one: a request is charged for each, and has few places for charges.
const LEVELS_MAX: usize = 3;

// === impl TenantSort ===

/// Newest first.
impl Default for TenantSort {
    fn default() -> Self {
        TenantSort { by: TenantSortBy::CreatedAt, descending: true }
    }
}

impl PartialSchema for TenantSort {
    fn schema() -> RefOr<Schema> {
        let all = ["created_at", "-created_at", "name", "-name", "slug", "-slug", "health", "-health"];
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(all)).into()
    }
}

impl TenantSort {
    /// `created_at`, `name`, `slug` or `health`, with a `-` before it for descending.
    pub fn parse(text: &str) -> Option<TenantSort> {
        let (descending, by) = text.strip_prefix('-').map_or((false, text), |by| (true, by));
        let by = match by {
            "created_at" => TenantSortBy::CreatedAt,
            "name" => TenantSortBy::Name,
            "slug" => TenantSortBy::Slug,
            "health" => TenantSortBy::Health,
            _ => return None,
        };
        Some(TenantSort { by, descending })
    }
}

// === impl TenantSort ===

impl TenantSort {
    fn order(self) -> String {
        let (column, direction) = (self.by.column(), if self.descending { " DESC" } else { "" });
        format!("{column}{direction}, tenant_id{direction}")
    }
}

// === impl TenantSortBy ===

impl TenantSortBy {
    const fn column(self) -> &'static str {
        match self {
            TenantSortBy::CreatedAt => "created_at",
            TenantSortBy::Name => "name",
            TenantSortBy::Slug => "slug",
            TenantSortBy::Health => "health_level",
        }
    }

    fn cursor(self, (tenant, health): &(Tenant, Health)) -> Cursor {
        let after = match self {
            TenantSortBy::CreatedAt => tenant.created_at.to_string(),
            TenantSortBy::Name => tenant.name.clone(),
            TenantSortBy::Slug => tenant.slug.to_string(),
            TenantSortBy::Health => health.level().to_string(),
        };
        Cursor { after, id: tenant.id.to_string() }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's reseller, its reseller, and so on, at most [`LEVELS_MAX`] of them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants_above(&mut self, tenant: &Tenant) -> Result<Vec<Tenant>, StoreError> {
        let mut above: Vec<Tenant> = Vec::new();
        while let Some(parent) = above.last().unwrap_or(tenant).parent {
            let Some(parent) = self.tenant(parent).await? else { break };
            if above.len() == LEVELS_MAX {
                break;
            }
            above.push(parent);
        }
        Ok(above)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn tenant(&mut self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = select(COLUMNS, "FROM organizations WHERE tenant_id = $1")
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(tenant).transpose()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn tenant_by_slug(&mut self, slug: &Slug) -> Result<Option<Tenant>, StoreError> {
        let row = select(COLUMNS, "FROM organizations WHERE slug = $1")
            .bind(slug.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(tenant).transpose()
    }

    /// Whether a tenant, deleted ones included, has that slug.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn is_slug_taken(&mut self, slug: &Slug) -> Result<bool, StoreError> {
        let found = query("SELECT COUNT(*) FROM organizations WHERE slug = $1")
            .bind(slug.as_str())
            .fetch_number(self.connection())
            .await?;
        Ok(found > 0)
    }

    /// Those of the visible tenants that the filter lets through. The first page tells how many.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn tenants(
        &mut self,
        visible: Visible,
        filter: &TenantFilter,
        sort: TenantSort,
        page: &Page,
    ) -> Result<Result<Listed<Tenant>, BadPage>, StoreError> {
        let listed = self.tenants_and_health(visible, filter, sort, page).await?;
        Ok(listed.map(|listed| listed.map(|(tenant, _)| tenant)))
    }

    /// The same, each with how it fares.
    ///
    /// # Errors
    /// As [`Snapshot::tenants`].
    pub async fn tenants_and_health(
        &mut self,
        visible: Visible,
        filter: &TenantFilter,
        sort: TenantSort,
        page: &Page,
    ) -> Result<Result<Listed<(Tenant, Health)>, BadPage>, StoreError> {
        let Ok(after) = page.cursor().map(|cursor| position(sort.by, cursor)).transpose() else {
            return Ok(Err(BadPage::Cursor));
        };
        let mut query = select(COLUMNS, "FROM organizations WHERE ");
        push_filter(&mut query, visible, filter);
        if let Some((after, id)) = after {
            push_after(&mut query, sort, after, id);
        }
        let both = |row: &Row| Ok((tenant(row)?, health(row)?));
        let mut listed = self.listed(query, &sort.order(), page, both, |last| sort.by.cursor(last)).await?;
        if page.cursor().is_none() {
            listed.total = Some(self.count_tenants(visible, filter).await?);
        }
        Ok(Ok(listed))
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn tenant_counts(&mut self) -> Result<Vec<TenantCount>, StoreError> {
        let rows = query(
            "SELECT status, tier, COUNT(*) AS tenants FROM organizations GROUP BY status, tier ORDER BY status, tier",
        )
        .fetch_all(self.connection())
        .await?;
        let count = |row| {
            Ok(TenantCount {
                status: get(row, "status")?,
                tier: get(row, "tier")?,
                tenants: whole(row, "tenants")?,
            })
        };
        rows.iter().map(count).collect()
    }

    async fn count_tenants(&mut self, visible: Visible, filter: &TenantFilter) -> Result<u64, StoreError> {
        let mut query = query("SELECT COUNT(*) FROM organizations WHERE ");
        push_filter(&mut query, visible, filter);
        let count = query.fetch_number(self.connection()).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

pub(super) fn push_filter(query: &mut Query, visible: Visible, filter: &TenantFilter) {
    match filter.status {
        Some(status) => query.push("status = ").push_bind(status.as_str()),
        None => query.push("status <> ").push_bind(TenantStatus::Deleted.as_str()),
    };
    match visible {
        Visible::All => {}
        Visible::One(only) => {
            query.push(" AND tenant_id = ").push_bind(only.0);
        }
        Visible::Below(top) => {
            query.push(
                " AND tenant_id IN (WITH RECURSIVE tree (id) AS (SELECT tenant_id FROM organizations WHERE",
            );
            query.push(" tenant_id = ").push_bind(top.0);
            query.push(" UNION SELECT tenant_id FROM organizations JOIN tree ON parent_id = tree.id)");
            query.push(" SELECT id FROM tree)");
        }
    }
    if let Some(health) = filter.health {
        query.push(" AND health_level = ").push_bind(health.level());
    }
    if let Some(parent) = filter.parent {
        query.push(" AND parent_id = ").push_bind(parent.0);
    }
    for (at, only) in filter.only.iter().enumerate() {
        query.push(if at == 0 { " AND tenant_id IN (" } else { ", " }).push_bind(only.0);
    }
    if !filter.only.is_empty() {
        query.push(")");
    }
    if let Some(tier) = &filter.tier {
        query.push(" AND tier = ").push_bind(tier.clone());
    }
    if let Some(q) = filter.q.as_deref().filter(|q| !q.is_empty()) {
        let pattern = like_pattern(q);
        for (before, column) in
            [(" AND (", "name"), (" OR ", "slug"), (" OR ", "COALESCE(billing_email, '')")]
        {
            query.push(before).push("LOWER(").push(column).push(") LIKE ").push_bind(pattern.clone());
            query.push(" ESCAPE '\\'");
        }
        query.push(")");
    }
}

/// `q` anywhere; its own wildcards mean themselves.
fn like_pattern(q: &str) -> String {
    let mut pattern = String::from("%");
    for letter in q.chars().flat_map(char::to_lowercase) {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// The sort value and the id of the item that the cursor is behind.
fn position(by: TenantSortBy, cursor: &Cursor) -> Result<(Value, Uuid), ()> {
    let after = match by {
        TenantSortBy::CreatedAt => Timestamp::parse(&cursor.after).ok_or(())?.value(),
        TenantSortBy::Name | TenantSortBy::Slug => cursor.after.as_str().value(),
        TenantSortBy::Health => cursor.after.parse::<i64>().map_err(drop)?.value(),
    };
    Ok((after, Uuid::try_parse(&cursor.id).map_err(drop)?))
}

fn push_after(query: &mut Query, sort: TenantSort, after: Value, id: Uuid) {
    let (column, beyond) = (sort.by.column(), if sort.descending { " < " } else { " > " });
    query.push(" AND (").push(column).push(", tenant_id)").push(beyond);
    query.push("(").push_value(after).push(", ").push_bind(id).push(")");
}

/// Tenants by a statement of another noun.
pub(super) fn selected(rest: &'static str) -> Query {
    select(COLUMNS, rest)
}

pub(super) fn tenant(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: TenantId(get(row, "tenant_id")?),
        name: get(row, "name")?,
        slug: parsed(row, "slug", |text| text.parse().ok())?,
        status: parsed(row, "status", TenantStatus::parse)?,
        tier: get(row, "tier")?,
        tier_version: get(row, "tier_version")?,
        parent: get::<Option<Uuid>>(row, "parent_id")?.map(TenantId),
        billing_email: get(row, "billing_email")?,
        contact_phone: get(row, "contact_phone")?,
        timezone: parsed(row, "timezone", Zone::named)?,
        locale: get(row, "locale")?,
        anchor: get::<Option<_>>(row, "anchored_at")?.map_or(Anchor::Calendar, Anchor::Anniversary),
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
        version: get(row, "version")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds a tenant. Its usage rows are kept for its tier's `retention_days`.
    ///
    /// # Errors
    /// [`StoreError`]; a slug that is taken is one, so ask first.
    pub async fn insert_tenant(&mut self, tenant: &Tenant, retention_days: i64) -> Result<(), StoreError> {
        query(
            "INSERT INTO organizations (tenant_id, name, slug, status, tier, tier_version, parent_id,
                 billing_email, contact_phone, timezone, locale, anchored_at, retention_class, version,
                 created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(tenant.id.0)
        .bind(&tenant.name)
        .bind(tenant.slug.as_str())
        .bind(tenant.status.as_str())
        .bind(&tenant.tier)
        .bind(tenant.tier_version)
        .bind(tenant.parent.map(|parent| parent.0))
        .bind(&tenant.billing_email)
        .bind(&tenant.contact_phone)
        .bind(tenant.timezone.name())
        .bind(&tenant.locale)
        .bind(anchored_at(tenant))
        .bind(retention_class(retention_days))
        .bind(tenant.version)
        .bind(tenant.created_at)
        .bind(tenant.updated_at)
        .execute(self.connection())
        .await?;
        self.changed(Changed::Tenant(tenant.id));
        Ok(())
    }

    /// Makes the tenant's row what `tenant` is. `created_at` and `parent` stay; `version` and `updated_at` are
    /// the caller's to raise.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn update_tenant(&mut self, tenant: &Tenant, retention_days: i64) -> Result<(), StoreError> {
        let deleted_at = (tenant.status == TenantStatus::Deleted).then_some(tenant.updated_at);
        query(
            "UPDATE organizations SET name = $2, slug = $3, status = $4, tier = $5, tier_version = $6,
                 billing_email = $7, contact_phone = $8, timezone = $9, locale = $10, anchored_at = $11,
                 retention_class = $12, version = $13, updated_at = $14, deleted_at = $15
             WHERE tenant_id = $1",
        )
        .bind(tenant.id.0)
        .bind(&tenant.name)
        .bind(tenant.slug.as_str())
        .bind(tenant.status.as_str())
        .bind(&tenant.tier)
        .bind(tenant.tier_version)
        .bind(&tenant.billing_email)
        .bind(&tenant.contact_phone)
        .bind(tenant.timezone.name())
        .bind(&tenant.locale)
        .bind(anchored_at(tenant))
        .bind(retention_class(retention_days))
        .bind(tenant.version)
        .bind(tenant.updated_at)
        .bind(deleted_at)
        .execute(self.connection())
        .await?;
        self.changed(Changed::Tenant(tenant.id));
        Ok(())
    }

    /// Raises the tenant's version, because its quotas changed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn touch_tenant(&mut self, tenant: TenantId, at: Timestamp) -> Result<(), StoreError> {
        query("UPDATE organizations SET version = version + 1, updated_at = $2 WHERE tenant_id = $1")
            .bind(tenant.0)
            .bind(at)
            .execute(self.connection())
            .await?;
        self.changed(Changed::Tenant(tenant));
        Ok(())
    }
}

fn anchored_at(tenant: &Tenant) -> Option<Timestamp> {
    match tenant.anchor {
        Anchor::Calendar => None,
        Anchor::Anniversary(since) => Some(since),
    }
}

/// The class of partitions that keeps rows for at least so long; the longest for what is longer still.
fn retention_class(days: i64) -> i64 {
    [30, 90, 365].into_iter().find(|class| days <= *class).unwrap_or(730)
}
