//! What users of the container notice: what is kept, for whom, and what it takes.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use proptest::prelude::*;

use super::*;

/// With a fixed hasher, so that a failure can be repeated.
type Store<V = ()> = CostAware<u64, V, u32, BuildHasherDefault<DefaultHasher>>;

fn store<V>(capacity: u64) -> Store<V> {
    CostAware::new(CostAwareOptions { capacity, share: None })
}

fn of(tenant: u32, size: u64, cost_us: u64) -> Attributes<u32> {
    Attributes { size, cost_us, tenant }
}

/// A request as a store serves it. Returns whether the value was there.
fn serve(store: &mut Store, key: u64, attributes: Attributes<u32>) -> bool {
    let hit = store.get(&key).is_some();
    if !hit {
        store.insert(key, (), attributes);
    }
    hit
}

#[test]
fn what_is_put_in_is_there_until_it_is_taken_out() {
    let mut store = store(100);
    assert!(store.is_empty());
    assert_eq!(store.insert(1, "a", of(7, 10, 5)), Inserted { kept: true, replaced: None, evicted: Vec::new() });
    assert_eq!(store.insert(1, "b", of(8, 20, 5)), Inserted { kept: true, replaced: Some("a"), evicted: Vec::new() });
    assert_eq!(store.get(&1), Some(&"b"));
    assert_eq!(store.get(&2), None);
    assert_eq!((store.peek(&1), store.peek(&2)), (Some(&"b"), None));
    assert_eq!((store.len(), store.weight(), store.tenant_weight(&7), store.tenant_weight(&8)), (1, 20, 0, 20));
    assert_eq!(store.tenants().collect::<Vec<_>>(), [(&8, 20)]);
    assert_eq!((store.remove(&1), store.remove(&1), store.weight()), (Some("b"), None, 0));
    assert_eq!(store.tenants().count(), 0);
}

#[test]
fn a_purge_takes_what_it_is_told_to_and_nothing_else() {
    let mut store = store(1_000);
    (0..100).for_each(|key| _ = store.insert(key, key % 3, of(1, 2, 5)));
    store.retain(|_, function| *function != 1);
    assert_eq!((store.len(), store.weight()), (67, 134));
    assert!(store.iter().all(|(key, function)| key % 3 == *function && *function != 1));
}

#[test]
fn what_goes_is_handed_back_with_what_it_was_put_in_with() {
    let mut store = store(10);
    store.insert(1, "cheap", of(4, 10, 3));
    let inserted = store.insert(2, "dear", of(4, 5, 3_000));
    assert_eq!(inserted.evicted, [Evicted { key: 1, value: "cheap", attributes: of(4, 10, 3) }]);
    assert!(inserted.kept);
    // What is worth less than what is there does not get in, and nothing goes for it; nor does what never fits.
    assert_eq!(store.insert(3, "cheap", of(4, 10, 3)), Inserted { kept: false, replaced: None, evicted: Vec::new() });
    assert_eq!(
        store.insert(4, "large", of(4, 11, 3_000_000)),
        Inserted { kept: false, replaced: None, evicted: Vec::new() }
    );
    // A new value of the same key may be too large; the old one is gone all the same.
    assert_eq!(
        store.insert(2, "large", of(4, 11, 3)),
        Inserted { kept: false, replaced: Some("dear"), evicted: Vec::new() }
    );
    assert!(store.is_empty());
}

#[test]
fn a_scan_of_cheap_results_pushes_out_nothing_dear() {
    let mut store = store(100);
    (0..10).for_each(|key| assert!(!serve(&mut store, key, of(1, 10, 1_000_000))));
    (1_000..3_000).for_each(|key| assert!(!serve(&mut store, key, of(1, 10, 100))));
    assert!((0..10).all(|key| store.peek(&key).is_some()));
}

#[test]
fn a_large_result_pushes_out_as_many_as_it_is_worth_more_than_each_of() {
    let mut store = store(1_000);
    (0..1_000).for_each(|key| _ = store.insert(key, (), of(1, 1, 10)));
    let inserted = store.insert(5_000, (), of(1, 600, 60_000));
    assert!(inserted.kept);
    assert_eq!((inserted.evicted.len(), store.weight()), (600, 1_000));
    // Dearer in all, cheaper for each byte.
    assert!(!store.insert(5_001, (), of(1, 900, 61_000)).kept);
}

#[test]
fn how_often_a_result_was_asked_for_outlives_it() {
    let mut store = store(100);
    (0..10).for_each(|key| _ = store.insert(key, (), of(1, 10, 1_000)));
    // Asked for again and again, but each time it has expired.
    for _ in 0..20 {
        store.insert(3, (), of(1, 10, 1_000));
        store.remove(&3);
    }
    assert!(store.insert(3, (), of(1, 10, 1_000)).kept);
    // The same cost, each asked for twice in a row: all others go before it does.
    for key in 100..109 {
        assert!(!serve(&mut store, key, of(1, 10, 1_000)));
        serve(&mut store, key, of(1, 10, 1_000));
    }
    assert!(store.peek(&3).is_some());
    assert!((0..10).filter(|key| store.peek(key).is_some()).count() <= 2);
}

