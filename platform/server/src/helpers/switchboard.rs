//! Answers what code asks of the platform while it runs: a method of a helper it is bound to, or its own state.
//!
//! Who may ask for what is decided when a pool is made, by what is put into its [`RuntimeCalls`]: code cannot name an instance
//! that it is not bound to, nor another's state.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_contract::{Answer, CallSink, FunctionError, Operation, Parent, ParentCall, PendingAnswer, RuntimeCall};
use raas_core::{FunctionId, HelperInstanceId, InvocationId, Origin, TenantId, limits};
use raas_helpers::{StateError, StateWriter, parse_commit};
use raas_store::StateCommit;
use serde::Serialize;

use super::call::{MethodCall, call_method, named_arguments};
use super::keys::KeyLeases;
use super::route::function_id;
use crate::admission::Admitted;
use crate::app::App;
use crate::gateway::Problem;
use crate::invoke::{CallerPolicy, Purpose};
use crate::trace::TraceContext;

/// How long a call that is made outside any invocation may wait for its answer.
const OUTSIDE_WITHIN: Duration = Duration::from_secs(300);

/// Where calls of runtimes come in. Made before the platform that answers them is put together.
#[derive(Default)]
pub struct Switchboard {
    app: OnceLock<Weak<App>>,
}

impl std::fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switchboard")
    }
}

impl Switchboard {
    /// From now on `app` answers.
    pub fn connect(&self, app: &Arc<App>) {
        let _ = self.app.set(Arc::downgrade(app));
    }

    fn app(&self) -> Option<Arc<App>> {
        self.app.get()?.upgrade()
    }
}

/// What the code of one pool may ask for.
#[derive(Debug)]
pub struct RuntimeCalls {
    switchboard: Arc<Switchboard>,
    shared: Arc<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    tenant: TenantId,
    /// Whose code it is.
    caller: FunctionId,
    /// Instances by the name in the code.
    bindings: BTreeMap<String, String>,
    /// Whose state, and how much of it there may be.
    state: Option<OwnState>,
}

/// The state that a helper's code may read and write.
#[derive(Clone)]
struct OwnState {
    instance: HelperInstanceId,
    quota_bytes: u64,
    /// Under which keys its calls run, where there is one writer a key.
    keys: Option<Arc<KeyLeases>>,
}

impl std::fmt::Debug for OwnState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnState").field(&self.instance).finish()
    }
}

/// Why a call is refused, as the code sees it.
#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
    code: &'a str,
    origin: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a FunctionError>,
}

impl RuntimeCalls {
    /// What a function may ask for: the helpers it is bound to.
    pub fn of_function(
        switchboard: &Arc<Switchboard>,
        tenant: TenantId,
        function: FunctionId,
        bindings: BTreeMap<String, String>,
    ) -> Self {
        let shared = Arc::new(Allowed { tenant, caller: function, bindings, state: None });
        Self { switchboard: Arc::clone(switchboard), shared }
    }

    /// What a helper may ask for: the same, and its own state.
    pub fn of_helper(
        switchboard: &Arc<Switchboard>,
        tenant: TenantId,
        bindings: BTreeMap<String, String>,
        instance: HelperInstanceId,
        quota_bytes: u64,
        keys: Option<Arc<KeyLeases>>,
    ) -> Self {
        let state = Some(OwnState { instance, quota_bytes, keys });
        let shared = Arc::new(Allowed { tenant, caller: function_id(instance), bindings, state });
        Self { switchboard: Arc::clone(switchboard), shared }
    }
}

impl CallSink for RuntimeCalls {
    fn call(&self, call: RuntimeCall, answer: PendingAnswer) {
        let Some(app) = self.switchboard.app() else { return };
        let allowed = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let outcome = match call.operation {
                Operation::Helper | Operation::HelperPositional => call_helper(&app, &allowed, call).await,
                _ => match &allowed.state {
                    Some(own) => state(&app, own, call).await,
                    None => Err(refusal(
                        "StateError",
                        &Problem::code_only("no-state", "a function has no state", Origin::Caller),
                    )),
                },
            };
            answer.send(&outcome);
        });
    }
}

/// What is said to code whose caller has had its answer.
fn over() -> Problem {
    Problem::code_only("cancelled", "the call that this belongs to is over", Origin::Caller)
}

fn refusal(kind: &str, problem: &Problem) -> Bytes {
    let view = Refusal {
        kind,
        message: &problem.title,
        code: problem.code,
        origin: problem.origin.as_str(),
        retryable: problem.retryable,
        error: problem.error.as_deref(),
    };
    serde_json::to_vec(&view).unwrap_or_default().into()
}

