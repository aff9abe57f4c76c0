//! The rows behind a to-many link: quantifiers, counts and aggregates.

use cel::{IdedExpr, common::ast::Expr};

use super::{Checker, Value, describe};
use crate::rule::{
    ast::{Comparison, Function, Many, Node, Type, Typed},
    problem::Problem,
};

/// To-many inside to-many: each is a subquery.
const NESTING_MAX: usize = 4;

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
                    "all" if filter.is_some() => {
                        return Err(self
                            .problem(expr, "filter(…).all(…) is not built yet")
                            .hint("write all(x, !(filter) || …)"));
                    }
                    "all" => Value::Typed(self.make(expr, Node::All(many, Box::new(body)), Type::BOOLEAN, false)),
                    "exists_one" => Value::Typed(self.exactly_one(expr, many, all_of(body))),
                    "filter" => Value::Rows { many, entity, filter: Some(Box::new(all_of(body))), value: None },
                    _ => Value::Rows { many, entity, filter, value: Some(Box::new(body)) },
                })
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

    pub(super) fn exactly_one(&self, expr: &IdedExpr, many: Many, filter: Typed) -> Typed {
        let node = Node::Aggregate { many, filter: Some(Box::new(filter)), function: Function::Count, value: None };
        let count = self.make(expr, node, Type::INTEGER, false);
        let one = self.make(expr, Node::Integer(1), Type::INTEGER, false);
        self.make(expr, Node::Compare(Comparison::Equal, Box::new(count), Box::new(one)), Type::BOOLEAN, false)
    }

    /// Checks `body` with a variable for one row of `entity`.
    pub(super) fn inside(
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

    pub(super) fn aggregate(
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
            return Err(self.problem(expr, format!("{name}() cannot take {}", describe(&value))));
        }
        let node = Node::Aggregate { many, filter, function, value: Some(value) };
        Ok(self.make(expr, node, ty, is_nullable))
    }
}
