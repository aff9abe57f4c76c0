//! `customer in audience("vip")`: whether a row is in another audience.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue},
};

use super::{Checker, Value, describe, parse};
use crate::rule::{
    ast::{Node, Type, Typed},
    problem::Problem,
};

const AUDIENCE: &str = "audience";

/// The audiences that a rule asks about, each with the place of its name. None where the text is no rule: that is
/// said where it is checked.
pub fn audiences_in(text: &str) -> Vec<(String, Range<usize>)> {
    // Most rules ask about none.
    let Some(parsed) = text.contains(AUDIENCE).then(|| parse(text).ok()).flatten() else { return vec![] };
    let mut names = vec![];
    walk(&parsed.tree, &mut names);
    // The parser gives a call the place of its bracket; the name stands in quotes somewhere behind `audience`.
    let mut from = 0;
    let place = |name: &String| {
        let found = text[from..].find(AUDIENCE).map(|at| from + at);
        let start = found.and_then(|at| text[at..].find(name.as_str()).map(|inside| at + inside));
        let span = start.map_or(0..text.len(), |start| start..start + name.len());
        from = start.map_or(from, |start| start + name.len());
        (name.clone(), span)
    };
    names.iter().map(place).collect()
}

fn walk(expr: &IdedExpr, names: &mut Vec<String>) {
    match &expr.expr {
        Expr::Call(call) => {
            if is_call(expr) {
                names.extend(name_of(call).map(str::to_owned));
            }
            call.target.iter().for_each(|target| walk(target, names));
            call.args.iter().for_each(|arg| walk(arg, names));
        }
        Expr::Select(select) => walk(&select.operand, names),
        Expr::List(list) => list.elements.iter().for_each(|element| walk(element, names)),
        _ => {}
    }
}

pub(super) fn is_call(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::Call(call) if call.func_name == AUDIENCE && call.target.is_none())
}

fn name_of(call: &CallExpr) -> Option<&str> {
    match call.args.as_slice() {
        [IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => Some(name.inner()),
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn lonely_audience(&self, expr: &IdedExpr) -> Problem {
        self.problem(expr, "an audience stands only behind `in`").hint("write it as in `customer in audience(\"vip\")`")
    }

    pub(super) fn in_audience(&mut self, expr: &IdedExpr, a: &IdedExpr, call: &IdedExpr) -> Result<Typed, Problem> {
        let Expr::Call(named) = &call.expr else { return Err(self.lonely_audience(call)) };
        let Some(name) = name_of(named) else {
            return Err(self
                .problem(call, "audience() takes the name of one audience")
                .hint("write it in quotes, as in audience(\"vip\")"));
        };
        // What a rule asks about is found in its text alone.
        if self.use_of.is_some() {
            let message = "a condition of a Dataset cannot ask about audiences, which are made of its rows";
            return Err(self.problem(call, message).hint("ask in the audience's own rule"));
        }
        let Some(of) = self.schema.audiences.get(name) else {
            return Err(Problem::new(format!("there is no Audience `{name}`"), self.name_span(call, name))
                .suggest(name, self.schema.audiences.keys().map(String::as_str)));
        };
        let (var, hops, entity) = match self.value(a)? {
            Value::Row { var, hops, entity } => (var, hops, entity),
            Value::Rows { entity, .. } => {
                return Err(self
                    .problem(a, format!("this is many rows of {entity}, and an audience is asked about one"))
                    .hint(format!("ask with exists(x, x in audience(\"{name}\"))")));
            }
            Value::Typed(typed) => {
                return Err(Problem::new(
                    format!("an audience holds rows of {of}, and this is {}", describe(&typed)),
                    typed.span,
                )
                .hint(format!("name the row, as in `{of} in audience(\"{name}\")`")));
            }
        };
        if entity != *of {
            let message = format!("audience `{name}` holds rows of {of}, and this is a row of {entity}");
            return Err(self.problem(a, message).hint(format!("lead to its {of}, as in `{entity}.{of} in …`")));
        }
        let node = Node::InAudience { var, hops, audience: name.to_owned() };
        // CEL places it at the word `in`; who reads it back wants all of it.
        let end = named.args.last().map_or_else(|| self.span(expr).end, |name| self.span(name).end);
        let span = self.span(a).start..end;
        Ok(Typed { span, ..self.make(expr, node, Type::BOOLEAN, false) })
    }
}
