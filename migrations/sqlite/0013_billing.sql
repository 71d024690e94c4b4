-- What is owed: who had which tier when, tier changes that wait for their period's end, prices above the limit, and
-- invoices.

-- What a unit above the limit costs: a decimal of whole currency units per so many units. None by default: then
-- nothing above the limit is sold.
ALTER TABLE tier_quotas ADD COLUMN overage_price TEXT;
ALTER TABLE tier_quotas ADD COLUMN overage_per INTEGER CHECK (overage_per > 0);

-- From when on a tenant has which version of which tier, until its next row: so they have neither gap nor overlap. No
-- tier is no subscription. A version of a tier never changes, so this is what prices are looked up by.
CREATE TABLE subscription_segments (
    tenant_id BLOB NOT NULL REFERENCES organizations (tenant_id),
    starts_at TEXT NOT NULL,
    tier TEXT,
    tier_version INTEGER,
    PRIMARY KEY (tenant_id, starts_at),
    FOREIGN KEY (tier, tier_version) REFERENCES tier_versions (tier, version),
    CHECK ((tier IS NULL) = (tier_version IS NULL))
) STRICT;

-- Changes of tier that are to happen.
CREATE TABLE scheduled_tiers (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (tenant_id),
    tier TEXT NOT NULL REFERENCES tiers (slug),
    effective_at TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    requested_by TEXT NOT NULL
) STRICT;
CREATE INDEX scheduled_tiers_by_effective_at ON scheduled_tiers (effective_at);

-- Invoices that were finalized; drafts are computed when somebody asks. They outlive their tenant.
CREATE TABLE invoices (
    tenant_id BLOB NOT NULL,
    invoice_id BLOB NOT NULL,
    period_start TEXT NOT NULL,
    period_end TEXT NOT NULL CHECK (period_end > period_start),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    total_minor INTEGER NOT NULL,
    timezone TEXT NOT NULL,
    proration TEXT NOT NULL CHECK (proration IN ('day', 'second')),
    rounding TEXT NOT NULL CHECK (rounding IN ('half_even', 'half_up')),
    bill_to TEXT NOT NULL,
    billing_email TEXT,
    finalized_at TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('finalized', 'exported', 'paid', 'void')),
    status_at TEXT NOT NULL,
    status_reason TEXT,
    PRIMARY KEY (tenant_id, invoice_id)
) STRICT;
-- One that is void may be drawn up again.
CREATE UNIQUE INDEX invoices_by_period ON invoices (tenant_id, period_start) WHERE status <> 'void';

CREATE TABLE invoice_lines (
    tenant_id BLOB NOT NULL,
    invoice_id BLOB NOT NULL,
    line INTEGER NOT NULL CHECK (line > 0),
    amount_minor INTEGER NOT NULL,
    item TEXT NOT NULL,                       -- JSON
    PRIMARY KEY (tenant_id, invoice_id, line),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices (tenant_id, invoice_id)
) STRICT;

-- What was finalized stays as it is; only what became of it changes.
CREATE TRIGGER invoices_do_not_change BEFORE UPDATE OF tenant_id, invoice_id, period_start, period_end, currency,
    total_minor, timezone, proration, rounding, bill_to, billing_email, finalized_at ON invoices
BEGIN SELECT RAISE(ABORT, 'a finalized invoice does not change'); END;
CREATE TRIGGER invoices_stay_void_or_paid BEFORE UPDATE OF status ON invoices
WHEN OLD.status = 'void' OR (OLD.status = 'paid' AND NEW.status <> 'paid')
BEGIN SELECT RAISE(ABORT, 'an invoice that is void or paid stays so'); END;
CREATE TRIGGER invoices_are_not_deleted BEFORE DELETE ON invoices
BEGIN SELECT RAISE(ABORT, 'a finalized invoice does not change'); END;
CREATE TRIGGER invoice_lines_do_not_change BEFORE UPDATE ON invoice_lines
BEGIN SELECT RAISE(ABORT, 'a finalized invoice does not change'); END;
CREATE TRIGGER invoice_lines_are_not_deleted BEFORE DELETE ON invoice_lines
BEGIN SELECT RAISE(ABORT, 'a finalized invoice does not change'); END;
