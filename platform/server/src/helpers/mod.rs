//! Helper instances on this platform: how a call of a method gets to a replica, and how instances are made and changed.
//!
//! A replica is an instance of the scheduler like any function's, and a method's result is kept, coalesced and metered like a
//! function's: to the data path a method is a version with a key, a time limit and a pool that all methods share. What an
//! instance may look like and what state it may write is the business of `raas_helpers`. It must not know HTTP.

mod call;
mod keys;
mod manager;
mod meter;
mod precompute;
mod publish;
mod route;
mod switchboard;
mod training;

pub use call::{MethodCall, MethodRefused, call_method};
pub use keys::{KeyLeases, KeyedLease};
pub use manager::{HelperFolders, HelperManager, InstanceChange, ManageError, NewInstance};
pub use publish::{PublishedHelper, publish};
pub use route::HelperRoute;
pub use switchboard::{RuntimeCalls, Switchboard};
