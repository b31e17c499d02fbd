//! How good the plans are, over many instances: against the best ones, the rule of the paper, and the bounds.

use super::*;

/// The plans that are found without prices on bytes and without looking for the best one.
fn searched_only(instance: &Instance) -> f64 {
    let mut contributions = Contributions::new(instance, DEFAULT_LIMITS.table_words);
    let work_max = DEFAULT_LIMITS.first + DEFAULT_LIMITS.more;
    let mut best = Plan::empty(instance);
    let paper = greedy::paper(&mut contributions);
    greedy::take(&mut best, paper, work_max, &mut contributions);
    greedy::greedy(&mut best, work_max, &mut contributions);
    greedy::exchange(&mut best, work_max, &mut contributions);
    greedy::enumerate(&mut best, work_max, &mut contributions);
    instance.value(&indices(&best, instance))
}

/// Mean and fifth percentile.
fn mean_and_low(mut ratios: Vec<f64>) -> (f64, f64) {
    ratios.sort_by(f64::total_cmp);
    (ratios.iter().sum::<f64>() / ratios.len() as f64, ratios[ratios.len() / 20])
}

fn ratio(value: f64, best: f64) -> f64 {
    if best <= 0.0 { 1.0 } else { value / best }
}

#[test]
fn the_default_is_nearly_as_good_as_the_best_even_where_it_does_not_look_for_it() {
    let mut random = Rng::with_seed(3);
    let (mut default, mut searched) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let (count, calls) = (random.usize(8..17), random.usize(50..301));
        let (_, instance) = random_instance(&mut random, count, calls);
        let best = select(&instance, Policy::Exact);
        assert_eq!(best.optimality, Optimality::Proven);
        default.push(ratio(select(&instance, Policy::Default).value_us, best.value_us));
        searched.push(ratio(searched_only(&instance), best.value_us));
    }
    for (which, ratios) in [("default", default), ("without looking for the best", searched)] {
        let (mean, low) = mean_and_low(ratios);
        println!("{which}: mean {mean:.4}, fifth percentile {low:.4} of the best");
        assert!(mean >= 0.98 && low >= 0.90, "{which}: {mean} {low}");
    }
}

#[test]
fn where_memory_is_scarce_the_default_saves_on_average_1_3_times_what_the_rule_of_the_paper_does() {
    let mut random = Rng::with_seed(4);
    let (mut more, mut default_sum, mut paper_sum, mut nothing) = (Vec::new(), 0.0, 0.0, 0);
    for _ in 0..300 {
        let count = random.usize(24..65);
        let nodes = nested(&mut random, count, 200);
        let budget = (all_bytes(&nodes) as f64 * (0.05 + 0.05 * random.f64())) as u64;
        let instance = Instance::new(200, budget, &nodes).unwrap();
        let (default, paper) = (select(&instance, Policy::Default), select(&instance, Policy::Paper));
        assert!(default.value_us >= paper.value_us - 1e-6);
        default_sum += default.value_us;
        paper_sum += paper.value_us;
        // Where the paper's rule saves nothing at all, there is no such figure.
        if paper.value_us > 0.0 {
            more.push(default.value_us / paper.value_us);
        } else {
            nothing += 1;
        }
    }
    more.sort_by(f64::total_cmp);
    let mean = more.iter().sum::<f64>() / more.len() as f64;
    let (median, all) = (more[more.len() / 2], default_sum / paper_sum);
    println!(
        "times the paper's rule: mean {mean:.3}, median {median:.3}, of all sums {all:.3}; it saves nothing in {nothing}"
    );
    // The mean is what is promised. It is above the median, for there are instances in which the rule stops almost at once: the
    // other two are there so that it is not these alone.
    assert!(mean >= 1.3 && median >= 1.1 && all >= 1.2, "{mean} {median} {all}");
}

