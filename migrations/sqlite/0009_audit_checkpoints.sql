-- Signed places of audit chains: what somebody who writes a log anew, or cuts off its end, can't sign. Copies of them go
-- off the machine. A log that was pruned begins behind the newest of them that has a pruned_at.
CREATE TABLE audit_checkpoints (
    tenant_id BLOB NOT NULL,                    -- of the chain, as in tenant_audit_logs
    seq INTEGER NOT NULL CHECK (seq > 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at TEXT NOT NULL,
    signer TEXT NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    pruned_at TEXT,
    PRIMARY KEY (tenant_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_checkpoints_by_at ON audit_checkpoints (at);

-- Which gateway takes checkpoints and prunes, and until when it says so.
CREATE TABLE audit_keeper (
    place INTEGER NOT NULL PRIMARY KEY CHECK (place = 1),
    holder BLOB NOT NULL,
    until TEXT NOT NULL
) STRICT;

-- Rows of the log go in one way only: behind a checkpoint that says so.
DROP TRIGGER tenant_audit_logs_are_not_deleted;
CREATE TRIGGER tenant_audit_logs_are_not_deleted BEFORE DELETE ON tenant_audit_logs
WHEN NOT EXISTS (SELECT 1 FROM audit_checkpoints
    WHERE tenant_id = OLD.tenant_id AND seq >= OLD.seq AND pruned_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Which key-encryption keys tenants' secrets are sealed with: what tells keys of one version apart, and nothing of them.
-- Two gateways that each made a key of their own would seal what the other can't open; the second one finds this.
CREATE TABLE ring_keys (
    version INTEGER NOT NULL PRIMARY KEY,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    noted_at TEXT NOT NULL
) STRICT;

-- The end of windows that never end was written as the first instant instead of the last.
UPDATE account_units SET window_end = '9999-12-30T22:00:00.999999Z' WHERE period = 'forever';
