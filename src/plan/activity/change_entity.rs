//! `changeEntity`: from a set of one entity to the rows of another that its links lead to.
//!
//! ```yaml
//! changeEntity: {to: customer, via: inventory.rentals.customer}
//! ```
//!
//! Each row reached is there once. What leads nowhere is counted, and is the output `rest` names.

use super::{Compiled, Ground, Output, Place, Selects};
use crate::{
    api::step,
    plan::Finding,
    rule::{Path, Query, check_path},
};

pub struct ChangeEntity {
    input: String,
    pub entity: String,
    pub path: Path,
    has_rest: bool,
}

pub fn compile(step: &step::ChangeEntity, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let via = |problem| vec![Finding::of_problem(place.this, place.path("changeEntity", "via"), problem)];
    let path = check_path(&step.via, place.schema, &entity.name).map_err(via)?;
    if path.field.is_some() || path.hops.is_empty() {
        return Err(vec![place.finding("changeEntity", "via", format!("`{}` must be a path of links", step.via))]);
    }
    if path.entity != *step.to {
        let message = format!("`{}` leads to {}, not to {}", step.via, path.entity, step.to);
        return Err(vec![place.finding("changeEntity", "via", message)]);
    }
    let outputs = Output::with_rest(place, &path.entity, step.rest.as_ref(), "changeEntity", &entity.name);
    let has_rest = step.rest.is_some();
    let compiled = ChangeEntity { input: input.to_owned(), entity: entity.name.clone(), path, has_rest };
    Ok((Compiled::ChangeEntity(compiled), outputs))
}

impl ChangeEntity {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let query = || Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        Selects::with_rest(vec![query().reached(&self.path)], query().unreached(&self.path), self.has_rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let step = "- {name: it, unused: true, changeEntity: {to: customer, via: order.customer, rest: guests}}";
        insta::assert_snapshot!("change_entity", golden("order", step));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: it, unused: true, changeEntity: {to: order, via: order.customer}}";
        insta::assert_snapshot!("change_entity_wrong", said("order", wrong));
    }
}
