-- Caps that stop what they are of, invoices that were exported, and usage that people decided about.

-- What happens when a cap is reached, and how its money is divided: weights of resources in JSON, or evenly.
ALTER TABLE spend_caps ADD COLUMN at_cap TEXT NOT NULL DEFAULT 'notify' CHECK (at_cap IN ('notify', 'stop'));
ALTER TABLE spend_caps ADD COLUMN shares TEXT;

-- The most of a resource that a cap leaves, in a window of its quota: of a gauge, in the period that is billed.
CREATE TABLE spend_ceilings (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    ends_at TEXT NOT NULL CHECK (ends_at > starts_at),
    limit_amount INTEGER NOT NULL CHECK (limit_amount >= 0),
    PRIMARY KEY (tenant_id, resource_type, period, starts_at)
) STRICT;

-- When all usage of an invoice's period had reached its collector.
ALTER TABLE invoices ADD COLUMN exported_at TEXT;
ALTER TABLE invoices ADD COLUMN exported_to TEXT
    CHECK (exported_to IN ('stripe', 'lago') AND exported_at IS NOT NULL OR exported_to IS NULL AND exported_at IS NULL);
CREATE INDEX invoices_unexported ON invoices (tenant_id, period_end) WHERE status = 'finalized';
-- Up to which hour all of it was taken that had arrived by then.
ALTER TABLE billing_exports ADD COLUMN taken_until TEXT;
CREATE TRIGGER invoices_stay_exported BEFORE UPDATE OF exported_at, exported_to ON invoices
WHEN OLD.exported_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an invoice that was exported stays so'); END;

-- What was given up may be settled by people: it is there, or it is billed to nobody.
CREATE TABLE billing_events_new (
    tenant_id BLOB NOT NULL,
    event_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    bucket_start TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 0),
    units INTEGER NOT NULL CHECK (units > 0),
    collector TEXT NOT NULL CHECK (collector IN ('stripe', 'lago')),
    account TEXT NOT NULL,                      -- what the tenant is called there
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'abandoned')),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    next_at TEXT NOT NULL,
    doubtful_since TEXT,                        -- the first attempt of which nobody knows whether it arrived
    last_error TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    settled_reason TEXT,
    PRIMARY KEY (tenant_id, event_id),
    UNIQUE (tenant_id, resource_type, bucket_start, revision),
    CHECK ((state = 'pending') = (finished_at IS NULL))
) STRICT;
INSERT INTO billing_events_new (tenant_id, event_id, resource_type, bucket_start, revision, units, collector, account,
    state, attempts, next_at, doubtful_since, last_error, created_at, finished_at)
SELECT tenant_id, event_id, resource_type, bucket_start, revision, units, collector, account, state, attempts, next_at,
    doubtful_since, last_error, created_at, finished_at FROM billing_events;
DROP TABLE billing_events;
ALTER TABLE billing_events_new RENAME TO billing_events;
CREATE INDEX billing_events_by_id ON billing_events (event_id);
CREATE INDEX billing_events_by_bucket_start ON billing_events (bucket_start);
CREATE INDEX billing_events_by_next_at ON billing_events (collector, next_at) WHERE state = 'pending';
CREATE INDEX billing_events_dead ON billing_events (collector, finished_at) WHERE state = 'dead';
CREATE INDEX billing_events_open ON billing_events (collector, account, bucket_start) WHERE state IN ('pending', 'dead');
