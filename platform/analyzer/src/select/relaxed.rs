//! What any plan could save at most: bounds from above, and the plans that are met on the way to them.
//!
//! With a price on each byte the budget couples nothing any more, and the best plan is found exactly, from the innermost regions
//! out, for every choice of what lies around them. Its savings less what it pays, and the budget at that price, bound what any plan
//! within the budget saves (Lagrangian relaxation; Fisher, Management Science 1981). The price that bounds best is found in a few
//! steps, and the plans on both sides of it are the best ones for what they take.

use super::contributions::{Contributions, Table};
use super::instance::Instance;

/// Steps to the best price.
const STEPS_MAX: usize = 64;
/// What of a sum may be nothing but rounding: bounds are raised by it, so that they stay bounds.
const ROUNDING: f64 = 1e-9;

/// The best of all plans for every choice of what lies around them, at a price.
pub(super) struct Relaxation {
    /// The bound, microseconds.
    pub bound_us: f64,
    /// The price of a byte that gives it, microseconds.
    pub price_us: f64,
    /// What each region and what it encloses saves at that price at most, by place and path.
    reduced: Vec<f64>,
    starts: Vec<usize>,
    /// Plans that were met and are within the budget.
    pub plans: Vec<Vec<bool>>,
    /// Whether the bound is reached by the first of them.
    pub reached: bool,
}

struct Priced {
    reduced: Vec<f64>,
    /// The plan's, at this price.
    total: f64,
    chosen: Vec<bool>,
    bytes: f64,
    value_us: f64,
}

impl Relaxation {
    /// Finds the best price. Nothing if there is no table of contributions.
    pub fn new(contributions: &mut Contributions<'_>) -> Option<Self> {
        let instance = contributions.instance;
        let table = contributions.all()?;
        let budget = instance.budget as f64;
        let mut steps = 1;
        let free = price(instance, table, 0.0);
        let raised = |bound: f64| bound + ROUNDING * (1.0 + bound.abs());
        let mut found = Self {
            bound_us: raised(free.total),
            price_us: 0.0,
            reduced: Vec::new(),
            starts: table.starts.to_vec(),
            plans: Vec::new(),
            reached: free.bytes <= budget,
        };
        if found.reached {
            found.plans.push(free.chosen);
            found.reduced = free.reduced;
        } else {
            // Two plans, one beyond the budget and one within it: where their worths are equal lies the next price.
            let (mut beyond, mut within) = ((free.bytes, free.value_us), (0.0, 0.0));
            while steps < STEPS_MAX {
                let next = (beyond.1 - within.1) / (beyond.0 - within.0);
                if next.is_nan() || next <= 0.0 {
                    break;
                }
                let priced = price(instance, table, next);
                steps += 1;
                let bound = raised(priced.total + next * budget);
                if found.reduced.is_empty() || bound < found.bound_us {
                    found.price_us = next;
                    found.bound_us = found.bound_us.min(bound);
                    found.reduced = priced.reduced;
                }
                let known = within.1 - next * within.0;
                if priced.bytes <= budget {
                    within = (priced.bytes, priced.value_us);
                    found.plans.push(priced.chosen);
                } else {
                    beyond = (priced.bytes, priced.value_us);
                }
                if priced.total <= known + ROUNDING * (1.0 + known.abs()) {
                    break;
                }
            }
            if found.reduced.is_empty() {
                found.reduced = free.reduced;
            }
        }
        let states = table.contributions.len();
        contributions.worked(steps * states * 2);
        Some(found)
    }

    /// What a region and what it encloses saves at the price, at most, where these regions around it are chosen.
    pub fn reduced(&self, place: usize, path: usize) -> f64 {
        self.reduced[self.starts[place] + path]
    }
}

