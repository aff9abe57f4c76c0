//! The rows behind a to-many link: quantifiers, counts and aggregates.

use std::ops::Range;

use cel::{IdedExpr, common::ast::Expr};

use super::{Checker, Value, describe, operators::comparable};
use crate::rule::{
    ast::{Comparison, Function, Many, Node, Type, Typed},
    problem::Problem,
};

/// To-many inside to-many: each is a subquery.
const NESTING_MAX: usize = 4;
/// What only many rows can be asked.
pub(super) const ROWS_METHODS: [&str; 10] =
    ["exists", "all", "exists_one", "filter", "map", "size", "sum", "avg", "min", "max"];

impl Checker<'_> {
    pub(super) fn rows_method(
        &mut self,
        expr: &IdedExpr,
        (mut many, entity, filter, value): (Many, String, Option<Box<Typed>>, Option<Box<Typed>>),
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Value, Problem> {
        match (name, args) {
            ("exists" | "all" | "exists_one" | "filter" | "map", [variable, body]) if value.is_none() => {
                let (inner, body) = self.inside(variable, &entity, body, name == "map")?;
                many.inner = inner;
                let all_of = |extra: Typed| match filter.clone() {
                    Some(filter) => {
                        let span = extra.span.clone();
                        Typed { node: Node::And(filter, Box::new(extra)), ty: Type::BOOLEAN, is_nullable: false, span }
                    }
                    None => extra,
                };
                Ok(match name {
                    "exists" => {
                        Value::Typed(self.make(expr, Node::Exists(many, Box::new(all_of(body))), Type::BOOLEAN, false))
                    }
                    // Of the rows that pass the filter: each row fails it or holds.
                    "all" => {
                        let body = match filter {
                            Some(filter) => {
                                let span = body.span.clone();
                                let out = self.boolean(Node::Not(filter), span.clone());
                                self.boolean(Node::Or(Box::new(out), Box::new(body)), span)
                            }
                            None => body,
                        };
                        Value::Typed(self.make(expr, Node::All(many, Box::new(body)), Type::BOOLEAN, false))
                    }
                    "exists_one" => Value::Typed(self.exactly_one(expr, many, all_of(body))),
                    "filter" => Value::Rows { many, entity, filter: Some(Box::new(all_of(body))), value: None },
                    _ => Value::Rows { many, entity, filter, value: Some(Box::new(body)) },
                })
            }
            // CEL's map with a condition: filter and map in one.
            ("map", [variable, condition, body]) if value.is_none() => {
                let (inner, condition) = self.inside(variable, &entity, condition, false)?;
                let (_, body) = self.inside(variable, &entity, body, true)?;
                many.inner = inner;
                let filter = match filter {
                    Some(filter) => {
                        let span = condition.span.clone();
                        self.boolean(Node::And(filter, Box::new(condition)), span)
                    }
                    None => condition,
                };
                Ok(Value::Rows { many, entity, filter: Some(Box::new(filter)), value: Some(Box::new(body)) })
            }
            ("size", []) if value.is_none() => {
                many.inner = self.scopes.len();
                let node = Node::Aggregate { many, filter, function: Function::Count, value: None };
                Ok(Value::Typed(self.make(expr, node, Type::INTEGER, false)))
            }
            ("sum" | "avg" | "min" | "max", []) => match value {
                Some(value) => self.aggregate(expr, many, filter, name, value).map(Value::Typed),
                None => Err(self
                    .problem(expr, format!("{name}() needs values, and these are rows of {entity}"))
                    .hint(format!("write map(x, x.{}).{name}()", self.first_field(&entity)))),
            },
            _ => Err(self.no_function(expr, name)),
        }
    }

    fn boolean(&self, node: Node, span: Range<usize>) -> Typed {
        Typed { node, ty: Type::BOOLEAN, is_nullable: false, span }
    }

    /// `"x" in customer.bookings.map(b, b.status)`: whether one of the rows has the value.
    pub(super) fn membership_in_rows(
        &mut self,
        expr: &IdedExpr,
        a: &IdedExpr,
        list: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let found = match &list.expr {
            Expr::Call(_) | Expr::Select(_) => self.value(list)?,
            _ => return Err(self.problem(list, "behind `in` stands a list, as in `x in [\"a\", \"b\"]`")),
        };
        let Value::Rows { many, filter, value: Some(value), .. } = found else {
            return Err(self
                .problem(list, "behind `in` stands a list, as in `x in [\"a\", \"b\"]`")
                .hint("or the values of many rows, as in `x in customer.bookings.map(b, b.status)`"));
        };
        let a = self.typed(a)?;
        if !comparable(a.ty, value.ty) {
            return Err(self.incomparable(expr, &a, &value));
        }
        let span = self.span(expr);
        let wanted = a.is_nullable.then(|| self.boolean(Node::Has(Box::new(a.clone())), span.clone()));
        // Compared only where it is there, so that a missing value equals none.
        let a = Typed { is_nullable: false, ..a };
        let equal = self.boolean(Node::Compare(Comparison::Equal, value, Box::new(a)), span.clone());
        let all = filter.map(|f| *f).into_iter().chain(wanted).chain([equal]);
        let body = all.reduce(|a, b| self.boolean(Node::And(Box::new(a), Box::new(b)), span.clone()));
        let body = body.unwrap_or_else(|| self.boolean(Node::Boolean(false), span.clone()));
        Ok(self.boolean(Node::Exists(many, Box::new(body)), span))
    }

    fn exactly_one(&self, expr: &IdedExpr, many: Many, filter: Typed) -> Typed {
        let node = Node::Aggregate { many, filter: Some(Box::new(filter)), function: Function::Count, value: None };
        let count = self.make(expr, node, Type::INTEGER, false);
        let one = self.make(expr, Node::Integer(1), Type::INTEGER, false);
        self.make(expr, Node::Compare(Comparison::Equal, Box::new(count), Box::new(one)), Type::BOOLEAN, false)
    }

    /// Checks `body` with a variable for one row of `entity`.
    fn inside(
        &mut self,
        variable: &IdedExpr,
        entity: &str,
        body: &IdedExpr,
        is_value: bool,
    ) -> Result<(usize, Typed), Problem> {
        let Expr::Ident(name) = &variable.expr else {
            return Err(self.problem(variable, "here stands a name for one of the rows, as in exists(x, x.…)"));
        };
        if self.scopes.len() > NESTING_MAX {
            return Err(self.problem(variable, format!("links to many rows nest at most {NESTING_MAX} deep")));
        }
        let inner = self.scopes.len();
        self.scopes.push((name.clone(), entity.to_owned()));
        let body = if is_value { self.typed(body) } else { self.condition(body) };
        self.scopes.pop();
        Ok((inner, body?))
    }

    fn aggregate(
        &self,
        expr: &IdedExpr,
        many: Many,
        filter: Option<Box<Typed>>,
        name: &str,
        value: Box<Typed>,
    ) -> Result<Typed, Problem> {
        let (function, ty, is_nullable) = match name {
            "sum" => (Function::Sum, value.ty, false),
            "avg" => (Function::Average, Type::DOUBLE, true),
            "min" => (Function::Minimum, value.ty, true),
            _ => (Function::Maximum, value.ty, true),
        };
        let needs_number = matches!(function, Function::Sum | Function::Average);
        if needs_number && !value.ty.is_number() || value.ty == Type::BOOLEAN {
            let problem = self.problem(expr, format!("{name}() cannot take {}", describe(&value)));
            return Err(match needs_number {
                true => problem.hint("only numbers have a sum or an average; size() counts rows"),
                false => problem.hint("ask with exists(x, …) or all(x, …)"),
            });
        }
        let node = Node::Aggregate { many, filter, function, value: Some(value) };
        Ok(self.make(expr, node, ty, is_nullable))
    }
}
