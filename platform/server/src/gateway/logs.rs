//! The log lines of a function or a helper instance: lines kept, and lines as they come.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header;
use raas_core::{FunctionId, InvocationId};
use raas_store::{LogFilter, LogLine};
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{Page, invalid_query, page_rows, route};
use super::helper_instances::find_own;
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::routing::Scope;

/// Which lines are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// `next_cursor` of the page before; without it, the newest lines.
    pub cursor: Option<String>,
    /// Rows, 1 to 100.
    pub limit: Option<u32>,
    /// From this moment on, RFC 3339.
    pub since: Option<String>,
    /// Only this invocation's.
    pub invocation: Option<String>,
    /// `true`: one JSON object a line, for as long as the connection is open.
    pub follow: Option<bool>,
}

/// One line.
#[derive(Serialize, ToSchema)]
pub struct LogView {
    /// When it was written, RFC 3339.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The version that wrote it.
    pub version: u32,
    /// The invocation it belongs to, where that is known.
    pub invocation_id: Option<String>,
    /// The instance that wrote it.
    pub instance_id: String,
    /// The text.
    pub line: String,
}

fn view(line: &LogLine) -> LogView {
    LogView {
        time: line.time.to_string(),
        stream: line.stream.clone(),
        version: line.version,
        invocation_id: line.invocation.map(|id| id.to_string()),
        instance_id: line.instance.to_string(),
        line: line.line.clone(),
    }
}

/// A function's log lines: the newest, a page of older ones, or live with `follow=true`.
#[utoipa::path(get, path = "/v1/functions/{name}/logs", tag = "functions", operation_id = "log_list",
    params(("name" = String, Path), LogQuery),
    responses((status = 200, body = Page<LogView>), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let function = route(&app, principal, &name)?.id;
    lines(&app, function, query).await
}

/// A helper instance's log lines: the newest, a page of older ones, or live with `follow=true`.
#[utoipa::path(get, path = "/v1/helper-instances/{id}/logs", tag = "helpers", operation_id = "helper_log_list",
    params(("id" = String, Path, description = "The instance's id or name"), LogQuery),
    responses((status = 200, body = Page<LogView>), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn list_of_helper(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let function = find_own(&app, principal, &id)?.function.id;
    lines(&app, function, query).await
}

async fn lines(app: &App, function: FunctionId, query: LogQuery) -> Result<Response, Problem> {
    let limit = page_rows(query.limit)?;
    let unusable = |what: &str| invalid_query(format!("the {what} cannot be used"));
    let invocation = query.invocation.as_deref().map(str::parse).transpose().map_err(|_| unusable("invocation"))?;
    if query.follow == Some(true) {
        return Ok(follow(app, function, invocation));
    }
    let filter = LogFilter {
        after: query.cursor.as_deref().map(str::parse).transpose().map_err(|_| unusable("cursor"))?,
        since: query
            .since
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| invalid_query(format!("since: {error}")))?,
        invocation,
    };
    app.logs.flush().await;
    let rows = if filter.after.is_none() && filter.since.is_none() && filter.invocation.is_none() {
        app.store.log_tail(function, limit).await?
    } else {
        app.store.log_list(function, &filter, limit).await?
    };
    let next_cursor = rows.last().map(|row| row.cursor.to_string());
    Ok(Json(Page { items: rows.iter().map(|row| view(&row.line)).collect(), next_cursor }).into_response())
}

/// Lines from now on, newline-delimited JSON. A reader that is too slow is told how many it lost.
fn follow(app: &App, function: FunctionId, invocation: Option<InvocationId>) -> Response {
    let stop = app.stop.clone();
    let lines = BroadcastStream::new(app.logs.follow())
        .filter_map(move |line| {
            let text = match line {
                Ok(line) if line.function != function => None,
                Ok(line) if invocation.is_some() && line.invocation != invocation => None,
                Ok(line) => serde_json::to_string(&view(&line)).ok(),
                Err(BroadcastStreamRecvError::Lagged(lost)) => Some(format!("{{\"lost_lines\":{lost}}}")),
            };
            std::future::ready(text.map(|text| Ok::<_, std::convert::Infallible>(text + "\n")))
        })
        .take_until(async move { stop.cancelled().await });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
