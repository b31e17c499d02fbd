//! One call of a method: from a name and arguments to a call of the data path.
//!
//! The same for callers over HTTP, for functions, for other helpers and for what is computed ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raas_core::{CanonicalEvent, FunctionId, InvocationId, TenantId, limits};
use raas_helpers::{AdminState, Schema};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::route::HelperRoute;
use crate::admission::Admitted;
use crate::app::App;
use crate::invoke::{Answer, Call, CallerPolicy, InvokeError, Purpose};
use crate::scheduler::CallError;
use crate::trace::TraceContext;

/// The most work that a check against a schema may be: bytes of both, multiplied.
const CHECK_WORK_MAX: usize = 1 << 30;

/// Up to this a check takes less than about a millisecond.
const CHECK_WORK_AT_ONCE: usize = 1 << 22;

/// The longest name of a method, bytes.
const METHOD_NAME_MAX_BYTES: usize = 128;

/// What a caller says of a call.
pub struct MethodCall {
    /// Its id.
    pub id: InvocationId,
    /// Who calls, and pays.
    pub tenant: TenantId,
    /// A JSON object of named arguments, as text.
    pub arguments: Bytes,
    /// What the caller says about kept results.
    pub policy: CallerPolicy,
    /// Where it stands in its trace.
    pub trace: TraceContext,
    /// When it arrived.
    pub arrived: Instant,
    /// Its place among the calls in progress.
    pub admitted: Admitted,
    /// How many calls of helpers it is inside of.
    pub depth: u8,
    /// The function or helper instance whose code calls, where code does.
    pub caller: Option<FunctionId>,
    /// When nobody wants the answer any more, where the caller's own time ends.
    pub deadline: Option<Instant>,
    /// Whether nobody has asked.
    pub purpose: Purpose,
}

/// Why a call did not get as far as the helper.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MethodRefused {
    /// The arguments are not what they must be.
    #[error("the arguments are not acceptable: {0}")]
    WrongArguments(String),
    /// No class has a method of such a name.
    #[error("`{0}` is not a method: names have letters, digits and `_`, and do not begin with `_`")]
    NoSuchMethod(String),
    /// The class has no such method.
    #[error("there is no method {method}; there are: {known}")]
    UnknownMethod {
        /// The one that was asked for.
        method: String,
        /// Those that there are.
        known: String,
    },
    /// No replica came up that could say what the method takes.
    #[error(transparent)]
    Start(CallError),
    /// The instance was stopped by order.
    #[error("helper instance `{0}` is stopped; start it with `raas helper start {0}`")]
    Stopped(String),
    /// Helpers that call helpers went too deep.
    #[error("calls of helpers are nested more than {} deep", limits::HELPER_CALL_DEPTH_MAX)]
    TooDeep,
    /// The data path gave no answer.
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// Arguments that have a place instead of a name.
#[derive(Deserialize)]
struct Positional {
    positional: Vec<Box<RawValue>>,
    named: BTreeMap<String, Box<RawValue>>,
}

/// Whether an instance was stopped by order since a call to it began.
fn is_stopped(app: &App, route: &HelperRoute) -> bool {
    app.routing.load().helper_by_id(route.id).is_some_and(|current| current.admin == AdminState::Stopped)
}

/// Holds a value to a schema, both a tenant's: within a bound on the work, and away from who serves others where it is more
/// than a moment's.
///
/// # Errors
/// What is wrong with it.
pub fn check(schema: &Schema, text: &[u8]) -> Result<(), String> {
    let work = schema.work(text.len());
    if work > CHECK_WORK_MAX {
        return Err("they are too large to be checked against a schema of that size".into());
    }
    let checked = || {
        let value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let problems = schema.problems(&value);
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    };
    if work > CHECK_WORK_AT_ONCE { tokio::task::block_in_place(checked) } else { checked() }
}

