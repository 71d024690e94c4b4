-- Tenants, tiers, quotas, keys, settings, audit; the roles, and who of them sees what.
--
-- Amounts are 64-bit; a limit that is NULL is unlimited. What belongs to a tenant has tenant_id first in its key.
--
-- Runs as whoever owns the database, or as a superuser. Everything it makes belongs to tollgate_owner in the end, and
-- the migrations after it run as that role.
--
-- The roles are groups without a password. The login that serves is a member of the other three and inherits
-- nothing from them: each transaction says which one it is.
--   tollgate_owner     owns the tables, never serves
--   tollgate_platform  the platform's own work, on all tenants
--   tollgate_app       on behalf of one tenant, the one named by app.tenant_id
--   tollgate_ingest    brings usage

DO $$
DECLARE
    role text;
    -- From Postgres 16 on a member need not be one who can become the role.
    becoming text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION 'Postgres 15 or newer is needed, and this is %', current_setting('server_version');
    END IF;
    FOREACH role IN ARRAY ARRAY['tollgate_owner', 'tollgate_platform', 'tollgate_app', 'tollgate_ingest'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Roles belong to the server: another database of it was migrated in this moment.
        END;
    END LOOP;
    -- To give the tables away, one has to be able to become who gets them.
    IF NOT pg_has_role(current_user, 'tollgate_owner', becoming) THEN
        EXECUTE format('GRANT tollgate_owner TO %I', current_user);
    END IF;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO tollgate_owner', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tollgate_platform, tollgate_app, tollgate_ingest', current_schema());
END $$;

-- Keeps the rows of a tenant's table apart: tollgate_app reads and writes rows of its tenant only, or of none when
-- none is set. A setting that was set once in a session is '' afterwards and not NULL, hence NULLIF. What each
-- role may do at all is said by grants. Called for each partition too: who reads one directly is not held by the
-- policies of its parent.
CREATE FUNCTION tollgate_isolate(tenant_table regclass, own text DEFAULT
    $own$tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)$own$)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
    -- So that it mends a table as well as it makes one.
    EXECUTE format('DROP POLICY IF EXISTS tollgate_app ON %s', tenant_table);
    EXECUTE format('DROP POLICY IF EXISTS tollgate_platform ON %s', tenant_table);
    EXECUTE format('CREATE POLICY tollgate_app ON %s TO tollgate_app USING (%s) WITH CHECK (%2$s)', tenant_table, own);
    EXECUTE format(
        'CREATE POLICY tollgate_platform ON %s TO tollgate_platform, tollgate_ingest USING (true) WITH CHECK (true)',
        tenant_table);
END $$;

-- What is counted. Operators add their own.
CREATE TABLE resource_types (
    slug TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('counter', 'gauge')),
    unit TEXT NOT NULL,
    display TEXT NOT NULL
);

