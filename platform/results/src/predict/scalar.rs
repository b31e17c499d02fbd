//! Scalars: the values of an event, what they are, and where they lie on their number lines.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::moment::Layout;

/// A float is on the number line where it is a whole number of these.
const FLOAT_PARTS: f64 = 1e6;
/// Whole numbers up to here are exact as floats.
const FLOAT_EXACT: f64 = 9_007_199_254_740_992.0;

/// One value of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Null, an empty object or an empty array: its kind says which.
    Nothing,
    /// True or false.
    Bool(bool),
    /// A number without point; also a date or time, as its number.
    Integer(i64),
    /// A number without point above 2^63.
    Unsigned(u64),
    /// A number with a point.
    Float(f64),
    /// Text.
    Text(Arc<str>),
}

/// What a scalar is in its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`.
    Null,
    /// `{}`.
    EmptyObject,
    /// `[]`.
    EmptyArray,
    /// `true` or `false`.
    Bool,
    /// A number without point.
    Integer,
    /// One above 2^63.
    Unsigned,
    /// A number with a point.
    Float,
    /// Text.
    Text,
    /// Text that is a date or a time.
    Moment(Layout),
}

impl Kind {
    /// Where a scalar of this kind lies on its number line, if it has one: an integer at itself, a float at its millionths, a
    /// moment at its units.
    #[must_use]
    pub fn position(&self, scalar: &Scalar) -> Option<i64> {
        match scalar {
            Scalar::Integer(number) => Some(*number),
            Scalar::Float(number) => {
                let parts = (number * FLOAT_PARTS).round();
                if parts.abs() >= FLOAT_EXACT {
                    return None;
                }
                // A quotient is rounded as a written number is: what comes back is what a caller would send.
                let parts = parts as i64;
                (parts as f64 / FLOAT_PARTS).to_bits().eq(&number.to_bits()).then_some(parts)
            }
            Scalar::Nothing | Scalar::Bool(_) | Scalar::Unsigned(_) | Scalar::Text(_) => None,
        }
    }

    /// The scalar at a place on the number line.
    #[must_use]
    pub fn scalar(&self, position: i64) -> Option<Scalar> {
        match self {
            Self::Integer => Some(Scalar::Integer(position)),
            Self::Moment(layout) => layout.write(position).map(|_| Scalar::Integer(position)),
            Self::Float => {
                ((position as f64).abs() < FLOAT_EXACT).then(|| Scalar::Float(position as f64 / FLOAT_PARTS))
            }
            Self::Null | Self::EmptyObject | Self::EmptyArray | Self::Bool | Self::Unsigned | Self::Text => None,
        }
    }
}

/// Bytes that a scalar takes, about.
pub(super) fn scalar_bytes(scalar: &Scalar) -> usize {
    size_of::<Scalar>() + if let Scalar::Text(text) = scalar { text.len() } else { 0 }
}

pub(super) fn hash_scalar(scalar: &Scalar, hasher: &mut DefaultHasher) {
    match scalar {
        Scalar::Nothing => hasher.write_u8(0),
        Scalar::Bool(bool) => hasher.write_u8(1 + u8::from(*bool)),
        Scalar::Integer(number) => hasher.write_i64(*number),
        Scalar::Unsigned(number) => hasher.write_u64(*number),
        Scalar::Float(number) => hasher.write_u64(number.to_bits()),
        Scalar::Text(text) => text.hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn floats_step_as_written() {
        for (from, by, to) in [(0.1, 100_000, 0.2), (0.2, 100_000, 0.3), (-1.25, 250_000, -1.0)] {
            let at = Kind::Float.position(&Scalar::Float(from)).unwrap();
            assert_eq!(Kind::Float.scalar(at + by), Some(Scalar::Float(to)));
        }
        assert_eq!(Kind::Float.position(&Scalar::Float(1.0 / 3.0)), None);
        assert_eq!(Kind::Float.position(&Scalar::Float(-0.0)), None);
    }
}
