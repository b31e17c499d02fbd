-- Functions, their immutable versions, and the aliases that point at versions.
--
-- Why a soft delete: usage and invoices name functions long after they are gone. A name is free again once its holder is
-- deleted, so uniqueness counts the living only. Versions are numbered from 1 within their function, and a digest has one
-- number, so that deploying the same folder twice is one version.
CREATE TABLE functions (
    id         TEXT   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id),
    name       TEXT   NOT NULL,
    created_us BIGINT NOT NULL,
    deleted_us BIGINT
);

CREATE UNIQUE INDEX functions_by_live_name ON functions (tenant_id, name) WHERE deleted_us IS NULL;

CREATE TABLE versions (
    function_id        TEXT   NOT NULL REFERENCES functions (id),
    number             BIGINT NOT NULL,
    digest             TEXT   NOT NULL,
    code_digest        TEXT   NOT NULL,
    lock_digest        TEXT,
    package_size_bytes BIGINT NOT NULL,
    manifest           TEXT   NOT NULL,
    created_us         BIGINT NOT NULL,
    PRIMARY KEY (function_id, number),
    UNIQUE (function_id, digest)
);

CREATE TABLE aliases (
    function_id TEXT   NOT NULL REFERENCES functions (id),
    name        TEXT   NOT NULL,
    targets     TEXT   NOT NULL,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (function_id, name)
);
