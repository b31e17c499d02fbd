-- What helper instances keep, by key, and their training runs.
--
-- Why `key` is bytes: keys are listed in the order of their bytes, which both databases agree on for bytes and not for texts.
CREATE TABLE helper_state (
    instance_id TEXT   NOT NULL,
    key         BYTEA  NOT NULL,
    form        TEXT   NOT NULL,
    value       BYTEA  NOT NULL,
    expires_us  BIGINT,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (instance_id, key)
);

CREATE INDEX helper_state_by_expiry ON helper_state (expires_us) WHERE expires_us IS NOT NULL;

CREATE TABLE helper_training_runs (
    id           TEXT   NOT NULL PRIMARY KEY,
    instance_id  TEXT   NOT NULL,
    started_us   BIGINT NOT NULL,
    ended_us     BIGINT,
    outcome      TEXT   NOT NULL,
    detail       TEXT   NOT NULL,
    data_version BIGINT NOT NULL
);

CREATE INDEX helper_training_runs_by_instance ON helper_training_runs (instance_id, id);
