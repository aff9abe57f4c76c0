//! `changeEntity`: from a set of one entity to the rows of another that its links lead to.
//!
//! ```yaml
//! changeEntity: {to: customer, via: inventory.rentals.customer}
//! ```
//!
//! Each row reached is there once. What leads nowhere is counted.

use super::{Compiled, Ground, Output, Place, Selects};
use crate::{
    api::step,
    plan::Finding,
    rule::{Path, Query, check_path},
};

pub struct ChangeEntity {
    input: String,
    entity: String,
    path: Path,
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
    let output = Output::of(place.step, &path.entity);
    Ok((
        Compiled::ChangeEntity(ChangeEntity { input: input.to_owned(), entity: entity.name.clone(), path }),
        vec![output],
    ))
}

impl ChangeEntity {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects { outputs: vec![], left: None } };
        let query = || Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        Selects { outputs: vec![query().reached(&self.path)], left: Some(query().unreached(&self.path)) }
    }
}
