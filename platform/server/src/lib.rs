//! The platform: gateway, scheduler, metering and everything that holds them together, in one process.
//!
//! Start reading at `platform::run` for what there is, and at `invoke::Invoker::invoke` for what a call goes through.

mod admission;
mod app;
mod async_invocations;
pub mod bench;
pub mod cli;
mod deploy;
mod detached;
mod durations;
pub mod gateway;
mod helpers;
mod invoke;
mod logs;
mod metering;
pub mod platform;
mod precompute;
mod proof;
mod results;
mod routing;
mod runtimes;
mod scheduler;
pub mod settings;
mod trace;
