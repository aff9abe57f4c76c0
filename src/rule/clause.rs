//! A rule as the clauses that its author wrote: what stands between `&&`, `||` and `!`, each of which is true or false for
//! a row by itself.
//!
//! A clause is lowered by the same code as the rule. One that can fault is asked only where what guards it in the rule
//! lets it be asked.

use super::{
    FieldType, Path, Rule,
    ast::{Node, Type, Typed},
    fault::{can_fault, text_of},
    schema::{Dialect, Entity, Schema},
};

/// How the parts of a clause make it true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    All,
    Any,
    /// One part, which must not hold.
    Not,
    /// It has no parts.
    Leaf,
}

/// A part of a rule that is true or false.
#[derive(Clone, Debug)]
pub struct Clause {
    /// As its author wrote it.
    pub text: String,
    pub form: Form,
    pub parts: Vec<Clause>,
    /// The fields that a leaf reads of the row itself and of rows that to-one links lead to.
    pub reads: Vec<Path>,
    /// What a leaf counts or sums over rows behind a link, each in its author's words.
    pub values: Vec<(String, Rule)>,
    /// Audiences that a leaf asks about.
    pub audiences: Vec<String>,
    /// A leaf that asks whether something is there says all with its truth.
    pub asks_presence: bool,
    pub condition: Rule,
    /// What must hold for the clause to be asked at all.
    pub guard: Option<Rule>,
}

impl Rule {
    /// The rule's clauses as a tree; the root is the rule itself.
    pub fn clauses(&self, schema: &Schema, entity: &str) -> Clause {
        Reader { rule: self, schema, entity }.clause(&self.root, None)
    }

    /// The same rule of nothing but the rows with one of these keys: what it counts behind links need not be counted of
    /// others then. Each key is given as texts in the order of the entity's key.
    #[must_use]
    pub fn among(&self, entity: &Entity, keys: &[Vec<String>]) -> Self {
        let mut root = self.root.clone();
        for (index, name) in entity.key.iter().enumerate() {
            let Some(ty) = entity.field(name).map(|field| field.ty) else { continue };
            let literal = |key: &Vec<String>| {
                let text = key.get(index)?;
                Some(match ty {
                    FieldType::Integer => plain(Node::Integer(text.parse().ok()?), Type::INTEGER),
                    FieldType::Date => plain(Node::Date(text.parse().ok()?), Type::DATE),
                    _ => plain(Node::Text(text.clone()), Type::STRING),
                })
            };
            let literals: Vec<Typed> = keys.iter().filter_map(literal).collect();
            let field = plain(Node::Field { var: 0, hops: vec![], field: name.clone() }, Type::Field(ty));
            root = both(plain(Node::In(Box::new(field), literals), Type::BOOLEAN), root);
        }
        Self { root, text: self.text.clone() }
    }
}

struct Reader<'a> {
    rule: &'a Rule,
    schema: &'a Schema,
    entity: &'a str,
}

impl Reader<'_> {
    fn rule(&self, root: Typed) -> Rule {
        Rule { root, text: self.rule.text.clone() }
    }

    fn text(&self, typed: &Typed) -> &str {
        text_of(&self.rule.text, typed).trim()
    }

    /// Whether the parts were written as such: of a named condition, and of `a != b`, all stand in one place.
    fn is_written(&self, typed: &Typed) -> bool {
        let own = self.text(typed);
        typed.node.parts().iter().any(|part| self.text(part) != own)
    }

    fn clause(&self, typed: &Typed, guard: Option<&Typed>) -> Clause {
        let (form, parts) = match &typed.node {
            Node::And(..) if self.is_written(typed) => (Form::All, self.chain(typed, guard, true)),
            Node::Or(..) if self.is_written(typed) => (Form::Any, self.chain(typed, guard, false)),
            Node::Not(inner) if self.is_written(typed) && matches!(inner.node, Node::And(..) | Node::Or(..)) => {
                (Form::Not, vec![self.clause(inner, guard)])
            }
            _ => (Form::Leaf, vec![]),
        };
        let is_leaf = form == Form::Leaf;
        let faults = can_fault(typed, Dialect::Sqlite);
        let asked = match guard.filter(|_| faults) {
            Some(guard) => both(guard.clone(), typed.clone()),
            None => typed.clone(),
        };
        let inner = if let Node::Not(inner) = &typed.node { inner } else { typed };
        Clause {
            text: self.text(typed).to_owned(),
            form,
            parts,
            reads: if is_leaf { self.reads(typed) } else { vec![] },
            values: if is_leaf { self.values(typed) } else { vec![] },
            audiences: if is_leaf { audiences(typed) } else { vec![] },
            asks_presence: is_leaf && matches!(inner.node, Node::Has(_) | Node::HasLink { .. }),
            condition: self.rule(asked),
            guard: guard.filter(|_| faults).map(|guard| self.rule(guard.clone())),
        }
    }

    /// `a && b && c` as three clauses, each guarded by those before it.
    fn chain(&self, typed: &Typed, guard: Option<&Typed>, is_all: bool) -> Vec<Clause> {
        let (a, b) = match (&typed.node, is_all) {
            (Node::And(a, b), true) | (Node::Or(a, b), false) if self.is_written(typed) => (a, b),
            _ => return vec![self.clause(typed, guard)],
        };
        let before = if is_all { (**a).clone() } else { plain(Node::Not(a.clone()), Type::BOOLEAN) };
        let behind = match guard {
            Some(guard) => both(guard.clone(), before),
            None => before,
        };
        [self.chain(a, guard, is_all), self.chain(b, Some(&behind), is_all)].concat()
    }

    fn reads(&self, typed: &Typed) -> Vec<Path> {
        let mut found = vec![];
        typed.any(&mut |part| {
            if let Node::Field { var: 0, hops, field } = &part.node
                && let Some(entity) = self.schema.behind(self.entity, hops)
            {
                let (hops, field) = (hops.clone(), Some(field.clone()));
                let path = Path { hops, field, entity: entity.name.clone(), is_many: false };
                if !found.contains(&path) {
                    found.push(path);
                }
            }
            false
        });
        found
    }

    fn values(&self, typed: &Typed) -> Vec<(String, Rule)> {
        match &typed.node {
            Node::Aggregate { many, .. } if many.var == 0 => {
                vec![(self.text(typed).to_owned(), self.rule(typed.clone()))]
            }
            node => node.parts().into_iter().flat_map(|part| self.values(part)).collect(),
        }
    }
}

