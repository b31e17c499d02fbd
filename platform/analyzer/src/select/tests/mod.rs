//! What users of the selection notice: what is chosen and why, how good that is, and that it never does worse than it says.

mod quality;
mod replanning;

use fastrand::Rng;

use super::*;

const MS: f64 = 1000.0;

/// A node that is executed in all calls and hits in these.
fn node(parent: Option<usize>, bytes: u64, saved_us: f64, missed_us: f64, hits: &str) -> Node {
    within(parent, bytes, saved_us, missed_us, &"1".repeat(hits.len()), hits)
}

/// One that is executed in these calls, a digit for each, and would hit in those.
fn within(parent: Option<usize>, bytes: u64, saved_us: f64, missed_us: f64, executed: &str, hits: &str) -> Node {
    let set = |digits: &str| CallSet::where_true(digits.len(), |call| digits.as_bytes()[call] == b'1');
    Node { parent, bytes, saved_us, missed_us, executed: set(executed), hits: set(hits) }
}

fn instance(budget_bytes: u64, nodes: &[Node]) -> Instance {
    let calls = nodes.first().map_or(0, |node| node.hits.calls());
    Instance::new(calls, budget_bytes, nodes).unwrap()
}

/// What a plan is worth, told call by call as the module does.
fn walked(nodes: &[Node], chosen: &[usize], calls: usize) -> f64 {
    fn walk(nodes: &[Node], chosen: &[usize], call: usize, around: Option<usize>) -> f64 {
        let side_by_side = (0..nodes.len()).filter(|index| nodes[*index].parent == around);
        side_by_side
            .map(|index| {
                let node = &nodes[index];
                match chosen.contains(&index) && node.executed.has(call) {
                    true if node.hits.has(call) => node.saved_us,
                    true => walk(nodes, chosen, call, Some(index)) - node.missed_us,
                    false => walk(nodes, chosen, call, Some(index)),
                }
            })
            .sum()
    }
    (0..calls).map(|call| walk(nodes, chosen, call, None)).sum()
}

fn log_normal(random: &mut Rng, median: f64, spread: f64) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), random.f64() * std::f64::consts::TAU);
    median * (spread * radius * angle.cos()).exp()
}

/// Nodes as code has them: what lies around others saves what they save and more, its key is made of more inputs, and so it hits
/// less often. Calls repeat inputs unevenly; a node hits where it has seen its inputs before.
fn nested(random: &mut Rng, count: usize, calls: usize) -> Vec<Node> {
    const INPUTS: usize = 6;
    let kinds: Vec<f64> = (0..INPUTS).map(|_| 2.0 + random.f64() * 60.0).collect();
    // The cube of what is evenly spread: few inputs are frequent, many rare.
    let inputs: Vec<Vec<u8>> =
        (0..calls).map(|_| kinds.iter().map(|kinds| (random.f64().powi(3) * kinds) as u8).collect()).collect();
    let mut nodes: Vec<Node> = Vec::new();
    let mut reads: Vec<Vec<usize>> = Vec::new();
    let mut own: Vec<f64> = Vec::new();
    for index in 0..count {
        let parent = (index > 0 && random.f64() < 0.8).then(|| random.usize(..index));
        // Mostly inputs that its parent reads, and now and then something computed between the two.
        let own_inputs = match parent {
            Some(parent) => reads[parent].iter().copied().filter(|_| random.f64() < 0.7).collect(),
            None => (0..INPUTS).filter(|_| random.f64() < 0.6).collect::<Vec<_>>(),
        };
        let within = if parent.is_some() { 0.4 + 0.6 * random.f64() } else { 1.0 };
        let executed = CallSet::where_true(calls, |call| {
            parent.is_none_or(|parent| nodes[parent].executed.has(call)) && random.f64() < within
        });
        let forgets = random.f64() * 0.3;
        let mut seen = std::collections::HashSet::new();
        let hits = CallSet::where_true(calls, |call| {
            let key: Vec<u8> = own_inputs.iter().map(|input| inputs[call][*input]).collect();
            executed.has(call) && !seen.insert(key) && random.f64() > forgets
        });
        let bytes = (log_normal(random, 4096.0, 1.2) * seen.len() as f64) as u64;
        own.push(log_normal(random, 3.0 * MS, 1.3));
        nodes.push(Node { parent, bytes, saved_us: 0.0, missed_us: 20.0 + random.f64() * 400.0, executed, hits });
        reads.push(own_inputs);
    }
    for index in (0..count).rev() {
        let time = own[index];
        nodes[index].saved_us = time - 200.0;
        if let Some(parent) = nodes[index].parent {
            own[parent] += time * 0.7;
        }
    }
    nodes
}

