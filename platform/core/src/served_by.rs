//! How an answer was come by. The names are part of the outside (`Raas-Served-By`), the codes part of the journal.

/// What served an answered call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ServedBy {
    /// The function ran for this call.
    Computed = 0,
    /// A kept result, computed for an earlier call.
    Hit = 1,
    /// The result of an equal call that was under way.
    Coalesced = 2,
    /// A kept result that was computed before anyone asked.
    Precomputed = 3,
    /// A kept result past its time, served while a fresh one is computed.
    Stale = 4,
}

impl ServedBy {
    /// All of them, in order of their codes.
    pub const ALL: [Self; 5] = [Self::Computed, Self::Hit, Self::Coalesced, Self::Precomputed, Self::Stale];

    /// The name used in headers, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Hit => "hit",
            Self::Coalesced => "coalesced",
            Self::Precomputed => "precomputed",
            Self::Stale => "stale",
        }
    }

    /// The code written in the journal; never reused for another meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The one with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether the function ran for this very call, so that its time is charged to it.
    #[must_use]
    pub const fn is_computed(self) -> bool {
        matches!(self, Self::Computed)
    }
}

impl std::fmt::Display for ServedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no way of serving.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("served_by is one of computed, hit, coalesced, precomputed, stale")]
pub struct ServedByError;

impl std::str::FromStr for ServedBy {
    type Err = ServedByError;
    fn from_str(text: &str) -> Result<Self, ServedByError> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(ServedByError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_and_codes_round_trip() {
        for (code, one) in ServedBy::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(one.code()), code);
            assert_eq!(ServedBy::from_code(one.code()), Some(one));
            assert_eq!(one.as_str().parse(), Ok(one));
            assert_eq!(serde_json::to_string(&one).unwrap(), format!("\"{one}\""));
        }
        assert_eq!(ServedBy::from_code(5), None);
        assert_eq!("HIT".parse::<ServedBy>(), Err(ServedByError));
    }
}
