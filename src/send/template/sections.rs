//! The sections of a template, one for each medium: which parts they have, and what is made of them.

use super::{
    RenderError, Words,
    shelf::{Form, Passage, Slot},
};
use crate::{
    api::{
        medium::Medium,
        template::{Kept, LocaleVariant, MessageTemplateSpec, NamedValue, kept::path_of},
    },
    send::mime::one_line,
};

/// Every medium that a template can have a section for.
pub const ALL: [Medium; 3] = [Medium::Email, Medium::Sms, Medium::Http];

/// A name, the text under it, and whether that is kept elsewhere.
type Part<'s> = (String, &'s str, bool);
/// A text that may be written out or kept elsewhere.
type Either<'s> = (Option<&'s String>, Option<&'s Kept>);

/// MJML is the HTML of a section in another form.
pub const MJML: &str = "mjml";
pub const HTML: &str = "html";

/// Whether a section is a list of named parts, whose names the base decides.
pub fn is_list(medium: Medium) -> bool {
    matches!(medium, Medium::Postal | Medium::Http)
}

/// Each part of a section of the template `owner`, with where it stands; the base's first.
pub fn of<'s>((owner, spec): (&'s str, &'s MessageTemplateSpec), medium: Medium) -> Vec<Slot<'s>> {
    let base = ("", "spec.".to_owned(), base(spec, medium));
    let variants = spec.locales.iter().map(|(locale, spec)| {
        let prefix = format!("spec.locales.{locale}.");
        (locale.as_str(), prefix, variant(spec, medium))
    });
    let mut found = vec![];
    for (locale, prefix, parts) in std::iter::once(base).chain(variants) {
        for (index, (part, text, is_kept)) in parts.into_iter().enumerate() {
            let path = match is_list(medium) {
                true => format!("{prefix}{}.{}[{index}].{}", medium.step(), list(medium), path_of("value", is_kept)),
                false => format!("{prefix}{}.{}", medium.step(), path_of(&part, is_kept)),
            };
            let (part, form) = match (medium, part.as_str()) {
                (Medium::Email, MJML) => (HTML.to_owned(), Form::Mjml),
                (Medium::Email, HTML) => (part, Form::Html),
                _ => (part, Form::Text),
            };
            found.push(Slot { locale, part, passage: Passage { owner, path, text, form } });
        }
    }
    found
}

/// What the list of a section is called.
fn list(medium: Medium) -> &'static str {
    if medium == Medium::Postal { "columns" } else { "values" }
}

fn base(spec: &MessageTemplateSpec, medium: Medium) -> Vec<Part<'_>> {
    match medium {
        Medium::Email => spec
            .email
            .iter()
            .flat_map(|email| {
                some([
                    ("subject", (Some(&email.subject), None)),
                    ("preheader", (email.preheader.as_ref(), None)),
                    ("text", (email.text.as_ref(), email.text_from.as_ref())),
                    (HTML, (email.html.as_ref(), email.html_from.as_ref())),
                    (MJML, (email.mjml.as_ref(), email.mjml_from.as_ref())),
                ])
            })
            .collect(),
        Medium::Sms => {
            spec.sms.iter().flat_map(|sms| some([("text", (sms.text.as_ref(), sms.text_from.as_ref()))])).collect()
        }
        Medium::Http => spec.http.iter().flat_map(|http| named(&http.values)).collect(),
        Medium::Push | Medium::Postal => vec![],
    }
}

fn variant(spec: &LocaleVariant, medium: Medium) -> Vec<Part<'_>> {
    match medium {
        Medium::Email => spec
            .email
            .iter()
            .flat_map(|email| {
                some([
                    ("subject", (email.subject.as_ref(), None)),
                    ("preheader", (email.preheader.as_ref(), None)),
                    ("text", (email.text.as_ref(), email.text_from.as_ref())),
                    (HTML, (email.html.as_ref(), email.html_from.as_ref())),
                    (MJML, (email.mjml.as_ref(), email.mjml_from.as_ref())),
                ])
            })
            .collect(),
        Medium::Sms => {
            spec.sms.iter().flat_map(|sms| some([("text", (sms.text.as_ref(), sms.text_from.as_ref()))])).collect()
        }
        Medium::Http => spec.http.iter().flat_map(|http| named(&http.values)).collect(),
        Medium::Push | Medium::Postal => vec![],
    }
}

fn some<'s, const N: usize>(parts: [(&'static str, Either<'s>); N]) -> impl Iterator<Item = Part<'s>> {
    // Words that are lost are none here: that they are lost is said, and nothing more is made of them.
    let words = |(text, kept): Either<'s>| text.map(String::as_str).or(kept.map(|_| ""));
    parts.into_iter().filter_map(move |(part, either)| Some((part.to_owned(), words(either)?, either.1.is_some())))
}

fn named(values: &[NamedValue]) -> impl Iterator<Item = Part<'_>> {
    values
        .iter()
        .map(|value| (value.name.to_string(), value.value.as_deref().unwrap_or_default(), value.value_from.is_some()))
}

/// Makes the message of its parts; `order` are the names of a list, `part` gives one part in words.
pub fn render(
    medium: Medium,
    order: &[String],
    part: &dyn Fn(&str) -> Result<Option<String>, RenderError>,
) -> Result<Words, RenderError> {
    let one = |name: &str| part(name).map(Option::unwrap_or_default);
    Ok(match medium {
        // A line break in a subject would begin another header.
        Medium::Email => Words::Mail { subject: one_line(&one("subject")?), text: part("text")?, html: part(HTML)? },
        Medium::Sms => Words::Text(one("text")?),
        Medium::Push => Words::Push { title: one_line(&one("title")?), body: one("body")?, data: Default::default() },
        Medium::Postal | Medium::Http => {
            let values = order.iter().map(|name| Ok((name.clone(), one(name)?)));
            Words::Record(values.collect::<Result<_, RenderError>>()?)
        }
    })
}
