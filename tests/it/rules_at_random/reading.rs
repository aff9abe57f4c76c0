//! The direct reading of a rule: what it answers for a row by the missing-value rules, with no SQL.

use std::{cell::Cell, cmp::Ordering};

use campanile::rule::schema::FieldType;

use super::{
    DAY_US,
    data::{Kind, Row, Rows, Val, kind},
    parts::{BOOL, Many, Node, Part, Ty, conditions_of},
};

pub struct Reader<'r> {
    pub rows: &'r Rows,
    /// Whether something was evaluated that fails, be it that the answer does not hang on it.
    pub has_faulted: Cell<bool>,
    /// Whether something was read that CEL's interpreter has no words for: a missing value, a Decimal, a time.
    pub is_beyond_cel: Cell<bool>,
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

    pub fn linked_rows(&self, (kind, row): (&'static Kind, &'r Row), link: &str) -> (&'static Kind, Vec<&'r Row>) {
        self.linked((kind, Some(row)), link)
    }

    pub fn follow(&self, scope: &Scope<'r>, var: usize, hops: &[&str]) -> (&'static Kind, Option<&'r Row>) {
        hops.iter().fold(scope[var], |at, hop| {
            let (kind, rows) = self.linked(at, hop);
            (kind, rows.first().copied())
        })
    }

    pub fn value(&self, part: &Part, scope: &mut Scope<'r>) -> Val {
        let value = self.found(part, scope);
        if value == Val::Fault {
            self.has_faulted.set(true);
        }
        if matches!(value, Val::Missing | Val::Dec(..) | Val::Date(_) | Val::Time(_) | Val::Span(_)) {
            self.is_beyond_cel.set(true);
        }
        value
    }

    /// `a && b`, where a fault is lost if the other side decides; `a` is evaluated first.
    fn both(&self, (a, b): (&Part, &Part), wanted: bool, scope: &mut Scope<'r>) -> Val {
        let holds = |v: &Val| *v == Val::Bool(true);
        let a = self.value(a, scope);
        if a != Val::Fault && holds(&a) != wanted {
            return Val::Bool(!wanted);
        }
        let b = self.value(b, scope);
        match (&a, &b) {
            (_, Val::Fault) => Val::Fault,
            (_, b) if holds(b) != wanted => Val::Bool(!wanted),
            (Val::Fault, _) => Val::Fault,
            _ => Val::Bool(wanted),
        }
    }

    /// Whether one of the values holds; a fault among others is lost where one does.
    fn some(values: &[Val]) -> Val {
        match values {
            all if all.contains(&Val::Bool(true)) => Val::Bool(true),
            all if all.contains(&Val::Fault) => Val::Fault,
            _ => Val::Bool(false),
        }
    }

    fn not(value: &Val) -> Val {
        if *value == Val::Fault { Val::Fault } else { Val::Bool(*value != Val::Bool(true)) }
    }

    /// The values of `body` for the rows that pass the filter; a fault in the filter is a value, too.
    fn filtered(&self, (many, filter, body): (&Many, Option<&Part>, &Part), scope: &mut Scope<'r>) -> Vec<Val> {
        self.each(many, scope, |reader, scope| match filter.map(|filter| reader.value(filter, scope)) {
            None | Some(Val::Bool(true)) => Some(reader.value(body, scope)),
            Some(Val::Fault) => Some(Val::Fault),
            Some(_) => None,
        })
    }

    fn found(&self, part: &Part, scope: &mut Scope<'r>) -> Val {
        let bool = |b: bool| Val::Bool(b);
        match &part.node {
            Node::Const(value, ..) => value.clone(),
            Node::Field(var, hops, field) => {
                self.follow(scope, *var, hops).1.map_or(Val::Missing, |row| row[field].clone())
            }
            Node::HasLink(var, hops) => bool(self.follow(scope, *var, hops).1.is_some()),
            Node::Has(a) => match self.value(a, scope) {
                Val::Fault => Val::Fault,
                value => bool(value != Val::Missing),
            },
            Node::Not(a) => Self::not(&self.value(a, scope)),
            Node::And(a, b) => self.both((a, b), true, scope),
            Node::Or(a, b) => self.both((a, b), false, scope),
            Node::If(c, a, b) => {
                let value = match self.value(c, scope) {
                    Val::Fault => return Val::Fault,
                    Val::Bool(true) => self.value(a, scope),
                    _ => self.value(b, scope),
                };
                match value {
                    Val::Int(n) if part.ty == Ty::Of(FieldType::Double) => Val::Double(n as f64),
                    value => value,
                }
            }
            Node::Compare(op, a, b) => match (self.value(a, scope), self.value(b, scope)) {
                (Val::Fault, _) | (_, Val::Fault) => Val::Fault,
                (x, y) => bool(compare(op, (a, &x), (b, &y))),
            },
            Node::In(_, list) if list.is_empty() => bool(false),
            Node::In(a, list) => {
                let value = self.value(a, scope);
                if value == Val::Fault {
                    return Val::Fault;
                }
                let is_equal = |item: &Part| match &item.node {
                    Node::Const(other, ..) => compare("==", (a, &value), (item, other)),
                    _ => false,
                };
                bool(value != Val::Missing && list.iter().any(is_equal))
            }
            Node::TextTest(f, a, b) => match (self.value(a, scope), self.value(b, scope)) {
                (Val::Fault, _) | (_, Val::Fault) => Val::Fault,
                (Val::Text(a), Val::Text(b)) => bool(match *f {
                    "startsWith" => a.starts_with(&b),
                    "endsWith" => a.ends_with(&b),
                    _ => a.contains(&b),
                }),
                _ => bool(false),
            },
            Node::Matches(a, pattern) => match self.value(a, scope) {
                Val::Text(a) => {
                    // RE2's classes are of ASCII; those of Rust, and of CEL's interpreter in Rust, are not.
                    self.is_beyond_cel.set(self.is_beyond_cel.get() || pattern.contains('\\'));
                    let pattern = pattern.replace("\\w", "[0-9A-Za-z_]").replace("\\W", "[^0-9A-Za-z_]");
                    bool(regex::Regex::new(&pattern).unwrap().is_match(&a))
                }
                Val::Fault => Val::Fault,
                _ => bool(false),
            },
            Node::Concat(a, b) => match (self.value(a, scope), self.value(b, scope)) {
                (Val::Fault, _) | (_, Val::Fault) => Val::Fault,
                (Val::Text(a), Val::Text(b)) => Val::Text(a + &b),
                _ => Val::Missing,
            },
            Node::DatePart(name, a, zone) => match self.value(a, scope) {
                Val::Fault => Val::Fault,
                Val::Date(date) => Val::Int(date_part(name, date.at(0, 0, 0, 0))),
                Val::Time(us) => Val::Int(date_part(name, local(us, zone))),
                _ => Val::Missing,
            },
            Node::DateIn(a, zone) => match self.value(a, scope) {
                Val::Fault => Val::Fault,
                Val::Time(us) => Val::Date(local(us, zone).date()),
                _ => Val::Missing,
            },
            Node::Named(var, hops, name) => {
                let row = self.follow(scope, *var, hops);
                let condition = conditions_of(row.0.name).into_iter().find(|(known, _)| known == name).unwrap().1;
                Self::not(&Self::not(&self.value(&condition, &mut vec![row])))
            }
            Node::InRows(a, many, filter, value) => {
                let wanted = self.value(a, scope);
                let found = self.filtered((many, filter.as_deref(), value), scope);
                let is_equal = |found: &Val| match found {
                    Val::Fault => Val::Fault,
                    Val::Missing => bool(false),
                    found => bool(wanted != Val::Missing && compare("==", (a, &wanted), (value, found))),
                };
                match (wanted == Val::Fault, found.is_empty()) {
                    (true, false) => Val::Fault,
                    // Nothing is compared where there are no rows.
                    (true, true) => bool(false),
                    _ => Self::some(&found.iter().map(is_equal).collect::<Vec<_>>()),
                }
            }
            Node::TextMap(f, a) => match (self.value(a, scope), *f) {
                (Val::Fault, _) => Val::Fault,
                (Val::Text(a), "lowerAscii") => Val::Text(a.to_ascii_lowercase()),
                (Val::Text(a), "upperAscii") => Val::Text(a.to_ascii_uppercase()),
                (Val::Text(a), _) => Val::Int(a.chars().count() as i64),
                _ => Val::Missing,
            },
            Node::Negate(a) => match self.value(a, scope) {
                Val::Fault => Val::Fault,
                Val::Int(n) => n.checked_neg().map_or(Val::Fault, Val::Int),
                Val::Dec(n, scale) => Val::Dec(-n, scale),
                Val::Double(d) => Val::Double(0.0 - d),
                _ => Val::Missing,
            },
            Node::Arithmetic(op, a, b) => arithmetic(op, (a, &self.value(a, scope)), (b, &self.value(b, scope))),
            Node::Spans(unit, n) => match self.value(n, scope) {
                Val::Int(n) => {
                    let unit_us = match *unit {
                        "weeks" => 7 * DAY_US,
                        "days" => DAY_US,
                        "hours" => DAY_US / 24,
                        "minutes" => 60_000_000,
                        _ => 1_000_000,
                    };
                    n.checked_mul(unit_us).map_or(Val::Fault, Val::Span)
                }
                Val::Fault => Val::Fault,
                _ => Val::Missing,
            },
            Node::Quantifier(f, many, filter, body) => {
                let found = self.filtered((many, filter.as_deref(), body), scope);
                match *f {
                    "exists" => Self::some(&found),
                    "all" => Self::not(&Self::some(&found.iter().map(Self::not).collect::<Vec<_>>())),
                    _ if found.contains(&Val::Fault) => Val::Fault,
                    _ => bool(found.iter().filter(|v| **v == Val::Bool(true)).count() == 1),
                }
            }
            Node::Aggregate(many, filter, f, value) => {
                let nothing = Part { node: Node::Const(Val::Bool(true), String::new(), true), ty: BOOL };
                let each = value.as_deref().unwrap_or(&nothing);
                let found = self.filtered((many, filter.as_deref(), each), scope);
                if found.contains(&Val::Fault) { Val::Fault } else { aggregate(f, value.as_deref(), found) }
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

/// The clock on the wall in a time zone.
fn local(us: i64, zone: &str) -> jiff::civil::DateTime {
    let zone = jiff::tz::TimeZone::get(if zone.is_empty() { "UTC" } else { zone }).unwrap();
    zone.to_datetime(jiff::Timestamp::from_microsecond(us).unwrap())
}

fn date_part(name: &str, at: jiff::civil::DateTime) -> i64 {
    match name {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => at.day().into(),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        _ => at.millisecond().into(),
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
    if *a.1 == Val::Fault || *b.1 == Val::Fault {
        return Val::Fault;
    }
    if *a.1 == Val::Missing || *b.1 == Val::Missing {
        return Val::Missing;
    }
    if let (Val::Int(x), Val::Int(y)) = (a.1, b.1) {
        let exact = match op {
            "+" => x.checked_add(*y),
            "-" => x.checked_sub(*y),
            "/" => x.checked_div(*y),
            "%" if *y == -1 => Some(0),
            "%" => x.checked_rem(*y),
            _ => x.checked_mul(*y),
        };
        return exact.map_or(Val::Fault, Val::Int);
    }
    if op == "/" {
        let by = as_f64(b.1);
        return if by == 0.0 { Val::Fault } else { Val::Double(as_f64(a.1) / by) };
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
        (_, Val::Span(y), Some(x), _) => {
            let sum = if op == "+" { x.checked_add(*y) } else { x.checked_sub(*y) };
            sum.map_or(Val::Fault, Val::Time)
        }
        (Val::Span(x), _, _, Some(y)) => x.checked_add(y).map_or(Val::Fault, Val::Time),
        (Val::Span(x), Val::Span(y), ..) => {
            let sum = if op == "+" { x.checked_add(*y) } else { x.checked_sub(*y) };
            sum.map_or(Val::Fault, Val::Span)
        }
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
