//! The result store: answers kept by key, and one execution for concurrent calls of the same key.
//!
//! Owns the tiers (memory, Redis, and whatever else keeps bytes), the policy of what memory keeps, the flights within one
//! platform and between several, the predictors of what will be asked for, and the simulator of policies and predictors. It must not know HTTP, SQL, manifests, sandboxes or how a result
//! is computed: it sees keys, results and times. Where to start: [`ResultStore`].

mod flight;
mod memory;
pub mod policy;
pub mod predict;
mod proof;
mod purges;
mod result;
mod shared_flight;
pub mod simulate;
mod store;
mod tiers;

pub use flight::{Flights, Follower, Joined, Leader};
pub use memory::{FunctionHoldings, MemoryPolicy, MemoryTier, MemoryTierOptions};
pub use proof::{Difference, Proof, ProofState, SHADOW_CALLS, SHADOW_RUNS, compare};
pub use purges::{Purge, Purges};
pub use result::{ResultKind, Standing, StoredResult};
pub use shared_flight::{SharedFlight, SharedLease};
pub use store::{ResultStore, ResultStoreOptions, Sought};
pub use tiers::{Entry, GuardedTier, LowerTier, RedisTier, Sealer, TierCounts, TierError, TierWriter, Unreadable};
