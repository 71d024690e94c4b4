-- People: who they are, what they may do where, and how they are known when they come back.

CREATE TABLE users (
    user_id BLOB NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

-- How a person is known who comes to administrate. Whoever is removed from users is not known any more.
CREATE TABLE logins (
    user_id BLOB NOT NULL PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT,                         -- argon2id, with its parameters and its salt
    platform_role TEXT CHECK (platform_role IN ('platform_owner', 'platform_support')),
    oidc_subject TEXT UNIQUE,                   -- the issuer, a space, and who it says that it is
    totp_key BLOB,                              -- what the secret is sealed with, wrapped by a key that is not here
    totp_ring_version INTEGER,
    totp_secret BLOB,
    totp_confirmed_at TEXT,                     -- asked for from then on
    totp_step INTEGER NOT NULL DEFAULT 0,       -- the last one that a code was good for: none is good twice
    created_at TEXT NOT NULL,
    CHECK ((totp_key IS NULL) = (totp_secret IS NULL) AND (totp_key IS NULL) = (totp_ring_version IS NULL)),
    CHECK (totp_secret IS NOT NULL OR totp_confirmed_at IS NULL)
) STRICT;
CREATE INDEX logins_by_totp_ring_version ON logins (totp_ring_version) WHERE totp_ring_version IS NOT NULL;

-- What somebody has instead of the device that makes their codes: each good for once.
CREATE TABLE recovery_codes (
    user_id BLOB NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (user_id, digest)
) STRICT;

-- Tokens with which a password can be set once.
CREATE TABLE password_tokens (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id BLOB NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX password_tokens_by_user ON password_tokens (user_id);

CREATE TABLE sessions (
    session_id BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    is_multi_factor INTEGER NOT NULL CHECK (is_multi_factor IN (0, 1)),
    ip TEXT,
    user_agent TEXT,
    created_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expires_at ON sessions (expires_at);

-- What people are to tenants. The e-mail address is that of their login, so that a tenant sees its members without
-- seeing anybody else's.
CREATE TABLE memberships (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    user_id BLOB NOT NULL REFERENCES logins (user_id) ON DELETE CASCADE,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT;
CREATE INDEX memberships_by_user ON memberships (user_id);

-- Roles of a tenant's own: sets of permissions.
CREATE TABLE roles (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    role TEXT NOT NULL,
    permissions TEXT NOT NULL,                  -- JSON list of text
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, role)
) STRICT;

-- Whoever brings the token becomes a member.
CREATE TABLE invitations (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    invitation_id BLOB NOT NULL UNIQUE,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    invited_by TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, invitation_id)
) STRICT;
CREATE UNIQUE INDEX invitations_by_email ON invitations (tenant_id, email);
