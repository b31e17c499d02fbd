-- Asynchronous invocations: accepted events that wait, run, and keep their outcome for a while.
--
-- Why: a 202 promises that the event is not lost with the process. `fence` grows with every claim; an outcome is taken
-- only with the newest one, so an attempt that was given up for dead commits nothing when it comes back.
CREATE TABLE invocations (
    id             TEXT   NOT NULL PRIMARY KEY,
    tenant_id      TEXT   NOT NULL,
    function_id    TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    state          TEXT   NOT NULL,
    attempt        BIGINT NOT NULL,
    fence          BIGINT NOT NULL,
    lease_until_us BIGINT,
    created_us     BIGINT NOT NULL,
    started_us     BIGINT,
    finished_us    BIGINT,
    status         BIGINT,
    served_by      TEXT,
    error          TEXT,
    event          TEXT   NOT NULL,
    body           TEXT
);

CREATE INDEX invocations_queued ON invocations (created_us, id) WHERE state = 'queued';
CREATE INDEX invocations_leased ON invocations (lease_until_us) WHERE state = 'running';
CREATE INDEX invocations_done ON invocations (finished_us) WHERE state = 'done';
