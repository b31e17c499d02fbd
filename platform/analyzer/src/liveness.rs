//! Which variables matter where: live ones, whose value may be read before it is written, and bound ones, which surely have a value.
//!
//! Backward and forward data-flow analyses by work lists, as in the textbooks (Aho, Lam, Sethi and Ullman, 9.2), over sets of
//! variables as bits. Whatever the code of a function shares with other code, or with the world after it, is always live.

use crate::graph::{Binding, BlockId, EdgeKind, Graph, Step, StepKind, Variable};

/// A set of a function's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables(Vec<u64>);

impl Variables {
    pub(crate) fn none(graph: &Graph) -> Self {
        Self(vec![0; graph.names.len().div_ceil(64)])
    }

    fn all(graph: &Graph) -> Self {
        let mut all = Self::none(graph);
        (0..graph.names.len()).for_each(|number| all.add(Variable(number as u32)));
        all
    }

    /// Whether a variable is in it.
    #[must_use]
    pub fn has(&self, variable: Variable) -> bool {
        self.0.get(variable.0 as usize / 64).is_some_and(|word| word >> (variable.0 % 64) & 1 == 1)
    }

    pub(crate) fn add(&mut self, variable: Variable) {
        if let Some(word) = self.0.get_mut(variable.0 as usize / 64) {
            *word |= 1 << (variable.0 % 64);
        }
    }

    pub(crate) fn remove(&mut self, variable: Variable) {
        if let Some(word) = self.0.get_mut(variable.0 as usize / 64) {
            *word &= !(1 << (variable.0 % 64));
        }
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word |= other);
    }

    fn keep_only(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    /// The variables, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Variable> + '_ {
        (0..self.0.len() as u32 * 64).map(Variable).filter(|variable| self.has(*variable))
    }
}

/// What is live at the beginning of each block.
#[derive(Debug, Clone)]
pub struct Liveness {
    at_begin: Vec<Variables>,
    always: Variables,
}

impl Liveness {
    /// Of a graph.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut always = Variables::none(graph);
        for (number, name) in graph.names.iter().enumerate() {
            if !matches!(name.binding, Binding::Local | Binding::Parameter) {
                always.add(Variable(number as u32));
            }
        }
        let mut this = Self { at_begin: vec![always.clone(); graph.blocks.len()], always };
        let before = predecessors(graph);
        let mut waiting: Vec<BlockId> = (0..graph.blocks.len() as u32).map(BlockId).collect();
        let mut waits = vec![true; graph.blocks.len()];
        // Ends: sets only grow.
        while let Some(id) = waiting.pop() {
            waits[id.0 as usize] = false;
            let begin = this.before(graph, id, 0);
            if begin != this.at_begin[id.0 as usize] {
                this.at_begin[id.0 as usize] = begin;
                for earlier in &before[id.0 as usize] {
                    if !std::mem::replace(&mut waits[earlier.0 as usize], true) {
                        waiting.push(*earlier);
                    }
                }
            }
        }
        this
    }

    /// What is live before a step of a block; behind the last one for a number that is that many.
    #[must_use]
    pub fn before(&self, graph: &Graph, id: BlockId, step: usize) -> Variables {
        let block = graph.block(id);
        let mut live = self.always.clone();
        let mut raised = self.always.clone();
        let binds = block.steps.last().map_or(&[][..], |last| &last.binds);
        for edge in &block.edges {
            let target = &self.at_begin[edge.to.0 as usize];
            match edge.kind {
                EdgeKind::Exception if !block.steps.is_empty() => raised.add_all(target),
                EdgeKind::True => {
                    let mut target = target.clone();
                    binds.iter().for_each(|bound| target.remove(*bound));
                    live.add_all(&target);
                }
                _ => live.add_all(target),
            }
        }
        for step in block.steps[step..].iter().rev() {
            step.writes.iter().for_each(|written| live.remove(*written));
            step.reads.iter().for_each(|read| live.add(*read));
            // It may raise before it has written anything.
            live.add_all(&raised);
            live.add_all(&self.always);
        }
        live
    }

    /// What is live at the beginning of a block.
    #[must_use]
    pub fn at(&self, id: BlockId) -> &Variables {
        &self.at_begin[id.0 as usize]
    }
}

/// What surely has a value at the beginning of each block.
#[derive(Debug, Clone)]
pub struct Bound {
    at_begin: Vec<Variables>,
}

impl Bound {
    /// Of a graph.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut entry = Variables::none(graph);
        for (number, name) in graph.names.iter().enumerate() {
            if name.binding == Binding::Parameter {
                entry.add(Variable(number as u32));
            }
        }
        let mut at_begin = vec![Variables::all(graph); graph.blocks.len()];
        at_begin[Graph::ENTRY.0 as usize] = entry;
        let mut this = Self { at_begin };
        let mut waiting: Vec<BlockId> = (0..graph.blocks.len() as u32).rev().map(BlockId).collect();
        // Ends: sets only shrink.
        while let Some(id) = waiting.pop() {
            let block = graph.block(id);
            let end = this.before(graph, id, block.steps.len());
            // An exception comes with what the block began with, less what it unbound.
            let mut raised = this.at_begin[id.0 as usize].clone();
            block.steps.iter().flat_map(|step| &step.unbinds).for_each(|unbound| raised.remove(*unbound));
            for edge in &block.edges {
                let mut coming = match edge.kind {
                    EdgeKind::Exception if !block.steps.is_empty() => raised.clone(),
                    _ => end.clone(),
                };
                if let (EdgeKind::True, Some(last)) = (edge.kind, block.steps.last()) {
                    last.binds.iter().for_each(|bound| coming.add(*bound));
                    last.unbinds.iter().for_each(|unbound| coming.remove(*unbound));
                }
                let target = &mut this.at_begin[edge.to.0 as usize];
                let before = target.clone();
                target.keep_only(&coming);
                if *target != before {
                    waiting.push(edge.to);
                }
            }
        }
        this
    }

    /// What surely has a value before a step of a block.
    #[must_use]
    pub fn before(&self, graph: &Graph, id: BlockId, step: usize) -> Variables {
        let mut bound = self.at_begin[id.0 as usize].clone();
        graph.block(id).steps[..step].iter().for_each(|step| execute(step, &mut bound));
        bound
    }
}

fn execute(step: &Step, bound: &mut Variables) {
    step.writes.iter().for_each(|written| bound.add(*written));
    if step.kind != StepKind::Catch {
        step.unbinds.iter().for_each(|unbound| bound.remove(*unbound));
    }
}

fn predecessors(graph: &Graph) -> Vec<Vec<BlockId>> {
    let mut before = vec![Vec::new(); graph.blocks.len()];
    for (number, block) in graph.blocks.iter().enumerate() {
        block.edges.iter().for_each(|edge| before[edge.to.0 as usize].push(BlockId(number as u32)));
    }
    before
}
