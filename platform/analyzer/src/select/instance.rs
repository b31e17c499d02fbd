//! What is chosen from: the nodes, their forest, what was observed of them, and what a set of them is worth.
//!
//! Nodes are named by their index in the list that an instance is made of. Inside they are kept in preorder, so that what a node
//! encloses is the range behind it; the modules of the selection use these *places*, and only `mod.rs` turns them into indices.

/// Nodes of an instance, at most.
pub const NODES_MAX: usize = 512;
/// Observed calls of an instance, at most.
pub const CALLS_MAX: usize = 16_384;
/// How many nodes may lie around a node, at most: one fewer than a path has bits.
pub const DEPTH_MAX: usize = 127;
/// The largest cost of a call, microseconds: three hundred centuries, with which sums stay finite.
pub const COST_MAX_US: f64 = 1e18;

/// A set of observed calls, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSet {
    calls: usize,
    words: Vec<u64>,
}

impl CallSet {
    /// None of so many calls.
    #[must_use]
    pub fn none(calls: usize) -> Self {
        Self { calls, words: vec![0; calls.div_ceil(64)] }
    }

    /// Those of so many calls for which something holds.
    pub fn where_true(calls: usize, mut holds: impl FnMut(usize) -> bool) -> Self {
        let mut set = Self::none(calls);
        (0..calls).filter(|call| holds(*call)).for_each(|call| set.insert(call));
        set
    }

    /// Adds a call. One that was not observed is passed over.
    pub fn insert(&mut self, call: usize) {
        if call < self.calls {
            self.words[call / 64] |= 1 << (call % 64);
        }
    }

    /// Whether a call is in it.
    #[must_use]
    pub fn has(&self, call: usize) -> bool {
        self.words.get(call / 64).is_some_and(|word| word >> (call % 64) & 1 == 1)
    }

    /// Of how many calls it is a set, in it or not.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }
}

/// A region of code that could be persisted, and what was observed of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The next node around it, which comes before it in the list.
    pub parent: Option<usize>,
    /// What keeping its results takes, bytes.
    pub bytes: u64,
    /// What a hit saves, microseconds: the mean time as executed, less that of a look-up that finds. May be negative.
    pub saved_us: f64,
    /// What a miss costs, microseconds: a look-up that finds nothing, and recording. Not negative.
    pub missed_us: f64,
    /// The calls in which it is executed if nothing around it hits.
    pub executed: CallSet,
    /// The calls in which its key would be found. Counts only where it is executed.
    pub hits: CallSet,
}

/// Why nodes are no instance.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// More nodes than are chosen from.
    #[error("there are more than {NODES_MAX} nodes")]
    TooManyNodes,
    /// More calls than are looked at.
    #[error("there are more than {CALLS_MAX} calls")]
    TooManyCalls,
    /// A node with too many around it.
    #[error("node {node} lies in more than {DEPTH_MAX} others")]
    TooDeep {
        /// The node.
        node: usize,
    },
    /// A node whose parent does not come before it.
    #[error("the parent of node {node} does not come before it")]
    ParentNotBefore {
        /// The node.
        node: usize,
    },
    /// A node that was observed over another number of calls.
    #[error("node {node} has a set of {found} calls where {expected} were observed")]
    CallsDiffer {
        /// The node.
        node: usize,
        /// How many calls there are.
        expected: usize,
        /// Of how many calls its set is.
        found: usize,
    },
    /// A cost that is no number, negative where it cannot be, or beyond [`COST_MAX_US`].
    #[error("node {node} has a cost of {cost_us} microseconds, which is none")]
    NoCost {
        /// The node.
        node: usize,
        /// The cost.
        cost_us: f64,
    },
}

/// Nodes, what was observed of them, and the memory that there is.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(super) budget: u64,
    /// Words of a set of calls.
    pub(super) width: usize,
    calls: usize,
    /// Everything from here on is by place.
    pub(super) regions: Vec<Region>,
    /// For each place, calls that are executed and hit, and those that are executed and miss.
    hits: Vec<u64>,
    misses: Vec<u64>,
    /// The place of each index.
    places: Vec<usize>,
}

/// A node at its place.
#[derive(Debug, Clone)]
pub(super) struct Region {
    /// Its index in the list.
    pub index: usize,
    pub parent: Option<usize>,
    /// The place behind the last one that it encloses.
    pub end: usize,
    /// How many nodes lie around it.
    pub depth: usize,
    pub bytes: u64,
    pub saved_us: f64,
    pub missed_us: f64,
}

