//! The whole platform from the outside: the real binary, real sandboxes, real HTTP. One module a theme.
//!
//! Every assertion is something that a user would notice. The harness gives each theme a platform of its own, each test a
//! tenant of its own, and fails on whatever a platform leaves behind. Needs root, or a machine that lets users make
//! namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod analyze;
mod chaos;
mod deploys;
mod freshness;
mod harness;
mod helpers;
mod journey;
mod observability;
mod precompute;
mod proof;
mod results;
mod runtimes;
mod scheduler;
mod snapshot;
mod tenants;
mod tiers;
mod walls;
