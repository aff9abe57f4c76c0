//! `unconfirmed`: the people who asked for a topic that `requires: Confirmed`, and were not asked yet whether it was them.
//!
//! ```yaml
//! unconfirmed: {topic: offers, medium: email, within: 7d}
//! ```
//! The message behind it has `{{ confirm_url }}` (see `feedback::confirm`). Who is planned to get it counts as asked, once for
//! each time that she asked; a run that is cancelled gives that back.

use sea_query::Expr;

use super::{Compiled, Ground, Output, Place, Selects};
use crate::{
    api::{
        dataset::{Category, Requires},
        duration::Duration,
        medium::Medium,
        step,
    },
    plan::{Finding, Ref, message::canonical},
    rule::Query,
    store::{self, consent},
};

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    pub topic: String,
    pub medium: Medium,
}

pub struct Unconfirmed {
    namespace: String,
    dataset: String,
    entity: String,
    asking: Asking,
    within: Duration,
}

pub fn compile(step: &step::Unconfirmed, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let bundle = place.bundle;
    let wrong = |field: &str, message: String| place.finding("unconfirmed", field, message);
    let medium = Medium::from(step.medium);
    let topics = &bundle.dataset.topics;
    let Some(topic) = topics.iter().find(|topic| topic.name == step.topic) else {
        let message = format!("dataset `{}` has no topic `{}`", bundle.campaign.dataset, step.topic);
        return Err(vec![wrong("topic", message).suggest(&step.topic, topics.iter().map(|topic| &*topic.name))]);
    };
    if topic.requires != Some(Requires::Confirmed) {
        let message = format!("topic `{}` has nothing to confirm", step.topic);
        return Err(vec![wrong("topic", message).hint("say `requires: Confirmed` in the Dataset's topic")]);
    }
    if topic.consent.as_ref().and_then(|consent| consent.of(medium)).is_none() {
        let message = format!("consent to topic `{}` is not given by {}", step.topic, medium.word());
        return Err(vec![wrong("medium", message)]);
    }
    let own = topics.iter().find(|topic| topic.name == bundle.campaign.topic);
    if own.is_some_and(|topic| topic.category == Category::Marketing) {
        let this = Ref::new("Campaign", &place.this.name);
        let message =
            format!("who has not confirmed gets nothing of topic `{}`, which is Marketing", bundle.campaign.topic);
        let hint = "to ask is no marketing: give the campaign a Transactional topic";
        return Err(vec![Finding::new(&this, "spec.topic", message).hint(hint)]);
    }
    let entity = bundle.dataset.profile.entity.to_string();
    let asking = Asking { topic: step.topic.to_string(), medium };
    let outputs = vec![Output { asking: Some(asking.clone()), ..Output::of(place.step, &entity) }];
    let compiled = Unconfirmed {
        namespace: bundle.namespace.clone(),
        dataset: bundle.campaign.dataset.to_string(),
        entity,
        asking,
        within: step.within,
    };
    Ok((Compiled::Unconfirmed(compiled), outputs))
}

impl Unconfirmed {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let mut query = Query::over(ground.schema, entity, ground.dialect);
        let since = ground.now.checked_sub(self.within.as_signed()).unwrap_or(jiff::Timestamp::MIN);
        let texts = [&self.namespace, &self.dataset, &self.asking.topic].map(|text| Expr::val(text.clone()));
        let key = canonical(&mut query, entity, &[]);
        let parts = [key].into_iter().chain(texts);
        let parts = parts.chain([Expr::val(self.asking.medium.word()), Expr::val(store::micros(since))]);
        let is_asked = query.custom(&format!("? IN ({})", consent::UNCONFIRMED), parts);
        query.filter(is_asked);
        Selects::one(query.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::said_with;

    #[test]
    fn says_what_is_wrong() {
        let mail = "\n- {name: mail, from: it, email: {channel: out, template: hello}}";
        let wrong = ["{topic: servce}", "{topic: service}"];
        let words: Vec<String> =
            wrong.iter().map(|step| said_with(&format!("- {{name: it, unconfirmed: {step}}}{mail}"), "")).collect();
        insta::assert_snapshot!("unconfirmed_wrong", words.join("\n"));
    }
}
