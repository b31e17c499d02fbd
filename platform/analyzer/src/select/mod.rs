//! The selection: which regions of code are worth persisting, within the memory that there is for it.
//!
//! Owns the choice and the reasons for it. It must not know what a region is, nor where the figures come from: it sees a forest of
//! nodes, what each takes, and in which of the observed calls it would have hit. Pure and synchronous; the same instance always
//! gives the same plan.
//!
//! **Value.** A plan is worth what it would have saved in the observed calls, each walked from the outside in. A chosen region that
//! is executed and hits saves its time, and nothing inside it is reached; one that misses costs a look-up and a recording, and what
//! lies inside it is reached. So an outer hit makes inner regions moot, and an inner region may hit where the outer one misses.
//! Gains are not submodular: an outer region that hits may turn an inner one from a loss into a gain, by sparing it its misses.
//!
//! **Search.** The rule of the paper takes regions by what they save on their own until the next one does not fit. The default
//! begins with that and with greedy plans (`greedy.rs`), adds those that a price on each byte leads to (`relaxed.rs`), exchanges
//! regions, and then looks for what is better than all these by dynamic programming (`exact.rs`), which is mostly over at once. If
//! it is not, greedy plans from more seeds and more exchanges use up the work that is left. All work is counted, and bounded.

mod contributions;
mod exact;
mod greedy;
mod instance;
mod plan;
mod relaxed;

#[cfg(test)]
mod tests;

use contributions::Contributions;
pub use instance::{CALLS_MAX, COST_MAX_US, CallSet, DEPTH_MAX, Instance, InstanceError, NODES_MAX, Node};
use plan::Plan;
use relaxed::Relaxation;

/// By how much a new plan has to be better than the one that is in place, as a part of what that one saves.
pub const REPLAN_MARGIN: f64 = 0.10;

/// How nodes are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// By what each saves on its own, until the next one does not fit: the rule that the others are compared with.
    Paper,
    /// As good as can be found in a few milliseconds.
    #[default]
    Default,
    /// The best plan that there is, unless finding it takes more than some tenths of a second.
    Exact,
}

/// What is known of how good a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimality {
    /// No plan within the budget saves more.
    Proven,
    /// The best plan was looked for, but not within the work that the policy may do. It is somewhere up to the upper bound.
    GaveUp,
    /// The best plan was not looked for.
    NotTried,
}

/// Why a node is chosen or not.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is.
    Chosen,
    /// It hits too rarely for what it saves, whatever else is chosen.
    NoGain,
    /// It would gain something beside what is chosen, which is worth more for what it takes.
    Budget {
        /// What it would gain, microseconds over all observed calls.
        gain_us: f64,
        /// How many bytes there are too few for it. Nought only where the paper's rule stopped before it.
        short_bytes: u64,
    },
    /// It would gain something on its own, but a chosen node, around it or inside it, saves that already.
    CoveredBy {
        /// The one that saves most of it.
        node: usize,
    },
    /// It takes more than all the memory that there is.
    TooLarge,
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Selection {
    /// The chosen nodes, in ascending order.
    pub chosen: Vec<usize>,
    /// What they take, bytes.
    pub bytes: u64,
    /// What they would have saved over all observed calls, microseconds.
    pub value_us: f64,
    /// What any plan within the budget could have saved at most, microseconds.
    pub upper_bound_us: f64,
    /// How they were chosen.
    pub policy: Policy,
    /// What is known of how good that is.
    pub optimality: Optimality,
    /// The reason of each node.
    pub reasons: Vec<Reason>,
}

/// What became of a plan that is in place.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Replanned {
    /// What to persist from now on.
    pub selection: Selection,
    /// Whether that is the plan in place, but for what was dropped from it.
    pub kept: bool,
    /// Nodes of the plan in place that had become a loss, never hit, or for which there is no memory any more, in ascending order.
    pub dropped: Vec<usize>,
    /// What a new plan saves, microseconds over all observed calls.
    pub new_value_us: f64,
}

