//! From CEL's syntax tree to a typed rule. Errors are in the words of somebody who writes campaigns.

use std::{collections::BTreeMap, ops::Range};

use cel::{
    Env, IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators as op},
};

use super::{
    ParamType, Rule,
    ast::{Arithmetic, Comparison, Function, Many, Node, Type, Typed},
    path::unknown,
    problem::Problem,
    schema::{Entity, FieldType, Schema},
};

/// A rule is read by people; longer ones belong into several audiences.
const TEXT_BYTES_MAX: usize = 8_192;
/// Deeper trees could exhaust the stack of the parser and of this walk.
const DEPTH_MAX: usize = 32;
const LIST_MAX: usize = 1_000;
/// To-many inside to-many: each is a subquery.
const NESTING_MAX: usize = 4;

const SPANS: [(&str, i64); 4] =
    [("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000)];
const FUNCTIONS: [&str; 20] = [
    "days",
    "hours",
    "minutes",
    "seconds",
    "date",
    "timestamp",
    "has",
    "startsWith",
    "endsWith",
    "contains",
    "lowerAscii",
    "upperAscii",
    "size",
    "exists",
    "all",
    "exists_one",
    "filter",
    "map",
    "sum",
    "avg",
];
/// In CEL, in the design, and not built: refused by name rather than misread.
const NOT_BUILT: [&str; 4] = ["matches", "getMonth", "getDayOfMonth", "getFullYear"];

/// Checks that `text` is a condition on rows of `entity`.
pub fn check(text: &str, schema: &Schema, entity: &str, params: &BTreeMap<String, ParamType>) -> Result<Rule, Problem> {
    let whole = 0..text.len();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::new(format!("a rule has at most {TEXT_BYTES_MAX} bytes"), whole));
    }
    if brackets_deep(text) > DEPTH_MAX {
        return Err(Problem::new(format!("a rule nests at most {DEPTH_MAX} deep"), whole));
    }
    if schema.entity(entity).is_none() {
        return Err(Problem::new(format!("there is no entity `{entity}`"), whole)
            .suggest(entity, schema.entities.keys().map(String::as_str)));
    }
    // An environment without macros leaves `exists`, `has` and the like plain calls.
    let parser = Env::default().parser().max_recursion_depth(DEPTH_MAX as u16 * 2);
    let (tree, places) = parser.parse_with_source_info(text).map_err(|errors| syntax_problem(text, &errors))?;
    let mut checker =
        Checker { text, schema, params, places, scopes: vec![(entity.to_owned(), entity.to_owned())], depth: 0 };
    let root = checker.condition(&tree)?;
    Ok(Rule { root, entity: entity.to_owned(), variables: vec![entity.to_owned()] })
}

fn brackets_deep(text: &str) -> usize {
    let (mut deep, mut deepest) = (0_usize, 0);
    for c in text.bytes() {
        match c {
            b'(' | b'[' | b'{' => deep += 1,
            b')' | b']' | b'}' => deep = deep.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(deep);
    }
    deepest
}

fn syntax_problem(text: &str, errors: &cel::ParseErrors) -> Problem {
    let Some(first) = errors.errors.first() else {
        return Problem::new("this is not a rule", 0..text.len());
    };
    let line = usize::try_from(first.pos.0 - 1).unwrap_or(0);
    let column = usize::try_from(first.pos.1 - 1).unwrap_or(0);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let start = text[start.min(text.len())..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i);
    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    let message = first.msg.lines().next().unwrap_or("").trim().trim_end_matches('.');
    Problem::new(format!("this is not a rule: {message}"), start..end)
}

/// What stands before a dot.
enum Value {
    Typed(Typed),
    /// A variable's row, or the row that to-one links lead to.
    Row {
        var: usize,
        hops: Vec<String>,
        entity: String,
    },
    /// The rows behind a to-many link, perhaps filtered or mapped.
    Rows {
        many: Many,
        entity: String,
        filter: Option<Box<Typed>>,
        value: Option<Box<Typed>>,
    },
}

struct Checker<'a> {
    text: &'a str,
    schema: &'a Schema,
    params: &'a BTreeMap<String, ParamType>,
    places: SourceInfo,
    /// Variables in scope: name and entity; the index is the variable's number.
    scopes: Vec<(String, String)>,
    depth: usize,
}

