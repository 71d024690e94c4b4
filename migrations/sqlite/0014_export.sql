-- Usage on its way to whoever collects what is owed (Stripe, Lago), and what they tell of it.

-- The first hour of usage that a batch brought: hours that have grown since they were looked at are found by it.
ALTER TABLE usage_batches ADD COLUMN first_hour TEXT;

-- Since when usage is brought to a collector, and up to which moment it was looked for what gateways had brought.
CREATE TABLE billing_exports (
    collector TEXT NOT NULL PRIMARY KEY CHECK (collector IN ('stripe', 'lago')),
    began_at TEXT NOT NULL,
    looked_at TEXT NOT NULL
) STRICT;

-- What a tenant used of a resource in one hour, as far as no earlier revision brings it. The units of all revisions of
-- an hour are what was taken of it. Whoever attempts an event moves next_at to when the attempt is given up for lost.
-- They outlive their tenant, as usage does.
CREATE TABLE billing_events (
    tenant_id BLOB NOT NULL,
    event_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    bucket_start TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 0),
    units INTEGER NOT NULL CHECK (units > 0),
    collector TEXT NOT NULL CHECK (collector IN ('stripe', 'lago')),
    account TEXT NOT NULL,                      -- what the tenant is called there
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    next_at TEXT NOT NULL,
    doubtful_since TEXT,                        -- the first attempt of which nobody knows whether it arrived
    last_error TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    PRIMARY KEY (tenant_id, event_id),
    UNIQUE (tenant_id, resource_type, bucket_start, revision),
    CHECK ((state = 'pending') = (finished_at IS NULL))
) STRICT;
CREATE INDEX billing_events_by_id ON billing_events (event_id);
CREATE INDEX billing_events_by_bucket_start ON billing_events (bucket_start);
CREATE INDEX billing_events_by_next_at ON billing_events (collector, next_at) WHERE state = 'pending';
CREATE INDEX billing_events_dead ON billing_events (collector, finished_at) WHERE state = 'dead';

-- Tenants are found by what they are called at the collector.
CREATE INDEX tenant_settings_billing_account ON tenant_settings (setting_value) WHERE setting_key = 'billing_account';

-- Messages of collectors that were heeded: each is heeded once, however often it comes.
CREATE TABLE billing_news (
    collector TEXT NOT NULL CHECK (collector IN ('stripe', 'lago')),
    news_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    heard_at TEXT NOT NULL,
    PRIMARY KEY (collector, news_id)
) STRICT;
CREATE INDEX billing_news_by_heard_at ON billing_news (heard_at);

-- How a tenant stands with its collector. A collector is asked by many at once, and what it answered to a later question
-- is never replaced by what it answered to an earlier one.
CREATE TABLE billing_standings (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    subscription TEXT,                          -- what its subscription is called there
    asked INTEGER NOT NULL,                     -- how many questions were begun
    answered INTEGER NOT NULL,                  -- the question whose answer is in force
    unpaid_since TEXT,
    suspended_at TEXT,                          -- for being unpaid, and for nothing else
    CHECK (answered <= asked)
) STRICT;
CREATE INDEX billing_standings_unpaid ON billing_standings (unpaid_since) WHERE unpaid_since IS NOT NULL;
