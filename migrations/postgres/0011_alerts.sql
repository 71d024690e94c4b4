-- What tenants are told in time: rules, events, channels, and what is on its way to them.

-- Thresholds of a tenant's own, and what it does not want to hear of. Where there is none, what is built in holds.
CREATE TABLE alert_rules (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    rule_id UUID NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('quota', 'health', 'probing', 'escalation', 'surge', 'audit_chain')),
    resource_type TEXT REFERENCES resource_types (slug),    -- NULL: of all
    threshold BIGINT CHECK (threshold BETWEEN 1 AND 1000),  -- in percent of the limit
    enabled BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, rule_id),
    CHECK ((kind = 'quota') = (threshold IS NOT NULL)),
    CHECK (kind = 'quota' OR resource_type IS NULL)
);

-- What happened. `occasion` names it: the same happening, seen by several gateways or by one that was killed and
-- looks again, is one row.
CREATE TABLE alert_events (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    alert_id UUID NOT NULL,
    occasion TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('quota', 'health', 'probing', 'escalation', 'surge', 'audit_chain', 'test')),
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    resource_type TEXT,
    summary TEXT NOT NULL,
    details JSONB NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    acknowledged_at TIMESTAMPTZ,
    acknowledged_by TEXT,
    PRIMARY KEY (tenant_id, alert_id),
    UNIQUE (tenant_id, occasion),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);

CREATE TABLE notification_channels (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    channel_id UUID NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('webhook', 'slack', 'email')),
    target TEXT NOT NULL,
    kinds JSONB NOT NULL,                       -- list of kinds of events; empty: all
    enabled BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, channel_id)
);

-- What webhooks are signed with, two at a time while one takes the other's place; of Slack, its URL. Sealed with the
-- tenant's data key.
CREATE TABLE channel_secrets (
    tenant_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    version BIGINT NOT NULL,
    data_key_id UUID NOT NULL,
    sealed BYTEA NOT NULL,
    expires_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, channel_id, version),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES notification_channels (tenant_id, channel_id) ON DELETE CASCADE
);

-- Events on their way to channels. Whoever attempts a delivery moves next_at to when the attempt is given up for lost,
-- so a gateway that dies in the middle only delays it.
CREATE TABLE outbox (
    tenant_id UUID NOT NULL,
    delivery_id UUID NOT NULL,
    alert_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    next_at TIMESTAMPTZ NOT NULL,
    last_error TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, delivery_id),
    UNIQUE (tenant_id, alert_id, channel_id),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alert_events (tenant_id, alert_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, channel_id) REFERENCES notification_channels (tenant_id, channel_id) ON DELETE CASCADE,
    CHECK ((state = 'pending') = (finished_at IS NULL))
);
CREATE INDEX outbox_by_next_at ON outbox (next_at) WHERE state = 'pending';
CREATE INDEX outbox_by_channel ON outbox (tenant_id, channel_id);
CREATE INDEX outbox_by_finished_at ON outbox (finished_at) WHERE finished_at IS NOT NULL;

-- How a tenant fares, once that has lasted: what it was told, and what it will be told if it lasts.
CREATE TABLE tenant_health (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    health TEXT NOT NULL CHECK (health IN ('healthy', 'warning', 'critical')),
    seen TEXT NOT NULL CHECK (seen IN ('healthy', 'warning', 'critical')),
    seen_times BIGINT NOT NULL,
    since TIMESTAMPTZ NOT NULL
);

-- Which round of a periodic work somebody of the fleet has taken.
CREATE TABLE rounds (
    work TEXT NOT NULL PRIMARY KEY,
    round BIGINT NOT NULL
);

-- Where current windows, recent rollups and recent audit rows of all tenants are found. None of the columns ever
-- changes, so rows that are added to stay as cheap.
CREATE INDEX account_units_by_window_end ON account_units (window_end);
CREATE INDEX usage_rollups_by_bucket_start ON usage_rollups (period, bucket_start);
CREATE INDEX tenant_audit_logs_by_at ON tenant_audit_logs (at);

-- Requests of a rollup by the first digit of their status; the rest had none.
ALTER TABLE usage_rollups
    ADD COLUMN status_2xx BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN status_3xx BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN status_4xx BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN status_5xx BIGINT NOT NULL DEFAULT 0;

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['alert_rules', 'alert_events', 'notification_channels',
    'channel_secrets', 'outbox', 'tenant_health']) AS made;

GRANT SELECT, INSERT, UPDATE, DELETE ON alert_rules, alert_events, notification_channels, channel_secrets, outbox,
    tenant_health, rounds TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON alert_rules, notification_channels, channel_secrets TO tollgate_app;
GRANT SELECT, INSERT, UPDATE ON alert_events, outbox TO tollgate_app;
GRANT SELECT ON tenant_health TO tollgate_app;
-- Rollups of minutes and hours are not kept for ever.
GRANT DELETE ON usage_rollups TO tollgate_ingest;
