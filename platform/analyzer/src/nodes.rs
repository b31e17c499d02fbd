//! The nodes of a function's control-data-flow graph, as a tree: runs of simple statements, branches, loops and what is within them.
//!
//! A node is a *region*: consecutive statements of one suite, with all that is within them. A data-flow node decides nothing, a decision
//! node has at least one condition, and a loop node stands for a strongly connected part of the control-flow graph as a whole.

use serde::Serialize;

use crate::graph::{BlockId, EdgeKind, Graph, Span, StatementId, StatementKind, StepKind, Variable};
use crate::liveness::{Bound, Liveness, Variables};

/// A node, by its number in [`Nodes::all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// No condition within.
    DataFlow,
    /// At least one condition.
    Decision,
    /// A loop.
    Loop,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The node it is within.
    pub parent: Option<NodeId>,
    /// The nodes within it, in the order in which they are written.
    pub children: Vec<NodeId>,
    /// What it is made of.
    pub region: Region,
}

/// Where control goes that leaves a region without an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    /// Always to the step of that number of a block; behind its last step for a number that is that many.
    To(BlockId, u32),
    /// To several places: it jumps.
    Several,
    /// It does not: it always raises or runs for ever.
    Never,
}

/// Consecutive statements of one suite, with all that is within them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// The statements.
    pub statements: Vec<StatementId>,
    /// All of it.
    pub span: Span,
    /// Variables whose value when it is entered it may read, sorted.
    pub live_in: Vec<Variable>,
    /// Variables that it may write and that may be read after it, sorted.
    pub live_out: Vec<Variable>,
    /// Those of the live-out ones that may have no value after it, sorted.
    pub maybe_unbound: Vec<Variable>,
    /// Where it leads.
    pub leaves: Leaves,
    /// Whether it may leave the function.
    pub returns: bool,
    /// Whether it yields or awaits.
    pub suspends: bool,
}

/// The nodes of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nodes {
    /// All of them; parents before what is within them.
    pub all: Vec<Node>,
    /// Those at the top of the function.
    pub roots: Vec<NodeId>,
}

impl Nodes {
    /// Of a graph.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut nodes = Self { all: Vec::new(), roots: Vec::new() };
        let regions = Regions::of(graph);
        nodes.roots = nodes.suite(&regions, &graph.body, None);
        nodes
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.all[id.0 as usize]
    }

    fn suite(&mut self, regions: &Regions<'_>, suite: &[StatementId], parent: Option<NodeId>) -> Vec<NodeId> {
        let is_simple = |id: &StatementId| {
            matches!(
                regions.graph.statement(*id).kind,
                StatementKind::Simple | StatementKind::Definition | StatementKind::Jump
            )
        };
        let mut found = Vec::new();
        for run in suite.chunk_by(|one, next| is_simple(one) && is_simple(next)) {
            let id = NodeId(self.all.len() as u32);
            self.all.push(Node { kind: kind(regions, run), parent, children: Vec::new(), region: regions.region(run) });
            let within = run.iter().flat_map(|statement| &regions.graph.statement(*statement).suites);
            let children = within.flat_map(|suite| self.suite(regions, suite, Some(id))).collect();
            self.all[id.0 as usize].children = children;
            found.push(id);
        }
        found
    }
}

fn kind(regions: &Regions<'_>, run: &[StatementId]) -> NodeKind {
    if run.iter().any(|statement| regions.graph.statement(*statement).kind == StatementKind::Loop) {
        return NodeKind::Loop;
    }
    let members = regions.members(run);
    let decides = |kind| matches!(kind, StepKind::Test | StepKind::Iterate | StepKind::Catch);
    let mut within = regions.graph.steps().filter(|(_, step)| members.contains(&step.statement.0));
    if within.any(|(_, step)| decides(step.kind)) { NodeKind::Decision } else { NodeKind::DataFlow }
}

/// What is needed to look at regions of a graph.
pub struct Regions<'g> {
    graph: &'g Graph,
    liveness: Liveness,
    bound: Bound,
    /// Behind the last statement within each.
    ends: Vec<u32>,
}

impl<'g> Regions<'g> {
    /// Of a graph.
    #[must_use]
    pub fn of(graph: &'g Graph) -> Self {
        // Statements are numbered as they are met, so what is within one follows it.
        let mut ends: Vec<u32> = (1..=graph.statements.len() as u32).collect();
        for number in (0..graph.statements.len()).rev() {
            if let Some(parent) = graph.statements[number].parent {
                ends[parent.0 as usize] = ends[parent.0 as usize].max(ends[number]);
            }
        }
        Self { graph, liveness: Liveness::of(graph), bound: Bound::of(graph), ends }
    }

    /// What is live in the graph.
    #[must_use]
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// The numbers of all statements of a run, with those within.
    fn members(&self, run: &[StatementId]) -> std::ops::Range<u32> {
        match (run.first(), run.last()) {
            (Some(first), Some(last)) => first.0..self.ends[last.0 as usize],
            _ => 0..0,
        }
    }

