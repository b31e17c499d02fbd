//! The result store: answers kept by key, and one execution for concurrent calls of the same key.
//!
//! Owns the memory tier, the single-flight table, the predictors of what will be asked for, and the simulator of policies. It must not know HTTP, manifests, sandboxes or how a result is computed:
//! it sees keys, results and times.

mod flight;
mod memory;
pub mod predict;
pub mod simulate;

pub use flight::{Flights, Follower, Joined, Leader};
pub use memory::{FunctionHoldings, MemoryTier, MemoryTierOptions, StoredResult};
