-- Operations over many tenants: what is to be done to whom, and what came of it.

CREATE TABLE bulk_operations (
    operation_id UUID NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('running', 'cancelled', 'done')),
    filter JSONB NOT NULL,                      -- as it was asked for
    action JSONB NOT NULL,
    actor JSONB NOT NULL,                       -- who asked, and stands in the audit log of each tenant
    total BIGINT NOT NULL CHECK (total >= 0),
    changed BIGINT NOT NULL DEFAULT 0,
    unchanged BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    CHECK (changed + unchanged + failed <= total),
    CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX bulk_operations_by_finished_at ON bulk_operations (finished_at) WHERE finished_at IS NOT NULL;

-- One tenant of an operation. Its state changes in the transaction that changes the tenant, so whoever is killed in the
-- middle has done neither.
CREATE TABLE bulk_items (
    operation_id UUID NOT NULL REFERENCES bulk_operations (operation_id) ON DELETE CASCADE,
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    state TEXT NOT NULL CHECK (state IN ('pending', 'changed', 'unchanged', 'failed')),
    before_json JSONB,
    after_json JSONB,
    error TEXT,
    at TIMESTAMPTZ,
    PRIMARY KEY (operation_id, tenant_id),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK ((state = 'pending') = (at IS NULL))
);
CREATE INDEX bulk_items_pending ON bulk_items (operation_id, tenant_id) WHERE state = 'pending';

-- The platform's alone: no tenant reads or writes them.
GRANT SELECT, INSERT, UPDATE, DELETE ON bulk_operations, bulk_items TO tollgate_platform;

-- Which kinds of alerts there are is said by the program, which adds some.
ALTER TABLE alert_rules DROP CONSTRAINT alert_rules_kind_check;
ALTER TABLE alert_events DROP CONSTRAINT alert_events_kind_check;

-- Text anywhere in a tenant's name, slug or e-mail address is found by its trigrams, where the server has them (pg_trgm
-- comes with Postgres, on some systems as a package of its own) and whoever migrates may add them. Elsewhere a search
-- reads all tenants.
DO $$
BEGIN
    RESET ROLE;
    BEGIN
        IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
        END IF;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'searches for tenants read all of them: pg_trgm is there, and % may not add it', current_user;
    END;
    -- A table that was adopted is still its other program's, and so are its indexes.
    IF (SELECT relowner::regrole::text FROM pg_class WHERE oid = 'organizations'::regclass) = 'tollgate_owner' THEN
        SET LOCAL ROLE tollgate_owner;
    END IF;
    IF EXISTS (SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)) THEN
        CREATE INDEX organizations_by_text ON organizations USING gin (LOWER(name) gin_trgm_ops,
            LOWER(slug) gin_trgm_ops, LOWER(COALESCE(billing_email, '')) gin_trgm_ops);
    END IF;
    SET LOCAL ROLE tollgate_owner;
END $$;
