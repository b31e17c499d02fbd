//! What can go wrong with a sandbox, seen from the gateway, and who is at fault.
//!
//! Must not know HTTP: the gateway maps these to problems.

use std::io;
use std::path::PathBuf;

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The platform or the machine it runs on.
    Platform,
    /// The function: what it asked to run cannot be run.
    Function,
}

/// A request to the spawner that was not carried out. None of these may have run the function's code.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spawner process could not be started.
    #[error("the spawner could not be started: {step}")]
    Start {
        /// The step that failed, as a phrase.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another platform that is still running uses this run folder.
    #[error("the run folder {0} is in use by another process")]
    RunDirInUse(PathBuf),
    /// The spawner ended; every sandbox it had made ended with it.
    #[error("the spawner is gone")]
    SpawnerGone,
    /// Too many sandboxes exist or wait to be made; nothing was done.
    #[error("no room for another sandbox: {0}")]
    Busy(String),
    /// The sandbox was made but its command does not exist or may not be executed.
    #[error("the command cannot be run: {0}")]
    Command(String),
    /// The request itself cannot be right (an empty command, a relative folder, a message over the limit, …).
    #[error("the sandbox request is not valid: {0}")]
    Invalid(String),
    /// The sandbox had ended before the request reached it.
    #[error("the sandbox has ended")]
    Ended,
    /// The machine has no network device for a sandbox that is to reach others; says why and what to change.
    #[error("the sandbox's network could not be set up: {0}")]
    Network(String),
    /// The machine refused a step.
    #[error("the sandbox could not be set up: {0}")]
    Setup(String),
}

impl SandboxError {
    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Command(_) => Fault::Function,
            Self::Start { .. }
            | Self::RunDirInUse(_)
            | Self::SpawnerGone
            | Self::Busy(_)
            | Self::Invalid(_)
            | Self::Ended
            | Self::Network(_)
            | Self::Setup(_) => Fault::Platform,
        }
    }

    /// Whether the same request may succeed later. No variant has run the function's code, so a retry cannot run it twice.
    pub fn retryable(&self) -> bool {
        match self {
            Self::SpawnerGone | Self::Busy(_) | Self::Ended | Self::Setup(_) => true,
            Self::Start { .. } | Self::RunDirInUse(_) | Self::Command(_) | Self::Invalid(_) | Self::Network(_) => false,
        }
    }

    pub(crate) fn start(step: impl Into<String>, source: io::Error) -> Self {
        Self::Start { step: step.into(), source }
    }
}
