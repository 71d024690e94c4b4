-- Fills a migrated database: `tenants` tenants, each with a key, a limit of its own, settings, an audit log and what it
-- has used; and `rows` rows of the usage log of this month, every tenth of them the first tenant's.
SELECT set_config('fill.tenants', :'tenants', false), set_config('fill.rows', :'rows', false);
SELECT tollgate_make_partitions(CURRENT_TIMESTAMP);

CREATE FUNCTION pg_temp.number(name text) RETURNS bigint LANGUAGE sql
    AS $$ SELECT current_setting('fill.' || name)::bigint $$;
CREATE FUNCTION pg_temp.id(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT ('019a' || kind || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
-- An instant of this month that is over.
CREATE FUNCTION pg_temp.instant(n bigint) RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT month + (n % 1000003) / 1000003.0 * (CURRENT_TIMESTAMP - month)
          FROM (SELECT date_trunc('month', CURRENT_TIMESTAMP, 'UTC') AS month) AS this $$;

INSERT INTO organizations (tenant_id, name, slug, status, tier, tier_version, parent_id, billing_email, timezone, locale,
    retention_class, version, created_at, updated_at, health_level)
SELECT pg_temp.id('0001', n), 'Tenant ' || n, 'tenant-' || n,
    (ARRAY['active', 'active', 'active', 'trial', 'suspended'])[1 + n % 5],
    (ARRAY['free', 'pro', 'business', 'msp'])[1 + n % 4], 1, CASE WHEN n % 100 = 2 THEN pg_temp.id('0001', 1) END,
    'billing-' || n || '@example.com', 'UTC', 'en', 30, 1, CURRENT_TIMESTAMP - n * interval '1 minute', CURRENT_TIMESTAMP,
    (ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 1, 2])[1 + n % 10]
FROM generate_series(1, pg_temp.number('tenants')) AS n;
-- The first one is served and may have others below it.
UPDATE organizations SET status = 'active', tier = 'msp' WHERE tenant_id = pg_temp.id('0001', 1);

INSERT INTO subscription_segments (tenant_id, starts_at, tier, tier_version)
SELECT tenant_id, created_at, CASE WHEN status <> 'trial' THEN tier END, CASE WHEN status <> 'trial' THEN tier_version END
FROM organizations;

INSERT INTO api_keys (tenant_id, key_id, name, prefix, digest, pepper_version, scopes, routes, networks, enabled, created_at)
SELECT pg_temp.id('0001', n), pg_temp.id('0002', n), 'key', 'tg_live_0123456789', sha256(n::text::bytea), 1, '[]', '[]',
    '[]', true, CURRENT_TIMESTAMP
FROM generate_series(1, pg_temp.number('tenants')) AS n;

INSERT INTO tenant_resource_quotas (tenant_id, owner_kind, owner_id, resource_type, period, limit_amount, enforcement,
    version, created_at, updated_at)
SELECT pg_temp.id('0001', n), 'tenant', pg_temp.id('0001', n), 'api_calls', 'month', 1000000, 'hard', 1,
    CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
FROM generate_series(1, pg_temp.number('tenants')) AS n;

INSERT INTO tenant_settings (tenant_id, setting_key, setting_type, setting_value, version, created_at, updated_at)
SELECT pg_temp.id('0001', n), 'custom.note', 'string', '"note"', 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
FROM generate_series(1, pg_temp.number('tenants')) AS n;

INSERT INTO tenant_audit_logs (tenant_id, seq, at, actor_kind, actor_name, action, target_kind, target_id, outcome,
    correlation, prev_hash, hash)
SELECT pg_temp.id('0001', 1 + n % pg_temp.number('tenants')), 1 + n / pg_temp.number('tenants'), CURRENT_TIMESTAMP,
    'system', 'fill', 'tenant.change', 'tenant', 'x', 'done', pg_temp.id('0003', n), sha256(n::text::bytea),
    sha256((n + 1)::text::bytea)
FROM generate_series(0, 10 * pg_temp.number('tenants') - 1) AS n;

INSERT INTO tenant_usage_logs (tenant_id, usage_date, log_id, resource_type, usage_amount, overage_amount, key_id, route,
    outcome, requests, errors, bytes_in, bytes_out, latency_sum_micros, batch_id, retention_class)
SELECT pg_temp.id('0001', owner), pg_temp.instant(n), pg_temp.id('0004', n), 'api_calls', 1, 0, pg_temp.id('0002', owner),
    'orders', 'answered', 1, 0, 100, 1000, 1000, pg_temp.id('0005', n / 1000), 30
FROM (SELECT n, CASE WHEN n % 10 = 0 THEN 1 ELSE 1 + n % pg_temp.number('tenants') END AS owner
      FROM generate_series(1, pg_temp.number('rows')) AS n) AS rows;

INSERT INTO usage_rollups (tenant_id, period, bucket_start, resource_type, key_id, route, units, overage, requests, errors,
    bytes_in, bytes_out, latency_sum_micros)
SELECT tenant_id, period, date_trunc(period, usage_date, 'UTC'), resource_type, key_id, route, SUM(usage_amount), 0,
    SUM(requests), 0, SUM(bytes_in), SUM(bytes_out), SUM(latency_sum_micros)
FROM tenant_usage_logs, (VALUES ('minute'), ('hour'), ('day'), ('month')) AS periods (period)
WHERE tenant_usage_logs.usage_date > CURRENT_TIMESTAMP - interval '2 days' OR period <> 'minute'
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO account_units (owner_kind, owner_id, resource_type, period, window_start, window_end, till, units, overage,
    updated_at)
SELECT 'tenant', pg_temp.id('0001', n), 'api_calls', 'month', date_trunc('month', CURRENT_TIMESTAMP, 'UTC'),
    date_trunc('month', CURRENT_TIMESTAMP, 'UTC') + interval '1 month', pg_temp.id('0006', till), 500, 0, CURRENT_TIMESTAMP
FROM generate_series(1, pg_temp.number('tenants')) AS n, generate_series(1, 3) AS till;
