-- Usage that was reported through the API, by the name that its reporter gave it: the same event counts once. Rows may
-- go when no event of that age is taken any more.
CREATE TABLE usage_events (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    event_id TEXT NOT NULL,
    request_id BLOB NOT NULL,                   -- of its record in the journal, and of its row in the usage log
    resource_type TEXT NOT NULL,
    amount INTEGER NOT NULL,                    -- below 0 where units of a gauge were released
    description TEXT,
    answer TEXT NOT NULL,                       -- what the reporter was told, to be told again
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
) STRICT;
CREATE INDEX usage_events_by_request ON usage_events (request_id);
CREATE INDEX usage_events_by_created_at ON usage_events (created_at);