async fn call_helper(app: &Arc<App>, allowed: &Allowed, call: RuntimeCall) -> Answer {
    let refused = |problem: Problem| Err(refusal("HelperError", &problem));
    let (alias, method) = call.target.split_once('/').unwrap_or((&call.target, ""));
    let Some(instance) = allowed.bindings.get(alias) else {
        return refused(Problem::code_only(
            "not-bound",
            &format!("`{alias}` is not bound: name it in [helpers] of the manifest"),
            Origin::Caller,
        ));
    };
    let route = app.routing.load().helper(&allowed.tenant, instance).cloned();
    let Some(route) = route else {
        return refused(Problem::not_found("helper instance", instance));
    };
    let id = InvocationId::generate();
    if call.parent == Parent::Over {
        return refused(over());
    }
    if call.body.len() > limits::BODY_MAX_BYTES {
        let text =
            format!("the arguments have {} bytes; at most {} are allowed", call.body.len(), limits::BODY_MAX_BYTES);
        return refused(Problem::code_only("wrong-arguments", &text, Origin::Caller));
    }
    let parent = call.parent.running().cloned();
    let within = parent.as_ref().map_or(OUTSIDE_WITHIN, |parent| remaining(app, parent));
    let trace = parent.as_ref().and_then(|parent| parent.trace_context.split('\n').next());
    let trace_state = parent.as_ref().and_then(|parent| parent.trace_context.split('\n').nth(1));
    let within = Instant::now() + within;
    let arguments = match call.operation {
        Operation::HelperPositional => match named_arguments(&route, method, &call.body, within).await {
            Ok(arguments) => arguments,
            Err(error) => return refused(error.into()),
        },
        _ => call.body,
    };
    let method_call = MethodCall {
        id,
        tenant: allowed.tenant,
        arguments,
        policy: CallerPolicy::default(),
        trace: TraceContext::of_call(id, trace, trace_state),
        arrived: Instant::now(),
        admitted: Admitted::within_a_call(),
        depth: parent.as_ref().map_or(0, |parent| parent.depth).saturating_add(1),
        caller: Some(allowed.caller),
        deadline: Some(within),
        purpose: Purpose::Answer,
    };
    match tokio::time::timeout_at(within.into(), call_method(app, &route, method, method_call)).await {
        Ok(Ok(answer)) => answer.result.or_else(|error| refused(Problem::of_helper(error))),
        Ok(Err(error)) => refused(error.into()),
        Err(_) => refused(Problem::code_only(
            "deadline",
            &format!("`{alias}.{method}` did not answer before the caller's own deadline"),
            Origin::Helper,
        )),
    }
}

fn remaining(app: &App, parent: &ParentCall) -> Duration {
    let now_ms = u64::try_from(app.clock.now().as_millis()).unwrap_or(0);
    Duration::from_millis(parent.deadline_unix_ms.saturating_sub(now_ms))
}

/// State operations by what does them.
async fn state(app: &App, own: &OwnState, call: RuntimeCall) -> Answer {
    let instance = own.instance;
    let outcome = match call.operation {
        Operation::StateGet => state_get(app, instance, &call.target).await,
        Operation::StateList => state_list(app, instance, &call.target, &call.body).await,
        _ => state_commit(&app.state_writer, own, &call.parent, &call.body).await,
    };
    outcome.map_err(|error| {
        let origin = if error.is_platform() { Origin::Platform } else { Origin::Helper };
        let mut problem = Problem::code_only(error.code(), &error.to_string(), origin);
        problem.retryable = error.is_platform();
        refusal("StateError", &problem)
    })
}

async fn state_get(app: &App, instance: HelperInstanceId, key: &str) -> Result<Bytes, StateError> {
    let found = app.store.helper_state_get(instance, key, app.clock.now()).await?;
    Ok(found.map_or_else(Bytes::new, |entry| {
        let mut bytes = Vec::with_capacity(entry.value.len() + 1);
        bytes.push(entry.form.letter());
        bytes.extend_from_slice(&entry.value);
        bytes.into()
    }))
}

async fn state_list(app: &App, instance: HelperInstanceId, prefix: &str, body: &[u8]) -> Result<Bytes, StateError> {
    let limit = body.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    let limit = limit.ok_or(StateError::Malformed("a list without a limit"))?.min(limits::STATE_LIST_MAX_KEYS);
    let entries = app.store.helper_state_list(instance, prefix, limit, None, app.clock.now()).await?;
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    Ok(serde_json::to_vec(&keys).unwrap_or_default().into())
}

async fn state_commit(writer: &StateWriter, own: &OwnState, parent: &Parent, body: &[u8]) -> Result<Bytes, StateError> {
    if *parent == Parent::Over {
        return Err(StateError::CallOver);
    }
    let writes = parse_commit(body)?;
    if writes.is_empty() {
        return Ok(Bytes::new());
    }
    let call = parent.running().map(|parent| InvocationId::from_bytes(parent.invocation_id));
    let key = own.keys.as_ref().zip(call).and_then(|(keys, call)| keys.fence_of(call));
    writer.commit(StateCommit { instance: own.instance, writes, quota_bytes: own.quota_bytes, key }).await?;
    Ok(Bytes::new())
}
