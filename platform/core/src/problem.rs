//! Whose fault a problem is. Every error that leaves the platform carries one of these.

/// Who has to act for the problem to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The platform failed: its operator has to act, the caller may try again.
    Platform,
    /// The function's code failed: its author has to act.
    Function,
    /// A persistent helper failed: its publisher has to act.
    Helper,
    /// The request was wrong: the caller has to act.
    Caller,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Platform, Self::Function, Self::Helper, Self::Caller];

    /// The name used in problem bodies and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Helper => "helper",
            Self::Caller => "caller",
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn json_and_text_agree() {
        for origin in Origin::ALL {
            assert_eq!(serde_json::to_string(&origin).unwrap(), format!("\"{origin}\""));
        }
    }
}
