//! `union`, `intersect`, `subtract`: sets of one entity, combined.
//!
//! ```yaml
//! union: {of: [tiers.gold, tiers.others]}
//! intersect: {of: [italians, sailors], rest: one-of-them}
//! subtract: {from: all, minus: [debtors]}
//! ```
//!
//! What an intersection leaves out is in one of the sets and not in all; what a subtraction leaves out was taken away.

use sea_query::{SelectStatement, UnionType};

use super::{Compiled, Ground, Output, Place, Selects, keys_of};
use crate::{api::name::Label, plan::Finding};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Union,
    Intersect,
    Subtract,
}

pub struct Combine {
    kind: Kind,
    entity: String,
    inputs: Vec<String>,
    has_rest: bool,
}

pub fn compile(
    kind: Kind,
    word: &str,
    rest: Option<&Label>,
    place: &Place<'_>,
) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (first, entity) = place.input()?;
    if let Some(other) = place.inputs.iter().find(|other| other.entity != entity.name) {
        let message = format!("`{first}` is a set of {} and `{}` of {}", entity.name, other.name, other.entity);
        let hint = "lead one to the other's entity with `changeEntity`";
        return Err(vec![Finding::new(place.this, format!("spec.steps[{}].{word}", place.index), message).hint(hint)]);
    }
    let inputs = place.inputs.iter().map(|input| input.name.clone()).collect();
    let outputs = Output::with_rest(place, &entity.name, rest, word, &entity.name);
    let has_rest = rest.is_some();
    Ok((Compiled::Combine(Combine { kind, entity: entity.name.clone(), inputs, has_rest }), outputs))
}

impl Combine {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let sets: Vec<SelectStatement> = self.inputs.iter().map(|name| (ground.input)(name)).collect();
        let all = |kind: UnionType, sets: &[SelectStatement]| {
            let mut sets = sets.iter().cloned();
            let mut select = sets.next().unwrap_or_default();
            sets.for_each(|set| {
                select.union(kind, set);
            });
            select
        };
        // A compound inside another needs a SELECT around it: SQLite reads no brackets there.
        let both = |kind: UnionType, one: SelectStatement, other: SelectStatement| {
            keys_of(entity, one).union(kind, keys_of(entity, other)).to_owned()
        };
        match self.kind {
            Kind::Union => Selects::one(all(UnionType::Distinct, &sets)),
            Kind::Intersect => {
                let common = all(UnionType::Intersect, &sets);
                let rest = both(UnionType::Except, all(UnionType::Distinct, &sets), common.clone());
                Selects::with_rest(vec![common], rest, self.has_rest)
            }
            Kind::Subtract => {
                let Some((from, minus)) = sets.split_first() else { return Selects::default() };
                let taken = both(UnionType::Intersect, from.clone(), all(UnionType::Distinct, minus));
                Selects::with_rest(vec![all(UnionType::Except, &sets)], taken, self.has_rest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let other = "- {name: other, unused: true, audience: {entity: customer, where: \"false\"}}\n";
        for (kind, word) in [
            ("union", "of: [all, other]"),
            ("intersect", "of: [all, other], rest: one"),
            ("subtract", "from: all, minus: [other]"),
        ] {
            let step = format!("{other}- {{name: it, unused: true, {kind}: {{{word}}}}}");
            insta::assert_snapshot!(format!("combine_{kind}"), golden("customer", &step));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: other, audience: {entity: order, where: \"true\"}}\n- {name: it, unused: true, intersect: {of: [all, other]}}";
        insta::assert_snapshot!("combine_wrong", said("customer", wrong));
    }
}
