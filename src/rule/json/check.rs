//! From CEL's syntax tree to a rule over JSON; what is not known there is refused where it stands.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators as op},
};
use regex::Regex;
use serde_json::{Number, Value as Json};

use super::{Each, JsonType, Node};
use crate::rule::{
    ast::{Arithmetic, Comparison},
    check::{Parsed, parse},
    pattern::canonical,
    problem::Problem,
};

const DEPTH_MAX: usize = 64;
const FUNCTIONS: [&str; 16] = [
    "has",
    "size",
    "string",
    "int",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "upperAscii",
    "trim",
    "exists",
    "all",
    "filter",
    "map",
    "join",
];

type Checked = Result<(Node, JsonType), Problem>;

pub(super) fn check(text: &str, inputs: &[(&str, JsonType)], is_condition: bool) -> Result<Node, Problem> {
    let parsed = parse(text)?;
    let mut checker = Checker { text, parsed: &parsed, inputs, elements: vec![], depth: 0 };
    if is_condition { checker.condition(&parsed.tree) } else { checker.of(&parsed.tree).map(|(node, _)| node) }
}

struct Checker<'a> {
    text: &'a str,
    parsed: &'a Parsed,
    inputs: &'a [(&'a str, JsonType)],
    /// The names of elements in scope, the outermost first.
    elements: Vec<String>,
    depth: usize,
}

impl JsonType {
    fn words(self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "names with values",
        }
    }

    /// Whether a value of this type may be one of the other.
    fn may_be(self, other: Self) -> bool {
        self == Self::Any || other == Self::Any || self == other
    }
}

