-- What tenants' secrets are sealed with, itself wrapped by a key that is not in the database. To delete a tenant's rows
-- is to shred its secrets.
CREATE TABLE tenant_data_keys (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    data_key_id BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    ring_version INTEGER NOT NULL,              -- of the key that wraps it
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, data_key_id)
) STRICT;
CREATE INDEX tenant_data_keys_by_ring_version ON tenant_data_keys (ring_version);
