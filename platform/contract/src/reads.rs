//! What code in a sandbox is watched and disturbed for: whether its result depends on more than its event, and on which parts
//! of it. Plain values; what follows from them is decided elsewhere.

use serde::{Deserialize, Serialize};

/// Pointers that one call may be said to have read; more count as the whole event.
const POINTERS_MAX: usize = 64;

/// How a sandbox differs from others, so that code which looks at more than its event gives itself away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckInit {
    /// By how much its clock is wrong, seconds.
    pub clock_shift_s: i64,
    /// Its time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Whether the runtime tells what the handler reads of each event.
    pub record_reads: bool,
}

/// What a handler read of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Reads {
    /// JSON pointers of the smallest parts whose value or presence it looked at.
    #[serde(default)]
    pub pointers: Vec<String>,
    /// Whether it looked at the event as a whole.
    #[serde(default)]
    pub whole: bool,
}

impl Reads {
    /// Reads the frame. What is no sensible one counts as the whole event: that is always right.
    pub(crate) fn parse(payload: &[u8]) -> Self {
        let whole = Self { pointers: Vec::new(), whole: true };
        // A list would be read as the fields in their order, and an empty one as nothing read.
        if payload.trim_ascii_start().first() != Some(&b'{') {
            return whole;
        }
        let reads: Self = serde_json::from_slice(payload).unwrap_or_else(|_| whole.clone());
        if reads.whole || reads.pointers.len() > POINTERS_MAX { whole } else { reads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_the_whole_event() {
        let reads = Reads::parse(br#"{"pointers":["/a","/b/0"],"whole":false}"#);
        assert_eq!((reads.pointers.len(), reads.whole), (2, false));
        assert_eq!(Reads::parse(br#"{"pointers":[]}"#), Reads::default());
        let many = format!("{{\"pointers\":[{}]}}", vec!["\"/a\""; POINTERS_MAX + 1].join(","));
        for payload in ["", "[]", "{\"pointers\":1}", r#"{"pointers":["/a"],"whole":true}"#, &many] {
            assert_eq!(Reads::parse(payload.as_bytes()), Reads { pointers: vec![], whole: true }, "{payload}");
        }
    }
}
