-- What tenants are told in time, continued: how they fare, where lists find it, and what gateways see beside what they
-- charge.

-- How a tenant fares stands beside it, since lists are filtered and sorted by it: 0 healthy, 1 warning, 2 critical.
-- With its status in the index, to count those that fare like that needs no look at the table.
ALTER TABLE organizations ADD COLUMN health_level INTEGER NOT NULL DEFAULT 0 CHECK (health_level BETWEEN 0 AND 2);
UPDATE organizations SET health_level = (SELECT CASE health WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END
    FROM tenant_health WHERE tenant_health.tenant_id = organizations.tenant_id)
WHERE tenant_id IN (SELECT tenant_id FROM tenant_health);
ALTER TABLE tenant_health DROP COLUMN health;
CREATE INDEX organizations_by_health ON organizations (health_level, tenant_id, status);

-- Quotas that will be used up before they begin anew, as a forecast of the last hour says of that limit.
CREATE TABLE exhaustions (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    limit_amount INTEGER NOT NULL CHECK (limit_amount > 0),
    window_end TEXT NOT NULL,
    PRIMARY KEY (tenant_id, resource_type, period)
) STRICT;

-- Requests that were refused for want of units: they are in no usage log, since they used nothing. Kept for days.
CREATE TABLE denials (
    tenant_id BLOB NOT NULL,
    minute TEXT NOT NULL,
    denied INTEGER NOT NULL CHECK (denied > 0),
    PRIMARY KEY (tenant_id, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX denials_by_minute ON denials (minute);

-- Networks (of 24 bits, of IPv6 48) that keys were used from.
CREATE TABLE key_networks (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    key_id BLOB NOT NULL,
    network TEXT NOT NULL,
    first_seen_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, key_id, network)
) STRICT;
CREATE INDEX key_networks_by_first_seen_at ON key_networks (first_seen_at);
CREATE INDEX key_networks_by_last_seen_at ON key_networks (last_seen_at);

-- Keys that don't work, by the network that they came from, hour by hour: somebody's that are revoked, expired or turned
-- off, or nobody's, whose tenant is zeros.
CREATE TABLE bad_keys (
    tenant_id BLOB NOT NULL,
    network TEXT NOT NULL,
    hour TEXT NOT NULL,
    times INTEGER NOT NULL CHECK (times > 0),
    told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)),
    PRIMARY KEY (tenant_id, network, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX bad_keys_by_hour ON bad_keys (hour);
