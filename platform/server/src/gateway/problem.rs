//! The one shape of an error at the edge: RFC 9457 problem details with a stable code, who is at fault, and whether to retry.
//!
//! The private cause of a platform error is logged here, once, and never reaches the caller.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use raas_contract::FunctionError;
use raas_core::Origin;
use serde::Serialize;

use crate::helpers::{ManageError, MethodRefused};
use crate::invoke::InvokeError;
use crate::scheduler::CallError;

/// An error as a caller sees it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable name to test for.
    pub code: &'static str,
    /// What happened, and what to do about it.
    pub title: String,
    /// Who is at fault.
    pub origin: Origin,
    /// Whether the same request may succeed later without repeating work that was done.
    pub retryable: bool,
    /// The error that the user's code raised.
    pub error: Option<Box<FunctionError>>,
    /// After how many seconds to retry.
    pub retry_after_s: Option<u32>,
}

/// A problem on the wire.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemView<'a> {
    /// `urn:raas:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status.
    status: u16,
    /// A stable name to test for.
    code: &'a str,
    /// What happened, and what to do about it.
    title: &'a str,
    /// Who is at fault: `platform`, `function`, `helper` or `caller`.
    origin: &'a str,
    /// Whether the same request may succeed later without repeating work that was done.
    retryable: bool,
    /// The error that the user's code raised: `type`, `message`, `stack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<&'a FunctionError>,
}

impl Problem {
    /// A problem of the caller's making.
    pub fn caller(status: StatusCode, code: &'static str, title: impl Into<String>) -> Self {
        Self::new(status, code, Origin::Caller, false, title)
    }

    /// A problem of the platform's making that may pass.
    pub fn unavailable(code: &'static str, title: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, Origin::Platform, true, title)
        }
    }

    /// Something that cannot be written for want of room. `cause` goes to the log only.
    fn disk_full(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "the disk is full");
        Self::unavailable("disk-full", "the platform's disk is full: whoever runs it must make room; nothing was done")
    }

    /// A failure of the platform itself. The cause goes to the log only, but for a full disk, which needs somebody.
    pub fn of_platform(error: anyhow::Error) -> Self {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref().is_some_and(|error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull)
        };
        let cause = format!("{error:#}");
        if error.chain().any(is_full) { Self::disk_full(&cause) } else { Self::internal(&cause) }
    }

    /// Something that should not happen. `cause` goes to the log only.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed inside the platform");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            Origin::Platform,
            false,
            "the platform failed; its log has the cause",
        )
    }

    /// What does not exist, or belongs to somebody else: the same answer.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::caller(StatusCode::NOT_FOUND, "not-found", format!("there is no {what} `{name}`"))
    }

    /// A refusal that is shown to code rather than over HTTP.
    pub fn code_only(code: &'static str, title: &str, origin: Origin) -> Self {
        let status = match origin {
            Origin::Caller => StatusCode::UNPROCESSABLE_ENTITY,
            Origin::Platform => StatusCode::SERVICE_UNAVAILABLE,
            Origin::Function | Origin::Helper => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, code, origin, false, title)
    }

    /// The same as a function's error, with the helper in the function's place.
    pub fn of_helper(error: CallError) -> Self {
        if let CallError::Raised(raised) = &error {
            let refused = match raised.code.as_deref() {
                Some("unknown-method") => Some((StatusCode::NOT_FOUND, "unknown-method")),
                Some("wrong-arguments") => Some((StatusCode::UNPROCESSABLE_ENTITY, "wrong-arguments")),
                _ => None,
            };
            if let Some((status, code)) = refused {
                // Its stack is of no use to a caller who is at fault, and shows the helper's code.
                return Self::caller(status, code, raised.message.clone());
            }
        }
        let mut problem = Self::from(error);
        if problem.origin == Origin::Function {
            problem.origin = Origin::Helper;
            problem.title = problem.title.replacen("the function", "the helper", 1);
            if problem.code == "function-error" {
                problem.code = match problem.error.as_ref().map(|error| error.kind.as_str()) {
                    Some("InvalidResult") => "invalid-result",
                    _ => "helper-error",
                };
            }
        }
        problem
    }

    /// What happened, on one line.
    pub fn sentence(&self) -> String {
        self.title.lines().next().unwrap_or_default().to_owned()
    }

    fn new(status: StatusCode, code: &'static str, origin: Origin, retryable: bool, title: impl Into<String>) -> Self {
        Self { status: status.as_u16(), code, title: title.into(), origin, retryable, error: None, retry_after_s: None }
    }

    /// The body as it is sent and stored.
    pub fn to_json(&self) -> Vec<u8> {
        let view = ProblemView {
            kind: format!("urn:raas:problem:{}", self.code),
            status: self.status,
            code: self.code,
            title: &self.title,
            origin: self.origin.as_str(),
            retryable: self.retryable,
            error: self.error.as_deref(),
        };
        serde_json::to_vec(&view).unwrap_or_default()
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let title = error.to_string();
        let function = |status, code| Self::new(status, code, Origin::Function, false, title.clone());
        match error {
            CallError::Raised(raised) => {
                let code = if raised.kind == "ResponseTooLarge" { "response-too-large" } else { "function-error" };
                Self { error: Some(Box::new(raised)), ..function(StatusCode::BAD_GATEWAY, code) }
            }
            CallError::InitFailed(raised) => {
                Self { error: Some(Box::new(raised)), ..function(StatusCode::BAD_GATEWAY, "init-failed") }
            }
            CallError::InitTimeout { .. } => function(StatusCode::GATEWAY_TIMEOUT, "init-timeout"),
            CallError::Timeout { .. } => function(StatusCode::GATEWAY_TIMEOUT, "timeout"),
            CallError::OutOfMemory { .. } => function(StatusCode::BAD_GATEWAY, "out-of-memory"),
            CallError::Crashed { .. } => function(StatusCode::BAD_GATEWAY, "crashed"),
            CallError::ContractBroken(_) => function(StatusCode::BAD_GATEWAY, "contract-broken"),
            CallError::QueueFull { .. } => Self {
                retry_after_s: Some(1),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "queue-full", Origin::Platform, true, title)
            },
            CallError::NoCapacity { .. } => Self::unavailable("no-capacity", title),
            CallError::Stopping => Self::unavailable("stopping", title),
            CallError::Sandbox { began, .. } => Self { retryable: !began, ..Self::unavailable("sandbox-lost", title) },
        }
    }
}

