//! Random rules as a tree: made with types that fit, and written as text.

use std::fmt::Write;

use campanile::rule::schema::FieldType;

use super::{
    Dice,
    data::{CENTS, FINE, Kind, Val, any_value, kind},
};
use FieldType::{Boolean, Date, Double, Integer, String as Text, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ty {
    Of(FieldType),
    Span,
}

/// A part of a rule with its type, as text, and as something that can be evaluated.
#[derive(Clone, Debug)]
pub struct Part {
    pub node: Node,
    pub ty: Ty,
}

#[derive(Clone, Debug)]
pub enum Node {
    /// A literal or a parameter and how it is written; whether it is a literal.
    Const(Val, String, bool),
    Field(usize, Vec<&'static str>, &'static str),
    HasLink(usize, Vec<&'static str>),
    Has(Box<Part>),
    Not(Box<Part>),
    And(Box<Part>, Box<Part>),
    Or(Box<Part>, Box<Part>),
    If(Box<Part>, Box<Part>, Box<Part>),
    Compare(&'static str, Box<Part>, Box<Part>),
    In(Box<Part>, Vec<Part>),
    TextTest(&'static str, Box<Part>, Box<Part>),
    TextMap(&'static str, Box<Part>),
    Negate(Box<Part>),
    Arithmetic(&'static str, Box<Part>, Box<Part>),
    Spans(&'static str, Box<Part>),
    /// Over the rows that pass a filter.
    Quantifier(&'static str, Many, Option<Box<Part>>, Box<Part>),
    /// A named condition of the row that to-one links lead to.
    Named(usize, Vec<&'static str>, &'static str),
    /// A pattern of [`PATTERNS`].
    Matches(Box<Part>, &'static str),
    Concat(Box<Part>, Box<Part>),
    /// CEL's name of the part, and the time zone.
    DatePart(&'static str, Box<Part>, &'static str),
    DateIn(Box<Part>, &'static str),
    InRows(Box<Part>, Many, Option<Box<Part>>, Box<Part>),
    Aggregate(Many, Option<Box<Part>>, &'static str, Option<Box<Part>>),
}

#[derive(Clone, Debug)]
pub struct Many {
    pub var: usize,
    pub hops: Vec<&'static str>,
    pub link: &'static str,
    pub inner: usize,
}

pub fn var_name(var: usize, root: &str) -> String {
    if var == 0 { root.to_owned() } else { format!("x{var}") }
}

pub fn path(var: usize, hops: &[&str], last: &str, root: &str) -> String {
    let mut text = var_name(var, root);
    for hop in hops.iter().chain((!last.is_empty()).then_some(&last)) {
        write!(text, ".{hop}").unwrap();
    }
    text
}

pub fn text(part: &Part, root: &str) -> String {
    let t = |p: &Part| text(p, root);
    let rows = |m: &Many| path(m.var, &m.hops, m.link, root);
    match &part.node {
        Node::Const(_, written, _) => written.clone(),
        Node::Field(var, hops, field) => path(*var, hops, field, root),
        Node::HasLink(var, hops) => format!("has({})", path(*var, hops, "", root)),
        Node::Has(a) => format!("has({})", t(a)),
        Node::Not(a) => format!("!({})", t(a)),
        Node::And(a, b) => format!("({} && {})", t(a), t(b)),
        Node::Or(a, b) => format!("({} || {})", t(a), t(b)),
        Node::If(c, a, b) => format!("({} ? {} : {})", t(c), t(a), t(b)),
        Node::Compare(op, a, b) | Node::Arithmetic(op, a, b) => format!("({} {op} {})", t(a), t(b)),
        Node::In(a, list) => format!("({} in [{}])", t(a), list.iter().map(t).collect::<Vec<_>>().join(", ")),
        Node::TextTest(f, a, b) => format!("{}.{f}({})", t(a), t(b)),
        Node::TextMap(f, a) => format!("{}.{f}()", t(a)),
        Node::Negate(a) => format!("-({})", t(a)),
        Node::Spans(unit, n) => format!("{unit}({})", t(n)),
        Node::Quantifier(f, many, filter, body) => {
            let filter =
                filter.iter().map(|filter| format!(".filter(x{}, {})", many.inner, t(filter))).collect::<String>();
            format!("{}{filter}.{f}(x{}, {})", rows(many), many.inner, t(body))
        }
        Node::Named(var, hops, name) => path(*var, hops, name, root),
        Node::Matches(a, pattern) => format!("{}.matches({pattern:?})", t(a)),
        Node::Concat(a, b) => format!("({} + {})", t(a), t(b)),
        Node::DatePart(part, a, "") => format!("{}.{part}()", t(a)),
        Node::DatePart(part, a, zone) => format!("{}.{part}('{zone}')", t(a)),
        Node::DateIn(a, zone) => format!("date({}, '{zone}')", t(a)),
        Node::InRows(a, many, filter, value) => {
            let filter =
                filter.iter().map(|filter| format!(".filter(x{}, {})", many.inner, t(filter))).collect::<String>();
            format!("({} in {}{filter}.map(x{}, {}))", t(a), rows(many), many.inner, t(value))
        }
        // CEL's map with a condition says the same in one.
        Node::Aggregate(many, Some(filter), f, Some(value)) if t(value).len() % 2 == 0 => {
            format!("{}.map(x{}, {}, {}).{f}()", rows(many), many.inner, t(filter), t(value))
        }
        Node::Aggregate(many, filter, f, value) => {
            let mut text = rows(many);
            let mut step = |name: &str, body: &Part| write!(text, ".{name}(x{}, {})", many.inner, t(body)).unwrap();
            filter.iter().for_each(|f| step("filter", f));
            value.iter().for_each(|v| step("map", v));
            format!("{text}.{f}()")
        }
    }
}

/// Makes parts of a wanted type out of the variables in scope.
pub struct Maker<'d> {
    pub dice: &'d mut Dice,
    pub scopes: Vec<&'static str>,
}

pub const BOOL: Ty = Ty::Of(Boolean);

impl Maker<'_> {
    pub fn boxed(&mut self, ty: Ty, depth: usize) -> Box<Part> {
        Box::new(self.part(ty, depth))
    }

    /// To-one hops from a variable, and the entity they lead to.
    pub fn hops(&mut self, hops_max: usize) -> (usize, Vec<&'static str>, &'static Kind) {
        // Mostly the innermost variable.
        let var = if self.dice.below(4) == 0 { self.dice.below(self.scopes.len()) } else { self.scopes.len() - 1 };
        let mut at = kind(self.scopes[var]);
        let mut hops = vec![];
        while hops.len() < hops_max && self.dice.below(3) == 0 {
            let ones: Vec<_> = at.links.iter().filter(|l| !l.3).collect();
            let Some(link) = ones.get(self.dice.below(3)) else { break };
            hops.push(link.0);
            at = kind(link.1);
        }
        (var, hops, at)
    }

    pub fn many(&mut self) -> Option<(Many, &'static str)> {
        let (var, hops, at) = self.hops(1);
        let link = at.links.iter().find(|l| l.3)?;
        Some((Many { var, hops, link: link.0, inner: self.scopes.len() }, link.1))
    }

    pub fn inside<T>(&mut self, entity: &'static str, make: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(entity);
        let made = make(self);
        self.scopes.pop();
        made
    }

    pub fn leaf(&mut self, ty: Ty) -> Part {
        let node = match ty {
            Ty::Span => return self.span(0),
            Ty::Of(ty) => {
                let (var, hops, at) = self.hops(2);
                let fields: Vec<_> = at.fields.iter().filter(|f| f.1 == ty).collect();
                if fields.is_empty() || self.dice.below(4) == 0 {
                    return self.constant(ty);
                }
                Node::Field(var, hops, self.dice.one_of(&fields).0)
            }
        };
        Part { node, ty }
    }

    pub fn constant(&mut self, ty: FieldType) -> Part {
        if let FieldType::Decimal { scale } = ty {
            // No literal is a Decimal by itself; a field of the root or the nearest entity that has one may be.
            for var in (0..self.scopes.len()).rev() {
                if let Some(field) = kind(self.scopes[var]).fields.iter().find(|f| f.1 == ty) {
                    return Part { node: Node::Field(var, vec![], field.0), ty: Ty::Of(ty) };
                }
            }
            unreachable!("number() and aggregate() ask for a Decimal only where a field has it: {scale}");
        }
        if self.dice.below(4) == 0
            && let Some((name, value)) = params().into_iter().find(|(_, v)| ty_of(v) == Some(ty))
        {
            return Part { node: Node::Const(value, format!("params.{name}"), false), ty: Ty::Of(ty) };
        }
        let value = any_value(ty, self.dice);
        let written = match &value {
            Val::Text(s) => format!("{s:?}"),
            Val::Int(n) => n.to_string(),
            Val::Double(d) => format!("{d:?}"),
            Val::Bool(b) => b.to_string(),
            Val::Date(d) => format!("date('{d}')"),
            Val::Time(us) if *us == now().as_microsecond() => "now".to_owned(),
            Val::Time(us) => format!("timestamp('{}')", jiff::Timestamp::from_microsecond(*us).unwrap()),
            _ => unreachable!("no literal has this type"),
        };
        Part { node: Node::Const(value, written, true), ty: Ty::Of(ty) }
    }

    pub fn number(&mut self, depth: usize) -> Part {
        let ty = self.dice.one_of(&[Integer, Integer, Double, CENTS, FINE]);
        if matches!(ty, FieldType::Decimal { .. }) {
            let has = |k: &Kind| k.fields.iter().any(|f| f.1 == ty);
            if !self.scopes.iter().any(|s| has(kind(s))) {
                return self.part(Ty::Of(Integer), depth);
            }
        }
        self.part(Ty::Of(ty), depth)
    }

    pub fn span(&mut self, depth: usize) -> Part {
        let times = [Ty::Of(Timestamp), Ty::Of(Timestamp), Ty::Of(Date)];
        let node = match self.dice.below(if depth > 0 { 4 } else { 1 }) {
            2 => Node::Arithmetic(self.dice.one_of(&["+", "-"]), self.boxed(Ty::Span, 0), self.boxed(Ty::Span, 0)),
            3 => {
                let (a, b) = (self.dice.one_of(&times), self.dice.one_of(&times));
                Node::Arithmetic("-", self.boxed(a, 0), self.boxed(b, 0))
            }
            _ => Node::Spans(
                self.dice.one_of(&["weeks", "days", "hours", "minutes", "seconds"]),
                self.boxed(Ty::Of(Integer), depth.saturating_sub(1)),
            ),
        };
        Part { node, ty: Ty::Span }
    }

    pub fn part(&mut self, ty: Ty, depth: usize) -> Part {
        if depth == 0 || (ty != BOOL && self.dice.below(3) == 0) {
            return self.leaf(ty);
        }
        let below = depth - 1;
        if ty != BOOL && self.dice.below(6) == 0 {
            let node = Node::If(self.boxed(BOOL, below), self.boxed(ty, below), self.boxed(ty, below));
            return Part { node, ty };
        }
        let node = match ty {
            BOOL => return self.condition(depth),
            Ty::Span => return self.span(depth),
            Ty::Of(Text) => match self.dice.below(4) {
                3 => Node::Concat(self.boxed(ty, below.min(1)), self.boxed(ty, 0)),
                0 => return self.aggregate(&["min", "max"], ty, below).unwrap_or_else(|| self.leaf(ty)),
                1 => Node::TextMap("lowerAscii", self.boxed(ty, below)),
                _ => Node::TextMap("upperAscii", self.boxed(ty, below)),
            },
            Ty::Of(Integer) => match self.dice.below(10) {
                6 | 7 => {
                    let op = self.dice.one_of(&["/", "%"]);
                    Node::Arithmetic(op, self.boxed(ty, below.min(1)), self.divisor(ty))
                }
                8 => self.date_part(),
                // Near the end of what an Integer holds.
                9 if self.dice.below(4) == 0 => {
                    let written = (i64::MAX - 1).to_string();
                    let big = Part { node: Node::Const(Val::Int(i64::MAX - 1), written, true), ty };
                    Node::Arithmetic(self.dice.one_of(&["+", "-", "*"]), self.boxed(ty, 0), Box::new(big))
                }
                0 => Node::TextMap("size", self.boxed(Ty::Of(Text), below)),
                1 => return self.count(below).unwrap_or_else(|| self.leaf(ty)),
                2 => return self.aggregate(&["sum", "min", "max"], ty, below).unwrap_or_else(|| self.leaf(ty)),
                3 => Node::Negate(self.boxed(ty, 0)),
                _ => {
                    let op = self.dice.one_of(&["+", "-", "*"]);
                    Node::Arithmetic(op, self.boxed(ty, below.min(1)), self.boxed(ty, below.min(1)))
                }
            },
            Ty::Of(Double) => match self.dice.below(6) {
                4 => {
                    let of = self.dice.one_of(&[Double, CENTS]);
                    let has = |k: &Kind| k.fields.iter().any(|f| f.1 == of);
                    let of = if self.scopes.iter().any(|s| has(kind(s))) { of } else { Double };
                    let (a, b) = (self.boxed(Ty::Of(of), 0), self.divisor(Ty::Of(Integer)));
                    Node::Arithmetic("/", a, b)
                }
                // Two types of number meet in the wider.
                5 => Node::If(self.boxed(BOOL, below), self.boxed(Ty::Of(Integer), 0), self.boxed(ty, 0)),
                0 => {
                    let of = self.dice.one_of(&[Integer, Double, CENTS]);
                    return self.average(of, below).unwrap_or_else(|| self.leaf(ty));
                }
                1 => return self.aggregate(&["sum", "min", "max"], ty, 0).unwrap_or_else(|| self.leaf(ty)),
                _ => {
                    let (op, a) = (self.dice.one_of(&["+", "-", "*"]), self.boxed(ty, 0));
                    let b = Box::new(Maker::number(self, 0));
                    // A literal beside a Decimal would be a Decimal.
                    if matches!(b.ty, Ty::Of(FieldType::Decimal { .. })) && matches!(a.node, Node::Const(_, _, true)) {
                        return *a;
                    }
                    Node::Arithmetic(op, a, b)
                }
            },
            Ty::Of(FieldType::Decimal { .. }) => match self.dice.below(4) {
                0 => return self.aggregate(&["sum", "min", "max"], ty, below).unwrap_or_else(|| self.leaf(ty)),
                1 => Node::Negate(self.boxed(ty, 0)),
                2 => Node::Arithmetic("+", self.boxed(ty, 0), self.boxed(ty, 0)),
                _ => Node::Arithmetic("-", self.boxed(ty, 0), self.boxed(Ty::Of(Integer), 0)),
            },
            Ty::Of(Timestamp) => match self.dice.below(3) {
                0 => return self.aggregate(&["min", "max"], ty, below).unwrap_or_else(|| self.leaf(ty)),
                _ => {
                    let time = self.dice.one_of(&[Timestamp, Date]);
                    let op = self.dice.one_of(&["+", "-"]);
                    Node::Arithmetic(op, self.boxed(Ty::Of(time), 0), self.boxed(Ty::Span, below))
                }
            },
            Ty::Of(Date) if self.dice.below(2) == 0 => {
                let zone = self.dice.one_of(&ZONES[1..]);
                Node::DateIn(self.boxed(Ty::Of(Timestamp), below.min(1)), zone)
            }
            Ty::Of(Date) => return self.aggregate(&["min", "max"], ty, below).unwrap_or_else(|| self.leaf(ty)),
        };
        Part { node, ty }
    }

    pub fn condition(&mut self, depth: usize) -> Part {
        let below = depth - 1;
        let node = match self.dice.below(20) {
            16 => Node::Matches(self.boxed(Ty::Of(Text), below.min(1)), self.dice.one_of(&PATTERNS)),
            17 => {
                let (var, hops, at) = self.hops(2);
                let known = conditions_of(at.name);
                if known.is_empty() {
                    return self.leaf(BOOL);
                }
                Node::Named(var, hops, self.dice.one_of(&known).0)
            }
            19 => return self.division(),
            18 if self.scopes.len() < 4 => {
                let Some((many, entity)) = self.many() else { return self.leaf(BOOL) };
                let ty = Ty::Of(self.dice.one_of(&[Text, Integer, Date]));
                let (filter, value) = self.inside(entity, |m| (m.filter(below.min(2)), m.boxed(ty, below.min(1))));
                Node::InRows(self.boxed(ty, 0), many, filter, value)
            }
            0 | 1 => Node::And(self.boxed(BOOL, below), self.boxed(BOOL, below)),
            2 | 3 => Node::Or(self.boxed(BOOL, below), self.boxed(BOOL, below)),
            4 | 5 => Node::Not(self.boxed(BOOL, below)),
            6 => Node::If(self.boxed(BOOL, below), self.boxed(BOOL, below), self.boxed(BOOL, below)),
            7 => {
                let (f, text) = (self.dice.one_of(&["startsWith", "endsWith", "contains"]), Ty::Of(Text));
                Node::TextTest(f, self.boxed(text, below.min(1)), self.boxed(text, 0))
            }
            8 => {
                let ty = self.dice.one_of(&[Text, Integer, Timestamp, Double, Boolean]);
                Node::Has(self.boxed(Ty::Of(ty), below))
            }
            9 => {
                let (var, hops, _) = self.hops(2);
                if hops.is_empty() { return self.leaf(BOOL) } else { Node::HasLink(var, hops) }
            }
            10 => return self.membership(below),
            11 | 12 if self.scopes.len() < 4 => {
                let Some((many, entity)) = self.many() else { return self.leaf(BOOL) };
                let (filter, body) = self.inside(entity, |m| {
                    let filter = if m.dice.below(3) == 0 { m.filter(below) } else { None };
                    (filter, m.boxed(BOOL, below))
                });
                Node::Quantifier(self.dice.one_of(&["exists", "all", "exists_one"]), many, filter, body)
            }
            _ => return self.comparison(below),
        };
        Part { node, ty: BOOL }
    }

    /// Conditions on the row itself, and on aggregates of its rows.
    pub fn row_and_group(&mut self) -> Part {
        let mut all = vec![self.comparison(0)];
        for _ in 0..=self.dice.below(3) {
            let of = if self.dice.below(2) == 0 {
                self.count(1)
            } else {
                self.aggregate(&["sum", "min", "max"], Ty::Of(Integer), 1)
            };
            let Some(of) = of else { continue };
            let to = self.constant(Integer);
            let op = self.dice.one_of(&["<", ">", "==", "!=", ">="]);
            all.push(Part { node: Node::Compare(op, Box::new(of), Box::new(to)), ty: BOOL });
        }
        let and = |a, b| Part { node: Node::And(Box::new(a), Box::new(b)), ty: BOOL };
        all.into_iter().reduce(and).unwrap()
    }

    /// A division, guarded from the left or not.
    fn division(&mut self) -> Part {
        let int = |n: i64| Box::new(Part { node: Node::Const(Val::Int(n), n.to_string(), true), ty: Ty::Of(Integer) });
        let truth = |node| Box::new(Part { node, ty: BOOL });
        let by = Box::new(self.leaf(Ty::Of(Integer)));
        if matches!(by.node, Node::Const(Val::Int(0), ..)) {
            return self.leaf(BOOL);
        }
        let quotient = Node::Arithmetic(self.dice.one_of(&["/", "%"]), int(6), by.clone());
        let quotient = Box::new(Part { node: quotient, ty: Ty::Of(Integer) });
        let test = truth(Node::Compare(self.dice.one_of(&["<", ">=", "=="]), quotient, int(1)));
        let is_zero = truth(Node::Compare("==", by, int(0)));
        let node = match self.dice.below(6) {
            0 => Node::And(truth(Node::Not(is_zero)), test),
            1 => Node::Or(is_zero, test),
            2 => Node::If(is_zero, truth(Node::Const(Val::Bool(true), "true".to_owned(), true)), test),
            3 => Node::And(self.boxed(BOOL, 1), test),
            4 => Node::Or(self.boxed(BOOL, 1), test),
            _ => return *test,
        };
        Part { node, ty: BOOL }
    }

    /// Seldom zero; then the rule may guard it or not.
    fn divisor(&mut self, ty: Ty) -> Box<Part> {
        if self.dice.below(2) == 0 {
            let n = self.dice.one_of(&[2_i64, 3, -1, -2, 7]);
            return Box::new(Part { node: Node::Const(Val::Int(n), n.to_string(), true), ty });
        }
        let by = self.boxed(ty, 0);
        match by.node {
            // A literal zero is refused when the rule is checked.
            Node::Const(Val::Int(0), ..) => Box::new(Part { node: Node::Const(Val::Int(5), "5".to_owned(), true), ty }),
            _ => by,
        }
    }

    fn date_part(&mut self) -> Node {
        if self.dice.below(3) == 0 {
            let part = self.dice.one_of(&DATE_PARTS[..6]);
            return Node::DatePart(part, self.boxed(Ty::Of(Date), 0), "");
        }
        let (part, zone) = (self.dice.one_of(&DATE_PARTS), self.dice.one_of(&ZONES));
        Node::DatePart(part, self.boxed(Ty::Of(Timestamp), 0), zone)
    }

    pub fn comparison(&mut self, below: usize) -> Part {
        let (a, b) = match self.dice.below(5) {
            0 => (self.part(Ty::Of(Text), below), self.part(Ty::Of(Text), below)),
            1 | 2 => (self.number(below), self.number(below)),
            3 => {
                let (a, b) = (self.dice.one_of(&[Date, Timestamp]), self.dice.one_of(&[Date, Timestamp]));
                (self.part(Ty::Of(a), below), self.part(Ty::Of(b), below))
            }
            _ if self.dice.below(2) == 0 => (self.part(Ty::Span, below), self.part(Ty::Span, below)),
            _ => (self.part(BOOL, below), self.part(BOOL, below)),
        };
        let ops: &[&str] = if a.ty == BOOL { &["==", "!="] } else { &["==", "!=", "<", "<=", ">", ">="] };
        Part { node: Node::Compare(self.dice.one_of(ops), Box::new(a), Box::new(b)), ty: BOOL }
    }

    pub fn membership(&mut self, below: usize) -> Part {
        let types: &[FieldType] = match self.dice.below(4) {
            0 => &[Text],
            1 => &[Boolean],
            2 => &[Date, Timestamp],
            _ => &[Integer, Double],
        };
        let a = if types[0] == Integer {
            self.number(below)
        } else {
            let ty = self.dice.one_of(types);
            self.part(Ty::Of(ty), below)
        };
        let mut list = vec![];
        for _ in 0..self.dice.below(5) {
            let ty = self.dice.one_of(types);
            let item = self.constant(ty);
            if !matches!(&item.node, Node::Const(_, written, _) if written == "now") {
                list.push(item);
            }
        }
        Part { node: Node::In(Box::new(a), list), ty: BOOL }
    }

    pub fn filter(&mut self, below: usize) -> Option<Box<Part>> {
        (self.dice.below(2) == 0).then(|| self.boxed(BOOL, below))
    }

    pub fn count(&mut self, below: usize) -> Option<Part> {
        if self.scopes.len() > 3 {
            return None;
        }
        let (many, entity) = self.many()?;
        let filter = self.inside(entity, |m| m.filter(below));
        Some(Part { node: Node::Aggregate(many, filter, "size", None), ty: Ty::Of(Integer) })
    }

    pub fn aggregate(&mut self, functions: &[&'static str], ty: Ty, below: usize) -> Option<Part> {
        if self.scopes.len() > 3 {
            return None;
        }
        let (many, entity) = self.many()?;
        let (filter, value) = self.inside(entity, |m| (m.filter(below), m.boxed(ty, below.min(1))));
        let function = self.dice.one_of(functions);
        Some(Part { node: Node::Aggregate(many, filter, function, Some(value)), ty })
    }

    pub fn average(&mut self, of: FieldType, below: usize) -> Option<Part> {
        let mut made = self.aggregate(&["avg"], Ty::Of(of), below.min(1))?;
        made.ty = Ty::Of(Double);
        Some(made)
    }
}

pub const ZONES: [&str; 4] = ["", "Europe/Rome", "America/New_York", "Asia/Kolkata"];
/// The last four are of a time of day.
pub const DATE_PARTS: [&str; 10] = [
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];
pub const PATTERNS: [&str; 10] =
    ["^R", "o.e$", "[a-z]b?$", "^(a|Z|日).*", "^[^A-Z]+$", "o{1,2}", "\\W", "^\\w{2,4}$", "ü|Ö", "['\"?$]"];

/// The named conditions of an entity, as parts with one variable.
pub fn conditions_of(entity: &str) -> Vec<(&'static str, Part)> {
    let of = |ty: FieldType, node: Node| Box::new(Part { node, ty: Ty::Of(ty) });
    let field = |ty, name| of(ty, Node::Field(0, vec![], name));
    let int = |n: i64| of(Integer, Node::Const(Val::Int(n), n.to_string(), true));
    let truth = |node| Part { node, ty: BOOL };
    match entity {
        "r_person" => {
            let many = Many { var: 0, hops: vec![], link: "orders", inner: 1 };
            let n = of(Integer, Node::Field(1, vec![], "n"));
            let some = truth(Node::Quantifier("exists", many, None, Box::new(truth(Node::Compare(">", n, int(0))))));
            let visited = truth(Node::Compare(">=", field(Integer, "visits"), int(1)));
            let named = truth(Node::Named(0, vec!["boss"], "visited"));
            vec![
                ("visited", visited),
                ("buyer", truth(Node::And(Box::new(truth(Node::Not(Box::new(named)))), Box::new(some)))),
            ]
        }
        "r_room" => vec![("dear", truth(Node::Compare(">", field(CENTS, "rate"), int(1))))],
        _ => vec![],
    }
}

pub fn now() -> jiff::Timestamp {
    "2026-05-01T09:00:00.000001Z".parse().unwrap()
}

pub fn params() -> Vec<(&'static str, Val)> {
    vec![("i", Val::Int(2)), ("d", Val::Double(0.75)), ("s", Val::Text("Rome".to_owned())), ("b", Val::Bool(true))]
}

pub fn ty_of(value: &Val) -> Option<FieldType> {
    match value {
        Val::Text(_) => Some(Text),
        Val::Int(_) => Some(Integer),
        Val::Double(_) => Some(Double),
        Val::Bool(_) => Some(Boolean),
        _ => None,
    }
}
