//! Audiences that nothing reads, that nothing fills, and parameters that no rule reads.

use std::collections::BTreeSet;

use super::{Look, Spot};
use crate::{
    api::{
        audience::Form,
        step::{Activity, AudienceStep},
    },
    plan::activity::rules_of,
    rule::audiences_in,
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    let (mut read, mut filled) = (BTreeSet::new(), BTreeSet::new());
    let key = |owner: &Key, name: &str| Key::new(Kind::Audience, &owner.namespace, name);
    for (owner, spec) in look.tree.specs() {
        match spec {
            Spec::Campaign(spec) => {
                for step in &spec.steps {
                    match &step.activity {
                        Activity::Audience(AudienceStep { reference: Some(name), .. }) => {
                            read.insert(key(owner, name));
                        }
                        Activity::SaveAudience(save) => {
                            filled.insert(key(owner, &save.reference));
                        }
                        _ => {}
                    }
                    let rules = rules_of(&step.activity);
                    let asked = rules.iter().flat_map(|(_, rule)| audiences_in(rule));
                    read.extend(asked.map(|(name, _)| key(owner, &name)));
                }
            }
            Spec::Audience(spec) => match spec.form() {
                Some(Form::Rule(rule)) => read.extend(audiences_in(rule).iter().map(|(name, _)| key(owner, name))),
                Some(Form::Combined(_, members)) => {
                    read.extend(members.iter().map(|member| key(owner, &member.reference)));
                }
                _ => {}
            },
            _ => {}
        }
    }
    // What a campaign that cannot be read would read, nobody knows.
    let unreadable: BTreeSet<&str> = look.tree.unreadable_namespaces(&[Kind::Campaign, Kind::Audience]);
    for (owner, spec) in look.specs(Kind::Audience) {
        let Spec::Audience(spec) = spec else { continue };
        let is_known = !unreadable.contains(owner.namespace.as_str());
        if is_known && spec.export.is_none() && !read.contains(owner) {
            let message = format!("no campaign and no audience reads `{}`", owner.name);
            look.warn("unused-audience", Spot::at(owner, "metadata.name"), message, None);
        }
        if is_known && spec.form() == Some(Form::Saved) && !filled.contains(owner) {
            let hint = "a campaign fills it with a step `saveAudience`".to_owned();
            let message = format!("no campaign fills `{}`, and runs that read it are held", owner.name);
            look.warn("unfilled-audience", Spot::at(owner, "spec.saved"), message, Some(hint));
        }
        for name in spec.parameters.keys() {
            let is_read = spec.rule.as_ref().is_some_and(|rule| reads_parameter(rule, name));
            if spec.rule.is_some() && !is_read {
                let path = format!("spec.parameters.{name}");
                let message = format!("the rule does not read `params.{name}`");
                look.warn("unused-parameter", Spot::at(owner, &path), message, None);
            }
        }
    }
}

fn reads_parameter(rule: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let wanted = format!("params.{name}");
    rule.match_indices(&wanted).any(|(at, _)| !rule[at + wanted.len()..].starts_with(is_word))
}
