//! The best plan of all, if it is found within the work that may be done.
//!
//! Dynamic programming over the forest. For a region, and a choice of what lies around it, the plans within it that matter are
//! those than which none takes less and saves more: what lies elsewhere does not depend on which of them is taken (Nemhauser and
//! Ullmann, Management Science 1969, on a tree). Of these, the ones are left out that cannot lead to more than the best plan that
//! is known, even if all the rest were as the relaxation bounds it. That leaves few where the best known plan is good.

use super::contributions::Contributions;
use super::plan::Plan;
use super::relaxed::Relaxation;

/// Pairs of parts that are put side by side at a time, and ways in which parts came about: bounds of the memory it takes.
const PAIRS_MAX: usize = 1 << 20;
const TRAILS_MAX: usize = 1 << 21;
/// What a pair costs, in look-ups.
const PAIR_WORK: usize = 12;
/// Nothing is chosen.
const NOTHING: u32 = 0;

/// A plan within a part of the forest.
#[derive(Debug, Clone, Copy)]
struct Part {
    bytes: u64,
    value_us: f64,
    /// Where `trails` says what is chosen.
    trail: u32,
}

const EMPTY: Part = Part { bytes: 0, value_us: 0.0, trail: NOTHING };

/// How a part came about.
#[derive(Debug, Clone, Copy)]
enum Trail {
    Nothing,
    Chosen(usize, u32),
    Both(u32, u32),
}

struct Search<'a, 'b> {
    contributions: &'b mut Contributions<'a>,
    relaxation: &'b Relaxation,
    /// What a part, what it pays and what the rest saves at most have to be above.
    to_beat: f64,
    work_max: u64,
    trails: Vec<Trail>,
}

/// The best plan, if it is better than this one. Nothing if this one is the best; an error if the work was done before that was known.
///
/// # Errors
///
/// It is not known whether there is a better one.
pub(super) fn better(
    than: &Plan,
    relaxation: &Relaxation,
    work_max: u64,
    contributions: &mut Contributions<'_>,
) -> Result<Option<Plan>, Unknown> {
    let instance = contributions.instance;
    let budget_us = relaxation.price_us * instance.budget as f64;
    // Sums of what is bound to the price are as large as what the budget costs, and so is their rounding.
    let rounding = than.rounding() * 10.0 + budget_us * 1e-12;
    let mut search = Search {
        contributions,
        relaxation,
        to_beat: than.value_us + rounding - budget_us,
        work_max,
        trails: vec![Trail::Nothing],
    };
    let outermost: Vec<usize> = search.inside(0, instance.nodes());
    let parts = search.together(&outermost, 0, 0.0)?;
    let best = parts.into_iter().max_by(|part, other| part.value_us.total_cmp(&other.value_us));
    let Some(best) = best.filter(|best| best.value_us > than.value_us + than.rounding()) else { return Ok(None) };
    let mut chosen = vec![false; instance.nodes()];
    let mut waiting = vec![best.trail];
    while let Some(trail) = waiting.pop() {
        match search.trails[trail as usize] {
            Trail::Nothing => {}
            Trail::Chosen(place, rest) => {
                chosen[place] = true;
                waiting.push(rest);
            }
            Trail::Both(first, second) => waiting.extend([first, second]),
        }
    }
    Ok(Some(Plan::of(&chosen, contributions)))
}

/// The work that may be done was done before the best plan was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

impl Search<'_, '_> {
    /// The outermost regions in a range of places.
    fn inside(&self, from: usize, end: usize) -> Vec<usize> {
        let regions = &self.contributions.instance.regions;
        std::iter::successors(Some(from), |place| regions.get(*place).map(|region| region.end))
            .take_while(|place| *place < end)
            .collect()
    }

    fn hopeless(&self, bytes: u64, value_us: f64, rest_us: f64) -> bool {
        value_us - self.relaxation.price_us * bytes as f64 + rest_us <= self.to_beat
    }

