//! Plain text made of HTML, where a template has none: once, over the template, so that no message pays for it.
//!
//! The Jinja tags are veiled while the HTML is read and come back in the text: a loop over rows is a loop over lines.
//! Tables lay mail out, and lists are few: each row and each item becomes a line. A link is followed by its address.

use html2text::{config, render::TextDecorator};

use super::veil::Veiled;

/// Lines are not broken: what a tag prints is not known yet, and mail programs break lines where they show them.
const WIDTH: usize = 100_000;
/// What HTML has and a text is laid out without.
const ROWS: [&str; 12] = ["table", "thead", "tbody", "tfoot", "tr", "caption", "ul", "ol", "dl", "dt", "dd", "center"];
const CELLS: [&str; 2] = ["td", "th"];
/// Their content is not for reading.
const HIDDEN: [&str; 3] = ["style", "script", "head"];

/// The veiled text of a veiled HTML.
///
/// # Errors
/// If it cannot be read, in words.
pub(super) fn text_of(html: &str, veiled: &Veiled) -> Result<String, String> {
    let flat = flat(html);
    let text =
        config::with_decorator(Plain::default()).unicode_strikeout(false).string_from_read(flat.as_bytes(), WIDTH);
    let text = text.map_err(|error| format!("no text can be made of this HTML: {error}"))?;
    Ok(laid_out(&text, veiled))
}

/// Statements stand in front of the line that they are about, and no more than one empty line follows another.
fn laid_out(text: &str, veiled: &Veiled) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        let (front, rest) = veiled.mute_front(line);
        if front.is_empty() {
            empty = if line.is_empty() { empty + 1 } else { 0 };
            if empty < 2 && !(line.is_empty() && out.is_empty()) {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        }
        out.push_str(&front);
        if !rest.is_empty() {
            empty = 0;
            out.push_str(rest);
            out.push('\n');
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

/// The HTML with lines in the place of tables and lists, in which a text between two rows keeps its place.
fn flat(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.starts_with("<!--") {
            let end = rest.find("-->").map_or(rest.len(), |end| end + 3);
            rest = &rest[end..];
            continue;
        }
        let is_end = rest[1..].starts_with('/');
        let name_at = 1 + usize::from(is_end);
        let length = rest[name_at..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len() - name_at);
        let name = rest[name_at..name_at + length].to_ascii_lowercase();
        let end = end_of_tag(rest);
        let tag = &rest[..end];
        rest = &rest[end..];
        match name.as_str() {
            name if HIDDEN.contains(&name) && !is_end && !tag.ends_with("/>") => {
                let close = format!("</{name}");
                let at = rest.to_ascii_lowercase().find(&close).unwrap_or(rest.len());
                rest = &rest[at..];
            }
            name if HIDDEN.contains(&name) => {}
            name if ROWS.contains(&name) => out.push_str(if is_end { "</div>" } else { "<div>" }),
            name if CELLS.contains(&name) => out.push_str(if is_end { " </span>" } else { "<span>" }),
            "li" => out.push_str(if is_end { "</div>" } else { "<div>* " }),
            "hr" => out.push_str("<div>--------</div>"),
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    out
}

/// Behind the `>` of a tag; one in an attribute's value is none.
fn end_of_tag(tag: &str) -> usize {
    let mut quote = None;
    for (index, c) in tag.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c == '>' => return index + 1,
            None => {}
        }
    }
    tag.len()
}

/// Nothing but the words, and the address behind a link.
#[derive(Clone, Debug, Default)]
struct Plain {
    links: Vec<String>,
}

impl TextDecorator for Plain {
    type Annotation = ();

    fn decorate_link_start(&mut self, url: &str) -> (String, ()) {
        self.links.push(url.to_owned());
        (String::new(), ())
    }

    fn decorate_link_end(&mut self) -> String {
        let url = self.links.pop().unwrap_or_default();
        let url = url.strip_prefix("mailto:").unwrap_or(&url);
        if url.is_empty() || url.starts_with('#') { String::new() } else { format!(" <{url}>") }
    }

    fn decorate_em_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_em_end(&self) -> String {
        String::new()
    }

    fn decorate_strong_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strong_end(&self) -> String {
        String::new()
    }

    fn decorate_strikeout_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }

    fn decorate_code_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_code_end(&self) -> String {
        String::new()
    }

    fn decorate_preformat_first(&self) {}

    fn decorate_preformat_cont(&self) {}

    fn decorate_image(&mut self, _: &str, title: &str) -> (String, ()) {
        (title.to_owned(), ())
    }

    fn header_prefix(&self, _: usize) -> String {
        String::new()
    }

    fn quote_prefix(&self) -> String {
        "> ".to_owned()
    }

    fn unordered_item_prefix(&self) -> String {
        "* ".to_owned()
    }

    fn ordered_item_prefix(&self, number: i64) -> String {
        format!("{number}. ")
    }

    fn make_subblock_decorator(&self) -> Self {
        Self::default()
    }

    fn decorate_superscript_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_superscript_end(&self) -> String {
        String::new()
    }
}
