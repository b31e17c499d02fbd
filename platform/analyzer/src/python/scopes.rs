//! Which variable a name means: the scopes of a module, as Python's symbol tables resolve them.
//!
//! Comprehensions have no scope here: they run at once, so what they read and bind is the affair of the step they are in.

use std::collections::{BTreeSet, HashMap};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_pattern, walk_stmt};
use ruff_python_ast::{self as ast, Expr, ExprContext, Pattern, Stmt};
use ruff_text_size::TextRange;

use crate::graph::Binding;

/// What a scope belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    Module,
    Class,
    Function,
}

/// A scope.
#[derive(Debug)]
pub struct Scope<'a> {
    pub kind: ScopeKind,
    pub parent: Option<usize>,
    parameters: BTreeSet<&'a str>,
    bound: BTreeSet<&'a str>,
    globals: BTreeSet<&'a str>,
    nonlocals: BTreeSet<&'a str>,
    named: BTreeSet<&'a str>,
    /// Bound here and named by functions within.
    shared: BTreeSet<&'a str>,
    /// Variables of functions around it, named here or further in.
    free: BTreeSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn new(kind: ScopeKind, parent: Option<usize>) -> Self {
        let (parameters, bound, globals, nonlocals) = Default::default();
        let (named, shared, free) = Default::default();
        Self { kind, parent, parameters, bound, globals, nonlocals, named, shared, free }
    }

    fn binds(&self, name: &str) -> bool {
        self.bound.contains(name) && !self.globals.contains(name) && !self.nonlocals.contains(name)
    }

    /// How a name is bound for the code of this scope.
    pub fn binding(&self, name: &str) -> Binding {
        if self.kind == ScopeKind::Module || self.globals.contains(name) {
            Binding::Global
        } else if self.binds(name) {
            match self.kind {
                _ if self.shared.contains(name) => Binding::Shared,
                _ if self.parameters.contains(name) => Binding::Parameter,
                _ => Binding::Local,
            }
        } else if self.free.contains(name) {
            Binding::Free
        } else {
            Binding::Global
        }
    }

    /// Variables of functions around it that it names, or something within it does.
    pub fn free(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.free.iter().copied()
    }
}

/// The scopes of a module; the first is the module's own.
#[derive(Debug)]
pub struct Scopes<'a> {
    pub all: Vec<Scope<'a>>,
    by_range: HashMap<TextRange, usize>,
}

impl<'a> Scopes<'a> {
    /// Of a module's statements.
    pub fn of(body: &'a [Stmt]) -> Self {
        let mut finder = Finder {
            scopes: Self { all: vec![Scope::new(ScopeKind::Module, None)], by_range: HashMap::new() },
            current: 0,
            hidden: Vec::new(),
        };
        body.iter().for_each(|statement| finder.visit_stmt(statement));
        let mut scopes = finder.scopes;
        scopes.resolve();
        scopes
    }

    /// The scope that a definition or a lambda opens.
    pub fn opened_by(&self, definition: TextRange) -> Option<usize> {
        self.by_range.get(&definition).copied()
    }

    /// Finds out which names mean variables of functions around.
    fn resolve(&mut self) {
        for inner in 0..self.all.len() {
            let names: Vec<&str> = self.all[inner].named.iter().copied().collect();
            for name in names {
                let scope = &self.all[inner];
                if !scope.globals.contains(name) && !scope.binds(name) {
                    self.resolve_outwards(inner, name);
                }
            }
        }
    }

    fn resolve_outwards(&mut self, inner: usize, name: &'a str) {
        let mut through = vec![inner];
        let mut next = self.all[inner].parent;
        while let Some(outer) = next {
            let scope = &self.all[outer];
            if scope.kind == ScopeKind::Function {
                if scope.globals.contains(name) {
                    return;
                }
                if scope.binds(name) {
                    self.all[outer].shared.insert(name);
                    through.into_iter().for_each(|scope| {
                        self.all[scope].free.insert(name);
                    });
                    return;
                }
                through.push(outer);
            } else if scope.kind == ScopeKind::Class {
                // It hands the variable on, but its own names are not seen from within.
                through.push(outer);
            }
            next = scope.parent;
        }
    }
}

