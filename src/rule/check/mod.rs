//! From CEL's syntax tree to a typed rule. Errors are in the words of somebody who writes campaigns.

mod audiences;
mod conditions;
mod operators;
mod rows;
mod text;
mod time;
mod words;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    ops::Range,
    rc::Rc,
};

use cel::{
    Env, IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators as op},
};

pub use self::audiences::audiences_in;
use self::{conditions::Use, rows::ROWS_METHODS, time::SPANS};
use super::{
    ParamType, Rule,
    ast::{Arithmetic, Comparison, Many, Node, Part, Type, Typed},
    path::unknown,
    problem::Problem,
    schema::{Entity, Schema},
};

/// What a problem of conditions that use each other in turn is called.
const CIRCLE: &str = "circle";
/// More is wrong with a rule than its author reads at once.
const PROBLEMS_MAX: usize = 20;
/// Rules that are kept parsed, on each thread; of the longest ones these are some dozen MiB.
const PARSED_MAX: usize = 512;
/// A rule is read by people; longer ones belong into several audiences.
const TEXT_BYTES_MAX: usize = 8_192;
/// Deeper trees could exhaust the stack of the parser and of this walk.
const DEPTH_MAX: usize = 32;
/// Conditions that use each other could make a short rule a huge one.
const PARTS_MAX: usize = 5_000;

/// Checks that `text` is a condition on rows of `entity`.
pub fn check(text: &str, schema: &Schema, entity: &str, params: &BTreeMap<String, ParamType>) -> Result<Rule, Problem> {
    check_as(text, schema, entity, params, |checker, tree| checker.condition(tree))
}

/// Checks that `text` is a value of each row of `entity`, such as a count of its links.
pub fn check_value(text: &str, schema: &Schema, entity: &str) -> Result<Rule, Problem> {
    check_as(text, schema, entity, &BTreeMap::new(), |checker, tree| checker.typed(tree))
}

fn check_as(
    text: &str,
    schema: &Schema,
    entity: &str,
    params: &BTreeMap<String, ParamType>,
    kind: impl FnOnce(&mut Checker<'_>, &IdedExpr) -> Result<Typed, Problem>,
) -> Result<Rule, Problem> {
    if schema.entity(entity).is_none() {
        return Err(Problem::new(format!("there is no entity `{entity}`"), 0..text.len())
            .suggest(entity, schema.entities.keys().map(String::as_str)));
    }
    if schema.entity(entity).is_some_and(|e| e.is_history) {
        return Err(Problem::new(
            format!("`{entity}` is history that the store keeps; no set starts from it"),
            0..text.len(),
        )
        .hint("start from the profile and ask its `messages`"));
    }
    let parsed = parse(text)?;
    let mut checker = Checker {
        text,
        schema,
        params,
        places: &parsed.places,
        scopes: vec![(entity.to_owned(), entity.to_owned())],
        depth: 0,
        parts: 0,
        use_of: None,
        others: vec![],
    };
    match kind(&mut checker, &parsed.tree) {
        Ok(root) => Ok(Rule { root, text: text.to_owned() }),
        Err(problem) => Err(Problem { others: checker.others, ..problem }),
    }
}

/// Checks what can be told without a schema: that the text is an expression.
pub fn check_syntax(text: &str) -> Result<(), Problem> {
    parse(text).map(drop)
}

/// Checks a named condition of an entity by itself; places are bytes of its own text.
pub fn check_condition(schema: &Schema, entity: &str, name: &str) -> Result<(), Problem> {
    let Some(condition) = schema.entity(entity).and_then(|e| e.condition(name)) else {
        return Err(Problem::new(format!("{entity} has no condition `{name}`"), 0..0));
    };
    let params = BTreeMap::new();
    let used = format!("{entity}.{name}");
    // What is in a circle says so itself; what only uses one does not.
    let is_own = |problem: &Problem| problem.id == CIRCLE && problem.message.contains(&used);
    let own = |problem: Problem| Problem { is_consequence: problem.is_consequence && !is_own(&problem), ..problem };
    check(&condition.text, schema, entity, &params).map_err(own)?;
    // Read in its own name, a circle shows from the beginning.
    let circle = |problem| own(Problem { span: 0..condition.text.len(), ..problem });
    check(&used, schema, entity, &params).map(drop).map_err(circle)
}

/// A text's syntax tree, and where its parts stand.
pub(super) struct Parsed {
    pub tree: IdedExpr,
    places: SourceInfo,
}

impl Parsed {
    pub fn span(&self, text: &str, expr: &IdedExpr) -> Range<usize> {
        span(text, &self.places, expr)
    }
}

/// CEL's offsets count characters and include the last one.
fn span(text: &str, places: &SourceInfo, expr: &IdedExpr) -> Range<usize> {
    let Some((start, stop)) = places.offset_for(expr.id) else { return 0..text.len() };
    let byte = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(i, _)| i);
    let (start, stop) = (byte(start as usize), byte(stop as usize + 1));
    start..stop.max(start)
}

