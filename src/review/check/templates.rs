//! Templates: what Marketing mail must carry, what mail programs cannot show, what is put into HTML as it is.

use super::{Look, Spot};
use crate::{
    plan::{Finding, marketing},
    send::template,
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, campaign) in look.campaigns() {
        for (_, _, message) in campaign.plan.messages() {
            for Finding { object, path, id, message, hint, .. } in marketing::lacks(&campaign.bundle, message) {
                let Some(key) = Key::named(object.kind, &key.namespace, &object.name) else { continue };
                look.warn(id, Spot::at(&key, &path), message, hint);
            }
        }
    }
    for (key, spec) in look.specs(Kind::MessageTemplate) {
        let Spec::MessageTemplate(spec) = spec else { continue };
        for (path, text) in template::pages(&key.name, spec) {
            for at in as_it_is(&text) {
                let spot = Spot { key, path: &path, inside: Some(at..at + SAFE.len()) };
                let message = "what a person wrote in this field becomes part of the page as it is";
                look.warn("unescaped-value", spot, message, Some("leave `safe` out".to_owned()));
            }
        }
    }
}

const SAFE: &str = "safe";

/// Where a filter keeps a value from being escaped.
fn as_it_is(text: &str) -> Vec<usize> {
    let is_filter = |at: usize| text[..at].trim_end().ends_with('|');
    let is_inside = |at: usize| text[..at].rfind("{{") > text[..at].rfind("}}");
    let is_word = |at: usize| !text[at + SAFE.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let found = text.match_indices(SAFE).map(|(at, _)| at);
    found.filter(|at| is_filter(*at) && is_inside(*at) && is_word(*at)).collect()
}
