//! `/healthz`: the process lives. `/readyz`: it can answer calls.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::problem::{Problem, ProblemView};
use crate::app::App;

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", operation_id = "healthz", security(()), responses((status = 200, body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The platform can answer calls: not stopping, the database answers, a spawner runs.
#[utoipa::path(get, path = "/readyz", tag = "operation", operation_id = "readyz", security(()),
    responses((status = 200, body = String), (status = 503, body = ProblemView, content_type = "application/problem+json")))]
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.stop.is_cancelled() {
        return Problem::unavailable("stopping", "the platform is stopping").into_response();
    }
    if let Err(error) = app.store.ping().await {
        return Problem::from(error).into_response();
    }
    if app.invoker.scheduler.launcher().spawner().is_lost() {
        return Problem::unavailable("no-spawner", "no sandbox can be started at the moment").into_response();
    }
    (StatusCode::OK, "ready\n").into_response()
}
