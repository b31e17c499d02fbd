//! What usage costs, before anything is rounded.
//!
//! The unit is 1/(1024 x 10^18) of a currency unit. In it the cost of memory-time is exact: a rate of 1e-12 parts, times
//! MiB, times microseconds, over 1024 MiB and 10^6 microseconds. So the sum over events equals the cost of the sums,
//! whatever the order, and the range still reaches 10^17 currency units.

use super::{Currency, Money, MoneyError, Rate};
use std::fmt;
use std::num::NonZeroU64;

/// An amount at a precision far below the smallest coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PreciseAmount {
    units: i128,
    currency: Currency,
}

/// Amount units in one part of a rate.
const PER_PICO: i128 = 1024 * 1_000_000;
/// Amount units in one currency unit.
const PER_UNIT: i128 = PER_PICO * Rate::PER_UNIT;
/// Decimals printed at most.
const SHOWN_DECIMALS: usize = 18;

impl PreciseAmount {
    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { units: 0, currency }
    }

    /// See [`Rate::cost_of`].
    pub(super) fn of(rate: Rate, quantity: u128, per: NonZeroU64, currency: Currency) -> Result<Self, MoneyError> {
        let quantity = i128::try_from(quantity).map_err(|_| MoneyError::Overflow)?;
        let per = i128::from(per.get());
        // Cancel what can be cancelled first: it is what makes the usual cases exact and keeps the product small.
        let common = gcd(PER_PICO, per);
        let (scale, per) = (PER_PICO / common, per / common);
        let product =
            rate.as_pico().checked_mul(quantity).and_then(|p| p.checked_mul(scale)).ok_or(MoneyError::Overflow)?;
        Ok(Self { units: div_half_even(product, per), currency })
    }

    /// An amount of money, unrounded.
    ///
    /// # Errors
    /// The amount is too large.
    pub fn from_money(money: Money) -> Result<Self, MoneyError> {
        let per_minor = PER_UNIT / 10i128.pow(u32::from(money.currency.exponent()));
        let units = i128::from(money.minor).checked_mul(per_minor).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, currency: money.currency })
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.units == 0
    }

    /// The sum.
    ///
    /// # Errors
    /// The currencies differ, or the sum is too large.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.currency.same_as(other.currency)?;
        let units = self.units.checked_add(other.units).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, ..self })
    }

    /// The difference.
    ///
    /// # Errors
    /// The currencies differ, or the difference is too large.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.currency.same_as(other.currency)?;
        let units = self.units.checked_sub(other.units).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, ..self })
    }

    /// The product with a count.
    ///
    /// # Errors
    /// The product is too large.
    pub fn checked_mul(self, times: i64) -> Result<Self, MoneyError> {
        let units = self.units.checked_mul(i128::from(times)).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, ..self })
    }

    /// The amount in minor units, rounded half to even. Call it once, on the sum.
    ///
    /// # Errors
    /// The amount is too large.
    pub fn round_to_money(self) -> Result<Money, MoneyError> {
        let per_minor = PER_UNIT / 10i128.pow(u32::from(self.currency.exponent()));
        let minor = i64::try_from(div_half_even(self.units, per_minor)).map_err(|_| MoneyError::Overflow)?;
        Ok(Money::new(minor, self.currency))
    }

    /// The amount as a plain decimal of at most 18 decimals, without the currency: `0.000000417`. For machine-readable
    /// answers.
    #[must_use]
    pub fn to_decimal_string(self) -> String {
        self.decimal(0)
    }

    /// Decimal text with at least `least` decimals and no further trailing zeroes.
    fn decimal(self, least: usize) -> String {
        // 1024 units are the last decimal shown, so what is cut off is below 1e-18 of a currency unit.
        let shown = div_half_even(self.units, 1024);
        let per_unit = 10u128.pow(SHOWN_DECIMALS as u32);
        let magnitude = shown.unsigned_abs();
        let decimals = format!("{:018}", magnitude % per_unit);
        let kept = decimals.trim_end_matches('0').len().max(least);
        let sign = if shown < 0 { "-" } else { "" };
        let point = if kept > 0 { "." } else { "" };
        format!("{sign}{}{point}{}", magnitude / per_unit, &decimals[..kept])
    }
}

