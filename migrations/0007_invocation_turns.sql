-- Waiting asynchronous invocations tenant by tenant, each with the moment from which it may be claimed.
--
-- Why: claims take tenants in turn, so that one with thousands waiting holds up nobody else; and one that found no room is put
-- off for a moment instead of being answered with a refusal. Both are looked up by tenant, in the order of that moment.
ALTER TABLE invocations ADD COLUMN available_us BIGINT NOT NULL DEFAULT 0;
UPDATE invocations SET available_us = created_us;

DROP INDEX invocations_queued;
CREATE INDEX invocations_waiting ON invocations (tenant_id, available_us, id) WHERE state = 'queued';
CREATE INDEX invocations_running ON invocations (tenant_id) WHERE state = 'running';
