-- Lets the login that tollgate.login names serve: it can become each of the roles that serve, and has none of their
-- rights by itself. A login that migrates can't; serving refuses it with the reason.
DO $$
DECLARE
    login text := current_setting('tollgate.login');
    role text;
    -- From Postgres 16 on that is said of each membership, before it of the login.
    is_said_by_membership boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
    IF login = session_user THEN
        RETURN;
    END IF;
    IF NOT is_said_by_membership AND (SELECT rolinherit AND NOT rolsuper FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('ALTER ROLE %I NOINHERIT', login);
    END IF;
    IF NOT has_schema_privilege(login, current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), login);
    END IF;
    FOREACH role IN ARRAY ARRAY['tollgate_platform', 'tollgate_app', 'tollgate_ingest'] LOOP
        IF NOT is_said_by_membership AND NOT pg_has_role(login, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', role, login);
        ELSIF is_said_by_membership AND NOT pg_has_role(login, role, 'SET') THEN
            EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', role, login);
        END IF;
    END LOOP;
END $$;