#[test]
fn no_plan_saves_more_than_the_bounds_say_and_none_less_than_the_rule_of_the_paper() {
    let mut random = Rng::with_seed(5);
    let mut above = Vec::new();
    for _ in 0..600 {
        let (count, calls) = (random.usize(1..17), random.usize(1..150));
        let (_, instance) = random_instance(&mut random, count, calls);
        let best = select(&instance, Policy::Exact);
        assert_eq!(best.optimality, Optimality::Proven);
        let (bound, coarse) = (upper_bound_us(&instance), relaxed::coarse_bound(&instance));
        assert!(bound >= best.value_us && coarse >= best.value_us, "{} {bound} {coarse}", best.value_us);
        for policy in [Policy::Paper, Policy::Default] {
            let selection = select(&instance, policy);
            assert!(selection.bytes <= instance.budget_bytes());
            assert!(selection.value_us <= best.value_us + 1e-6 * (1.0 + best.value_us.abs()));
            assert!(selection.upper_bound_us >= best.value_us - 1e-6);
            assert!(policy == Policy::Paper || selection.value_us >= select(&instance, Policy::Paper).value_us - 1e-6);
        }
        if best.value_us > 0.0 {
            above.push(bound / best.value_us);
        }
    }
    above.sort_by(f64::total_cmp);
    let (mean, high) = (above.iter().sum::<f64>() / above.len() as f64, above[above.len() * 95 / 100]);
    println!("the bound is {mean:.3} times the best on average, {high:.3} at the 95th percentile");
    assert!(mean < 1.2, "a bound that says next to nothing: {mean}");
}

#[test]
fn more_memory_never_saves_less() {
    let mut random = Rng::with_seed(6);
    for _ in 0..60 {
        let (count, calls) = (random.usize(4..17), random.usize(20..200));
        let (nodes, mut instance) = random_instance(&mut random, count, calls);
        let mut before = 0.0;
        for step in 0..12 {
            instance = instance.with_budget(all_bytes(&nodes) * step / 11);
            let value = select(&instance, Policy::Exact).value_us;
            assert!(value >= before - 1e-6 * (1.0 + before), "{value} {before}");
            before = value;
        }
    }
}

#[test]
fn larger_forests_are_chosen_from_too_and_are_close_to_their_bound() {
    let mut random = Rng::with_seed(7);
    let mut ratios = Vec::new();
    for _ in 0..20 {
        let nodes = nested(&mut random, 64, 500);
        let budget = (all_bytes(&nodes) as f64 * (0.05 + 0.3 * random.f64())) as u64;
        let instance = Instance::new(500, budget, &nodes).unwrap();
        let selection = select(&instance, Policy::Default);
        ratios.push(ratio(selection.value_us, upper_bound_us(&instance)));
        assert!(ratio(searched_only(&instance), selection.value_us) >= 0.95);
    }
    let (mean, low) = mean_and_low(ratios);
    println!("64 nodes: mean {mean:.4}, lowest {low:.4} of the bound");
    assert!(mean >= 0.95, "{mean}");
}

#[test]
fn what_is_nested_too_deeply_for_a_table_is_chosen_from_all_the_same() {
    let mut random = Rng::with_seed(8);
    let mut nodes = arbitrary(&mut random, 100, 120);
    for (index, node) in nodes.iter_mut().enumerate() {
        node.parent = index.checked_sub(1);
    }
    let instance = Instance::new(120, all_bytes(&nodes) / 3, &nodes).unwrap();
    let (paper, exact) = (select(&instance, Policy::Paper), select(&instance, Policy::Exact));
    assert_eq!(exact.optimality, Optimality::GaveUp);
    assert!(exact.bytes <= instance.budget_bytes());
    assert!(exact.value_us > 0.0 && exact.value_us >= paper.value_us);
    assert!(exact.upper_bound_us >= exact.value_us);
    assert!(exact.reasons.iter().filter(|reason| **reason == Reason::Chosen).count() == exact.chosen.len());
}

