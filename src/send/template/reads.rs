//! What a template reads, found by walking its syntax tree.
//!
//! minijinja's own `undeclared_variables` loses what loops read and what a `set` renames. Here every name knows where it
//! comes from: `{% set c = booking.customer %}{{ c.name }}` reads `booking.customer.name`, and
//! `{% for i in booking.items %}{{ i.price }}` reads `price` of each element of `booking.items`. A name that is set only
//! in some cases is taken to be both, so that no read is missed; one too many is an error that the author sees.

use std::{collections::BTreeSet, ops::Range};

use minijinja::{
    Environment, Value,
    machinery::{
        ast::{Call, CallArg, Expr, Filter, Macro, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
};

use super::{
    Read, TemplateProblem,
    compose::Composed,
    filters,
    names::{Names, Scope, Way, extend},
};
use crate::rule::nearest;

/// What a template may call. `debug` is not among them: it prints all that is known about a person.
const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];
/// Filters that give back the elements they were given, or some of them.
const KEEPERS: [&str; 9] =
    ["sort", "reverse", "unique", "list", "slice", "select", "reject", "selectattr", "rejectattr"];
/// Filters whose first argument names a field of each element.
const BY_FIELD: [&str; 3] = ["selectattr", "rejectattr", "groupby"];
/// What a misspelt filter or test may have been meant to be.
const FILTERS: [&str; 28] = [
    "abs",
    "capitalize",
    "date",
    "datetime",
    "default",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "replace",
    "reverse",
    "round",
    "safe",
    "sort",
    "sum",
    "time",
    "title",
    "trim",
    "upper",
];
const TESTS: [&str; 9] =
    ["defined", "undefined", "none", "odd", "even", "divisibleby", "startingwith", "endingwith", "in"];

/// All that one part reads, with the fragments in it.
pub(super) fn collect(source: &Composed<'_>, environment: &Environment<'_>) -> Result<Vec<Read>, Vec<TemplateProblem>> {
    let tree = parse(&source.text, source.path(), SyntaxConfig::default())
        .map_err(|error| vec![source.syntax_problem(&error)])?;
    let mut walk = Walk { source, environment, nodes: vec![], problems: vec![], names: Names::default() };
    walk.statement(&tree);
    if walk.problems.is_empty() { Ok(walk.finish()) } else { Err(walk.problems) }
}

/// The names of all that a text of ours reads; none if it is no template.
pub(super) fn names(text: &str, environment: &Environment<'_>) -> Option<BTreeSet<Vec<String>>> {
    let source = Composed::ours_alone(text);
    let found = collect(&source, environment).ok()?;
    Some(found.into_iter().map(|read| read.names).collect())
}

/// A read, and the list of whose elements it is one.
struct Node {
    of: Option<usize>,
    read: Read,
}

struct Walk<'w> {
    source: &'w Composed<'w>,
    environment: &'w Environment<'w>,
    nodes: Vec<Node>,
    problems: Vec<TemplateProblem>,
    names: Names,
}

