-- What was computed before anybody asked, by version: sums since the version was deployed.
CREATE TABLE precompute_books (
    function_id TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    body        TEXT   NOT NULL,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (function_id, version)
);
