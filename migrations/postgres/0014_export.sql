-- Usage on its way to whoever collects what is owed (Stripe, Lago), and what they tell of it.

-- The first hour of usage that a batch brought: hours that have grown since they were looked at are found by it.
ALTER TABLE usage_batches ADD COLUMN first_hour TIMESTAMPTZ;

-- Since when usage is brought to a collector, and up to which moment it was looked for what gateways had brought.
CREATE TABLE billing_exports (
    collector TEXT NOT NULL PRIMARY KEY CHECK (collector IN ('stripe', 'lago')),
    began_at TIMESTAMPTZ NOT NULL,
    looked_at TIMESTAMPTZ NOT NULL
);

-- What a tenant used of a resource in one hour, as far as no earlier revision brings it. The units of all revisions of
-- an hour are what was taken of it. Whoever attempts an event moves next_at to when the attempt is given up for lost.
-- They outlive their tenant, as usage does.
CREATE TABLE billing_events (
    tenant_id UUID NOT NULL,
    event_id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    bucket_start TIMESTAMPTZ NOT NULL,
    revision BIGINT NOT NULL CHECK (revision >= 0),
    units BIGINT NOT NULL CHECK (units > 0),
    collector TEXT NOT NULL CHECK (collector IN ('stripe', 'lago')),
    account TEXT NOT NULL,                      -- what the tenant is called there
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    next_at TIMESTAMPTZ NOT NULL,
    doubtful_since TIMESTAMPTZ,                 -- the first attempt of which nobody knows whether it arrived
    last_error TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, event_id),
    UNIQUE (tenant_id, resource_type, bucket_start, revision),
    CHECK ((state = 'pending') = (finished_at IS NULL))
);
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
    heard_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (collector, news_id)
);
CREATE INDEX billing_news_by_heard_at ON billing_news (heard_at);

-- How a tenant stands with its collector. A collector is asked by many at once, and what it answered to a later question
-- is never replaced by what it answered to an earlier one.
CREATE TABLE billing_standings (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    subscription TEXT,                          -- what its subscription is called there
    asked BIGINT NOT NULL,                      -- how many questions were begun
    answered BIGINT NOT NULL,                   -- the question whose answer is in force
    unpaid_since TIMESTAMPTZ,
    suspended_at TIMESTAMPTZ,                   -- for being unpaid, and for nothing else
    CHECK (answered <= asked)
);
CREATE INDEX billing_standings_unpaid ON billing_standings (unpaid_since) WHERE unpaid_since IS NOT NULL;

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['billing_events', 'billing_standings']) AS made;

-- The platform's alone: no tenant reads or writes them.
GRANT SELECT, INSERT, UPDATE, DELETE ON billing_events, billing_news TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE ON billing_exports, billing_standings TO tollgate_platform;
