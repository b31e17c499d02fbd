//! Function names: they stand in URLs, metrics and log lines, so they are kept plain.

use crate::limits::FUNCTION_NAME_MAX_BYTES;

/// A function's name: 1 to 64 of `a-z`, `0-9` and `-`, beginning with a letter and not ending with `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionName(String);

/// A text that is not a function name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a function name has 1 to {FUNCTION_NAME_MAX_BYTES} characters of a-z, 0-9 and \"-\", begins with a letter and does not end with \"-\""
)]
pub struct FunctionNameError;

impl FunctionName {
    /// Reads a name.
    ///
    /// # Errors
    /// The text breaks one of the rules above.
    pub fn parse(text: &str) -> Result<Self, FunctionNameError> {
        let plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let starts_with_letter = text.starts_with(|first: char| first.is_ascii_lowercase());
        if plain && starts_with_letter && !text.ends_with('-') && text.len() <= FUNCTION_NAME_MAX_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(FunctionNameError)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for FunctionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for FunctionName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for FunctionName {
    type Err = FunctionNameError;
    fn from_str(text: &str) -> Result<Self, FunctionNameError> {
        Self::parse(text)
    }
}

impl serde::Serialize for FunctionName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for FunctionName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
