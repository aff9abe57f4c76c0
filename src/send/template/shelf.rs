//! What stands in a MessageTemplate, and where in it: passages of its parts and of fragments.

use std::collections::BTreeMap;

use super::TemplateProblem;
use crate::api::template::{
    Fragment, LocaleVariant, MessageTemplateSpec,
    kept::{self, path_of},
};

/// In what an author wrote it, and so what it may include and how it is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Text,
    Html,
    Mjml,
}

impl Form {
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Html => "html",
            Self::Mjml => "mjml",
        }
    }
}

/// A piece of an author's words.
#[derive(Clone, Debug)]
pub(super) struct Passage<'s> {
    /// The MessageTemplate in which they stand.
    pub owner: &'s str,
    /// Where in it, such as `spec.locales.it.email.subject`.
    pub path: String,
    pub text: &'s str,
    pub form: Form,
}

/// One part in one locale; the empty locale is the base.
pub(super) struct Slot<'s> {
    pub locale: &'s str,
    /// Such as `subject`, or the name of a value.
    pub part: String,
    pub passage: Passage<'s>,
}

/// The template that is compiled, and those whose fragments it may include.
#[derive(Clone, Copy)]
pub(super) struct Shelf<'s> {
    pub name: &'s str,
    pub spec: &'s MessageTemplateSpec,
    pub others: &'s BTreeMap<String, MessageTemplateSpec>,
}

impl<'s> Shelf<'s> {
    pub fn template(&self, name: &str) -> Option<(&'s str, &'s MessageTemplateSpec)> {
        if name == self.name {
            return Some((self.name, self.spec));
        }
        self.others.get_key_value(name).map(|(name, spec)| (name.as_str(), spec))
    }

    /// A fragment in a form, as it falls back from a locale. `Err` says in which forms there is one.
    pub fn fragment(&self, (owner, name): (&str, &str), locale: &str, form: Form) -> Result<Passage<'s>, Vec<Form>> {
        let Some((owner, spec)) = self.template(owner) else { return Err(vec![]) };
        let mut others = vec![];
        for level in chain(locale) {
            let (at, fragments) = match variant(spec, level) {
                _ if level.is_empty() => ("spec".to_owned(), &spec.fragments),
                Some((tag, variant)) => (format!("spec.locales.{tag}"), &variant.fragments),
                None => continue,
            };
            let Some(index) = fragments.iter().position(|fragment| *fragment.name == *name) else { continue };
            let path = format!("{at}.fragments[{index}]");
            for (known, text, is_kept) in forms(&fragments[index]) {
                if known == form {
                    let path = format!("{path}.{}", path_of(known.word(), is_kept));
                    return Ok(Passage { owner, path, text, form });
                }
                others.push(known);
            }
        }
        Err(others)
    }
}

/// The locales that a locale falls back to, itself first and the base last.
pub(super) fn chain(locale: &str) -> impl Iterator<Item = &str> {
    let own = (!locale.is_empty()).then_some(locale);
    std::iter::successors(own, |locale| locale.rfind('-').map(|end| &locale[..end])).chain([""])
}

/// `it_CH` as `it-ch`: locales are written in many ways, and fall back from the right.
pub(super) fn normal(locale: &str) -> String {
    locale.trim().replace('_', "-").to_ascii_lowercase()
}

fn variant<'s>(spec: &'s MessageTemplateSpec, locale: &str) -> Option<(&'s str, &'s LocaleVariant)> {
    let mut all = spec.locales.iter();
    all.find(|(tag, _)| normal(tag) == locale).map(|(tag, variant)| (tag.as_str(), variant))
}

/// What a fragment has, in the forms that it has it in, and whether it is kept elsewhere.
fn forms(fragment: &Fragment) -> impl Iterator<Item = (Form, &str, bool)> {
    let all = [
        (Form::Text, &fragment.text, &fragment.text_from),
        (Form::Html, &fragment.html, &fragment.html_from),
        (Form::Mjml, &fragment.mjml, &fragment.mjml_from),
    ];
    all.into_iter().filter_map(|(form, text, kept)| {
        let is_there = text.is_some() || kept.is_some();
        is_there.then(|| (form, text.as_deref().unwrap_or_default(), kept.is_some()))
    })
}

/// What a template, or one that it may include, keeps elsewhere and what could not be read there.
pub(super) fn lost(shelf: &Shelf<'_>) -> Vec<TemplateProblem> {
    let others = shelf.others.iter().map(|(name, spec)| (name.as_str(), spec)).filter(|(name, _)| *name != shelf.name);
    let mut found = vec![];
    for (owner, spec) in std::iter::once((shelf.name, shelf.spec)).chain(others) {
        // Whatever sections there are: all that is kept looks alike in JSON.
        let spec = serde_json::json!(spec);
        found.extend(kept::references(&spec).into_iter().filter_map(|(path, kept)| {
            let kept::Lost { message, hint } = kept.lost?;
            let owner = owner.to_owned();
            Some(TemplateProblem { owner, path, span: 0..0, line: 1, column: 1, message, hint })
        }));
    }
    found
}

/// Every fragment of a template, in every form and locale.
pub(super) fn fragments<'s>(shelf: &Shelf<'s>) -> Vec<Passage<'s>> {
    let base = std::iter::once(("spec".to_owned(), &shelf.spec.fragments));
    let variants = shelf.spec.locales.iter().map(|(tag, variant)| (format!("spec.locales.{tag}"), &variant.fragments));
    let mut found = vec![];
    for (at, fragments) in base.chain(variants) {
        for (index, fragment) in fragments.iter().enumerate() {
            found.extend(forms(fragment).map(|(form, text, is_kept)| {
                let path = format!("{at}.fragments[{index}].{}", path_of(form.word(), is_kept));
                Passage { owner: shelf.name, path, text, form }
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_falls_back_from_the_right() {
        assert_eq!(chain("zh-hant-tw").collect::<Vec<_>>(), ["zh-hant-tw", "zh-hant", "zh", ""]);
        assert_eq!(chain("").collect::<Vec<_>>(), [""]);
        assert_eq!(chain("-").collect::<Vec<_>>(), ["-", "", ""]);
    }
}
