//! The store's own policy, one tenant.

use std::hash::{BuildHasherDefault, DefaultHasher};

use super::Policy;
use crate::policy::{Attributes, CostAware, CostAwareOptions};
use crate::simulate::trace::Request;

pub struct Raas {
    /// With a fixed hasher, so that a run can be repeated.
    store: CostAware<u64, (), (), BuildHasherDefault<DefaultHasher>>,
}

impl Raas {
    pub fn new(capacity: u64) -> Self {
        Self { store: CostAware::new(CostAwareOptions { capacity, share: None }) }
    }
}

impl Policy for Raas {
    fn serve(&mut self, request: &Request) -> bool {
        let hit = self.store.get(&request.key).is_some();
        if !hit {
            let attributes = Attributes { size: request.size, cost_us: request.cost_us, tenant: () };
            self.store.insert(request.key, (), attributes);
        }
        hit
    }

    fn holds(&self, key: u64) -> bool {
        self.store.peek(&key).is_some()
    }

    fn held(&self) -> u64 {
        self.store.weight()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write;

    use crate::simulate::{MadeUp, PolicyKind, Trace, TraceFormat, simulate};

    const REQUESTS: u64 = 12_000;

    /// A generator of numbers (Knuth's MMIX), the same each time.
    fn numbers() -> impl FnMut() -> u64 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        }
    }

    /// Popular keys (the lower the more), a loop over 400 others, and now and then a scan of keys that never come again.
    fn mix(made_up: MadeUp) -> Trace {
        let mut number = numbers();
        let mut text = String::new();
        for at in 0..REQUESTS {
            let key = match at % 4 {
                0 => 10_000 + at / 4 % 400,
                _ if at % 4_000 < 600 => 100_000 + at,
                _ => number() % (1 + number() % 2_000),
            };
            writeln!(text, "{key}").unwrap();
        }
        Trace::read(TraceFormat::Lirs, text.as_bytes(), made_up).unwrap()
    }

    #[test]
    fn it_saves_more_computing_than_policies_that_do_not_know_costs_and_no_less_than_those_that_do() {
        let trace = mix(MadeUp { size_median: 4_096, cost_median_us: 10_000 });
        let end = trace.requests().len();
        let bytes: u64 = trace.requests().iter().filter(|one| one.next == end).map(|one| one.size).sum();
        for capacity in [bytes / 100, bytes / 20] {
            let saved = |kind| simulate(&trace, kind, capacity).saved_ratio();
            let own = saved(PolicyKind::Raas);
            for blind in [PolicyKind::WTinyLfu, PolicyKind::S3Fifo, PolicyKind::Sieve, PolicyKind::Lru] {
                assert!(own > saved(blind) + 0.1, "{own} {blind:?} {} of {capacity}", saved(blind));
            }
            for knowing in [PolicyKind::Gds, PolicyKind::Gdsf] {
                assert!(own > saved(knowing) - 0.005, "{own} {knowing:?} {} of {capacity}", saved(knowing));
            }
        }
    }

    #[test]
    fn where_all_costs_and_sizes_are_equal_it_is_not_far_behind_those_made_for_that() {
        let trace =
            Trace::of_keys(mix(MadeUp { size_median: 0, cost_median_us: 1 }).requests().iter().map(|one| one.key));
        let trace = trace.unwrap();
        for capacity in [50, 250, 500] {
            let own = simulate(&trace, PolicyKind::Raas, capacity).hit_ratio();
            for kind in [PolicyKind::WTinyLfu, PolicyKind::S3Fifo, PolicyKind::Sieve] {
                let other = simulate(&trace, kind, capacity).hit_ratio();
                assert!(own > other - 0.01, "{own} {kind:?} {other} of {capacity}");
            }
        }
    }

    #[test]
    fn a_run_can_be_repeated() {
        let trace = mix(MadeUp { size_median: 4_096, cost_median_us: 10_000 });
        let runs = [(); 2].map(|()| simulate(&trace, PolicyKind::Raas, 500_000));
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].hits > 0);
    }
}
