//! The precompute engine: results are computed before anybody asks, in what the machine has to spare.
//!
//! Which events are worth it is decided by `raas_results::predict`: each version that wants it has a [`Bank`] of predictors there.
//! Here the bank is told of every call, its predictions are run in sandboxes that give way to everything else and within the
//! version's share of a processor, and what became of them is told to the bank, which keeps the books.
//!
//! Only code that reaches nothing outside its sandbox is run ahead: nobody asked for what it might do there.
//!
//! [`Bank`]: raas_results::predict::Bank

mod cell;
mod engine;
mod events;

pub use cell::{BankBook, BankCell};
pub use engine::{Observation, Precomputer};
