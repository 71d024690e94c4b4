-- A key's version is its ETag.
ALTER TABLE api_keys ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

-- How many tenants have which status and tier is read from here alone, without the table.
CREATE INDEX organizations_by_status ON organizations (status, tier);
