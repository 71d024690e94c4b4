-- Answers that may be asked for again, by a digest of who asked and of the key that they gave. Sealed: the key itself is
-- needed to read one, and it is nowhere here.
CREATE TABLE idempotency_keys (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    request BLOB NOT NULL CHECK (length(request) = 32),
    answer BLOB,                                -- none as long as the request is being worked on
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX idempotency_keys_by_created_at ON idempotency_keys (created_at);
