//! What every test stands on: platforms, clients, functions, waits, and the search for leftovers.

mod client;
mod function;
mod http;
mod leftovers;
mod platform;
mod postgres;
mod processes;
mod redis;
mod shared;
mod wait;
mod wall_clock;

pub use client::{Client, Reply};
pub use function::Function;
pub use http::{closed_by_peer, invocation, last_answer, send, send_and_leave};
pub use platform::{DataFolder, Options, Platform, binary, mode};
pub use postgres::PostgresServer;
pub use processes::{kill, marked, sandbox_processes, spawner_of};
pub use redis::Redis;
pub use shared::shared;
pub use wait::{in_parallel, wait_for};
pub use wall_clock::WallClock;

use std::time::Duration;

/// Long enough for anything that works, on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);
