//! The negations of a rule: who is in only because something that a negation reads is missing.
//!
//! `customer.country != "IT"` holds where nobody knows the country. So does the rule's author mean it, or not: a preview
//! counts them.

use super::{
    FieldType, Path, Rule,
    ast::{Node, Type, Typed},
    fault::{can_fault, text_of},
    schema::{Dialect, Schema},
};

/// A negation and what it reads of the row, or of rows that to-one links lead to.
#[derive(Clone, Debug)]
pub struct Negation {
    /// As its author wrote it.
    pub text: String,
    /// The fields that may be missing.
    pub reads: Vec<Path>,
    /// The rule as it would be if the negation did not hold: who is in only by the negation is not in by this.
    pub without: Rule,
}

impl Rule {
    /// The negations that a missing value makes true. None of a rule that can fault: without the negation, what it
    /// guards would be asked.
    pub fn negations(&self, schema: &Schema, entity: &str) -> Vec<Negation> {
        if can_fault(&self.root, Dialect::Sqlite) {
            return vec![];
        }
        let mut found = vec![];
        collect(&self.root, &mut vec![], &mut found);
        let negations = found.into_iter().filter_map(|(way, typed)| {
            let reads = reads(typed, schema, entity);
            let text = text_of(&self.text, typed).trim().to_owned();
            let mut root = self.root.clone();
            *part_at(&mut root, &way)? = Typed {
                node: Node::Boolean(false),
                ty: Type::Field(FieldType::Boolean),
                is_nullable: false,
                span: typed.span.clone(),
            };
            let without = Rule { root, text: self.text.clone() };
            (!reads.is_empty()).then_some(Negation { text, reads, without })
        });
        negations.collect()
    }
}

/// Negations between `&&`, `||` and `?:`, each with the way to it. What stands inside of a negation, or behind a link to
/// many rows, is not among them.
fn collect<'r>(typed: &'r Typed, way: &mut Vec<usize>, found: &mut Vec<(Vec<usize>, &'r Typed)>) {
    match &typed.node {
        Node::Not(inner) if !matches!(inner.node, Node::Has(_) | Node::HasLink { .. }) => {
            found.push((way.clone(), typed));
        }
        Node::And(..) | Node::Or(..) | Node::If(..) => {
            for (index, part) in typed.node.parts().into_iter().enumerate() {
                way.push(index);
                collect(part, way, found);
                way.pop();
            }
        }
        _ => {}
    }
}

fn part_at<'r>(root: &'r mut Typed, way: &[usize]) -> Option<&'r mut Typed> {
    let mut at = root;
    for index in way {
        at = match (&mut at.node, index) {
            (Node::And(a, _) | Node::Or(a, _) | Node::If(a, ..), 0) => a,
            (Node::And(_, b) | Node::Or(_, b) | Node::If(_, b, _), 1) => b,
            (Node::If(_, _, c), 2) => c,
            _ => return None,
        };
    }
    Some(at)
}

fn reads(typed: &Typed, schema: &Schema, entity: &str) -> Vec<Path> {
    let mut found = vec![];
    typed.any(&mut |part| {
        if let Node::Field { var: 0, hops, field } = &part.node
            && part.is_nullable
            && let Some(behind) = schema.behind(entity, hops)
        {
            let path =
                Path { hops: hops.clone(), field: Some(field.clone()), entity: behind.name.clone(), is_many: false };
            if !found.contains(&path) {
                found.push(path);
            }
        }
        false
    });
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::rule::{check, tests};

    fn negations(text: &str) -> String {
        let schema = tests::schema();
        let rule = check(text, &schema, "booking", &BTreeMap::new()).unwrap();
        let negations = rule.negations(&schema, "booking").into_iter().map(|negation| {
            let reads: Vec<String> = negation
                .reads
                .iter()
                .map(|path| format!("{}.{}", path.entity, path.field.as_deref().unwrap()))
                .collect();
            format!("{} [{}]", negation.text, reads.join(" "))
        });
        negations.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_a_missing_value_makes_true_is_found() {
        let country = "booking.customer.country != \"IT\"";
        assert_eq!(negations(country), format!("{country} [customer.country]"));
        assert_eq!(negations(&format!("booking.nights > 2 && ({country} || booking.nights == 1)")), negations(country));
        let both = "!(booking.nights > 2 && booking.customer.country == \"IT\")";
        assert_eq!(negations(both), format!("{both} [booking.nights customer.country]"));
        assert_eq!(negations("!has(booking.nights)"), "");
        assert_eq!(negations("booking.customer.bookings.exists(b, b.status != 'a')"), "");
        assert_eq!(negations(&format!("10 / booking.nights > 2 || {country}")), "");
    }
}