thread_local! {
    // A rule is read where it stands, for the audiences that it asks about, and again for each campaign that uses it;
    // to parse it costs more than all the rest.
    static PARSED: RefCell<HashMap<String, Rc<Parsed>>> = RefCell::default();
}

/// The syntax tree of a text that is not too long and not too deep.
pub(super) fn parse(text: &str) -> Result<Rc<Parsed>, Problem> {
    if let Some(known) = PARSED.with_borrow(|known| known.get(text).cloned()) {
        return Ok(known);
    }
    let parsed = Rc::new(parse_anew(text)?);
    PARSED.with_borrow_mut(|known| {
        if known.len() >= PARSED_MAX {
            known.clear();
        }
        known.insert(text.to_owned(), parsed.clone());
    });
    Ok(parsed)
}

fn parse_anew(text: &str) -> Result<Parsed, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::new(format!("a rule has at most {TEXT_BYTES_MAX} bytes"), 0..text.len()));
    }
    if brackets_deep(text) > DEPTH_MAX {
        return Err(Problem::new(format!("a rule nests at most {DEPTH_MAX} deep"), 0..text.len()));
    }
    // An environment without macros leaves `exists`, `has` and the like plain calls.
    let parser = Env::default().parser().max_recursion_depth(DEPTH_MAX as u16 * 2);
    let parsed = parser.parse_with_source_info(text).map_err(|errors| syntax_problem(text, &errors));
    parsed.map(|(tree, places)| Parsed { tree, places })
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
    // The parser lists every token that could follow, which tells an author nothing.
    let unexpected = message.split_once("input '").and_then(|(_, rest)| rest.split_once('\''));
    match unexpected {
        Some(("<EOF>", _)) if text.trim().is_empty() => Problem::new("the rule is empty", start..end),
        Some(("<EOF>", _)) => {
            Problem::new("the rule ends too early", start..end).hint("something is missing at the end")
        }
        Some((word, _)) if message.contains("mismatched") || message.contains("extraneous") => {
            Problem::new(format!("`{word}` cannot stand here"), start..(start + word.len()).min(text.len()))
                .hint("conditions are joined by && and ||, and a function is called as in x.startsWith(\"a\")")
        }
        _ => Problem::new(format!("this is not a rule: {message}"), start..end),
    }
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
    places: &'a SourceInfo,
    /// Variables in scope: name and entity; the index is the variable's number.
    scopes: Vec<(String, String)>,
    depth: usize,
    /// Parts read so far, those of the conditions that are used among them.
    parts: usize,
    /// Set while a named condition is read where a rule uses it.
    use_of: Option<Use>,
    /// What is wrong beside the first problem.
    others: Vec<Problem>,
}

