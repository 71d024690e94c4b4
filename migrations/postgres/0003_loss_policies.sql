-- What happens to requests that the till can't pay while the authority can't be asked. None: as the gateway is
-- configured.
ALTER TABLE tier_quotas ADD COLUMN on_loss TEXT CHECK (on_loss IN ('till', 'open', 'closed', 'share'));
ALTER TABLE tenant_resource_quotas ADD COLUMN on_loss TEXT CHECK (on_loss IN ('till', 'open', 'closed', 'share'));
ALTER TABLE quota_changes ADD COLUMN on_loss TEXT;
