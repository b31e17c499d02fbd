//! Sandboxes: Linux containers for functions and helpers, made by a small privileged process.
//!
//! Owns everything that confines code (namespaces, identities, mounts, cgroups, seccomp, limits) and the socket between
//! the gateway and the spawner. It must not know what runs in a sandbox: no contract frames, no functions, no HTTP.
//!
//! The gateway's half is [`start_spawner`] and [`Spawner`]; the other half is [`spawner_main`], which the same binary
//! runs when its first argument is [`SPAWNER_ARGUMENT`]. The key invariant is that nothing survives the spawner: it is
//! the first process of its own pid namespace and its mounts live in its own mount namespace, so the kernel ends every
//! sandbox and drops every mount with it. Only cgroup directories and files in the run folder can be left behind, and
//! [`clean_up_leftovers`] removes those by the record kept there.

mod base;
mod cgroup;
mod cgroup_detect;
mod client;
mod error;
mod identity;
mod launch;
mod leftovers;
mod mounts;
mod network;
mod process;
mod protocol;
mod seccomp;
mod spawner;
mod spec;

pub use client::{ExitCause, Sandbox, SandboxExit, SandboxHandle, SandboxId, SandboxIo, Spawner};
pub use error::{Fault, SandboxError};
pub use leftovers::clean_up_leftovers;
pub use network::NetworkDevice;
pub use process::{SPAWNER_ARGUMENT, SpawnerOptions, SpawnerProcess, start_spawner};
pub use protocol::{Assignment, ExtraMount, Network, SandboxLimits, SandboxSpec, SandboxUsage};
pub use spawner::spawner_main;