impl Instance {
    /// An instance over so many observed calls.
    ///
    /// # Errors
    ///
    /// The nodes are too many or too deep, not in the order of a forest, or were observed otherwise than said.
    pub fn new(calls: usize, budget_bytes: u64, nodes: &[Node]) -> Result<Self, InstanceError> {
        if nodes.len() > NODES_MAX {
            return Err(InstanceError::TooManyNodes);
        }
        if calls > CALLS_MAX {
            return Err(InstanceError::TooManyCalls);
        }
        let mut depths: Vec<usize> = Vec::with_capacity(nodes.len());
        let mut inner: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        let mut outermost = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            check(index, node, calls)?;
            match node.parent {
                None => outermost.push(index),
                Some(parent) if parent < index => inner[parent].push(index),
                Some(_) => return Err(InstanceError::ParentNotBefore { node: index }),
            }
            depths.push(node.parent.map_or(0, |parent| depths[parent] + 1));
            if depths[index] > DEPTH_MAX {
                return Err(InstanceError::TooDeep { node: index });
            }
        }
        let mut instance = Self {
            budget: budget_bytes,
            width: calls.div_ceil(64),
            calls,
            regions: Vec::with_capacity(nodes.len()),
            hits: Vec::new(),
            misses: Vec::new(),
            places: vec![0; nodes.len()],
        };
        let mut waiting: Vec<usize> = outermost.into_iter().rev().collect();
        while let Some(index) = waiting.pop() {
            instance.place(index, &nodes[index], depths[index]);
            waiting.extend(inner[index].iter().rev());
        }
        for place in (0..nodes.len()).rev() {
            if let Some(parent) = instance.regions[place].parent {
                instance.regions[parent].end = instance.regions[parent].end.max(instance.regions[place].end);
            }
        }
        Ok(instance)
    }

    fn place(&mut self, index: usize, node: &Node, depth: usize) {
        let place = self.regions.len();
        self.places[index] = place;
        self.regions.push(Region {
            index,
            parent: node.parent.map(|parent| self.places[parent]),
            end: place + 1,
            depth,
            bytes: node.bytes,
            saved_us: node.saved_us,
            missed_us: node.missed_us,
        });
        let both = node.executed.words.iter().zip(&node.hits.words);
        self.hits.extend(both.clone().map(|(executed, hits)| executed & hits));
        self.misses.extend(both.map(|(executed, hits)| executed & !hits));
    }

    /// The same nodes under another budget.
    #[must_use]
    pub fn with_budget(self, budget_bytes: u64) -> Self {
        Self { budget: budget_bytes, ..self }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.regions.len()
    }

    /// How many calls were observed.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// The memory that there is, bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.budget
    }

    /// What persisting these nodes takes, bytes.
    #[must_use]
    pub fn bytes(&self, chosen: &[usize]) -> u64 {
        let chosen = self.marks(chosen);
        self.regions
            .iter()
            .zip(chosen)
            .filter(|(_, chosen)| *chosen)
            .fold(0, |sum, (region, _)| sum.saturating_add(region.bytes))
    }

    /// What persisting these nodes would have saved over all observed calls, microseconds; negative if it would have cost time.
    /// An index that no node has is passed over.
    #[must_use]
    pub fn value(&self, chosen: &[usize]) -> f64 {
        let chosen = self.marks(chosen);
        // What is covered at each depth of the path to the place at hand.
        let mut covered: Vec<Vec<u64>> = vec![vec![0; self.width]];
        let mut value = 0.0;
        for (place, region) in self.regions.iter().enumerate() {
            covered.truncate(region.depth + 1);
            let mut below = covered[region.depth].clone();
            if chosen[place] {
                value += self.contribution(place, &below);
                below.iter_mut().zip(self.hits(place)).for_each(|(word, hits)| *word |= hits);
            }
            covered.push(below);
        }
        value
    }

    /// Which places are chosen.
    pub(super) fn marks(&self, chosen: &[usize]) -> Vec<bool> {
        let mut marks = vec![false; self.regions.len()];
        chosen.iter().filter_map(|index| self.places.get(*index)).for_each(|place| marks[*place] = true);
        marks
    }

    pub(super) fn hits(&self, place: usize) -> &[u64] {
        &self.hits[place * self.width..(place + 1) * self.width]
    }

    pub(super) fn misses(&self, place: usize) -> &[u64] {
        &self.misses[place * self.width..(place + 1) * self.width]
    }

    /// What a chosen region itself saves where what lies around it does not hit.
    pub(super) fn contribution(&self, place: usize, covered: &[u64]) -> f64 {
        let region = &self.regions[place];
        let open = |calls: &[u64]| {
            calls.iter().zip(covered).map(|(calls, covered)| (calls & !covered).count_ones()).sum::<u32>()
        };
        region.saved_us * f64::from(open(self.hits(place))) - region.missed_us * f64::from(open(self.misses(place)))
    }
}

fn check(index: usize, node: &Node, calls: usize) -> Result<(), InstanceError> {
    for set in [&node.executed, &node.hits] {
        if set.calls != calls {
            return Err(InstanceError::CallsDiffer { node: index, expected: calls, found: set.calls });
        }
    }
    // Ranges, and no comparison turned round: what is no number is in none.
    if !(-COST_MAX_US..=COST_MAX_US).contains(&node.saved_us) {
        return Err(InstanceError::NoCost { node: index, cost_us: node.saved_us });
    }
    if !(0.0..=COST_MAX_US).contains(&node.missed_us) {
        return Err(InstanceError::NoCost { node: index, cost_us: node.missed_us });
    }
    Ok(())
}