impl Walk<'_> {
    /// Elements come behind their list, so that going backwards each is complete when its list takes it.
    fn finish(mut self) -> Vec<Read> {
        let mut reads = vec![];
        while let Some(Node { of, mut read }) = self.nodes.pop() {
            read.elements.reverse();
            match of.and_then(|list| self.nodes.get_mut(list)) {
                Some(list) => list.read.elements.push(read),
                None => reads.push(read),
            }
        }
        reads.reverse();
        reads
    }

    fn problem(&mut self, span: Range<usize>, message: String, hint: Option<String>) {
        let problem = self.source.problem(span, message, hint);
        self.problems.push(problem);
    }

    // ---- names

    /// Each name of a target gets the value, or an unknown part of it.
    fn assign(&mut self, target: &Expr<'_>, value: &Expr<'_>) {
        match (target, self.ways(value)) {
            // Nothing is read until the new name is.
            (Expr::Var(name), Some(ways)) => self.names.define(name.id, ways),
            (_, Some(ways)) => {
                self.record_all(ways, value);
                self.define_own(target);
            }
            (_, None) => {
                self.expression(value);
                self.define_own(target);
            }
        }
    }

    fn define_own(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(name) => self.names.define(name.id, vec![Way::Own]),
            Expr::List(list) => list.items.iter().for_each(|item| self.define_own(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.define_own(item)),
            // `{% set ns.count = 1 %}` changes what a name has, not what it is.
            _ => {}
        }
    }

    fn scoped(&mut self, inside: impl FnOnce(&mut Self)) -> Scope {
        self.names.open();
        inside(self);
        self.names.close()
    }

    // ---- statements

    fn block(&mut self, body: &[Stmt<'_>]) {
        body.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.block(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                if each.recursive {
                    self.problem(
                        span_of(&each.iter),
                        "a recursive loop reads fields that cannot be known beforehand".to_owned(),
                        None,
                    );
                }
                let elements = self.elements(&each.iter);
                self.scoped(|walk| {
                    if let Expr::Var(name) = &each.target {
                        walk.names.define(name.id, elements);
                    } else {
                        walk.record_all(elements, &each.iter);
                        walk.define_own(&each.target);
                    }
                    walk.names.define("loop", vec![Way::Own]);
                    each.filter_expr.iter().for_each(|filter| walk.expression(filter));
                    walk.block(&each.body);
                });
                self.block(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                let one = self.scoped(|walk| walk.block(&condition.true_body));
                let other = self.scoped(|walk| walk.block(&condition.false_body));
                self.names.join(one, other);
            }
            Stmt::WithBlock(with) => {
                self.scoped(|walk| {
                    with.assignments.iter().for_each(|(target, value)| walk.assign(target, value));
                    walk.block(&with.body);
                });
            }
            Stmt::Set(set) => self.assign(&set.target, &set.expr),
            Stmt::SetBlock(set) => {
                self.block(&set.body);
                set.filter.iter().for_each(|filter| self.expression(filter));
                self.define_own(&set.target);
            }
            Stmt::AutoEscape(escape) => {
                self.expression(&escape.enabled);
                self.block(&escape.body);
            }
            Stmt::FilterBlock(filter) => {
                self.block(&filter.body);
                self.expression(&filter.filter);
            }
            Stmt::Macro(declared) => {
                self.names.define(declared.name, vec![Way::Own]);
                self.body_of(declared);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call);
                self.body_of(&block.macro_decl);
            }
            Stmt::Do(call) => self.call(&call.call),
            #[allow(unreachable_patterns, reason = "further statements exist if a feature of minijinja is switched on")]
            _ => self.problem(0..0, "a template cannot include, import or extend another one".to_owned(), None),
        }
    }

    fn body_of(&mut self, declared: &Macro<'_>) {
        declared.defaults.iter().for_each(|default| self.expression(default));
        self.scoped(|walk| {
            declared.args.iter().for_each(|name| walk.define_own(name));
            walk.names.define("caller", vec![Way::Own]);
            walk.block(&declared.body);
        });
    }

    // ---- expressions

    fn expression(&mut self, expr: &Expr<'_>) {
        if let Some(ways) = self.ways(expr) {
            return self.record_all(ways, expr);
        }
        match expr {
            Expr::Slice(_) => {
                self.elements(expr);
            }
            Expr::GetAttr(get) => self.expression(&get.expr),
            Expr::GetItem(get) => {
                self.expression(&get.expr);
                self.expression(&get.subscript_expr);
            }
            Expr::UnaryOp(op) => self.expression(&op.expr),
            Expr::BinOp(op) => {
                self.expression(&op.left);
                self.expression(&op.right);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                compare.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(condition) => {
                self.expression(&condition.test_expr);
                self.expression(&condition.true_expr);
                condition.false_expr.iter().for_each(|e| self.expression(e));
            }
            Expr::Filter(filter) => self.filter(filter, expr),
            Expr::Test(test) => {
                self.check_name("test", test.name, &TESTS, expr);
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => list.items.iter().for_each(|e| self.expression(e)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|e| self.expression(e)),
            Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|e| self.expression(e)),
            Expr::Var(_) | Expr::Const(_) => {}
        }
    }

    fn arguments(&mut self, args: &[CallArg<'_>]) {
        for arg in args {
            match arg {
                CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                    self.expression(e)
                }
            }
        }
    }

    fn call(&mut self, call: &Call<'_>) {
        match &call.expr {
            Expr::Var(name) if self.names.is_defined(name.id) || FUNCTIONS.contains(&name.id) => {}
            Expr::Var(name) => {
                let hint = nearest(name.id, FUNCTIONS).map(|near| format!("did you mean `{near}`?"));
                self.problem(span_of(&call.expr), format!("there is no function `{}`", name.id), hint);
            }
            Expr::GetAttr(method) => match self.ways(&method.expr) {
                Some(ways) if ways.iter().any(|way| *way != Way::Own) => {
                    let hint = self
                        .exists("filter", method.name)
                        .then(|| format!("write it as a filter: `… | {}`", method.name));
                    self.problem(span_of(&call.expr), format!("a field has no method `{}`", method.name), hint);
                }
                Some(_) => {}
                None => self.expression(&method.expr),
            },
            other => self.expression(other),
        }
        self.arguments(&call.args);
    }

    fn filter(&mut self, filter: &Filter<'_>, expr: &Expr<'_>) {
        self.check_name("filter", filter.name, &FILTERS, expr);
        if filters::is_moment(filter.name) {
            self.check_moment(filter);
        }
        let has_field = field_argument(filter).is_some();
        if has_field || KEEPERS.contains(&filter.name) {
            self.elements(expr);
            return;
        }
        filter.expr.iter().for_each(|e| self.expression(e));
        self.arguments(&filter.args);
    }

    /// A format or zone that is written out is checked now, not for each message.
    fn check_moment(&mut self, filter: &Filter<'_>) {
        for (position, name, check) in
            [(0, "format", filters::format_problem as fn(&str) -> Option<String>), (1, "tz", filters::zone_problem)]
        {
            let Some(argument) = argument(filter, position, name) else { continue };
            let constant = argument.as_const();
            if let Some(message) = constant.as_ref().and_then(Value::as_str).and_then(check) {
                self.problem(span_of(argument), message, None);
            }
        }
    }

    fn check_name(&mut self, kind: &str, name: &str, known: &[&str], expr: &Expr<'_>) {
        if !self.exists(kind, name) {
            let hint = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.problem(span_of(expr), format!("there is no {kind} `{name}`"), hint);
        }
    }

    /// minijinja has tests for the names of filters and tests.
    fn exists(&self, kind: &str, name: &str) -> bool {
        self.environment.empty_state().perform_test(kind, &[Value::from(name)]).unwrap_or(true)
    }

    // ---- ways

    /// Where an expression comes from, if it is a variable, a field, or one element of a list. Nothing else is recorded.
    fn ways(&mut self, expr: &Expr<'_>) -> Option<Vec<Way>> {
        match expr {
            Expr::Var(name) => Some(self.names.lookup(name.id)),
            Expr::GetAttr(get) => Some(extend(self.ways(&get.expr)?, get.name)),
            Expr::GetItem(get) => {
                let ways = self.ways(&get.expr)?;
                self.item(ways, &get.subscript_expr, expr)
            }
            Expr::Filter(filter) if filter.name == "attr" => {
                let ways = self.ways(filter.expr.as_ref()?)?;
                self.item(ways, argument(filter, 0, "key")?, expr)
            }
            Expr::Filter(filter) if matches!(filter.name, "first" | "last") && filter.args.is_empty() => {
                let list = filter.expr.as_ref()?;
                Some(self.elements(list))
            }
            _ => None,
        }
    }

    fn item(&mut self, ways: Vec<Way>, subscript: &Expr<'_>, whole: &Expr<'_>) -> Option<Vec<Way>> {
        match subscript.as_const() {
            Some(name) if name.as_str().is_some() => Some(extend(ways, name.as_str()?)),
            Some(_) => Some(self.record_lists(ways, whole)),
            None => {
                self.expression(subscript);
                if let Some(Way::Field { names, .. }) = ways.iter().find(|way| **way != Way::Own) {
                    let message =
                        format!("which field of `{}` is read cannot be known before it is sent", names.join("."));
                    self.problem(span_of(whole), message, Some("name the field".to_owned()));
                }
                Some(vec![Way::Own])
            }
        }
    }

    /// Where the elements of a list come from; the list itself is recorded as read.
    fn elements(&mut self, list: &Expr<'_>) -> Vec<Way> {
        match list {
            Expr::Slice(slice) => {
                let bounds = [&slice.start, &slice.stop, &slice.step];
                bounds.into_iter().flatten().for_each(|bound| self.expression(bound));
                self.elements(&slice.expr)
            }
            Expr::Filter(filter) if KEEPERS.contains(&filter.name) || field_argument(filter).is_some() => {
                self.check_name("filter", filter.name, &FILTERS, list);
                let Some(inner) = &filter.expr else { return vec![Way::Own] };
                let ways = self.elements(inner);
                if let Some(field) = field_argument(filter) {
                    self.record_field(&ways, field);
                }
                self.arguments(&filter.args);
                if KEEPERS.contains(&filter.name) { ways } else { vec![Way::Own] }
            }
            _ => match self.ways(list) {
                Some(ways) => self.record_lists(ways, list),
                None => {
                    self.expression(list);
                    vec![Way::Own]
                }
            },
        }
    }

    fn record_field(&mut self, elements: &[Way], field: &Expr<'_>) {
        let constant = field.as_const();
        match constant.as_ref().and_then(Value::as_str) {
            // minijinja reads `a.b` here as a path.
            Some(path) => {
                let ways = path.split('.').fold(elements.to_vec(), extend);
                self.record_all(ways, field);
            }
            None if constant.is_none() && elements.iter().any(|way| *way != Way::Own) => {
                let message = "which field of the elements is read cannot be known before it is sent".to_owned();
                self.problem(span_of(field), message, Some("name the field".to_owned()));
            }
            None => {}
        }
    }

    fn record_lists(&mut self, ways: Vec<Way>, expr: &Expr<'_>) -> Vec<Way> {
        let elements = ways.into_iter().map(|way| match self.record(way, expr) {
            Some(node) => Way::Field { of: Some(node), names: vec![], is_maybe: false },
            None => Way::Own,
        });
        elements.collect()
    }

    fn record_all(&mut self, ways: Vec<Way>, expr: &Expr<'_>) {
        for way in ways {
            self.record(way, expr);
        }
    }

    fn record(&mut self, way: Way, expr: &Expr<'_>) -> Option<usize> {
        let Way::Field { of, names, is_maybe } = way else { return None };
        // `{% if a %}{% set greeting = … %}{% endif %}{{ greeting }}`: not a variable, nothing in the other case.
        if is_maybe && names.len() == 1 {
            return None;
        }
        let read = self.source.read(names, span_of(expr));
        self.nodes.push(Node { of, read });
        Some(self.nodes.len() - 1)
    }
}

