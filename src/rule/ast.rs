//! A checked rule: every name resolved, every part typed.

use std::ops::Range;

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
    Not(Box<Typed>),
    And(Box<Typed>, Box<Typed>),
    Or(Box<Typed>, Box<Typed>),
    If(Box<Typed>, Box<Typed>, Box<Typed>),
    Compare(Comparison, Box<Typed>, Box<Typed>),
    In(Box<Typed>, Vec<Typed>),
    StartsWith(Box<Typed>, Box<Typed>),
    EndsWith(Box<Typed>, Box<Typed>),
    Contains(Box<Typed>, Box<Typed>),
    LowerAscii(Box<Typed>),
    UpperAscii(Box<Typed>),
    Length(Box<Typed>),
    Arithmetic(Arithmetic, Box<Typed>, Box<Typed>),
    /// So many units of so many microseconds.
    Span(i64, Box<Typed>),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

impl Arithmetic {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
}

impl Typed {
    /// Whether the part refers to a variable outside `inner` and what is nested in it.
    pub fn looks_outside(&self, inner: usize) -> bool {
        let mut outside = false;
        self.visit(&mut |node| {
            outside |= match node {
                Node::Field { var, .. } | Node::HasLink { var, .. } => *var < inner,
                Node::Exists(many, _) | Node::All(many, _) | Node::Aggregate { many, .. } => many.var < inner,
                _ => false,
            };
        });
        outside
    }

    /// Whether the part refers to the variable itself.
    pub fn looks_at(&self, variable: usize) -> bool {
        let mut is_there = false;
        self.visit(&mut |node| {
            is_there |= match node {
                Node::Field { var, .. } | Node::HasLink { var, .. } => *var == variable,
                Node::Exists(many, _) | Node::All(many, _) | Node::Aggregate { many, .. } => many.var == variable,
                _ => false,
            };
        });
        is_there
    }

    fn visit(&self, see: &mut impl FnMut(&Node)) {
        see(&self.node);
        match &self.node {
            Node::Has(a) | Node::Not(a) | Node::LowerAscii(a) | Node::UpperAscii(a) | Node::Length(a) => a.visit(see),
            Node::Span(_, a) | Node::Exists(_, a) | Node::All(_, a) => a.visit(see),
            Node::And(a, b) | Node::Or(a, b) | Node::Compare(_, a, b) | Node::Arithmetic(_, a, b) => {
                a.visit(see);
                b.visit(see);
            }
            Node::StartsWith(a, b) | Node::EndsWith(a, b) | Node::Contains(a, b) => {
                a.visit(see);
                b.visit(see);
            }
            Node::If(a, b, c) => [a, b, c].into_iter().for_each(|x| x.visit(see)),
            Node::In(a, list) => {
                a.visit(see);
                list.iter().for_each(|x| x.visit(see));
            }
            Node::Aggregate { filter, value, .. } => {
                filter.iter().chain(value).for_each(|x| x.visit(see));
            }
            Node::Text(_) | Node::Integer(_) | Node::Double(_) | Node::Boolean(_) | Node::Date(_) => {}
            Node::Timestamp(_) | Node::Now | Node::Param(_) | Node::Field { .. } | Node::HasLink { .. } => {}
        }
    }
}