/// Nodes whose figures have nothing to do with each other: whatever the types allow.
fn arbitrary(random: &mut Rng, count: usize, calls: usize) -> Vec<Node> {
    (0..count)
        .map(|index| {
            let parent = (index > 0 && random.f64() < 0.7).then(|| random.usize(..index));
            let (executed, hits) = (random.f64(), random.f64());
            Node {
                parent,
                bytes: random.u64(0..1000),
                saved_us: log_normal(random, 500.0, 1.0) - if random.f64() < 0.2 { 800.0 } else { 0.0 },
                missed_us: random.f64() * 600.0,
                executed: CallSet::where_true(calls, |_| random.f64() < executed),
                hits: CallSet::where_true(calls, |_| random.f64() < hits),
            }
        })
        .collect()
}

fn all_bytes(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.bytes).sum()
}

/// One of both kinds, with a part of the memory that all would take.
fn random_instance(random: &mut Rng, count: usize, calls: usize) -> (Vec<Node>, Instance) {
    let nodes = if random.bool() { nested(random, count, calls) } else { arbitrary(random, count, calls) };
    let budget = (all_bytes(&nodes) as f64 * random.f64() * 0.8) as u64;
    let instance = Instance::new(calls, budget, &nodes).unwrap();
    (nodes, instance)
}

/// The best of all plans within the budget, by trying all.
fn best_of_all(instance: &Instance) -> f64 {
    let plans = (0u32..1 << instance.nodes()).map(|bits| {
        let chosen: Vec<usize> = (0..instance.nodes()).filter(|index| bits >> index & 1 == 1).collect();
        if instance.bytes(&chosen) <= instance.budget_bytes() { instance.value(&chosen) } else { 0.0 }
    });
    plans.fold(0.0, f64::max)
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-6 * (1.0 + expected.abs())
}

#[test]
fn an_outer_hit_makes_inner_regions_moot_and_a_miss_reaches_them() {
    let nodes = [
        node(None, 1, 100.0, 10.0, "1100"),
        node(Some(0), 1, 30.0, 5.0, "1110"),
        within(Some(1), 1, 8.0, 1.0, "0011", "0011"),
        node(None, 1, 7.0, 2.0, "0001"),
    ];
    let instance = instance(100, &nodes);
    assert_eq!(instance.value(&[]), 0.0);
    assert_eq!(instance.value(&[0]), 200.0 - 20.0);
    assert_eq!(instance.value(&[1]), 90.0 - 5.0);
    // Of the inner one only the calls in which the outer one misses count.
    assert_eq!(instance.value(&[0, 1]), 200.0 - 20.0 + 30.0 - 5.0);
    assert_eq!(instance.value(&[0, 1, 2]), 205.0 + 8.0);
    // Where nothing is chosen in between, what lies inside is reached all the same.
    assert_eq!(instance.value(&[0, 2]), 180.0 + 16.0);
    // Trees are added up, and the order does not matter.
    assert_eq!(instance.value(&[3, 0]), 180.0 + 7.0 - 6.0);
    assert_eq!((instance.nodes(), instance.calls(), instance.bytes(&[0, 2, 9])), (4, 4, 2));
}

