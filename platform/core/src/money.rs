//! Money: integer minor units with their currency, prices at high precision, and one rounding between the two.
//!
//! No float ever holds an amount. A price is a [`Rate`] (1e-12 of a currency unit); what usage costs is a
//! [`PreciseAmount`], in which requests and memory-time are exact; an invoice line is [`Money`], reached by rounding once,
//! half to even. All arithmetic is checked.

use std::fmt;
use std::str::FromStr;

mod currency;
mod precise;

pub use currency::Currency;
pub use precise::PreciseAmount;

/// Arithmetic that has no answer, or a text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result is larger than the type holds.
    #[error("the amount is too large")]
    Overflow,
    /// Two currencies in one sum.
    #[error("cannot combine {left} with {right}")]
    CurrencyMismatch {
        /// The currency on the left.
        left: Currency,
        /// The currency on the right.
        right: Currency,
    },
    /// Not one of the currencies in use.
    #[error("{0:?} is not a currency: expected an ISO 4217 code such as USD")]
    UnknownCurrency(String),
    /// Not a price.
    #[error("{0:?} is not a price: expected digits with at most 12 decimals, such as \"0.0000166667\"")]
    BadRate(String),
}

/// An amount in the smallest unit that its currency is paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units: cents for USD, yen for JPY.
    pub minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// An amount of minor units.
    #[must_use]
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum.
    ///
    /// # Errors
    /// The currencies differ, or the sum is too large.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// The difference.
    ///
    /// # Errors
    /// The currencies differ, or the difference is too large.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    /// The product with a count.
    ///
    /// # Errors
    /// The product is too large.
    pub fn checked_mul(self, times: i64) -> Result<Self, MoneyError> {
        Ok(Self::new(self.minor.checked_mul(times).ok_or(MoneyError::Overflow)?, self.currency))
    }

    /// The amount with its sign turned.
    ///
    /// # Errors
    /// The amount is the least one.
    pub fn checked_neg(self) -> Result<Self, MoneyError> {
        Ok(Self::new(self.minor.checked_neg().ok_or(MoneyError::Overflow)?, self.currency))
    }

    fn combine(self, other: Self, operation: impl Fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        self.currency.same_as(other.currency)?;
        Ok(Self::new(operation(self.minor, other.minor).ok_or(MoneyError::Overflow)?, self.currency))
    }
}

impl fmt::Display for Money {
    /// `$12.34`, `-€0.05`, `¥120`, `CHF 3.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = u32::from(self.currency.exponent());
        let unit = 10u64.pow(exponent);
        let magnitude = self.minor.unsigned_abs();
        let sign = if self.minor < 0 { "-" } else { "" };
        write!(f, "{sign}{}{}", self.currency.prefix(), magnitude / unit)?;
        if exponent > 0 {
            write!(f, ".{:0width$}", magnitude % unit, width = exponent as usize)?;
        }
        Ok(())
    }
}

/// The price of one unit of something, in 1e-12 of a currency unit; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Rate(i128);

impl Rate {
    /// Decimals that a price may have.
    pub const DECIMALS: usize = 12;
    /// Parts in one currency unit.
    pub(crate) const PER_UNIT: i128 = 1_000_000_000_000;
    /// The highest price: a million million currency units.
    const MAX: i128 = Self::PER_UNIT * 1_000_000_000_000;

    /// A price of nothing.
    pub const ZERO: Self = Self(0);

    /// The price of so many 1e-12 parts of a currency unit.
    #[must_use]
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico as i128)
    }

    /// The price in 1e-12 parts of a currency unit.
    #[must_use]
    pub const fn as_pico(self) -> i128 {
        self.0
    }

    /// What `quantity` costs where the price is for `per` of it; exact where the amount's unit allows, else rounded
    /// half to even there. For memory-time: `quantity` = MiB x microseconds, `per` = 1024 x 1,000,000 (a GB-second).
    ///
    /// # Errors
    /// The amount is too large.
    pub fn cost_of(
        self,
        quantity: u128,
        per: std::num::NonZeroU64,
        currency: Currency,
    ) -> Result<PreciseAmount, MoneyError> {
        PreciseAmount::of(self, quantity, per, currency)
    }
}

impl FromStr for Rate {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let bad = || MoneyError::BadRate(text.chars().take(64).collect());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(decimals) || decimals.len() > Self::DECIMALS || whole.len() > 13 {
            return Err(bad());
        }
        let whole: i128 = whole.parse().map_err(|_| bad())?;
        let parts: i128 = format!("{decimals:0<width$}", width = Self::DECIMALS).parse().map_err(|_| bad())?;
        let pico = whole * Self::PER_UNIT + parts;
        if pico > Self::MAX {
            return Err(bad());
        }
        Ok(Self(pico))
    }
}

impl fmt::Display for Rate {
    /// The shortest decimal that reads back as this price: `0.0000166667`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{}.{:012}", self.0 / Self::PER_UNIT, self.0 % Self::PER_UNIT);
        f.pad(digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl serde::Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_adds_only_its_own_kind() {
        let (dollars, yen) = (Money::new(5, Currency::USD), Money::new(5, Currency::JPY));
        assert_eq!(dollars.checked_add(dollars), Ok(Money::new(10, Currency::USD)));
        assert_eq!(dollars.checked_sub(Money::new(7, Currency::USD)), Ok(Money::new(-2, Currency::USD)));
        assert!(matches!(dollars.checked_add(yen), Err(MoneyError::CurrencyMismatch { .. })));
        assert_eq!(Money::new(i64::MAX, Currency::USD).checked_add(dollars), Err(MoneyError::Overflow));
        assert_eq!(Money::new(i64::MIN, Currency::USD).checked_neg(), Err(MoneyError::Overflow));
        assert_eq!(Money::new(i64::MAX, Currency::USD).checked_mul(2), Err(MoneyError::Overflow));
    }

    #[test]
    fn money_prints_as_people_write_it() {
        for (minor, code, text) in [
            (1_234, "USD", "$12.34"),
            (-5, "EUR", "-€0.05"),
            (120, "JPY", "¥120"),
            (300, "CHF", "CHF 3.00"),
            (1_500, "KWD", "KWD 1.500"),
            (i64::MIN, "USD", "-$92233720368547758.08"),
        ] {
            assert_eq!(Money::new(minor, code.parse().unwrap()).to_string(), text);
        }
    }

    #[test]
    fn rate_reads_decimals_exactly() {
        for (text, pico) in [
            ("0", 0),
            ("1", 1_000_000_000_000),
            ("0.0000166667", 16_666_700),
            ("0.000000000001", 1),
            ("007.50", 7_500_000_000_000),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().as_pico(), pico);
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e-3", "0.0000000000001", "1_000", " 1", "99999999999999", "1.2.3", "٣"]
        {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rate_text_round_trip(pico in 0u64..) {
            let rate = Rate::from_pico(pico);
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
            let json = serde_json::to_string(&rate).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), rate);
        }
    }
}
