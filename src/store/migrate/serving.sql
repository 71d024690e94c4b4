-- Lets the login that tollgate.login names serve: it may work as each of the roles that serve, and is none of them
-- by itself. A login that migrates can't; serving refuses it with the reason.
DO $$
DECLARE
    login text := current_setting('tollgate.login');
    role text;
BEGIN
    IF login = session_user THEN
        RETURN;
    END IF;
    IF (SELECT rolinherit AND NOT rolsuper FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('ALTER ROLE %I NOINHERIT', login);
    END IF;
    FOREACH role IN ARRAY ARRAY['tollgate_platform', 'tollgate_app', 'tollgate_ingest'] LOOP
        IF NOT pg_has_role(login, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', role, login);
        END IF;
    END LOOP;
END $$;