#[test]
fn a_region_that_is_not_executed_neither_saves_nor_costs() {
    let nodes = [within(None, 1, 100.0, 10.0, "0011", "1110")];
    assert_eq!(instance(1, &nodes).value(&[0]), 100.0 - 10.0);
}

#[test]
fn the_value_is_what_walking_every_call_gives() {
    let mut random = Rng::with_seed(1);
    for _ in 0..200 {
        let calls = random.usize(0..150);
        let count = random.usize(1..12);
        let (nodes, instance) = random_instance(&mut random, count, calls);
        let chosen: Vec<usize> = (0..nodes.len()).filter(|_| random.bool()).collect();
        assert!(close(instance.value(&chosen), walked(&nodes, &chosen, calls)));
    }
}

#[test]
fn what_is_no_instance_is_refused() {
    let good = node(None, 1, 1.0, 1.0, "10");
    let refused = |nodes: &[Node]| Instance::new(2, 10, nodes).unwrap_err();
    assert_eq!(refused(&vec![good.clone(); NODES_MAX + 1]), InstanceError::TooManyNodes);
    assert_eq!(Instance::new(CALLS_MAX + 1, 10, &[]).unwrap_err(), InstanceError::TooManyCalls);
    let after = Node { parent: Some(1), ..good.clone() };
    assert_eq!(refused(&[good.clone(), after]), InstanceError::ParentNotBefore { node: 1 });
    let chain: Vec<Node> =
        (0..DEPTH_MAX + 2).map(|index| Node { parent: index.checked_sub(1), ..good.clone() }).collect();
    assert_eq!(refused(&chain), InstanceError::TooDeep { node: DEPTH_MAX + 1 });
    let shorter = Node { hits: CallSet::none(1), ..good.clone() };
    assert_eq!(refused(&[shorter]), InstanceError::CallsDiffer { node: 0, expected: 2, found: 1 });
    for (saved_us, missed_us) in [(f64::INFINITY, 1.0), (-1e19, 1.0), (1.0, -1.0), (1.0, f64::INFINITY)] {
        let costly = Node { saved_us, missed_us, ..good.clone() };
        assert!(matches!(refused(&[good.clone(), costly]), InstanceError::NoCost { node: 1, .. }));
    }
    let unknown = Node { saved_us: f64::NAN, ..good };
    assert!(matches!(refused(&[unknown]), InstanceError::NoCost { node: 0, cost_us } if cost_us.is_nan()));
}

#[test]
fn the_rule_of_the_paper_stops_at_the_first_that_does_not_fit() {
    let nodes = [
        node(None, 50, 10.0, 0.0, "1111"),
        node(None, 60, 9.0, 0.0, "1111"),
        node(None, 10, 8.0, 0.0, "1111"),
        node(None, 10, -8.0, 0.0, "1111"),
    ];
    let instance = instance(100, &nodes);
    let paper = select(&instance, Policy::Paper);
    assert_eq!((paper.chosen, paper.bytes, paper.value_us), (vec![0], 50, 40.0));
    assert_eq!(paper.optimality, Optimality::NotTried);
    assert_eq!(paper.reasons[1], Reason::Budget { gain_us: 36.0, short_bytes: 10 });
    assert_eq!(paper.reasons[2], Reason::Budget { gain_us: 32.0, short_bytes: 0 });
    let default = select(&instance, Policy::Default);
    assert_eq!((default.chosen, default.bytes, default.value_us), (vec![0, 2], 60, 72.0));
    assert_eq!((default.upper_bound_us, default.optimality), (72.0, Optimality::Proven));
}

