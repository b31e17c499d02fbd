//! Why a call got no result from an instance. Says who is at fault and whether the code may have begun.

use raas_contract::FunctionError;

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler raised an error.
    #[error("the function raised {}: {}", .0.kind, .0.message)]
    Raised(FunctionError),
    /// The code does not load.
    #[error("the function's code does not load: {}: {}", .0.kind, .0.message)]
    InitFailed(FunctionError),
    /// The code did not load in time.
    #[error("the function's code did not load within {limit_s} s")]
    InitTimeout {
        /// The limit, seconds.
        limit_s: u32,
    },
    /// The handler ran past its timeout.
    #[error("the function ran past its timeout of {limit_s} s")]
    Timeout {
        /// The limit, seconds.
        limit_s: u32,
    },
    /// The instance went over its memory limit and was ended.
    #[error("the function went over its memory limit of {limit_mb} MiB")]
    OutOfMemory {
        /// The limit, MiB.
        limit_mb: u32,
    },
    /// The instance ended while the call was in it.
    #[error("the function's process ended during the call: {how}")]
    Crashed {
        /// How, for a person.
        how: String,
    },
    /// The runtime inside broke the contract.
    #[error("the function's process broke the contract with the platform: {0}")]
    ContractBroken(String),
    /// The function has as many waits as it may have.
    #[error("{limit} calls of this function wait already")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// No instance came free in time.
    #[error("no instance came free within {waited_ms} ms")]
    NoCapacity {
        /// How long the call waited, milliseconds.
        waited_ms: u64,
    },
    /// The platform is stopping.
    #[error("the platform is stopping")]
    Stopping,
    /// The platform could not start or keep a sandbox. `began`: the code may have begun the work.
    #[error("the platform lost or could not start a sandbox")]
    Sandbox {
        /// Whether the code may have begun.
        began: bool,
        /// What went wrong, for the log; not shown to callers.
        detail: String,
    },
}

impl CallError {
    /// What happened, for the function's log: with the stack where there is one.
    pub fn account(&self) -> String {
        match self {
            Self::Raised(error) | Self::InitFailed(error) if !error.stack.is_empty() => error.stack.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the platform had no place or no sandbox for the call, and so owes the caller rather than the other way round.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::QueueFull { .. } | Self::NoCapacity { .. } | Self::Stopping | Self::Sandbox { .. })
    }

    /// The status it is answered and metered with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Raised(error) => match error.code.as_deref() {
                Some("unknown-method") => 404,
                Some("wrong-arguments") => 422,
                _ => 502,
            },
            Self::InitFailed(_) | Self::OutOfMemory { .. } | Self::Crashed { .. } | Self::ContractBroken(_) => 502,
            Self::InitTimeout { .. } | Self::Timeout { .. } => 504,
            Self::QueueFull { .. } => 429,
            Self::NoCapacity { .. } | Self::Stopping | Self::Sandbox { .. } => 503,
        }
    }
}
