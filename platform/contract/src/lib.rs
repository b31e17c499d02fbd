//! How the platform talks to the code inside a sandbox: the `handler` contract (docs/contract-handler.md).
//!
//! Owns the frame format and one connection's state: what is in flight, what was answered, when it ended. It must not know
//! HTTP, sandboxes, caching or scheduling: it is handed a connected stream and speaks frames over it, so that the same code
//! serves a sandbox on this machine and an agent in a pod.

mod call;
mod connection;
mod frame;
mod reads;

pub use call::{Answer, CallSink, HelperInit, MethodInit, Operation, Parent, ParentCall, RuntimeCall};
pub use connection::{
    Call, Connection, ConnectionEnd, ContractError, FunctionError, InitRequest, Invoke, Loaded, LogSink, LogStream,
    PendingAnswer, WeakConnection,
};
pub use frame::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_MAX, Frame, FrameError, Kind};
pub use reads::{CheckInit, Reads};
