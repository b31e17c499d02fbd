//! Strict JSON text to canonical bytes, in one pass and without building a tree.
//!
//! Equal events give equal bytes, different events different ones: object keys are sorted, white space is gone, strings
//! are unescaped, and every value carries its type, so that 1, 1.0, "1", true and null stay apart. What JSON leaves open
//! and runtimes answer differently is refused: duplicate keys, NaN, trailing text, invalid UTF-8.
//!
//! The encoding of a value, all lengths and counts 32-bit little-endian:
//! ```text
//! n t f                            null, true, false
//! i length digits                  an integer, as written (no leading zeroes exist in JSON; -0 is not 0)
//! d bits                           a number with a point or an exponent, as its 64-bit float
//! D length text                    such a number beyond the range of a float, as written
//! s length bytes                   a string, UTF-8; a lone surrogate as its three bytes of WTF-8
//! a body-length count values       an array
//! o body-length count (length key value)…    an object, by the bytes of its keys
//! P count (length pointer (- | + value))…    a projection; - where the event has nothing there
//! R count (length pointer kind… (- | + value))…   what a run read, with the first byte of each value on the way
//! ```

mod canonical;
mod error;
mod parse;

pub use canonical::CanonicalEvent;
pub use error::{EventError, EventErrorKind};

/// First bytes of encoded values; see the module's table.
pub(crate) mod tag {
    pub(crate) const NULL: u8 = b'n';
    pub(crate) const TRUE: u8 = b't';
    pub(crate) const FALSE: u8 = b'f';
    pub(crate) const INTEGER: u8 = b'i';
    pub(crate) const FLOAT: u8 = b'd';
    pub(crate) const LARGE_FLOAT: u8 = b'D';
    pub(crate) const STRING: u8 = b's';
    pub(crate) const ARRAY: u8 = b'a';
    pub(crate) const OBJECT: u8 = b'o';
    pub(crate) const PROJECTION: u8 = b'P';
    pub(crate) const READ: u8 = b'R';
    pub(crate) const ABSENT: u8 = b'-';
    pub(crate) const PRESENT: u8 = b'+';
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