    /// The parts in these regions side by side, where these regions are chosen around them and everything else saves so much at most.
    fn together(&mut self, places: &[usize], path: usize, rest_us: f64) -> Result<Vec<Part>, Unknown> {
        let mut inside: f64 = places.iter().map(|place| self.relaxation.reduced(*place, path)).sum();
        if self.hopeless(0, 0.0, rest_us + inside) {
            return Ok(Vec::new());
        }
        let mut parts = vec![EMPTY];
        for place in places {
            let others = inside - self.relaxation.reduced(*place, path);
            // What came before stands for the best that it could be: which of its parts is taken is not known here.
            let before: f64 = places
                .iter()
                .take_while(|other| *other != place)
                .map(|other| self.relaxation.reduced(*other, path))
                .sum();
            let own = self.region(*place, path, rest_us + others + before)?;
            inside = others;
            parts = self.combined(&parts, &own, rest_us + inside)?;
            if parts.is_empty() {
                break;
            }
        }
        Ok(parts)
    }

    /// The parts in a region.
    fn region(&mut self, place: usize, path: usize, rest_us: f64) -> Result<Vec<Part>, Unknown> {
        if self.hopeless(0, 0.0, rest_us + self.relaxation.reduced(place, path)) {
            return Ok(Vec::new());
        }
        let instance = self.contributions.instance;
        let (bytes, end) = (instance.regions[place].bytes, instance.regions[place].end);
        let inner = self.inside(place + 1, end);
        let without = self.together(&inner, path, rest_us)?;
        if !self.contributions.may_be_chosen(place) {
            return Ok(without);
        }
        let own = self.contributions.of(place, path as u128);
        let reduced = own - self.relaxation.price_us * bytes as f64;
        let mut with = self.together(&inner, path | self.contributions.bit(place) as usize, rest_us + reduced)?;
        with.retain(|part| part.bytes <= instance.budget - bytes);
        for part in &mut with {
            part.bytes += bytes;
            part.value_us += own;
            part.trail = trail(&mut self.trails, Trail::Chosen(place, part.trail));
        }
        self.contributions.worked(4 * (with.len() + without.len()));
        let mut all = without;
        all.append(&mut with);
        undominated(&mut all);
        Ok(all)
    }

    /// Each part of the one beside each of the other, without what cannot matter.
    fn combined(&mut self, first: &[Part], second: &[Part], rest_us: f64) -> Result<Vec<Part>, Unknown> {
        let pairs = first.len() * second.len();
        self.contributions.worked(8 + PAIR_WORK * pairs);
        if pairs > PAIRS_MAX || self.trails.len() > TRAILS_MAX || self.contributions.work() > self.work_max {
            return Err(Unknown);
        }
        let budget = self.contributions.instance.budget;
        // Where the trails of the two are, until it is known which are left.
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        // Both are in the order of what they take: the longer one inside, so that there are few runs to be sorted into each other.
        let (short, long) = if first.len() < second.len() { (first, second) } else { (second, first) };
        for part in short {
            for other in long {
                let Some(bytes) = part.bytes.checked_add(other.bytes).filter(|bytes| *bytes <= budget) else { break };
                let value_us = part.value_us + other.value_us;
                if !self.hopeless(bytes, value_us, rest_us) {
                    parts.push(Part { bytes, value_us, trail: pairs.len() as u32 });
                    pairs.push((part.trail, other.trail));
                }
            }
        }
        undominated(&mut parts);
        for part in &mut parts {
            part.trail = match pairs[part.trail as usize] {
                (NOTHING, only) | (only, NOTHING) => only,
                (one, other) => trail(&mut self.trails, Trail::Both(one, other)),
            };
        }
        Ok(parts)
    }
}

/// Remembers how a part came about.
fn trail(trails: &mut Vec<Trail>, trail: Trail) -> u32 {
    trails.push(trail);
    (trails.len() - 1) as u32
}

/// Leaves the parts than which none takes less and saves as much, in the order of what they take.
fn undominated(parts: &mut Vec<Part>) {
    parts.sort_by(|part, other| part.bytes.cmp(&other.bytes).then_with(|| other.value_us.total_cmp(&part.value_us)));
    let mut most = f64::NEG_INFINITY;
    parts.retain(|part| {
        let more = part.value_us > most;
        most = most.max(part.value_us);
        more
    });
}