fn argument<'e, 's>(filter: &'e Filter<'s>, position: usize, name: &str) -> Option<&'e Expr<'s>> {
    let mut positional = filter.args.iter().filter_map(|arg| if let CallArg::Pos(e) = arg { Some(e) } else { None });
    let named = filter.args.iter().find_map(|arg| match arg {
        CallArg::Kwarg(key, e) if *key == name => Some(e),
        _ => None,
    });
    positional.nth(position).or(named)
}

/// The argument that names a field of each element, as in `sort(attribute="price")`.
fn field_argument<'e, 's>(filter: &'e Filter<'s>) -> Option<&'e Expr<'s>> {
    let position = if BY_FIELD.contains(&filter.name) { 0 } else { usize::MAX };
    argument(filter, position, "attribute")
}

fn span_of(expr: &Expr<'_>) -> Range<usize> {
    let span = expr.span();
    span.start_offset as usize..span.end_offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_exist() {
        let environment = super::super::environment();
        let source = Composed::ours_alone("");
        let walk = Walk {
            source: &source,
            environment: &environment,
            nodes: vec![],
            problems: vec![],
            names: Names::default(),
        };
        assert!(FILTERS.iter().chain(&KEEPERS).chain(&BY_FIELD).all(|name| walk.exists("filter", name)));
        assert!(TESTS.iter().all(|name| walk.exists("test", name)));
        assert!(!walk.exists("filter", "uper") && !walk.exists("test", "emty"));
    }
}
