//! Plans that are found step by step: the rule of the paper, the greedy ones, greedy from seeds, and exchanges.
//!
//! The greedy rule takes what gains most for each byte, given what is chosen, until nothing that fits gains anything. It keeps
//! gains in a heap, as CELF does (Leskovec et al., KDD 2007), but does not put off counting again what changed: that is right only
//! where gains never rise, and here they do, for an outer hit spares an inner region its misses. A choice changes the gains of
//! nothing but what lies around it and in it, so these alone are counted again, at once, and what the heap says is always true.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::contributions::Contributions;
use super::instance::Instance;
use super::plan::Plan;

/// Seeds are taken from so many regions that are worth most on their own.
const SEEDS_MAX: usize = 64;
/// Up to so many of them, triples are tried too.
const TRIPLES_MAX: usize = 24;

/// By what the next region is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Gain,
    Density,
}

impl By {
    fn rank(self, gain: f64, bytes: u64) -> f64 {
        match self {
            Self::Gain => gain,
            Self::Density => gain / bytes.max(1) as f64,
        }
    }
}

/// What a region would gain, in the order in which regions are taken.
struct Offer {
    rank: f64,
    gain: f64,
    place: usize,
}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equals the outermost comes first, so that the same instance always gives the same plan.
        self.rank.total_cmp(&other.rank).then(other.place.cmp(&self.place))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Offer {}

/// The rule of the paper: by what each region saves on its own, misses and nesting left out, until the next one does not fit.
pub(super) fn paper(contributions: &mut Contributions<'_>) -> Plan {
    let instance = contributions.instance;
    let profit = |place: usize| {
        let hits: u32 = instance.hits(place).iter().map(|word| word.count_ones()).sum();
        instance.regions[place].saved_us * f64::from(hits)
    };
    let mut ranked: Vec<(f64, usize)> = (0..instance.nodes()).map(|place| (profit(place), place)).collect();
    ranked.retain(|(profit, _)| *profit > 0.0);
    ranked.sort_by(|(profit, place), (other, at)| other.total_cmp(profit).then(place.cmp(at)));
    let mut plan = Plan::empty(instance);
    for (_, place) in ranked {
        if !plan.fits(place, instance) {
            break;
        }
        plan.toggle(place, contributions);
    }
    plan
}

/// What each region would gain if nothing else were chosen.
pub(super) fn alone(contributions: &mut Contributions<'_>) -> Vec<f64> {
    (0..contributions.instance.nodes()).map(|place| contributions.of(place, 0)).collect()
}

/// Goes on greedily from a plan, until nothing gains or the work is done.
pub(super) fn fill(plan: &mut Plan, by: By, work_max: u64, contributions: &mut Contributions<'_>) {
    let gains = (0..plan.chosen.len())
        .map(|place| if plan.chosen[place] { 0.0 } else { plan.change(place, contributions) })
        .collect();
    fill_from(plan, gains, by, work_max, contributions);
}

/// The same with what each region that is not chosen would gain.
fn fill_from(plan: &mut Plan, mut gains: Vec<f64>, by: By, work_max: u64, contributions: &mut Contributions<'_>) {
    let instance = contributions.instance;
    let offer = |plan: &Plan, place: usize, gain: f64| {
        let offered = !plan.chosen[place] && gain > plan.rounding() && plan.fits(place, instance);
        offered.then(|| Offer { rank: by.rank(gain, instance.regions[place].bytes), gain, place })
    };
    let mut offers: BinaryHeap<Offer> =
        gains.iter().enumerate().filter_map(|(place, gain)| offer(plan, place, *gain)).collect();
    contributions.worked(gains.len());
    while let Some(Offer { gain, place, .. }) = offers.pop() {
        if contributions.work() > work_max {
            return;
        }
        contributions.worked(4);
        // Offers that were counted again since lie further down, or came before.
        if plan.chosen[place] || gain.to_bits() != gains[place].to_bits() || !plan.fits(place, instance) {
            continue;
        }
        plan.toggle(place, contributions);
        for relative in relatives(instance, place) {
            if !plan.chosen[relative] && plan.fits(relative, instance) {
                gains[relative] = plan.change(relative, contributions);
                offers.extend(offer(plan, relative, gains[relative]));
            }
        }
    }
}

