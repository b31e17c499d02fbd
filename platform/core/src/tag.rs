//! Tags: names that authors give to results, so that those which a change of the world makes wrong can be dropped together.
//!
//! A manifest declares templates (`cache.tags = ["airport:{/from}"]`); a call's event fills in what the pointers in braces
//! name; results are purged by the tag that comes out.

use crate::id::TenantId;
use crate::json::CanonicalEvent;
use crate::key::update_with_length;
use crate::limits;
use crate::pointer::{JsonPointer, JsonPointerError};

/// One tag of one tenant, hashed: 64 bits of BLAKE3. Two tags that share one are dropped together, which costs a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of this text. Tags of different tenants differ.
    #[must_use]
    pub fn of(tenant: TenantId, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        update_with_length(&mut hasher, b"raas tag 1");
        update_with_length(&mut hasher, tenant.as_bytes());
        update_with_length(&mut hasher, text.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }
}

/// A tag with places for parts of the event, such as `airport:{/from}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Pointer(JsonPointer),
}

/// A text that is no template of a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagTemplateError {
    /// It has no characters.
    #[error("a tag has at least one character")]
    Empty,
    /// It is longer than a tag may be.
    #[error("a tag is at most {} bytes long", limits::CACHE_TAG_MAX_BYTES)]
    TooLong,
    /// A brace that is not closed, or not opened.
    #[error("in a tag \"{{\" opens a JSON pointer and \"}}\" closes it, such as \"airport:{{/from}}\"")]
    Brace,
    /// What is in braces is no pointer.
    #[error(transparent)]
    Pointer(#[from] JsonPointerError),
}

impl TagTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TagTemplateError`].
    pub fn parse(text: &str) -> Result<Self, TagTemplateError> {
        if text.is_empty() {
            return Err(TagTemplateError::Empty);
        }
        if text.len() > limits::CACHE_TAG_MAX_BYTES {
            return Err(TagTemplateError::TooLong);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, after) = rest.split_once('{').map_or((rest, None), |(plain, after)| (plain, Some(after)));
            if plain.contains('}') {
                return Err(TagTemplateError::Brace);
            }
            if !plain.is_empty() {
                parts.push(Part::Text(plain.to_owned()));
            }
            let Some(after) = after else { break };
            let (pointer, after) = after.split_once('}').ok_or(TagTemplateError::Brace)?;
            parts.push(Part::Pointer(JsonPointer::parse(pointer)?));
            rest = after;
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts of the event that it is made of.
    pub fn pointers(&self) -> impl Iterator<Item = &JsonPointer> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Pointer(pointer) => Some(pointer),
        })
    }

    /// The tag of a call with this event; nothing where the event has no text, number or truth value at a pointer.
    #[must_use]
    pub fn of(&self, event: &CanonicalEvent, tenant: TenantId) -> Option<Tag> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Pointer(pointer) => text.push_str(&event.scalar_text(pointer)?),
            }
        }
        Some(Tag::of(tenant, &text))
    }
}

impl serde::Serialize for TagTemplate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for TagTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_event_fills_a_template() {
        let tenant = TenantId::from_bytes([1; 16]);
        let tag = |template: &str, event: &str| {
            let event = CanonicalEvent::parse(event.as_bytes()).unwrap();
            TagTemplate::parse(template).unwrap().of(&event, tenant)
        };
        let plain = |text: &str| Some(Tag::of(tenant, text));
        assert_eq!(tag("airports", "1"), plain("airports"));
        assert_eq!(tag("airport:{/from}", r#"{"from":"JFK"}"#), plain("airport:JFK"));
        assert_eq!(tag("{/a}-{/b/0}", r#"{"a":-7,"b":[true]}"#), plain("-7-true"));
        assert_eq!(tag("{/a}", r#"{"a":0.5}"#), plain("0.5"));
        assert_eq!(tag("airport:{/from}", r#"{"to":"JFK"}"#), None, "what is not there tags nothing");
        assert_eq!(tag("airport:{/from}", r#"{"from":["JFK"]}"#), None);
        assert_ne!(plain("a"), Some(Tag::of(TenantId::from_bytes([2; 16]), "a")), "tenants' tags are apart");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, error) in [
            ("", TagTemplateError::Empty),
            ("a}", TagTemplateError::Brace),
            ("a{/b", TagTemplateError::Brace),
            ("{from}", TagTemplateError::Pointer(JsonPointerError::NoSlash)),
        ] {
            assert_eq!(TagTemplate::parse(text), Err(error), "{text}");
        }
        assert_eq!(TagTemplate::parse(&"x".repeat(300)), Err(TagTemplateError::TooLong));
    }
}
