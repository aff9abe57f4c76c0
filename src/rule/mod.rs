//! Rules: CEL text, checked against a Dataset, lowered to SQL with every value bound.
//!
//! ```yaml
//! where: booking.departure < now + days(params.days) && booking.customer.country == "IT"
//! ```
//!
//! The way is `text -> parse (the cel crate) -> check -> Rule -> Query -> SelectStatement`. The semantics are
//! ours: logic is two-valued, and a missing value has the rules of the design's section 4. What is not built is
//! refused with a sentence; nothing is lowered to something that only looks alike.

mod ast;
mod carried;
mod check;
pub mod clause;
mod doubt;
mod fault;
mod json;
mod lower;
pub mod negation;
mod number;
mod path;
mod pattern;
mod problem;
pub mod query;
pub mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sea_query::SelectStatement;

pub use check::{audiences_in, check, check_condition, check_syntax, check_value};
pub use doubt::{Doubt, doubts};
pub use fault::FaultPlace;
pub use json::{JsonRule, JsonType, TooLong};
pub use path::{Path, check_path};
pub use problem::{Problem, circle, nearest};
pub use query::Query;
pub use schema::{Dialect, FieldType, Schema};

/// A rule that fits its entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(crate) root: ast::Typed,
    pub(crate) text: String,
}

impl Rule {
    /// What the rule comes to, if it is something a field can hold.
    pub fn field_type(&self) -> Option<FieldType> {
        match self.root.ty {
            ast::Type::Field(ty) => Some(ty),
            ast::Type::Duration => None,
        }
    }

    /// The fields of the entity itself that the rule reads.
    pub fn own_fields(&self) -> BTreeSet<String> {
        self.root.own_fields()
    }
}

/// The type of a parameter, taken from its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    String,
    Integer,
    Double,
    Boolean,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    String(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

/// What a rule reads beside the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The run's scheduled time, fixed for the whole run.
    pub now: jiff::Timestamp,
    pub params: BTreeMap<String, Param>,
    /// The keys of each audience that the rule asks about.
    pub audiences: Arc<BTreeMap<String, SelectStatement>>,
}

impl Inputs {
    pub fn at(now: jiff::Timestamp) -> Self {
        Self { now, params: BTreeMap::new(), audiences: Arc::default() }
    }
}
