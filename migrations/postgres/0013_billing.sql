-- What is owed: who had which tier when, tier changes that wait for their period's end, prices above the limit, and
-- invoices.

-- What a unit above the limit costs: a decimal of whole currency units per so many units. None by default: then
-- nothing above the limit is sold.
ALTER TABLE tier_quotas
    ADD COLUMN overage_price TEXT,
    ADD COLUMN overage_per BIGINT CHECK (overage_per > 0),
    ADD CONSTRAINT tier_quotas_overage CHECK ((overage_price IS NULL) = (overage_per IS NULL));

-- From when on a tenant has which version of which tier, until its next row: so they have neither gap nor overlap. No
-- tier is no subscription. A version of a tier never changes, so this is what prices are looked up by.
CREATE TABLE subscription_segments (
    tenant_id UUID NOT NULL REFERENCES organizations (tenant_id),
    starts_at TIMESTAMPTZ NOT NULL,
    tier TEXT,
    tier_version BIGINT,
    PRIMARY KEY (tenant_id, starts_at),
    FOREIGN KEY (tier, tier_version) REFERENCES tier_versions (tier, version),
    CHECK ((tier IS NULL) = (tier_version IS NULL))
);

-- Changes of tier that are to happen.
CREATE TABLE scheduled_tiers (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    tier TEXT NOT NULL REFERENCES tiers (slug),
    effective_at TIMESTAMPTZ NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    requested_by TEXT NOT NULL
);
CREATE INDEX scheduled_tiers_by_effective_at ON scheduled_tiers (effective_at);

-- Invoices that were finalized; drafts are computed when somebody asks. They outlive their tenant.
CREATE TABLE invoices (
    tenant_id UUID NOT NULL,
    invoice_id UUID NOT NULL,
    period_start TIMESTAMPTZ NOT NULL,
    period_end TIMESTAMPTZ NOT NULL CHECK (period_end > period_start),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    total_minor BIGINT NOT NULL,
    timezone TEXT NOT NULL,
    proration TEXT NOT NULL CHECK (proration IN ('day', 'second')),
    rounding TEXT NOT NULL CHECK (rounding IN ('half_even', 'half_up')),
    bill_to TEXT NOT NULL,
    billing_email TEXT,
    finalized_at TIMESTAMPTZ NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('finalized', 'exported', 'paid', 'void')),
    status_at TIMESTAMPTZ NOT NULL,
    status_reason TEXT,
    PRIMARY KEY (tenant_id, invoice_id)
);
-- One that is void may be drawn up again.
CREATE UNIQUE INDEX invoices_by_period ON invoices (tenant_id, period_start) WHERE status <> 'void';

CREATE TABLE invoice_lines (
    tenant_id UUID NOT NULL,
    invoice_id UUID NOT NULL,
    line BIGINT NOT NULL CHECK (line > 0),
    amount_minor BIGINT NOT NULL,
    item JSONB NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, line),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices (tenant_id, invoice_id)
);

-- What was finalized stays as it is; only what became of it changes.
CREATE FUNCTION tollgate_keep_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR to_jsonb(OLD) - ARRAY['status', 'status_at', 'status_reason']
            <> to_jsonb(NEW) - ARRAY['status', 'status_at', 'status_reason'] THEN
        RAISE EXCEPTION 'a finalized invoice does not change';
    END IF;
    IF OLD.status = 'void' OR (OLD.status = 'paid' AND NEW.status <> 'paid') THEN
        RAISE EXCEPTION 'an invoice that is % stays so', OLD.status;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoices_do_not_change BEFORE UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION tollgate_keep_invoice();
CREATE FUNCTION tollgate_keep_invoice_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a finalized invoice does not change';
END $$;
CREATE TRIGGER invoice_lines_do_not_change BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_lines
    EXECUTE FUNCTION tollgate_keep_invoice_line();
CREATE TRIGGER invoices_are_not_truncated BEFORE TRUNCATE ON invoices
    EXECUTE FUNCTION tollgate_keep_invoice_line();

SELECT tollgate_isolate(made::regclass) FROM unnest(ARRAY['subscription_segments', 'scheduled_tiers', 'invoices',
    'invoice_lines']) AS made;

GRANT SELECT, INSERT, UPDATE ON subscription_segments, invoices TO tollgate_platform;
GRANT SELECT, INSERT ON invoice_lines TO tollgate_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduled_tiers TO tollgate_platform;
GRANT SELECT ON subscription_segments, scheduled_tiers, invoices, invoice_lines TO tollgate_app;