impl Checker<'_> {
    /// CEL's offsets count characters and include the last one.
    fn span(&self, expr: &IdedExpr) -> Range<usize> {
        let Some((start, stop)) = self.places.offset_for(expr.id) else { return 0..self.text.len() };
        let byte = |index: usize| self.text.char_indices().nth(index).map_or(self.text.len(), |(i, _)| i);
        let (start, stop) = (byte(start as usize), byte(stop as usize + 1));
        start..stop.max(start)
    }

    fn problem(&self, at: &IdedExpr, message: impl Into<String>) -> Problem {
        Problem::new(message, self.span(at))
    }

    /// The place of `name` behind the operand; CEL gives a selection the place of its dot.
    fn name_span(&self, at: &IdedExpr, name: &str) -> Range<usize> {
        let span = self.span(at);
        match self.text[span.start..].find(name) {
            Some(offset) if offset <= 64 => span.start + offset..span.start + offset + name.len(),
            _ => span,
        }
    }

    fn condition(&mut self, expr: &IdedExpr) -> Result<Typed, Problem> {
        let typed = self.typed(expr)?;
        if typed.ty == Type::BOOLEAN {
            return Ok(typed);
        }
        Err(Problem::new(format!("a condition is true or false, and this is {}", typed.ty.words()), typed.span.clone())
            .hint("compare it with something, as in `x == 1`"))
    }

    fn typed(&mut self, expr: &IdedExpr) -> Result<Typed, Problem> {
        match self.value(expr)? {
            Value::Typed(typed) => Ok(typed),
            Value::Row { entity, .. } => Err(self
                .problem(expr, format!("this is a row of {entity}, not a value"))
                .hint(format!("name one of its fields, as in `{entity}.{}`", self.first_field(&entity)))),
            Value::Rows { entity, value: None, .. } => Err(self
                .problem(expr, format!("this is many rows of {entity}, not a value"))
                .hint("ask with exists(x, …), all(x, …) or size()")),
            Value::Rows { .. } => Err(self
                .problem(expr, "these are many values, not one")
                .hint("take sum(), avg(), min() or max() of them")),
        }
    }

    fn first_field(&self, entity: &str) -> String {
        self.schema.entity(entity).and_then(|e| e.fields.first()).map_or_else(String::new, |f| f.name.clone())
    }

    fn value(&mut self, expr: &IdedExpr) -> Result<Value, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX * 2 {
            return Err(self.problem(expr, format!("a rule nests at most {DEPTH_MAX} deep")));
        }
        let value = match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal).map(Value::Typed),
            Expr::Ident(name) => self.identifier(expr, name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && root == "params"
                {
                    return self.leave(self.param(expr, &select.field).map(Value::Typed));
                }
                let operand = self.value(&select.operand)?;
                self.select(expr, operand, &select.field)
            }
            Expr::Call(call) => self.call(expr, call),
            Expr::List(_) => Err(self.problem(expr, "a list stands only behind `in`")),
            _ => Err(self.problem(expr, "rules have no such construct")),
        };
        self.leave(value)
    }

    fn leave<T>(&mut self, value: Result<T, Problem>) -> Result<T, Problem> {
        self.depth = self.depth.saturating_sub(1);
        value
    }

    fn make(&self, expr: &IdedExpr, node: Node, ty: Type, is_nullable: bool) -> Typed {
        Typed { node, ty, is_nullable, span: self.span(expr) }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Result<Typed, Problem> {
        let (node, ty) = match literal {
            LiteralValue::Boolean(b) => (Node::Boolean(*b.inner()), Type::BOOLEAN),
            LiteralValue::Int(i) => (Node::Integer(*i.inner()), Type::INTEGER),
            LiteralValue::Double(d) => (Node::Double(*d.inner()), Type::DOUBLE),
            LiteralValue::String(s) => (Node::Text(s.inner().to_owned()), Type::STRING),
            LiteralValue::UInt(_) => return Err(self.problem(expr, "write the number without `u`")),
            LiteralValue::Bytes(_) => return Err(self.problem(expr, "rules have no bytes")),
            LiteralValue::Null => {
                return Err(self.problem(expr, "rules have no null").hint("ask with has(x) whether a value is there"));
            }
        };
        if let Node::Text(text) = &node
            && text.contains('\0')
        {
            return Err(self.problem(expr, "a text cannot hold a NUL"));
        }
        Ok(self.make(expr, node, ty, false))
    }

    fn identifier(&self, expr: &IdedExpr, name: &str) -> Result<Value, Problem> {
        // The innermost variable of a name hides the others.
        if let Some(var) = self.scopes.iter().rposition(|(variable, _)| variable == name) {
            return Ok(Value::Row { var, hops: vec![], entity: self.scopes[var].1.clone() });
        }
        if name == "now" {
            return Ok(Value::Typed(self.make(expr, Node::Now, Type::TIMESTAMP, false)));
        }
        let known = self.scopes.iter().map(|(variable, _)| variable.as_str()).chain(["now", "params"]);
        let problem = self.problem(expr, format!("`{name}` is not known here"));
        let root = &self.scopes[0].0;
        if self.schema.entity(root).is_some_and(|e| e.field(name).is_some()) {
            return Err(problem.hint(format!("did you mean `{root}.{name}`?")));
        }
        Err(problem.suggest(name, known))
    }

    fn param(&self, expr: &IdedExpr, name: &str) -> Result<Typed, Problem> {
        let Some(ty) = self.params.get(name) else {
            return Err(Problem::new(format!("there is no parameter `{name}`"), self.name_span(expr, name))
                .suggest(name, self.params.keys().map(String::as_str)));
        };
        let ty = match ty {
            ParamType::String => Type::STRING,
            ParamType::Integer => Type::INTEGER,
            ParamType::Double => Type::DOUBLE,
            ParamType::Boolean => Type::BOOLEAN,
        };
        Ok(self.make(expr, Node::Param(name.to_owned()), ty, false))
    }

    fn select(&self, expr: &IdedExpr, operand: Value, name: &str) -> Result<Value, Problem> {
        let (var, hops, entity) = match operand {
            Value::Row { var, hops, entity } => (var, hops, entity),
            Value::Rows { entity, .. } => {
                return Err(Problem::new(
                    format!("there are many rows of {entity}, so `.{name}` is not one value"),
                    self.name_span(expr, name),
                )
                .hint(format!("ask with exists(x, x.{name} …), or take map(x, x.{name}).sum()")));
            }
            Value::Typed(typed) => {
                return Err(Problem::new(format!("{} has no `.{name}`", typed.ty.words()), self.name_span(expr, name)));
            }
        };
        let of = self.entity(&entity)?;
        if let Some(field) = of.field(name) {
            // A row behind a link may be absent, and then all its fields are missing.
            let is_nullable = !field.is_required || !hops.is_empty();
            let node = Node::Field { var, hops, field: name.to_owned() };
            let mut typed = self.make(expr, node, Type::Field(field.ty), is_nullable);
            typed.span = self.name_span(expr, name);
            return Ok(Value::Typed(typed));
        }
        let Some(link) = of.link(name) else {
            return Err(unknown(of, name, self.name_span(expr, name)));
        };
        let entity = link.to.clone();
        if link.is_many {
            let many = Many { var, hops, link: name.to_owned(), inner: 0 };
            return Ok(Value::Rows { many, entity, filter: None, value: None });
        }
        let hops = hops.into_iter().chain([name.to_owned()]).collect();
        Ok(Value::Row { var, hops, entity })
    }

    fn entity(&self, name: &str) -> Result<&Entity, Problem> {
        self.schema.entity(name).ok_or_else(|| Problem::new(format!("there is no entity `{name}`"), 0..self.text.len()))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Value, Problem> {
        if let Some(target) = &call.target {
            return self.method(expr, target, call);
        }
        let typed = match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND, [a, b]) => self.both(expr, a, b, Node::And),
            (op::LOGICAL_OR, [a, b]) => self.both(expr, a, b, Node::Or),
            (op::LOGICAL_NOT, [a]) => {
                let a = self.condition(a)?;
                Ok(self.make(expr, Node::Not(Box::new(a)), Type::BOOLEAN, false))
            }
            (op::CONDITIONAL, [c, a, b]) => self.conditional(expr, c, a, b),
            (op::EQUALS, [a, b]) => self.compare(expr, Comparison::Equal, a, b),
            (op::NOT_EQUALS, [a, b]) => {
                let equal = self.compare(expr, Comparison::Equal, a, b)?;
                Ok(self.make(expr, Node::Not(Box::new(equal)), Type::BOOLEAN, false))
            }
            (op::LESS, [a, b]) => self.compare(expr, Comparison::Less, a, b),
            (op::LESS_EQUALS, [a, b]) => self.compare(expr, Comparison::LessOrEqual, a, b),
            (op::GREATER, [a, b]) => self.compare(expr, Comparison::Greater, a, b),
            (op::GREATER_EQUALS, [a, b]) => self.compare(expr, Comparison::GreaterOrEqual, a, b),
            (op::ADD, [a, b]) => self.arithmetic(expr, Arithmetic::Add, a, b),
            (op::SUBSTRACT, [a, b]) => self.arithmetic(expr, Arithmetic::Subtract, a, b),
            (op::MULTIPLY, [a, b]) => self.arithmetic(expr, Arithmetic::Multiply, a, b),
            (op::NEGATE, [a]) => self.negate(expr, a),
            (op::IN, [a, list]) => self.membership(expr, a, list),
            ("has", [a]) => self.has(expr, a),
            ("date" | "timestamp", args) => self.instant(expr, &call.func_name, args),
            (name, [n]) if SPANS.iter().any(|(unit, _)| *unit == name) => self.time_span(expr, name, n),
            (op::DIVIDE | op::MODULO, _) => {
                Err(self.problem(expr, "division is not built yet").hint("multiply the other side instead"))
            }
            (name, _) => Err(self.no_function(expr, name)),
        };
        typed.map(Value::Typed)
    }

    fn no_function(&self, expr: &IdedExpr, name: &str) -> Problem {
        if NOT_BUILT.contains(&name) {
            return self.problem(expr, format!("`{name}` is not built yet"));
        }
        if FUNCTIONS.contains(&name) {
            return self.problem(expr, format!("`{name}` is not used like this"));
        }
        self.problem(expr, format!("there is no function `{name}`")).suggest(name, FUNCTIONS)
    }

    fn both(
        &mut self,
        expr: &IdedExpr,
        a: &IdedExpr,
        b: &IdedExpr,
        make: impl Fn(Box<Typed>, Box<Typed>) -> Node,
    ) -> Result<Typed, Problem> {
        let (a, b) = (self.condition(a)?, self.condition(b)?);
        Ok(self.make(expr, make(Box::new(a), Box::new(b)), Type::BOOLEAN, false))
    }

    fn conditional(&mut self, expr: &IdedExpr, c: &IdedExpr, a: &IdedExpr, b: &IdedExpr) -> Result<Typed, Problem> {
        let (c, a, b) = (self.condition(c)?, self.typed(a)?, self.typed(b)?);
        if a.ty != b.ty {
            return Err(Problem::new(
                format!("both sides of `:` must be of one type, not {} and {}", a.ty.words(), b.ty.words()),
                b.span,
            ));
        }
        let (ty, is_nullable) = (a.ty, a.is_nullable || b.is_nullable);
        Ok(self.make(expr, Node::If(Box::new(c), Box::new(a), Box::new(b)), ty, is_nullable))
    }

    fn compare(
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
        Ok(self.make(expr, Node::Compare(comparison, Box::new(a), Box::new(b)), Type::BOOLEAN, false))
    }

    fn incomparable(&self, expr: &IdedExpr, a: &Typed, b: &Typed) -> Problem {
        let problem = self.problem(expr, format!("{} and {} cannot be compared", describe(a), describe(b)));
        match (a.ty, b.ty) {
            (x, Type::STRING) if x.is_time() => problem.hint("write date(\"2026-01-31\")"),
            (x, Type::STRING) if x.is_number() => problem.hint("write the number without quotes"),
            (Type::STRING, x) if x.is_number() => problem.hint("write the text in quotes"),
            _ => problem,
        }
    }

    fn arithmetic(&mut self, expr: &IdedExpr, what: Arithmetic, a: &IdedExpr, b: &IdedExpr) -> Result<Typed, Problem> {
        let (a, b) = (self.typed(a)?, self.typed(b)?);
        let ty = match (a.ty, what, b.ty) {
            (x, _, y) if x.is_number() && y.is_number() => Some(number_of(what, &a, &b)),
            (x, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) if x.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add, y) if y.is_time() => Some(Type::TIMESTAMP),
            (Type::Duration, Arithmetic::Add | Arithmetic::Subtract, Type::Duration) => Some(Type::Duration),
            (x, Arithmetic::Subtract, y) if x.is_time() && y.is_time() => Some(Type::Duration),
            _ => None,
        };
        let Some(ty) = ty else {
            let verb = ["added to", "subtracted from", "multiplied by"][what as usize];
            let (x, y) = if what == Arithmetic::Multiply { (&a, &b) } else { (&b, &a) };
            return Err(self.problem(expr, format!("{} cannot be {verb} {}", describe(x), describe(y))));
        };
        let is_nullable = a.is_nullable || b.is_nullable;
        Ok(self.make(expr, Node::Arithmetic(what, Box::new(a), Box::new(b)), ty, is_nullable))
    }

    fn negate(&mut self, expr: &IdedExpr, a: &IdedExpr) -> Result<Typed, Problem> {
        let a = self.typed(a)?;
        if !a.ty.is_number() {
            return Err(self.problem(expr, format!("{} has no negative", describe(&a))));
        }
        let zero = Typed { node: Node::Integer(0), ty: Type::INTEGER, is_nullable: false, span: a.span.clone() };
        let (ty, is_nullable) = (a.ty, a.is_nullable);
        Ok(self.make(expr, Node::Arithmetic(Arithmetic::Subtract, Box::new(zero), Box::new(a)), ty, is_nullable))
    }

    fn membership(&mut self, expr: &IdedExpr, a: &IdedExpr, list: &IdedExpr) -> Result<Typed, Problem> {
        let Expr::List(list) = &list.expr else {
            return Err(self.problem(list, "behind `in` stands a list, as in `x in [\"a\", \"b\"]`"));
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

    fn has(&mut self, expr: &IdedExpr, a: &IdedExpr) -> Result<Typed, Problem> {
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

    fn instant(&self, expr: &IdedExpr, function: &str, args: &[IdedExpr]) -> Result<Typed, Problem> {
        let texts: Option<Vec<&str>> = args
            .iter()
            .map(|arg| match &arg.expr {
                Expr::Literal(LiteralValue::String(s)) => Some(s.inner()),
                _ => None,
            })
            .collect();
        let read = |date: &str| {
            date.parse::<jiff::civil::Date>().map_err(|_| {
                self.problem(expr, format!("`{date}` is not a date")).hint("write it as in date(\"2026-01-31\")")
            })
        };
        match (function, texts.as_deref()) {
            ("date", Some([date])) => Ok(self.make(expr, Node::Date(read(date)?), Type::DATE, false)),
            ("date", Some([date, zone])) => {
                let at =
                    read(date)?.in_tz(zone).map_err(|_| self.problem(expr, format!("`{zone}` is not a time zone")))?;
                Ok(self.make(expr, Node::Timestamp(at.timestamp()), Type::TIMESTAMP, false))
            }
            ("timestamp", Some([text])) => {
                let at = text.parse().map_err(|_| {
                    self.problem(expr, format!("`{text}` is not an instant"))
                        .hint("write it as in timestamp(\"2026-01-31T09:00:00Z\")")
                })?;
                Ok(self.make(expr, Node::Timestamp(at), Type::TIMESTAMP, false))
            }
            _ => Err(self.problem(expr, format!("{function}() takes a text such as \"2026-01-31\""))),
        }
    }

    fn time_span(&mut self, expr: &IdedExpr, unit: &str, n: &IdedExpr) -> Result<Typed, Problem> {
        let n = self.typed(n)?;
        if n.ty != Type::INTEGER {
            return Err(self.problem(expr, format!("{unit}() takes an Integer, and this is {}", n.ty.words())));
        }
        let unit_us = SPANS.iter().find(|(name, _)| *name == unit).map_or(0, |(_, us)| *us);
        let is_nullable = n.is_nullable;
        Ok(self.make(expr, Node::Span(unit_us, Box::new(n)), Type::Duration, is_nullable))
    }

    fn method(&mut self, expr: &IdedExpr, target: &IdedExpr, call: &CallExpr) -> Result<Value, Problem> {
        let name = call.func_name.as_str();
        match self.value(target)? {
            Value::Typed(text) if text.ty == Type::STRING => {
                self.text_method(expr, text, name, &call.args).map(Value::Typed)
            }
            Value::Typed(typed) => {
                Err(Problem::new(format!("{} has no `.{name}()`", describe(&typed)), self.name_span(expr, name)))
            }
            Value::Row { entity, .. } => {
                Err(Problem::new(format!("a row of {entity} has no `.{name}()`"), self.name_span(expr, name)))
            }
            Value::Rows { many, entity, filter, value } => {
                self.rows_method(expr, (many, entity, filter, value), name, &call.args)
            }
        }
    }

    fn text_method(&mut self, expr: &IdedExpr, text: Typed, name: &str, args: &[IdedExpr]) -> Result<Typed, Problem> {
        let is_nullable = text.is_nullable;
        let text = Box::new(text);
        match (name, args) {
            ("startsWith" | "endsWith" | "contains", [other]) => {
                let other = self.typed(other)?;
                if other.ty != Type::STRING {
                    return Err(Problem::new(
                        format!("{name}() takes a String, and this is {}", other.ty.words()),
                        other.span,
                    ));
                }
                let make = match name {
                    "startsWith" => Node::StartsWith,
                    "endsWith" => Node::EndsWith,
                    _ => Node::Contains,
                };
                Ok(self.make(expr, make(text, Box::new(other)), Type::BOOLEAN, false))
            }
            ("lowerAscii", []) => Ok(self.make(expr, Node::LowerAscii(text), Type::STRING, is_nullable)),
            ("upperAscii", []) => Ok(self.make(expr, Node::UpperAscii(text), Type::STRING, is_nullable)),
            ("size", []) => Ok(self.make(expr, Node::Length(text), Type::INTEGER, is_nullable)),
            _ => Err(self.no_function(expr, name)),
        }
    }

    fn rows_method(
        &mut self,
        expr: &IdedExpr,
        (mut many, entity, filter, value): (Many, String, Option<Box<Typed>>, Option<Box<Typed>>),
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Value, Problem> {
        match (name, args) {
            ("exists" | "all" | "exists_one" | "filter" | "map", [variable, body]) if value.is_none() => {
                let (inner, body) = self.inside(variable, &entity, body, name == "map")?;
                many.inner = inner;
                let all_of = |extra: Typed| match filter.clone() {
                    Some(filter) => {
                        let span = extra.span.clone();
                        Typed { node: Node::And(filter, Box::new(extra)), ty: Type::BOOLEAN, is_nullable: false, span }
                    }
                    None => extra,
                };
                Ok(match name {
                    "exists" => {
                        Value::Typed(self.make(expr, Node::Exists(many, Box::new(all_of(body))), Type::BOOLEAN, false))
                    }
                    "all" if filter.is_some() => {
                        return Err(self
                            .problem(expr, "filter(…).all(…) is not built yet")
                            .hint("write all(x, !(filter) || …)"));
                    }
                    "all" => Value::Typed(self.make(expr, Node::All(many, Box::new(body)), Type::BOOLEAN, false)),
                    "exists_one" => Value::Typed(self.exactly_one(expr, many, all_of(body))),
                    "filter" => Value::Rows { many, entity, filter: Some(Box::new(all_of(body))), value: None },
                    _ => Value::Rows { many, entity, filter, value: Some(Box::new(body)) },
                })
            }
            ("size", []) if value.is_none() => {
                many.inner = self.scopes.len();
                let node = Node::Aggregate { many, filter, function: Function::Count, value: None };
                Ok(Value::Typed(self.make(expr, node, Type::INTEGER, false)))
            }
            ("sum" | "avg" | "min" | "max", []) => match value {
                Some(value) => self.aggregate(expr, many, filter, name, value).map(Value::Typed),
                None => Err(self
                    .problem(expr, format!("{name}() needs values, and these are rows of {entity}"))
                    .hint(format!("write map(x, x.{}).{name}()", self.first_field(&entity)))),
            },
            _ => Err(self.no_function(expr, name)),
        }
    }

    fn exactly_one(&self, expr: &IdedExpr, many: Many, filter: Typed) -> Typed {
        let node = Node::Aggregate { many, filter: Some(Box::new(filter)), function: Function::Count, value: None };
        let count = self.make(expr, node, Type::INTEGER, false);
        let one = self.make(expr, Node::Integer(1), Type::INTEGER, false);
        self.make(expr, Node::Compare(Comparison::Equal, Box::new(count), Box::new(one)), Type::BOOLEAN, false)
    }

    /// Checks `body` with a variable for one row of `entity`.
    fn inside(
        &mut self,
        variable: &IdedExpr,
        entity: &str,
        body: &IdedExpr,
        is_value: bool,
    ) -> Result<(usize, Typed), Problem> {
        let Expr::Ident(name) = &variable.expr else {
            return Err(self.problem(variable, "here stands a name for one of the rows, as in exists(x, x.…)"));
        };
        if self.scopes.len() > NESTING_MAX {
            return Err(self.problem(variable, format!("links to many rows nest at most {NESTING_MAX} deep")));
        }
        let inner = self.scopes.len();
        self.scopes.push((name.clone(), entity.to_owned()));
        let body = if is_value { self.typed(body) } else { self.condition(body) };
        self.scopes.pop();
        Ok((inner, body?))
    }

    fn aggregate(
        &self,
        expr: &IdedExpr,
        many: Many,
        filter: Option<Box<Typed>>,
        name: &str,
        value: Box<Typed>,
    ) -> Result<Typed, Problem> {
        let (function, ty, is_nullable) = match name {
            "sum" => (Function::Sum, value.ty, false),
            "avg" => (Function::Average, Type::DOUBLE, true),
            "min" => (Function::Minimum, value.ty, true),
            _ => (Function::Maximum, value.ty, true),
        };
        let needs_number = matches!(function, Function::Sum | Function::Average);
        if needs_number && !value.ty.is_number() || value.ty == Type::BOOLEAN {
            return Err(self.problem(expr, format!("{name}() cannot take {}", describe(&value))));
        }
        let node = Node::Aggregate { many, filter, function, value: Some(value) };
        Ok(self.make(expr, node, ty, is_nullable))
    }
}

/// `booking.amount is a Decimal` would be long: a field is named, a value has its type.
fn describe(typed: &Typed) -> String {
    match &typed.node {
        Node::Field { field, .. } => format!("`{field}` ({})", typed.ty.words()),
        _ => typed.ty.words(),
    }
}

fn comparable(a: Type, b: Type) -> bool {
    a == b || a.is_number() && b.is_number() || a.is_time() && b.is_time()
}

/// The type of `a ∘ b`: a Double makes a Double, unless it is a literal beside a Decimal.
fn number_of(what: Arithmetic, a: &Typed, b: &Typed) -> Type {
    use FieldType::{Decimal, Double};
    let of = |x: &Typed, other: &Typed| match (x.ty, &x.node, other.ty) {
        (Type::Field(Double), Node::Double(d), Type::Field(Decimal { .. })) => {
            Type::Field(Decimal { scale: scale_of(*d) })
        }
        (ty, ..) => ty,
    };
    match (of(a, b), of(b, a)) {
        (Type::Field(Double), _) | (_, Type::Field(Double)) => Type::DOUBLE,
        (Type::Field(Decimal { scale: x }), Type::Field(Decimal { scale: y })) if what == Arithmetic::Multiply => {
            Type::Field(Decimal { scale: x + y })
        }
        (Type::Field(Decimal { scale: x }), Type::Field(Decimal { scale: y })) => {
            Type::Field(Decimal { scale: x.max(y) })
        }
        (Type::Field(Decimal { scale }), _) | (_, Type::Field(Decimal { scale })) => Type::Field(Decimal { scale }),
        _ => Type::INTEGER,
    }
}

/// Digits behind the point in the shortest text that reads back as `d`: what the author wrote.
pub(super) fn scale_of(d: f64) -> u8 {
    let text = format!("{d}");
    let digits = text.split_once('.').map_or(0, |(_, part)| part.len());
    u8::try_from(digits).unwrap_or(u8::MAX).min(18)
}
