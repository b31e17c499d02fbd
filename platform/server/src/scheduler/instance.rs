//! One instance: a sandbox that runs one version, its connection, and how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use raas_contract::{Connection, ConnectionEnd, ContractError, Invoke, Loaded, Reads};
use raas_core::{Clock, InstanceId, InvocationId, TimestampUs};
use raas_sandbox::{ExitCause, SandboxExit, SandboxHandle, SandboxUsage};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::error::CallError;
use super::launch::TenantPlace;
use super::lifecycle::Phase;
use crate::trace::TraceContext;

/// How long after the connection's end the exit status may take to arrive.
const EXIT_STATUS_WITHIN: Duration = Duration::from_secs(3);

/// How long a stopped instance may take to leave by itself before it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_millis(300);

/// An instance. Shared by the version's pool and the leases on it; the sandbox ends when the last is dropped.
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// When it was started.
    pub started_at: TimestampUs,
    connection: Connection,
    sandbox: SandboxHandle,
    memory_mb: u32,
    phase: Mutex<Phase>,
    /// Set when the platform stops: whatever ends then is not the function's fault.
    stopping: CancellationToken,
    clock: Arc<dyn Clock>,
    /// Its places among the platform's instances and its tenant's, given back when it is gone.
    _places: (OwnedSemaphorePermit, TenantPlace),
}

/// An instance as shown to people.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct InstanceStatus {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// The version it runs.
    pub version: u32,
    /// Where it stands.
    pub phase: Phase,
    /// Calls in it now.
    pub in_flight: u32,
    /// When it was started, RFC 3339.
    pub started_at: String,
}

/// A look at what an instance's sandbox uses.
#[derive(Clone)]
pub struct UsageProbe(SandboxHandle);

impl UsageProbe {
    /// What it has used and uses; nothing once it is gone.
    pub async fn usage(&self) -> Option<SandboxUsage> {
        self.0.usage().await.ok()
    }

    /// What it had used when it ended, if it has.
    pub fn final_usage(&self) -> Option<SandboxUsage> {
        self.0.exit().map(|exit| exit.usage)
    }
}

