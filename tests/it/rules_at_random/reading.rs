//! The direct reading of a rule: what it answers for a row by the missing-value rules, with no SQL.

use std::cmp::Ordering;

use campanile::rule::schema::FieldType;

use super::{
    DAY_US,
    data::{Kind, Row, Rows, Val, kind},
    parts::{Many, Node, Part, Ty},
};

pub struct Reader<'r> {
    pub rows: &'r Rows,
}

/// The row of each variable; `None` where a link led to none.
pub type Scope<'r> = Vec<(&'static Kind, Option<&'r Row>)>;

impl<'r> Reader<'r> {
    pub fn linked(&self, from: (&'static Kind, Option<&'r Row>), link: &str) -> (&'static Kind, Vec<&'r Row>) {
        let link = from.0.links.iter().find(|l| l.0 == link).unwrap();
        let found = self.rows[link.1].iter().filter(|there| {
            from.1.is_some_and(|here| {
                link.2.iter().all(|(a, b)| here[a] != Val::Missing && there[b] != Val::Missing && here[a] == there[b])
            })
        });
        (kind(link.1), found.collect())
    }

    pub fn follow(&self, scope: &Scope<'r>, var: usize, hops: &[&str]) -> (&'static Kind, Option<&'r Row>) {
        hops.iter().fold(scope[var], |at, hop| {
            let (kind, rows) = self.linked(at, hop);
            (kind, rows.first().copied())
        })
    }

    pub fn holds(&self, part: &Part, scope: &mut Scope<'r>) -> bool {
        self.value(part, scope) == Val::Bool(true)
    }

    pub fn value(&self, part: &Part, scope: &mut Scope<'r>) -> Val {
        let bool = |b: bool| Val::Bool(b);
        match &part.node {
            Node::Const(value, ..) => value.clone(),
            Node::Field(var, hops, field) => {
                self.follow(scope, *var, hops).1.map_or(Val::Missing, |row| row[field].clone())
            }
            Node::HasLink(var, hops) => bool(self.follow(scope, *var, hops).1.is_some()),
            Node::Has(a) => bool(self.value(a, scope) != Val::Missing),
            Node::Not(a) => bool(!self.holds(a, scope)),
            Node::And(a, b) => bool(self.holds(a, scope) && self.holds(b, scope)),
            Node::Or(a, b) => bool(self.holds(a, scope) || self.holds(b, scope)),
            Node::If(c, a, b) => {
                let part = if self.holds(c, scope) { a } else { b };
                self.value(part, scope)
            }
            Node::Compare(op, a, b) => bool(compare(op, (a, &self.value(a, scope)), (b, &self.value(b, scope)))),
            Node::In(a, list) => {
                let value = self.value(a, scope);
                let is_equal = |item: &Part| match &item.node {
                    Node::Const(other, ..) => compare("==", (a, &value), (item, other)),
                    _ => false,
                };
                bool(value != Val::Missing && list.iter().any(is_equal))
            }
            Node::TextTest(f, a, b) => match (self.value(a, scope), self.value(b, scope)) {
                (Val::Text(a), Val::Text(b)) => bool(match *f {
                    "startsWith" => a.starts_with(&b),
                    "endsWith" => a.ends_with(&b),
                    _ => a.contains(&b),
                }),
                _ => bool(false),
            },
            Node::TextMap(f, a) => match (self.value(a, scope), *f) {
                (Val::Text(a), "lowerAscii") => Val::Text(a.to_ascii_lowercase()),
                (Val::Text(a), "upperAscii") => Val::Text(a.to_ascii_uppercase()),
                (Val::Text(a), _) => Val::Int(a.chars().count() as i64),
                _ => Val::Missing,
            },
            Node::Negate(a) => match self.value(a, scope) {
                Val::Int(n) => Val::Int(-n),
                Val::Dec(n, scale) => Val::Dec(-n, scale),
                Val::Double(d) => Val::Double(0.0 - d),
                _ => Val::Missing,
            },
            Node::Arithmetic(op, a, b) => arithmetic(op, (a, &self.value(a, scope)), (b, &self.value(b, scope))),
            Node::Spans(unit, n) => match self.value(n, scope) {
                Val::Int(n) => {
                    let unit_us = match *unit {
                        "days" => DAY_US,
                        "hours" => DAY_US / 24,
                        "minutes" => 60_000_000,
                        _ => 1_000_000,
                    };
                    Val::Span(n * unit_us)
                }
                _ => Val::Missing,
            },
            Node::Quantifier(f, many, body) => {
                let count = self.each(many, scope, |reader, scope| Some(reader.holds(body, scope)));
                let holding = count.iter().filter(|holds| **holds).count();
                bool(match *f {
                    "exists" => holding > 0,
                    "all" => holding == count.len(),
                    _ => holding == 1,
                })
            }
            Node::Aggregate(many, filter, f, value) => {
                let found = self.each(many, scope, |reader, scope| {
                    let is_in = filter.as_ref().is_none_or(|filter| reader.holds(filter, scope));
                    is_in.then(|| value.as_ref().map_or(Val::Missing, |value| reader.value(value, scope)))
                });
                aggregate(f, value.as_deref(), found)
            }
        }
    }

