//! Everything durable: tenants, keys, functions, idempotency, asynchronous invocations, logs and usage.
//!
//! Owns the schema (`migrations/`) and is the only crate that speaks SQL, to SQLite or Postgres in the same words. Its
//! methods take and return typed values, name their resource first (`function_deploy`), are given the time by the caller,
//! and end by a deadline. Its invariant: whatever a method does is one transaction.
//!
//! It must not know HTTP, sandboxes or caches, and it is not on the path of a call: the gateway answers from the
//! snapshot that it builds from [`Store::routing_load`], and what was used arrives from the journal in batches. Only who is
//! about to compute a result that is not in memory may ask [`Store::result_get`] first.
//!
//! Where to start: [`Store`] for opening, then the file named like the resource.

mod aliases;
mod columns;
mod deploys;
mod error;
mod functions;
mod helper_instances;
mod helper_leases;
mod helper_state;
mod helper_training;
mod helper_usage;
mod helpers;
mod idempotency;
mod invocations;
mod keys;
mod logs;
mod precompute_books;
mod proofs;
mod results;
mod routing;
mod store;
mod tenants;
mod usage_append;
mod usage_block;
mod usage_list;
mod usage_totals;
mod values;
mod versions;

pub use aliases::{ALIAS_TARGETS_MAX, AliasRow, AliasTarget, check_alias_name};
pub use deploys::{DeployRecord, Deployed};
pub use error::StoreError;
pub use functions::FunctionRow;
pub use helper_instances::{HelperInstanceRow, NewHelperInstance};
pub use helper_leases::KeyLease;
pub use helper_state::{StateCommit, StateEntry, StateForm, StateKey, StateWrite};
pub use helper_training::{TrainingOutcome, TrainingRow, TrainingRun};
pub use helper_usage::{HelperMeters, HelperUsageRow};
pub use helpers::{HelperPublish, HelperPublished, HelperRow, HelperVersionQuery, HelperVersionRow};
pub use idempotency::{IdempotencyBegin, IdempotencyReservation, IdempotentRequest, StoredResponse};
pub use invocations::{ClaimedInvocation, Enqueued, InvocationOutcome, InvocationRow, InvocationState, NewInvocation};
pub use keys::{KeyRow, NewKey};
pub use logs::{LogCursor, LogFilter, LogLine, LogRow};
pub use precompute_books::PrecomputeBooksRow;
pub use proofs::ProofRow;
pub use results::ResultEntry;
pub use routing::RoutingRows;
pub use store::{Backend, Store, StoreOptions};
pub use tenants::TenantRow;
pub use usage_append::Appended;
pub use usage_list::{UsageCursor, UsageFilter};
pub use usage_totals::{UsageDimension, UsageTotals};
pub use versions::VersionRow;
