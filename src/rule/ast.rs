//! A checked rule: every name resolved, every part typed.

use std::{collections::BTreeSet, ops::Range};

use super::schema::FieldType;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Field(FieldType),
    /// A length of time, in microseconds.
    Duration,
}

impl Type {
    pub const BOOLEAN: Self = Self::Field(FieldType::Boolean);
    pub const INTEGER: Self = Self::Field(FieldType::Integer);
    pub const DOUBLE: Self = Self::Field(FieldType::Double);
    pub const STRING: Self = Self::Field(FieldType::String);
    pub const TIMESTAMP: Self = Self::Field(FieldType::Timestamp);
    pub const DATE: Self = Self::Field(FieldType::Date);

    pub fn is_number(self) -> bool {
        matches!(self, Self::Field(FieldType::Integer | FieldType::Double | FieldType::Decimal { .. }))
    }

    pub fn is_time(self) -> bool {
        matches!(self, Self::Field(FieldType::Date | FieldType::Timestamp))
    }

    /// The type in a marketer's words.
    pub fn words(self) -> String {
        match self {
            Self::Field(FieldType::Decimal { .. }) => "a Decimal".to_owned(),
            Self::Field(FieldType::Integer) => "an Integer".to_owned(),
            Self::Field(other) => format!("a {other:?}"),
            Self::Duration => "a length of time".to_owned(),
        }
    }
}

/// A typed part of a rule and its place in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    pub node: Node,
    pub ty: Type,
    /// Whether the value may be missing.
    pub is_nullable: bool,
    pub span: Range<usize>,
}

/// Rows of another entity that belong to a row: to-one hops from a variable, then one to-many link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Many {
    pub var: usize,
    pub hops: Vec<String>,
    pub link: String,
    /// The variable that stands for one of the rows.
    pub inner: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Text(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Date(jiff::civil::Date),
    Timestamp(jiff::Timestamp),
    Now,
    Param(String),
    /// A column of a variable's row, or of a row that to-one links lead to.
    Field {
        var: usize,
        hops: Vec<String>,
        field: String,
    },
    Has(Box<Typed>),
    /// Whether to-one links lead to a row.
    HasLink {
        var: usize,
        hops: Vec<String>,
    },
    /// Whether the row that to-one links lead to is in an audience.
    InAudience {
        var: usize,
        hops: Vec<String>,
        audience: String,
    },
    Not(Box<Typed>),
    And(Box<Typed>, Box<Typed>),
    Or(Box<Typed>, Box<Typed>),
    If(Box<Typed>, Box<Typed>, Box<Typed>),
    Compare(Comparison, Box<Typed>, Box<Typed>),
    In(Box<Typed>, Vec<Typed>),
    StartsWith(Box<Typed>, Box<Typed>),
    EndsWith(Box<Typed>, Box<Typed>),
    Contains(Box<Typed>, Box<Typed>),
    /// A pattern in the form that both databases read alike; see [`super::pattern`].
    Matches(Box<Typed>, String),
    /// Two texts, one behind the other.
    Concat(Box<Typed>, Box<Typed>),
    LowerAscii(Box<Typed>),
    UpperAscii(Box<Typed>),
    Length(Box<Typed>),
    Arithmetic(Arithmetic, Box<Typed>, Box<Typed>),
    /// So many units of so many microseconds.
    Span(i64, Box<Typed>),
    /// A part of a Date, or of a Timestamp in a time zone.
    Part(Part, Box<Typed>, String),
    /// The Date of a Timestamp in a time zone.
    DateIn(Box<Typed>, String),
    /// Whether the operation itself would fault, its operands being sound.
    Faults(Box<Typed>),
    Exists(Many, Box<Typed>),
    All(Many, Box<Typed>),
    Aggregate {
        many: Many,
        filter: Option<Box<Typed>>,
        function: Function,
        value: Option<Box<Typed>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// CEL's parts of an instant, counted as CEL counts them: months, days of the week and of the year from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Year,
    Month,
    /// Counted from 1.
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    pub const ALL: [(&'static str, Self); 10] = [
        ("getFullYear", Self::Year),
        ("getMonth", Self::Month),
        ("getDate", Self::Date),
        ("getDayOfMonth", Self::DayOfMonth),
        ("getDayOfWeek", Self::DayOfWeek),
        ("getDayOfYear", Self::DayOfYear),
        ("getHours", Self::Hours),
        ("getMinutes", Self::Minutes),
        ("getSeconds", Self::Seconds),
        ("getMilliseconds", Self::Milliseconds),
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
    }

    pub fn is_of_day(self) -> bool {
        matches!(self, Self::Hours | Self::Minutes | Self::Seconds | Self::Milliseconds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Count,
    Sum,
    /// The upper half of a sum's 64 bits, which is out of its own range where the sum is.
    UpperSum,
    Average,
    Minimum,
    Maximum,
}

impl Typed {
    /// Whether the part refers to a variable outside `inner` and what is nested in it.
    pub fn looks_outside(&self, inner: usize) -> bool {
        self.any(&mut |typed| typed.node.variable().is_some_and(|var| var < inner))
    }

    /// Whether the part refers to the variable itself.
    pub fn looks_at(&self, variable: usize) -> bool {
        self.any(&mut |typed| typed.node.variable() == Some(variable))
    }

    /// The fields of the outermost variable's own row.
    pub fn own_fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        self.any(&mut |typed| {
            if let Node::Field { var: 0, hops, field } = &typed.node
                && hops.is_empty()
            {
                fields.insert(field.clone());
            }
            false
        });
        fields
    }

    /// Whether `is` holds for the part or one inside it.
    pub fn any(&self, is: &mut impl FnMut(&Typed) -> bool) -> bool {
        is(self) || self.node.parts().into_iter().any(|part| part.any(is))
    }
}

impl Node {
    /// The variable that the node itself reads.
    fn variable(&self) -> Option<usize> {
        match self {
            Self::Field { var, .. } | Self::HasLink { var, .. } | Self::InAudience { var, .. } => Some(*var),
            Self::Exists(many, _) | Self::All(many, _) | Self::Aggregate { many, .. } => Some(many.var),
            _ => None,
        }
    }

    /// The parts directly inside, in the order in which they are evaluated.
    pub fn parts(&self) -> Vec<&Typed> {
        match self {
            Self::Has(a) | Self::Not(a) | Self::LowerAscii(a) | Self::UpperAscii(a) | Self::Length(a) => vec![a],
            Self::Span(_, a) | Self::Part(_, a, _) | Self::DateIn(a, _) | Self::Faults(a) | Self::Matches(a, _) => {
                vec![a]
            }
            Self::Exists(_, a) | Self::All(_, a) => vec![a],
            Self::And(a, b) | Self::Or(a, b) | Self::Compare(_, a, b) | Self::Arithmetic(_, a, b) => vec![a, b],
            Self::StartsWith(a, b) | Self::EndsWith(a, b) | Self::Contains(a, b) | Self::Concat(a, b) => vec![a, b],
            Self::If(a, b, c) => vec![a, b, c],
            Self::In(a, list) => std::iter::once(&**a).chain(list).collect(),
            Self::Aggregate { filter, value, .. } => filter.iter().chain(value).map(|part| &**part).collect(),
            Self::Text(_) | Self::Integer(_) | Self::Double(_) | Self::Boolean(_) | Self::Date(_) => vec![],
            Self::Timestamp(_) | Self::Now | Self::Param(_) | Self::Field { .. } | Self::HasLink { .. } => vec![],
            Self::InAudience { .. } => vec![],
        }
    }
}
