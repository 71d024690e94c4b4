-- What was used: what the flush brings from the gateways' journals.
--
-- Usage outlives its tenant, because bills are made from it: no reference to organizations, and no cascade.
-- Units and counts are 64-bit. A key_id or till of zeros means none, where it is part of a primary key.

-- The ranges of journals that are in this database. A range that is here is never added again: this table is what
-- makes the flush exactly once. Rows may go once no gateway could send their range again.
CREATE TABLE usage_batches (
    journal UUID NOT NULL,
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT NOT NULL CHECK (to_offset > from_offset),
    batch_id UUID NOT NULL UNIQUE,
    till UUID NOT NULL,
    records BIGINT NOT NULL CHECK (records >= 0),
    units BIGINT NOT NULL CHECK (units >= 0),
    checksum BIGINT NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (journal, shard, sequence, from_offset)
);
CREATE INDEX usage_batches_by_committed_at ON usage_batches (committed_at);

-- The usage log. A row is what one key used of one resource on one route with one outcome within ten seconds, or
-- by one request where details are kept. A request that is charged in several resources has a row, and counts one
-- in requests, for each; one that is charged nothing has its row under the resource `uncharged`.
--
-- Partitioned by the days that its tenant's tier keeps rows, then by month of UTC: what is too old goes by dropping
-- a partition. The default partitions are for months that have none; their rows are reported, see
-- tollgate_make_partitions.
CREATE TABLE tenant_usage_logs (
    tenant_id UUID NOT NULL,
    usage_date TIMESTAMPTZ NOT NULL,
    log_id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    usage_amount BIGINT NOT NULL CHECK (usage_amount >= 0),
    overage_amount BIGINT NOT NULL CHECK (overage_amount >= 0),
    description TEXT,
    key_id UUID,
    route TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('answered', 'client_gone', 'upstream_broke', 'upstream_timeout', 'crashed', 'reported')),
    requests BIGINT NOT NULL CHECK (requests > 0),
    errors BIGINT NOT NULL CHECK (errors BETWEEN 0 AND requests),
    bytes_in BIGINT NOT NULL CHECK (bytes_in >= 0),
    bytes_out BIGINT NOT NULL CHECK (bytes_out >= 0),
    latency_sum_micros BIGINT NOT NULL CHECK (latency_sum_micros >= 0),
    batch_id UUID NOT NULL,
    retention_class BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, usage_date, log_id, retention_class)
) PARTITION BY LIST (retention_class);
CREATE TABLE tenant_usage_logs_30 PARTITION OF tenant_usage_logs FOR VALUES IN (30) PARTITION BY RANGE (usage_date);
CREATE TABLE tenant_usage_logs_90 PARTITION OF tenant_usage_logs FOR VALUES IN (90) PARTITION BY RANGE (usage_date);
CREATE TABLE tenant_usage_logs_365 PARTITION OF tenant_usage_logs FOR VALUES IN (365) PARTITION BY RANGE (usage_date);
CREATE TABLE tenant_usage_logs_730 PARTITION OF tenant_usage_logs FOR VALUES IN (730) PARTITION BY RANGE (usage_date);
CREATE TABLE tenant_usage_logs_30_default PARTITION OF tenant_usage_logs_30 DEFAULT;
CREATE TABLE tenant_usage_logs_90_default PARTITION OF tenant_usage_logs_90 DEFAULT;
CREATE TABLE tenant_usage_logs_365_default PARTITION OF tenant_usage_logs_365 DEFAULT;
CREATE TABLE tenant_usage_logs_730_default PARTITION OF tenant_usage_logs_730 DEFAULT;

-- The same, summed per minute, hour, day and month of UTC.
CREATE TABLE usage_rollups (
    tenant_id UUID NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('minute', 'hour', 'day', 'month')),
    bucket_start TIMESTAMPTZ NOT NULL,
    resource_type TEXT NOT NULL,
    key_id UUID NOT NULL,
    route TEXT NOT NULL,
    units BIGINT NOT NULL CHECK (units >= 0),
    overage BIGINT NOT NULL CHECK (overage >= 0),
    requests BIGINT NOT NULL CHECK (requests > 0),
    errors BIGINT NOT NULL CHECK (errors BETWEEN 0 AND requests),
    bytes_in BIGINT NOT NULL CHECK (bytes_in >= 0),
    bytes_out BIGINT NOT NULL CHECK (bytes_out >= 0),
    latency_sum_micros BIGINT NOT NULL CHECK (latency_sum_micros >= 0),
    PRIMARY KEY (tenant_id, period, bucket_start, resource_type, key_id, route)
);

-- Units per account and till: what a till that was lost is rebuilt from, and what other tills are told of each other.
CREATE TABLE account_units (
    owner_kind TEXT NOT NULL CHECK (owner_kind IN ('tenant', 'key')),
    owner_id UUID NOT NULL,
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL
        CHECK (period IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'forever')),
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    till UUID NOT NULL,
    units BIGINT NOT NULL CHECK (units >= 0),
    overage BIGINT NOT NULL CHECK (overage >= 0),
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (owner_kind, owner_id, resource_type, period, window_start, window_end, till)
);
CREATE INDEX account_units_by_till ON account_units (till);