/// Hits in the last third of so many requests.
fn late_hits(capacity: u64, requests: u64, key: impl Fn(u64) -> u64) -> f64 {
    let mut store = store(capacity);
    let hits = |store: &mut Store, range: std::ops::Range<u64>| {
        range.filter(|at| serve(store, key(*at), of(1, 1, 100))).count() as f64
    };
    hits(&mut store, 0..requests / 3 * 2);
    hits(&mut store, requests / 3 * 2..requests) / (requests / 3) as f64
}

#[test]
fn of_a_loop_larger_than_the_store_a_part_is_kept() {
    // Of 300 keys in turn 100 fit, of which a least-recently-used order never has the next one.
    let ratio = late_hits(100, 6_000, |at| at % 300);
    assert!(ratio > 0.3, "{ratio}");
}

#[test]
fn what_everybody_asks_for_now_takes_the_place_of_what_everybody_asked_for_before() {
    // 80 keys for a while, then 80 others; both fit, not together.
    let ratio = late_hits(100, 60_000, |at| at % 80 + at / 30_000 * 1_000);
    assert!(ratio > 0.95, "{ratio}");
}

#[test]
fn one_tenant_may_use_all_of_it_until_another_comes() {
    let mut store = store(1_000);
    (0..2_000).for_each(|key| _ = serve(&mut store, key, of(1, 1, 100_000)));
    assert_eq!(store.tenant_weight(&1), 1_000);
    // However little its results cost next to the other's, the second gets its half.
    (10_000..10_500).for_each(|key| assert!(store.insert(key, (), of(2, 1, 1)).kept));
    assert_eq!((store.tenant_weight(&1), store.tenant_weight(&2)), (500, 500));
    // And no more, whatever it asks for.
    (20_000..30_000).for_each(|key| _ = serve(&mut store, key, of(2, 1, 1_000_000)));
    assert_eq!((store.tenant_weight(&1), store.tenant_weight(&2)), (500, 500));
}

#[test]
fn a_tenant_that_floods_the_store_evicts_its_own() {
    let mut store = store(900);
    for round in 0..20 {
        for key in 0..300 {
            assert_eq!(serve(&mut store, key, of(1, 1, 50)), round > 0);
        }
        for key in 0..200 {
            assert_eq!(serve(&mut store, 1_000 + key, of(2, 1, 50)), round > 0);
        }
        // Distinct keys, and dear ones.
        (0..2_000).for_each(|key| _ = serve(&mut store, 1_000_000 + round * 10_000 + key, of(3, 1, 1_000_000)));
    }
    assert_eq!((store.tenant_weight(&1), store.tenant_weight(&2), store.tenant_weight(&3)), (300, 200, 400));
}

#[test]
fn room_that_nobody_claims_is_spread_over_those_who_can_use_it() {
    let mut store = store(1_000);
    (0..1_000).for_each(|key| _ = serve(&mut store, key, of(1, 1, 100)));
    // Of a hundred tenants all but two have one entry. The second gets as much as the first, not a hundredth.
    (2..100).for_each(|tenant| _ = serve(&mut store, 10_000 + u64::from(tenant), of(tenant, 1, 100)));
    for _ in 0..3 {
        (20_000..21_000).for_each(|key| _ = serve(&mut store, key, of(2, 1, 100)));
    }
    let (first, second) = (store.tenant_weight(&1), store.tenant_weight(&2));
    assert!(first.abs_diff(second) <= 1 && first + second == 903, "{first} {second}");
}

#[test]
fn a_share_that_is_said_is_what_comes_in_without_a_contest() {
    let mut store: Store = CostAware::new(CostAwareOptions { capacity: 1_000, share: Some(100) });
    (0..1_000).for_each(|key| _ = serve(&mut store, key, of(1, 1, 100)));
    // Asked for once each; what comes first is asked for again, and is worth more than what comes after.
    (5_000..5_100).for_each(|key| assert!(store.insert(key, (), of(2, 1, 50)).kept && store.get(&key).is_some()));
    assert_eq!(store.tenant_weight(&2), 100);
    assert!(!store.insert(6_000, (), of(2, 1, 50)).kept);
    assert_eq!((store.tenant_weight(&1), store.tenant_weight(&2)), (900, 100));
}

