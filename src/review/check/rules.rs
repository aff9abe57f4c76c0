//! Rules that never change, contradict themselves, or let in the rows without a value.

use std::collections::BTreeMap;

use super::{Look, Spot};
use crate::{
    plan,
    rule::{self, Dialect, Inputs, Rule, doubts},
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, audience) in look.audiences() {
        let inputs = Inputs::at(look.now);
        if let Some((rule, _)) = audience.sets.rule(&key.name, &BTreeMap::new(), &inputs) {
            doubt(look, key, "spec.where", rule);
        }
    }
    for (key, campaign) in look.campaigns() {
        let steps = campaign.bundle.campaign.steps.iter();
        for (index, declared) in steps.enumerate() {
            let compiled = campaign.plan.steps.iter().find(|step| *declared.name == step.name);
            for (path, rule) in compiled.into_iter().flat_map(|step| step.compiled.rules()) {
                doubt(look, key, &format!("spec.steps[{index}].{path}"), rule);
            }
        }
    }
    for (key, spec) in look.specs(Kind::Dataset) {
        let Spec::Dataset(spec) = spec else { continue };
        let schema = plan::dataset::schema_of(spec, &key.namespace, &key.name, Dialect::Sqlite);
        for (index, condition) in spec.conditions.iter().enumerate() {
            if let Ok(rule) = rule::check(&condition.rule, &schema, &condition.entity, &BTreeMap::new()) {
                doubt(look, key, &format!("spec.conditions[{index}].where"), &rule);
            }
        }
    }
}

fn doubt(look: &mut Look<'_>, key: &Key, path: &str, rule: &Rule) {
    for doubt in doubts(rule) {
        let spot = Spot { key, path, inside: Some(doubt.span) };
        look.warn(doubt.id, spot, doubt.message, doubt.hint);
    }
}
