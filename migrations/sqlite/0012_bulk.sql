-- Operations over many tenants: what is to be done to whom, and what came of it.

CREATE TABLE bulk_operations (
    operation_id BLOB NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('running', 'cancelled', 'done')),
    filter TEXT NOT NULL,                       -- as it was asked for
    action TEXT NOT NULL,
    actor TEXT NOT NULL,                        -- who asked, and stands in the audit log of each tenant
    total INTEGER NOT NULL CHECK (total >= 0),
    changed INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    CHECK (changed + unchanged + failed <= total),
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT;
CREATE INDEX bulk_operations_by_finished_at ON bulk_operations (finished_at) WHERE finished_at IS NOT NULL;

-- One tenant of an operation. Its state changes in the transaction that changes the tenant, so whoever is killed in the
-- middle has done neither.
CREATE TABLE bulk_items (
    operation_id BLOB NOT NULL REFERENCES bulk_operations (operation_id) ON DELETE CASCADE,
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    state TEXT NOT NULL CHECK (state IN ('pending', 'changed', 'unchanged', 'failed')),
    before_json TEXT,
    after_json TEXT,
    error TEXT,
    at TEXT,
    PRIMARY KEY (operation_id, tenant_id),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK ((state = 'pending') = (at IS NULL))
) STRICT;
CREATE INDEX bulk_items_pending ON bulk_items (operation_id, tenant_id) WHERE state = 'pending';

-- Which kinds of alerts there are is said by the program, which adds some. A table's checks can't be dropped: the tables
-- are made anew, from the outermost, since to drop one deletes what refers to it.
CREATE TABLE outbox_kept AS SELECT * FROM outbox;
DROP TABLE outbox;

CREATE TABLE alert_events_new (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    alert_id BLOB NOT NULL,
    occasion TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    resource_type TEXT,
    summary TEXT NOT NULL,
    details TEXT NOT NULL,
    at TEXT NOT NULL,
    acknowledged_at TEXT,
    acknowledged_by TEXT,
    PRIMARY KEY (tenant_id, alert_id),
    UNIQUE (tenant_id, occasion),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
) STRICT;
INSERT INTO alert_events_new SELECT * FROM alert_events;
DROP TABLE alert_events;
ALTER TABLE alert_events_new RENAME TO alert_events;

CREATE TABLE alert_rules_new (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    rule_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    resource_type TEXT REFERENCES resource_types (slug),    -- NULL: of all
    threshold INTEGER CHECK (threshold BETWEEN 1 AND 1000),  -- in percent of the limit
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, rule_id),
    CHECK ((kind = 'quota') = (threshold IS NOT NULL)),
    CHECK (kind = 'quota' OR resource_type IS NULL)
) STRICT;
INSERT INTO alert_rules_new SELECT * FROM alert_rules;
DROP TABLE alert_rules;
ALTER TABLE alert_rules_new RENAME TO alert_rules;

CREATE TABLE outbox (
    tenant_id BLOB NOT NULL,
    delivery_id BLOB NOT NULL,
    alert_id BLOB NOT NULL,
    channel_id BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    next_at TEXT NOT NULL,
    last_error TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    PRIMARY KEY (tenant_id, delivery_id),
    UNIQUE (tenant_id, alert_id, channel_id),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alert_events (tenant_id, alert_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, channel_id) REFERENCES notification_channels (tenant_id, channel_id) ON DELETE CASCADE,
    CHECK ((state = 'pending') = (finished_at IS NULL))
) STRICT;
INSERT INTO outbox SELECT * FROM outbox_kept;
DROP TABLE outbox_kept;
CREATE INDEX outbox_by_next_at ON outbox (next_at) WHERE state = 'pending';
CREATE INDEX outbox_by_channel ON outbox (tenant_id, channel_id);
CREATE INDEX outbox_by_finished_at ON outbox (finished_at) WHERE finished_at IS NOT NULL;