/// The work that a policy may do. Its units are look-ups, which with all that goes with them take some three nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Words of calls in the table of contributions.
    table_words: usize,
    /// Whatever it does before it looks for the best plan: first plans and exchanges.
    first: u64,
    /// Looking for the best plan.
    exact: u64,
    /// More seeds and exchanges, if the best plan was not found.
    more: u64,
}

const DEFAULT_LIMITS: Limits = Limits { table_words: 1 << 20, first: 300_000, exact: 400_000, more: 300_000 };
const EXACT_LIMITS: Limits = Limits { table_words: 1 << 22, first: 2_000_000, exact: 100_000_000, more: 5_000_000 };

struct Found {
    plan: Plan,
    upper_bound_us: f64,
    optimality: Optimality,
}

/// Chooses nodes.
#[must_use]
pub fn select(instance: &Instance, policy: Policy) -> Selection {
    match policy {
        Policy::Paper => {
            let mut contributions = Contributions::new(instance, DEFAULT_LIMITS.table_words);
            let plan = greedy::paper(&mut contributions);
            let (upper_bound_us, _) = bound(&mut contributions);
            let found = Found { plan, upper_bound_us, optimality: Optimality::NotTried };
            selection(found, policy, &mut contributions)
        }
        Policy::Default => search(instance, policy, DEFAULT_LIMITS),
        Policy::Exact => search(instance, policy, EXACT_LIMITS),
    }
}

/// What any plan within the budget could have saved at most, microseconds over all observed calls.
#[must_use]
pub fn upper_bound_us(instance: &Instance) -> f64 {
    bound(&mut Contributions::new(instance, DEFAULT_LIMITS.table_words)).0
}

/// Chooses nodes where some are persisted already. These stay as they are unless new ones save more by a margin, a part of what they
/// save, for beginning anew costs what had been recorded; but nodes that have become a loss are dropped, and so are those worth least
/// for each byte if there is less memory than there was, and what never hits. An index that no node has is passed over.
#[must_use]
pub fn replan(current: &[usize], instance: &Instance, policy: Policy, margin: f64) -> Replanned {
    let new = select(instance, policy);
    let mut contributions = Contributions::new(instance, DEFAULT_LIMITS.table_words);
    let in_place = instance.marks(current);
    let mut plan = Plan::of(&in_place, &mut contributions);
    let mut dropped: Vec<usize> =
        (0..in_place.len()).filter(|place| in_place[*place] && !plan.chosen[*place]).collect();
    dropped.extend(plan.prune(&mut contributions));
    dropped.extend(plan.squeeze(None, &mut contributions));
    dropped.extend(plan.prune(&mut contributions));
    let mut dropped: Vec<usize> = dropped.into_iter().map(|place| instance.regions[place].index).collect();
    dropped.sort_unstable();
    let (in_place, new_value_us) = (instance.value(&indices(&plan, instance)), new.value_us);
    let kept = new_value_us <= in_place + in_place.abs() * margin.max(0.0) + plan.rounding();
    if !kept {
        return Replanned { selection: new, kept, dropped, new_value_us };
    }
    let Selection { upper_bound_us, .. } = new;
    // A plan that is as good as one that is proven to be the best is the best.
    let proven = new.optimality == Optimality::Proven && in_place >= new_value_us - plan.rounding();
    let optimality = if proven { Optimality::Proven } else { Optimality::NotTried };
    let found = Found { plan, upper_bound_us, optimality };
    Replanned { selection: selection(found, policy, &mut contributions), kept, dropped, new_value_us }
}

fn bound(contributions: &mut Contributions<'_>) -> (f64, Option<Relaxation>) {
    match Relaxation::new(contributions) {
        Some(relaxation) => (relaxation.bound_us, Some(relaxation)),
        None => (relaxed::coarse_bound(contributions.instance), None),
    }
}

fn search(instance: &Instance, policy: Policy, limits: Limits) -> Selection {
    let mut contributions = Contributions::new(instance, limits.table_words);
    let found = find(limits, &mut contributions);
    selection(found, policy, &mut contributions)
}