/// The key that a call is made under: the argument's own text where it is a string, else its JSON.
fn key_of(arguments: &[u8], argument: &str) -> Result<String, MethodRefused> {
    let wrong = |text: String| MethodRefused::WrongArguments(text);
    let named: BTreeMap<String, Value> =
        serde_json::from_slice(arguments).map_err(|error| wrong(format!("no key `{argument}`: {error}")))?;
    let key = match named.get(argument) {
        None | Some(Value::Null) => return Err(wrong(format!("`{argument}` is missing, which is the call's key"))),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if key.len() > limits::STATE_KEY_MAX_BYTES || key.contains('\0') {
        return Err(wrong(format!("the key `{argument}` has at most {} bytes", limits::STATE_KEY_MAX_BYTES)));
    }
    Ok(key)
}

/// Gives arguments that have a place the names that the method's parameters have, so that one call has one key however it is
/// written.
///
/// # Errors
/// The method does not take them, or no replica came up by `within` to say what it takes.
pub async fn named_arguments(
    route: &HelperRoute,
    method: &str,
    body: &[u8],
    within: Instant,
) -> Result<Bytes, MethodRefused> {
    if route.admin == AdminState::Stopped {
        return Err(MethodRefused::Stopped(route.name.clone()));
    }
    let wrong = |text: String| Err(MethodRefused::WrongArguments(text));
    let mut loaded = route.pool.loaded();
    if loaded.methods.is_empty() {
        loaded = route.pool.acquire(within).await.map_err(MethodRefused::Start)?.instance().loaded();
    }
    if !loaded.methods.iter().any(|known| known == method) {
        return Err(MethodRefused::UnknownMethod { method: method.to_owned(), known: loaded.methods.join(", ") });
    }
    let Some(parameters) = loaded.parameters.get(method) else {
        return wrong(format!("{method} takes named arguments only"));
    };
    let Positional { positional, mut named } = match serde_json::from_slice(body) {
        Ok(arguments) => arguments,
        Err(error) => return wrong(error.to_string()),
    };
    if positional.len() > parameters.len() {
        let (most, given) = (parameters.join(", "), positional.len());
        return wrong(format!("{method} takes at most {} ({most}), not {given}", parameters.len()));
    }
    for (name, value) in parameters.iter().zip(positional) {
        if named.insert(name.clone(), value).is_some() {
            return wrong(format!("{method} is given `{name}` twice"));
        }
    }
    serde_json::to_vec(&named).map(Bytes::from).or_else(|error| wrong(error.to_string()))
}

/// Calls a method.
///
/// # Errors
/// [`MethodRefused`]; an error of the helper is not one, but an [`Answer`].
pub async fn call_method(
    app: &Arc<App>,
    route: &HelperRoute,
    method: &str,
    call: MethodCall,
) -> Result<Answer, MethodRefused> {
    let plain = method.starts_with(|first: char| first.is_alphabetic())
        && method.len() <= METHOD_NAME_MAX_BYTES
        && method.chars().all(|one| one.is_alphanumeric() || one == '_');
    if !plain {
        return Err(MethodRefused::NoSuchMethod(method.chars().take(METHOD_NAME_MAX_BYTES).collect()));
    }
    if route.admin == AdminState::Stopped {
        return Err(MethodRefused::Stopped(route.name.clone()));
    }
    if u32::from(call.depth) > limits::HELPER_CALL_DEPTH_MAX {
        return Err(MethodRefused::TooDeep);
    }
    let wrong = MethodRefused::WrongArguments;
    let canonical = CanonicalEvent::parse(&call.arguments).map_err(|error| wrong(error.to_string()))?;
    let text = call.arguments.trim_ascii();
    if !text.starts_with(b"{") {
        return Err(wrong("they must be a JSON object of named arguments".into()));
    }
    let MethodCall { id, tenant, policy, trace, arrived, admitted, depth, caller, deadline, purpose, .. } = call;
    let found = route.method(method);
    if let Some(schema) = &found.arguments {
        check(schema, text).map_err(wrong)?;
    }
    let key = match (&found.key, &route.keys) {
        (Some(argument), Some(leases)) => Some((key_of(text, argument)?, Arc::clone(leases))),
        _ => None,
    };
    // The name is plain and the arguments are JSON, so this is too.
    let mut event = Vec::with_capacity(text.len() + method.len() + 32);
    event.extend_from_slice(b"{\"method\":\"");
    event.extend_from_slice(method.as_bytes());
    event.extend_from_slice(b"\",\"args\":");
    event.extend_from_slice(text);
    event.push(b'}');
    let helper_epochs = app.routing.load().helper_epochs(&route.tenant, &route.bindings);
    let answer = app
        .invoker
        .invoke(Call {
            id,
            tenant,
            function: Arc::clone(&route.function),
            version: Arc::clone(&found.version),
            event: event.into(),
            canonical: Some(canonical),
            policy,
            trace,
            arrived_at: app.clock.now(),
            arrived,
            admitted,
            depth,
            caller,
            deadline,
            key,
            helper_epochs,
            purpose,
        })
        .await?;
    if matches!(answer.result, Err(CallError::Stopping)) && is_stopped(app, route) {
        return Err(MethodRefused::Stopped(route.name.clone()));
    }
    Ok(answer)
}
