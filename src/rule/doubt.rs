//! What is legal in a rule and most likely not meant: a condition that never changes, a negation that lets in the rows
//! without a value.

use std::{cmp::Ordering, ops::Range};

use super::{
    Rule,
    ast::{Comparison, Function, Node, Typed},
};

/// Comparisons of one field with so many values are looked at together; a rule has few.
const CLAUSES_MAX: usize = 200;

/// Something to look at again, in a rule that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// A stable name for doubts of its kind.
    pub id: &'static str,
    pub message: String,
    /// Bytes in the rule's text.
    pub span: Range<usize>,
    pub hint: Option<String>,
}

/// What is doubtful in a rule, in the order of its text. What stands in a named condition is not: it has its own place.
pub fn doubts(rule: &Rule) -> Vec<Doubt> {
    let mut walk = Walk { text: &rule.text, found: vec![] };
    match &rule.root.node {
        // All rows, on purpose.
        Node::Boolean(true) => {}
        Node::Boolean(false) => walk.add("constant-condition", rule.root.span.clone(), "this is always false", None),
        _ => walk.condition(&rule.root, false, &[]),
    }
    walk.found.sort_by_key(|doubt| doubt.span.start);
    walk.found
}

struct Walk<'r> {
    text: &'r str,
    found: Vec<Doubt>,
}

impl<'r> Walk<'r> {
    fn add(&mut self, id: &'static str, span: Range<usize>, message: impl Into<String>, hint: Option<&str>) {
        let doubt = Doubt { id, message: message.into(), span, hint: hint.map(str::to_owned) };
        if !self.found.iter().any(|known| known.id == id && known.span == doubt.span) {
            self.found.push(doubt);
        }
    }

    /// `facts` hold wherever this part matters; `is_negated` says that what is false here counts as true.
    fn condition(&mut self, part: &'r Typed, is_negated: bool, facts: &[&'r Typed]) {
        match &part.node {
            Node::Not(inner) => self.condition(inner, !is_negated, facts),
            Node::And(..) | Node::Or(..) => {
                let clauses = clauses(part);
                // A negated `or` is an `and` of what is negated.
                let all_hold = matches!(part.node, Node::And(..)) != is_negated;
                self.chain(&clauses, all_hold, is_negated);
                for (index, clause) in clauses.iter().enumerate() {
                    let others = clauses.iter().enumerate().filter(|(other, _)| *other != index);
                    // Beside `!has(x) ||` there is an x, and beside `has(x) &&` too.
                    let known = others.filter_map(|(_, other)| match &other.node {
                        Node::Not(inner) if !all_hold && !is_negated => Some(&**inner),
                        _ if all_hold && !is_negated => Some(*other),
                        _ => None,
                    });
                    let facts: Vec<&Typed> = facts.iter().copied().chain(known).take(CLAUSES_MAX).collect();
                    self.condition(clause, is_negated, &facts);
                }
            }
            Node::If(condition, yes, no) => {
                self.condition(condition, false, facts);
                self.condition(yes, is_negated, facts);
                self.condition(no, is_negated, facts);
            }
            Node::Exists(_, body) | Node::All(_, body) => self.condition(body, false, &[]),
            Node::Boolean(value) => {
                self.add("constant-condition", part.span.clone(), format!("this is always {value}"), None);
            }
            _ => self.leaf(part, is_negated, facts),
        }
    }

    fn leaf(&mut self, part: &'r Typed, is_negated: bool, facts: &[&'r Typed]) {
        if let Node::Compare(comparison, a, b) = &part.node {
            let span = a.span.start.min(b.span.start)..a.span.end.max(b.span.end);
            if let Some(holds) = constant(*comparison, a, b) {
                self.add("constant-condition", span, format!("this is always {}", holds != is_negated), None);
                return;
            }
            if is_constant(a) && is_constant(b) {
                self.add("constant-condition", span, "this compares two constants", None);
                return;
            }
            if let (Some(a), Some(b)) = (field(a), field(b))
                && a == b
            {
                self.add("constant-condition", span, "both sides are the same", None);
                return;
            }
        }
        // `!has(x)` asks for the rows without.
        if is_negated && !matches!(part.node, Node::Has(_)) {
            for part in part.node.parts().into_iter().chain([part]) {
                let Some((_, _, name)) = field(part).filter(|_| part.is_nullable) else { continue };
                let is_shown = self.text.get(part.span.clone()) == Some(name);
                if is_shown && !facts.iter().any(|fact| is_there(fact, part)) {
                    let message = format!("rows without `{name}` are in, too");
                    let hint = "ask for it with has(…) && if they should not be";
                    self.add("includes-missing", part.span.clone(), message, Some(hint));
                }
            }
        }
        // Rows behind links have conditions of their own.
        for inner in part.node.parts() {
            self.inside(inner);
        }
    }

    fn inside(&mut self, part: &'r Typed) {
        match &part.node {
            Node::Aggregate { filter, value, .. } => {
                filter.iter().for_each(|filter| self.condition(filter, false, &[]));
                value.iter().for_each(|value| self.inside(value));
            }
            Node::If(condition, yes, no) => {
                self.condition(condition, false, &[]);
                self.inside(yes);
                self.inside(no);
            }
            _ => part.node.parts().into_iter().for_each(|inner| self.inside(inner)),
        }
    }

    /// Clauses of one field that contradict each other, or together hold for everything.
    fn chain(&mut self, clauses: &[&'r Typed], all_hold: bool, is_negated: bool) {
        let said: Vec<Clause<'_>> =
            clauses.iter().take(CLAUSES_MAX).filter_map(|clause| Clause::of(clause, is_negated)).collect();
        for (index, one) in said.iter().enumerate() {
            for other in &said[..index] {
                if one.field != other.field {
                    continue;
                }
                let span = other.span.start..one.span.end;
                if all_hold && !one.meets(other) {
                    let message = format!("`{}` cannot be both, so this is always false", one.field.2);
                    self.add("never-true", span, message, Some("did you mean `||`?"));
                } else if !all_hold && one.is_not && other.is_not && one.value != other.value {
                    let message = format!("`{}` is always unlike one of them, so this is always true", one.field.2);
                    self.add("always-true", span, message, Some("did you mean `&&`?"));
                }
            }
        }
    }
}

