//! Showing that results depend on nothing but the event: what is known of each version, and running sampled calls again.
//!
//! When to run what again, and what follows, is decided by `raas_results::Proof`; here it is run, in sandboxes of their own that
//! give way to everything else, and what follows is done: a version that differs is quarantined and its results are dropped.

mod book;
mod projection;
mod prover;

pub use book::{ProofBook, ProofCell};
pub use projection::{Learnt, Parts, Projections};
pub use prover::{Prover, ProverTask, Sampled};
