//! What the store promises, on both databases: every test here runs on SQLite and on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

mod functions;
mod helpers;
mod idempotency;
mod invocations;
mod logs;
mod opening;
mod results;
mod routing;
mod tenants;
mod usage;
