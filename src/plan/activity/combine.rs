//! `union`, `intersect`, `subtract`: sets of one entity, combined.
//!
//! ```yaml
//! union: {of: [tiers.gold, tiers.others]}
//! subtract: {from: all, minus: [debtors]}
//! ```

use sea_query::UnionType;

use super::{Compiled, Ground, Output, Place, Selects};
use crate::plan::Finding;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Union,
    Intersect,
    Subtract,
}

pub struct Combine {
    kind: Kind,
    inputs: Vec<String>,
}

pub fn compile(kind: Kind, word: &str, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (first, entity) = place.input()?;
    if let Some((name, other)) = place.inputs.iter().find(|(_, other)| *other != entity.name) {
        let message = format!("`{first}` is a set of {} and `{name}` of {other}", entity.name);
        let hint = "lead one to the other's entity with `changeEntity`";
        return Err(vec![Finding::new(place.this, format!("spec.steps[{}].{word}", place.index), message).hint(hint)]);
    }
    let inputs = place.inputs.iter().map(|(name, _)| name.clone()).collect();
    let output = Output::of(place.step, &entity.name);
    Ok((Compiled::Combine(Combine { kind, inputs }), vec![output]))
}

impl Combine {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let kind = match self.kind {
            Kind::Union => UnionType::Distinct,
            Kind::Intersect => UnionType::Intersect,
            Kind::Subtract => UnionType::Except,
        };
        let mut sets = self.inputs.iter().map(|name| (ground.input)(name));
        let Some(mut select) = sets.next() else { return Selects { outputs: vec![], left: None } };
        sets.for_each(|set| {
            select.union(kind, set);
        });
        Selects::one(select)
    }
}
