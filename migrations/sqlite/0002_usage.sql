-- What was used: what the flush brings from the gateways' journals.
--
-- Usage outlives its tenant, because bills are made from it: no reference to organizations, and no cascade.
-- Units and counts are 64-bit. A key_id or till of zeros means none, where it is part of a primary key.

-- The ranges of journals that are in this database. A range that is here is never added again: this table is what
-- makes the flush exactly once. Rows may go once no gateway could send their range again.
CREATE TABLE usage_batches (
    journal BLOB NOT NULL,
    shard INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    from_offset INTEGER NOT NULL,
    to_offset INTEGER NOT NULL CHECK (to_offset > from_offset),
    batch_id BLOB NOT NULL UNIQUE,
    till BLOB NOT NULL,
    records INTEGER NOT NULL CHECK (records >= 0),
    units INTEGER NOT NULL CHECK (units >= 0),
    checksum INTEGER NOT NULL,
    committed_at TEXT NOT NULL,
    PRIMARY KEY (journal, shard, sequence, from_offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_batches_by_committed_at ON usage_batches (committed_at);

-- The usage log. A row is what one key used of one resource on one route with one outcome within ten seconds, or
-- by one request where details are kept. A request that is charged in several resources has a row, and counts one
-- in requests, for each; one that is charged nothing has its row under the resource `uncharged`.
CREATE TABLE tenant_usage_logs (
    tenant_id BLOB NOT NULL,
    usage_date TEXT NOT NULL,
    log_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    usage_amount INTEGER NOT NULL CHECK (usage_amount >= 0),
    overage_amount INTEGER NOT NULL CHECK (overage_amount >= 0),
    description TEXT,
    key_id BLOB,
    route TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('answered', 'client_gone', 'upstream_broke', 'upstream_timeout', 'crashed', 'reported')),
    requests INTEGER NOT NULL CHECK (requests > 0),
    errors INTEGER NOT NULL CHECK (errors BETWEEN 0 AND requests),
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0),
    latency_sum_micros INTEGER NOT NULL CHECK (latency_sum_micros >= 0),
    batch_id BLOB NOT NULL,
    PRIMARY KEY (tenant_id, usage_date, log_id)
) STRICT, WITHOUT ROWID;

-- The same, summed per minute, hour, day and month of UTC.
CREATE TABLE usage_rollups (
    tenant_id BLOB NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('minute', 'hour', 'day', 'month')),
    bucket_start TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    key_id BLOB NOT NULL,
    route TEXT NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    overage INTEGER NOT NULL CHECK (overage >= 0),
    requests INTEGER NOT NULL CHECK (requests > 0),
    errors INTEGER NOT NULL CHECK (errors BETWEEN 0 AND requests),
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0),
    latency_sum_micros INTEGER NOT NULL CHECK (latency_sum_micros >= 0),
    PRIMARY KEY (tenant_id, period, bucket_start, resource_type, key_id, route)
) STRICT, WITHOUT ROWID;

-- Units per account and till: what a till that was lost is rebuilt from, and what other tills are told of each other.
CREATE TABLE account_units (
    owner_kind TEXT NOT NULL CHECK (owner_kind IN ('tenant', 'key')),
    owner_id BLOB NOT NULL,
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL
        CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    till BLOB NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    overage INTEGER NOT NULL CHECK (overage >= 0),
    updated_at TEXT NOT NULL,
    PRIMARY KEY (owner_kind, owner_id, resource_type, period, window_start, window_end, till)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_units_by_till ON account_units (till);

-- The same over all tills. A view, so that it can't disagree.
CREATE VIEW current_usage AS
SELECT owner_kind, owner_id, resource_type, period, window_start, window_end,
       SUM(units) AS units, SUM(overage) AS overage, MAX(updated_at) AS updated_at
FROM account_units
GROUP BY owner_kind, owner_id, resource_type, period, window_start, window_end;

-- Records that the tables above refused. Their units are in no sum; an operator decides.
CREATE TABLE usage_quarantine (
    journal BLOB NOT NULL,
    shard INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    from_offset INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,                   -- which record of its batch, from 0
    request_id BLOB NOT NULL,
    tenant_id BLOB NOT NULL,
    till BLOB NOT NULL,
    record TEXT NOT NULL,                       -- JSON
    reason TEXT NOT NULL,
    parked_at TEXT NOT NULL,
    PRIMARY KEY (journal, shard, sequence, from_offset, ordinal)
) STRICT, WITHOUT ROWID;
