-- Gauges that are sold above their limit, and caps of what is spent.

ALTER TABLE tier_quotas ADD COLUMN charge_by TEXT CHECK (charge_by IN ('maximum', 'average'));

-- What a tenant holds of a gauge from an instant on, until its next row. What is charged for is computed from it, so it
-- outlives the tenant.
CREATE TABLE gauge_levels (
    tenant_id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    units BIGINT NOT NULL CHECK (units >= 0),
    PRIMARY KEY (tenant_id, resource_type, since)
);
-- Nobody kept what was held before. Their owner sees the rows of all tenants only without this.
ALTER TABLE account_units NO FORCE ROW LEVEL SECURITY;
INSERT INTO gauge_levels (tenant_id, resource_type, since, units)
SELECT owner_id, resource_type, MAX(updated_at), SUM(units) FROM account_units
WHERE owner_kind = 'tenant' AND period = 'forever' GROUP BY owner_id, resource_type;
ALTER TABLE account_units FORCE ROW LEVEL SECURITY;

-- How much a tenant means to spend in a period at most: it is told when it comes near.
CREATE TABLE spend_caps (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    set_at TIMESTAMPTZ NOT NULL,
    set_by TEXT NOT NULL
);

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['gauge_levels', 'spend_caps']) AS made;

GRANT SELECT, INSERT, UPDATE ON gauge_levels TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON spend_caps TO tollgate_platform;
GRANT SELECT ON gauge_levels, spend_caps TO tollgate_app;
