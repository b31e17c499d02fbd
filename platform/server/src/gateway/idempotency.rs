//! `Idempotency-Key` on creations: the same key and request give the first response again, and nothing is made twice.

use std::future::Future;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use raas_store::{IdempotencyBegin, IdempotentRequest, StoredResponse};
use serde::Serialize;

use super::problem::Problem;
use crate::app::App;
use crate::routing::Principal;

/// The longest key, bytes.
const KEY_MAX_BYTES: usize = 255;

/// What a creation answers: as shown now, and as kept for repeats, which leaves secrets out.
pub struct Created<T> {
    /// The answer.
    pub shown: T,
    /// The answer to a repeat.
    pub kept: T,
}

/// Runs a creation, at most once for each `Idempotency-Key`.
///
/// # Errors
/// 400 for an unusable key, 409 where the key was used for something else or its first request still runs, and the
/// creation's own errors, which leave the key free.
pub async fn once<T, R, F>(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    route: &str,
    request: &R,
    create: impl FnOnce() -> F,
) -> Result<Response, Problem>
where
    T: Serialize,
    R: std::hash::Hash + ?Sized,
    F: Future<Output = Result<Created<T>, Problem>>,
{
    let Some(reserved) = identified(principal, headers, route, request)? else {
        return Ok(created(StatusCode::CREATED, &to_json(&create().await?.shown)?));
    };
    match app.store.idempotency_begin(&reserved, app.clock.now()).await? {
        IdempotencyBegin::Replay(response) => {
            Ok(created(StatusCode::from_u16(response.status).unwrap_or(StatusCode::CREATED), &response.body))
        }
        IdempotencyBegin::InProgress => Err(Problem::caller(
            StatusCode::CONFLICT,
            "in-progress",
            "the first request with this Idempotency-Key is still running; ask again in a moment",
        )),
        IdempotencyBegin::First(reservation) => match create().await {
            Ok(answer) => {
                let kept = StoredResponse { status: StatusCode::CREATED.as_u16(), body: to_json(&answer.kept)? };
                app.store.idempotency_complete(&reservation, &kept).await?;
                Ok(created(StatusCode::CREATED, &to_json(&answer.shown)?))
            }
            Err(problem) => {
                if let Err(error) = app.store.idempotency_release(&reservation).await {
                    tracing::warn!(error = %error, "an idempotency key could not be released; it expires by itself");
                }
                Err(problem)
            }
        },
    }
}

/// The request under its `Idempotency-Key`; `None` where it has none.
///
/// # Errors
/// 400 for an unusable key.
pub fn identified<R: std::hash::Hash + ?Sized>(
    principal: &Principal,
    headers: &HeaderMap,
    route: &str,
    request: &R,
) -> Result<Option<IdempotentRequest>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_MAX_BYTES).ok_or_else(|| {
        Problem::caller(
            StatusCode::BAD_REQUEST,
            "invalid-idempotency-key",
            format!("an Idempotency-Key has 1 to {KEY_MAX_BYTES} visible characters"),
        )
    })?;
    Ok(Some(IdempotentRequest {
        tenant: principal.tenant,
        key: key.to_owned(),
        method_path_hash: hash(route),
        request_hash: hash(request),
    }))
}

fn to_json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::internal(&error))
}

fn created(status: StatusCode, body: &str) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.to_owned()).into_response()
}

/// A digest of anything that hashes, the same in every process.
fn hash<R: std::hash::Hash + ?Sized>(value: &R) -> String {
    struct Digest(blake3::Hasher);
    impl std::hash::Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut digest = Digest(blake3::Hasher::new());
    value.hash(&mut digest);
    digest.0.finalize().to_hex().to_string()
}
