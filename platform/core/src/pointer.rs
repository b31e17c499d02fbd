//! JSON pointers (RFC 6901), as `cache.key` declares them.

/// A pointer to one place in an event: `""` is the whole event, `/from` a member, `/stops/0` an element.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonPointer {
    text: String,
    tokens: Vec<Token>,
}

/// One step of a pointer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    /// The member's name, unescaped.
    pub(crate) name: String,
    /// The element's index, where the name is one.
    pub(crate) index: Option<u32>,
}

/// A text that is not a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPointerError {
    /// It neither is empty nor begins with a slash.
    #[error("a JSON pointer begins with \"/\", such as \"/from\"")]
    NoSlash,
    /// A tilde that is followed neither by 0 nor by 1.
    #[error("in a JSON pointer \"~\" is written \"~0\" and \"/\" inside a name \"~1\"")]
    Tilde,
    /// It is longer than a pointer may be.
    #[error("a JSON pointer is at most {} bytes long", crate::limits::CACHE_KEY_POINTER_MAX_BYTES)]
    TooLong,
}

impl JsonPointer {
    /// Reads a pointer.
    ///
    /// # Errors
    /// The text does not follow RFC 6901 or is too long.
    pub fn parse(text: &str) -> Result<Self, JsonPointerError> {
        if text.len() > crate::limits::CACHE_KEY_POINTER_MAX_BYTES {
            return Err(JsonPointerError::TooLong);
        }
        if text.is_empty() {
            return Ok(Self { text: String::new(), tokens: Vec::new() });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(JsonPointerError::NoSlash);
        };
        let tokens = rest.split('/').map(Token::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The pointer as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, JsonPointerError> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('~') {
            name.push_str(&rest[..at]);
            name.push(match rest.as_bytes().get(at + 1) {
                Some(b'0') => '~',
                Some(b'1') => '/',
                _ => return Err(JsonPointerError::Tilde),
            });
            rest = &rest[at + 2..];
        }
        name.push_str(rest);
        // An index has no sign and no leading zero.
        let is_index =
            name == "0" || (!name.starts_with('0') && !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()));
        let index = if is_index { name.parse().ok() } else { None };
        Ok(Self { name, index })
    }
}

impl std::fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.text)
    }
}

impl std::str::FromStr for JsonPointer {
    type Err = JsonPointerError;
    fn from_str(text: &str) -> Result<Self, JsonPointerError> {
        Self::parse(text)
    }
}

impl serde::Serialize for JsonPointer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for JsonPointer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn unescapes() {
        for (text, names) in [
            ("", &[][..]),
            ("/", &[""]),
            ("/a/b", &["a", "b"]),
            ("/a~1b", &["a/b"]),
            ("/m~0n", &["m~n"]),
            ("/~01", &["~1"]),
            ("/é ~0~1", &["é ~/"]),
        ] {
            let pointer = JsonPointer::parse(text).unwrap();
            assert_eq!(pointer.as_str(), text);
            assert_eq!(pointer.tokens().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn knows_indices() {
        for (text, index) in [
            ("/0", Some(0)),
            ("/10", Some(10)),
            ("/01", None),
            ("/-", None),
            ("/+1", None),
            ("/99999999999", None),
            ("/", None),
        ] {
            assert_eq!(JsonPointer::parse(text).unwrap().tokens()[0].index, index, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_one() {
        assert_eq!(JsonPointer::parse("from"), Err(JsonPointerError::NoSlash));
        assert_eq!(JsonPointer::parse("/a~"), Err(JsonPointerError::Tilde));
        assert_eq!(JsonPointer::parse("/a~2"), Err(JsonPointerError::Tilde));
        assert_eq!(JsonPointer::parse(&format!("/{}", "a".repeat(512))), Err(JsonPointerError::TooLong));
    }
}
