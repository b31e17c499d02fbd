//! `POST /v1/helper-instances/{id}/methods/{method}`: a method called over HTTP.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Request};
use raas_core::InvocationId;

use super::auth::{authenticate, require};
use super::helper_instances::find;
use super::invocations::{Rendering, admit, caller_policy, text_header};
use super::problem::{Problem, ProblemView};
use super::unread::read_away;
use crate::app::App;
use crate::helpers::{MethodCall, call_method};
use crate::invoke::Purpose;
use crate::routing::Scope;
use crate::scheduler::micros_since;
use crate::trace::TraceContext;

/// Call a method of a helper instance and get its result.
///
/// The body is a JSON object of named arguments; the answer's body is the method's value.
#[utoipa::path(post, path = "/v1/helper-instances/{id}/methods/{method}", tag = "helpers", operation_id = "helper_method_call",
    params(
        ("id" = String, Path, description = "The instance's id or name"),
        ("method" = String, Path, description = "The method"),
        ("Cache-Control" = Option<String>, Header, description = "`no-cache`, `no-store`, `only-if-cached`, `max-age=N`"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on"),
    ),
    request_body(content = Object, description = "Named arguments", content_type = "application/json"),
    responses(
        (status = 200, description = "The method's value, with the headers of an invocation", content_type = "application/json", body = Object),
        (status = 404, description = "No such instance or method", body = ProblemView, content_type = "application/problem+json"),
        (status = 409, description = "The instance is stopped", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "Wrong arguments", body = ProblemView, content_type = "application/problem+json"),
        (status = 502, description = "The helper failed", body = ProblemView, content_type = "application/problem+json"),
        (status = 503, description = "No capacity", body = ProblemView, content_type = "application/problem+json"),
        (status = 504, description = "The method ran past its timeout", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn call(
    State(app): State<Arc<App>>,
    Path((id, method)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    let (parts, mut body) = request.into_parts();
    match try_call(&app, &id, &method, &parts, &mut body).await {
        Ok(response) => response,
        Err(problem) => {
            read_away(body, &parts.headers).await;
            problem.into_response()
        }
    }
}

async fn try_call(
    app: &Arc<App>,
    instance: &str,
    method: &str,
    parts: &Parts,
    body: &mut Body,
) -> Result<Response, Problem> {
    let arrived = Instant::now();
    let principal = authenticate(app, &parts.headers)?;
    require(&principal, Scope::Invoke)?;
    let auth_us = micros_since(arrived);
    let route = find(app, &principal, instance)?;
    let (admitted, arguments) = admit(app, &principal, body, &parts.headers).await?;
    let id = InvocationId::generate();
    let call = MethodCall {
        id,
        tenant: principal.tenant,
        arguments,
        policy: caller_policy(&parts.headers),
        trace: TraceContext::of_call(
            id,
            text_header(&parts.headers, "traceparent"),
            text_header(&parts.headers, "tracestate"),
        ),
        arrived,
        admitted,
        depth: 0,
        caller: None,
        deadline: None,
        purpose: Purpose::Answer,
    };
    let answer = call_method(app, &route, method, call).await?;
    let version = HeaderValue::from_str(&route.manifest.version).unwrap_or(HeaderValue::from_static("unknown"));
    Ok(Rendering { id, version, auth_us, problem: Problem::of_helper }.of(answer))
}
