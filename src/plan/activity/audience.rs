//! `audience`: starts from a named audience, or from a rule written in the step.
//!
//! ```yaml
//! audience: {ref: departing-soon, params: {days: 3}}
//! audience: {entity: booking, where: "booking.status == 'confirmed'", rest: unconfirmed}
//! ```
//!
//! What it leaves out is all else that the entity has: an output where `rest` names it, and not counted otherwise.

use std::collections::BTreeMap;

use sea_query::UnionType;

use super::{Compiled, Ground, Output, Place, RuleFaults, Selects, keys_of};
use crate::{
    api::{audience::Parameter, step::AudienceStep},
    plan::{Finding, Ref},
    rule::{Inputs, Param, ParamType, Query, Rule, check, nearest},
};

pub struct Audience {
    pub reference: Option<String>,
    pub entity: String,
    pub rule: Rule,
    pub params: BTreeMap<String, Param>,
    has_rest: bool,
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
            Audience {
                reference: None,
                entity: entity.to_string(),
                rule,
                params: BTreeMap::new(),
                has_rest: step.rest.is_some(),
            }
        }
        _ => {
            return Err(vec![place.finding("audience", "ref", "an audience step has either ref, or entity and where")]);
        }
    };
    let outputs = Output::with_rest(place, &audience.entity, step.rest.as_ref(), "audience", &audience.entity);
    Ok((Compiled::Audience(audience), outputs))
}

fn referred(name: &str, step: &AudienceStep, place: &Place<'_>) -> Result<Audience, Vec<Finding>> {
    let lost = || vec![place.finding("audience", "ref", format!("there is no Audience `{name}`"))];
    let spec = place.bundle.audiences.get(name).ok_or_else(lost)?;
    let owner = Ref::new("Audience", name);
    if spec.dataset != place.bundle.campaign.dataset {
        return Err(vec![place.finding(
            "audience",
            "ref",
            format!("audience `{name}` is of dataset `{}`, not `{}`", spec.dataset, place.bundle.campaign.dataset),
        )]);
    }
    let rule = check_spec(&owner, spec, place.schema).map_err(|finding| vec![finding])?;
    let mut params: BTreeMap<String, Param> = spec.parameters.iter().map(|(k, v)| (k.clone(), param(v))).collect();
    for (key, value) in &step.params {
        let path = place.path("audience", &format!("params.{key}"));
        let Some(default) = spec.parameters.get(key) else {
            let mut finding = Finding::new(place.this, path, format!("audience `{name}` has no parameter `{key}`"));
            finding.hint =
                nearest(key, spec.parameters.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            return Err(vec![finding]);
        };
        if param_type(default) != param_type(value) {
            let message = format!(
                "parameter `{key}` of audience `{name}` is {:?}, not {:?}",
                param_type(default),
                param_type(value)
            );
            return Err(vec![Finding::new(place.this, path, message)]);
        }
        params.insert(key.clone(), param(value));
    }
    Ok(Audience {
        reference: Some(name.to_owned()),
        entity: spec.entity.to_string(),
        rule,
        params,
        has_rest: step.rest.is_some(),
    })
}

/// Checks an Audience by itself.
pub fn check_spec(owner: &Ref, spec: &crate::api::AudienceSpec, schema: &crate::rule::Schema) -> Result<Rule, Finding> {
    let types: BTreeMap<String, ParamType> = spec.parameters.iter().map(|(k, v)| (k.clone(), param_type(v))).collect();
    if schema.entity(&spec.entity).is_none() {
        let mut finding =
            Finding::new(owner, "spec.entity", format!("dataset `{}` has no entity `{}`", spec.dataset, spec.entity));
        finding.hint = nearest(&spec.entity, schema.entities.keys().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        return Err(finding);
    }
    check(&spec.rule, schema, &spec.entity, &types).map_err(|problem| Finding::of_problem(owner, "spec.where", problem))
}

fn param_type(value: &Parameter) -> ParamType {
    match value {
        Parameter::Boolean(_) => ParamType::Boolean,
        Parameter::Integer(_) => ParamType::Integer,
        Parameter::Double(_) => ParamType::Double,
        Parameter::String(_) => ParamType::String,
    }
}

fn param(value: &Parameter) -> Param {
    match value {
        Parameter::Boolean(b) => Param::Boolean(*b),
        Parameter::Integer(n) => Param::Integer(*n),
        Parameter::Double(d) => Param::Double(*d),
        Parameter::String(s) => Param::String(s.clone()),
    }
}

impl Audience {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let mut query = Query::over(ground.schema, entity, ground.dialect);
        query.restrict(&self.rule, &Inputs { now: ground.inputs.now, params: self.params.clone() });
        let set = query.keys();
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
        let found = query.faults(&self.rule, &Inputs { now: ground.inputs.now, params: self.params.clone() });
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
