-- What was used: every event in blocks, sums by the hour, and how far each journal has been drained.
--
-- Why blocks: one row an event would cost a processor core at the rate that the gateway answers; a block holds thousands
-- of fixed-size records, each behind its journal sequence. Why all three tables are in one file: they change only together,
-- in one transaction, and that is what counts every event exactly once.
CREATE TABLE usage_blocks (
    id             TEXT   NOT NULL PRIMARY KEY,
    tenant_id      TEXT   NOT NULL,
    journal_id     TEXT   NOT NULL,
    first_sequence BIGINT NOT NULL,
    from_us        BIGINT NOT NULL,
    to_us          BIGINT NOT NULL,
    event_count    BIGINT NOT NULL,
    event_bytes    BIGINT NOT NULL,
    events         BYTEA  NOT NULL
);

CREATE INDEX usage_blocks_by_tenant ON usage_blocks (tenant_id, id);

CREATE TABLE usage_hours (
    tenant_id    TEXT   NOT NULL,
    function_id  TEXT   NOT NULL,
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
    PRIMARY KEY (tenant_id, hour_us, function_id, version, served_by)
);

CREATE TABLE journal_positions (
    journal_id    TEXT   NOT NULL PRIMARY KEY,
    next_sequence BIGINT NOT NULL
);
