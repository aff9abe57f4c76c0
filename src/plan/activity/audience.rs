//! `audience`: starts from a named audience, or from a rule written in the step.
//!
//! ```yaml
//! audience: {ref: departing-soon, params: {days: 3}}
//! audience: {entity: booking, where: "booking.status == 'confirmed'"}
//! ```
//!
//! What it leaves out is all else that the entity has: an output where `rest` names it, and not counted otherwise.

use std::collections::BTreeMap;

use sea_query::UnionType;

use super::{Compiled, Ground, Output, Place, RuleFaults, Selects, keys_of};
use crate::{
    api::step::AudienceStep,
    plan::{Finding, audience::own_params},
    rule::{Param, Query, Rule, check},
};

pub struct Audience {
    pub entity: String,
    pub source: Source,
    has_rest: bool,
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
            let rule = checked.map_err(|p| Finding::of_problems(place.this, &place.path("audience", "where"), p))?;
            Audience { entity: entity.to_string(), source: Source::Rule(Box::new(rule)), has_rest: step.rest.is_some() }
        }
        _ => {
            return Err(vec![place.finding("audience", "ref", "an audience step has either ref, or entity and where")]);
        }
    };
    let outputs = Output::with_rest(place, &audience.entity, step.rest.as_ref(), "audience", &audience.entity);
    Ok((Compiled::Audience(audience), outputs))
}

fn referred(name: &str, step: &AudienceStep, place: &Place<'_>) -> Result<Audience, Vec<Finding>> {
    let lost = || vec![place.lost("audience", "ref", "Audience", name)];
    let spec = place.bundle.audiences.get(name).ok_or_else(lost)?;
    let own = own_params(name, spec, &step.params).map_err(|(key, misfit)| {
        vec![misfit.into_finding(place.this, place.path("audience", &format!("params.{key}")))]
    })?;
    let source = Source::Named(name.to_owned(), own);
    Ok(Audience { entity: spec.entity.to_string(), source, has_rest: step.rest.is_some() })
}

impl Audience {
    pub(super) fn named(name: &str, entity: &str, own: BTreeMap<String, Param>) -> Self {
        Self { entity: entity.to_owned(), source: Source::Named(name.to_owned(), own), has_rest: false }
    }

    /// The named audience, and whether the step's own values for its parameters differ from its defaults.
    pub fn reference(&self, sets: &crate::plan::audience::Sets) -> Option<(&str, bool)> {
        match &self.source {
            Source::Named(name, own) => Some((name, sets.get(name).is_some_and(|set| set.has_own(own)))),
            Source::Rule(_) => None,
        }
    }

    pub fn rules(&self) -> Vec<(String, &Rule)> {
        match &self.source {
            Source::Rule(rule) => vec![("audience.where".to_owned(), rule)],
            Source::Named(..) => vec![],
        }
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let set = match &self.source {
            Source::Named(name, own) => {
                ground.sets.select(name, own, ground.inputs, (ground.schema, ground.dialect)).unwrap_or_default()
            }
            Source::Rule(rule) => {
                let mut query = Query::over(ground.schema, entity, ground.dialect);
                query.restrict(rule, ground.inputs);
                query.keys()
            }
        };
        if !self.has_rest {
            return Selects::one(set);
        }
        let all = Query::over(ground.schema, entity, ground.dialect).keys();
        let rest = keys_of(entity, all).union(UnionType::Except, keys_of(entity, set.clone())).to_owned();
        Selects::with_rest(vec![set], rest, true)
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

#[cfg(test)]
mod tests {
    use super::super::tests::{golden_with, said_with};

    const MAIL: &str = "\n- {name: mail, from: it, email: {channel: out, template: hello}}";

    #[test]
    fn becomes_sql() {
        let step = "- {name: it, unused: true, audience: {entity: customer, where: 'customer.tier == \"gold\"', rest: others}}";
        insta::assert_snapshot!("audience", golden_with(&format!("{step}{MAIL}"), ""));
    }

    #[test]
    fn says_what_is_wrong() {
        let step = "- {name: it, audience: {entity: custmer, where: \"true\"}}";
        insta::assert_snapshot!("audience_wrong", said_with(&format!("{step}{MAIL}"), ""));
    }
}
