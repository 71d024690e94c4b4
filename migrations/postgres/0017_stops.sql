-- Caps that stop what they are of, invoices that were exported, and usage that people decided about.

-- What happens when a cap is reached, and how its money is divided: weights of resources in JSON, or evenly.
ALTER TABLE spend_caps
    ADD COLUMN at_cap TEXT NOT NULL DEFAULT 'notify' CHECK (at_cap IN ('notify', 'stop')),
    ADD COLUMN shares JSONB;

-- The most of a resource that a cap leaves, in a window of its quota: of a gauge, in the period that is billed.
CREATE TABLE spend_ceilings (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    resource_type TEXT NOT NULL,
    period TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL CHECK (ends_at > starts_at),
    limit_amount BIGINT NOT NULL CHECK (limit_amount >= 0),
    PRIMARY KEY (tenant_id, resource_type, period, starts_at)
);

-- When all usage of an invoice's period had reached its collector.
ALTER TABLE invoices
    ADD COLUMN exported_at TIMESTAMPTZ,
    ADD COLUMN exported_to TEXT CHECK (exported_to IN ('stripe', 'lago')),
    ADD CONSTRAINT invoices_exported CHECK ((exported_at IS NULL) = (exported_to IS NULL));
CREATE INDEX invoices_unexported ON invoices (tenant_id, period_end) WHERE status = 'finalized';
-- Up to which hour all of it was taken that had arrived by then.
ALTER TABLE billing_exports ADD COLUMN taken_until TIMESTAMPTZ;
CREATE OR REPLACE FUNCTION tollgate_keep_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    may_change CONSTANT text[] := ARRAY['status', 'status_at', 'status_reason', 'exported_at', 'exported_to'];
BEGIN
    IF TG_OP <> 'UPDATE' OR to_jsonb(OLD) - may_change <> to_jsonb(NEW) - may_change THEN
        RAISE EXCEPTION 'a finalized invoice does not change';
    END IF;
    IF OLD.status = 'void' OR (OLD.status = 'paid' AND NEW.status <> 'paid') THEN
        RAISE EXCEPTION 'an invoice that is % stays so', OLD.status;
    END IF;
    IF OLD.exported_at IS NOT NULL AND (NEW.exported_at, NEW.exported_to) IS DISTINCT FROM (OLD.exported_at, OLD.exported_to) THEN
        RAISE EXCEPTION 'an invoice that was exported stays so';
    END IF;
    RETURN NEW;
END $$;

-- What was given up may be settled by people: it is there, or it is billed to nobody.
ALTER TABLE billing_events
    ADD COLUMN settled_reason TEXT,
    DROP CONSTRAINT billing_events_state_check,
    ADD CONSTRAINT billing_events_state_check CHECK (state IN ('pending', 'delivered', 'dead', 'abandoned'));

CREATE INDEX billing_events_open ON billing_events (collector, account, bucket_start) WHERE state IN ('pending', 'dead');

SELECT tollgate_isolate('spend_ceilings'::regclass);

GRANT SELECT, INSERT, UPDATE, DELETE ON spend_ceilings TO tollgate_platform;
GRANT SELECT ON spend_ceilings TO tollgate_app;