struct Finder<'a> {
    scopes: Scopes<'a>,
    current: usize,
    /// What comprehensions around the current place bind.
    hidden: Vec<BTreeSet<&'a str>>,
}

impl<'a> Finder<'a> {
    fn here(&mut self) -> &mut Scope<'a> {
        &mut self.scopes.all[self.current]
    }

    fn bind(&mut self, name: &'a str) {
        let scope = self.here();
        scope.bound.insert(name);
        scope.named.insert(name);
    }

    fn open(&mut self, kind: ScopeKind, range: TextRange, within: impl FnOnce(&mut Self)) {
        let number = self.scopes.all.len();
        self.scopes.all.push(Scope::new(kind, Some(self.current)));
        self.scopes.by_range.insert(range, number);
        let before = std::mem::replace(&mut self.current, number);
        let hidden = std::mem::take(&mut self.hidden);
        within(self);
        self.hidden = hidden;
        self.current = before;
    }

    fn parameters(&mut self, parameters: &'a ast::Parameters) {
        for parameter in parameters {
            self.bind(&parameter.name().id);
            self.here().parameters.insert(&parameter.name().id);
        }
    }

    fn defaults_and_annotations(&mut self, parameters: &'a ast::Parameters) {
        for parameter in parameters {
            parameter.default().into_iter().for_each(|default| self.visit_expr(default));
            parameter.annotation().into_iter().for_each(|annotation| self.visit_expr(annotation));
        }
    }

    fn comprehension(&mut self, generators: &'a [ast::Comprehension], results: &[&'a Expr]) {
        let mut targets = BTreeSet::new();
        generators.iter().for_each(|generator| {
            bound_by(&generator.target, &mut |name| {
                targets.insert(name);
            })
        });
        // The first is evaluated outside.
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        self.hidden.push(targets);
        for (number, generator) in generators.iter().enumerate() {
            if number > 0 {
                self.visit_expr(&generator.iter);
            }
            self.visit_expr(&generator.target);
            generator.ifs.iter().for_each(|test| self.visit_expr(test));
        }
        results.iter().for_each(|result| self.visit_expr(result));
        self.hidden.pop();
    }
}