#[test]
fn the_rule_of_the_paper_takes_what_is_moot_and_the_default_does_not() {
    // What lies inside hits in the same calls, and costs only misses there.
    let nodes = [node(None, 10, 100.0, 1.0, "1100"), node(Some(0), 10, 90.0, 50.0, "1100")];
    let instance = instance(100, &nodes);
    let paper = select(&instance, Policy::Paper);
    assert_eq!((paper.chosen, paper.value_us), (vec![0, 1], 198.0 - 2.0 * 50.0));
    let default = select(&instance, Policy::Default);
    assert_eq!((default.chosen, default.value_us), (vec![0], 198.0));
}

#[test]
fn every_node_has_the_reason_that_applies_to_it() {
    let nodes = [
        node(None, 10, 100.0, 1.0, "11110"),
        node(Some(0), 10, 50.0, 20.0, "11110"),
        node(None, 10, 5.0, 9.0, "00001"),
        node(None, 1000, 900.0, 1.0, "11111"),
        node(None, 6, 40.0, 0.0, "11000"),
        node(None, 10, 70.0, 0.0, "00011"),
        // What lies around it would save less than it does.
        node(None, 40, 60.0, 30.0, "11000"),
        node(Some(6), 5, 58.0, 1.0, "11111"),
    ];
    let selection = select(&instance(27, &nodes), Policy::Default);
    assert_eq!((selection.chosen, selection.bytes), (vec![0, 5, 7], 25));
    assert_eq!(
        selection.reasons,
        [
            Reason::Chosen,
            Reason::CoveredBy { node: 0 },
            Reason::NoGain,
            Reason::TooLarge,
            Reason::Budget { gain_us: 80.0, short_bytes: 4 },
            Reason::Chosen,
            Reason::TooLarge,
            Reason::Chosen,
        ]
    );
    let selection = select(&instance(100, &nodes), Policy::Default);
    assert_eq!(selection.reasons[6], Reason::CoveredBy { node: 7 });
}

#[test]
fn an_outer_region_may_be_worth_it_only_for_the_misses_that_it_spares() {
    let nodes = [node(None, 1, -1.0, 0.0, "01111"), node(Some(0), 1, 100.0, 60.0, "10000")];
    let instance = instance(2, &nodes);
    assert_eq!((instance.value(&[0]), instance.value(&[1])), (-4.0, 100.0 - 240.0));
    for policy in [Policy::Default, Policy::Exact] {
        let selection = select(&instance, policy);
        assert_eq!((selection.chosen, selection.value_us), (vec![0, 1], 96.0));
    }
}

#[test]
fn nothing_to_choose_from_and_no_memory_are_no_problem() {
    let none = instance(100, &[]);
    let alone = instance(0, &[node(None, 1, 5.0, 0.0, "1")]);
    let unobserved = instance(100, &[node(None, 1, 5.0, 0.0, "")]);
    for policy in [Policy::Paper, Policy::Default, Policy::Exact] {
        for (instance, reasons) in
            [(&none, vec![]), (&alone, vec![Reason::TooLarge]), (&unobserved, vec![Reason::NoGain])]
        {
            let selection = select(instance, policy);
            assert_eq!((selection.chosen, selection.bytes, selection.value_us), (vec![], 0, 0.0));
            assert_eq!(selection.reasons, reasons);
        }
    }
}

#[test]
fn exact_finds_what_trying_all_plans_finds() {
    let mut random = Rng::with_seed(2);
    for _ in 0..400 {
        let (count, calls) = (random.usize(1..10), random.usize(1..130));
        let (_, instance) = random_instance(&mut random, count, calls);
        let selection = select(&instance, Policy::Exact);
        let best = best_of_all(&instance);
        assert!(close(selection.value_us, best), "{} {best}", selection.value_us);
        assert!(selection.bytes <= instance.budget_bytes());
        assert_eq!(selection.optimality, Optimality::Proven);
        assert_eq!(selection.value_us, instance.value(&selection.chosen));
        assert_eq!(selection.bytes, instance.bytes(&selection.chosen));
    }
}
