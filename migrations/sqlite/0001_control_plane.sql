-- Tenants, tiers, quotas, keys, settings, audit.
--
-- Ids are UUIDs of 16 bytes. Instants are RFC 3339 in UTC with six decimals, so that text order is time order.
-- Amounts are 64-bit; a limit that is NULL is unlimited. What belongs to a tenant has tenant_id first in its key.

-- What is counted. Operators add their own.
CREATE TABLE resource_types (
    slug TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('counter', 'gauge')),
    unit TEXT NOT NULL,
    display TEXT NOT NULL
) STRICT;

-- Named sets of limits and prices. A version never changes once a tenant has it.
CREATE TABLE tiers (
    slug TEXT NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

CREATE TABLE tier_aliases (
    alias TEXT NOT NULL PRIMARY KEY,
    tier TEXT NOT NULL REFERENCES tiers (slug)
) STRICT;

CREATE TABLE tier_versions (
    tier TEXT NOT NULL REFERENCES tiers (slug),
    version INTEGER NOT NULL CHECK (version > 0),
    display TEXT NOT NULL,
    price_minor INTEGER NOT NULL CHECK (price_minor >= 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    retention_days INTEGER NOT NULL CHECK (retention_days > 0),
    security_level TEXT NOT NULL CHECK (security_level IN ('basic', 'standard', 'advanced', 'enterprise')),
    flags TEXT NOT NULL,                        -- JSON list of text
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (tier, version)
) STRICT;

CREATE TABLE tier_quotas (
    tier TEXT NOT NULL,
    version INTEGER NOT NULL,
    resource_type TEXT NOT NULL REFERENCES resource_types (slug),
    period TEXT NOT NULL CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    limit_amount INTEGER CHECK (limit_amount >= 0),
    enforcement TEXT NOT NULL CHECK (enforcement IN ('hard', 'soft', 'monitor')),
    PRIMARY KEY (tier, version, resource_type, period),
    FOREIGN KEY (tier, version) REFERENCES tier_versions (tier, version)
) STRICT;

-- Tenants. A deleted one stays as a tombstone: its usage and its audit log are still asked for.
CREATE TABLE organizations (
    tenant_id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL
        CHECK (status IN ('trial', 'active', 'past_due', 'suspended', 'cancelled', 'deleted')),
    tier TEXT NOT NULL,
    tier_version INTEGER NOT NULL,
    parent_id BLOB REFERENCES organizations (tenant_id),
    subscription_id TEXT,
    billing_email TEXT,
    contact_phone TEXT,
    timezone TEXT NOT NULL,
    locale TEXT NOT NULL,
    anchored_at TEXT,                           -- weeks and months begin on its day; NULL: by the calendar
    retention_class INTEGER NOT NULL CHECK (retention_class IN (30, 90, 365, 730)),
    home_region TEXT,
    version INTEGER NOT NULL CHECK (version > 0),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    deleted_at TEXT,
    CHECK ((deleted_at IS NOT NULL) = (status = 'deleted')),
    FOREIGN KEY (tier, tier_version) REFERENCES tier_versions (tier, version)
) STRICT;
CREATE INDEX organizations_by_created_at ON organizations (created_at, tenant_id);
CREATE INDEX organizations_by_name ON organizations (name, tenant_id);
CREATE INDEX organizations_by_parent ON organizations (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE api_keys (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    key_id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    pepper_version INTEGER NOT NULL,
    scopes TEXT NOT NULL,                       -- JSON lists of text
    routes TEXT NOT NULL,
    networks TEXT NOT NULL,
    expires_at TEXT,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at TEXT NOT NULL,
    revoked_at TEXT,
    last_used_at TEXT,
    PRIMARY KEY (tenant_id, key_id)
) STRICT;

-- A tenant's own limits, instead of its tier's (owner_kind tenant) or beside them (owner_kind key).
CREATE TABLE tenant_resource_quotas (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    owner_kind TEXT NOT NULL CHECK (owner_kind IN ('tenant', 'key')),
    owner_id BLOB NOT NULL,
    resource_type TEXT NOT NULL REFERENCES resource_types (slug),
    period TEXT NOT NULL CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    limit_amount INTEGER CHECK (limit_amount >= 0),
    enforcement TEXT NOT NULL CHECK (enforcement IN ('hard', 'soft', 'monitor')),
    version INTEGER NOT NULL,
    reason TEXT,
    expires_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, owner_kind, owner_id, resource_type, period),
    CHECK (owner_kind <> 'tenant' OR owner_id = tenant_id)
) STRICT;

-- What those limits were: versions go on rising when a limit is removed and set again.
CREATE TABLE quota_changes (
    tenant_id BLOB NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    version INTEGER NOT NULL,
    change TEXT NOT NULL CHECK (change IN ('set', 'removed')),
    limit_amount INTEGER,
    enforcement TEXT NOT NULL,
    reason TEXT,
    expires_at TEXT,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, owner_kind, owner_id, resource_type, period, version)
) STRICT;

CREATE TABLE tenant_settings (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    setting_key TEXT NOT NULL,
    setting_type TEXT NOT NULL CHECK (setting_type IN ('string', 'int', 'bool', 'json', 'secret')),
    setting_value TEXT,
    sealed_value BLOB,                          -- of secrets, which have no setting_value
    data_key_id BLOB,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, setting_key),
    CHECK ((setting_type = 'secret') = (sealed_value IS NOT NULL)),
    CHECK ((setting_value IS NULL) = (sealed_value IS NOT NULL))
) STRICT;

-- One hash chain per tenant; the nil UUID is the platform's own. No foreign key: the log outlives its tenant.
CREATE TABLE tenant_audit_logs (
    tenant_id BLOB NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    at TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id BLOB,
    actor_name TEXT NOT NULL,
    actor_ip TEXT,
    actor_user_agent TEXT,
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('done', 'denied')),
    before_json TEXT,
    after_json TEXT,
    reason TEXT,
    correlation BLOB NOT NULL,
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
) STRICT;
CREATE TRIGGER tenant_audit_logs_are_not_updated BEFORE UPDATE ON tenant_audit_logs
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER tenant_audit_logs_are_not_deleted BEFORE DELETE ON tenant_audit_logs
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- The newest link of each chain: its row is what two writers of one chain wait for, and it shows when the
-- newest rows of a log are missing.
CREATE TABLE audit_chains (
    tenant_id BLOB NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TABLE platform_tokens (
    token_id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    pepper_version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT;

-- What gateways must read again, in the order of the commits. AUTOINCREMENT: a version never comes twice, even
-- when the newest rows were pruned.
CREATE TABLE directory_changes (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('tenant', 'key', 'tier')),
    id TEXT NOT NULL
) STRICT;