-- Named sets of limits and prices. A version never changes once a tenant has it.
CREATE TABLE tiers (
    slug TEXT NOT NULL PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE tier_aliases (
    alias TEXT NOT NULL PRIMARY KEY,
    tier TEXT NOT NULL REFERENCES tiers (slug)
);

CREATE TABLE tier_versions (
    tier TEXT NOT NULL REFERENCES tiers (slug),
    version BIGINT NOT NULL CHECK (version > 0),
    display TEXT NOT NULL,
    price_minor BIGINT NOT NULL CHECK (price_minor >= 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    retention_days BIGINT NOT NULL CHECK (retention_days > 0),
    security_level TEXT NOT NULL CHECK (security_level IN ('basic', 'standard', 'advanced', 'enterprise')),
    flags JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (tier, version)
);

CREATE TABLE tier_quotas (
    tier TEXT NOT NULL,
    version BIGINT NOT NULL,
    resource_type TEXT NOT NULL REFERENCES resource_types (slug),
    period TEXT NOT NULL CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    limit_amount BIGINT CHECK (limit_amount >= 0),
    enforcement TEXT NOT NULL CHECK (enforcement IN ('hard', 'soft', 'monitor')),
    PRIMARY KEY (tier, version, resource_type, period),
    FOREIGN KEY (tier, version) REFERENCES tier_versions (tier, version)
);

-- Tenants. A deleted one stays as a tombstone: its usage and its audit log are still asked for.
--
-- The table may be there already, with rows and columns of another program, which goes on using it: then it gets
-- what it lacks and keeps what it has. The same steps make it where there is none.
SELECT set_config('tollgate.adopts',
    (to_regclass(format('%I.organizations', current_schema())) IS NOT NULL)::text, true);
CREATE TABLE IF NOT EXISTS organizations ();
ALTER TABLE organizations
    ADD COLUMN IF NOT EXISTS tenant_id UUID,
    ADD COLUMN IF NOT EXISTS name TEXT,
    ADD COLUMN IF NOT EXISTS slug TEXT,
    ADD COLUMN IF NOT EXISTS status TEXT,
    ADD COLUMN IF NOT EXISTS tier TEXT,
    ADD COLUMN IF NOT EXISTS tier_version BIGINT,
    ADD COLUMN IF NOT EXISTS parent_id UUID,
    ADD COLUMN IF NOT EXISTS subscription_id TEXT,
    ADD COLUMN IF NOT EXISTS billing_email TEXT,
    ADD COLUMN IF NOT EXISTS contact_phone TEXT,
    ADD COLUMN IF NOT EXISTS timezone TEXT,
    ADD COLUMN IF NOT EXISTS locale TEXT,
    ADD COLUMN IF NOT EXISTS anchored_at TIMESTAMPTZ,   -- weeks and months begin on its day; NULL: by the calendar
    ADD COLUMN IF NOT EXISTS retention_class BIGINT,
    ADD COLUMN IF NOT EXISTS home_region TEXT,
    ADD COLUMN IF NOT EXISTS version BIGINT,
    ADD COLUMN IF NOT EXISTS created_at TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS updated_at TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS deleted_at TIMESTAMPTZ;

-- Columns that were there before must hold what ours hold.
DO $$
DECLARE
    fault text;
BEGIN
    SELECT string_agg(format('%s is %s and should be %s', attname, format_type(atttypid, NULL), wanted), '; ') INTO fault
    FROM pg_attribute
    JOIN (VALUES ('tenant_id', 'uuid'), ('name', 'text'), ('slug', 'text'), ('status', 'text'), ('tier', 'text'),
            ('tier_version', 'bigint'), ('parent_id', 'uuid'), ('subscription_id', 'text'), ('billing_email', 'text'),
            ('contact_phone', 'text'), ('timezone', 'text'), ('locale', 'text'),
            ('anchored_at', 'timestamp with time zone'), ('retention_class', 'bigint'), ('home_region', 'text'),
            ('version', 'bigint'), ('created_at', 'timestamp with time zone'),
            ('updated_at', 'timestamp with time zone'), ('deleted_at', 'timestamp with time zone')
        ) AS expected (name, wanted) ON attname = name
    WHERE attrelid = 'organizations'::regclass
      AND format_type(atttypid, NULL) <> wanted
      AND NOT (wanted = 'text' AND format_type(atttypid, NULL) = 'character varying');
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'the table organizations can''t be adopted: %', fault;
    END IF;
END $$;

-- Rows that were there before become active tenants of the free tier. Where their own id is a UUID it is their
-- tenant_id too, else they get a UUIDv7. Names make slugs; a name that several have gets part of the id.
DO $$
DECLARE
    own_id text := (SELECT 'id' FROM pg_attribute WHERE attrelid = 'organizations'::regclass
        AND attname = 'id' AND atttypid = 'uuid'::regtype AND NOT attisdropped);
BEGIN
    EXECUTE format($fill$
        UPDATE organizations SET
            tenant_id = COALESCE(tenant_id, %s, overlay(replace(gen_random_uuid()::text, '-', '') PLACING
                lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' FROM 1)::uuid),
            status = COALESCE(status, CASE WHEN deleted_at IS NULL THEN 'active' ELSE 'deleted' END), tier = COALESCE(tier, 'free'),
            tier_version = COALESCE(tier_version, 1), timezone = COALESCE(timezone, 'UTC'),
            locale = COALESCE(locale, 'en'), retention_class = COALESCE(retention_class, 30),
            version = COALESCE(version, 1), created_at = COALESCE(created_at, CURRENT_TIMESTAMP),
            updated_at = COALESCE(updated_at, CURRENT_TIMESTAMP), anchored_at = COALESCE(anchored_at, created_at,
                CURRENT_TIMESTAMP)
    $fill$, COALESCE(own_id, 'NULL::uuid'));
    UPDATE organizations SET name = 'Organization ' || tenant_id WHERE name IS NULL;
    WITH made AS (
        SELECT tenant_id, regexp_replace(
            left(trim(BOTH '-' FROM regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g')), 44), '^([^a-z]|$|[0-9a-f]{8}-)', 'org-\1'
        ) AS slug FROM organizations
    ), numbered AS (
        SELECT tenant_id, trim(BOTH '-' FROM slug) AS slug,
            count(*) OVER (PARTITION BY slug) > 1 OR slug IN (SELECT slug FROM organizations WHERE slug IS NOT NULL)
                AS is_taken
        FROM made
    )
    UPDATE organizations SET slug = numbered.slug ||
        CASE WHEN is_taken THEN '-' || right(replace(numbered.tenant_id::text, '-', ''), 12) ELSE '' END
    FROM numbered WHERE numbered.tenant_id = organizations.tenant_id AND organizations.slug IS NULL;
    -- So that a tenant that Tollgate adds has an id as well.
    IF own_id IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attrdef JOIN pg_attribute ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = 'organizations'::regclass AND attname = 'id') THEN
        ALTER TABLE organizations ALTER COLUMN id SET DEFAULT gen_random_uuid();
    END IF;
END $$;

DO $$
BEGIN
    IF current_setting('tollgate.adopts')::boolean THEN
        ALTER TABLE organizations ADD CONSTRAINT organizations_tenant_id UNIQUE (tenant_id);
    ELSE
        ALTER TABLE organizations ADD PRIMARY KEY (tenant_id);
    END IF;
END $$;
ALTER TABLE organizations
    ALTER COLUMN tenant_id SET NOT NULL,
    ALTER COLUMN name SET NOT NULL,
    ALTER COLUMN slug SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN tier SET NOT NULL,
    ALTER COLUMN tier_version SET NOT NULL,
    ALTER COLUMN timezone SET NOT NULL,
    ALTER COLUMN locale SET NOT NULL,
    ALTER COLUMN retention_class SET NOT NULL,
    ALTER COLUMN version SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    -- What another program adds is a tenant on the same terms as the rows that were there before.
    ALTER COLUMN tenant_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN status SET DEFAULT 'active',
    ALTER COLUMN tier SET DEFAULT 'free',
    ALTER COLUMN tier_version SET DEFAULT 1,
    ALTER COLUMN timezone SET DEFAULT 'UTC',
    ALTER COLUMN locale SET DEFAULT 'en',
    ALTER COLUMN retention_class SET DEFAULT 30,
    ALTER COLUMN version SET DEFAULT 1,
    ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP,
    ALTER COLUMN updated_at SET DEFAULT CURRENT_TIMESTAMP,
    ADD CONSTRAINT organizations_slug UNIQUE (slug),
    ADD CONSTRAINT organizations_parent FOREIGN KEY (parent_id) REFERENCES organizations (tenant_id),
    ADD CONSTRAINT organizations_status
        CHECK (status IN ('trial', 'active', 'past_due', 'suspended', 'cancelled', 'deleted')),
    ADD CONSTRAINT organizations_retention_class CHECK (retention_class IN (30, 90, 365, 730)),
    ADD CONSTRAINT organizations_version CHECK (version > 0),
    ADD CONSTRAINT organizations_deleted_at CHECK ((deleted_at IS NOT NULL) = (status = 'deleted')),
    -- Checked for the rows that are there once the tiers are.
    ADD CONSTRAINT organizations_tier FOREIGN KEY (tier, tier_version) REFERENCES tier_versions (tier, version) NOT VALID;
CREATE INDEX organizations_by_created_at ON organizations (created_at, tenant_id);
CREATE INDEX organizations_by_name ON organizations (name, tenant_id);
CREATE INDEX organizations_by_parent ON organizations (parent_id) WHERE parent_id IS NOT NULL;

-- Another program's rows need a slug, which has no default that would do for two of them.
CREATE FUNCTION tollgate_name_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.name := COALESCE(NEW.name, 'Organization ' || NEW.tenant_id);
    NEW.slug := COALESCE(NEW.slug, 'org-' || replace(NEW.tenant_id::text, '-', ''));
    RETURN NEW;
END $$;
CREATE TRIGGER organizations_are_named BEFORE INSERT ON organizations
    FOR EACH ROW WHEN (NEW.slug IS NULL OR NEW.name IS NULL) EXECUTE FUNCTION tollgate_name_tenant();

DO $$
DECLARE
    unfilled text;
BEGIN
    SELECT string_agg(attname, ', ') INTO unfilled FROM pg_attribute
    WHERE attrelid = 'organizations'::regclass AND attnum > 0 AND NOT attisdropped
      AND attnotnull AND NOT atthasdef AND attidentity = '' AND attname NOT IN ('name', 'slug');
    IF unfilled IS NOT NULL THEN
        RAISE EXCEPTION 'the table organizations can''t be adopted: Tollgate can''t add rows to it, since % may not be '
            'NULL and has no default; give it one', unfilled;
    END IF;
END $$;

CREATE TABLE api_keys (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    key_id UUID NOT NULL UNIQUE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE CHECK (length(digest) = 32),
    pepper_version BIGINT NOT NULL,
    scopes JSONB NOT NULL,
    routes JSONB NOT NULL,
    networks JSONB NOT NULL,
    expires_at TIMESTAMPTZ,
    enabled BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, key_id)
);

-- A tenant's own limits, instead of its tier's (owner_kind tenant) or beside them (owner_kind key).
CREATE TABLE tenant_resource_quotas (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    owner_kind TEXT NOT NULL CHECK (owner_kind IN ('tenant', 'key')),
    owner_id UUID NOT NULL,
    resource_type TEXT NOT NULL REFERENCES resource_types (slug),
    period TEXT NOT NULL CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    limit_amount BIGINT CHECK (limit_amount >= 0),
    enforcement TEXT NOT NULL CHECK (enforcement IN ('hard', 'soft', 'monitor')),
    version BIGINT NOT NULL,
    reason TEXT,
    expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, owner_kind, owner_id, resource_type, period),
    CHECK (owner_kind <> 'tenant' OR owner_id = tenant_id)
);

-- What those limits were: versions go on rising when a limit is removed and set again.
CREATE TABLE quota_changes (
    tenant_id UUID NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    version BIGINT NOT NULL,
    change TEXT NOT NULL CHECK (change IN ('set', 'removed')),
    limit_amount BIGINT,
    enforcement TEXT NOT NULL,
    reason TEXT,
    expires_at TIMESTAMPTZ,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, owner_kind, owner_id, resource_type, period, version)
);

CREATE TABLE tenant_settings (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    setting_key TEXT NOT NULL,
    setting_type TEXT NOT NULL CHECK (setting_type IN ('string', 'int', 'bool', 'json', 'secret')),
    setting_value TEXT,
    sealed_value BYTEA,                         -- of secrets, which have no setting_value
    data_key_id UUID,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, setting_key),
    CHECK ((setting_type = 'secret') = (sealed_value IS NOT NULL)),
    CHECK ((setting_value IS NULL) = (sealed_value IS NOT NULL))
);

-- One hash chain per tenant; the nil UUID is the platform's own. No foreign key: the log outlives its tenant.
CREATE TABLE tenant_audit_logs (
    tenant_id UUID NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    at TIMESTAMPTZ NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id UUID,
    actor_name TEXT NOT NULL,
    actor_ip TEXT,
    actor_user_agent TEXT,
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('done', 'denied')),
    before_json JSONB,
    after_json JSONB,
    reason TEXT,
    correlation UUID NOT NULL,
    prev_hash BYTEA NOT NULL CHECK (length(prev_hash) = 32),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
);
CREATE FUNCTION tollgate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER tenant_audit_logs_are_not_updated BEFORE UPDATE ON tenant_audit_logs
    EXECUTE FUNCTION tollgate_refuse_change();
