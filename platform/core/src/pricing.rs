//! What an answered call costs: a pure function of what it used and a price list.
//!
//! A computed answer pays for its request and its memory-time. Every other answer (hit, coalesced, stale, precomputed)
//! pays for its request only: nothing ran for it.

use crate::money::{Currency, MoneyError, PreciseAmount, Rate};
use crate::served_by::ServedBy;
use crate::usage::UsageEvent;
use std::num::NonZeroU64;

/// MiB-microseconds in one GB-second.
const GB_SECOND: NonZeroU64 = match NonZeroU64::new(1024 * 1_000_000) {
    Some(one) => one,
    None => NonZeroU64::MIN,
};

/// Prices of what functions use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceList {
    /// The currency of all prices.
    pub currency: Currency,
    /// One answered call; default 0.0000002 USD.
    pub request: Rate,
    /// One GiB of configured memory for one second of the function's own time; default 0.0000166667 USD.
    pub compute_gb_s: Rate,
}

impl Default for PriceList {
    fn default() -> Self {
        Self { currency: Currency::USD, request: Rate::from_pico(200_000), compute_gb_s: Rate::from_pico(16_666_700) }
    }
}

/// What one answered call used, as far as it is priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageFigures {
    /// How the answer was come by.
    pub served_by: ServedBy,
    /// The memory the version is configured with.
    pub memory_mb: u32,
    /// The function's own time.
    pub exec_us: u64,
}

impl From<&UsageEvent> for UsageFigures {
    fn from(event: &UsageEvent) -> Self {
        Self { served_by: event.served_by, memory_mb: event.memory_mb, exec_us: event.exec_us }
    }
}

impl PriceList {
    /// What the call costs.
    ///
    /// # Errors
    /// The amount is too large, which no real call reaches.
    pub fn cost(&self, usage: &UsageFigures) -> Result<PreciseAmount, MoneyError> {
        let request = self.request.cost_of(1, NonZeroU64::MIN, self.currency)?;
        if !usage.served_by.is_computed() {
            return Ok(request);
        }
        request.checked_add(self.compute_cost(usage.memory_mb, usage.exec_us)?)
    }

    /// What so much memory-time costs, without the request: also what a kept result saves each time it is served.
    ///
    /// # Errors
    /// The amount is too large.
    pub fn compute_cost(&self, memory_mb: u32, exec_us: u64) -> Result<PreciseAmount, MoneyError> {
        let quantity = u128::from(memory_mb) * u128::from(exec_us);
        self.compute_gb_s.cost_of(quantity, GB_SECOND, self.currency)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_a_computed_answer_pays_for_time() {
        let prices = PriceList::default();
        for served_by in ServedBy::ALL {
            let cost = prices.cost(&UsageFigures { served_by, memory_mb: 1024, exec_us: 1_000_000 }).unwrap();
            let expected = if served_by == ServedBy::Computed { "$0.0000168667" } else { "$0.0000002" };
            assert_eq!(cost.to_string(), expected, "{served_by}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let prices = PriceList::default();
        assert_eq!(prices.request.to_string(), "0.0000002");
        assert_eq!(prices.compute_gb_s.to_string(), "0.0000166667");
        assert_eq!(serde_json::from_str::<PriceList>("{}").unwrap(), prices);
        assert!(serde_json::from_str::<PriceList>(r#"{"reqest":"1"}"#).is_err());
    }

    #[test]
    fn a_millisecond_at_the_default_size() {
        let prices = PriceList::default();
        let figures = UsageFigures { served_by: ServedBy::Computed, memory_mb: 256, exec_us: 1_000 };
        assert_eq!(prices.cost(&figures).unwrap().to_string(), "$0.000000204166675");
    }

    #[test]
    fn absurd_usage_is_an_error_not_a_wrong_price() {
        let prices = PriceList { compute_gb_s: "1000000".parse().unwrap(), ..PriceList::default() };
        let figures = UsageFigures { served_by: ServedBy::Computed, memory_mb: u32::MAX, exec_us: u64::MAX };
        assert_eq!(prices.cost(&figures), Err(MoneyError::Overflow));
    }
}
