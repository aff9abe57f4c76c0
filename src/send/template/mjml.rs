//! MJML becomes HTML once, when a template is compiled, and not for each message.
//!
//! Its Jinja tags are veiled meanwhile. They may stand wherever text or an attribute's value may, and between elements:
//! `{% for … %}<mj-section>…</mj-section>{% endfor %}`; only where MJML computes with a value (a `width`, a padding) it
//! must be written out.

use std::{collections::HashMap, ops::Range};

use mrml::prelude::{
    parser::{Error, Span},
    render::RenderOptions,
};

use super::{TemplateProblem, compose::Composed, veil::Veiled};
use crate::rule::nearest;

/// What the head and the body of a document may hold; a misspelt one may have been meant to be one of them.
const ELEMENTS: [&str; 28] = [
    "mj-accordion",
    "mj-all",
    "mj-attributes",
    "mj-body",
    "mj-breakpoint",
    "mj-button",
    "mj-carousel",
    "mj-class",
    "mj-column",
    "mj-divider",
    "mj-font",
    "mj-group",
    "mj-head",
    "mj-hero",
    "mj-image",
    "mj-include",
    "mj-navbar",
    "mj-preview",
    "mj-raw",
    "mj-section",
    "mj-social",
    "mj-spacer",
    "mj-style",
    "mj-table",
    "mj-text",
    "mj-title",
    "mj-wrapper",
    "mjml",
];

/// The HTML with its tags veiled.
///
/// # Errors
/// What is wrong with it, at its place.
pub(super) fn html_of(composed: &Composed<'_>) -> Result<(Veiled, String), TemplateProblem> {
    let veiled = Veiled::of(composed);
    let html = compile(&veiled.text)
        .map_err(|(span, message, hint)| composed.problem(veiled.before(span.unwrap_or(0..0)), message, hint))?;
    Ok((veiled, html))
}

/// Where, what, and what to do.
type Wrong = (Option<Range<usize>>, String, Option<String>);

fn compile(text: &str) -> Result<String, Wrong> {
    if let Some(wrong) = unknown_element(text) {
        return Err(wrong);
    }
    let parsed = mrml::parse(text).map_err(|error| said(&error, text))?;
    // Fonts are those that the author names: a reader's mail program asks nobody else for them.
    let options = RenderOptions { fonts: HashMap::new(), ..RenderOptions::default() };
    parsed.element.render(&options).map_err(|error| (None, format!("this is not MJML: {error}"), None))
}

/// mrml takes an element that it does not know for HTML of the author's own; one that is named like MJML's is misspelt.
fn unknown_element(text: &str) -> Option<Wrong> {
    for (at, _) in text.match_indices("<mj-") {
        let name = text[at + 1..].split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default();
        let is_known = ELEMENTS.contains(&name) || PARTS.contains(&name);
        if name == "mj-include" {
            let hint = "a fragment is included by {% include \"NAME\" %}".to_owned();
            let span = at..at + name.len() + 1;
            return Some((Some(span), "MJML cannot include files here".to_owned(), Some(hint)));
        }
        if !is_known {
            let hint = nearest(name, ELEMENTS).map(|near| format!("did you mean `{near}`?"));
            let span = at..at + name.len() + 1;
            return Some((Some(span), format!("MJML has no element `{name}`"), hint));
        }
    }
    None
}

/// Elements that stand only inside of one other.
const PARTS: [&str; 6] = [
    "mj-accordion-element",
    "mj-accordion-text",
    "mj-accordion-title",
    "mj-carousel-image",
    "mj-navbar-link",
    "mj-social-element",
];

fn said(error: &Error, text: &str) -> Wrong {
    let shown = |span: &Span| -> String {
        let found = text.get(span.start..span.end).unwrap_or_default();
        let word: String = found.chars().take_while(|c| !c.is_whitespace() && *c != '>').take(40).collect();
        if word.is_empty() { "this".to_owned() } else { format!("`{word}`") }
    };
    let at = |span: &Span| Some(span.start..span.end);
    match error {
        Error::UnexpectedElement { position, .. } => {
            (at(position), format!("{} cannot stand here in MJML", shown(position)), None)
        }
        Error::UnexpectedToken { position, .. } => {
            let hint = "every element is closed, and what is text stands in mj-text or mj-raw".to_owned();
            (at(position), format!("{} was not expected here in MJML", shown(position)), Some(hint))
        }
        Error::MissingAttribute { name, position, .. } => {
            (at(position), format!("{} needs `{name}`", shown(position)), None)
        }
        Error::InvalidAttribute { position, .. } => {
            (at(position), format!("{} is not a value that MJML takes here", shown(position)), None)
        }
        Error::InvalidFormat { position, .. } => (at(position), "MJML cannot read this".to_owned(), None),
        Error::ParserError { source, .. } => {
            let (row, column) = (source.pos().row, source.pos().col);
            let hint = "attributes are in quotes, and `&` and `<` are written &amp; and &lt;".to_owned();
            (Some(place(text, row, column)), "MJML cannot read this".to_owned(), Some(hint))
        }
        Error::EndOfStream { .. } => {
            let end = text.trim_end().len();
            let message = "MJML ends here, and an element is still open".to_owned();
            (Some(end..end), message, None)
        }
        Error::NoRootNode => {
            (None, "there is no element `mjml`".to_owned(), Some("begin with <mjml><mj-body>".to_owned()))
        }
        other => (None, format!("this is not MJML: {other}"), None),
    }
}

/// A row and a column, both from 1, as a place.
fn place(text: &str, row: u32, column: u32) -> Range<usize> {
    let index = |n: u32| usize::try_from(n).unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(index(row)).map(str::len).sum();
    let line = text.get(start..).unwrap_or_default();
    let inside = line.char_indices().nth(index(column)).map_or(line.trim_end().len(), |(at, _)| at);
    start + inside..start + inside + 1
}