fn find(limits: Limits, contributions: &mut Contributions<'_>) -> Found {
    let instance = contributions.instance;
    let (upper_bound_us, relaxation) = bound(contributions);
    let first = contributions.work() + limits.first;
    let mut best = Plan::empty(instance);
    let paper = greedy::paper(contributions);
    greedy::take(&mut best, paper, first, contributions);
    greedy::greedy(&mut best, first, contributions);
    for chosen in relaxation.iter().flat_map(|relaxation| &relaxation.plans).rev() {
        let plan = Plan::of(chosen, contributions);
        greedy::take(&mut best, plan, first, contributions);
    }
    if relaxation.as_ref().is_some_and(|relaxation| relaxation.reached) {
        return Found { plan: best, upper_bound_us, optimality: Optimality::Proven };
    }
    greedy::exchange(&mut best, first, contributions);
    if let Some(relaxation) = relaxation {
        let exact = contributions.work() + limits.exact;
        if let Ok(better) = exact::better(&best, &relaxation, exact, contributions) {
            let plan = better.unwrap_or(best);
            return Found { plan, upper_bound_us, optimality: Optimality::Proven };
        }
    }
    let more = contributions.work() + limits.more;
    greedy::enumerate(&mut best, more, contributions);
    greedy::exchange(&mut best, more, contributions);
    Found { plan: best, upper_bound_us, optimality: Optimality::GaveUp }
}

/// The chosen nodes in ascending order.
fn indices(plan: &Plan, instance: &Instance) -> Vec<usize> {
    let mut chosen: Vec<usize> = plan.places().map(|place| instance.regions[place].index).collect();
    chosen.sort_unstable();
    chosen
}

fn selection(found: Found, policy: Policy, contributions: &mut Contributions<'_>) -> Selection {
    let Found { plan, upper_bound_us, optimality } = found;
    let instance = contributions.instance;
    let mut reasons = vec![Reason::NoGain; instance.nodes()];
    for (place, region) in instance.regions.iter().enumerate() {
        reasons[region.index] = reason(place, &plan, contributions);
    }
    let chosen = indices(&plan, instance);
    // Summed afresh, so that it does not depend on the way on which the plan was found.
    let value_us = instance.value(&chosen);
    let upper_bound_us = match optimality {
        Optimality::Proven => value_us,
        Optimality::GaveUp | Optimality::NotTried => upper_bound_us.max(value_us),
    };
    Selection { bytes: instance.bytes(&chosen), value_us, upper_bound_us, policy, optimality, reasons, chosen }
}

fn reason(place: usize, plan: &Plan, contributions: &mut Contributions<'_>) -> Reason {
    if plan.chosen[place] {
        return Reason::Chosen;
    }
    let instance = contributions.instance;
    let region = &instance.regions[place];
    let gain_us = plan.change(place, contributions);
    let gains = gain_us > plan.rounding();
    if !gains && contributions.of(place, 0) <= 0.0 {
        return Reason::NoGain;
    }
    if region.bytes > instance.budget {
        return Reason::TooLarge;
    }
    if gains {
        let left = instance.budget.saturating_sub(plan.bytes);
        return Reason::Budget { gain_us, short_bytes: region.bytes.saturating_sub(left) };
    }
    match coverer(place, plan, instance) {
        Some(place) => Reason::CoveredBy { node: instance.regions[place].index },
        None => Reason::NoGain,
    }
}

/// The chosen region around this one or in it that saves most in the calls in which this one hits.
fn coverer(place: usize, plan: &Plan, instance: &Instance) -> Option<usize> {
    let common = |other: usize| -> f64 {
        let both = instance.hits(place).iter().zip(instance.hits(other));
        f64::from(both.map(|(hits, others)| (hits & others).count_ones()).sum::<u32>())
    };
    let own = &instance.regions[place];
    // An outer hit saves at most what this one would; inner ones what is their own.
    let around = std::iter::successors(own.parent, |outer| instance.regions[*outer].parent)
        .map(|outer| (outer, own.saved_us * common(outer)));
    let inside = (place + 1..own.end).map(|inner| (inner, instance.regions[inner].saved_us * common(inner)));
    around
        .chain(inside)
        .filter(|(other, saved)| plan.chosen[*other] && *saved > 0.0)
        .max_by(|(_, saved), (_, other)| saved.total_cmp(other))
        .map(|(other, _)| other)
}
