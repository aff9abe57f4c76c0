//! Operators: logic, comparison, arithmetic, `in`, `has` and `?:`.

use cel::{IdedExpr, common::ast::Expr};

use super::{Checker, Value, describe};
use crate::rule::{
    ast::{Arithmetic, Comparison, Node, Type, Typed},
    number::number_of,
    problem::Problem,
};

const LIST_MAX: usize = 1_000;

impl Checker<'_> {
    pub(super) fn both(
        &mut self,
        expr: &IdedExpr,
        a: &IdedExpr,
        b: &IdedExpr,
        make: impl Fn(Box<Typed>, Box<Typed>) -> Node,
    ) -> Result<Typed, Problem> {
        let (a, b) = (self.condition(a)?, self.condition(b)?);
        Ok(self.make(expr, make(Box::new(a), Box::new(b)), Type::BOOLEAN, false))
    }

    pub(super) fn conditional(
        &mut self,
        expr: &IdedExpr,
        c: &IdedExpr,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let (c, a, b) = (self.condition(c)?, self.typed(a)?, self.typed(b)?);
        if a.ty != b.ty {
            return Err(Problem::new(
                format!("both sides of `:` must be of one type, not {} and {}", a.ty.words(), b.ty.words()),
                b.span,
            ));
        }
        let (ty, is_nullable) = (a.ty, a.is_nullable || b.is_nullable);
        Ok(self.make(expr, Node::If(Box::new(c), Box::new(a), Box::new(b)), ty, is_nullable))
    }

    pub(super) fn compare(
        &mut self,
        expr: &IdedExpr,
        comparison: Comparison,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let (a, b) = (self.typed(a)?, self.typed(b)?);
        if !comparable(a.ty, b.ty) {
            return Err(self.incomparable(expr, &a, &b));
        }
        if comparison != Comparison::Equal && a.ty == Type::BOOLEAN {
            return Err(self.problem(expr, "true and false have no order"));
        }
        Ok(self.make(expr, Node::Compare(comparison, Box::new(a), Box::new(b)), Type::BOOLEAN, false))
    }

    pub(super) fn incomparable(&self, expr: &IdedExpr, a: &Typed, b: &Typed) -> Problem {
        let problem = self.problem(expr, format!("{} and {} cannot be compared", describe(a), describe(b)));
        match (a.ty, b.ty) {
            (x, Type::STRING) if x.is_time() => problem.hint("write date(\"2026-01-31\")"),
            (x, Type::STRING) if x.is_number() => problem.hint("write the number without quotes"),
            (Type::STRING, x) if x.is_number() => problem.hint("write the text in quotes"),
            _ => problem,
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        expr: &IdedExpr,
        what: Arithmetic,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let (a, b) = (self.typed(a)?, self.typed(b)?);
        let ty = match (a.ty, what, b.ty) {
            (x, _, y) if x.is_number() && y.is_number() => Some(number_of(what, &a, &b)),
            (x, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) if x.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add, y) if y.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) => Some(Type::Duration),
            (x, Arithmetic::Subtract, y) if x.is_time() && y.is_time() => Some(Type::Duration),
            _ => None,
        };
        let Some(ty) = ty else {
            let verb = ["added to", "subtracted from", "multiplied by"][what as usize];
            let (x, y) = if what == Arithmetic::Multiply { (&a, &b) } else { (&b, &a) };
            return Err(self.problem(expr, format!("{} cannot be {verb} {}", describe(x), describe(y))));
        };
        let is_nullable = a.is_nullable || b.is_nullable;
        Ok(self.make(expr, Node::Arithmetic(what, Box::new(a), Box::new(b)), ty, is_nullable))
    }

    pub(super) fn negate(&mut self, expr: &IdedExpr, a: &IdedExpr) -> Result<Typed, Problem> {
        let a = self.typed(a)?;
        if !a.ty.is_number() {
            return Err(self.problem(expr, format!("{} has no negative", describe(&a))));
        }
        let zero = Typed { node: Node::Integer(0), ty: Type::INTEGER, is_nullable: false, span: a.span.clone() };
        let (ty, is_nullable) = (a.ty, a.is_nullable);
        Ok(self.make(expr, Node::Arithmetic(Arithmetic::Subtract, Box::new(zero), Box::new(a)), ty, is_nullable))
    }

    pub(super) fn membership(&mut self, expr: &IdedExpr, a: &IdedExpr, list: &IdedExpr) -> Result<Typed, Problem> {
        let Expr::List(list) = &list.expr else {
            return Err(self.problem(list, "behind `in` stands a list, as in `x in [\"a\", \"b\"]`"));
        };
        if list.elements.len() > LIST_MAX {
            return Err(self.problem(expr, format!("a list has at most {LIST_MAX} values")));
        }
        let a = self.typed(a)?;
        let mut values = vec![];
        for element in &list.elements {
            let value = self.typed(element)?;
            if !matches!(
                value.node,
                Node::Text(_)
                    | Node::Integer(_)
                    | Node::Double(_)
                    | Node::Boolean(_)
                    | Node::Date(_)
                    | Node::Timestamp(_)
                    | Node::Param(_)
            ) {
                return Err(Problem::new("a list holds plain values", value.span));
            }
            if !comparable(a.ty, value.ty) {
                return Err(self.incomparable(element, &a, &value));
            }
            values.push(value);
        }
        Ok(self.make(expr, Node::In(Box::new(a), values), Type::BOOLEAN, false))
    }

    pub(super) fn has(&mut self, expr: &IdedExpr, a: &IdedExpr) -> Result<Typed, Problem> {
        let node = match self.value(a)? {
            Value::Typed(typed) => Node::Has(Box::new(typed)),
            Value::Row { var, hops, .. } if !hops.is_empty() => Node::HasLink { var, hops },
            Value::Row { .. } => return Err(self.problem(a, "this row is always there")),
            Value::Rows { .. } => {
                return Err(self.problem(a, "has() asks for one value").hint("ask many rows with size() > 0"));
            }
        };
        Ok(self.make(expr, node, Type::BOOLEAN, false))
    }
}

fn comparable(a: Type, b: Type) -> bool {
    a == b || a.is_number() && b.is_number() || a.is_time() && b.is_time()
}
