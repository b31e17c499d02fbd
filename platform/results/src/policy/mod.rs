//! The store's own policy: what is kept, so that a budget of bytes saves as much computing as it can.
//!
//! Owns the keyed container that the memory tier and the simulator put their values in. It must not know what a value or a tenant
//! is, nor the time: it sees keys, sizes, costs and the order of requests. Not for several threads at once: whoever shares it
//! puts a lock around it.
//!
//! **Worth.** A result is worth what computing it takes, for each byte that it takes, times how often it was asked for; it ranks by
//! its worth on top of an inflation that follows the ranks of what goes out, so that what was worth something long ago falls
//! behind. That is greedy-dual-size-frequency (Cao and Irani, USENIX Symposium on Internet Technologies and Systems 1997;
//! Cherkasova, HP Laboratories 1998), with four differences:
//!
//! - *Admission.* What comes has to rank at least as high as all that would have to go for it (as in W-TinyLFU; Einziger et al.,
//!   ACM Transactions on Storage 2017). A scan of cheap results passes by. There is no window in front of that, as W-TinyLFU has:
//!   on public traces one of 1 % and of 5 % of the capacity saved no more, and mostly less.
//! - *Ghosts.* What went out or did not come in leaves its hash and how often it was asked for behind (as in ARC; Megiddo and
//!   Modha, FAST 2003), and comes back with what is left of that: the more inflation it has been away for, the less (`standing.rs`).
//! - *Pace.* How fast the inflation follows what goes out decides between recency and frequency: at once is the classic; never
//!   keeps what is worth most however long ago, which is best for loops (`standing.rs`). Which pace is best is found while it runs:
//!   small copies of the policy, one for each pace, serve a sample of the same keys, and the store takes the pace of the one that
//!   saved most lately (`tuner.rs`; miniature simulations, Waldspurger et al., USENIX ATC 2017).
//! - *Shares.* Each tenant has ranks and an inflation of its own, and a share that others cannot push it out of (`tenants.rs`).

mod cost_aware;
mod ghosts;
mod shelf;
mod standing;
mod tenants;
mod tuner;

#[cfg(test)]
mod tests;

pub use cost_aware::{Attributes, CostAware, CostAwareOptions, Evicted, Inserted};