fn audiences(typed: &Typed) -> Vec<String> {
    let mut found = vec![];
    typed.any(&mut |part| {
        if let Node::InAudience { audience, .. } = &part.node
            && !found.contains(audience)
        {
            found.push(audience.clone());
        }
        false
    });
    found
}

fn both(a: Typed, b: Typed) -> Typed {
    plain(Node::And(Box::new(a), Box::new(b)), Type::BOOLEAN)
}

fn plain(node: Node, ty: Type) -> Typed {
    Typed { node, ty, is_nullable: false, span: 0..0 }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::rule::{check, tests};

    fn shown(text: &str) -> String {
        fn put(clause: &Clause, depth: usize, out: &mut String) {
            let reads: Vec<String> =
                clause.reads.iter().map(|p| format!("{}.{}", p.entity, p.field.as_deref().unwrap())).collect();
            let values: Vec<&str> = clause.values.iter().map(|(text, _)| text.as_str()).collect();
            let guard = if clause.guard.is_some() { " (guarded)" } else { "" };
            let indent = "  ".repeat(depth);
            writeln!(
                out,
                "{indent}{:?} `{}` {reads:?} {values:?} {:?}{guard}",
                clause.form, clause.text, clause.audiences
            )
            .unwrap();
            clause.parts.iter().for_each(|part| put(part, depth + 1, out));
        }
        let schema = tests::schema();
        let rule = check(text, &schema, "booking", &std::collections::BTreeMap::new()).unwrap();
        let mut out = String::new();
        put(&rule.clauses(&schema, "booking"), 0, &mut out);
        out
    }

    #[test]
    fn a_rule_is_read_as_its_author_wrote_it() {
        let rules = [
            "booking.status == 'confirmed'",
            "booking.status == 'confirmed' && booking.customer.country != \"IT\" && (booking.nights > 2 || has(booking.amount))",
            "!(booking.nights > 2 && booking.customer.vip) && !has(booking.departure)",
            "booking.customer.grown && booking.customer in audience('gold')",
            "booking.nights > 0 && 10 / booking.nights > 2",
            "booking.nights == 0 || 10 / booking.nights > 2",
            "booking.customer.bookings.filter(b, b.status == 'cancelled').size() < 2",
            "booking.customer.bookings.exists(b, b.nights > booking.nights)",
            "booking.status in ['a', 'b'] && booking.status.startsWith('a') && booking.customer.name.matches('^[a-z]+$')",
            "booking.departure < now + days(3) && booking.departure.getMonth('Europe/Rome') == 4 || (booking.nights > 1 ? true : false)",
            "!booking.customer.bookings.exists(b, b.status == 'a') && booking.customer.bookings.map(b, b.nights).sum() > 3",
            "size(booking.customer.bookings) == 0 || booking.departure < date('2026-01-01') && !(booking.status == 'a')",
        ];
        insta::assert_snapshot!(rules.map(|rule| format!("-- {rule}\n{}", shown(rule))).join("\n"));
    }
}
