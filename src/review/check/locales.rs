//! Locales: variants that nobody gets, and variants that nobody sees before they are sent.

use std::collections::BTreeSet;

use super::{Look, Spot};
use crate::{
    plan::{check::Campaign, message::MessagePlan},
    review::persona,
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, spec) in look.specs(Kind::MessageTemplate) {
        let Spec::MessageTemplate(spec) = spec else { continue };
        for tag in spec.locales.keys().filter(|tag| !is_tag(tag)) {
            let message = format!("`{tag}` is no locale, so no field of a profile has it");
            let hint = "write a language, or a language and a country: it, it-CH".to_owned();
            look.warn("unlikely-locale", Spot::at(key, &format!("spec.locales.{tag}")), message, Some(hint));
        }
    }
    for (key, campaign) in look.campaigns() {
        for (_, _, message) in campaign.plan.messages() {
            variants(look, key, campaign, message);
        }
    }
}

fn variants(look: &mut Look<'_>, campaign: &Key, checked: &Campaign, message: &MessagePlan) {
    let bundle = &checked.bundle;
    let Some(spec) = bundle.templates.get(&message.template_name) else { return };
    let key = Key::new(Kind::MessageTemplate, &campaign.namespace, &message.template_name);
    if message.locale.is_none() && spec.personas.iter().all(|persona| persona.locale.is_none()) {
        if let Some(tag) = spec.locales.keys().next() {
            let message =
                format!("nobody gets this variant: dataset `{}` says no `profile.locale`", bundle.campaign.dataset);
            let hint = "name the field that has each person's language".to_owned();
            look.warn("unused-locale", Spot::at(&key, &format!("spec.locales.{tag}")), message, Some(hint));
        }
        return;
    }
    if spec.personas.is_empty() {
        return;
    }
    let shown = spec.personas.iter().filter_map(|persona| persona::said(bundle, message, persona, None).ok());
    let shown: BTreeSet<String> = shown.map(|said| message.template.variant(said.locale.as_deref())).collect();
    for tag in spec.locales.keys().filter(|tag| !shown.contains(&message.template.variant(Some(tag)))) {
        let message = "no persona gets this variant, so no preview shows it".to_owned();
        let hint = format!("add one with `locale: {tag}`");
        look.warn("locale-without-persona", Spot::at(&key, &format!("spec.locales.{tag}")), message, Some(hint));
    }
}

/// The shape of BCP 47's common tags: a language, a script, a region, variants.
fn is_tag(tag: &str) -> bool {
    let tag = tag.replace('_', "-");
    let mut parts = tag.split('-');
    let is_letters = |part: &str| part.bytes().all(|b| b.is_ascii_alphabetic());
    let language = parts.next().unwrap_or_default();
    let is_part = |part: &str| match part.len() {
        2 | 4 => is_letters(part) || part.bytes().all(|b| b.is_ascii_alphanumeric()) && part.len() == 4,
        3 => part.bytes().all(|b| b.is_ascii_digit()),
        5..=8 => part.bytes().all(|b| b.is_ascii_alphanumeric()),
        _ => false,
    };
    matches!(language.len(), 2 | 3) && is_letters(language) && parts.all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_a_shape() {
        for tag in ["it", "it-CH", "it_ch", "zh-Hant-TW", "es-419", "sl-rozaj", "de-1996", "gsw"] {
            assert!(is_tag(tag), "{tag}");
        }
        for tag in ["italian", "i", "", "it-", "it-Switzerland1", "it-c", "1t"] {
            assert!(!is_tag(tag), "{tag}");
        }
    }
}
