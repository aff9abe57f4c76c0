//! Personas: what they are said to be must be something that the template can read.

use super::{Look, Spot};
use crate::{
    review::persona,
    source::{Key, Kind},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, campaign) in look.campaigns() {
        for finding in persona::check(&campaign.bundle, &campaign.plan) {
            let template = Key::new(Kind::MessageTemplate, &key.namespace, &finding.object.name);
            look.warn("wrong-persona", Spot::at(&template, &finding.path), finding.message, finding.hint);
        }
    }
}