#[test]
fn a_flood_of_keys_does_not_make_the_bookkeeping_grow() {
    let mut store = store(1_000);
    let flood = |store: &mut Store, from: u64| {
        (from..from + 50_000).for_each(|key| _ = serve(store, key, of((key % 7) as u32, 1, 1 + key % 100)));
        store.bookkeeping_bytes()
    };
    let (once, twice) = (flood(&mut store, 0), flood(&mut store, 1_000_000));
    assert!(twice < once + once / 4, "{once} {twice}");
    // Nor does taking out and putting in.
    for key in 0..50_000 {
        store.insert(key % 500, (), of(1, 1, 100));
        store.remove(&(key % 500));
    }
    assert!(store.bookkeeping_bytes() < once + once / 4);
}

#[derive(Debug, Clone)]
enum Act {
    Get(u64),
    Insert(u64, Attributes<u32>),
    Remove(u64),
    Purge(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let attributes = (0u32..5, 0u64..40, 0u64..10_000).prop_map(|(tenant, size, cost_us)| of(tenant, size, cost_us));
    let act = prop_oneof![
        8 => (0u64..80).prop_map(Act::Get),
        12 => (0u64..80, attributes).prop_map(|(key, attributes)| Act::Insert(key, attributes)),
        2 => (0u64..80).prop_map(Act::Remove),
        1 => (2u64..9).prop_map(Act::Purge),
    ];
    prop::collection::vec(act, 1..200)
}

proptest! {
    /// Against a map that is told what came and went, and the rule of shares.
    #[test]
    fn it_holds_what_it_says_and_pushes_nobody_below_the_share(
        acts in acts(), capacity in 1u64..400, share in prop::option::of(1u64..200),
    ) {
        let mut store: Store<u64> = CostAware::new(CostAwareOptions { capacity, share });
        let mut held: HashMap<u64, (u64, Attributes<u32>)> = HashMap::new();
        for (number, act) in acts.into_iter().enumerate() {
            let value = number as u64;
            match act {
                Act::Get(key) => prop_assert_eq!(store.get(&key).copied(), held.get(&key).map(|(value, _)| *value)),
                Act::Insert(key, attributes) => {
                    let inserted = store.insert(key, value, attributes);
                    prop_assert_eq!(inserted.replaced, held.remove(&key).map(|(value, _)| value));
                    let mut tenants: Vec<u32> = held.values().map(|(_, one)| one.tenant).collect();
                    tenants.push(attributes.tenant);
                    tenants.sort_unstable();
                    tenants.dedup();
                    let equal = capacity / tenants.len() as u64;
                    let share = share.map_or(equal, |share| share.min(equal));
                    prop_assert!(inserted.kept || inserted.evicted.is_empty() || inserted.evicted.len() >= 32);
                    for Evicted { key, value, attributes: gone } in &inserted.evicted {
                        let before = held.remove(key).map(|(value, one)| (value, Attributes { size: one.size.max(1), ..one }));
                        prop_assert_eq!(before, Some((*value, *gone)));
                        prop_assert!(
                            gone.tenant == attributes.tenant
                                || store.tenant_weight(&gone.tenant) >= share
                                || store.tenant_weight(&attributes.tenant) <= share,
                            "{attributes:?} pushed {gone:?} below {share}"
                        );
                    }
                    if inserted.kept {
                        held.insert(key, (value, attributes));
                    }
                    prop_assert!(inserted.kept || attributes.size <= capacity || inserted.evicted.is_empty());
                }
                Act::Remove(key) => prop_assert_eq!(store.remove(&key), held.remove(&key).map(|(value, _)| value)),
                Act::Purge(part) => {
                    store.retain(|key, _| key % part != 0);
                    held.retain(|key, _| key % part != 0);
                }
            }
            let weight = |tenant: Option<u32>| -> u64 {
                let of = held.values().filter(|(_, one)| tenant.is_none_or(|tenant| one.tenant == tenant));
                of.map(|(_, one)| one.size.max(1)).sum()
            };
            prop_assert_eq!((store.len(), store.weight()), (held.len(), weight(None)));
            prop_assert!(store.weight() <= capacity);
            for tenant in 0..5 {
                prop_assert_eq!(store.tenant_weight(&tenant), weight(Some(tenant)));
            }
            let mut kept: Vec<(u64, u64)> = store.iter().map(|(key, value)| (*key, *value)).collect();
            let mut expected: Vec<(u64, u64)> = held.iter().map(|(key, (value, _))| (*key, *value)).collect();
            kept.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(kept, expected);
        }
    }

    /// While there is room nothing goes and everything comes in.
    #[test]
    fn what_fits_is_kept(requests in prop::collection::vec((0u64..50, 0u32..4), 0..300)) {
        let mut store = store(50 * 9);
        let mut seen = std::collections::HashSet::new();
        for (key, tenant) in requests {
            prop_assert_eq!(serve(&mut store, key, of(tenant, 9, key)), !seen.insert(key));
        }
    }
}
