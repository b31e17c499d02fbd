//! `Idempotency-Key`: the first request with a key does the work, the same request again gets the same answer.

use std::time::Duration;

use raas_core::{TenantId, TimestampUs};
use uuid::Uuid;

use crate::columns::Columns;
use crate::store::{SWEEP_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// How long one request may hold a key before another may take it over; longer than any request lives.
const RESERVATION: Duration = Duration::from_secs(20 * 60);

/// A request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Who asks; keys of different tenants have nothing to do with each other.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
    /// Hash of method and path, in hex.
    pub method_path_hash: String,
    /// Hash of the body, in hex.
    pub request_hash: String,
}

/// The right to do the work of a request and to store its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "complete or release it, or the key stays in progress"]
pub struct IdempotencyReservation {
    tenant: TenantId,
    key: String,
    token: String,
}

/// An answer given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdempotencyBegin {
    /// Do it, then complete or release.
    First(IdempotencyReservation),
    /// It was done: answer this.
    Replay(StoredResponse),
    /// Somebody is doing it: answer 409 and let the caller ask again.
    InProgress,
}

impl Store {
    /// Reserves a key for its first request, or says what came of that.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the key was used with another request.
    pub async fn idempotency_begin(
        &self,
        request: &IdempotentRequest,
        now: TimestampUs,
    ) -> Result<IdempotencyBegin, StoreError> {
        let token = Uuid::now_v7().to_string();
        let stale = now.saturating_sub(RESERVATION);
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            // Takes the key when it is free, or when whoever reserved it for this same request has been silent too long.
            // Concurrent ones queue on the row here, and all but the first find the condition false.
            let taken = sqlx::query(
                "INSERT INTO idempotency (tenant_id, idempotency_key, method_path_hash, request_hash, token, \
                 reserved_us, created_us) VALUES ($1, $2, $3, $4, $5, $6, $6) \
                 ON CONFLICT (tenant_id, idempotency_key) \
                 DO UPDATE SET token = excluded.token, reserved_us = excluded.reserved_us \
                 WHERE idempotency.status IS NULL AND idempotency.reserved_us < $7 \
                 AND idempotency.method_path_hash = excluded.method_path_hash \
                 AND idempotency.request_hash = excluded.request_hash",
            )
            .bind(request.tenant.to_string())
            .bind(&request.key)
            .bind(&request.method_path_hash)
            .bind(&request.request_hash)
            .bind(&token)
            .bind(now.0)
            .bind(stale.0)
            .execute(&mut *tx)
            .await?;
            if taken.rows_affected() > 0 {
                tx.commit().await?;
                return Ok(IdempotencyBegin::First(IdempotencyReservation {
                    tenant: request.tenant,
                    key: request.key.clone(),
                    token,
                }));
            }
            let row = sqlx::query(
                "SELECT method_path_hash, request_hash, status, response_body FROM idempotency \
                 WHERE tenant_id = $1 AND idempotency_key = $2",
            )
            .bind(request.tenant.to_string())
            .bind(&request.key)
            .fetch_optional(&mut *tx)
            .await?;
            tx.commit().await?;
            // Released between the two statements: the caller asks again and is first.
            let Some(row) = row else { return Ok(IdempotencyBegin::InProgress) };
            let same = row.value::<&str>(0, "method and path hash")? == request.method_path_hash
                && row.value::<&str>(1, "request hash")? == request.request_hash;
            if !same {
                return Err(StoreError::Conflict { what: "the idempotency key was used with another request" });
            }
            match row.number_option(2, "response status")? {
                None => Ok(IdempotencyBegin::InProgress),
                Some(status) => Ok(IdempotencyBegin::Replay(StoredResponse {
                    status,
                    body: row.value::<Option<String>>(3, "response body")?.unwrap_or_default(),
                })),
            }
        })
        .await
    }

    /// Stores the answer for those who ask again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the reservation was taken over or swept meanwhile.
    pub async fn idempotency_complete(
        &self,
        reservation: &IdempotencyReservation,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let done = sqlx::query(
                "UPDATE idempotency SET status = $1, response_body = $2 \
                 WHERE tenant_id = $3 AND idempotency_key = $4 AND token = $5 AND status IS NULL",
            )
            .bind(i64::from(response.status))
            .bind(&response.body)
            .bind(reservation.tenant.to_string())
            .bind(&reservation.key)
            .bind(&reservation.token)
            .execute(self.writer())
            .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Conflict { what: "the idempotency key was taken over by a later request" });
            }
            Ok(())
        })
        .await
    }

    /// Gives a key back unused, when the work failed and may be tried again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn idempotency_release(&self, reservation: &IdempotencyReservation) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            sqlx::query(
                "DELETE FROM idempotency WHERE tenant_id = $1 AND idempotency_key = $2 AND token = $3 AND status IS NULL",
            )
            .bind(reservation.tenant.to_string())
            .bind(&reservation.key)
            .bind(&reservation.token)
            .execute(self.writer())
            .await?;
            Ok(())
        })
        .await
    }

    /// Forgets keys first used before a moment (a day ago is usual). Answers how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn idempotency_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let done = sqlx::query("DELETE FROM idempotency WHERE created_us < $1")
                .bind(before.0)
                .execute(self.writer())
                .await?;
            Ok(done.rows_affected())
        })
        .await
    }
}