CREATE TRIGGER tenant_audit_logs_are_not_deleted BEFORE DELETE OR TRUNCATE ON tenant_audit_logs
    EXECUTE FUNCTION tollgate_refuse_change();

-- The newest link of each chain: its row is what two writers of one chain wait for, and it shows when the
-- newest rows of a log are missing.
CREATE TABLE audit_chains (
    tenant_id UUID NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32)
);

CREATE TABLE platform_tokens (
    token_id UUID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE CHECK (length(digest) = 32),
    pepper_version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ
);

-- What gateways must read again, in the order of the commits. A version never comes twice, even when the newest
-- rows were pruned.
CREATE TABLE directory_changes (
    version BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('tenant', 'key', 'tier')),
    id TEXT NOT NULL
);

-- Who sees what.
DO $$
DECLARE
    made text;
    role text;
BEGIN
    FOREACH made IN ARRAY ARRAY['organizations', 'api_keys', 'tenant_resource_quotas', 'quota_changes',
            'tenant_settings', 'tenant_audit_logs', 'audit_chains'] LOOP
        PERFORM tollgate_isolate(made::regclass);
    END LOOP;
    -- Roles that another program works with on the table that was adopted go on seeing all of it.
    FOR role IN SELECT DISTINCT rolname FROM pg_class CROSS JOIN aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
            WHERE pg_class.oid = 'organizations'::regclass AND grantee <> relowner LOOP
        EXECUTE format('CREATE POLICY %I ON organizations TO %I USING (true) WITH CHECK (true)', 'adopted_' || role, role);
    END LOOP;
    -- Its own ids may come from a sequence, which whoever adds a row must be allowed to draw from.
    FOR made IN SELECT objid::regclass::text FROM pg_depend JOIN pg_class ON pg_class.oid = objid
            WHERE refobjid = 'organizations'::regclass AND deptype = 'a' AND relkind = 'S' LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO tollgate_platform', made);
    END LOOP;
    FOREACH made IN ARRAY ARRAY['resource_types', 'tiers', 'tier_aliases', 'tier_versions', 'tier_quotas', 'api_keys',
            'tenant_resource_quotas', 'quota_changes', 'tenant_settings', 'tenant_audit_logs', 'audit_chains',
            'platform_tokens', 'directory_changes', 'tollgate_migrations'] LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO tollgate_owner', made);
    END LOOP;
    IF current_setting('tollgate.adopts')::boolean THEN
        -- The other program works as its owner.
        ALTER TABLE organizations NO FORCE ROW LEVEL SECURITY;
        GRANT SELECT, REFERENCES ON organizations TO tollgate_owner;
    ELSE
        ALTER TABLE organizations OWNER TO tollgate_owner;
    END IF;
