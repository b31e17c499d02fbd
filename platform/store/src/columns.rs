//! From columns to typed values. What cannot be read is [`StoreError::Corrupt`], never a panic or a guess.

use std::str::FromStr;

use raas_core::TimestampUs;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row, Type};

use crate::StoreError;

/// Typed access to a row by position; every statement names its columns in order.
pub(crate) trait Columns {
    fn value<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, at: usize, what: &'static str) -> Result<T, StoreError>;

    /// A text that spells a typed value: an id, a name, a state.
    fn parsed<T: FromStr>(&self, at: usize, what: &'static str) -> Result<T, StoreError> {
        self.value::<&str>(at, what)?.parse().map_err(|_| StoreError::Corrupt { what })
    }

    fn parsed_option<T: FromStr>(&self, at: usize, what: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.value::<Option<&str>>(at, what)?;
        text.map(str::parse).transpose().map_err(|_| StoreError::Corrupt { what })
    }

    /// A number of a narrower type than the column's.
    fn number<T: TryFrom<i64>>(&self, at: usize, what: &'static str) -> Result<T, StoreError> {
        T::try_from(self.value::<i64>(at, what)?).map_err(|_| StoreError::Corrupt { what })
    }

    fn number_option<T: TryFrom<i64>>(&self, at: usize, what: &'static str) -> Result<Option<T>, StoreError> {
        let number = self.value::<Option<i64>>(at, what)?;
        number.map(T::try_from).transpose().map_err(|_| StoreError::Corrupt { what })
    }

    fn time(&self, at: usize) -> Result<TimestampUs, StoreError> {
        self.value(at, "time").map(TimestampUs)
    }

    fn time_option(&self, at: usize) -> Result<Option<TimestampUs>, StoreError> {
        Ok(self.value::<Option<i64>>(at, "time")?.map(TimestampUs))
    }

    fn json<T: DeserializeOwned>(&self, at: usize, what: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.value(at, what)?).map_err(|_| StoreError::Corrupt { what })
    }
}

impl Columns for AnyRow {
    fn value<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, at: usize, what: &'static str) -> Result<T, StoreError> {
        self.try_get(at).map_err(|_| StoreError::Corrupt { what })
    }
}

/// JSON text for a column.
pub(crate) fn to_json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Invalid { what })
}

/// A 64-bit count for a column; databases have no unsigned numbers.
pub(crate) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
