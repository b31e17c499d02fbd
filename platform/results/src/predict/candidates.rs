//! Candidates: arguments that the function's author names. Nothing is learnt here; they are believed
//! at first and judged as all others are.

use super::arguments::Arguments;
use super::proposal::{Proposal, Source};

/// Candidates that wait to be looked at, at most; the first ones count.
pub(super) const CANDIDATES_MAX: usize = 64;
/// Calls within which a candidate must be asked for.
const CALLS: u32 = 512;

/// A candidate of this rank: authors name the likeliest first.
pub(super) fn proposal(arguments: Arguments, rank: usize, until_us: u64) -> Proposal {
    let grade = (rank + 1).ilog2() as u8;
    Proposal { arguments, source: Source::Candidates, grade, calls: CALLS, until_us, from_us: 0 }
}
