//! Python 3.9 to 3.14: from a module's source to the graphs of its functions.

mod flow;
mod lines;
mod reads_and_writes;
mod scopes;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{self as ast, Expr, ModModule, Stmt};
use ruff_python_parser::{Mode, ParseOptions, Parsed, parse};
use ruff_text_size::TextRange;

use crate::SourceError;
use crate::graph::{Graph, Span};
use lines::Lines;
use scopes::{ScopeKind, Scopes};

/// Bytes of source at most: far beyond what anybody writes by hand.
const SOURCE_MAX_BYTES: usize = 16 << 20;

/// Free stack below which a new piece is made, and how large that is: nesting is bounded by memory, not by the stack.
const STACK_LEFT: usize = 128 << 10;
const STACK_PIECE: usize = 4 << 20;

/// Runs what calls itself for what is nested within.
fn deep<T>(within: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_LEFT, STACK_PIECE, within)
}

/// A module as it was parsed.
pub struct Source {
    text: String,
    parsed: Option<Parsed<ModModule>>,
    lines: Lines,
}

impl Source {
    /// Parses the bytes of a file, in whatever encoding they say they are.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        if bytes.len() > SOURCE_MAX_BYTES {
            return Err(SourceError::TooLarge { limit_bytes: SOURCE_MAX_BYTES });
        }
        let text = crate::encoding::decode(bytes)?;
        let lines = Lines::of(&text);
        let parsed = parse(&text, ParseOptions::from(Mode::Module)).map_err(|error| SourceError::Syntax {
            line: lines.line(error.location.start().to_u32()),
            problem: error.error.to_string(),
        })?;
        Ok(Self { text, parsed: parsed.try_into_module(), lines })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn body(&self) -> &[Stmt] {
        self.parsed.as_ref().map_or(&[], |parsed| &parsed.syntax().body)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Trees are dropped by recursion, which no stack bounds: as deep as there are bytes, at worst.
        let size = (self.text.len() * 256).clamp(STACK_PIECE, 1 << 30);
        let parsed = self.parsed.take();
        stacker::grow(size, || drop(parsed));
    }
}

/// What code belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// A module's own statements.
    Module,
    /// A class's own statements, which make it.
    Class,
    /// A function.
    Function,
    /// A lambda.
    Lambda,
}

/// Code with a graph of its own.
pub struct Unit<'a> {
    /// What it is.
    pub kind: UnitKind,
    /// Its name with the names of what it is within, as Python's `__qualname__`.
    pub name: String,
    /// What it is within, by its number; none for the module.
    pub parent: Option<usize>,
    /// All of it.
    pub span: Span,
    /// Whether it is an `async def`.
    pub is_async: bool,
    /// Its graph.
    pub graph: Graph,
    /// Its statements as they were parsed, by their numbers in the graph; none for a lambda.
    pub statements: Vec<&'a Stmt>,
    /// The parameters of a function or a lambda.
    pub parameters: Option<&'a ast::Parameters>,
}

/// All code of a module; the first unit is the module's own.
pub fn units(source: &Source) -> Vec<Unit<'_>> {
    let scopes = Scopes::of(source.body());
    let flow = flow::flow(source.body(), 0, &scopes, &source.lines);
    let whole = TextRange::up_to(ruff_text_size::TextLen::text_len(source.text.as_str()));
    let module = Unit {
        kind: UnitKind::Module,
        name: "<module>".to_owned(),
        parent: None,
        span: source.lines.span(whole),
        is_async: false,
        graph: flow.graph,
        statements: flow.statements,
        parameters: None,
    };
    let mut finder = UnitFinder { scopes: &scopes, lines: &source.lines, units: vec![module], current: 0 };
    source.body().iter().for_each(|statement| finder.visit_stmt(statement));
    finder.units
}

struct UnitFinder<'a, 's> {
    scopes: &'s Scopes<'a>,
    lines: &'s Lines,
    units: Vec<Unit<'a>>,
    current: usize,
}

impl<'a> UnitFinder<'a, '_> {
    fn name(&self, name: &str) -> String {
        let outer = &self.units[self.current];
        match outer.kind {
            UnitKind::Module => name.to_owned(),
            UnitKind::Class => format!("{}.{name}", outer.name),
            UnitKind::Function | UnitKind::Lambda => format!("{}.<locals>.{name}", outer.name),
        }
    }

    fn add(&mut self, unit: Unit<'a>, within: impl FnOnce(&mut Self)) {
        self.units.push(unit);
        let before = std::mem::replace(&mut self.current, self.units.len() - 1);
        within(self);
        self.current = before;
    }

    fn unit(
        &self,
        kind: UnitKind,
        name: &str,
        range: TextRange,
        parameters: Option<&'a ast::Parameters>,
        flow: flow::Flow<'a>,
    ) -> Unit<'a> {
        Unit {
            kind,
            name: self.name(name),
            parent: Some(self.current),
            span: self.lines.span(range),
            is_async: false,
            graph: flow.graph,
            statements: flow.statements,
            parameters,
        }
    }
}

impl<'a> Visitor<'a> for UnitFinder<'a, '_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        deep(|| match statement {
            Stmt::FunctionDef(def) => {
                let Some(scope) = self.scopes.opened_by(def.range) else { return };
                def.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
                self.visit_parameters(&def.parameters);
                let flow = flow::flow(&def.body, scope, self.scopes, self.lines);
                let unit = self.unit(UnitKind::Function, &def.name.id, def.range, Some(&def.parameters), flow);
                self.add(Unit { is_async: def.is_async, ..unit }, |inner| {
                    def.body.iter().for_each(|statement| inner.visit_stmt(statement));
                });
            }
            Stmt::ClassDef(def) => {
                let Some(scope) = self.scopes.opened_by(def.range) else { return };
                debug_assert_eq!(self.scopes.all[scope].kind, ScopeKind::Class);
                def.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
                if let Some(arguments) = &def.arguments {
                    self.visit_arguments(arguments);
                }
                let flow = flow::flow(&def.body, scope, self.scopes, self.lines);
                let unit = self.unit(UnitKind::Class, &def.name.id, def.range, None, flow);
                self.add(unit, |inner| def.body.iter().for_each(|statement| inner.visit_stmt(statement)));
            }
            _ => walk_stmt(self, statement),
        });
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        deep(|| match expr {
            Expr::Lambda(lambda) => {
                let Some(scope) = self.scopes.opened_by(lambda.range) else { return };
                if let Some(parameters) = &lambda.parameters {
                    self.visit_parameters(parameters);
                }
                let flow = flow::lambda(&lambda.body, scope, self.scopes, self.lines);
                let parameters = lambda.parameters.as_deref();
                let unit = self.unit(UnitKind::Lambda, "<lambda>", lambda.range, parameters, flow);
                self.add(unit, |inner| inner.visit_expr(&lambda.body));
            }
            _ => walk_expr(self, expr),
        });
    }
}
