//! What code asks of the platform while it runs: CALL and ANSWER (docs/contract-helper.md).
//!
//! Owns the layout of CALL's payload. It must not know what an operation does: a [`CallSink`] answers.

use bytes::{Buf, Bytes};
use serde::Serialize;

use crate::connection::{ConnectionEnd, PendingAnswer};

/// CALLs of one runtime that may wait for their ANSWER; more end the connection.
pub const CALLS_IN_FLIGHT_MAX: usize = 1000;

/// Bytes of CALLs of one runtime that may wait for their ANSWER; above it nothing more is read from the runtime.
pub const CALL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What makes an INIT one of a helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HelperInit {
    /// The helper instance's id.
    pub instance_id: String,
    /// Who published the helper.
    pub publisher: String,
    /// The helper's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The instance's name.
    pub instance: String,
    /// The instance's configuration.
    pub config: serde_json::Value,
    /// Which outcome of training its state is of.
    pub data_version: u64,
    /// Its private folder inside the sandbox, where it has one.
    pub dir: Option<String>,
    /// `serve` or `train`.
    pub purpose: &'static str,
    /// What is declared of its methods.
    pub methods: std::collections::BTreeMap<String, MethodInit>,
}

/// What is declared of one method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MethodInit {
    /// How long it may take.
    pub timeout_s: u32,
}

/// What a runtime asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Call a method of a helper: the target is `name/method`, the body its arguments.
    Helper,
    /// The same with arguments that have a place instead of a name.
    HelperPositional,
    /// Read one key of the helper's own state.
    StateGet,
    /// List keys.
    StateList,
    /// Write, all or nothing.
    StateCommit,
}

/// One request of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeCall {
    /// The invocation in which it is made.
    pub parent: Parent,
    /// What is asked for.
    pub operation: Operation,
    /// Of what.
    pub target: String,
    /// The operation's own bytes.
    pub body: Bytes,
}

/// What a call says of the invocation in which it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// It is made in none.
    None,
    /// That has been answered, or given up: nothing of it may have an effect any more.
    Over,
    /// That runs.
    Running(ParentCall),
}

impl Parent {
    /// The invocation, while it runs.
    pub fn running(&self) -> Option<&ParentCall> {
        match self {
            Self::Running(call) => Some(call),
            Self::None | Self::Over => None,
        }
    }
}

/// The invocation in which a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentCall {
    /// Its id.
    pub invocation_id: [u8; 16],
    /// When its answer is no longer wanted, milliseconds since the Unix epoch.
    pub deadline_unix_ms: u64,
    /// How many calls of helpers it is inside of.
    pub depth: u8,
    /// Its `traceparent`, then optionally a newline and `tracestate`.
    pub trace_context: Box<str>,
}

/// The operation's result, or the JSON text of why there is none.
pub type Answer = Result<Bytes, Bytes>;

/// Answers a runtime's calls. Called from the connection's task: must not block.
pub trait CallSink: std::fmt::Debug + Send + Sync + 'static {
    /// One call; `answer` is to be used once.
    fn call(&self, call: RuntimeCall, answer: PendingAnswer);
}

impl RuntimeCall {
    /// The request id of the invocation in which it is made, and the call.
    pub(crate) fn parse(mut payload: Bytes) -> Result<(u64, Self), ConnectionEnd> {
        let broken = |what: &str| ConnectionEnd::Broken(format!("a call frame {what}"));
        if payload.len() < 11 {
            return Err(broken("that is cut off"));
        }
        let parent = payload.get_u64_le();
        let operation = match payload.get_u8() {
            1 => Operation::Helper,
            2 => Operation::StateGet,
            3 => Operation::StateList,
            4 => Operation::StateCommit,
            5 => Operation::HelperPositional,
            other => return Err(broken(&format!("with the unknown operation {other}"))),
        };
        let length = usize::from(payload.get_u16_le());
        if payload.len() < length {
            return Err(broken("whose target is cut off"));
        }
        let target = payload.split_to(length);
        let target = std::str::from_utf8(&target).map_err(|_| broken("whose target is not UTF-8"))?.to_owned();
        Ok((parent, Self { parent: Parent::None, operation, target, body: payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_payload_is_a_call_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((_, call)) = RuntimeCall::parse(Bytes::from(bytes.clone())) {
                prop_assert!(bytes.ends_with(&call.body));
                prop_assert_eq!(call.target.len() + call.body.len() + 11, bytes.len());
            }
        }
    }
}
