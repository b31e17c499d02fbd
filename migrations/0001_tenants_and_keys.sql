-- Who may call, and with which keys.
--
-- Why: every other table hangs on a tenant, and the gateway builds its key table from `keys` alone. A key's secret is
-- never here: `hash` is what the gateway compares, `prefix` is what people recognise it by.
--
-- One schema serves SQLite and Postgres: ids, hashes and JSON are TEXT, times are BIGINT microseconds since 1970 (`_us`),
-- money is BIGINT minor units, bytes are BYTEA (which SQLite takes as a name and stores as blobs).
CREATE TABLE tenants (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    created_us BIGINT NOT NULL
);

CREATE TABLE keys (
    id         TEXT   NOT NULL PRIMARY KEY,
    tenant_id  TEXT   NOT NULL REFERENCES tenants (id),
    hash       TEXT   NOT NULL UNIQUE,
    prefix     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    scopes     TEXT   NOT NULL,
    created_us BIGINT NOT NULL,
    revoked_us BIGINT
);

CREATE INDEX keys_by_tenant ON keys (tenant_id, id);