-- The same over all tills. A view, so that it can't disagree; it shows to each role what that role may see.
CREATE VIEW current_usage WITH (security_invoker = true) AS
SELECT owner_kind, owner_id, resource_type, period, window_start, window_end,
       CAST(SUM(units) AS BIGINT) AS units, CAST(SUM(overage) AS BIGINT) AS overage, MAX(updated_at) AS updated_at
FROM account_units
GROUP BY owner_kind, owner_id, resource_type, period, window_start, window_end;

-- Records that the tables above refused. Their units are in no sum; an operator decides. The record is JSON, as text
-- because jsonb refuses some of it, and nothing may be refused here.
CREATE TABLE usage_quarantine (
    journal UUID NOT NULL,
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,                    -- which record of its batch, from 0
    request_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    till UUID NOT NULL,
    record TEXT NOT NULL,
    reason TEXT NOT NULL,
    parked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (journal, shard, sequence, from_offset, ordinal)
);

-- Both functions take turns by an advisory lock of the numbers that the store's own locks have, and one beyond.

-- Makes the partitions that are missing of the month of `at`, the one before it (journals may hold its last records
-- still) and the two after it; answers how many. A month whose rows lie in a default partition is left out: they
-- have to be moved by hand. A partition is isolated before it is attached: at no moment can it be read by tenants.
CREATE FUNCTION tollgate_make_partitions(at TIMESTAMPTZ) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    class BIGINT;
    ahead INT;
    month TIMESTAMP;
    made text;
    bound CONSTANT text := 'YYYY-MM-DD 00:00:00+00';
    count BIGINT := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1953459308, 2);
    FOREACH class IN ARRAY ARRAY[30, 90, 365, 730] LOOP
        FOR ahead IN -1..2 LOOP
            month := date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => ahead);
            made := format('tenant_usage_logs_%s_%s', class, to_char(month, 'YYYY_MM'));
            CONTINUE WHEN to_regclass(made) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I (LIKE tenant_usage_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', made);
                PERFORM tollgate_isolate(made::regclass);
                EXECUTE format('ALTER TABLE tenant_usage_logs_%s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                    class, made, to_char(month, bound), to_char(month + interval '1 month', bound));
                count := count + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;
            END;
        END LOOP;
    END LOOP;
    RETURN count;
END $$;

-- Drops the partitions all of whose rows are older than their class keeps them, by this server's clock or by `at`,
-- whichever is earlier: nobody who may call this can drop what must be kept. Answers how many.
CREATE FUNCTION tollgate_drop_partitions(at TIMESTAMPTZ) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    leaf record;
    count BIGINT := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1953459308, 2);
    FOR leaf IN
        SELECT relid, substring(relid::regclass::text FROM '_(\d+)_\d{4}_\d{2}$')::int AS class,
            to_date(substring(relid::regclass::text FROM '_(\d{4}_\d{2})$'), 'YYYY_MM')::timestamp AS month
        FROM pg_partition_tree('tenant_usage_logs') WHERE isleaf AND relid::regclass::text ~ '_\d+_\d{4}_\d{2}$'
    LOOP
        CONTINUE WHEN (leaf.month + interval '1 month') AT TIME ZONE 'UTC' + make_interval(days => leaf.class)
            > LEAST(at, CURRENT_TIMESTAMP);
        EXECUTE format('DROP TABLE %s', leaf.relid::regclass);
        count := count + 1;
    END LOOP;
    RETURN count;
END $$;

-- Who sees what.
DO $$
DECLARE
    made text;
BEGIN
    FOR made IN SELECT relid::regclass::text FROM pg_partition_tree('tenant_usage_logs')
            UNION VALUES ('usage_rollups'), ('usage_quarantine') LOOP
        PERFORM tollgate_isolate(made::regclass);
    END LOOP;
    -- Accounts are a tenant's or one of its keys'; which keys those are is isolated itself.
    PERFORM tollgate_isolate('account_units', $own$
        CASE owner_kind WHEN 'tenant' THEN owner_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)
            ELSE owner_id IN (SELECT key_id FROM api_keys) END $own$);
    -- What runs with the owner's rights finds tables in this schema and nowhere else.
    FOREACH made IN ARRAY ARRAY['tollgate_make_partitions', 'tollgate_drop_partitions'] LOOP
        EXECUTE format('ALTER FUNCTION %I(TIMESTAMPTZ) SET search_path = %I, pg_temp', made, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %I(TIMESTAMPTZ) FROM PUBLIC', made);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I(TIMESTAMPTZ) TO tollgate_ingest', made);
    END LOOP;
END $$;

GRANT SELECT, INSERT, DELETE ON usage_batches TO tollgate_ingest;
GRANT SELECT, INSERT ON tenant_usage_logs TO tollgate_ingest;
GRANT SELECT, INSERT, UPDATE ON usage_rollups, account_units TO tollgate_ingest;
GRANT SELECT, INSERT ON usage_quarantine TO tollgate_ingest;
GRANT SELECT ON tenant_usage_logs, usage_rollups, account_units, current_usage, usage_batches, usage_quarantine
    TO tollgate_platform;
GRANT SELECT ON tenant_usage_logs, usage_rollups, account_units, current_usage TO tollgate_app;
GRANT SELECT ON tenant_usage_logs_30_default, tenant_usage_logs_90_default, tenant_usage_logs_365_default,
    tenant_usage_logs_730_default TO tollgate_ingest;
