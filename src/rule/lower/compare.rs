//! Comparisons and lists: both sides in one representation.

use sea_query::{Expr, ExprTrait};

use super::{Lowering, always};
use crate::rule::{
    Param,
    ast::{Comparison, Function, Node, Type, Typed},
    number::number_target,
    schema::{Dialect, FieldType},
};

impl Lowering<'_> {
    pub(super) fn comparison(&mut self, comparison: Comparison, a: &Typed, b: &Typed) -> Expr {
        if let Some(exists) = self.count_against_zero((comparison, a, b), false) {
            return exists;
        }
        let (left, right) = if self.spares_none(comparison, a, b) { self.bare(a, b) } else { self.alike(a, b) };
        let left = if is_constant(b) { self.telling(a, left) } else { left };
        match comparison {
            Comparison::Equal if a.is_nullable && b.is_nullable => match self.dialect {
                Dialect::Postgres => self.custom("? IS NOT DISTINCT FROM ?", [left, right]),
                Dialect::Sqlite => self.custom("? IS ?", [left, right]),
            },
            Comparison::Equal => left.eq(right),
            ordering => {
                let collate =
                    if a.ty == Type::STRING && self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
                // A text may be composed: the collation is of all of it.
                let left = if collate.is_empty() { left } else { self.custom(&format!("?{collate}"), [left]) };
                self.custom(&format!("? {} ?", ordering.sql()), [left, right])
            }
        }
    }

    pub(super) fn membership(&mut self, a: &Typed, list: &[Typed]) -> Expr {
        if list.is_empty() {
            return always(false);
        }
        // One IN for each representation that the values need: 2 is no Double and a Date no instant by itself.
        let mut groups: Vec<(Shape, Vec<&Typed>)> = vec![];
        for item in list {
            let shape = Shape::of(a, item);
            match groups.iter_mut().find(|(known, _)| known.is_like(shape)) {
                Some((known, items)) => {
                    *known = known.wider(shape);
                    items.push(item);
                }
                None => groups.push((shape, vec![item])),
            }
        }
        let lists = groups.into_iter().map(|(shape, items)| {
            let left = self.shaped(a, shape);
            let left = self.telling(a, left);
            let values: Vec<Expr> = items.into_iter().map(|item| self.shaped(item, shape)).collect();
            left.is_in(values)
        });
        lists.reduce(ExprTrait::or).unwrap_or_else(|| always(false))
    }

    /// Whether a count or a sum of no rows, which is 0, fails the comparison with a constant.
    ///
    /// Then NULL does as well, and without `COALESCE` the database can begin with the rows that there are.
    pub(super) fn spares_none(&self, comparison: Comparison, a: &Typed, b: &Typed) -> bool {
        let is_count = |x: &Typed| matches!(x.node, Node::Aggregate { function: Function::Count | Function::Sum, .. });
        let holds = |zero: f64, other: f64| match comparison {
            Comparison::Equal => zero == other,
            Comparison::Less => zero < other,
            Comparison::LessOrEqual => zero <= other,
            Comparison::Greater => zero > other,
            Comparison::GreaterOrEqual => zero >= other,
        };
        match (is_count(a), self.constant(b), self.constant(a), is_count(b)) {
            (true, Some(b), ..) => !holds(0.0, b),
            (_, _, Some(a), true) => !holds(a, 0.0),
            _ => false,
        }
    }

    /// Both sides of such a comparison, the count as it is.
    fn bare(&mut self, a: &Typed, b: &Typed) -> (Expr, Expr) {
        let shape = Shape::of(a, b);
        let is_left = matches!(a.node, Node::Aggregate { .. });
        self.is_bare = is_left;
        let left = self.shaped(a, shape);
        self.is_bare = !is_left;
        let right = self.shaped(b, shape);
        self.is_bare = false;
        (left, right)
    }

    fn constant(&self, typed: &Typed) -> Option<f64> {
        match &typed.node {
            Node::Integer(n) => Some(*n as f64),
            Node::Double(d) => Some(*d),
            Node::Param(name) => match self.inputs.params.get(name)? {
                Param::Integer(n) => Some(*n as f64),
                Param::Double(d) => Some(*d),
                _ => None,
            },
            _ => None,
        }
    }

    /// Both sides in one representation: instants as instants, numbers at one scale.
    fn alike(&mut self, a: &Typed, b: &Typed) -> (Expr, Expr) {
        let shape = Shape::of(a, b);
        (self.shaped(a, shape), self.shaped(b, shape))
    }

    fn shaped(&mut self, typed: &Typed, shape: Shape) -> Expr {
        match shape {
            Shape::Instant => self.instant(typed),
            Shape::Number(target) => self.number(typed, target),
            Shape::AsIs => self.value(typed),
        }
    }

    /// A constant that no column beside it gives a type; see [`Lowering::double_constant`].
    pub(super) fn telling(&self, typed: &Typed, value: Expr) -> Expr {
        let name = match (&typed.node, typed.ty, self.dialect) {
            (Node::Text(_) | Node::Param(_), Type::STRING, Dialect::Postgres) => "text",
            (Node::Param(_), Type::BOOLEAN, Dialect::Postgres) => "boolean",
            _ => return value,
        };
        self.custom(&format!("CAST(? AS {name})"), [value])
    }
}

fn is_constant(typed: &Typed) -> bool {
    matches!(typed.node, Node::Text(_) | Node::Param(_))
}

/// The representation that both sides of a comparison share.
#[derive(Clone, Copy)]
enum Shape {
    Instant,
    Number(FieldType),
    AsIs,
}

impl Shape {
    fn of(a: &Typed, b: &Typed) -> Self {
        if a.ty.is_time() && b.ty.is_time() && a.ty != b.ty {
            Self::Instant
        } else if a.ty.is_number() && b.ty.is_number() {
            Self::Number(number_target(a, b))
        } else {
            Self::AsIs
        }
    }

    /// Whether a list can hold values of both: exact numbers can share a scale, a Double stands alone.
    fn is_like(self, other: Self) -> bool {
        let is_double = |shape| matches!(shape, Self::Number(FieldType::Double));
        match (self, other) {
            (Self::Number(_), Self::Number(_)) => is_double(self) == is_double(other),
            (Self::Instant, Self::Instant) | (Self::AsIs, Self::AsIs) => true,
            _ => false,
        }
    }

    fn wider(self, other: Self) -> Self {
        use FieldType::Decimal;
        match (self, other) {
            (Self::Number(Decimal { scale: x }), Self::Number(Decimal { scale: y })) if x > y => self,
            (Self::Number(Decimal { .. }), Self::Number(FieldType::Integer)) => self,
            _ => other,
        }
    }
}
