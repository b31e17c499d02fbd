//! What functions print, kept for a few days, read page by page or followed.

use raas_core::{FunctionId, InstanceId, InvocationId, TimestampUs};
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::columns::Columns;
use crate::store::{BULK_DEADLINE, PAGE_MAX, READ_DEADLINE, SWEEP_DEADLINE, within};
use crate::values::insert_many;
use crate::{Store, StoreError};

/// Lines deleted by one statement of a sweep, so that other writers get their turn in between.
const SWEEP_LINES: i64 = 5_000;

/// A printed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// What printed it.
    pub function: FunctionId,
    /// Which version.
    pub version: u32,
    /// During which call; `None` outside of calls.
    pub invocation: Option<InvocationId>,
    /// In which sandbox.
    pub instance: InstanceId,
    /// `stdout`, `stderr`, or another name that the contract gives.
    pub stream: String,
    /// When.
    pub time: TimestampUs,
    /// The text without its line end.
    pub line: String,
}

/// A stored line and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its place, to continue behind.
    pub cursor: LogCursor,
    /// The line.
    pub line: LogLine,
}

/// A place in a function's log; spelled as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogCursor(Uuid);

/// Which lines of a function.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFilter {
    /// Only those stored behind this place.
    pub after: Option<LogCursor>,
    /// Only those printed at or after this moment.
    pub since: Option<TimestampUs>,
    /// Only those of one call.
    pub invocation: Option<InvocationId>,
}

impl std::fmt::Display for LogCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for LogCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Uuid::try_parse(text).map(Self).map_err(|_| StoreError::Invalid { what: "not a place in a log" })
    }
}

impl Store {
    /// Stores lines, in their order, all or none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_append(&self, lines: &[LogLine]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        // Ids of one process grow strictly, so a batch keeps its order.
        let rows: Vec<_> = lines.iter().map(|line| (Uuid::now_v7().to_string(), line)).collect();
        within(BULK_DEADLINE, async {
            let mut tx = self.begin().await?;
            insert_many(
                &mut tx,
                "INSERT INTO log_lines (id, function_id, time_us, version, invocation_id, instance_id, stream, line)",
                8,
                "",
                &rows,
                |query, (id, line)| {
                    query
                        .bind(id.clone())
                        .bind(line.function.to_string())
                        .bind(line.time.0)
                        .bind(i64::from(line.version))
                        .bind(line.invocation.map(|id| id.to_string()))
                        .bind(line.instance.to_string())
                        .bind(line.stream.clone())
                        // Postgres has no place for a zero byte in a text.
                        .bind(line.line.replace('\0', "\u{fffd}"))
                },
            )
            .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Up to `limit` of a function's lines in the order they were stored. To follow, ask again behind the last one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_list(
        &self,
        function: FunctionId,
        filter: &LogFilter,
        limit: u32,
    ) -> Result<Vec<LogRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT id, function_id, version, invocation_id, instance_id, stream, time_us, line FROM log_lines \
                 WHERE function_id = $1 AND id > $2 AND time_us >= $3 AND ($4 = '' OR invocation_id = $4) \
                 ORDER BY id LIMIT $5",
            )
            .bind(function.to_string())
            .bind(filter.after.map(|after| after.to_string()).unwrap_or_default())
            .bind(filter.since.map_or(i64::MIN, |since| since.0))
            .bind(filter.invocation.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit.min(PAGE_MAX)))
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(log_row).collect()
        })
        .await
    }

    /// Up to `limit` of a function's newest lines, oldest of them first: where following begins.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_tail(&self, function: FunctionId, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT id, function_id, version, invocation_id, instance_id, stream, time_us, line FROM log_lines \
                 WHERE function_id = $1 ORDER BY id DESC LIMIT $2",
            )
            .bind(function.to_string())
            .bind(i64::from(limit.min(PAGE_MAX)))
            .fetch_all(self.reader())
            .await?;
            rows.iter().rev().map(log_row).collect()
        })
        .await
    }

    /// Deletes lines printed before a moment. Answers how many; what a deadline leaves over is for the next sweep.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let mut deleted = 0;
            loop {
                let done = sqlx::query(
                    "DELETE FROM log_lines WHERE id IN (SELECT id FROM log_lines WHERE time_us < $1 LIMIT $2)",
                )
                .bind(before.0)
                .bind(SWEEP_LINES)
                .execute(self.writer())
                .await?;
                deleted += done.rows_affected();
                if done.rows_affected() < SWEEP_LINES.unsigned_abs() {
                    return Ok(deleted);
                }
            }
        })
        .await
    }
}

fn log_row(row: &AnyRow) -> Result<LogRow, StoreError> {
    Ok(LogRow {
        cursor: row.parsed(0, "log line id")?,
        line: LogLine {
            function: row.parsed(1, "function id")?,
            version: row.number(2, "version number")?,
            invocation: row.parsed_option(3, "invocation id")?,
            instance: row.parsed(4, "instance id")?,
            stream: row.value(5, "stream")?,
            time: row.time(6)?,
            line: row.value(7, "log line")?,
        },
    })
}
