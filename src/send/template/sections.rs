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
pub const ALL: [Medium; 5] = [Medium::Email, Medium::Sms, Medium::Push, Medium::Postal, Medium::Http];

/// A name, where it stands in its section, and the text there.
type Part<'s> = (String, String, &'s str);
/// A text that may be written out or kept elsewhere.
type Either<'s> = (Option<&'s String>, Option<&'s Kept>);

/// MJML is the HTML of a section in another form.
pub const MJML: &str = "mjml";
pub const HTML: &str = "html";
const COLLAPSE: &str = "collapse";

/// Before the names of a push's data.
const DATA: &str = "data.";

/// Whether a part is one of a list of named parts, whose names the base decides.
pub fn is_of_list(medium: Medium, part: &str) -> bool {
    matches!(medium, Medium::Postal | Medium::Http) || (medium == Medium::Push && part.starts_with(DATA))
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
        for (part, path, text) in parts {
            let path = format!("{prefix}{}.{path}", medium.step());
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
        Medium::Push => spec
            .push
            .iter()
            .flat_map(|push| {
                let own = [
                    ("title", (Some(&push.title), None)),
                    ("body", (Some(&push.body), None)),
                    (COLLAPSE, (push.collapse.as_ref(), None)),
                ];
                some(own).chain(data(&push.data))
            })
            .collect(),
        Medium::Http => spec.http.iter().flat_map(|http| named("values", &http.values)).collect(),
        Medium::Postal => {
            let columns = spec.direct_mail.iter().flat_map(|mail| mail.columns.iter().enumerate());
            columns
                .map(|(index, column)| (column.name.clone(), format!("columns[{index}].value"), column.value.as_str()))
                .collect()
        }
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
        Medium::Push => spec
            .push
            .iter()
            .flat_map(|push| {
                let own = [
                    ("title", (push.title.as_ref(), None)),
                    ("body", (push.body.as_ref(), None)),
                    (COLLAPSE, (push.collapse.as_ref(), None)),
                ];
                some(own).chain(data(&push.data))
            })
            .collect(),
        Medium::Http => spec.http.iter().flat_map(|http| named("values", &http.values)).collect(),
        Medium::Postal => {
            let columns = spec.direct_mail.iter().flat_map(|mail| mail.columns.iter().enumerate());
            columns
                .map(|(index, column)| (column.name.clone(), format!("columns[{index}].value"), column.value.as_str()))
                .collect()
        }
    }
}

fn some<'s, const N: usize>(parts: [(&'static str, Either<'s>); N]) -> impl Iterator<Item = Part<'s>> {
    // Words that are lost are none here: that they are lost is said, and nothing more is made of them.
    let words = |(text, kept): Either<'s>| text.map(String::as_str).or(kept.map(|_| ""));
    let path = |part, (_, kept): Either<'s>| path_of(part, kept.is_some()).into_owned();
    parts.into_iter().filter_map(move |(part, either)| Some((part.to_owned(), path(part, either), words(either)?)))
}

fn named<'s>(list: &str, values: &'s [NamedValue]) -> impl Iterator<Item = Part<'s>> {
    values.iter().enumerate().map(move |(at, value)| {
        let path = format!("{list}[{at}].{}", path_of("value", value.value_from.is_some()));
        (value.name.to_string(), path, value.value.as_deref().unwrap_or_default())
    })
}

fn data(values: &[NamedValue]) -> impl Iterator<Item = Part<'_>> {
    named("data", values).map(|(name, path, text)| (format!("{DATA}{name}"), path, text))
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
        Medium::Push => {
            let data = order.iter().filter_map(|part| Some((part.strip_prefix(DATA)?.to_owned(), part)));
            let data = data.map(|(name, part)| Ok((name, one(part)?)));
            let collapse = part(COLLAPSE)?.map(|text| one_line(&text)).filter(|text| !text.is_empty());
            let (title, body) = (one_line(&one("title")?), one("body")?);
            Words::Push { title, body, data: data.collect::<Result<_, RenderError>>()?, collapse }
        }
        Medium::Postal | Medium::Http => {
            let values = order.iter().map(|name| Ok((name.clone(), one(name)?)));
            Words::Record(values.collect::<Result<_, RenderError>>()?)
        }
    })
}
