//! What predictors are told and what they say.

use super::arguments::Arguments;

/// Who predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A result that is asked for often and is about to expire.
    Hot,
    /// A field that moves in equal steps.
    Stride,
    /// A cell that is missing in a grid.
    Grid,
    /// What came after these calls before.
    Markov,
    /// What is asked for in the same moments.
    Together,
    /// What is asked for at this time of the day or the week.
    Recurrence,
    /// The function's author said so.
    Candidates,
}

impl Source {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Hot, Self::Stride, Self::Grid, Self::Markov, Self::Together, Self::Recurrence, Self::Candidates];

    /// Its word, for people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Stride => "stride",
            Self::Grid => "grid",
            Self::Markov => "markov",
            Self::Together => "together",
            Self::Recurrence => "recurrence",
            Self::Candidates => "candidates",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A call as predictors see it.
pub(super) struct Seen<'a> {
    pub arguments: &'a Arguments,
    /// Which call of the bank, from 0.
    pub number: u64,
    pub now_us: u64,
    /// When the result that it got, or left behind, expires.
    pub expires_us: u64,
}

/// Grades of a source: each is judged on its own.
pub(super) const GRADES: usize = 24;

/// What a predictor says.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub arguments: Arguments,
    pub source: Source,
    /// Which of the source's grades it is: predictions of one grade have equal prospects, as far as the source can tell.
    pub grade: u8,
    /// It has come to nothing where it was not asked for within so many calls.
    pub calls: u32,
    /// Or by this time.
    pub until_us: u64,
    /// It is not asked for before this: a result that expires earlier is no use.
    pub from_us: u64,
}

/// Proposals of one call at most; predictors come in the order in which they are trusted, and the rest is cut.
pub(super) const PROPOSALS_MAX: usize = 48;

/// Where predictors put what they say.
#[derive(Default)]
pub(super) struct Proposals {
    list: Vec<Proposal>,
}

impl Proposals {
    pub fn push(&mut self, proposal: Proposal) {
        if self.list.len() < PROPOSALS_MAX {
            self.list.push(proposal);
        }
    }

    pub fn drain(&mut self) -> std::vec::Drain<'_, Proposal> {
        self.list.drain(..)
    }
}

/// Which of the classes a share falls into: 3 from 85 %, 2 from 60 %, 1 from 35 %, else 0.
pub(super) fn share_class(share: f64) -> u8 {
    u8::from(share >= 0.85) + u8::from(share >= 0.6) + u8::from(share >= 0.35)
}