impl From<MethodRefused> for Problem {
    fn from(error: MethodRefused) -> Self {
        let title = error.to_string();
        match error {
            MethodRefused::WrongArguments(_) => {
                Self::caller(StatusCode::UNPROCESSABLE_ENTITY, "wrong-arguments", title)
            }
            MethodRefused::NoSuchMethod(_) | MethodRefused::UnknownMethod { .. } => {
                Self::caller(StatusCode::NOT_FOUND, "unknown-method", title)
            }
            MethodRefused::Stopped(_) => Self::caller(StatusCode::CONFLICT, "stopped", title),
            MethodRefused::TooDeep => Self::caller(StatusCode::UNPROCESSABLE_ENTITY, "too-deep", title),
            MethodRefused::Start(error) => Self::of_helper(error),
            MethodRefused::Invoke(error) => error.into(),
        }
    }
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        match error {
            InvokeError::NothingCached => {
                Self::caller(StatusCode::GATEWAY_TIMEOUT, "nothing-cached", error.to_string())
            }
            InvokeError::MeteringFull(_) => Self::unavailable(
                "metering-full",
                "calls cannot be metered at the moment, so none is answered; try again",
            ),
            InvokeError::FollowTimeout => Self::unavailable("no-outcome", error.to_string()),
        }
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        let title = error.to_string();
        let conflict = |code| Self::caller(StatusCode::CONFLICT, code, title.clone());
        match error {
            ManageError::Invalid(code, _) => Self::caller(StatusCode::UNPROCESSABLE_ENTITY, code, title),
            ManageError::Bound { .. } => conflict("bound"),
            ManageError::Busy(_) => conflict("busy"),
            ManageError::NoHook(_) => Self::caller(StatusCode::UNPROCESSABLE_ENTITY, "no-hook", title),
            ManageError::Start(error) | ManageError::Hook { error, .. } => {
                let cause = Self::of_helper(error);
                Self { title: format!("{title}: {}", cause.title), ..cause }
            }
            ManageError::Device(_) => Self::caller(StatusCode::UNPROCESSABLE_ENTITY, "no-device", title),
            ManageError::Folder(error) => Self::of_platform(error.into()),
            ManageError::Store(error) => error.into(),
            ManageError::Route(error) => Self::internal(&error),
        }
    }
}

impl From<raas_store::StoreError> for Problem {
    fn from(error: raas_store::StoreError) -> Self {
        use raas_store::StoreError;
        match error {
            StoreError::NotFound { .. } => Self::caller(StatusCode::NOT_FOUND, "not-found", error.to_string()),
            StoreError::Conflict { .. } => Self::caller(StatusCode::CONFLICT, "conflict", error.to_string()),
            StoreError::Invalid { .. } => Self::caller(StatusCode::BAD_REQUEST, "invalid", error.to_string()),
            StoreError::Full(_) => Self::disk_full(&error),
            StoreError::Unavailable { .. } | StoreError::Timeout => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database did not answer");
                Self::unavailable("database-unavailable", "the database does not answer; try again")
            }
            other => Self::of_platform(other.into()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        super::problem_counts::count(self.code, self.origin);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
