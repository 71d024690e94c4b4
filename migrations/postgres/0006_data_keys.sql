-- What tenants' secrets are sealed with, itself wrapped by a key that is not in the database. To delete a tenant's rows
-- is to shred its secrets.
CREATE TABLE tenant_data_keys (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    data_key_id UUID NOT NULL,
    wrapped BYTEA NOT NULL,
    ring_version BIGINT NOT NULL,               -- of the key that wraps it
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, data_key_id)
);
CREATE INDEX tenant_data_keys_by_ring_version ON tenant_data_keys (ring_version);
SELECT tollgate_isolate('tenant_data_keys');

GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_data_keys TO tollgate_platform;
GRANT SELECT, INSERT ON tenant_data_keys TO tollgate_app;