/// The parts of a chain of one operator.
fn clauses(part: &Typed) -> Vec<&Typed> {
    let (mut found, mut open) = (vec![], vec![part]);
    while let Some(next) = open.pop() {
        match (&part.node, &next.node) {
            (Node::And(..), Node::And(a, b)) | (Node::Or(..), Node::Or(a, b)) => open.extend([&**b, &**a]),
            _ => found.push(next),
        }
    }
    found
}

type FieldOf<'r> = (usize, &'r [String], &'r str);

fn field(part: &Typed) -> Option<FieldOf<'_>> {
    match &part.node {
        Node::Field { var, hops, field } => Some((*var, hops, field)),
        _ => None,
    }
}

/// Whether a fact says that a field's value is there.
fn is_there(fact: &Typed, wanted: &Typed) -> bool {
    let is_it = |part: &Typed| field(part).is_some() && field(part) == field(wanted);
    match &fact.node {
        Node::Has(part) => is_it(part),
        Node::HasLink { var, hops } => field(wanted).is_some_and(|(v, h, _)| v == *var && h == hops.as_slice()),
        Node::Compare(_, a, b) => is_it(a) && !b.is_nullable || is_it(b) && !a.is_nullable,
        Node::In(a, _) | Node::Matches(a, _) => is_it(a),
        Node::StartsWith(a, _) | Node::EndsWith(a, _) | Node::Contains(a, _) => is_it(a),
        _ => false,
    }
}

/// Whether a part is the same for every row and every run.
fn is_constant(part: &Typed) -> bool {
    !part.any(&mut |part| {
        let is_leaf = part.node.parts().is_empty();
        let is_value = matches!(
            part.node,
            Node::Text(_) | Node::Integer(_) | Node::Double(_) | Node::Boolean(_) | Node::Date(_) | Node::Timestamp(_)
        );
        is_leaf && !is_value || matches!(part.node, Node::Aggregate { .. } | Node::Exists(..) | Node::All(..))
    })
}

