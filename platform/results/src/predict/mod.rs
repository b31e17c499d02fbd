//! Predictors: which arguments a function version will be asked for next, from those it was asked for.
//!
//! A [`Bank`] belongs to one function version. It is told of every call, says what is worth computing in spare time, and is told
//! what became of it. Everything here is pure: no tasks, no clocks; times are microseconds since one moment of the caller's
//! choice that recurrences take to be a Thursday's midnight (the Unix epoch). It must not know stores, sandboxes or HTTP.
//!
//! Key invariant: nothing is handed out to be computed on account of a source whose predictions of that grade have not come true
//! often enough, lately, to be worth it. Until then, and ever after, predictions are only remembered and checked.

mod arguments;
mod bank;
mod candidates;
mod events;
mod grid;
mod hot;
mod judge;
mod ledger;
mod markov;
mod moment;
mod numbered;
mod proposal;
mod recurrence;
mod scalar;
mod stride;
mod successors;
mod together;

#[cfg(test)]
mod tests;

pub use arguments::{Arguments, FIELDS_MAX, Shape};
pub use bank::{BANK_MAX_BYTES, Bank, Call, Found, Prediction, Resolution, Spare};
pub use judge::Economics;
pub use ledger::{Account, Ledger};
pub use moment::Layout;
pub use proposal::Source;
pub use scalar::{Kind, Scalar};
