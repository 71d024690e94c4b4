-- What tenants are told in time, continued: how they fare, where lists find it, and what gateways see beside what they
-- charge.

-- How a tenant fares stands beside it, since lists are filtered and sorted by it: 0 healthy, 1 warning, 2 critical.
-- With its status in the index, to count those that fare like that needs no look at the table.
-- A table that was adopted is still its other program's.
DO $$
DECLARE
    is_ours CONSTANT boolean :=
        (SELECT relowner::regrole::text FROM pg_class WHERE oid = 'organizations'::regclass) = current_user;
    unwell jsonb;
BEGIN
    -- Of a table that is isolated by force not even its owner sees a row.
    ALTER TABLE tenant_health NO FORCE ROW LEVEL SECURITY;
    unwell := (SELECT jsonb_object_agg(tenant_id, CASE health WHEN 'critical' THEN 2 ELSE 1 END)
        FROM tenant_health WHERE health <> 'healthy');
    ALTER TABLE tenant_health FORCE ROW LEVEL SECURITY;
    IF is_ours THEN
        ALTER TABLE organizations NO FORCE ROW LEVEL SECURITY;
    ELSE
        RESET ROLE;
    END IF;
    ALTER TABLE organizations ADD COLUMN health_level BIGINT NOT NULL DEFAULT 0
        CHECK (health_level BETWEEN 0 AND 2);
    CREATE INDEX organizations_by_health ON organizations (health_level, tenant_id, status);
    UPDATE organizations SET health_level = told.value::bigint FROM jsonb_each_text(unwell) AS told
    WHERE tenant_id = told.key::uuid;
    SET LOCAL ROLE tollgate_owner;
    IF is_ours THEN
        ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
    END IF;
END $$;
ALTER TABLE tenant_health DROP COLUMN health;

-- Quotas that will be used up before they begin anew, as a forecast of the last hour says of that limit.
CREATE TABLE exhaustions (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    limit_amount BIGINT NOT NULL CHECK (limit_amount > 0),
    window_end TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, resource_type, period)
);

-- Requests that were refused for want of units: they are in no usage log, since they used nothing. Kept for days.
CREATE TABLE denials (
    tenant_id UUID NOT NULL,
    minute TIMESTAMPTZ NOT NULL,
    denied BIGINT NOT NULL CHECK (denied > 0),
    PRIMARY KEY (tenant_id, minute)
);
CREATE INDEX denials_by_minute ON denials (minute);

-- Networks (of 24 bits, of IPv6 48) that keys were used from.
CREATE TABLE key_networks (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    key_id UUID NOT NULL,
    network TEXT NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, key_id, network)
);
CREATE INDEX key_networks_by_first_seen_at ON key_networks (first_seen_at);
CREATE INDEX key_networks_by_last_seen_at ON key_networks (last_seen_at);

-- Keys that don't work, by the network that they came from, hour by hour: somebody's that are revoked, expired or turned
-- off, or nobody's, whose tenant is zeros.
CREATE TABLE bad_keys (
    tenant_id UUID NOT NULL,
    network TEXT NOT NULL,
    hour TIMESTAMPTZ NOT NULL,
    times BIGINT NOT NULL CHECK (times > 0),
    told BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, network, hour)
);
CREATE INDEX bad_keys_by_hour ON bad_keys (hour);

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['exhaustions', 'denials', 'key_networks', 'bad_keys']) AS made;

GRANT SELECT, INSERT, UPDATE, DELETE ON exhaustions, denials, key_networks, bad_keys TO tollgate_platform;
GRANT SELECT ON exhaustions, denials, key_networks TO tollgate_app;
