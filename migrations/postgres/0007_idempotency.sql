-- Answers that may be asked for again, by a digest of who asked and of the key that they gave. Sealed: the key itself is
-- needed to read one, and it is nowhere here.
CREATE TABLE idempotency_keys (
    digest BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    request BYTEA NOT NULL CHECK (length(request) = 32),
    answer BYTEA,                               -- none as long as the request is being worked on
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX idempotency_keys_by_created_at ON idempotency_keys (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO tollgate_platform;
