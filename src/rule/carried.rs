//! The fields whose values a rule's own value is made of: what could be told from it by who sees it.

use std::collections::BTreeMap;

use super::{
    Rule,
    ast::{Function, Node, Typed},
    schema::Schema,
};

impl Rule {
    /// Entity and field of each value that is handed on. What the rule only asks about is not among them: a condition
    /// is true or false, a count is a number.
    pub fn carried(&self, schema: &Schema, entity: &str) -> Vec<(String, String)> {
        let mut found = vec![];
        carry(&self.root, schema, &mut BTreeMap::from([(0, entity.to_owned())]), &mut found);
        found
    }
}

/// By variable, the entity of its rows.
type Scopes = BTreeMap<usize, String>;

fn carry(typed: &Typed, schema: &Schema, scopes: &mut Scopes, found: &mut Vec<(String, String)>) {
    let mut each = |part: &Typed| carry(part, schema, scopes, found);
    match &typed.node {
        Node::Field { var, hops, field } => {
            let from = scopes.get(var).map_or("", String::as_str);
            found.extend(schema.behind(from, hops).map(|entity| (entity.name.clone(), field.clone())));
        }
        Node::If(_, a, b) | Node::Arithmetic(_, a, b) | Node::Concat(a, b) => [a, b].into_iter().for_each(|x| each(x)),
        Node::LowerAscii(a) | Node::UpperAscii(a) | Node::Length(a) => each(a),
        Node::Span(_, a) | Node::Part(_, a, _) | Node::DateIn(a, _) => each(a),
        Node::Aggregate { many, function, value: Some(value), .. } if *function != Function::Count => {
            let from = scopes.get(&many.var).map_or("", String::as_str);
            let link = schema.behind(from, &many.hops).and_then(|entity| entity.link(&many.link));
            if let Some(link) = link {
                scopes.insert(many.inner, link.to.clone());
                carry(value, schema, scopes, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::rule::{check_value, tests};

    fn carried(text: &str) -> String {
        let schema = tests::schema();
        let rule = check_value(text, &schema, "booking").unwrap();
        let fields = rule.carried(&schema, "booking").into_iter().map(|(entity, field)| format!("{entity}.{field}"));
        fields.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_only_asked_about_is_not_carried() {
        assert_eq!(carried("booking.customer.country"), "customer.country");
        assert_eq!(carried("booking.status == 'a' ? booking.customer.name + '!' : 'b'"), "customer.name");
        assert_eq!(carried("booking.customer.name.size() + booking.nights"), "customer.name booking.nights");
        assert_eq!(carried("booking.customer.bookings.map(b, b.customer.name.size()).max()"), "customer.name");
        assert_eq!(carried("booking.customer.bookings.filter(b, b.status == 'a').size()"), "");
        assert_eq!(carried("booking.customer.country == 'IT'"), "");
    }
}
