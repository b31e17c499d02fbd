//! Why a text is not an event.

/// An event that is refused: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct EventError {
    /// Byte offset into the text, from 0.
    pub offset: usize,
    /// What is wrong.
    pub kind: EventErrorKind,
}

/// What is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventErrorKind {
    /// Nothing but white space.
    #[error("the event is empty; JSON is expected, such as {{}}")]
    Empty,
    /// The text stops inside a value.
    #[error("the event ends too early")]
    UnexpectedEnd,
    /// A byte that cannot stand there.
    #[error("{expected} is expected here")]
    Unexpected {
        /// What could stand there, in words.
        expected: &'static str,
    },
    /// `NaN`, `Infinity` or `-Infinity`, which some writers emit.
    #[error("NaN and Infinity are not JSON")]
    NotANumber,
    /// A number that breaks JSON's grammar, such as `01` or `1.`.
    #[error("this number is not JSON: {reason}")]
    BadNumber {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A second member of the same name in one object.
    #[error("the object has the key {key:?} twice")]
    DuplicateKey {
        /// The key, unescaped and cut at 64 characters.
        key: String,
    },
    /// Text after the value.
    #[error("there is text after the end of the event")]
    TrailingText,
    /// Bytes that are not UTF-8.
    #[error("the event is not valid UTF-8")]
    InvalidUtf8,
    /// A byte order mark.
    #[error("the event begins with a byte order mark; send plain UTF-8")]
    ByteOrderMark,
    /// A control character inside a string.
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    /// A backslash that starts no escape.
    #[error("this escape is not JSON")]
    BadEscape,
    /// Too many arrays and objects inside each other.
    #[error("the event is nested more than {} deep", crate::limits::EVENT_DEPTH_MAX)]
    TooDeep,
    /// More text than lengths of 32 bits can describe.
    #[error("the event is too large")]
    TooLarge,
}

impl EventErrorKind {
    pub(super) const fn at(self, offset: usize) -> EventError {
        EventError { offset, kind: self }
    }
}