impl Checker<'_> {
    fn span(&self, expr: &IdedExpr) -> Range<usize> {
        self.parsed.span(self.text, expr)
    }

    fn problem(&self, at: &IdedExpr, message: impl Into<String>) -> Problem {
        Problem::new(message, self.span(at))
    }

    fn condition(&mut self, expr: &IdedExpr) -> Result<Node, Problem> {
        let message = |ty: JsonType| format!("a condition is true or false, and this is {}", ty.words());
        match self.of(expr)? {
            (node, ty) if ty.may_be(JsonType::Boolean) => Ok(node),
            (_, ty) => Err(self.problem(expr, message(ty)).hint("compare it with something, as in `x == 1`")),
        }
    }

    fn boxed(&mut self, expr: &IdedExpr) -> Result<Box<Node>, Problem> {
        self.of(expr).map(|(node, _)| Box::new(node))
    }

    /// A value that may be of a type.
    fn a(&mut self, expr: &IdedExpr, wanted: JsonType) -> Result<Box<Node>, Problem> {
        match self.of(expr)? {
            (node, ty) if ty.may_be(wanted) => Ok(Box::new(node)),
            (_, ty) => {
                Err(self.problem(expr, format!("{} is wanted here, and this is {}", wanted.words(), ty.words())))
            }
        }
    }

    fn of(&mut self, expr: &IdedExpr) -> Checked {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.problem(expr, format!("a rule nests at most {DEPTH_MAX} deep")));
        }
        let checked = match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => match self.of(&select.operand)? {
                (node, ty) if ty.may_be(JsonType::Map) => {
                    let ty = if matches!(&node, Node::Input(_)) { self.of_map(&node) } else { JsonType::Any };
                    Ok((Node::Field(Box::new(node), select.field.clone()), ty))
                }
                (_, ty) => Err(self.problem(expr, format!("{} has no `.{}`", ty.words(), select.field))),
            },
            Expr::List(list) => {
                let parts = list.elements.iter().map(|part| self.of(part).map(|(node, _)| node));
                Ok((Node::List(parts.collect::<Result<_, _>>()?), JsonType::List))
            }
            Expr::Call(call) => self.call(expr, call),
            _ => Err(self.problem(expr, "rules have no such construct")),
        };
        self.depth -= 1;
        checked
    }

    /// What stands in an input that holds names with values: those whose kind is known hold texts, such as headers.
    fn of_map(&self, node: &Node) -> JsonType {
        let input = if let Node::Input(index) = node { self.inputs.get(*index) } else { None };
        if input.is_some_and(|(_, ty)| *ty == JsonType::Map) { JsonType::Text } else { JsonType::Any }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Checked {
        let (value, ty) = match literal {
            LiteralValue::Boolean(b) => (Json::Bool(*b.inner()), JsonType::Boolean),
            LiteralValue::Int(i) => (Json::from(*i.inner()), JsonType::Number),
            LiteralValue::UInt(u) => (Json::from(*u.inner()), JsonType::Number),
            LiteralValue::Double(d) => {
                (Number::from_f64(*d.inner()).map_or(Json::Null, Json::Number), JsonType::Number)
            }
            LiteralValue::String(s) => (Json::from(s.inner()), JsonType::Text),
            LiteralValue::Null => (Json::Null, JsonType::Any),
            LiteralValue::Bytes(_) => return Err(self.problem(expr, "rules have no bytes")),
        };
        Ok((Node::Value(value), ty))
    }

    fn name(&self, expr: &IdedExpr, name: &str) -> Checked {
        if let Some(depth) = self.elements.iter().rev().position(|known| known == name) {
            return Ok((Node::Element(depth), JsonType::Any));
        }
        if let Some(index) = self.inputs.iter().position(|(known, _)| *known == name) {
            return Ok((Node::Input(index), self.inputs[index].1));
        }
        let known: Vec<&str> = self.inputs.iter().map(|(name, _)| *name).collect();
        let problem = self.problem(expr, format!("there is no `{name}`; there are {}", known.join(", ")));
        let elements = self.elements.iter().map(String::as_str);
        Err(problem.suggest(name, known.iter().copied().chain(elements)))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Checked {
        use JsonType::{Any, Boolean, Number, Text};
        if let Some(target) = &call.target {
            return self.method(expr, target, &call.func_name, &call.args);
        }
        let ordered = |name: &str| match name {
            op::EQUALS | op::NOT_EQUALS => Some(Comparison::Equal),
            op::LESS => Some(Comparison::Less),
            op::LESS_EQUALS => Some(Comparison::LessOrEqual),
            op::GREATER => Some(Comparison::Greater),
            op::GREATER_EQUALS => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        let computed = |name: &str| match name {
            op::SUBSTRACT => Some(Arithmetic::Subtract),
            op::MULTIPLY => Some(Arithmetic::Multiply),
            op::DIVIDE => Some(Arithmetic::Divide),
            op::MODULO => Some(Arithmetic::Remainder),
            _ => None,
        };
        let name = call.func_name.as_str();
        Ok(match (name, call.args.as_slice()) {
            (op::LOGICAL_AND, [a, b]) => {
                (Node::And(Box::new(self.condition(a)?), Box::new(self.condition(b)?)), Boolean)
            }
            (op::LOGICAL_OR, [a, b]) => (Node::Or(Box::new(self.condition(a)?), Box::new(self.condition(b)?)), Boolean),
            (op::LOGICAL_NOT, [a]) => (Node::Not(Box::new(self.condition(a)?)), Boolean),
            (op::CONDITIONAL, [condition, a, b]) => {
                let condition = Box::new(self.condition(condition)?);
                let ((a, one), (b, other)) = (self.of(a)?, self.of(b)?);
                (Node::If(condition, Box::new(a), Box::new(b)), if one == other { one } else { Any })
            }
            (name, [a, b]) if let Some(comparison) = ordered(name) => {
                let ((a, one), (b, other)) = (self.of(a)?, self.of(b)?);
                if !one.may_be(other) {
                    let message = format!("{} is never {}", one.words(), other.words());
                    return Err(self.problem(expr, message));
                }
                let compared = Node::Compare(comparison, Box::new(a), Box::new(b));
                (if name == op::NOT_EQUALS { Node::Not(Box::new(compared)) } else { compared }, Boolean)
            }
            (op::IN, [a, b]) => (Node::In(self.boxed(a)?, self.boxed(b)?), Boolean),
            (op::ADD, [a, b]) => {
                let ((a, one), (b, other)) = (self.of(a)?, self.of(b)?);
                let ty = if one == Any { other } else { one };
                if !one.may_be(other) || !(ty.may_be(Number) || ty.may_be(Text)) {
                    let message = format!("{} and {} cannot be added", one.words(), other.words());
                    return Err(self.problem(expr, message).hint("`string(x)` makes a text of a number"));
                }
                (Node::Arithmetic(Arithmetic::Add, Box::new(a), Box::new(b)), ty)
            }
            (name, [a, b]) if let Some(operator) = computed(name) => {
                (Node::Arithmetic(operator, self.a(a, Number)?, self.a(b, Number)?), Number)
            }
            (op::NEGATE, [a]) => {
                let zero = Box::new(Node::Value(Json::from(0)));
                (Node::Arithmetic(Arithmetic::Subtract, zero, self.a(a, Number)?), Number)
            }
            (op::INDEX, [a, b]) => {
                let (a, _) = self.of(a)?;
                let ty = self.of_map(&a);
                (Node::Index(Box::new(a), self.boxed(b)?), ty)
            }
            ("has", [a]) => (Node::Has(self.boxed(a)?), Boolean),
            ("size", [a]) => (Node::Turned(size, self.boxed(a)?), Number),
            ("string", [a]) => (Node::Turned(string, self.boxed(a)?), Text),
            ("int", [a]) => (Node::Turned(int, self.boxed(a)?), Number),
            (name, _) => return Err(self.no_function(expr, name)),
        })
    }

    fn method(&mut self, expr: &IdedExpr, target: &IdedExpr, name: &str, args: &[IdedExpr]) -> Checked {
        use JsonType::{Any, Boolean, List, Number, Text};
        let each = match name {
            "exists" => Some((Each::Exists, Boolean)),
            "all" => Some((Each::All, Boolean)),
            "filter" => Some((Each::Filter, List)),
            "map" => Some((Each::Map, List)),
            _ => None,
        };
        let pair: Option<fn(&str, &str) -> bool> = match name {
            "startsWith" => Some(|a, b| a.starts_with(b)),
            "endsWith" => Some(|a, b| a.ends_with(b)),
            "contains" => Some(|a, b| a.contains(b)),
            _ => None,
        };
        Ok(match (name, args) {
            (_, [variable, body]) if let Some((each, ty)) = each => {
                let list = self.a(target, List)?;
                let Expr::Ident(variable) = &variable.expr else {
                    return Err(self.problem(variable, format!("{name}() names an element, as in {name}(x, …)")));
                };
                self.elements.push(variable.clone());
                let body = match each {
                    Each::Map => self.of(body).map(|(node, _)| node),
                    _ => self.condition(body),
                };
                self.elements.pop();
                (Node::Each(each, list, Box::new(body?)), ty)
            }
            (_, [other]) if let Some(is) = pair => {
                (Node::Text(is, self.a(target, Text)?, self.a(other, Text)?), Boolean)
            }
            ("matches", [pattern]) => (Node::Matches(self.a(target, Text)?, self.pattern(pattern)?), Boolean),
            ("lowerAscii", []) => (Node::Turned(lower, self.a(target, Text)?), Text),
            ("upperAscii", []) => (Node::Turned(upper, self.a(target, Text)?), Text),
            ("trim", []) => (Node::Turned(trim, self.a(target, Text)?), Text),
            ("join", []) => (Node::Turned(join, self.a(target, List)?), Text),
            ("size", []) => match self.of(target)? {
                (node, Any | Text | List | JsonType::Map) => (Node::Turned(size, Box::new(node)), Number),
                (_, ty) => return Err(self.problem(expr, format!("{} has no `.size()`", ty.words()))),
            },
            _ => return Err(self.no_function(expr, name)),
        })
    }

    fn pattern(&self, pattern: &IdedExpr) -> Result<Regex, Problem> {
        let Expr::Literal(LiteralValue::String(written)) = &pattern.expr else {
            return Err(self.problem(pattern, "a pattern is written out, as in matches(\"^[A-Z]{2}\")"));
        };
        let canonical = canonical(written.inner()).map_err(|wrong| self.problem(pattern, wrong.message))?;
        Regex::new(&canonical).map_err(|_| self.problem(pattern, "this is not a pattern"))
    }

    fn no_function(&self, expr: &IdedExpr, name: &str) -> Problem {
        if FUNCTIONS.contains(&name) {
            return self.problem(expr, format!("`{name}` is not used like this"));
        }
        self.problem(expr, format!("there is no function `{name}`")).suggest(name, FUNCTIONS)
    }
}

fn size(value: &Json) -> Json {
    match value {
        Json::String(text) => text.chars().count().into(),
        Json::Array(all) => all.len().into(),
        Json::Object(all) => all.len().into(),
        _ => Json::Null,
    }
}

fn string(value: &Json) -> Json {
    match value {
        Json::Number(number) => number.to_string().into(),
        Json::Bool(is_true) => is_true.to_string().into(),
        Json::String(text) => text.as_str().into(),
        _ => Json::Null,
    }
}

fn int(value: &Json) -> Json {
    match value {
        Json::Number(number) => number.as_i64().map_or(Json::Null, Json::from),
        Json::String(text) => text.trim().parse::<i64>().map_or(Json::Null, Json::from),
        _ => Json::Null,
    }
}

fn of_text(value: &Json, turn: impl Fn(&str) -> String) -> Json {
    value.as_str().map_or(Json::Null, |text| turn(text).into())
}

fn lower(value: &Json) -> Json {
    of_text(value, str::to_ascii_lowercase)
}

fn upper(value: &Json) -> Json {
    of_text(value, str::to_ascii_uppercase)
}

fn trim(value: &Json) -> Json {
    of_text(value, |text| text.trim().to_owned())
}

/// The texts of a list, a comma between two.
fn join(value: &Json) -> Json {
    let Some(all) = value.as_array() else { return Json::Null };
    all.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ").into()
}