impl<'a> Visitor<'a> for Finder<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        super::deep(|| match statement {
            Stmt::FunctionDef(def) => {
                def.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
                self.defaults_and_annotations(&def.parameters);
                def.returns.iter().for_each(|returns| self.visit_expr(returns));
                self.bind(&def.name.id);
                self.open(ScopeKind::Function, def.range, |inner| {
                    inner.parameters(&def.parameters);
                    inner.type_parameters(def.type_params.as_deref());
                    def.body.iter().for_each(|statement| inner.visit_stmt(statement));
                });
            }
            Stmt::ClassDef(def) => {
                def.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
                if let Some(arguments) = &def.arguments {
                    self.visit_arguments(arguments);
                }
                self.bind(&def.name.id);
                self.open(ScopeKind::Class, def.range, |inner| {
                    inner.type_parameters(def.type_params.as_deref());
                    def.body.iter().for_each(|statement| inner.visit_stmt(statement));
                });
            }
            Stmt::Global(global) => {
                self.here().globals.extend(global.names.iter().map(|name| name.id.as_str()));
            }
            Stmt::Nonlocal(nonlocal) => {
                let names = || nonlocal.names.iter().map(|name| name.id.as_str());
                self.here().nonlocals.extend(names());
                self.here().named.extend(names());
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    self.bind(imported_name(alias));
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in import.names.iter().filter(|alias| alias.name.id != "*") {
                    self.bind(alias.asname.as_ref().map_or(&alias.name.id, |name| &name.id));
                }
            }
            Stmt::Try(attempt) => {
                for ast::ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
                    if let Some(name) = &handler.name {
                        self.bind(&name.id);
                    }
                }
                walk_stmt(self, statement);
            }
            Stmt::TypeAlias(alias) => {
                if let Expr::Name(name) = &*alias.name {
                    self.bind(&name.id);
                }
                self.open(ScopeKind::Function, alias.range, |inner| {
                    inner.type_parameters(alias.type_params.as_deref());
                    inner.visit_expr(&alias.value);
                });
            }
            _ => walk_stmt(self, statement),
        });
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        super::deep(|| match expr {
            Expr::Name(name) => {
                let hidden = self.hidden.iter().any(|hidden| hidden.contains(name.id.as_str()));
                match name.ctx {
                    // The target of a comprehension.
                    _ if hidden => {}
                    ExprContext::Store | ExprContext::Del => self.bind(&name.id),
                    ExprContext::Load | ExprContext::Invalid => {
                        self.here().named.insert(&name.id);
                    }
                }
            }
            // Binds outside all comprehensions that it is in.
            Expr::Named(named) => {
                self.visit_expr(&named.value);
                if let Expr::Name(name) = &*named.target {
                    self.bind(&name.id);
                }
            }
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.defaults_and_annotations(parameters);
                }
                let hidden = self.hidden.clone();
                self.open(ScopeKind::Function, lambda.range, |inner| {
                    // What comprehensions around it bind is theirs.
                    inner.hidden = hidden;
                    if let Some(parameters) = &lambda.parameters {
                        for set in &mut inner.hidden {
                            parameters.iter().for_each(|parameter| {
                                set.remove(parameter.name().id.as_str());
                            });
                        }
                        inner.parameters(parameters);
                    }
                    inner.visit_expr(&lambda.body);
                });
            }
            Expr::ListComp(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::SetComp(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::Generator(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::DictComp(comp) => {
                let results: Vec<&Expr> = comp.key.as_deref().into_iter().chain([&*comp.value]).collect();
                self.comprehension(&comp.generators, &results);
            }
            _ => walk_expr(self, expr),
        });
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        super::deep(|| {
            if let Some(name) = captured_by(pattern) {
                self.bind(name);
            }
            walk_pattern(self, pattern);
        });
    }
}

impl<'a> Finder<'a> {
    fn type_parameters(&mut self, parameters: Option<&'a ast::TypeParams>) {
        for parameter in parameters.iter().flat_map(|parameters| parameters.type_params.iter()) {
            self.bind(&parameter.name().id);
        }
    }
}

/// The name that an `import` binds: the first part of a dotted one.
pub fn imported_name(alias: &ast::Alias) -> &str {
    match &alias.asname {
        Some(name) => &name.id,
        None => alias.name.id.split('.').next().unwrap_or_default(),
    }
}

/// The name that a pattern itself captures.
pub fn captured_by(pattern: &Pattern) -> Option<&str> {
    match pattern {
        Pattern::MatchAs(as_) => as_.name.as_ref().map(|name| name.id.as_str()),
        Pattern::MatchStar(star) => star.name.as_ref().map(|name| name.id.as_str()),
        Pattern::MatchMapping(mapping) => mapping.rest.as_ref().map(|name| name.id.as_str()),
        _ => None,
    }
}

/// The names that a target binds.
pub fn bound_by<'a>(target: &'a Expr, each: &mut impl FnMut(&'a str)) {
    match target {
        Expr::Name(name) => each(&name.id),
        Expr::Tuple(tuple) => tuple.elts.iter().for_each(|element| bound_by(element, each)),
        Expr::List(list) => list.elts.iter().for_each(|element| bound_by(element, each)),
        Expr::Starred(starred) => bound_by(&starred.value, each),
        _ => {}
    }
}
