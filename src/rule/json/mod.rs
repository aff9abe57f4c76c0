//! Rules over JSON that came from elsewhere, such as the answer of a provider.
//!
//! ```yaml
//! sent: status == 200 && body.results.all(r, r.status == "queued")
//! ```
//!
//! The same words mean the same as in rules over rows: logic is two-valued, and a missing value, which a null is, too, equals
//! only a missing one, is no condition that holds and stands in no order. What a rule over rows knows from its Dataset is
//! not known here, so a value may be of any type; one of a type that an operation does not take is missing for it.
//!
//! Such a rule is evaluated here and not by the database, in a bounded number of steps.

mod check;

use std::{borrow::Cow, cell::Cell, cmp::Ordering};

use regex::Regex;
use serde_json::{Number, Value as Json};

use super::{
    ast::{Arithmetic, Comparison},
    problem::Problem,
};

/// Of an evaluation. Over the largest answer that is read a rule that looks at each element once takes a tenth of it.
const STEPS_MAX: u32 = 1_000_000;
const NOTHING: &Json = &Json::Null;

/// What is known of a value beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    Any,
    Boolean,
    Number,
    Text,
    List,
    /// Names with values.
    Map,
}

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub struct JsonRule {
    root: Node,
}

/// It took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule takes more than {STEPS_MAX} steps")]
pub struct TooLong;

#[derive(Clone, Debug)]
enum Node {
    Value(Json),
    List(Vec<Node>),
    Input(usize),
    /// Of the elements that are looked at, the innermost is 0.
    Element(usize),
    Field(Box<Node>, String),
    Index(Box<Node>, Box<Node>),
    Has(Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    /// Of two texts.
    Text(fn(&str, &str) -> bool, Box<Node>, Box<Node>),
    Matches(Box<Node>, Regex),
    Turned(fn(&Json) -> Json, Box<Node>),
    Each(Each, Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Each {
    Exists,
    All,
    Filter,
    Map,
}

impl JsonRule {
    /// Checks that a text is a condition on `inputs`, each a name and what it is.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn condition(text: &str, inputs: &[(&str, JsonType)]) -> Result<Self, Problem> {
        check::check(text, inputs, true).map(|root| Self { root })
    }

    /// Checks that a text is a value made of `inputs`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn value(text: &str, inputs: &[(&str, JsonType)]) -> Result<Self, Problem> {
        check::check(text, inputs, false).map(|root| Self { root })
    }

    /// What it comes to; `inputs` are in the order in which it was checked.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn evaluate(&self, inputs: &[Json]) -> Result<Json, TooLong> {
        let evaluation = Evaluation { inputs, steps: Cell::new(0) };
        evaluation.of(&self.root, None).map(Cow::into_owned)
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn holds(&self, inputs: &[Json]) -> Result<bool, TooLong> {
        self.evaluate(inputs).map(|value| value == Json::Bool(true))
    }
}

struct Evaluation<'a> {
    inputs: &'a [Json],
    steps: Cell<u32>,
}

/// An element that is looked at, and those around it.
struct Scope<'a> {
    element: &'a Json,
    outer: Option<&'a Scope<'a>>,
}

