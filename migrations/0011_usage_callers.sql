-- Usage by what called, and what helper instances use between calls.
--
-- Why the table is made anew: SQLite cannot add a column to a primary key. `caller_id` is empty where nobody's code called.
-- Why helpers have a table of their own: their time runs whether or not anybody calls, so it comes from samples of the
-- kernel's counters and not from calls.
ALTER TABLE usage_hours RENAME TO usage_hours_before;

CREATE TABLE usage_hours (
    tenant_id    TEXT   NOT NULL,
    function_id  TEXT   NOT NULL,
    caller_id    TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    served_by    TEXT   NOT NULL,
    hour_us      BIGINT NOT NULL,
    calls        BIGINT NOT NULL,
    errors       BIGINT NOT NULL,
    cold_starts  BIGINT NOT NULL,
    queue_us     BIGINT NOT NULL,
    exec_us      BIGINT NOT NULL,
    memory_mb_us BIGINT NOT NULL,
    bytes_in     BIGINT NOT NULL,
    bytes_out    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour_us, function_id, caller_id, version, served_by)
);

INSERT INTO usage_hours (tenant_id, function_id, caller_id, version, served_by, hour_us, calls, errors, cold_starts, queue_us,
    exec_us, memory_mb_us, bytes_in, bytes_out)
SELECT tenant_id, function_id, '', version, served_by, hour_us, calls, errors, cold_starts, queue_us, exec_us, memory_mb_us,
    bytes_in, bytes_out
FROM usage_hours_before;

DROP TABLE usage_hours_before;

CREATE TABLE helper_usage_hours (
    tenant_id       TEXT   NOT NULL,
    instance_id     TEXT   NOT NULL,
    hour_us         BIGINT NOT NULL,
    replica_us      BIGINT NOT NULL,
    cpu_us          BIGINT NOT NULL,
    memory_mb_us    BIGINT NOT NULL,
    gpu_us          BIGINT NOT NULL,
    training_us     BIGINT NOT NULL,
    training_cpu_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, instance_id, hour_us)
);
