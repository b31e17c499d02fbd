//! Currencies: the codes of ISO 4217 and how many decimals each is paid in.

use super::MoneyError;
use std::fmt;
use std::str::FromStr;

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// Currencies without a minor unit.
const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// Currencies whose minor unit is a thousandth.
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
/// Currencies whose minor unit is a hundredth.
const TWO_DECIMALS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY \
    COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS \
    KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK \
    PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD \
    UYU UZS VES WST XCD YER ZAR ZMW";

impl Currency {
    /// The United States dollar.
    pub const USD: Self = Self { code: *b"USD", exponent: 2 };
    /// The euro.
    pub const EUR: Self = Self { code: *b"EUR", exponent: 2 };
    /// The pound sterling.
    pub const GBP: Self = Self { code: *b"GBP", exponent: 2 };
    /// The yen, which has no minor unit.
    pub const JPY: Self = Self { code: *b"JPY", exponent: 0 };

    /// The three capital letters.
    #[must_use]
    pub fn code(&self) -> &str {
        // Only ASCII letters get in; the other branch is never taken.
        std::str::from_utf8(&self.code).unwrap_or("XXX")
    }

    /// How many decimals an amount has: 2 for USD, 0 for JPY.
    #[must_use]
    pub const fn exponent(&self) -> u8 {
        self.exponent
    }

    /// What stands before an amount: a sign where everyone knows it, else the code and a space.
    pub(super) fn prefix(&self) -> String {
        match &self.code {
            b"USD" => "$".into(),
            b"EUR" => "€".into(),
            b"GBP" => "£".into(),
            b"JPY" => "¥".into(),
            _ => format!("{} ", self.code()),
        }
    }

    /// Refuses two currencies in one sum.
    pub(super) fn same_as(self, other: Self) -> Result<(), MoneyError> {
        if self == other { Ok(()) } else { Err(MoneyError::CurrencyMismatch { left: self, right: other }) }
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let listed = |list: &str| list.split_ascii_whitespace().any(|code| code == text);
        let exponent = match () {
            () if listed(TWO_DECIMALS) => 2,
            () if listed(NO_DECIMALS) => 0,
            () if listed(THREE_DECIMALS) => 3,
            () => return Err(MoneyError::UnknownCurrency(text.chars().take(16).collect())),
        };
        let mut code = [0; 3];
        code.copy_from_slice(text.as_bytes());
        Ok(Self { code, exponent })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn lists_hold_three_capital_letters_each_once() {
        let all: Vec<_> =
            [NO_DECIMALS, TWO_DECIMALS, THREE_DECIMALS].iter().flat_map(|list| list.split_ascii_whitespace()).collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for code in all {
            assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()), "{code}");
            assert_eq!(code.parse::<Currency>().unwrap().code(), code);
        }
        for (constant, code) in
            [(Currency::USD, "USD"), (Currency::EUR, "EUR"), (Currency::GBP, "GBP"), (Currency::JPY, "JPY")]
        {
            assert_eq!(code.parse(), Ok(constant));
        }
        for text in ["", "usd", "US", "USDX", "ABC", "€€€"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }
}
