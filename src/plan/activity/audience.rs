//! `audience`: starts from a named audience, or from a rule written in the step.
//!
//! ```yaml
//! audience: {ref: departing-soon, params: {days: 3}}
//! audience: {entity: booking, where: "booking.status == 'confirmed'"}
//! ```

use std::collections::BTreeMap;

use super::{Compiled, Ground, Output, Place, RuleFaults, Selects};
use crate::{
    api::step::AudienceStep,
    plan::{Finding, audience::own_params},
    rule::{Param, Query, Rule, check},
};

pub struct Audience {
    pub entity: String,
    pub source: Source,
}

pub enum Source {
    /// A named audience, with values of the step's own for its parameters.
    Named(String, BTreeMap<String, Param>),
    Rule(Box<Rule>),
}

pub fn compile(step: &AudienceStep, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    if step.reference.is_none() && !step.params.is_empty() {
        return Err(vec![place.finding("audience", "params", "params belong to an audience that is referred to")]);
    }
    let audience = match (&step.reference, &step.entity, &step.rule) {
        (Some(name), ..) => referred(name, step, place)?,
        (None, Some(entity), Some(rule)) => {
            let checked = check(rule, place.schema, entity, &BTreeMap::new());
            let rule =
                checked.map_err(|p| vec![Finding::of_problem(place.this, place.path("audience", "where"), p)])?;
            Audience { entity: entity.to_string(), source: Source::Rule(Box::new(rule)) }
        }
        _ => {
            return Err(vec![place.finding("audience", "ref", "an audience step has either ref, or entity and where")]);
        }
    };
    let output = Output::of(place.step, &audience.entity);
    Ok((Compiled::Audience(audience), vec![output]))
}

fn referred(name: &str, step: &AudienceStep, place: &Place<'_>) -> Result<Audience, Vec<Finding>> {
    let lost = || vec![place.finding("audience", "ref", format!("there is no Audience `{name}`"))];
    let spec = place.bundle.audiences.get(name).ok_or_else(lost)?;
    let own = own_params(name, spec, &step.params).map_err(|(key, misfit)| {
        vec![misfit.into_finding(place.this, place.path("audience", &format!("params.{key}")))]
    })?;
    Ok(Audience { entity: spec.entity.to_string(), source: Source::Named(name.to_owned(), own) })
}

impl Audience {
    /// The named audience, and whether the step's own values for its parameters differ from its defaults.
    pub fn reference(&self, sets: &crate::plan::audience::Sets) -> Option<(&str, bool)> {
        match &self.source {
            Source::Named(name, own) => Some((name, sets.get(name).is_some_and(|set| set.has_own(own)))),
            Source::Rule(_) => None,
        }
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects { outputs: vec![], left: None } };
        Selects::one(match &self.source {
            Source::Named(name, own) => {
                ground.sets.select(name, own, ground.inputs, (ground.schema, ground.dialect)).unwrap_or_default()
            }
            Source::Rule(rule) => {
                let mut query = Query::over(ground.schema, entity, ground.dialect);
                query.restrict(rule, ground.inputs);
                query.keys()
            }
        })
    }

    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        let Some(entity) = ground.schema.entity(&self.entity) else { return vec![] };
        let query = Query::over(ground.schema, entity, ground.dialect);
        let found = match &self.source {
            Source::Named(name, own) => {
                ground.sets.rule(name, own, ground.inputs).and_then(|(rule, inputs)| query.faults(rule, &inputs))
            }
            Source::Rule(rule) => query.faults(rule, ground.inputs),
        };
        found.into_iter().map(|(places, select)| RuleFaults { entity: self.entity.clone(), places, select }).collect()
    }
}
