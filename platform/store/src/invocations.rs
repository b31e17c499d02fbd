//! Asynchronous invocations: accepted, waiting, claimed, finished, kept for a while.
//!
//! Invariant: an outcome is stored only with the fence of the newest claim, so however often an invocation is tried, one
//! outcome counts.

use std::time::Duration;

use raas_core::limits::ASYNC_EVENT_MAX_BYTES;
use raas_core::{FunctionId, InvocationId, ServedBy, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::store::{Backend, READ_DEADLINE, SWEEP_DEADLINE, Tx, WRITE_DEADLINE, within};
use crate::{IdempotentRequest, Store, StoreError};

/// Most invocations of one claim.
const CLAIM_MAX: u32 = 256;

/// Most invocations that one sweep forgets, so that whoever waits to write meanwhile does not wait long.
const SWEEP_MAX: u32 = 500;

/// What an idempotency key keeps as the status of an accepted invocation.
const ACCEPTED: i64 = 202;

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

/// What became of an invocation that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it may not have been queued"]
pub enum Enqueued {
    /// It is queued.
    Queued,
    /// The same request was queued before, under this id; nothing was added.
    Repeated(InvocationId),
    /// The tenant has as many waiting as it may; nothing was added.
    Full,
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
    /// Queues an invocation unless `tenant_max` of the tenant wait already. When this answers [`Enqueued::Queued`], it will
    /// be run whatever happens to this process. Under an idempotency key, the key is taken in the same transaction, so that
    /// the same request is queued once, whatever happens in between.
    ///
    /// On Postgres, those who enqueue at the same moment may together pass `tenant_max` by as many as they are.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an event over the limit, [`StoreError::Conflict`] for an id that is taken, or a key that
    /// was used with another request.
    pub async fn invocation_enqueue(
        &self,
        invocation: &NewInvocation,
        once: Option<&IdempotentRequest>,
        tenant_max: u32,
        now: TimestampUs,
    ) -> Result<Enqueued, StoreError> {
        if invocation.event.len() > ASYNC_EVENT_MAX_BYTES {
            return Err(StoreError::Invalid { what: "the event of an asynchronous call is at most 1 MiB" });
        }
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            if let Some(request) = once
                && let Some(earlier) = enqueued_before(&mut tx, request, invocation.id, now).await?
            {
                tx.rollback().await?;
                return Ok(Enqueued::Repeated(earlier));
            }
            let waiting = sqlx::query(
                "SELECT COUNT(*) FROM (SELECT 1 FROM invocations WHERE state = 'queued' AND tenant_id = $1 LIMIT $2) AS w",
            )
            .bind(invocation.tenant.to_string())
            .bind(i64::from(tenant_max))
            .fetch_one(&mut *tx)
            .await?
            .value::<i64>(0, "waiting invocations")?;
            if waiting >= i64::from(tenant_max) {
                // The key, too, is given back.
                tx.rollback().await?;
                return Ok(Enqueued::Full);
            }
            sqlx::query(
                "INSERT INTO invocations (id, tenant_id, function_id, version, state, attempt, fence, created_us, \
                 available_us, event) VALUES ($1, $2, $3, $4, 'queued', 0, 0, $5, $5, $6)",
            )
            .bind(invocation.id.to_string())
            .bind(invocation.tenant.to_string())
            .bind(invocation.function.to_string())
            .bind(i64::from(invocation.version))
            .bind(now.0)
            .bind(&invocation.event)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Enqueued::Queued)
        })
        .await
    }

    /// Takes up to `limit` waiting invocations for the time of `lease`, of each tenant the oldest first. No two claims take the
    /// same one. Tenants take turns: who has the fewest running is next, and nobody gets more than `tenant_max` running.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_claim(
        &self,
        now: TimestampUs,
        lease: Duration,
        limit: u32,
        tenant_max: u32,
    ) -> Result<Vec<ClaimedInvocation>, StoreError> {
        // Tenants are stepped through one by one in the index, and of each at most `limit` rows are looked at, so a claim
        // costs by the number of tenants that wait and not by what waits. SQLite has one writer at a time and needs no row
        // locks (and has no words for them); Postgres passes over rows that another claim is taking.
        let sql = match self.backend() {
            Backend::Sqlite => {
                "WITH RECURSIVE tenants (tenant_id) AS ( \
                   SELECT MIN(tenant_id) FROM invocations WHERE state = 'queued' \
                   UNION ALL SELECT (SELECT MIN(i.tenant_id) FROM invocations i \
                     WHERE i.state = 'queued' AND i.tenant_id > t.tenant_id) \
                   FROM tenants t WHERE t.tenant_id IS NOT NULL), \
                 busy (tenant_id, running) AS ( \
                   SELECT t.tenant_id, (SELECT COUNT(*) FROM invocations i \
                     WHERE i.state = 'running' AND i.tenant_id = t.tenant_id) \
                   FROM tenants t WHERE t.tenant_id IS NOT NULL), \
                 turns (id, available_us, turn) AS ( \
                   SELECT q.id, q.available_us, b.running + row_number() \
                     OVER (PARTITION BY b.tenant_id ORDER BY q.available_us, q.id) \
                   FROM busy b CROSS JOIN invocations q WHERE q.id IN (SELECT i.id FROM invocations i \
                     WHERE i.state = 'queued' AND i.tenant_id = b.tenant_id AND i.available_us <= $1 \
                     ORDER BY i.available_us, i.id LIMIT $3)) \
                 UPDATE invocations SET state = 'running', attempt = attempt + 1, fence = fence + 1, started_us = $1, \
                 lease_until_us = $2 WHERE id IN (SELECT id FROM turns WHERE turn <= $4 \
                   ORDER BY turn, available_us, id LIMIT $3) \
                 RETURNING id, tenant_id, function_id, version, event, attempt, fence, created_us"
            }
            Backend::Postgres => {
                "WITH RECURSIVE tenants (tenant_id) AS ( \
                   SELECT MIN(tenant_id) FROM invocations WHERE state = 'queued' \
                   UNION ALL SELECT (SELECT MIN(i.tenant_id) FROM invocations i \
                     WHERE i.state = 'queued' AND i.tenant_id > t.tenant_id) \
                   FROM tenants t WHERE t.tenant_id IS NOT NULL), \
                 busy (tenant_id, running) AS ( \
                   SELECT t.tenant_id, (SELECT COUNT(*) FROM invocations i \
                     WHERE i.state = 'running' AND i.tenant_id = t.tenant_id) \
                   FROM tenants t WHERE t.tenant_id IS NOT NULL), \
                 turns (id, available_us, turn) AS ( \
                   SELECT q.id, q.available_us, b.running + row_number() \
                     OVER (PARTITION BY b.tenant_id ORDER BY q.available_us, q.id) \
                   FROM busy b CROSS JOIN LATERAL (SELECT i.id, i.available_us FROM invocations i \
                     WHERE i.state = 'queued' AND i.tenant_id = b.tenant_id AND i.available_us <= $1 \
                     ORDER BY i.available_us, i.id LIMIT $3 FOR UPDATE SKIP LOCKED) q), \
                 chosen (id) AS MATERIALIZED (SELECT id FROM turns WHERE turn <= $4 \
                   ORDER BY turn, available_us, id LIMIT $3) \
                 UPDATE invocations SET state = 'running', attempt = attempt + 1, fence = fence + 1, started_us = $1, \
                 lease_until_us = $2 WHERE id IN (SELECT id FROM chosen) \
                 RETURNING id, tenant_id, function_id, version, event, attempt, fence, created_us"
            }
        };
        let mut claimed = within(WRITE_DEADLINE, async {
            let rows = sqlx::query(sql)
                .bind(now.0)
                .bind(now.saturating_add(lease).0)
                .bind(i64::from(limit.min(CLAIM_MAX)))
                .bind(i64::from(tenant_max))
                .fetch_all(self.writer())
                .await?;
            rows.iter().map(claimed).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        claimed.sort_by_key(|claim| (claim.created, claim.invocation.id));
        Ok(claimed)
    }

    /// Gives a claim back unused: the invocation waits again and is not claimed before `available`; the attempt does not count.
    /// Answers `false`, and changes nothing, when the claim has been given up for another.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_put_off(
        &self,
        id: InvocationId,
        fence: u64,
        available: TimestampUs,
    ) -> Result<bool, StoreError> {
        within(WRITE_DEADLINE, async {
            let done = sqlx::query(
                "UPDATE invocations SET state = 'queued', attempt = attempt - 1, available_us = $1, lease_until_us = NULL \
                 WHERE id = $2 AND fence = $3 AND state = 'running'",
            )
            .bind(available.0)
            .bind(id.to_string())
            .bind(crate::columns::to_i64(fence))
            .execute(self.writer())
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
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

    /// Forgets what ended before a moment, a bounded number at a time. Answers how many; 0 when nothing is left to forget.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn invocation_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let done = sqlx::query(
                "DELETE FROM invocations WHERE id IN (SELECT id FROM invocations \
                 WHERE state = 'done' AND finished_us < $1 LIMIT $2)",
            )
            .bind(before.0)
            .bind(i64::from(SWEEP_MAX))
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

/// Takes an idempotency key for an invocation, or finds the invocation that has it. The key's row is complete at once: it
/// commits together with what it stands for.
async fn enqueued_before(
    tx: &mut Tx,
    request: &IdempotentRequest,
    id: InvocationId,
    now: TimestampUs,
) -> Result<Option<InvocationId>, StoreError> {
    // Where another transaction is taking the key, this waits for its end.
    let taken = sqlx::query(
        "INSERT INTO idempotency (tenant_id, idempotency_key, method_path_hash, request_hash, token, reserved_us, \
         created_us, status, response_body) VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $5) \
         ON CONFLICT (tenant_id, idempotency_key) DO NOTHING",
    )
    .bind(request.tenant.to_string())
    .bind(&request.key)
    .bind(&request.method_path_hash)
    .bind(&request.request_hash)
    .bind(id.to_string())
    .bind(now.0)
    .bind(ACCEPTED)
    .execute(&mut **tx)
    .await?;
    if taken.rows_affected() > 0 {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT method_path_hash, request_hash, response_body FROM idempotency \
         WHERE tenant_id = $1 AND idempotency_key = $2",
    )
    .bind(request.tenant.to_string())
    .bind(&request.key)
    .fetch_optional(&mut **tx)
    .await?
    // Swept or released between the two statements.
    .ok_or(StoreError::Conflict { what: "the idempotency key was given back at this moment" })?;
    let same = row.value::<&str>(0, "method and path hash")? == request.method_path_hash
        && row.value::<&str>(1, "request hash")? == request.request_hash;
    if !same {
        return Err(StoreError::Conflict { what: "the idempotency key was used with another request" });
    }
    row.parsed(2, "invocation id").map(Some)
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
