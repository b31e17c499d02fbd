//! What becomes of a plan that is in place.

use super::*;

/// Two that exclude each other, and one that gains or loses.
fn nodes(first_us: f64, second_us: f64, third_us: f64) -> Vec<Node> {
    vec![
        node(None, 60, first_us, 0.0, "1111"),
        node(None, 60, second_us, 0.0, "1111"),
        node(None, 10, third_us, 1.0, "1100"),
    ]
}

fn replanned(current: &[usize], nodes: &[Node], budget: u64) -> Replanned {
    replan(current, &instance(budget, nodes), Policy::default(), REPLAN_MARGIN)
}

#[test]
fn a_plan_stays_unless_a_new_one_is_better_by_the_margin() {
    let better = replanned(&[0, 2], &nodes(100.0, 105.0, 5.0), 100);
    assert!(better.kept && better.dropped.is_empty());
    assert_eq!((better.selection.chosen, better.selection.value_us), (vec![0, 2], 408.0));
    assert_eq!((better.new_value_us, better.selection.upper_bound_us), (428.0, 428.0));
    assert_eq!(better.selection.optimality, Optimality::NotTried);
    assert_eq!(better.selection.reasons[1], Reason::Budget { gain_us: 420.0, short_bytes: 30 });
    let much_better = replanned(&[0, 2], &nodes(100.0, 115.0, 5.0), 100);
    assert!(!much_better.kept);
    assert_eq!((much_better.selection.chosen, much_better.selection.value_us), (vec![1, 2], 468.0));
    // The margin is the caller's, and one below nought is none.
    let instance = instance(100, &nodes(100.0, 105.0, 5.0));
    assert!(!replan(&[0, 2], &instance, Policy::Default, 0.0).kept);
    assert!(!replan(&[0, 2], &instance, Policy::Default, -1.0).kept);
    assert!(replan(&[1, 2], &instance, Policy::Default, -1.0).kept);
}

#[test]
fn what_has_become_a_loss_is_dropped_from_a_plan_that_stays() {
    let replanned = replanned(&[2, 0], &nodes(100.0, 105.0, 0.5), 100);
    assert!(replanned.kept);
    assert_eq!((replanned.dropped, replanned.selection.chosen), (vec![2], vec![0]));
    assert_eq!(replanned.selection.reasons[2], Reason::NoGain);
}

#[test]
fn a_plan_for_which_there_is_no_memory_any_more_gives_up_what_is_worth_least_for_it() {
    let nodes = nodes(100.0, 100.0, 80.0);
    let replanned = replanned(&[0, 1, 2], &nodes, 70);
    assert_eq!(replanned.selection.chosen.len(), 2);
    assert!(replanned.kept && replanned.selection.bytes == 70 && replanned.selection.reasons[2] == Reason::Chosen);
    assert_eq!(replanned.selection.optimality, Optimality::Proven);
}

#[test]
fn nothing_in_place_is_replaced_by_anything_that_gains_and_not_by_what_does_not() {
    let anew = replanned(&[], &nodes(1.0, 2.0, 3.0), 60);
    assert!(!anew.kept);
    assert_eq!(anew.selection.chosen, [1]);
    let nothing = replanned(&[7], &nodes(-1.0, -2.0, 0.0), 60);
    assert!(nothing.kept && nothing.selection.chosen.is_empty() && nothing.dropped.is_empty());
}

#[test]
fn what_is_replanned_is_never_worse_by_more_than_the_margin() {
    let mut random = Rng::with_seed(11);
    let mut kept = 0;
    for _ in 0..300 {
        let (_, instance) = random_instance(&mut random, 10, 80);
        let current: Vec<usize> = (0..10).filter(|_| random.f64() < 0.4).collect();
        let replanned = replan(&current, &instance, Policy::Default, REPLAN_MARGIN);
        let Selection { chosen, bytes, value_us, upper_bound_us, .. } = replanned.selection;
        assert!(bytes <= instance.budget_bytes() && value_us <= upper_bound_us);
        assert!(value_us * (1.0 + REPLAN_MARGIN) >= replanned.new_value_us - 1e-6);
        if replanned.kept {
            kept += 1;
            let mut left = current.clone();
            left.retain(|node| !replanned.dropped.contains(node));
            assert_eq!(chosen, left);
        }
    }
    assert!((10..290).contains(&kept), "{kept}");
}
