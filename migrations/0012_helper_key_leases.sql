-- Which replica may write under which key, where a helper has one writer a key.
--
-- `fence` grows whenever a key changes hands. A commit says under which fence it was made, and one that is made under an
-- older one is refused in the same transaction: a replica that was thought dead and comes back writes nothing.
CREATE TABLE helper_key_leases (
    instance_id TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    holder      TEXT   NOT NULL,
    fence       BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL,
    PRIMARY KEY (instance_id, key)
);

CREATE INDEX helper_key_leases_by_holder ON helper_key_leases (holder);
