-- Published helpers, their immutable versions, and configured instances of them.
--
-- Why instances are deleted softly: usage and invoices name them long after they are gone; a name is free again at once.
-- `state_bytes` counts the keys and values of an instance's state in the same transaction that writes them, so that a quota
-- is checked without adding up all of it.
CREATE TABLE helpers (
    id         TEXT   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id),
    name       TEXT   NOT NULL,
    created_us BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE helper_versions (
    helper_id          TEXT   NOT NULL REFERENCES helpers (id),
    version            TEXT   NOT NULL,
    digest             TEXT   NOT NULL,
    code_digest        TEXT   NOT NULL,
    lock_digest        TEXT,
    image              TEXT   NOT NULL,
    package_size_bytes BIGINT NOT NULL,
    manifest           TEXT   NOT NULL,
    schemas            TEXT   NOT NULL,
    created_us         BIGINT NOT NULL,
    PRIMARY KEY (helper_id, version)
);

CREATE TABLE helper_instances (
    id               TEXT   NOT NULL PRIMARY KEY,
    tenant_id        TEXT   NOT NULL REFERENCES tenants (id),
    name             TEXT   NOT NULL,
    helper_id        TEXT   NOT NULL REFERENCES helpers (id),
    publisher        TEXT   NOT NULL,
    helper_name      TEXT   NOT NULL,
    version          TEXT   NOT NULL,
    previous_version TEXT,
    config           TEXT   NOT NULL,
    bindings         TEXT   NOT NULL,
    data_version     BIGINT NOT NULL,
    state            TEXT   NOT NULL,
    shared_with      TEXT   NOT NULL,
    state_bytes      BIGINT NOT NULL,
    created_us       BIGINT NOT NULL,
    updated_us       BIGINT NOT NULL,
    deleted_us       BIGINT
);

CREATE UNIQUE INDEX helper_instances_by_live_name ON helper_instances (tenant_id, name) WHERE deleted_us IS NULL;
