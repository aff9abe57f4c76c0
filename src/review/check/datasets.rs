//! Datasets: consent that is presumed or cannot return, tables that stay empty.

use super::{Look, Spot};
use crate::{
    api::dataset::{Category, ConsentDefault},
    source::{Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, spec) in look.specs(Kind::Dataset) {
        let Spec::Dataset(spec) = spec else { continue };
        for (index, entity) in spec.entities.iter().enumerate().filter(|(_, entity)| entity.source.is_none()) {
            let path = format!("spec.entities[{index}].name");
            let message = format!("{} has no source, so its table stays empty", entity.name);
            look.warn("no-source", Spot::at(key, &path), message, None);
        }
        for (index, topic) in spec.topics.iter().enumerate() {
            for (medium, consent) in topic.consent.iter().flat_map(|consent| consent.all()) {
                let at = |part: &str| format!("spec.topics[{index}].consent.{}{part}", medium.word());
                if topic.category == Category::Marketing && consent.default == ConsentDefault::OptedIn {
                    let message = format!("who said nothing gets `{}`; the law may ask for a yes first", topic.name);
                    look.warn("opted-in-by-default", Spot::at(key, &at(".default")), message, None);
                }
                if consent.changed_at.is_none() {
                    let message = "who once opted out stays out, whatever the files say later";
                    let hint = "name the Timestamp of the last change with `changedAt`".to_owned();
                    look.warn("consent-cannot-return", Spot::at(key, &at("")), message, Some(hint));
                }
            }
        }
    }
}