impl Instance {
    pub(super) fn new(
        id: InstanceId,
        clock: Arc<dyn Clock>,
        connection: Connection,
        sandbox: SandboxHandle,
        memory_mb: u32,
        places: (OwnedSemaphorePermit, TenantPlace),
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            started_at: clock.now(),
            clock,
            connection,
            sandbox,
            memory_mb,
            phase: Mutex::new(Phase::Loading),
            stopping,
            _places: places,
        })
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Goes to the next phase. Returns `false`, and stays, where the state machine does not allow it.
    pub(super) fn advance(&self, next: Phase) -> bool {
        let mut phase = self.phase.lock();
        let allowed = phase.may_become(next);
        if allowed {
            *phase = next;
        }
        allowed
    }

    /// What the runtime said of its code.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.connection.loaded()
    }

    /// Whether a helper's class has a hook of its own.
    pub fn has_hook(&self, name: &str) -> bool {
        self.connection.loaded().hooks.iter().any(|hook| hook == name)
    }

    /// Runs a hook of a helper: `event` is its JSON text.
    ///
    /// # Errors
    /// The helper's own error, or there was no answer within `limit_s` seconds.
    pub async fn hook(&self, event: &str, limit_s: u32) -> Result<Bytes, CallError> {
        let id = InvocationId::generate();
        let deadline_unix_ms = self.clock.now().as_millis() + i64::from(limit_s) * 1000;
        let invoke = Invoke {
            invocation_id: id.as_bytes(),
            deadline_unix_ms: u64::try_from(deadline_unix_ms).unwrap_or(0),
            trace_context: &TraceContext::of_call(id, None, None).to_text(),
            event: event.as_bytes(),
            depth: 0,
        };
        let (outcome, _) = self.call(invoke, limit_s).await;
        outcome.map_err(|error| {
            error.unwrap_or(CallError::Sandbox { began: false, detail: "the replica was gone before its hook".into() })
        })
    }

    /// Runs one request to its end, or to its timeout, `limit_s`. With the outcome comes what it took in the instance, microseconds.
    ///
    /// The outcome is an error, `Err(None)`, when the instance was gone before the request left the platform, so that
    /// another may take it.
    pub async fn call(&self, invoke: Invoke<'_>, limit_s: u32) -> (Result<Bytes, Option<CallError>>, u64) {
        let started = Instant::now();
        let call = match self.connection.invoke(invoke) {
            Ok(call) => call,
            Err(ContractError::Ended { sent: false, .. }) => return (Err(None), 0),
            Err(error) => return (Err(Some(self.explain(error).await)), 0),
        };
        let limit = Duration::from_secs(u64::from(limit_s));
        let answered = tokio::time::timeout(limit, call).await;
        // Before the explanation, which may wait for the exit status.
        let exec_us = micros_since(started);
        let outcome = match answered {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(Some(self.explain(error).await)),
            Err(_) => Err(Some(CallError::Timeout { limit_s })),
        };
        (outcome, exec_us)
    }

    /// What an invocation read of its event, where the runtime tells.
    pub fn take_reads(&self, invocation: &[u8; 16]) -> Option<Reads> {
        self.connection.take_reads(invocation)
    }

    /// Loads the user's code.
    pub(super) async fn init(&self, request: &raas_contract::InitRequest, limit_s: u32) -> Result<(), CallError> {
        match tokio::time::timeout(Duration::from_secs(u64::from(limit_s)), self.connection.init(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ContractError::Function(error))) => Err(CallError::InitFailed(error)),
            Ok(Err(error)) => Err(self.explain(error).await),
            Err(_) => Err(CallError::InitTimeout { limit_s }),
        }
    }

    /// Tells what really happened behind a contract error: the exit status says more than a closed socket.
    async fn explain(&self, error: ContractError) -> CallError {
        let end = match error {
            ContractError::Function(error) => return CallError::Raised(error),
            ContractError::Frame(error) => return CallError::ContractBroken(error.to_string()),
            ContractError::Ended { end, .. } => end,
        };
        if let ConnectionEnd::Broken(how) = end {
            self.kill();
            return CallError::ContractBroken(how);
        }
        match tokio::time::timeout(EXIT_STATUS_WITHIN, self.sandbox.exited()).await {
            Ok(_) if self.stopping.is_cancelled() => {
                CallError::Sandbox { began: true, detail: "the platform was told not to wait for it".into() }
            }
            Ok(exit) => explain_exit(&exit, self.memory_mb),
            Err(_) => {
                self.kill();
                CallError::Crashed { how: "it closed its connection to the platform".into() }
            }
        }
    }

    /// Waits until the process is gone or unusable.
    pub(super) async fn ended(&self) {
        tokio::select! {
            _ = self.connection.ended() => {}
            _ = self.sandbox.exited() => {}
        }
    }

    /// A look at what it uses, which does not keep its place.
    pub fn probe(&self) -> UsageProbe {
        UsageProbe(self.sandbox.clone())
    }

    /// Ends it at once, whatever it does.
    pub fn kill(&self) {
        self.sandbox.kill();
    }

    /// Lets it leave by itself, then makes it.
    pub(super) fn stop(self: Arc<Self>, grace: Duration) {
        tokio::spawn(async move {
            self.connection.stop();
            let _ = tokio::time::timeout(grace, self.sandbox.exited()).await;
            self.kill();
        });
    }
}

/// What a sandbox's end means for the call that was in it.
pub(super) fn explain_exit(exit: &SandboxExit, memory_mb: u32) -> CallError {
    if exit.oom_killed {
        return CallError::OutOfMemory { limit_mb: memory_mb };
    }
    match exit.cause {
        ExitCause::Code(code) => CallError::Crashed { how: format!("exit status {code}") },
        ExitCause::Signal(signal) => CallError::Crashed { how: format!("signal {signal}") },
        ExitCause::SpawnerGone => CallError::Sandbox { began: true, detail: "the spawner went away".into() },
    }
}

/// Microseconds since `start`.
pub fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
