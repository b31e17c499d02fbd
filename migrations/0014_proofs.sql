-- What is known of whether a version's results depend on nothing but its event.
--
-- Why `state` is beside `body`: platforms on one database look for those that another has quarantined.
CREATE TABLE proofs (
    function_id TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (function_id, version)
);

CREATE INDEX proofs_by_time ON proofs (updated_us);
