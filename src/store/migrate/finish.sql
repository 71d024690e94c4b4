-- As tollgate_owner; afterwards as the login again.

-- The months that usage is about to be written to.
SELECT tollgate_make_partitions(CURRENT_TIMESTAMP);

-- The rows of a table that was adopted have tiers, now that there are some.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'organizations'::regclass
            AND conname = 'organizations_tier' AND NOT convalidated) THEN
        IF NOT pg_has_role('tollgate_owner', (SELECT relowner FROM pg_class WHERE oid = 'organizations'::regclass), 'USAGE')
        THEN
            RESET ROLE;
        END IF;
        ALTER TABLE organizations VALIDATE CONSTRAINT organizations_tier;
    END IF;
END $$;

RESET ROLE;
