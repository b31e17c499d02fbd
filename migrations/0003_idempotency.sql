-- The answers to requests that carried an `Idempotency-Key`.
--
-- Why: a client that lost an answer may ask again without creating twice. A row without `status` is a request being worked
-- on; `token` says by whom, so that one who was given up for dead cannot complete it after another has taken over.
CREATE TABLE idempotency (
    tenant_id        TEXT   NOT NULL,
    idempotency_key  TEXT   NOT NULL,
    method_path_hash TEXT   NOT NULL,
    request_hash     TEXT   NOT NULL,
    token            TEXT   NOT NULL,
    reserved_us      BIGINT NOT NULL,
    created_us       BIGINT NOT NULL,
    status           BIGINT,
    response_body    TEXT,
    PRIMARY KEY (tenant_id, idempotency_key)
);

CREATE INDEX idempotency_by_age ON idempotency (created_us);
