//! Exact sums of the decimal amounts that the API gives.

/// Decimals that amounts may have.
const DECIMALS: usize = 18;
const ONE: i128 = 10i128.pow(DECIMALS as u32);

/// An amount in one currency, in units of 10^-18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(i128);

impl Amount {
    /// Reads `0.000000417`.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS {
            return None;
        }
        let decimals: i128 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
        Some(Self(whole.parse::<i128>().ok()?.checked_mul(ONE)?.checked_add(decimals)?))
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// How many times `other` goes into it.
    pub fn times(self, other: Self) -> Option<f64> {
        (other.0 != 0).then(|| self.0 as f64 / other.0 as f64)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let decimals = format!("{:018}", self.0 % ONE);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}", self.0 / ONE),
            decimals => write!(f, "{}.{decimals}", self.0 / ONE),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_are_exact() {
        let sum = ["0.1", "0.2", "0.000000000000000001", "3"]
            .iter()
            .fold(Amount::default(), |sum, text| sum.plus(Amount::parse(text).unwrap()));
        assert_eq!(sum.to_string(), "3.300000000000000001");
        assert_eq!(Amount::default().to_string(), "0");
        for refused in ["", ".5", "-1", "1e3", "0.0000000000000000001", "x"] {
            assert_eq!(Amount::parse(refused), None, "{refused}");
        }
    }
}
