//! What one step reads and writes.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_pattern};
use ruff_python_ast::{self as ast, Expr, ExprContext, Pattern};
use ruff_text_size::TextRange;

use super::scopes::{Scopes, bound_by, captured_by};

/// Gathers the names of a step in the order in which it is evaluated.
pub struct Gatherer<'a, 's> {
    scopes: &'s Scopes<'a>,
    pub reads: BTreeSet<&'a str>,
    pub writes: BTreeSet<&'a str>,
    pub may_write: BTreeSet<&'a str>,
    /// Written where what the step asks holds.
    pub binds: BTreeSet<&'a str>,
    pub unbinds: BTreeSet<&'a str>,
    pub suspends: bool,
    /// How many conditions the current place is under: what is written there may not be.
    conditions: usize,
    /// What comprehensions around the current place bind.
    hidden: Vec<BTreeSet<&'a str>>,
}

impl<'a, 's> Gatherer<'a, 's> {
    pub fn new(scopes: &'s Scopes<'a>) -> Self {
        let (reads, writes, may_write, binds, unbinds) = Default::default();
        Self { scopes, reads, writes, may_write, binds, unbinds, suspends: false, conditions: 0, hidden: Vec::new() }
    }

    pub fn read(&mut self, name: &'a str) {
        let hidden = self.hidden.iter().any(|hidden| hidden.contains(name));
        if !hidden && !self.writes.contains(name) && !self.binds.contains(name) {
            self.reads.insert(name);
        }
    }

    pub fn write(&mut self, name: &'a str) {
        if self.conditions > 0 {
            self.may_write.insert(name);
        } else {
            self.writes.insert(name);
        }
    }

    /// Makes a function or a class: reads what that names of the variables around it.
    pub fn definition(&mut self, range: TextRange) {
        if let Some(scope) = self.scopes.opened_by(range) {
            let free: Vec<&str> = self.scopes.all[scope].free().collect();
            free.into_iter().for_each(|name| self.read(name));
        }
    }

    pub fn defaults_and_annotations(&mut self, parameters: &'a ast::Parameters) {
        for parameter in parameters {
            parameter.default().into_iter().for_each(|default| self.visit_expr(default));
            parameter.annotation().into_iter().for_each(|annotation| self.visit_expr(annotation));
        }
    }

    /// What may not be evaluated.
    pub fn perhaps(&mut self, within: impl FnOnce(&mut Self)) {
        self.conditions += 1;
        within(self);
        self.conditions -= 1;
    }

    fn comprehension(&mut self, generators: &'a [ast::Comprehension], results: &[&'a Expr]) {
        let mut targets = BTreeSet::new();
        generators.iter().for_each(|generator| {
            bound_by(&generator.target, &mut |name| {
                targets.insert(name);
            });
        });
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        self.suspends |= generators.iter().any(|generator| generator.is_async);
        self.hidden.push(targets);
        self.perhaps(|inner| {
            for (number, generator) in generators.iter().enumerate() {
                if number > 0 {
                    inner.visit_expr(&generator.iter);
                }
                // Names in it are hidden; an attribute or an element is written all the same.
                inner.visit_expr(&generator.target);
                generator.ifs.iter().for_each(|test| inner.visit_expr(test));
            }
            results.iter().for_each(|result| inner.visit_expr(result));
        });
        self.hidden.pop();
    }
}

impl<'a> Visitor<'a> for Gatherer<'a, '_> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        super::deep(|| match expr {
            Expr::Name(name) => match name.ctx {
                ExprContext::Load | ExprContext::Invalid => self.read(&name.id),
                ExprContext::Store => {
                    if !self.hidden.iter().any(|hidden| hidden.contains(name.id.as_str())) {
                        self.write(&name.id);
                    }
                }
                ExprContext::Del => {
                    self.read(&name.id);
                    self.write(&name.id);
                    self.unbinds.insert(&name.id);
                }
            },
            Expr::Named(named) => {
                self.visit_expr(&named.value);
                if let Expr::Name(name) = &*named.target {
                    self.write(&name.id);
                }
            }
            Expr::BoolOp(chain) => {
                let mut values = chain.values.iter();
                values.next().into_iter().for_each(|first| self.visit_expr(first));
                self.perhaps(|inner| values.for_each(|value| inner.visit_expr(value)));
            }
            Expr::Compare(compare) => {
                self.visit_expr(&compare.left);
                let mut others = compare.comparators.iter();
                others.next().into_iter().for_each(|second| self.visit_expr(second));
                self.perhaps(|inner| others.for_each(|other| inner.visit_expr(other)));
            }
            Expr::If(choice) => {
                self.visit_expr(&choice.test);
                self.perhaps(|inner| {
                    inner.visit_expr(&choice.body);
                    inner.visit_expr(&choice.orelse);
                });
            }
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.defaults_and_annotations(parameters);
                }
                self.definition(lambda.range);
            }
            Expr::ListComp(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::SetComp(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::Generator(comp) => self.comprehension(&comp.generators, &[&comp.elt]),
            Expr::DictComp(comp) => {
                let results: Vec<&Expr> = comp.key.as_deref().into_iter().chain([&*comp.value]).collect();
                self.comprehension(&comp.generators, &results);
            }
            Expr::Await(_) | Expr::Yield(_) | Expr::YieldFrom(_) => {
                self.suspends = true;
                walk_expr(self, expr);
            }
            _ => walk_expr(self, expr),
        });
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        super::deep(|| {
            walk_pattern(self, pattern);
            if let Some(name) = captured_by(pattern) {
                // A case that does not fit in the end may have captured something on the way.
                self.may_write.insert(name);
            }
        });
    }
}