#[test]
fn who_may_work_little_says_that_the_best_is_not_known() {
    let mut random = Rng::with_seed(9);
    let limits = Limits { exact: 0, more: 0, ..DEFAULT_LIMITS };
    let mut gave_up = 0;
    for _ in 0..50 {
        let (_, instance) = random_instance(&mut random, 14, 100);
        let selection = search(&instance, Policy::Default, limits);
        let best = select(&instance, Policy::Exact).value_us;
        match selection.optimality {
            Optimality::Proven => assert!(close(selection.value_us, best)),
            Optimality::GaveUp => gave_up += 1,
            Optimality::NotTried => panic!("the default always tries"),
        }
        assert!(selection.upper_bound_us >= best);
    }
    assert!(gave_up > 0);
}

#[test]
fn counted_step_by_step_a_plan_is_worth_what_it_is_worth() {
    let mut random = Rng::with_seed(10);
    for _ in 0..100 {
        let (_, instance) = random_instance(&mut random, 12, 90);
        for table_words in [0, DEFAULT_LIMITS.table_words] {
            let mut contributions = Contributions::new(&instance, table_words);
            let mut plan = Plan::empty(&instance);
            for _ in 0..40 {
                let place = random.usize(..12);
                if contributions.may_be_chosen(place) {
                    plan.toggle(place, &mut contributions);
                }
                let chosen = indices(&plan, &instance);
                assert!(close(plan.value_us, instance.value(&chosen)));
                assert_eq!(plan.bytes, instance.bytes(&chosen));
            }
        }
    }
}

#[test]
fn what_is_better_than_a_plan_is_found_however_bad_that_plan_is() {
    let mut random = Rng::with_seed(12);
    let mut better = 0;
    for round in 0..300 {
        // A few of them are larger.
        let count = if round % 30 == 0 { 13 } else { random.usize(2..10) };
        let calls = random.usize(1..130);
        let (_, instance) = random_instance(&mut random, count, calls);
        let mut contributions = Contributions::new(&instance, DEFAULT_LIMITS.table_words);
        let relaxation = Relaxation::new(&mut contributions).unwrap();
        let nothing = Plan::empty(&instance);
        let found = exact::better(&nothing, &relaxation, u64::MAX, &mut contributions).unwrap();
        let best = best_of_all(&instance);
        assert!(close(found.as_ref().map_or(0.0, |plan| plan.value_us), best));
        if let Some(plan) = found {
            better += 1;
            assert!(plan.bytes <= instance.budget_bytes());
            assert!(exact::better(&plan, &relaxation, u64::MAX, &mut contributions).unwrap().is_none());
        }
    }
    assert!(better > 150, "{better}");
}

/// The greedy rule as it is told: all gains counted again for each choice.
fn told(instance: &Instance, by: greedy::By) -> f64 {
    let (mut chosen, mut value) = (Vec::new(), 0.0);
    loop {
        let offers = (0..instance.nodes()).filter(|index| !chosen.contains(index)).filter_map(|index| {
            let with: Vec<usize> = chosen.iter().copied().chain([index]).collect();
            let gain = instance.value(&with) - value;
            let bytes = instance.bytes(&[index]).max(1) as f64;
            let fits = gain > 1e-6 && instance.bytes(&with) <= instance.budget_bytes();
            fits.then_some((if by == greedy::By::Gain { gain } else { gain / bytes }, index))
        });
        let Some((_, index)) = offers.max_by(|(rank, _), (other, _)| rank.total_cmp(other)) else { return value };
        chosen.push(index);
        value = instance.value(&chosen);
    }
}

#[test]
fn greedy_takes_what_gains_most_given_what_it_has_taken() {
    let mut random = Rng::with_seed(13);
    for _ in 0..200 {
        let (_, instance) = random_instance(&mut random, 14, 100);
        for by in [greedy::By::Density, greedy::By::Gain] {
            let mut contributions = Contributions::new(&instance, DEFAULT_LIMITS.table_words);
            let mut plan = Plan::empty(&instance);
            greedy::fill(&mut plan, by, u64::MAX, &mut contributions);
            assert!(close(plan.value_us, told(&instance, by)), "{by:?}");
        }
    }
}