END $$;
ALTER FUNCTION tollgate_isolate OWNER TO tollgate_owner;
ALTER FUNCTION tollgate_refuse_change OWNER TO tollgate_owner;

GRANT SELECT ON tollgate_migrations TO tollgate_platform;

GRANT SELECT, INSERT ON tiers, tier_aliases, tier_versions, tier_quotas, resource_types TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE ON organizations, api_keys, audit_chains, platform_tokens TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_resource_quotas, tenant_settings TO tollgate_platform;
GRANT SELECT, INSERT ON quota_changes, tenant_audit_logs TO tollgate_platform;
GRANT SELECT, INSERT, DELETE ON directory_changes TO tollgate_platform;

GRANT SELECT ON tiers, tier_aliases, tier_versions, tier_quotas, resource_types TO tollgate_app;
GRANT SELECT, UPDATE ON organizations TO tollgate_app;
GRANT SELECT, INSERT, UPDATE ON api_keys, audit_chains TO tollgate_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_resource_quotas, tenant_settings TO tollgate_app;
GRANT SELECT, INSERT ON quota_changes, tenant_audit_logs TO tollgate_app;
-- Notes are of all tenants: the app adds its own and prunes old ones, and reads no more than that needs.
GRANT SELECT (version), INSERT, DELETE ON directory_changes TO tollgate_app;

GRANT SELECT (tenant_id, retention_class) ON organizations TO tollgate_ingest;
