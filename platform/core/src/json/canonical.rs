//! An event in its canonical form, and the places that pointers name in it.

use super::error::EventError;
use super::{parse, tag};
use crate::pointer::{JsonPointer, Token};

/// An event that was read strictly; see the module above for its encoding.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalEvent {
    bytes: Vec<u8>,
}

impl CanonicalEvent {
    /// Reads an event.
    ///
    /// # Errors
    /// The text is not JSON as the module above reads it; the error says what is wrong and at which byte.
    pub fn parse(text: &[u8]) -> Result<Self, EventError> {
        Ok(Self { bytes: parse::encode(text)? })
    }

    /// The canonical bytes of the whole event.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical bytes of what the pointers name, in their order. Absent is not null.
    #[must_use]
    pub fn project(&self, pointers: &[JsonPointer]) -> Vec<u8> {
        self.projected(tag::PROJECTION, pointers, |_, _| {})
    }

    /// The canonical bytes of what a run read: like [`CanonicalEvent::project`], and with the kind of everything that was passed on the
    /// way, so that what is not there is not there in the same way: `{}`, `{"a":null}` and `{"a":{}}` differ at `/a/b`.
    #[must_use]
    pub fn project_read(&self, pointers: &[JsonPointer]) -> Vec<u8> {
        self.projected(tag::READ, pointers, |pointer, out| {
            let mut value: Option<&[u8]> = Some(&self.bytes);
            for token in pointer.tokens() {
                let Some(passed) = value else { break };
                out.push(passed.first().copied().unwrap_or(tag::ABSENT));
                value = step(passed, token);
            }
        })
    }

    /// What the pointers name, each after what `way` says of it.
    fn projected(&self, kind: u8, pointers: &[JsonPointer], way: impl Fn(&JsonPointer, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(5 + pointers.iter().map(|pointer| pointer.as_str().len() + 32).sum::<usize>());
        out.push(kind);
        out.extend_from_slice(&(pointers.len() as u32).to_le_bytes());
        for pointer in pointers {
            out.extend_from_slice(&(pointer.as_str().len() as u32).to_le_bytes());
            out.extend_from_slice(pointer.as_str().as_bytes());
            way(pointer, &mut out);
            match self.find(pointer) {
                Some(value) => {
                    out.push(tag::PRESENT);
                    out.extend_from_slice(value);
                }
                None => out.push(tag::ABSENT),
            }
        }
        out
    }

    /// The text, number or truth value that a pointer names, as text; nothing where there is none of these.
    #[must_use]
    pub fn scalar_text(&self, pointer: &JsonPointer) -> Option<String> {
        let value = self.find(pointer)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        match *value.first()? {
            tag::TRUE => Some("true".to_owned()),
            tag::FALSE => Some("false".to_owned()),
            tag::INTEGER | tag::LARGE_FLOAT | tag::STRING => text(value.get(5..)?),
            tag::FLOAT => {
                let bits = u64::from_le_bytes(value.get(1..9)?.try_into().ok()?);
                Some(f64::from_bits(bits).to_string())
            }
            _ => None,
        }
    }

    /// The encoded value that a pointer names.
    fn find(&self, pointer: &JsonPointer) -> Option<&[u8]> {
        let mut value: &[u8] = &self.bytes;
        for token in pointer.tokens() {
            value = step(value, token)?;
        }
        value.get(..value_length(value)?)
    }
}

impl std::fmt::Debug for CanonicalEvent {
    /// The size only: events are the caller's and stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CanonicalEvent({} bytes)", self.bytes.len())
    }
}

/// One step down: the member or element that `token` names, with whatever follows it.
fn step<'a>(value: &'a [u8], token: &Token) -> Option<&'a [u8]> {
    let count = u32_at(value, 5);
    match *value.first()? {
        tag::OBJECT => {
            let mut rest = value.get(9..)?;
            for _ in 0..count? {
                let key_length = u32_at(rest, 0)? as usize;
                let key = rest.get(4..4 + key_length)?;
                rest = rest.get(4 + key_length..)?;
                match key.cmp(token.name.as_bytes()) {
                    std::cmp::Ordering::Equal => return Some(rest),
                    std::cmp::Ordering::Greater => return None,
                    std::cmp::Ordering::Less => rest = rest.get(value_length(rest)?..)?,
                }
            }
            None
        }
        tag::ARRAY => {
            let index = token.index.filter(|index| count.is_some_and(|count| *index < count))?;
            let mut rest = value.get(9..)?;
            for _ in 0..index {
                rest = rest.get(value_length(rest)?..)?;
            }
            Some(rest)
        }
        _ => None,
    }
}

/// How long the encoded value at the front is.
fn value_length(value: &[u8]) -> Option<usize> {
    Some(match *value.first()? {
        tag::INTEGER | tag::LARGE_FLOAT | tag::STRING => 5 + u32_at(value, 1)? as usize,
        tag::FLOAT => 9,
        tag::ARRAY | tag::OBJECT => 9 + u32_at(value, 1)? as usize,
        _ => 1,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
