-- Results that outlive the platform's process, what was purged of them, and secrets that platforms on one database share.
--
-- Why `entry` comes last: reading the other columns of a row must not mean reading through its bytes. Entries are sealed;
-- `compute_us` and `bytes` are beside them because the least worth goes first when room is short.
CREATE TABLE result_entries (
    key           TEXT   NOT NULL PRIMARY KEY,
    function_id   TEXT   NOT NULL,
    compute_us    BIGINT NOT NULL,
    bytes         BIGINT NOT NULL,
    keep_until_us BIGINT NOT NULL,
    entry         BYTEA  NOT NULL
);

CREATE INDEX result_entries_by_function ON result_entries (function_id);
CREATE INDEX result_entries_by_end ON result_entries (keep_until_us);

-- What was purged, by kind, owner and what, and when: results whose computation began before are not handed out.
CREATE TABLE result_purges (
    purge TEXT   NOT NULL PRIMARY KEY,
    at_us BIGINT NOT NULL
);

CREATE INDEX result_purges_by_time ON result_purges (at_us);

CREATE TABLE shared_secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
