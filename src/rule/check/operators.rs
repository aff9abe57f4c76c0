//! Operators: logic, comparison, arithmetic, `in`, `has` and `?:`.

use cel::{IdedExpr, common::ast::Expr};

use super::{Checker, PROBLEMS_MAX, Value, describe};
use crate::rule::{
    ast::{Arithmetic, Comparison, Node, Type, Typed},
    number::number_of,
    problem::Problem,
    schema::FieldType,
};

const LIST_MAX: usize = 1_000;
/// What a scaled integer of 64 bits can hold behind its point.
const SCALE_MAX: u8 = 18;

impl Checker<'_> {
    pub(super) fn both(
        &mut self,
        expr: &IdedExpr,
        a: &IdedExpr,
        b: &IdedExpr,
        make: impl Fn(Box<Typed>, Box<Typed>) -> Node,
    ) -> Result<Typed, Problem> {
        let depth = self.depth;
        let a = self.condition(a);
        // One side that is wrong does not keep the other from being read.
        self.depth = depth;
        match (a, self.condition(b)) {
            (Ok(a), Ok(b)) => Ok(self.make(expr, make(Box::new(a), Box::new(b)), Type::BOOLEAN, false)),
            (Err(problem), Ok(_)) | (Ok(_), Err(problem)) => Err(problem),
            (Err(problem), Err(other)) => {
                if self.others.len() < PROBLEMS_MAX && self.use_of.is_none() {
                    self.others.push(other);
                }
                Err(problem)
            }
        }
    }

    pub(super) fn conditional(
        &mut self,
        expr: &IdedExpr,
        c: &IdedExpr,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let (c, a, b) = (self.condition(c)?, self.typed(a)?, self.typed(b)?);
        let are_numbers = a.ty.is_number() && b.ty.is_number();
        if a.ty != b.ty && !are_numbers {
            return Err(Problem::new(
                format!("both sides of `:` must be of one type, not {} and {}", a.ty.words(), b.ty.words()),
                b.span,
            ));
        }
        let ty = if are_numbers { number_of(Arithmetic::Add, &a, &b) } else { a.ty };
        let is_nullable = a.is_nullable || b.is_nullable;
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
        self.refuse_impossible_part(expr, &a, &b)?;
        self.refuse_impossible_part(expr, &b, &a)?;
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
            (Type::INTEGER, Arithmetic::Remainder, Type::INTEGER) => Some(Type::INTEGER),
            (_, Arithmetic::Remainder, _) => None,
            (x, _, y) if x.is_number() && y.is_number() => Some(number_of(what, &a, &b)),
            (Type::STRING, Arithmetic::Add, Type::STRING) => {
                let is_nullable = a.is_nullable || b.is_nullable;
                return Ok(self.make(expr, Node::Concat(Box::new(a), Box::new(b)), Type::STRING, is_nullable));
            }
            (x, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) if x.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add, y) if y.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) => Some(Type::Duration),
            (x, Arithmetic::Subtract, y) if x.is_time() && y.is_time() => Some(Type::Duration),
            _ => None,
        };
        let Some(ty) = ty else {
            let (verb, (x, y)) = match what {
                Arithmetic::Add => ("added to", (&b, &a)),
                Arithmetic::Subtract => ("subtracted from", (&b, &a)),
                Arithmetic::Multiply => ("multiplied by", (&a, &b)),
                Arithmetic::Divide => ("divided by", (&a, &b)),
                Arithmetic::Remainder => ("divided with a remainder by", (&a, &b)),
            };
            let problem = self.problem(expr, format!("{} cannot be {verb} {}", describe(x), describe(y)));
            return Err(match (a.ty, b.ty) {
                (x, Type::INTEGER) if x.is_time() => problem.hint("say what it counts, as in days(7)"),
                (Type::STRING, y) | (y, Type::STRING) if y.is_number() => problem.hint("a text in quotes is no number"),
                _ => problem,
            });
        };
        if matches!(what, Arithmetic::Divide | Arithmetic::Remainder)
            && matches!(b.node, Node::Integer(0) | Node::Double(0.0))
        {
            return Err(Problem::new("this divides by zero", b.span));
        }
        if let Type::Field(FieldType::Decimal { scale }) = ty
            && scale > SCALE_MAX
        {
            return Err(self
                .problem(expr, format!("the result would have {scale} digits behind the point, at most {SCALE_MAX}")));
        }
        let is_nullable = a.is_nullable || b.is_nullable;
        Ok(self.make(expr, Node::Arithmetic(what, Box::new(a), Box::new(b)), ty, is_nullable))
    }

    pub(super) fn negate(&mut self, expr: &IdedExpr, a: &IdedExpr) -> Result<Typed, Problem> {
        let a = self.typed(a)?;
        if !a.ty.is_number() && a.ty != Type::Duration {
            return Err(self.problem(expr, format!("{} has no negative", describe(&a))));
        }
        // A minus before a number that is written out is part of it, as in `-1.50` beside a Decimal.
        match a.node {
            Node::Integer(n) if n > i64::MIN => return Ok(self.make(expr, Node::Integer(-n), a.ty, false)),
            Node::Double(d) => return Ok(self.make(expr, Node::Double(-d), a.ty, false)),
            _ => {}
        }
        let zero = Typed { node: Node::Integer(0), ty: Type::INTEGER, is_nullable: false, span: a.span.clone() };
        let (ty, is_nullable) = (a.ty, a.is_nullable);
        Ok(self.make(expr, Node::Arithmetic(Arithmetic::Subtract, Box::new(zero), Box::new(a)), ty, is_nullable))
    }

    pub(super) fn membership(&mut self, expr: &IdedExpr, a: &IdedExpr, list: &IdedExpr) -> Result<Typed, Problem> {
        let Expr::List(list) = &list.expr else {
            return self.membership_in_rows(expr, a, list);
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

pub(super) fn comparable(a: Type, b: Type) -> bool {
    a == b || a.is_number() && b.is_number() || a.is_time() && b.is_time()
}
