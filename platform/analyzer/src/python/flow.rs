//! From the statements of one function to its control-flow graph.
//!
//! A `finally`, and the end of a `with`, is there once: every way into it leads out of it to wherever any way in was going. So the graph
//! has ways that no execution takes, but every way that one takes.

use std::collections::{BTreeSet, HashMap};

use ruff_python_ast::visitor::Visitor;
use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_text_size::{Ranged, TextRange};

use super::lines::Lines;
use super::reads_and_writes::Gatherer;
use super::scopes::{Scope, ScopeKind, Scopes, bound_by, imported_name};
use crate::graph::{
    Block, BlockId, Edge, EdgeKind, Graph, Name, Statement, StatementId, StatementKind, Step, StepKind, Variable,
};

/// The graph of a function, and its statements as they were parsed, by their numbers.
pub struct Flow<'a> {
    pub graph: Graph,
    pub statements: Vec<&'a Stmt>,
}

/// Builds the graph of a body within its scope.
pub fn flow<'a>(body: &'a [Stmt], scope: usize, scopes: &Scopes<'a>, lines: &Lines) -> Flow<'a> {
    let mut builder = Builder::new(scope, scopes, lines);
    let body = builder.suite(body, None);
    let exit = builder.exit;
    builder.go(exit, EdgeKind::Next);
    builder.finish(body)
}

/// Builds the graph of a lambda: one step that returns.
pub fn lambda<'a>(body: &'a Expr, scope: usize, scopes: &Scopes<'a>, lines: &Lines) -> Flow<'a> {
    let mut builder = Builder::new(scope, scopes, lines);
    let statement = builder.number(StatementKind::Jump, body.range(), None);
    builder.step(StepKind::Return, statement, body.range(), |names| names.visit_expr(body));
    let exit = builder.exit;
    builder.go(exit, EdgeKind::Next);
    builder.finish(vec![statement])
}

/// What is around the current place.
enum Around {
    Loop {
        head: BlockId,
        after: BlockId,
    },
    /// A `finally` or the end of a `with`: where it begins, and where those who came in by a jump go on.
    Cleanup {
        begins: BlockId,
        jumps: BTreeSet<BlockId>,
    },
}

struct Builder<'a, 's> {
    scope: &'s Scope<'a>,
    scopes: &'s Scopes<'a>,
    lines: &'s Lines,
    blocks: Vec<Block>,
    statements: Vec<Statement>,
    parsed: Vec<&'a Stmt>,
    /// Statements before this have their first step.
    begun: u32,
    names: Vec<Name>,
    numbers: HashMap<&'a str, Variable>,
    around: Vec<Around>,
    /// Where an exception leads from here.
    catch: BlockId,
    /// The block that is being filled; none behind a jump.
    current: Option<BlockId>,
    exit: BlockId,
}

impl<'a, 's> Builder<'a, 's> {
    fn new(scope: usize, scopes: &'s Scopes<'a>, lines: &'s Lines) -> Self {
        let (exit, raised) = (BlockId(1), BlockId(2));
        Self {
            scope: &scopes.all[scope],
            scopes,
            lines,
            blocks: vec![Block::default(); 3],
            statements: Vec::new(),
            parsed: Vec::new(),
            begun: 0,
            names: Vec::new(),
            numbers: HashMap::new(),
            around: Vec::new(),
            catch: raised,
            current: Some(Graph::ENTRY),
            exit,
        }
    }

