-- Gauges that are sold above their limit, and caps of what is spent.

ALTER TABLE tier_quotas ADD COLUMN charge_by TEXT CHECK (charge_by IN ('maximum', 'average'));

-- What a tenant holds of a gauge from an instant on, until its next row. What is charged for is computed from it, so it
-- outlives the tenant.
CREATE TABLE gauge_levels (
    tenant_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    since TEXT NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    PRIMARY KEY (tenant_id, resource_type, since)
) STRICT;
-- Nobody kept what was held before.
INSERT INTO gauge_levels (tenant_id, resource_type, since, units)
SELECT owner_id, resource_type, MAX(updated_at), SUM(units) FROM account_units
WHERE owner_kind = 'tenant' AND period = 'forever' GROUP BY owner_id, resource_type;

-- How much a tenant means to spend in a period at most: it is told when it comes near.
CREATE TABLE spend_caps (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    set_at TEXT NOT NULL,
    set_by TEXT NOT NULL
) STRICT;