impl fmt::Display for PreciseAmount {
    /// With the currency and all the decimals it has: `$0.000000417`, `$1.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.decimal(usize::from(self.currency.exponent()));
        let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
        f.pad(&format!("{sign}{}{digits}", self.currency.prefix()))
    }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The quotient, rounded to the nearest and on a tie to the even neighbour. `divisor` is positive.
fn div_half_even(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.div_euclid(divisor);
    let remainder = dividend.rem_euclid(divisor);
    let rest = divisor - remainder;
    if remainder > rest || (remainder == rest && quotient % 2 != 0) { quotient + 1 } else { quotient }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const GB_SECOND: NonZeroU64 = NonZeroU64::new(1024 * 1_000_000).unwrap();

    fn amount(decimal: &str) -> PreciseAmount {
        let (sign, digits) = decimal.strip_prefix('-').map_or((1, decimal), |digits| (-1, digits));
        let rate: Rate = digits.parse().unwrap();
        rate.cost_of(1, NonZeroU64::MIN, Currency::USD).unwrap().checked_mul(sign).unwrap()
    }

    #[test]
    fn rounds_half_to_even_once() {
        for (decimal, minor) in [
            ("0.005", 0),
            ("0.015", 2),
            ("0.025", 2),
            ("0.0250000001", 3),
            ("0.0249999", 2),
            ("-0.005", 0),
            ("-0.015", -2),
            ("-0.025", -2),
            ("-0.026", -3),
            ("12.345", 1234),
            ("12.355", 1236),
        ] {
            assert_eq!(amount(decimal).round_to_money().unwrap().minor, minor, "{decimal}");
        }
    }

    #[test]
    fn prints_tiny_amounts() {
        for (decimal, text) in [
            ("0.000000417", "$0.000000417"),
            ("1.5", "$1.50"),
            ("0", "$0.00"),
            ("-0.0000002", "-$0.0000002"),
            ("3", "$3.00"),
        ] {
            assert_eq!(amount(decimal).to_string(), text);
        }
        assert_eq!(amount("1.5").to_decimal_string(), "1.5");
        assert_eq!(amount("3").to_decimal_string(), "3");
        assert_eq!(amount("0").to_decimal_string(), "0");
    }

    #[test]
    fn too_large_is_an_error() {
        let rate: Rate = "1000000000".parse().unwrap();
        assert_eq!(rate.cost_of(u128::MAX, NonZeroU64::MIN, Currency::USD), Err(MoneyError::Overflow));
        assert_eq!(rate.cost_of(1 << 100, GB_SECOND, Currency::USD), Err(MoneyError::Overflow));
        let many = rate.cost_of(100_000_000, NonZeroU64::MIN, Currency::USD).unwrap();
        assert_eq!(many.round_to_money(), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn memory_time_is_exact(pico in 0u64..1_000_000_000_000, parts in proptest::collection::vec(0u64..10_000_000_000_000, 1..20)) {
            let rate = Rate::from_pico(pico);
            let cost = |quantity: u64| rate.cost_of(u128::from(quantity), GB_SECOND, Currency::USD).unwrap();
            let sum = parts.iter().fold(PreciseAmount::zero(Currency::USD), |sum, part| sum.checked_add(cost(*part)).unwrap());
            prop_assert_eq!(sum, cost(parts.iter().sum()));
        }

        #[test]
        fn rounding_is_within_half_and_symmetric(dividend in -1_000_000i128..1_000_000, divisor in 1i128..1_000) {
            let rounded = div_half_even(dividend, divisor);
            prop_assert!((rounded * divisor - dividend).abs() * 2 <= divisor);
            prop_assert_eq!(div_half_even(-dividend, divisor), -rounded);
        }

        #[test]
        fn money_survives_the_way_there_and_back(minor in i64::MIN / 1_000..i64::MAX / 1_000) {
            let money = Money::new(minor, Currency::USD);
            prop_assert_eq!(PreciseAmount::from_money(money).unwrap().round_to_money().unwrap(), money);
        }
    }
}
