//! Asynchronous invocations: accepted, waiting, claimed, finished, kept for a while.
//!
//! Invariant: an outcome is stored only with the fence of the newest claim, so however often an invocation is tried, one
//! outcome counts.

use std::time::Duration;

use raas_core::limits::ASYNC_EVENT_MAX_BYTES;
use raas_core::{FunctionId, InvocationId, ServedBy, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::store::{Backend, READ_DEADLINE, SWEEP_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// Most invocations of one claim.
const CLAIM_MAX: u32 = 256;

/// An invocation to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvocation {
    /// Its id, which the caller was told.
    pub id: InvocationId,
    /// Who asked.
    pub tenant: TenantId,
    /// What is to run.
    pub function: FunctionId,
    /// Which version, chosen when it was accepted.
    pub version: u32,
    /// The event, JSON text of at most 1 MiB.
    pub event: String,
}

/// Where an invocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationState {
    /// Waiting.
    Queued,
    /// Claimed.
    Running,
    /// Finished.
    Done,
}

/// An invocation that the caller now has to run and finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedInvocation {
    /// What to run.
    pub invocation: NewInvocation,
    /// From 1: how often it has been claimed.
    pub attempt: u32,
    /// To be shown when finishing.
    pub fence: u64,
    /// When it was accepted.
    pub created: TimestampUs,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationOutcome {
    /// The HTTP status that a synchronous call would have had.
    pub status: u16,
    /// How the answer was come by; `None` when there is none.
    pub served_by: Option<ServedBy>,
    /// The function's answer.
    pub body: Option<String>,
    /// The problem, as JSON.
    pub error: Option<String>,
}

/// An invocation as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationRow {
    /// Its id.
    pub id: InvocationId,
    /// Who asked.
    pub tenant: TenantId,
    /// What runs.
    pub function: FunctionId,
    /// Which version.
    pub version: u32,
    /// Where it stands.
    pub state: InvocationState,
    /// How often it has been claimed.
    pub attempt: u32,
    /// When it was accepted.
    pub created: TimestampUs,
    /// When it was last claimed.
    pub started: Option<TimestampUs>,
    /// When it ended.
    pub finished: Option<TimestampUs>,
    /// How it ended; `Some` once it is done.
    pub outcome: Option<InvocationOutcome>,
}

impl Store {
    /// Queues an invocation. When this returns, it will be run whatever happens to this process.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an event over the limit, [`StoreError::Conflict`] for an id that is taken.
    pub async fn invocation_enqueue(&self, invocation: &NewInvocation, now: TimestampUs) -> Result<(), StoreError> {
        if invocation.event.len() > ASYNC_EVENT_MAX_BYTES {
            return Err(StoreError::Invalid { what: "the event of an asynchronous call is at most 1 MiB" });
        }
        within(WRITE_DEADLINE, async {
            sqlx::query(
                "INSERT INTO invocations (id, tenant_id, function_id, version, state, attempt, fence, created_us, event) \
                 VALUES ($1, $2, $3, $4, 'queued', 0, 0, $5, $6)",
            )
            .bind(invocation.id.to_string())
            .bind(invocation.tenant.to_string())
            .bind(invocation.function.to_string())
            .bind(i64::from(invocation.version))
            .bind(now.0)
            .bind(&invocation.event)
            .execute(self.writer())
            .await?;
            Ok(())
        })
        .await
    }

