//! What an email attaches in each locale, and whether its HTML shows what it says it shows.

use std::ops::Range;

use super::{
    TemplateProblem,
    compose::Composed,
    shelf::{Shelf, chain, normal},
};
use crate::{
    api::template::Attachment,
    rule::nearest,
    send::enclosure::{MESSAGE_BYTES_MAX, travels},
};

/// How the HTML names an image that travels with it (RFC 2392).
const CID: &str = "cid:";

/// An attachment, and the path at which it is declared.
pub(super) type Declared<'s> = (String, &'s Attachment);

/// What travels with the message in a locale: each takes the place of the one with its name in what the locale falls back to.
pub(super) fn of<'s>(shelf: &Shelf<'s>, locale: &str) -> Vec<Declared<'s>> {
    let base = shelf.spec.email.iter().map(|email| ("", "spec.email".to_owned(), &email.attachments));
    let variants = shelf.spec.locales.iter().filter_map(|(tag, variant)| {
        let email = variant.email.as_ref()?;
        Some((tag.as_str(), format!("spec.locales.{tag}.email"), &email.attachments))
    });
    let all: Vec<_> = base.chain(variants).collect();
    let mut found: Vec<Declared<'s>> = vec![];
    let levels: Vec<&str> = chain(locale).collect();
    for level in levels.into_iter().rev() {
        let Some((_, at, attachments)) = all.iter().find(|(tag, ..)| normal(tag) == level) else { continue };
        for (index, attachment) in attachments.iter().enumerate() {
            let one = (format!("{at}.attachments[{index}]"), attachment);
            match found.iter_mut().find(|(_, known)| known.name == attachment.name) {
                Some(known) => *known = one,
                None => found.push(one),
            }
        }
    }
    found
}

/// The locales in which something else is attached.
pub(super) fn locales(shelf: &Shelf<'_>) -> Vec<String> {
    let has_own = |email: &crate::api::template::EmailVariant| !email.attachments.is_empty();
    let own = shelf.spec.locales.iter().filter(|(_, variant)| variant.email.as_ref().is_some_and(has_own));
    own.map(|(tag, _)| normal(tag)).collect()
}

/// What is wrong with the attachments themselves.
pub(super) fn check(owner: &str, attached: &[Declared<'_>], has_html: bool) -> Vec<TemplateProblem> {
    let problem = |path: String, message: String, hint: Option<&str>| TemplateProblem {
        owner: owner.to_owned(),
        path,
        span: 0..0,
        line: 1,
        column: 1,
        message,
        hint: hint.map(str::to_owned),
    };
    let mut found = vec![];
    for (index, (at, attachment)) in attached.iter().enumerate() {
        let Some(name) = &attachment.inline else { continue };
        let path = format!("{at}.inline");
        if !has_html {
            found.push(problem(path, "it is shown by HTML, and there is none".to_owned(), None));
        } else if attached[..index].iter().any(|(_, other)| other.inline.as_ref() == Some(name)) {
            found.push(problem(path, format!("another attachment is `{CID}{name}`, too"), None));
        }
    }
    let sizes = attached.iter().filter_map(|(_, attachment)| Some(travels(attachment.pinned.as_ref()?.size_bytes)));
    let size = sizes.sum::<usize>();
    if let Some((at, _)) = attached.last().filter(|_| size > MESSAGE_BYTES_MAX) {
        let message =
            format!("what is attached makes {size} bytes of mail, and a message has at most {MESSAGE_BYTES_MAX}");
        found.push(problem(at.clone(), message, Some("link to it instead: mail systems refuse longer messages")));
    }
    found
}

/// Images that HTML shows and that do not travel with it.
pub(super) fn check_html(composed: &Composed<'_>, attached: &[Declared<'_>]) -> Vec<TemplateProblem> {
    let known: Vec<&str> = attached.iter().filter_map(|(_, attachment)| attachment.inline.as_deref()).collect();
    let missing = ids(&composed.text).filter(|(_, name)| !known.contains(name));
    let problem = |(span, name): (Range<usize>, &str)| {
        let hint = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let hint = hint.unwrap_or_else(|| format!("say `inline: {name}` of an attachment"));
        composed.problem(span, format!("no attachment is `{CID}{name}`"), Some(hint))
    };
    missing.map(problem).collect()
}

/// Where HTML names images that travel with it, and their names; what is made by a tag is not looked into.
fn ids(html: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    html.match_indices(CID).filter_map(|(at, _)| {
        let start = at + CID.len();
        let is_inside = html[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let length = html[start..].find(|c: char| !is_of_id(c)).unwrap_or(html.len() - start);
        let name = html[start..start + length].trim_end_matches(['.', '_', '-']);
        (!is_inside && !name.is_empty()).then_some((at..start + name.len(), name))
    })
}

fn is_of_id(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The HTML with whole content ids: RFC 2392 wants them unique in the world, and RFC 2045 with an `@`.
pub fn with_ids(html: &str, names: &[&str], domain: &str) -> String {
    let mut out = String::with_capacity(html.len() + 64);
    let mut from = 0;
    for (span, _) in ids(html).filter(|(_, name)| names.contains(name)) {
        out.push_str(&html[from..span.end]);
        out.push('@');
        out.push_str(domain);
        from = span.end;
    }
    out.push_str(&html[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_whole() {
        let html = "<img src=\"cid:logo\"> cid:logo-2, cid:logo. acid:logo url('cid:a.b') cid:other cid:{{ x }}";
        let named = with_ids(html, &["logo", "logo-2", "a.b"], "example.com");
        assert_eq!(
            named,
            "<img src=\"cid:logo@example.com\"> cid:logo-2@example.com, cid:logo@example.com. acid:logo \
             url('cid:a.b@example.com') cid:other cid:{{ x }}"
        );
    }
}
