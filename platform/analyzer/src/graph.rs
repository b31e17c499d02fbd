//! The control-flow graph of one function, whatever language it is written in: blocks of steps, and the edges between them.
//!
//! A step is a statement, or the part of a compound one that is executed at once: a test, the next round of a loop, a case. Every
//! step may raise; where that leads is one edge of its block, since all steps of a block are within the same handlers.

use serde::Serialize;

/// A place in a source text. Offsets are in bytes; lines are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
    /// The line of the first byte.
    pub first_line: u32,
    /// The line of the last byte.
    pub last_line: u32,
}

impl Span {
    /// From the beginning of this to the end of another, which is not before it.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { end: other.end, last_line: other.last_line, ..self }
    }
}

/// A variable of a function, by its number in [`Graph::names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Variable(pub u32);

/// A block, by its number in [`Graph::blocks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BlockId(pub u32);

/// A statement, by its number in [`Graph::statements`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StatementId(pub u32);

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A simple statement, or the part of a compound one that decides nothing.
    Plain,
    /// Chooses between ways by a condition: of an `if`, a `while`, a case.
    Test,
    /// Fetches the next element of a loop, or finds that there is none.
    Iterate,
    /// Enters or leaves a `with`.
    Context,
    /// Compares a raised exception with what a handler takes.
    Catch,
    /// Leaves the function with a value.
    Return,
    /// Raises an exception.
    Raise,
}

/// What is executed at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is.
    pub kind: StepKind,
    /// Of which statement.
    pub statement: StatementId,
    /// Where it is written.
    pub span: Span,
    /// Variables that are read before the step writes them, sorted.
    pub reads: Vec<Variable>,
    /// Variables that are written when the step ends without raising, sorted.
    pub writes: Vec<Variable>,
    /// Variables that may be written although it raises, or that another branch of it does not write, sorted.
    pub may_write: Vec<Variable>,
    /// Variables that are written where the edge [`EdgeKind::True`] is taken, sorted: the target of a loop, what a case captures.
    pub binds: Vec<Variable>,
    /// Variables that it leaves unbound, or that are unbound some time after it, sorted.
    pub unbinds: Vec<Variable>,
    /// Whether it yields or awaits.
    pub suspends: bool,
}

/// Why control goes along an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// There is nothing to decide.
    Next,
    /// The condition holds, there is one more element, the case or the handler fits.
    True,
    /// It does not, there is none, it does not.
    False,
    /// A step of the block raised.
    Exception,
    /// A `finally` or `with` is over, and what was under way goes on: a `return`, `break` or `continue`, or an exception.
    Resume,
}

/// Where a block leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Edge {
    /// To which block.
    pub to: BlockId,
    /// Why.
    pub kind: EdgeKind,
}

/// Steps that are executed one after another, unless one raises.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Block {
    /// The steps; none where ways only meet.
    pub steps: Vec<Step>,
    /// Where it leads, sorted.
    pub edges: Vec<Edge>,
}

/// What a statement is, as far as nodes of the graph are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// No statements within.
    Simple,
    /// `if`, `match`.
    Branch,
    /// `for`, `while`.
    Loop,
    /// `try`.
    Try,
    /// `with`.
    With,
    /// Makes a function or a class; what is within that belongs to another graph.
    Definition,
    /// `return`, `break`, `continue`, `raise`: what follows is not executed.
    Jump,
}

/// A statement as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// All of it, with what is within.
    pub span: Span,
    /// Its first step: the block, and the number of the step in it.
    pub begins: (BlockId, u32),
    /// The statement it is within; none at the top of the function.
    pub parent: Option<StatementId>,
    /// The suites within it, in the order in which they are written: each branch, the body of a loop and its `else`, and so on.
    pub suites: Vec<Vec<StatementId>>,
}

/// How a variable is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// A parameter of the function.
    Parameter,
    /// Local to the function.
    Local,
    /// Local, and shared with functions within it, which may read and write it whenever they run.
    Shared,
    /// A variable of a function around it.
    Free,
    /// A variable of the module, or a built-in.
    Global,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Name {
    /// What it is called.
    pub text: String,
    /// How it is bound.
    pub binding: Binding,
}

/// The control-flow graph of a function, or of a module's or a class's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The blocks; the first is where it is entered.
    pub blocks: Vec<Block>,
    /// Where it ends with a value. No steps.
    pub exit: BlockId,
    /// Where it ends with an exception. No steps.
    pub raised: BlockId,
    /// The statements.
    pub statements: Vec<Statement>,
    /// The statements at the top of the function.
    pub body: Vec<StatementId>,
    /// The variables that it names.
    pub names: Vec<Name>,
}

impl Graph {
    /// Where it is entered.
    pub const ENTRY: BlockId = BlockId(0);

    /// A block.
    #[must_use]
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    /// A statement.
    #[must_use]
    pub fn statement(&self, id: StatementId) -> &Statement {
        &self.statements[id.0 as usize]
    }

    /// A variable's name.
    #[must_use]
    pub fn name(&self, variable: Variable) -> &Name {
        &self.names[variable.0 as usize]
    }

    /// The number of a variable.
    #[must_use]
    pub fn variable(&self, text: &str) -> Option<Variable> {
        self.names.iter().position(|name| name.text == text).map(|number| Variable(number as u32))
    }

    /// All steps with their blocks.
    pub fn steps(&self) -> impl Iterator<Item = (BlockId, &Step)> {
        let numbered = self.blocks.iter().enumerate();
        numbered.flat_map(|(number, block)| block.steps.iter().map(move |step| (BlockId(number as u32), step)))
    }

    /// Whether a statement is another, or within it.
    #[must_use]
    pub fn is_within(&self, mut inner: StatementId, outer: StatementId) -> bool {
        loop {
            if inner == outer {
                return true;
            }
            match self.statement(inner).parent {
                Some(parent) => inner = parent,
                None => return false,
            }
        }
    }
}
