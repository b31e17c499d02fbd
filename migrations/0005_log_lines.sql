-- What functions print, for a few days.
--
-- Why the id orders them: it is a UUIDv7 given when the line is stored, so a reader that follows a function by id sees
-- every line once, also those that an instance hands over late; `time_us` is when the line was printed.
CREATE TABLE log_lines (
    id            TEXT   NOT NULL PRIMARY KEY,
    function_id   TEXT   NOT NULL,
    time_us       BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    invocation_id TEXT,
    instance_id   TEXT   NOT NULL,
    stream        TEXT   NOT NULL,
    line          TEXT   NOT NULL
);

CREATE INDEX log_lines_by_function ON log_lines (function_id, id);
CREATE INDEX log_lines_by_age ON log_lines (time_us);