    pub fn each<T>(
        &self,
        many: &Many,
        scope: &mut Scope<'r>,
        mut see: impl FnMut(&Self, &mut Scope<'r>) -> Option<T>,
    ) -> Vec<T> {
        let (kind, rows) = self.linked(self.follow(scope, many.var, &many.hops), many.link);
        let mut seen = vec![];
        for row in rows {
            scope.truncate(many.inner);
            scope.push((kind, Some(row)));
            seen.extend(see(self, scope));
        }
        scope.truncate(many.inner);
        seen
    }
}

pub fn aggregate(f: &str, value: Option<&Part>, found: Vec<Val>) -> Val {
    let Some(value) = value else { return Val::Int(found.len() as i64) };
    let there: Vec<Val> = found.into_iter().filter(|v| *v != Val::Missing).collect();
    let smaller = |a: &Val, b: &Val| order((value, a), (value, b)).unwrap_or(Ordering::Equal);
    match f {
        "sum" => there.iter().fold(Val::Int(0), |sum, v| {
            let sum = match (&sum, v) {
                (Val::Int(0), Val::Dec(_, scale)) => Val::Dec(0, *scale),
                (Val::Int(0), Val::Double(_)) => Val::Double(0.0),
                _ => sum,
            };
            arithmetic("+", (value, &sum), (value, v))
        }),
        "avg" if there.is_empty() => Val::Missing,
        "avg" => Val::Double(there.iter().map(as_f64).sum::<f64>() / there.len() as f64),
        "min" => there.into_iter().min_by(smaller).unwrap_or(Val::Missing),
        _ => there.into_iter().max_by(smaller).unwrap_or(Val::Missing),
    }
}

pub fn as_f64(v: &Val) -> f64 {
    match v {
        Val::Int(n) => *n as f64,
        Val::Double(d) => *d,
        Val::Dec(n, scale) => *n as f64 / 10_f64.powi(i32::try_from(*scale).unwrap()),
        _ => f64::NAN,
    }
}

/// A literal Double beside a Decimal is a Decimal.
pub fn exact(part: (&Part, &Val), other: (&Part, &Val)) -> Option<(i128, u32)> {
    match part.1 {
        Val::Int(n) => Some((i128::from(*n), 0)),
        Val::Dec(n, scale) => Some((*n, *scale)),
        Val::Double(d)
            if matches!(part.0.node, Node::Const(_, _, true))
                && matches!(other.0.ty, Ty::Of(FieldType::Decimal { .. })) =>
        {
            // The literals are quarters.
            Some(((d * 100.0).round() as i128, 2))
        }
        _ => None,
    }
}

pub fn order(a: (&Part, &Val), b: (&Part, &Val)) -> Option<Ordering> {
    if let (Some((x, sx)), Some((y, sy))) = (exact(a, b), exact(b, a)) {
        let scale = sx.max(sy);
        return Some((x * 10_i128.pow(scale - sx)).cmp(&(y * 10_i128.pow(scale - sy))));
    }
    match (a.1, b.1) {
        (Val::Missing, _) | (_, Val::Missing) => None,
        (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Span(a), Val::Span(b)) => Some(a.cmp(b)),
        (a, b) => match (instant(a), instant(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => as_f64(a).partial_cmp(&as_f64(b)),
        },
    }
}

pub fn instant(v: &Val) -> Option<i64> {
    match v {
        Val::Time(us) => Some(*us),
        Val::Date(d) => Some(d.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond()),
        _ => None,
    }
}

pub fn compare(op: &str, a: (&Part, &Val), b: (&Part, &Val)) -> bool {
    let order = order(a, b);
    let is_equal = order == Some(Ordering::Equal) || *a.1 == Val::Missing && *b.1 == Val::Missing;
    match op {
        "==" => is_equal,
        "!=" => !is_equal,
        "<" => order.is_some_and(Ordering::is_lt),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        _ => order.is_some_and(Ordering::is_ge),
    }
}

pub fn arithmetic(op: &str, a: (&Part, &Val), b: (&Part, &Val)) -> Val {
    if *a.1 == Val::Missing || *b.1 == Val::Missing {
        return Val::Missing;
    }
    if let (Val::Int(x), Val::Int(y)) = (a.1, b.1) {
        return Val::Int(match op {
            "+" => x + y,
            "-" => x - y,
            _ => x * y,
        });
    }
    if let (Some((x, sx)), Some((y, sy))) = (exact(a, b), exact(b, a)) {
        if op == "*" {
            return Val::Dec(x * y, sx + sy);
        }
        let scale = sx.max(sy);
        let (x, y) = (x * 10_i128.pow(scale - sx), y * 10_i128.pow(scale - sy));
        return Val::Dec(if op == "+" { x + y } else { x - y }, scale);
    }
    match (a.1, b.1, instant(a.1), instant(b.1)) {
        (_, _, Some(x), Some(y)) => Val::Span(x - y),
        (_, Val::Span(y), Some(x), _) => Val::Time(if op == "+" { x + y } else { x - y }),
        (Val::Span(x), _, _, Some(y)) => Val::Time(x + y),
        (Val::Span(x), Val::Span(y), ..) => Val::Span(if op == "+" { x + y } else { x - y }),
        (x, y, ..) => {
            let (x, y) = (as_f64(x), as_f64(y));
            Val::Double(match op {
                "+" => x + y,
                "-" => x - y,
                _ => x * y,
            })
        }
    }
}