impl Checker<'_> {
    fn span(&self, expr: &IdedExpr) -> Range<usize> {
        self.use_of.as_ref().map_or_else(|| span(self.text, self.places, expr), |use_of| use_of.span.clone())
    }

    fn problem(&self, at: &IdedExpr, message: impl Into<String>) -> Problem {
        Problem::new(message, self.span(at))
    }

    /// The place of `name` behind the operand; CEL gives a selection the place of its dot.
    fn name_span(&self, at: &IdedExpr, name: &str) -> Range<usize> {
        let span = self.span(at);
        if self.use_of.is_some() {
            return span;
        }
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

    /// The links to many rows that could have been meant.
    fn many_links(&self, entity: &str) -> String {
        let links = self.schema.entity(entity).map(|e| e.links.iter().filter(|l| l.is_many).map(|l| l.name.as_str()));
        match links.map(|names| names.collect::<Vec<_>>()).unwrap_or_default().as_slice() {
            [] => format!("{entity} has no link to many rows"),
            names => format!("ask the rows behind a link: {}", names.join(", ")),
        }
    }

    fn first_field(&self, entity: &str) -> String {
        self.schema.entity(entity).and_then(|e| e.fields.first()).map_or_else(String::new, |f| f.name.clone())
    }

    fn value(&mut self, expr: &IdedExpr) -> Result<Value, Problem> {
        self.depth += 1;
        self.parts += 1;
        if self.depth > DEPTH_MAX * 2 {
            return Err(self.problem(expr, format!("a rule nests at most {DEPTH_MAX} deep")));
        }
        if self.parts > PARTS_MAX {
            return Err(self.problem(expr, format!("a rule with its conditions has at most {PARTS_MAX} parts")));
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
        let visible = self.use_of.as_ref().map_or(0, |use_of| use_of.visible);
        if let Some(var) = self.scopes[visible..].iter().rposition(|(variable, _)| variable == name) {
            let var = visible + var;
            return Ok(Value::Row { var, hops: vec![], entity: self.scopes[var].1.clone() });
        }
        if let Some(Use { var, hops, entity, .. }) = self.use_of.as_ref().filter(|use_of| use_of.entity == name) {
            return Ok(Value::Row { var: *var, hops: hops.clone(), entity: entity.clone() });
        }
        if name == "now" {
            return Ok(Value::Typed(self.make(expr, Node::Now, Type::TIMESTAMP, false)));
        }
        let known = self.scopes[visible..].iter().map(|(variable, _)| variable.as_str()).chain(["now", "params"]);
        let problem = self.problem(expr, format!("`{name}` is not known here"));
        let root = self.use_of.as_ref().map_or(&self.scopes[0].0, |use_of| &use_of.entity);
        if self.schema.entity(root).is_some_and(|e| e.field(name).is_some()) {
            return Err(problem.hint(format!("did you mean `{root}.{name}`?")));
        }
        Err(problem.suggest(name, known))
    }

    fn param(&self, expr: &IdedExpr, name: &str) -> Result<Typed, Problem> {
        if self.use_of.is_some() {
            return Err(self.problem(expr, "a named condition has no parameters"));
        }
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
        let span = self.name_span(expr, name);
        Ok(Typed { span, ..self.make(expr, Node::Param(name.to_owned()), ty, false) })
    }

    fn select(&mut self, expr: &IdedExpr, operand: Value, name: &str) -> Result<Value, Problem> {
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
        if let Some(condition) = of.condition(name) {
            let (span, text) = (self.name_span(expr, name), condition.text.clone());
            return self.named(name, &text, Use { var, hops, entity, span, visible: 0, within: vec![] });
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
            return self.method(expr, target, &call.func_name, &call.args);
        }
        if let ("size", [of]) = (call.func_name.as_str(), call.args.as_slice()) {
            return self.method(expr, of, "size", &[]);
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
            (op::IN, [a, list]) if audiences::is_call(list) => self.in_audience(expr, a, list),
            (op::IN, [a, list]) => self.membership(expr, a, list),
            ("audience", _) => Err(self.lonely_audience(expr)),
            ("has", [a]) => self.has(expr, a),
            ("date" | "timestamp", args) => self.instant(expr, &call.func_name, args),
            (name, [n]) if SPANS.iter().any(|(unit, _)| *unit == name) => self.time_span(expr, name, n),
            (op::DIVIDE, [a, b]) => self.arithmetic(expr, Arithmetic::Divide, a, b),
            (op::MODULO, [a, b]) => self.arithmetic(expr, Arithmetic::Remainder, a, b),
            (name, _) => Err(self.no_function(expr, name)),
        };
        typed.map(Value::Typed)
    }

    fn method(&mut self, expr: &IdedExpr, target: &IdedExpr, name: &str, args: &[IdedExpr]) -> Result<Value, Problem> {
        match self.value(target)? {
            Value::Typed(text) if text.ty == Type::STRING => self.text_method(expr, text, name, args).map(Value::Typed),
            Value::Typed(time) if time.ty.is_time() && Part::named(name).is_some() => {
                self.part(expr, time, name, args).map(Value::Typed)
            }
            Value::Typed(typed) => {
                let problem =
                    Problem::new(format!("{} has no `.{name}()`", describe(&typed)), self.name_span(expr, name));
                Err(if matches!(name, "sum" | "avg" | "min" | "max" | "exists" | "all" | "filter" | "map") {
                    problem.hint("only rows behind a link to many can be counted, summed or searched")
                } else {
                    problem
                })
            }
            Value::Row { entity, .. } if ROWS_METHODS.contains(&name) => Err(Problem::new(
                format!("a row of {entity} is one row, so it has no `.{name}()`"),
                self.name_span(expr, name),
            )
            .hint(self.many_links(&entity))),
            Value::Row { entity, .. } => {
                Err(Problem::new(format!("a row of {entity} has no `.{name}()`"), self.name_span(expr, name)))
            }
            Value::Rows { many, entity, filter, value } => {
                self.rows_method(expr, (many, entity, filter, value), name, args)
            }
        }
    }
}

/// `booking.amount is a Decimal` would be long: a field is named, a value has its type.
fn describe(typed: &Typed) -> String {
    match &typed.node {
        Node::Field { field, .. } => format!("`{field}` ({})", typed.ty.words()),
        _ => typed.ty.words(),
    }
}