    fn finish(mut self, body: Vec<StatementId>) -> Flow<'a> {
        for block in &mut self.blocks {
            block.edges.sort_unstable();
            block.edges.dedup();
        }
        // An `else` is met before the handlers above it.
        let begins: Vec<u32> = self.statements.iter().map(|statement| statement.span.start).collect();
        for statement in &mut self.statements {
            statement.suites.sort_by_key(|suite| suite.first().map(|first| begins[first.0 as usize]));
        }
        let graph = Graph {
            blocks: self.blocks,
            exit: self.exit,
            raised: BlockId(2),
            statements: self.statements,
            body,
            names: self.names,
        };
        Flow { graph, statements: self.parsed }
    }

    fn fresh(&mut self) -> BlockId {
        self.blocks.push(Block::default());
        BlockId((self.blocks.len() - 1) as u32)
    }

    fn edge(&mut self, from: BlockId, to: BlockId, kind: EdgeKind) {
        self.blocks[from.0 as usize].edges.push(Edge { to, kind });
    }

    /// Leads on from the current block, if there is one, which is then over.
    fn go(&mut self, to: BlockId, kind: EdgeKind) {
        if let Some(from) = self.current.take() {
            self.edge(from, to, kind);
        }
    }

    /// The current block; behind a jump, one that nothing leads to.
    fn here(&mut self) -> BlockId {
        match self.current {
            Some(current) => current,
            None => {
                let fresh = self.fresh();
                self.current = Some(fresh);
                fresh
            }
        }
    }

    /// Goes on in a block of its own: where handlers change, ways meet, or a loop begins.
    fn go_on_in(&mut self, block: BlockId) {
        self.go(block, EdgeKind::Next);
        self.current = Some(block);
    }

    fn go_on_in_a_fresh_one(&mut self) {
        if self.current.is_none_or(|current| !self.blocks[current.0 as usize].steps.is_empty()) {
            let fresh = self.fresh();
            self.go_on_in(fresh);
        }
    }

    fn variable(&mut self, name: &'a str) -> Variable {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = Variable(self.names.len() as u32);
        self.names.push(Name { text: name.to_owned(), binding: self.scope.binding(name) });
        self.numbers.insert(name, number);
        number
    }

    fn variables(&mut self, names: BTreeSet<&'a str>) -> Vec<Variable> {
        let mut variables: Vec<_> = names.into_iter().map(|name| self.variable(name)).collect();
        variables.sort_unstable();
        variables
    }

    fn number(&mut self, kind: StatementKind, range: TextRange, parent: Option<StatementId>) -> StatementId {
        let span = self.lines.span(range);
        let begins = (Graph::ENTRY, 0);
        self.statements.push(Statement { kind, span, begins, parent, suites: Vec::new() });
        StatementId((self.statements.len() - 1) as u32)
    }

    fn step(
        &mut self,
        kind: StepKind,
        statement: StatementId,
        range: TextRange,
        gather: impl FnOnce(&mut Gatherer<'a, 's>),
    ) {
        let mut names = Gatherer::new(self.scopes);
        gather(&mut names);
        names.may_write.retain(|name| !names.writes.contains(name));
        let step = Step {
            kind,
            statement,
            span: self.lines.span(range),
            suspends: names.suspends,
            reads: self.variables(names.reads),
            writes: self.variables(names.writes),
            may_write: self.variables(names.may_write),
            binds: self.variables(names.binds),
            unbinds: self.variables(names.unbinds),
        };
        let here = self.here();
        let catch = self.catch;
        let block = &mut self.blocks[here.0 as usize];
        if block.steps.is_empty() {
            block.edges.push(Edge { to: catch, kind: EdgeKind::Exception });
        }
        let begins = (here, block.steps.len() as u32);
        block.steps.push(step);
        // Others of the same statement come behind.
        if self.begun <= statement.0 {
            self.begun = statement.0 + 1;
            self.statements[statement.0 as usize].begins = begins;
        }
    }

    fn suite(&mut self, suite: &'a [Stmt], parent: Option<StatementId>) -> Vec<StatementId> {
        suite.iter().map(|statement| super::deep(|| self.statement(statement, parent))).collect()
    }

    fn within(&mut self, suite: &'a [Stmt], parent: StatementId) {
        let suite = self.suite(suite, Some(parent));
        self.statements[parent.0 as usize].suites.push(suite);
    }

    fn statement(&mut self, statement: &'a Stmt, parent: Option<StatementId>) -> StatementId {
        let kind = match statement {
            Stmt::If(_) | Stmt::Match(_) => StatementKind::Branch,
            Stmt::For(_) | Stmt::While(_) => StatementKind::Loop,
            Stmt::Try(_) => StatementKind::Try,
            Stmt::With(_) => StatementKind::With,
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => StatementKind::Definition,
            Stmt::Return(_) | Stmt::Raise(_) | Stmt::Break(_) | Stmt::Continue(_) => StatementKind::Jump,
            _ => StatementKind::Simple,
        };
        let id = self.number(kind, statement.range(), parent);
        self.parsed.push(statement);
        match statement {
            Stmt::If(branch) => self.branch(branch, id),
            Stmt::Match(choice) => self.choice(choice, id),
            Stmt::For(each) => self.each(each, id),
            Stmt::While(repeat) => self.repeat(repeat, id),
            Stmt::Try(attempt) => self.attempt(attempt, id),
            Stmt::With(with) => self.with(with, id),
            Stmt::Return(_) => {
                self.simple(StepKind::Return, statement, id);
                self.jump(self.exit, |_| false);
            }
            Stmt::Raise(_) => {
                self.simple(StepKind::Raise, statement, id);
                // The exception edge is all there is.
                self.current = None;
            }
            Stmt::Break(_) | Stmt::Continue(_) => {
                self.simple(StepKind::Plain, statement, id);
                let is_break = matches!(statement, Stmt::Break(_));
                let target = self.around.iter().rev().find_map(|around| match around {
                    Around::Loop { head, after } => Some(if is_break { *after } else { *head }),
                    Around::Cleanup { .. } => None,
                });
                // Outside of a loop it is a syntax error, which has been refused.
                self.jump(target.unwrap_or(self.exit), |around| matches!(around, Around::Loop { .. }));
            }
            _ => self.simple(StepKind::Plain, statement, id),
        }
        id
    }

    /// Leaves what is around, from within outwards up to what `stops`, through the clean-ups on the way.
    fn jump(&mut self, target: BlockId, stops: impl Fn(&Around) -> bool) {
        let outwards = self.around.iter().enumerate().rev().take_while(|(_, around)| !stops(around));
        let cleanups: Vec<(usize, BlockId)> = outwards
            .filter_map(|(depth, around)| match around {
                Around::Cleanup { begins, .. } => Some((depth, *begins)),
                Around::Loop { .. } => None,
            })
            .collect();
        for (number, (depth, _)) in cleanups.iter().enumerate() {
            let next = cleanups.get(number + 1).map_or(target, |(_, begins)| *begins);
            if let Around::Cleanup { jumps, .. } = &mut self.around[*depth] {
                jumps.insert(next);
            }
        }
        self.go(cleanups.first().map_or(target, |(_, begins)| *begins), EdgeKind::Next);
    }

    fn simple(&mut self, kind: StepKind, statement: &'a Stmt, id: StatementId) {
        let in_a_function = self.scope.kind == ScopeKind::Function;
        let range = match statement {
            // What is within is not executed with it.
            Stmt::FunctionDef(def) => TextRange::new(def.range.start(), def.parameters.end()),
            Stmt::ClassDef(def) => TextRange::new(def.range.start(), def.name.end()),
            _ => statement.range(),
        };
        self.step(kind, id, range, |names| match statement {
            Stmt::FunctionDef(def) => {
                def.decorator_list.iter().for_each(|decorator| names.visit_expr(&decorator.expression));
                names.defaults_and_annotations(&def.parameters);
                def.returns.iter().for_each(|returns| names.visit_expr(returns));
                names.definition(def.range);
                names.write(&def.name.id);
            }
            Stmt::ClassDef(def) => {
                def.decorator_list.iter().for_each(|decorator| names.visit_expr(&decorator.expression));
                if let Some(arguments) = &def.arguments {
                    names.visit_arguments(arguments);
                }
                names.definition(def.range);
                names.write(&def.name.id);
            }
            Stmt::TypeAlias(alias) => {
                names.definition(alias.range);
                names.visit_expr(&alias.name);
            }
            Stmt::Assign(assign) => {
                names.visit_expr(&assign.value);
                assign.targets.iter().for_each(|target| names.visit_expr(target));
            }
            Stmt::AugAssign(assign) => {
                if let Expr::Name(name) = &*assign.target {
                    names.read(&name.id);
                }
                names.visit_expr(&assign.value);
                names.visit_expr(&assign.target);
            }
            Stmt::AnnAssign(assign) => {
                assign.value.iter().for_each(|value| names.visit_expr(value));
                // Python does not evaluate what a function says of its own variables.
                if !in_a_function {
                    names.visit_expr(&assign.annotation);
                }
                if assign.value.is_some() || !assign.target.is_name_expr() {
                    names.visit_expr(&assign.target);
                }
            }
            Stmt::Import(import) => import.names.iter().for_each(|alias| names.write(imported_name(alias))),
            Stmt::ImportFrom(import) => {
                for alias in import.names.iter().filter(|alias| alias.name.id != "*") {
                    names.write(alias.asname.as_ref().map_or(&alias.name.id, |name| &name.id));
                }
            }
            Stmt::Assert(assert) => {
                names.visit_expr(&assert.test);
                assert.msg.iter().for_each(|message| names.perhaps(|inner| inner.visit_expr(message)));
            }
            Stmt::Global(_) | Stmt::Nonlocal(_) => {}
            _ => names.visit_stmt(statement),
        });
    }

    fn branch(&mut self, branch: &'a ast::StmtIf, id: StatementId) {
        let after = self.fresh();
        self.step(StepKind::Test, id, branch.test.range(), |names| names.visit_expr(&branch.test));
        self.arm(&branch.body, id, after, Truth::of(&branch.test));
        for clause in &branch.elif_else_clauses {
            match &clause.test {
                Some(test) => {
                    self.step(StepKind::Test, id, test.range(), |names| names.visit_expr(test));
                    self.arm(&clause.body, id, after, Truth::of(test));
                }
                None => {
                    self.within(&clause.body, id);
                    self.go(after, EdgeKind::Next);
                }
            }
        }
        self.go(after, EdgeKind::Next);
        self.current = Some(after);
    }

    /// What is done where the test just made holds; goes on in a block for where it does not.
    fn arm(&mut self, body: &'a [Stmt], id: StatementId, after: BlockId, truth: Truth) {
        let (test, body_block, other) = (self.here(), self.fresh(), self.fresh());
        if truth != Truth::Never {
            self.edge(test, body_block, EdgeKind::True);
        }
        if truth != Truth::Always {
            self.edge(test, other, EdgeKind::False);
        }
        self.current = Some(body_block);
        self.within(body, id);
        self.go(after, EdgeKind::Next);
        self.current = Some(other);
    }

    fn choice(&mut self, choice: &'a ast::StmtMatch, id: StatementId) {
        let after = self.fresh();
        self.step(StepKind::Plain, id, choice.subject.range(), |names| names.visit_expr(&choice.subject));
        for case in &choice.cases {
            self.go_on_in_a_fresh_one();
            let guard_ends = case.guard.as_ref().map_or(case.pattern.end(), |guard| guard.end());
            let range = TextRange::new(case.pattern.start(), guard_ends);
            self.step(StepKind::Test, id, range, |names| {
                names.visit_pattern(&case.pattern);
                names.binds = names.may_write.clone();
                // It sees what was captured.
                case.guard.iter().for_each(|guard| names.visit_expr(guard));
            });
            let always = case.guard.is_none() && case.pattern.is_irrefutable();
            self.arm(&case.body, id, after, if always { Truth::Always } else { Truth::Open });
        }
        self.go(after, EdgeKind::Next);
        self.current = Some(after);
    }

    fn each(&mut self, each: &'a ast::StmtFor, id: StatementId) {
        self.step(StepKind::Plain, id, each.iter.range(), |names| names.visit_expr(&each.iter));
        let (head, body, over, after) = (self.fresh(), self.fresh(), self.fresh(), self.fresh());
        self.go_on_in(head);
        // The target is bound only where there is an element.
        self.step(StepKind::Iterate, id, each.target.range(), |names| {
            names.suspends |= each.is_async;
            names.perhaps(|inner| inner.visit_expr(&each.target));
            bound_by(&each.target, &mut |name| {
                names.binds.insert(name);
            });
        });
        self.edge(head, body, EdgeKind::True);
        self.edge(head, over, EdgeKind::False);
        self.rounds(&each.body, id, body, head, after);
        self.otherwise(&each.orelse, id, over, after);
    }

    fn repeat(&mut self, repeat: &'a ast::StmtWhile, id: StatementId) {
        let (head, body, over, after) = (self.fresh(), self.fresh(), self.fresh(), self.fresh());
        self.go_on_in(head);
        self.step(StepKind::Test, id, repeat.test.range(), |names| names.visit_expr(&repeat.test));
        let truth = Truth::of(&repeat.test);
        if truth != Truth::Never {
            self.edge(head, body, EdgeKind::True);
        }
        if truth != Truth::Always {
            self.edge(head, over, EdgeKind::False);
        }
        self.rounds(&repeat.body, id, body, head, after);
        self.otherwise(&repeat.orelse, id, over, after);
    }

    fn rounds(&mut self, suite: &'a [Stmt], id: StatementId, body: BlockId, head: BlockId, after: BlockId) {
        self.around.push(Around::Loop { head, after });
        self.current = Some(body);
        self.within(suite, id);
        self.go(head, EdgeKind::Next);
        self.around.pop();
    }

    fn otherwise(&mut self, suite: &'a [Stmt], id: StatementId, over: BlockId, after: BlockId) {
        self.current = Some(over);
        if !suite.is_empty() {
            self.within(suite, id);
        }
        self.go(after, EdgeKind::Next);
        self.current = Some(after);
    }

    fn attempt(&mut self, attempt: &'a ast::StmtTry, id: StatementId) {
        // Python executes its line, too.
        let keyword = TextRange::at(attempt.range.start(), ruff_text_size::TextSize::new(3));
        self.step(StepKind::Plain, id, keyword, |_| {});
        let outer = self.catch;
        let after = self.fresh();
        let cleanup = (!attempt.finalbody.is_empty()).then(|| self.fresh());
        if let Some(begins) = cleanup {
            self.around.push(Around::Cleanup { begins, jumps: BTreeSet::new() });
        }
        let done = cleanup.unwrap_or(after);
        let unhandled = cleanup.unwrap_or(outer);

        let dispatch = if attempt.handlers.is_empty() { unhandled } else { self.fresh() };
        self.catch = dispatch;
        self.go_on_in_a_fresh_one();
        self.within(&attempt.body, id);
        self.catch = unhandled;
        if !attempt.orelse.is_empty() {
            self.go_on_in_a_fresh_one();
            self.within(&attempt.orelse, id);
        }
        self.go(done, EdgeKind::Next);

        if !attempt.handlers.is_empty() {
            self.current = Some(dispatch);
            for ast::ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
                let (body, other) = (self.fresh(), self.fresh());
                let end = handler.name.as_ref().map(|name| name.range.end());
                let end = end.or_else(|| handler.type_.as_ref().map(|type_| type_.end()));
                let end = end.unwrap_or(handler.range.start() + ruff_text_size::TextSize::new(6));
                let range = TextRange::new(handler.range.start(), end);
                self.step(StepKind::Catch, id, range, |names| {
                    handler.type_.iter().for_each(|type_| names.visit_expr(type_));
                    if let Some(name) = &handler.name {
                        names.binds.insert(&name.id);
                        // However the handler is left.
                        names.unbinds.insert(&name.id);
                    }
                });
                let test = self.here();
                self.edge(test, body, EdgeKind::True);
                if handler.type_.is_some() {
                    self.edge(test, other, EdgeKind::False);
                }
                self.current = Some(body);
                self.within(&handler.body, id);
                if attempt.is_star {
                    // Others may take the rest of the group.
                    self.go(other, EdgeKind::Next);
                } else {
                    self.go(done, EdgeKind::Next);
                }
                self.current = Some(other);
            }
            if attempt.is_star {
                let last = self.here();
                self.edge(last, done, EdgeKind::Next);
            }
            // None of them takes it.
            self.go(unhandled, EdgeKind::Exception);
        }
        self.catch = outer;
        if let Some(begins) = cleanup {
            let jumps = self.leave_cleanup();
            self.current = Some(begins);
            self.within(&attempt.finalbody, id);
            self.resume(jumps, after);
        }
        self.current = Some(after);
    }

    fn leave_cleanup(&mut self) -> BTreeSet<BlockId> {
        match self.around.pop() {
            Some(Around::Cleanup { jumps, .. }) => jumps,
            _ => BTreeSet::new(),
        }
    }

    /// The end of a clean-up: on, to where jumps were going, or with the exception that was under way.
    fn resume(&mut self, jumps: BTreeSet<BlockId>, after: BlockId) {
        let Some(last) = self.current else { return };
        for target in jumps.into_iter().chain([self.catch]) {
            self.edge(last, target, EdgeKind::Resume);
        }
        self.go(after, EdgeKind::Next);
    }

    fn with(&mut self, with: &'a ast::StmtWith, id: StatementId) {
        let outer = self.catch;
        let after = self.fresh();
        // Each is entered within the ones before it.
        let mut open = Vec::new();
        for item in &with.items {
            self.step(StepKind::Context, id, item.range, |names| {
                names.suspends |= with.is_async;
                names.visit_expr(&item.context_expr);
                item.optional_vars.iter().for_each(|target| names.visit_expr(target));
            });
            let begins = self.fresh();
            open.push((begins, self.catch));
            self.around.push(Around::Cleanup { begins, jumps: BTreeSet::new() });
            self.catch = begins;
            self.go_on_in_a_fresh_one();
        }
        self.within(&with.body, id);
        let keyword =
            TextRange::new(with.range.start(), with.items.first().map_or(with.range.start(), |item| item.end()));
        while let Some((begins, catch)) = open.pop() {
            let jumps = self.leave_cleanup();
            self.go(begins, EdgeKind::Next);
            self.catch = catch;
            self.current = Some(begins);
            self.step(StepKind::Context, id, keyword, |names| names.suspends |= with.is_async);
            // It may swallow the exception: then it goes on as if there had been none.
            let next = self.fresh();
            self.resume(jumps, next);
            self.current = Some(next);
        }
        self.catch = outer;
        self.go_on_in(after);
    }
}

/// What is known of a test before it is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Always,
    Never,
    Open,
}

impl Truth {
    fn of(test: &Expr) -> Self {
        match test {
            Expr::BooleanLiteral(literal) if literal.value => Self::Always,
            Expr::BooleanLiteral(_) | Expr::NoneLiteral(_) => Self::Never,
            Expr::NumberLiteral(number) => match &number.value {
                ast::Number::Int(value) if *value == ast::Int::ZERO => Self::Never,
                ast::Number::Int(_) => Self::Always,
                _ => Self::Open,
            },
            _ => Self::Open,
        }
    }
}
