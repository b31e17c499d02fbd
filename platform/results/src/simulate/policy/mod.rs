//! Policies: what is kept. One file each, named as its authors named it.

mod clairvoyant;
mod fifo;
mod greedy_dual;
mod list;
mod lru;
mod raas;
mod s3_fifo;
mod sieve;
mod w_tiny_lfu;

use super::trace::{Request, Trace};
use greedy_dual::{Frequency, GreedyDual};

/// A store under simulation.
pub trait Policy {
    /// Serves a request and says whether its result was there. Where it was not, decides whether to keep it.
    fn serve(&mut self, request: &Request) -> bool;

    /// Whether a key's result is held. Asking changes nothing: no count, no order.
    fn holds(&self, key: u64) -> bool;

    /// Takes in a result that nobody has asked for yet, in the standing of one that was asked for once. Does nothing where
    /// it is held. `request.next` says when it will be asked for, as in [`Policy::serve`].
    fn place(&mut self, request: &Request) {
        if !self.holds(request.key) {
            self.serve(request);
        }
    }

    /// What is held now, in the unit of the requests' sizes.
    fn held(&self) -> u64;
}

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// Least recently used.
    Lru,
    /// First in, first out.
    Fifo,
    /// S3-FIFO (Yang et al., SOSP 2023).
    S3Fifo,
    /// SIEVE (Zhang et al., NSDI 2024).
    Sieve,
    /// W-TinyLFU (Einziger et al., ACM ToS 2017), as moka has it.
    WTinyLfu,
    /// Greedy-dual-size (Cao and Irani, USENIX Symposium on Internet Technologies and Systems 1997): it knows what results cost.
    Gds,
    /// Greedy-dual-size-frequency (Cherkasova, HP Laboratories 1998): it knows what they cost and how often they were asked for.
    Gdsf,
    /// The store's own ([`crate::policy`]).
    Raas,
    /// MIN (Belady, IBM Systems Journal 1966): it knows the future. The best there is where all sizes are equal.
    Clairvoyant,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Lru,
        Self::Fifo,
        Self::S3Fifo,
        Self::Sieve,
        Self::WTinyLfu,
        Self::Gds,
        Self::Gdsf,
        Self::Raas,
        Self::Clairvoyant,
    ];

    /// Its name, for people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Fifo => "fifo",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::WTinyLfu => "w-tinylfu",
            Self::Gds => "gds",
            Self::Gdsf => "gdsf",
            Self::Raas => "raas",
            Self::Clairvoyant => "min",
        }
    }

    /// An empty store of this capacity.
    #[must_use]
    pub fn build(self, capacity: u64, trace: &Trace) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::new(lru::Lru::new(capacity)),
            Self::Fifo => Box::new(fifo::Fifo::new(capacity)),
            Self::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity)),
            Self::Sieve => Box::new(sieve::Sieve::new(capacity)),
            Self::WTinyLfu => Box::new(w_tiny_lfu::WTinyLfu::new(capacity)),
            Self::Gds => Box::new(GreedyDual::new(capacity, Frequency::Ignored)),
            Self::Gdsf => Box::new(GreedyDual::new(capacity, Frequency::Counts)),
            Self::Raas => Box::new(raas::Raas::new(capacity)),
            Self::Clairvoyant => Box::new(clairvoyant::Clairvoyant::new(capacity, trace.requests().len())),
        }
    }
}
