-- Tables of tenants are those that tollgate_app may do something with and whose rows have a tenant, or an account's
-- owner; and their partitions, which nobody needs rights on to have them granted by mistake.
WITH tenant_tables AS (
    SELECT pg_class.oid, relowner, relrowsecurity FROM pg_class
    WHERE relkind IN ('r', 'p')
      AND relnamespace IN (SELECT pg_namespace.oid FROM pg_namespace WHERE nspname = ANY (current_schemas(false)))
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname IN ('tenant_id', 'owner_id')
          AND NOT attisdropped)
      AND has_any_column_privilege('tollgate_app', COALESCE(pg_partition_root(pg_class.oid)::oid, pg_class.oid),
          'SELECT, INSERT, UPDATE')
), login AS (
    SELECT oid, rolname, rolsuper,
        -- From Postgres 16 on a member need not be one who can become the role.
        CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END AS becoming
    FROM pg_roles WHERE rolname = session_user
)
SELECT kind, rolname::text AS login, what FROM login, LATERAL (
    SELECT 1 AS place, 'superuser' AS kind, '' AS what WHERE rolsuper
    UNION ALL
    SELECT 2, 'bypass', pg_roles.rolname::text FROM pg_roles
    WHERE NOT login.rolsuper AND (pg_roles.rolsuper OR rolbypassrls) AND pg_has_role(login.oid, pg_roles.oid, 'MEMBER')
    UNION ALL
    SELECT 3, 'owner', tenant_tables.oid::regclass::text FROM tenant_tables
    WHERE NOT login.rolsuper AND pg_has_role(login.oid, relowner, 'MEMBER')
    UNION ALL
    SELECT 4, 'inherits', role FROM unnest(ARRAY['tollgate_platform', 'tollgate_app', 'tollgate_ingest']) AS role
    WHERE NOT login.rolsuper AND pg_has_role(login.oid, role::name, 'USAGE')
    UNION ALL
    SELECT 5, 'stranger', role FROM unnest(ARRAY['tollgate_platform', 'tollgate_app', 'tollgate_ingest']) AS role
    WHERE NOT pg_has_role(login.oid, role::name, becoming)
    UNION ALL
    SELECT 6, 'open', tenant_tables.oid::regclass::text FROM tenant_tables WHERE NOT relrowsecurity
) AS faults
ORDER BY place, what