/// The regions around a place and in it.
fn relatives(instance: &Instance, place: usize) -> impl Iterator<Item = usize> + '_ {
    let around = std::iter::successors(instance.regions[place].parent, |outer| instance.regions[*outer].parent);
    around.chain(place + 1..instance.regions[place].end)
}

/// A plan without its losses, filled up again with what then fits.
pub(super) fn finish(plan: &mut Plan, work_max: u64, contributions: &mut Contributions<'_>) {
    plan.prune(contributions);
    fill(plan, By::Density, work_max, contributions);
    plan.prune(contributions);
}

/// Greedy from nothing, by both ranks, and from the best single region.
pub(super) fn greedy(best: &mut Plan, work_max: u64, contributions: &mut Contributions<'_>) {
    let gains = alone(contributions);
    for by in [By::Density, By::Gain] {
        let mut plan = Plan::empty(contributions.instance);
        fill_from(&mut plan, gains.clone(), by, work_max, contributions);
        take(best, plan, work_max, contributions);
    }
    if let Some(place) = promising(&gains, contributions.instance).first() {
        from_seeds(best, &[*place], &gains, work_max, contributions);
    }
}

/// Greedy from single regions, then pairs, then triples, those worth most first, until the work is done (Khuller, Moss and Naor,
/// Information Processing Letters 1999, for coverage under a budget).
pub(super) fn enumerate(best: &mut Plan, work_max: u64, contributions: &mut Contributions<'_>) {
    let gains = alone(contributions);
    let seeds = promising(&gains, contributions.instance);
    let pairs = (0..seeds.len()).flat_map(|last| (0..last).map(move |first| vec![first, last]));
    let triples = (0..seeds.len().min(TRIPLES_MAX))
        .flat_map(|last| (0..last).flat_map(move |middle| (0..middle).map(move |first| vec![first, middle, last])));
    for seed in (0..seeds.len()).map(|only| vec![only]).chain(pairs).chain(triples) {
        if contributions.work() > work_max {
            return;
        }
        let seed: Vec<usize> = seed.into_iter().map(|rank| seeds[rank]).collect();
        from_seeds(best, &seed, &gains, work_max, contributions);
    }
}

/// Regions that fit and gain something on their own, those that gain most first.
fn promising(gains: &[f64], instance: &Instance) -> Vec<usize> {
    let mut seeds: Vec<usize> = (0..gains.len())
        .filter(|place| gains[*place] > 0.0 && instance.regions[*place].bytes <= instance.budget)
        .collect();
    seeds.sort_by(|place, other| gains[*other].total_cmp(&gains[*place]).then(place.cmp(other)));
    seeds.truncate(SEEDS_MAX);
    seeds
}

fn from_seeds(best: &mut Plan, seeds: &[usize], alone: &[f64], work_max: u64, contributions: &mut Contributions<'_>) {
    let instance = contributions.instance;
    let mut plan = Plan::empty(instance);
    for place in seeds {
        if !plan.fits(*place, instance) {
            return;
        }
        plan.toggle(*place, contributions);
    }
    let mut gains = alone.to_vec();
    for place in seeds.iter().flat_map(|seed| relatives(instance, *seed)) {
        if !plan.chosen[place] {
            gains[place] = plan.change(place, contributions);
        }
    }
    fill_from(&mut plan, gains, By::Density, work_max, contributions);
    take(best, plan, work_max, contributions);
}

/// Finishes a plan, and takes it if it is better than the best.
pub(super) fn take(best: &mut Plan, mut plan: Plan, work_max: u64, contributions: &mut Contributions<'_>) {
    finish(&mut plan, work_max, contributions);
    if plan.value_us > best.value_us + best.rounding() {
        *best = plan;
    }
}

/// Puts regions in for which others have to go, as long as that makes the plan better and the work is not done.
pub(super) fn exchange(best: &mut Plan, work_max: u64, contributions: &mut Contributions<'_>) {
    let instance = contributions.instance;
    let nodes = instance.nodes();
    // Places that were tried since the plan last became better.
    let (mut tried, mut place) = (0, 0);
    while tried < nodes && contributions.work() <= work_max {
        tried += 1;
        place = (place + 1) % nodes;
        if best.chosen[place] || !contributions.may_be_chosen(place) {
            continue;
        }
        let mut plan = best.clone();
        plan.toggle(place, contributions);
        plan.squeeze(Some(place), contributions);
        let before = best.value_us;
        take(best, plan, work_max, contributions);
        if best.value_us > before {
            tried = 0;
        }
    }
}