/// What a comparison comes to that does not depend on the rows.
fn constant(comparison: Comparison, a: &Typed, b: &Typed) -> Option<bool> {
    let is_count = |part: &Typed| matches!(part.node, Node::Aggregate { function: Function::Count, .. });
    let is_length = |part: &Typed| matches!(part.node, Node::Length(_)) && !part.is_nullable;
    let is_size = |part: &Typed| is_count(part) || is_length(part);
    match (&a.node, &b.node, comparison) {
        // There are never fewer than none.
        (_, Node::Integer(n), Comparison::GreaterOrEqual) if is_size(a) && *n <= 0 => return Some(true),
        (_, Node::Integer(n), Comparison::Greater) if is_size(a) && *n < 0 => return Some(true),
        (_, Node::Integer(n), Comparison::Less) if is_size(a) && *n <= 0 => return Some(false),
        (_, Node::Integer(n), Comparison::LessOrEqual | Comparison::Equal) if is_size(a) && *n < 0 => {
            return Some(false);
        }
        (Node::Integer(n), _, Comparison::LessOrEqual) if is_size(b) && *n <= 0 => return Some(true),
        (Node::Integer(n), _, Comparison::Greater) if is_size(b) && *n <= 0 => return Some(false),
        _ => {}
    }
    let ordering = order(&a.node, &b.node)?;
    Some(match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

/// Of two constants of one type.
fn order(a: &Node, b: &Node) -> Option<Ordering> {
    match (a, b) {
        (Node::Integer(a), Node::Integer(b)) => Some(a.cmp(b)),
        (Node::Double(a), Node::Double(b)) => a.partial_cmp(b),
        (Node::Text(a), Node::Text(b)) => Some(a.cmp(b)),
        (Node::Boolean(a), Node::Boolean(b)) => Some(a.cmp(b)),
        (Node::Date(a), Node::Date(b)) => Some(a.cmp(b)),
        (Node::Timestamp(a), Node::Timestamp(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// A field against a constant: `x == "a"`, `x < 5`, and their negations.
struct Clause<'r> {
    field: FieldOf<'r>,
    comparison: Comparison,
    value: &'r Node,
    /// `x != value`
    is_not: bool,
    span: Range<usize>,
}

impl<'r> Clause<'r> {
    fn of(part: &'r Typed, mut is_not: bool) -> Option<Self> {
        let mut part = part;
        while let Node::Not(inner) = &part.node {
            (part, is_not) = (inner, !is_not);
        }
        let Node::Compare(comparison, a, b) = &part.node else { return None };
        let span = a.span.start.min(b.span.start)..a.span.end.max(b.span.end);
        let (field, comparison, value) = match (field(a), field(b)) {
            (Some(field), None) if order(&b.node, &b.node).is_some() => (field, *comparison, &b.node),
            (None, Some(field)) if order(&a.node, &a.node).is_some() => (field, turned(*comparison), &a.node),
            _ => return None,
        };
        // The negation of an ordering holds where the value is missing: nothing can be said of it here.
        (!is_not || comparison == Comparison::Equal).then_some(Self { field, comparison, value, is_not, span })
    }

    /// Whether one value can satisfy both.
    fn meets(&self, other: &Self) -> bool {
        let Some(order) = order(self.value, other.value) else { return true };
        if self.is_not || other.is_not {
            return self.is_not == other.is_not || self.comparison != other.comparison || order.is_ne();
        }
        let allows = |comparison, order: Ordering| match comparison {
            Comparison::Equal => order.is_eq(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        };
        let is_upper = |comparison| matches!(comparison, Comparison::Less | Comparison::LessOrEqual);
        match (self.comparison, other.comparison) {
            (Comparison::Equal, comparison) => allows(comparison, order),
            (comparison, Comparison::Equal) => allows(comparison, order.reverse()),
            (a, b) if is_upper(a) == is_upper(b) => true,
            // The upper bound must lie above the lower, or on it where both include it.
            (a, b) => {
                let (upper_against_lower, strict) =
                    if is_upper(a) { (order, (a, b)) } else { (order.reverse(), (b, a)) };
                match strict {
                    (Comparison::LessOrEqual, Comparison::GreaterOrEqual) => upper_against_lower.is_ge(),
                    _ => upper_against_lower.is_gt(),
                }
            }
        }
    }
}

/// The same said from the other side.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rule::tests::schema;

    /// The doubts about a rule on customers, each with the text it is about.
    fn said(text: &str) -> Vec<String> {
        let rule = crate::rule::check(text, &schema(), "customer", &BTreeMap::new())
            .unwrap_or_else(|p| panic!("{}", p.picture(text)));
        doubts(&rule).into_iter().map(|d| format!("{} `{}`", d.id, &text[d.span])).collect()
    }

    #[test]
    fn a_plain_rule_is_not_doubted() {
        for rule in [
            "true",
            "customer.country == \"IT\"",
            "customer.country in [\"IT\", \"FR\"] && customer.score > 18 && customer.score < 30",
            "has(customer.country) && customer.country != \"IT\"",
            "!has(customer.country) || customer.country != \"IT\"",
            "!has(customer.country) && customer.id > 1",
            "customer.country.startsWith(\"I\") && customer.country != \"IT\"",
            "customer.id != 5 && !(customer.name == \"Zoe\")",
            "customer.bookings.size() > 0 && customer.regular",
            "customer.country == \"IT\" || customer.country == \"FR\"",
            "customer.score >= 18 && customer.score <= 18",
            "customer.joined < now - days(3) && customer.joined > now - days(30)",
        ] {
            assert_eq!(said(rule), Vec::<String>::new(), "{rule}");
        }
    }

    #[test]
    fn a_negation_lets_the_rows_without_a_value_in() {
        for rule in [
            "customer.country != \"IT\"",
            "!(customer.country == \"IT\")",
            "!(customer.country in [\"IT\"]) && customer.id > 1",
            "!customer.country.startsWith(\"I\")",
            "has(customer.score) && customer.country != \"IT\"",
            "customer.country != \"IT\" && customer.country != \"FR\"",
        ] {
            assert_eq!(said(rule)[0], "includes-missing `country`", "{rule}");
        }
        assert_eq!(said("!customer.vip"), ["includes-missing `vip`"]);
        assert_eq!(said("!(customer.score < 18)"), ["includes-missing `score`"]);
        assert_eq!(
            said("!(customer.country == \"IT\" || customer.score > 60)"),
            ["includes-missing `country`", "includes-missing `score`"]
        );
        assert_eq!(said("customer.bookings.exists(b, b.nights != 3)"), ["includes-missing `nights`"]);
        assert_eq!(said("customer.bookings.filter(b, !(b.nights == 3)).size() > 1"), ["includes-missing `nights`"]);
    }

    #[test]
    fn a_condition_that_never_changes_is_told() {
        assert_eq!(said("false"), ["constant-condition `false`"]);
        assert_eq!(said("1 == 1 && customer.id > 0"), ["constant-condition `1 == 1`"]);
        assert_eq!(said("\"a\" == \"b\" || customer.id > 0"), ["constant-condition `\"a\" == \"b\"`"]);
        assert_eq!(said("customer.id > 0 && true"), ["constant-condition `true`"]);
        assert_eq!(said("customer.id == customer.id"), ["constant-condition `id == customer.id`"]);
        assert_eq!(said("customer.bookings.size() >= 0").len(), 1);
        assert_eq!(said("customer.id == 1 && customer.id == 2"), ["never-true `id == 1 && customer.id == 2`"]);
        assert_eq!(
            said("customer.score > 30 && customer.score < 18"),
            ["never-true `score > 30 && customer.score < 18`"]
        );
        assert_eq!(said("customer.id == 1 && customer.id != 1"), ["never-true `id == 1 && customer.id != 1`"]);
        assert_eq!(said("customer.id != 1 || customer.id != 2"), ["always-true `id != 1 || customer.id != 2`"]);
    }
}