    /// The region of consecutive statements of one suite.
    #[must_use]
    pub fn region(&self, run: &[StatementId]) -> Region {
        let graph = self.graph;
        let members = self.members(run);
        // What a block has of it is in one piece: its steps from … to.
        let pieces: Vec<(usize, usize)> = (graph.blocks.iter())
            .map(|block| {
                let is_member = |step: &crate::graph::Step| members.contains(&step.statement.0);
                let from = block.steps.iter().position(is_member).unwrap_or(block.steps.len());
                let count = block.steps[from..].iter().take_while(|step| is_member(step)).count();
                (from, from + count)
            })
            .collect();
        let has = |block: usize| pieces[block].0 < pieces[block].1;
        let inside = (0..graph.blocks.len()).filter(|block| has(*block));
        let steps = || inside.clone().flat_map(|block| &graph.blocks[block].steps[pieces[block].0..pieces[block].1]);

        let mut leaves = Vec::new();
        for block in inside.clone() {
            self.places_after(block, &pieces, &mut leaves);
        }
        leaves.sort_unstable();
        leaves.dedup();
        let leaves = match leaves[..] {
            [] => Leaves::Never,
            [(block, step)] => Leaves::To(block, step as u32),
            _ => Leaves::Several,
        };

        let mut written = Variables::none(graph);
        for step in steps() {
            let all = step.writes.iter().chain(&step.may_write).chain(&step.binds).chain(&step.unbinds);
            all.for_each(|variable| written.add(*variable));
        }
        let (mut live_out, mut maybe_unbound) = (Vec::new(), Vec::new());
        if let Leaves::To(block, step) = leaves {
            let live = self.liveness.before(graph, block, step as usize);
            let bound = self.bound.before(graph, block, step as usize);
            live_out = written.iter().filter(|variable| live.has(*variable)).collect();
            maybe_unbound = live_out.iter().copied().filter(|variable| !bound.has(*variable)).collect();
        }
        let first = run.first().map(|id| graph.statement(*id).span).unwrap_or_default();
        let last = run.last().map(|id| graph.statement(*id).span).unwrap_or_default();
        Region {
            statements: run.to_vec(),
            span: first.to(last),
            live_in: self.live_in(run, &pieces),
            live_out,
            maybe_unbound,
            leaves,
            returns: steps().any(|step| step.kind == StepKind::Return),
            suspends: steps().any(|step| step.suspends),
        }
    }

    /// Where control goes that leaves the piece of a block, but for exceptions.
    fn places_after(&self, block: usize, pieces: &[(usize, usize)], found: &mut Vec<(BlockId, usize)>) {
        let end = pieces[block].1;
        if end < self.graph.blocks[block].steps.len() {
            found.push((BlockId(block as u32), end));
            return;
        }
        let mut seen = vec![false; self.graph.blocks.len()];
        let mut waiting = vec![block];
        while let Some(from) = waiting.pop() {
            for edge in &self.graph.blocks[from].edges {
                let to = edge.to.0 as usize;
                // A clean-up that goes on with an exception is no way out either.
                let raises = edge.kind == EdgeKind::Exception || edge.to == self.graph.raised;
                if raises || std::mem::replace(&mut seen[to], true) {
                    continue;
                }
                let (from_step, to_step) = pieces[to];
                if self.graph.blocks[to].steps.is_empty() && edge.to != self.graph.exit {
                    waiting.push(to);
                } else if from_step > 0 || from_step == to_step {
                    found.push((edge.to, 0));
                }
            }
        }
    }

    /// What may be read of what was written before the region.
    fn live_in(&self, run: &[StatementId], pieces: &[(usize, usize)]) -> Vec<Variable> {
        let graph = self.graph;
        let nothing = Variables::none(graph);
        let mut at_begin = vec![nothing.clone(); graph.blocks.len()];
        let mut at_entry = nothing.clone();
        let entry = run.first().map(|first| graph.statement(*first).begins);
        // Ends: sets only grow. Regions are short, so that whole rounds do.
        loop {
            let mut changed = false;
            for (number, block) in graph.blocks.iter().enumerate().rev() {
                let (from, to) = pieces[number];
                let is_empty = block.steps.is_empty();
                if from == to && !is_empty {
                    continue;
                }
                let (mut live, mut raised) = (nothing.clone(), nothing.clone());
                for edge in &block.edges {
                    let mut target = at_begin[edge.to.0 as usize].clone();
                    if edge.kind == EdgeKind::Exception && !is_empty {
                        raised.add_all(&target);
                    } else if to == block.steps.len() {
                        if let (EdgeKind::True, Some(last)) = (edge.kind, block.steps.last()) {
                            last.binds.iter().for_each(|bound| target.remove(*bound));
                        }
                        live.add_all(&target);
                    }
                }
                for step in block.steps[from..to].iter().rev() {
                    step.writes.iter().for_each(|written| live.remove(*written));
                    step.reads.iter().for_each(|read| live.add(*read));
                    live.add_all(&raised);
                }
                if entry == Some((BlockId(number as u32), from as u32)) && from < to && at_entry != live {
                    at_entry = live.clone();
                    changed = true;
                }
                if from == 0 && at_begin[number] != live {
                    at_begin[number] = live;
                    changed = true;
                }
            }
            if !changed {
                return at_entry.iter().collect();
            }
        }
    }
}
