-- People: who they are, what they may do where, and how they are known when they come back.

-- Persons. The table may be there already, with rows and columns of another program, which goes on using it: then it
-- gets what it lacks and keeps what it has. Nothing that opens a door is in it, since another program may write to it.
SELECT set_config('tollgate.adopts',
    (to_regclass(format('%I.users', current_schema())) IS NOT NULL)::text, true);
DO $$
DECLARE
    owner oid := (SELECT relowner FROM pg_class WHERE oid = to_regclass(format('%I.users', current_schema())));
BEGIN
    -- Only its owner, or a superuser, can change a table that another program made.
    IF owner IS NOT NULL AND NOT pg_has_role('tollgate_owner', owner, 'USAGE') THEN
        RESET ROLE;
    END IF;
END $$;
CREATE TABLE IF NOT EXISTS users ();
ALTER TABLE users
    ADD COLUMN IF NOT EXISTS user_id UUID,
    ADD COLUMN IF NOT EXISTS email TEXT,
    ADD COLUMN IF NOT EXISTS created_at TIMESTAMPTZ;

DO $$
DECLARE
    fault text;
    own_id text := (SELECT 'id' FROM pg_attribute WHERE attrelid = 'users'::regclass
        AND attname = 'id' AND atttypid = 'uuid'::regtype AND NOT attisdropped);
    made text;
BEGIN
    -- Columns that were there before must hold what ours hold.
    SELECT string_agg(format('%s is %s and should be %s', attname, format_type(atttypid, NULL), wanted), '; ') INTO fault
    FROM pg_attribute
    JOIN (VALUES ('user_id', 'uuid'), ('email', 'text'), ('created_at', 'timestamp with time zone'))
        AS expected (name, wanted) ON attname = name
    WHERE attrelid = 'users'::regclass
      AND format_type(atttypid, NULL) <> wanted
      AND NOT (wanted = 'text' AND format_type(atttypid, NULL) IN ('character varying', 'citext'))
      AND NOT (name = 'created_at' AND format_type(atttypid, NULL) = 'timestamp without time zone');
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'the table users can''t be adopted: %', fault;
    END IF;

    -- Where their own id is a UUID it is their user_id too, else they get a UUIDv7.
    EXECUTE format($fill$
        UPDATE users SET user_id = COALESCE(%s, overlay(replace(gen_random_uuid()::text, '-', '') PLACING
            lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' FROM 1)::uuid)
        WHERE user_id IS NULL
    $fill$, COALESCE(own_id, 'NULL::uuid'));
    -- So that somebody whom Tollgate adds has an id as well.
    IF own_id IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attrdef JOIN pg_attribute ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = 'users'::regclass AND attname = 'id') THEN
        ALTER TABLE users ALTER COLUMN id SET DEFAULT gen_random_uuid();
    END IF;
    ALTER TABLE users
        ALTER COLUMN user_id SET NOT NULL,
        ALTER COLUMN user_id SET DEFAULT gen_random_uuid();

    SELECT string_agg(attname, ', ') INTO fault FROM pg_attribute
    WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped
      AND attnotnull AND NOT atthasdef AND attidentity = '' AND attname NOT IN ('email', 'created_at');
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'the table users can''t be adopted: Tollgate can''t add rows to it, since % may not be NULL and '
            'has no default; give it one', fault;
    END IF;

    IF current_setting('tollgate.adopts')::boolean THEN
        ALTER TABLE users ADD CONSTRAINT users_user_id UNIQUE (user_id);
        GRANT SELECT, REFERENCES ON users TO tollgate_owner;
    ELSE
        ALTER TABLE users ADD PRIMARY KEY (user_id);
        ALTER TABLE users OWNER TO tollgate_owner;
    END IF;
    GRANT SELECT, INSERT ON users TO tollgate_platform;
    -- Its own ids may come from a sequence, which whoever adds a row must be allowed to draw from.
    FOR made IN SELECT objid::regclass::text FROM pg_depend JOIN pg_class ON pg_class.oid = objid
            WHERE refobjid = 'users'::regclass AND deptype = 'a' AND relkind = 'S' LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO tollgate_platform', made);
    END LOOP;
END $$;
SET LOCAL ROLE tollgate_owner;

-- How a person is known who comes to administrate. Whoever is removed from users is not known any more.
CREATE TABLE logins (
    user_id UUID NOT NULL PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT,                         -- argon2id, with its parameters and its salt
    platform_role TEXT CHECK (platform_role IN ('platform_owner', 'platform_support')),
    oidc_subject TEXT UNIQUE,                   -- the issuer, a space, and who it says that it is
    totp_key BYTEA,                             -- what the secret is sealed with, wrapped by a key that is not here
    totp_ring_version BIGINT,
    totp_secret BYTEA,
    totp_confirmed_at TIMESTAMPTZ,              -- asked for from then on
    totp_step BIGINT NOT NULL DEFAULT 0,        -- the last one that a code was good for: none is good twice
    created_at TIMESTAMPTZ NOT NULL,
    CHECK ((totp_key IS NULL) = (totp_secret IS NULL) AND (totp_key IS NULL) = (totp_ring_version IS NULL)),
    CHECK (totp_secret IS NOT NULL OR totp_confirmed_at IS NULL)
);
CREATE INDEX logins_by_totp_ring_version ON logins (totp_ring_version) WHERE totp_ring_version IS NOT NULL;

-- What somebody has instead of the device that makes their codes: each good for once.
CREATE TABLE recovery_codes (
    user_id UUID NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (user_id, digest)
);

-- Tokens with which a password can be set once.
CREATE TABLE password_tokens (
    digest BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id UUID NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX password_tokens_by_user ON password_tokens (user_id);

CREATE TABLE sessions (
    session_id UUID NOT NULL PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    digest BYTEA NOT NULL UNIQUE CHECK (length(digest) = 32),
    is_multi_factor BOOLEAN NOT NULL,
    ip TEXT,
    user_agent TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expires_at ON sessions (expires_at);

-- What people are to tenants. The e-mail address is that of their login, so that a tenant sees its members without
-- seeing anybody else's.
CREATE TABLE memberships (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    user_id UUID NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

-- Roles of a tenant's own: sets of permissions.
CREATE TABLE roles (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    role TEXT NOT NULL,
    permissions JSONB NOT NULL,                 -- list of text
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, role)
);

-- Whoever brings the token becomes a member.
CREATE TABLE invitations (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    invitation_id UUID NOT NULL UNIQUE,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE CHECK (length(digest) = 32),
    invited_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, invitation_id)
);
CREATE UNIQUE INDEX invitations_by_email ON invitations (tenant_id, email);

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['memberships', 'roles', 'invitations']) AS made;

GRANT SELECT, INSERT, UPDATE, DELETE ON logins, recovery_codes, password_tokens, sessions TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON memberships, roles, invitations TO tollgate_platform, tollgate_app;