/// The best plan at a price.
fn price(instance: &Instance, table: Table<'_>, price_us: f64) -> Priced {
    let nodes = instance.nodes();
    let states = table.contributions.len();
    let mut reduced = vec![0.0; states];
    // What the regions in each place save together if it is not chosen, and if it is.
    let mut without = vec![0.0; states];
    let mut with = vec![0.0; states];
    let mut total = 0.0;
    for place in (0..nodes).rev() {
        let region = &instance.regions[place];
        let own = table.of(place);
        let paid = if table.bits[place] == 0 { f64::INFINITY } else { price_us * region.bytes as f64 };
        for at in own.clone() {
            with[at] += table.contributions[at] - paid;
            reduced[at] = with[at].max(without[at]);
        }
        match region.parent {
            None => total += reduced[own.start],
            Some(parent) => {
                // The upper half of its paths has the parent chosen, the lower half not; where it may not be, there is no upper one.
                let outer = table.of(parent);
                let (not_chosen, chosen) = reduced[own].split_at(outer.len());
                without[outer.clone()].iter_mut().zip(not_chosen).for_each(|(sum, inner)| *sum += inner);
                with[outer].iter_mut().zip(chosen).for_each(|(sum, inner)| *sum += inner);
            }
        }
    }
    let mut chosen = vec![false; nodes];
    let mut paths = vec![0usize; nodes];
    let (mut bytes, mut value_us) = (0.0, 0.0);
    for (place, region) in instance.regions.iter().enumerate() {
        if let Some(parent) = region.parent {
            paths[place] = paths[parent] | if chosen[parent] { table.bits[parent] as usize } else { 0 };
        }
        let at = table.starts[place] + paths[place];
        if with[at] > without[at] {
            chosen[place] = true;
            bytes += region.bytes as f64;
            value_us += table.contributions[at];
        }
    }
    Priced { reduced, total, chosen, bytes, value_us }
}

/// The bounds for what is nested too deeply for a table: the better one of two.
pub(super) fn coarse_bound(instance: &Instance) -> f64 {
    let bound = best_of_each_call(instance).min(fractional_knapsack(instance));
    bound + ROUNDING * (1.0 + bound.abs())
}

/// As if there were memory for everything, what is chosen could differ from call to call, and nothing missed.
fn best_of_each_call(instance: &Instance) -> f64 {
    let mut sum = 0.0;
    let mut inner = vec![0.0f64; instance.nodes()];
    for call in 0..instance.calls() {
        inner.fill(0.0);
        for (place, region) in instance.regions.iter().enumerate().rev() {
            let hit = instance.hits(place)[call / 64] >> (call % 64) & 1 == 1;
            let fits = region.bytes <= instance.budget;
            let best = if hit && fits { inner[place].max(region.saved_us) } else { inner[place] };
            match region.parent {
                Some(parent) => inner[parent] += best,
                None => sum += best,
            }
        }
    }
    sum
}

/// As if each region saved with all its hits, missed only what nothing around it could spare it, and could be chosen in part
/// (Dantzig, Operations Research 1957).
fn fractional_knapsack(instance: &Instance) -> f64 {
    let mut spared: Vec<Vec<u64>> = Vec::new();
    let mut offers: Vec<(f64, f64)> = Vec::new();
    for (place, region) in instance.regions.iter().enumerate() {
        spared.truncate(region.depth);
        let around = spared.last().cloned().unwrap_or_else(|| vec![0; instance.width]);
        let hits: u32 = instance.hits(place).iter().map(|word| word.count_ones()).sum();
        let misses: u32 =
            instance.misses(place).iter().zip(&around).map(|(word, spared)| (word & !spared).count_ones()).sum();
        let gain = region.saved_us * f64::from(hits) - region.missed_us * f64::from(misses);
        if gain > 0.0 && region.bytes <= instance.budget {
            offers.push((gain, region.bytes as f64));
        }
        spared.push(around.iter().zip(instance.hits(place)).map(|(around, hits)| around | hits).collect());
    }
    offers.sort_by(|(gain, bytes), (other, size)| (other * bytes).total_cmp(&(gain * size)));
    let (mut sum, mut left) = (0.0, instance.budget as f64);
    for (gain, bytes) in offers {
        if bytes > left {
            return sum + gain * left / bytes;
        }
        sum += gain;
        left -= bytes;
    }
    sum
}
