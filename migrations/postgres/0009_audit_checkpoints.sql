-- Signed places of audit chains: what somebody who writes a log anew, or cuts off its end, can't sign. Copies of them go
-- off the machine. A log that was pruned begins behind the newest of them that has a pruned_at.
CREATE TABLE audit_checkpoints (
    tenant_id UUID NOT NULL,                    -- of the chain, as in tenant_audit_logs
    seq BIGINT NOT NULL CHECK (seq > 0),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    at TIMESTAMPTZ NOT NULL,
    signer TEXT NOT NULL,
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    pruned_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_checkpoints_by_at ON audit_checkpoints (at);
SELECT tollgate_isolate('audit_checkpoints');

-- Which gateway takes checkpoints and prunes, and until when it says so.
CREATE TABLE audit_keeper (
    place BIGINT NOT NULL PRIMARY KEY CHECK (place = 1),
    holder UUID NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

GRANT SELECT, INSERT ON audit_checkpoints TO tollgate_platform;
GRANT SELECT ON audit_checkpoints TO tollgate_app;
GRANT SELECT, INSERT, UPDATE ON audit_keeper TO tollgate_platform;

-- Rows of the log go in one way only: by the function below, which works as the tables' owner. Nobody who serves may
-- delete, and owners are held by policies of their own.
CREATE POLICY tollgate_owner ON tenant_audit_logs TO tollgate_owner USING (true);
CREATE POLICY tollgate_owner ON audit_checkpoints TO tollgate_owner USING (true);

CREATE OR REPLACE FUNCTION tollgate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'tollgate_owner' AND current_setting('tollgate.prunes', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END $$;

-- Takes the rows of a log up to a checkpoint away; answers how many. By this server's clock or by as_of, whichever is
-- earlier, the checkpoint is more than 30 days old: nobody who may call this can take what is young.
CREATE FUNCTION tollgate_prune_audit(chain UUID, up_to BIGINT, as_of TIMESTAMPTZ)
RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone BIGINT;
BEGIN
    UPDATE audit_checkpoints AS place SET pruned_at = LEAST(as_of, CURRENT_TIMESTAMP)
    WHERE place.tenant_id = chain AND place.seq = up_to
      AND place.at < LEAST(as_of, CURRENT_TIMESTAMP) - interval '30 days'
      AND EXISTS (SELECT FROM tenant_audit_logs AS log
          WHERE log.tenant_id = chain AND log.seq = up_to AND log.hash = place.hash);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the audit log is pruned up to checkpoints of more than 30 days ago only';
    END IF;
    PERFORM set_config('tollgate.prunes', 'on', true);
    DELETE FROM tenant_audit_logs WHERE tenant_id = chain AND seq <= up_to;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('tollgate.prunes', '', true);
    DELETE FROM audit_checkpoints WHERE tenant_id = chain AND seq < up_to;
    RETURN gone;
END $$;

DO $$
BEGIN
    -- What runs with the owner's rights finds tables in this schema and nowhere else.
    EXECUTE format('ALTER FUNCTION tollgate_prune_audit SET search_path = %I, pg_temp', current_schema());
END $$;
REVOKE EXECUTE ON FUNCTION tollgate_prune_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tollgate_prune_audit TO tollgate_platform;

-- Which key-encryption keys tenants' secrets are sealed with: what tells keys of one version apart, and nothing of them.
-- Two gateways that each made a key of their own would seal what the other can't open; the second one finds this.
CREATE TABLE ring_keys (
    version BIGINT NOT NULL PRIMARY KEY,
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    noted_at TIMESTAMPTZ NOT NULL
);

GRANT SELECT, INSERT ON ring_keys TO tollgate_platform;