    /// Takes up to `limit` waiting invocations, oldest first, for the time of `lease`. No two claims take the same one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_claim(
        &self,
        now: TimestampUs,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedInvocation>, StoreError> {
        // SQLite has one writer at a time and needs no row locks (and has no words for them); Postgres passes over rows
        // that another claim is taking.
        let sql = match self.backend() {
            Backend::Sqlite => {
                "UPDATE invocations SET state = 'running', attempt = attempt + 1, fence = fence + 1, started_us = $1, \
                 lease_until_us = $2 WHERE id IN (SELECT id FROM invocations WHERE state = 'queued' \
                 ORDER BY created_us, id LIMIT $3) \
                 RETURNING id, tenant_id, function_id, version, event, attempt, fence, created_us"
            }
            Backend::Postgres => {
                "UPDATE invocations SET state = 'running', attempt = attempt + 1, fence = fence + 1, started_us = $1, \
                 lease_until_us = $2 WHERE id IN (SELECT id FROM invocations WHERE state = 'queued' \
                 ORDER BY created_us, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
                 RETURNING id, tenant_id, function_id, version, event, attempt, fence, created_us"
            }
        };
        let mut claimed = within(WRITE_DEADLINE, async {
            let rows = sqlx::query(sql)
                .bind(now.0)
                .bind(now.saturating_add(lease).0)
                .bind(i64::from(limit.min(CLAIM_MAX)))
                .fetch_all(self.writer())
                .await?;
            rows.iter().map(claimed).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        claimed.sort_by_key(|claim| (claim.created, claim.invocation.id));
        Ok(claimed)
    }

    /// Extends a claim to `lease` from now. Answers whether it still holds.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_extend(
        &self,
        id: InvocationId,
        fence: u64,
        now: TimestampUs,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        within(WRITE_DEADLINE, async {
            let done = sqlx::query(
                "UPDATE invocations SET lease_until_us = $1 WHERE id = $2 AND fence = $3 AND state = 'running'",
            )
            .bind(now.saturating_add(lease).0)
            .bind(id.to_string())
            .bind(crate::columns::to_i64(fence))
            .execute(self.writer())
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    /// Stores how a claimed invocation ended. Answers `false`, and stores nothing, when the claim has been given up for
    /// another.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_finish(
        &self,
        id: InvocationId,
        fence: u64,
        outcome: &InvocationOutcome,
        now: TimestampUs,
    ) -> Result<bool, StoreError> {
        within(WRITE_DEADLINE, async {
            let done = sqlx::query(
                "UPDATE invocations SET state = 'done', finished_us = $1, status = $2, served_by = $3, body = $4, \
                 error = $5, lease_until_us = NULL WHERE id = $6 AND fence = $7 AND state = 'running'",
            )
            .bind(now.0)
            .bind(i64::from(outcome.status))
            .bind(outcome.served_by.map(|served_by| served_by.to_string()))
            .bind(outcome.body.as_deref())
            .bind(outcome.error.as_deref())
            .bind(id.to_string())
            .bind(crate::columns::to_i64(fence))
            .execute(self.writer())
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    /// A tenant's invocation, its event left out.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn invocation_get(&self, tenant: TenantId, id: InvocationId) -> Result<InvocationRow, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query(
                "SELECT id, tenant_id, function_id, version, state, attempt, created_us, started_us, finished_us, \
                 status, served_by, body, error FROM invocations WHERE id = $1 AND tenant_id = $2",
            )
            .bind(id.to_string())
            .bind(tenant.to_string())
            .fetch_optional(self.reader())
            .await?;
            invocation(&row.ok_or(StoreError::NotFound { what: "invocation" })?)
        })
        .await
    }

    /// Queues again what was claimed and neither finished nor extended in time, as after a crash. Answers how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_requeue_expired(&self, now: TimestampUs) -> Result<u64, StoreError> {
        within(WRITE_DEADLINE, async {
            let done = sqlx::query(
                "UPDATE invocations SET state = 'queued', lease_until_us = NULL \
                 WHERE state = 'running' AND lease_until_us < $1",
            )
            .bind(now.0)
            .execute(self.writer())
            .await?;
            Ok(done.rows_affected())
        })
        .await
    }

    /// Forgets what ended before a moment. Answers how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let done = sqlx::query("DELETE FROM invocations WHERE state = 'done' AND finished_us < $1")
                .bind(before.0)
                .execute(self.writer())
                .await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

impl std::str::FromStr for InvocationState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "queued" => Ok(Self::Queued),
            "running" => Ok(Self::Running),
            "done" => Ok(Self::Done),
            _ => Err(()),
        }
    }
}

fn claimed(row: &AnyRow) -> Result<ClaimedInvocation, StoreError> {
    Ok(ClaimedInvocation {
        invocation: NewInvocation {
            id: row.parsed(0, "invocation id")?,
            tenant: row.parsed(1, "tenant id")?,
            function: row.parsed(2, "function id")?,
            version: row.number(3, "version number")?,
            event: row.value(4, "event")?,
        },
        attempt: row.number(5, "attempt")?,
        fence: row.number(6, "fence")?,
        created: row.time(7)?,
    })
}

fn invocation(row: &AnyRow) -> Result<InvocationRow, StoreError> {
    let outcome = match row.number_option(9, "status")? {
        None => None,
        Some(status) => Some(InvocationOutcome {
            status,
            served_by: row.parsed_option(10, "served_by")?,
            body: row.value(11, "body")?,
            error: row.value(12, "error")?,
        }),
    };
    Ok(InvocationRow {
        id: row.parsed(0, "invocation id")?,
        tenant: row.parsed(1, "tenant id")?,
        function: row.parsed(2, "function id")?,
        version: row.number(3, "version number")?,
        state: row.parsed(4, "invocation state")?,
        attempt: row.number(5, "attempt")?,
        created: row.time(6)?,
        started: row.time_option(7)?,
        finished: row.time_option(8)?,
        outcome,
    })
}
