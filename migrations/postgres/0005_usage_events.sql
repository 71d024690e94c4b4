-- Usage that was reported through the API, by the name that its reporter gave it: the same event counts once. Rows may
-- go when no event of that age is taken any more.
CREATE TABLE usage_events (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    event_id TEXT NOT NULL,
    request_id UUID NOT NULL,                   -- of its record in the journal, and of its row in the usage log
    resource_type TEXT NOT NULL,
    amount BIGINT NOT NULL,                     -- below 0 where units of a gauge were released
    description TEXT,
    answer JSONB NOT NULL,                      -- what the reporter was told, to be told again
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX usage_events_by_request ON usage_events (request_id);
CREATE INDEX usage_events_by_created_at ON usage_events (created_at);
SELECT tollgate_isolate('usage_events');

GRANT SELECT, INSERT, DELETE ON usage_events TO tollgate_platform;
GRANT SELECT ON usage_events TO tollgate_app;
-- The flush takes descriptions over to the usage log, and forgets events.
GRANT SELECT, DELETE ON usage_events TO tollgate_ingest;
-- What is held of gauges is changed where it is decided: in the transaction of the event.
GRANT INSERT, UPDATE ON account_units TO tollgate_platform;
