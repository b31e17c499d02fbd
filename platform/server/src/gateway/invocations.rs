//! `POST /v1/functions/{name}/invocations` and `GET /v1/invocations/{id}`: the data path's first and last stage.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use raas_core::{CanonicalEvent, InvocationId, limits};
use raas_store::{Enqueued, InvocationState, NewInvocation};

use super::auth::{Caller, authenticate, require};
use super::idempotency::identified;
use super::problem::{Problem, ProblemView};
use super::unread::read_away;
use crate::admission::{Admitted, Refused};
use crate::app::App;
use crate::async_invocations::QUEUED_PER_TENANT_MAX;
use crate::invoke::{Answer, CacheOutcome, Call, CallerPolicy, Purpose};
use crate::routing::{Principal, Qualifier, Scope};
use crate::scheduler::{CallError, micros_since};
use crate::trace::TraceContext;

/// How long a client may take to send its event.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// When to ask again where the tenant's queue of asynchronous invocations is full, seconds.
const QUEUE_FULL_RETRY_AFTER_S: u32 = 5;

const INVOCATION_ID: HeaderName = HeaderName::from_static("raas-invocation-id");
const SERVED_BY: HeaderName = HeaderName::from_static("raas-served-by");
const COMPUTE_MS: HeaderName = HeaderName::from_static("raas-compute-ms");
const COLD_START: HeaderName = HeaderName::from_static("raas-cold-start");
const VERSION: HeaderName = HeaderName::from_static("raas-version");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Call a function and get its result.
///
/// The body is the event; the answer's body is the handler's value. `Prefer: respond-async` answers 202 at once.
#[utoipa::path(
    post, path = "/v1/functions/{name}/invocations", tag = "invocations", operation_id = "invoke",
    params(
        ("name" = String, Path, description = "The function"),
        ("version" = Option<u32>, Query, description = "This version, instead of the alias `live`"),
        ("alias" = Option<String>, Query, description = "This alias, instead of `live`"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` for 202 and a Location"),
        ("Cache-Control" = Option<String>, Header, description = "`no-cache`, `no-store`, `only-if-cached`, `max-age=N`"),
        ("Idempotency-Key" = Option<String>, Header, description = "With `Prefer: respond-async`: a repeat is not run again"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on to the function"),
    ),
    request_body(content = Object, description = "The event, any JSON value", content_type = "application/json"),
    responses(
        (status = 200, description = "The handler's value", content_type = "application/json", body = Object, headers(
            ("Raas-Invocation-Id" = String, description = "The call's id"),
            ("Raas-Served-By" = String, description = "computed, hit, coalesced, precomputed or stale"),
            ("Raas-Compute-Ms" = String, description = "What computing the result took"),
            ("Raas-Cold-Start" = String, description = "true where a sandbox had to be assigned or started"),
            ("Raas-Version" = u32, description = "The version that computed it"),
            ("Cache-Status" = String, description = "RFC 9211"),
            ("Server-Timing" = String, description = "auth, queue, cold, exec and total, milliseconds"),
        )),
        (status = 202, description = "Queued; ask at Location", body = QueuedInvocation),
        (status = 400, description = "The event is not strict JSON", body = ProblemView, content_type = "application/problem+json"),
        (status = 401, description = "No key, or not a known one", body = ProblemView, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `invoke`", body = ProblemView, content_type = "application/problem+json"),
        (status = 404, description = "No such function, version or alias", body = ProblemView, content_type = "application/problem+json"),
        (status = 413, description = "The event is over 6 MiB", body = ProblemView, content_type = "application/problem+json"),
        (status = 429, description = "Too many calls of this tenant or function", body = ProblemView, content_type = "application/problem+json"),
        (status = 502, description = "The function failed", body = ProblemView, content_type = "application/problem+json"),
        (status = 503, description = "No capacity", body = ProblemView, content_type = "application/problem+json"),
        (status = 504, description = "The function ran past its timeout", body = ProblemView, content_type = "application/problem+json"),
    ),
)]
pub async fn invoke(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    answer(&app, &name, &parts, body).await
}

/// The same for a request that has not come by the router, where [`addressed`] finds a name in it.
pub async fn invoke_directly(app: Arc<App>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    answer(&app, addressed(&parts.method, &parts.uri).unwrap_or_default(), &parts, body).await
}

/// The function that a request invokes, where its name is plainly in the path. Anything less plain is the router's.
pub fn addressed<'a>(method: &Method, uri: &'a Uri) -> Option<&'a str> {
    let name = uri.path().strip_prefix("/v1/functions/")?.strip_suffix("/invocations")?;
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (plain && *method == Method::POST).then_some(name)
}

async fn answer(app: &Arc<App>, name: &str, parts: &Parts, mut body: Body) -> Response {
    match try_invoke(app, name, parts, &mut body).await {
        Ok(response) => response,
        Err(problem) => {
            read_away(body, &parts.headers).await;
            problem.into_response()
        }
    }
}

async fn try_invoke(app: &Arc<App>, name: &str, parts: &Parts, body: &mut Body) -> Result<Response, Problem> {
    let arrived = Instant::now();
    let principal = authenticate(app, &parts.headers)?;
    require(&principal, Scope::Invoke)?;
    let auth_us = micros_since(arrived);

    let (function, version, helper_epochs) = {
        let snapshot = app.routing.load();
        let function =
            snapshot.function(&principal.tenant, name).ok_or_else(|| Problem::not_found("function", name))?;
        let qualifier = qualifier(parts.uri.query())?;
        let id_for_draw = uuid::Uuid::new_v4();
        let draw = if matches!(qualifier, Qualifier::Version(_)) { 0 } else { id_for_draw.as_fields().0 };
        let version = function.resolve(qualifier, draw).ok_or_else(|| unresolved(name, qualifier))?;
        let epochs = snapshot.helper_epochs(&principal.tenant, &version.manifest.helpers);
        (Arc::clone(function), Arc::clone(version), epochs)
    };
    let (admitted, event) = admit(app, &principal, body, &parts.headers).await?;
    let canonical = CanonicalEvent::parse(&event).map_err(|error| {
        Problem::caller(StatusCode::BAD_REQUEST, "invalid-event", format!("the event is not acceptable JSON: {error}"))
    })?;
    let id = InvocationId::generate();
    if wants_async(&parts.headers) {
        return enqueue(app, id, &principal, parts, &function, version.number, &event).await;
    }
    let call = Call {
        id,
        trace: TraceContext::of_call(
            id,
            text_header(&parts.headers, "traceparent"),
            text_header(&parts.headers, "tracestate"),
        ),
        policy: caller_policy(&parts.headers),
        arrived_at: app.clock.now(),
        arrived,
        tenant: principal.tenant,
        depth: 0,
        caller: None,
        deadline: None,
        key: None,
        helper_epochs,
        purpose: Purpose::Answer,
        function,
        version,
        event,
        canonical: Some(canonical),
        admitted,
    };
    let number = call.version.number;
    let answer = app.invoker.invoke(call).await?;
    let render = Rendering { id, version: HeaderValue::from(number), auth_us, problem: Problem::from };
    Ok(render.of(answer))
}

/// A place for a call, and what it comes with.
pub(super) async fn admit(
    app: &App,
    principal: &Principal,
    body: &mut Body,
    headers: &HeaderMap,
) -> Result<(Admitted, Bytes), Problem> {
    let refuse = |refused: Refused| match refused {
        Refused::Platform => Problem::unavailable("overloaded", refused.to_string()),
        Refused::Tenant => Problem {
            retryable: true,
            retry_after_s: Some(1),
            ..Problem::caller(StatusCode::TOO_MANY_REQUESTS, "too-many-calls", refused.to_string())
        },
    };
    let mut admitted = app.admission.admit(principal).map_err(refuse)?;
    // An event whose length is not announced may be as long as any.
    let length = announced_length(headers).unwrap_or(u64::MAX).min(limits::BODY_MAX_BYTES as u64);
    app.admission.reserve(&mut admitted, length).map_err(refuse)?;
    Ok((admitted, read_event(body, headers).await?))
}

/// What is shown of an answer beside the answer itself.
pub(super) struct Rendering {
    /// The call's id.
    pub(super) id: InvocationId,
    /// What computed it.
    pub(super) version: HeaderValue,
    /// How long it took to find out who asks, microseconds.
    pub(super) auth_us: u64,
    /// How an error is shown.
    pub(super) problem: fn(CallError) -> Problem,
}

impl Rendering {
    /// The answer with its headers.
    pub(super) fn of(self, answer: Answer) -> Response {
        let Self { id, version, auth_us, problem } = self;
        let response = match answer.result.clone() {
            Ok(body) => {
                let mut response = Response::new(Body::from(body));
                // At once for all that follow: growing means hashing them again.
                *response.headers_mut() = HeaderMap::with_capacity(12);
                response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                response
            }
            Err(error) => problem(error).into_response(),
        };
        with_headers(response, id, version, auth_us, &answer)
    }
}

fn with_headers(
    mut response: Response,
    id: InvocationId,
    version: HeaderValue,
    auth_us: u64,
    answer: &Answer,
) -> Response {
    let Answer { served_by, compute_us, cache, cold_start, times, .. } = *answer;
    let headers = response.headers_mut();
    let mut text = String::with_capacity(96);
    let mut insert = |name: HeaderName, write: &dyn Fn(&mut String)| {
        text.clear();
        write(&mut text);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    insert(INVOCATION_ID, &|text| {
        let _ = write!(text, "{id}");
    });
    insert(COMPUTE_MS, &|text| write_ms(text, compute_us));
    insert(SERVER_TIMING, &|text| {
        for (name, us) in [
            ("auth;dur=", auth_us),
            (", queue;dur=", times.queue_us),
            (", cold;dur=", times.cold_us),
            (", exec;dur=", times.exec_us),
            (", total;dur=", times.total_us),
        ] {
            text.push_str(name);
            write_ms(text, us);
        }
    });
    match cache {
        CacheOutcome::Bypass => headers.insert(CACHE_STATUS, HeaderValue::from_static("raas; fwd=bypass")),
        CacheOutcome::Requested => headers.insert(CACHE_STATUS, HeaderValue::from_static("raas; fwd=request")),
        CacheOutcome::Miss { stored: true } => {
            headers.insert(CACHE_STATUS, HeaderValue::from_static("raas; fwd=miss; stored"))
        }
        CacheOutcome::Miss { stored: false } => {
            headers.insert(CACHE_STATUS, HeaderValue::from_static("raas; fwd=miss"))
        }
        CacheOutcome::Collapsed => headers.insert(CACHE_STATUS, HeaderValue::from_static("raas; fwd=miss; collapsed")),
        CacheOutcome::Hit { age_s, ttl_s } => {
            headers.insert(header::AGE, HeaderValue::from(age_s));
            text.clear();
            let _ = write!(text, "raas; hit; ttl={ttl_s}");
            HeaderValue::from_str(&text).ok().and_then(|value| headers.insert(CACHE_STATUS, value))
        }
    };
    headers.insert(SERVED_BY, HeaderValue::from_static(served_by.as_str()));
    headers.insert(COLD_START, HeaderValue::from_static(if cold_start { "true" } else { "false" }));
    headers.insert(VERSION, version);
    response
}

/// Microseconds as milliseconds with three decimals.
fn write_ms(text: &mut String, us: u64) {
    // Most are below ten milliseconds, and formatting them in general costs several times as much.
    if us < 10_000 {
        let digit = |value: u64| char::from(b'0' + (value % 10) as u8);
        text.extend([digit(us / 1000), '.', digit(us / 100), digit(us / 10), digit(us)]);
    } else {
        let _ = write!(text, "{}.{:03}", us / 1000, us % 1000);
    }
}

fn qualifier(query: Option<&str>) -> Result<Qualifier<'_>, Problem> {
    let invalid = |title: String| Problem::caller(StatusCode::BAD_REQUEST, "invalid-query", title);
    let mut qualifier = Qualifier::Live;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let next = match pair.split_once('=').unwrap_or((pair, "")) {
            ("version", number) => Qualifier::Version(
                number.parse().map_err(|_| invalid(format!("version must be a whole number, not `{number}`")))?,
            ),
            ("alias", name) => Qualifier::Alias(name),
            (other, _) => {
                return Err(invalid(format!("there is no parameter `{other}`; there are `version` and `alias`")));
            }
        };
        if qualifier != Qualifier::Live {
            return Err(invalid("ask for a version or an alias, not for both".into()));
        }
        qualifier = next;
    }
    Ok(qualifier)
}

fn unresolved(name: &str, qualifier: Qualifier<'_>) -> Problem {
    match qualifier {
        Qualifier::Version(number) => Problem::not_found("version", &format!("{name}/{number}")),
        Qualifier::Alias(alias) => Problem::not_found("alias", &format!("{name}/{alias}")),
        Qualifier::Live => Problem::caller(
            StatusCode::NOT_FOUND,
            "not-live",
            format!(
                "function `{name}` has no alias `live`: name a version or another alias, or `raas alias {name} live=VERSION`"
            ),
        ),
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

async fn read_event(body: &mut Body, headers: &HeaderMap) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::caller(
            StatusCode::PAYLOAD_TOO_LARGE,
            "event-too-large",
            format!("the event is over the limit of {} bytes", limits::BODY_MAX_BYTES),
        )
    };
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limits::BODY_MAX_BYTES as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_WITHIN, Limited::new(body, limits::BODY_MAX_BYTES).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(Problem::caller(StatusCode::BAD_REQUEST, "incomplete-event", "the event did not arrive whole"))
        }
        Err(_) => Err(Problem::caller(
            StatusCode::REQUEST_TIMEOUT,
            "event-timeout",
            format!("the event did not arrive within {} s", BODY_WITHIN.as_secs()),
        )),
    }
}

pub(super) fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn wants_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

pub(super) fn caller_policy(headers: &HeaderMap) -> CallerPolicy {
    let mut policy = CallerPolicy::default();
    for value in headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in value.split(',').map(str::trim) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.to_ascii_lowercase().as_str() {
                "no-cache" => policy.no_cache = true,
                "no-store" => policy.no_store = true,
                "only-if-cached" => policy.only_if_cached = true,
                "max-age" => policy.max_age_s = argument.trim_matches('"').parse().ok(),
                _ => {}
            }
        }
    }
    policy
}

/// An asynchronous invocation that was accepted.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct QueuedInvocation {
    /// Its id.
    id: String,
    /// `queued`.
    state: &'static str,
}

async fn enqueue(
    app: &App,
    id: InvocationId,
    principal: &Principal,
    parts: &Parts,
    function: &crate::routing::FunctionRoute,
    version: u32,
    event: &Bytes,
) -> Result<Response, Problem> {
    if event.len() > limits::ASYNC_EVENT_MAX_BYTES {
        return Err(Problem::caller(
            StatusCode::PAYLOAD_TOO_LARGE,
            "event-too-large",
            format!("the event of an asynchronous invocation may have {} bytes at most", limits::ASYNC_EVENT_MAX_BYTES),
        ));
    }
    let event = String::from_utf8(event.to_vec()).map_err(|error| Problem::internal(&error))?;
    let invocation = NewInvocation { id, tenant: principal.tenant, function: function.id, version, event };
    // By path and query, not by what they resolve to: a repeat is the same request though an alias moved meanwhile.
    let route = format!("POST {}", parts.uri.path_and_query().map_or("", |path| path.as_str()));
    let once = identified(principal, &parts.headers, &route, &invocation.event)?;
    let enqueued =
        app.store.invocation_enqueue(&invocation, once.as_ref(), QUEUED_PER_TENANT_MAX, app.clock.now()).await?;
    let id = match enqueued {
        Enqueued::Queued => {
            app.async_wake.notify_one();
            id
        }
        Enqueued::Repeated(earlier) => earlier,
        Enqueued::Full => {
            return Err(Problem {
                retryable: true,
                retry_after_s: Some(QUEUE_FULL_RETRY_AFTER_S),
                ..Problem::caller(
                    StatusCode::TOO_MANY_REQUESTS,
                    "queue-full",
                    format!("{QUEUED_PER_TENANT_MAX} asynchronous invocations of this tenant wait already"),
                )
            });
        }
    };
    let body = serde_json::to_vec(&QueuedInvocation { id: id.to_string(), state: "queued" }).unwrap_or_default();
    let headers = [
        (header::LOCATION, format!("/v1/invocations/{id}")),
        (INVOCATION_ID, id.to_string()),
        (header::CONTENT_TYPE, "application/json".into()),
    ];
    Ok((StatusCode::ACCEPTED, headers, body).into_response())
}

/// An asynchronous invocation.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct InvocationView {
    /// Its id.
    id: String,
    /// `queued`, `running` or `done`.
    state: &'static str,
    /// How often it was begun; more than once where the platform was killed during it.
    attempt: u32,
    /// When it was accepted, RFC 3339.
    created_at: String,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// The status a synchronous call would have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Where the result came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<&'static str>,
    /// The handler's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    result: Option<Box<serde_json::value::RawValue>>,
    /// The problem, where there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    problem: Option<Box<serde_json::value::RawValue>>,
}

/// What became of an asynchronous invocation.
#[utoipa::path(
    get, path = "/v1/invocations/{id}", tag = "invocations", operation_id = "invocation_show",
    params(("id" = String, Path, description = "The invocation")),
    responses(
        (status = 200, body = InvocationView),
        (status = 404, description = "No such asynchronous invocation", body = ProblemView, content_type = "application/problem+json"),
    ),
)]
pub async fn show(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let principal = caller.require(Scope::Invoke)?;
    let not_found = || Problem::not_found("asynchronous invocation", &id);
    let row =
        app.store.invocation_get(principal.tenant, id.parse().map_err(|_| not_found())?).await.map_err(|error| {
            match error {
                raas_store::StoreError::NotFound { .. } => not_found(),
                other => other.into(),
            }
        })?;
    let (status, served_by, result, problem) = match row.outcome {
        Some(outcome) => (Some(outcome.status), outcome.served_by, outcome.body, outcome.error),
        None => (None, None, None, None),
    };
    let raw = |text: Option<String>| text.and_then(|text| serde_json::value::RawValue::from_string(text).ok());
    let view = InvocationView {
        id: row.id.to_string(),
        state: match row.state {
            InvocationState::Queued => "queued",
            InvocationState::Running => "running",
            InvocationState::Done => "done",
        },
        attempt: row.attempt,
        created_at: row.created.to_string(),
        finished_at: row.finished.map(|at| at.to_string()),
        status,
        served_by: served_by.map(raas_core::ServedBy::as_str),
        result: raw(result),
        problem: raw(problem),
    };
    Ok(axum::Json(view).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualifiers_are_one_of_version_and_alias() {
        assert_eq!(qualifier(None).ok(), Some(Qualifier::Live));
        assert_eq!(qualifier(Some("version=3")).ok(), Some(Qualifier::Version(3)));
        assert_eq!(qualifier(Some("alias=blue")).ok(), Some(Qualifier::Alias("blue")));
        for refused in ["version=x", "version=1&alias=b", "colour=red"] {
            assert_eq!(qualifier(Some(refused)).err().map(|problem| problem.status), Some(400), "{refused}");
        }
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        for (us, expected) in [(0, "0.000"), (7, "0.007"), (9_999, "9.999"), (10_000, "10.000"), (12_034, "12.034")] {
            let mut text = String::new();
            write_ms(&mut text, us);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn only_plain_invocations_are_answered_past_the_router() {
        let found = |method: Method, uri: &'static str| addressed(&method, &Uri::from_static(uri)).map(str::to_owned);
        assert_eq!(found(Method::POST, "/v1/functions/my-f_1/invocations?version=2"), Some("my-f_1".into()));
        for uri in [
            "/v1/functions//invocations",
            "/v1/functions/a%20b/invocations",
            "/v1/functions/a/b/invocations",
            "/v1/functions/a",
        ] {
            assert_eq!(found(Method::POST, uri), None, "{uri}");
        }
        assert_eq!(found(Method::GET, "/v1/functions/f/invocations"), None);
    }
}