impl<'a> Evaluation<'a> {
    fn of<'s>(&self, node: &'s Node, scope: Option<&'s Scope<'s>>) -> Result<Cow<'s, Json>, TooLong>
    where
        'a: 's,
    {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX {
            return Err(TooLong);
        }
        let of = |node: &'s Node| self.of(node, scope);
        let holds = |node: &'s Node| self.of(node, scope).map(|value| *value == Json::Bool(true));
        let value = match node {
            Node::Value(value) => return Ok(Cow::Borrowed(value)),
            Node::List(parts) => {
                Json::Array(parts.iter().map(|part| of(part).map(Cow::into_owned)).collect::<Result<_, _>>()?)
            }
            Node::Input(index) => return Ok(Cow::Borrowed(self.inputs.get(*index).unwrap_or(NOTHING))),
            Node::Element(index) => {
                let found = std::iter::successors(scope, |scope| scope.outer).nth(*index);
                return Ok(Cow::Borrowed(found.map_or(NOTHING, |scope| scope.element)));
            }
            Node::Field(a, name) => return Ok(part(of(a)?, |value| value.get(name.as_str()))),
            Node::Index(a, b) => {
                let index = of(b)?;
                return Ok(part(of(a)?, |value| match &*index {
                    Json::String(name) => value.get(name.as_str()),
                    Json::Number(number) => value.get(usize::try_from(number.as_u64()?).ok()?),
                    _ => None,
                }));
            }
            Node::Has(a) => Json::Bool(!of(a)?.is_null()),
            Node::Not(a) => Json::Bool(!holds(a)?),
            Node::And(a, b) => Json::Bool(holds(a)? && holds(b)?),
            Node::Or(a, b) => Json::Bool(holds(a)? || holds(b)?),
            Node::If(condition, a, b) => return if holds(condition)? { of(a) } else { of(b) },
            Node::Compare(comparison, a, b) => Json::Bool(compare(*comparison, &*of(a)?, &*of(b)?)),
            Node::In(a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                Json::Bool(match (&*a, &*b) {
                    (Json::Null, _) => false,
                    (_, Json::Array(all)) => all.iter().any(|one| compare(Comparison::Equal, &a, one)),
                    (Json::String(name), Json::Object(all)) => all.contains_key(name),
                    _ => false,
                })
            }
            Node::Arithmetic(operator, a, b) => arithmetic(*operator, &*of(a)?, &*of(b)?),
            Node::Text(is, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                Json::Bool(a.as_str().zip(b.as_str()).is_some_and(|(a, b)| is(a, b)))
            }
            Node::Matches(a, pattern) => Json::Bool(of(a)?.as_str().is_some_and(|text| pattern.is_match(text))),
            Node::Turned(turn, a) => turn(&*of(a)?),
            Node::Each(each, list, body) => {
                let list = of(list)?;
                return self.each(*each, list.as_array().map_or(&[], Vec::as_slice), body, scope).map(Cow::Owned);
            }
        };
        Ok(Cow::Owned(value))
    }

    fn each<'s>(
        &self,
        each: Each,
        list: &'s [Json],
        body: &'s Node,
        outer: Option<&'s Scope<'s>>,
    ) -> Result<Json, TooLong>
    where
        'a: 's,
    {
        let mut kept = vec![];
        for element in list {
            let inner = Scope { element, outer };
            let value = self.of(body, Some(&inner))?;
            let holds = *value == Json::Bool(true);
            match each {
                Each::Exists if holds => return Ok(Json::Bool(true)),
                Each::All if !holds => return Ok(Json::Bool(false)),
                Each::Filter if holds => kept.push(element.clone()),
                Each::Map => kept.push(value.into_owned()),
                _ => {}
            }
        }
        Ok(match each {
            Each::Exists => Json::Bool(false),
            Each::All => Json::Bool(true),
            Each::Filter | Each::Map => Json::Array(kept),
        })
    }
}

/// A part of a value; a null where there is none.
fn part<'v>(value: Cow<'v, Json>, find: impl Fn(&Json) -> Option<&Json>) -> Cow<'v, Json> {
    match value {
        Cow::Borrowed(value) => Cow::Borrowed(find(value).unwrap_or(NOTHING)),
        Cow::Owned(value) => Cow::Owned(find(&value).cloned().unwrap_or_default()),
    }
}

fn compare(comparison: Comparison, a: &Json, b: &Json) -> bool {
    let order = match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        _ if comparison == Comparison::Equal => (a == b).then_some(Ordering::Equal),
        _ => None,
    };
    order.is_some_and(|order| match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

/// Missing where it cannot be done, also because 64 bits do not hold it.
fn arithmetic(operator: Arithmetic, a: &Json, b: &Json) -> Json {
    if let (Arithmetic::Add, Json::String(a), Json::String(b)) = (operator, a, b) {
        return format!("{a}{b}").into();
    }
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        let made = match operator {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
        };
        return made.map_or(Json::Null, Json::from);
    }
    let Some((a, b)) = a.as_f64().zip(b.as_f64()) else { return Json::Null };
    let made = match operator {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
    };
    Number::from_f64(made).map_or(Json::Null, Json::Number)
}

#[cfg(test)]
mod tests;
